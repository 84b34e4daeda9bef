-- What the server says today of an account: whether it is there, may log in, and has the password that the session was let
-- in by. "Unknown" is not "no": a storage that fails gives nil and an error.

local hashes = require "util.hashes";
local usermanager = require "core.usermanager";

local pcall, tostring, type = pcall, tostring, type;

local hosts = prosody.hosts;
local host = module.host;
local accounts = module:open_store("accounts");

-- What is stored of an account; nil, and an error if it cannot be read now.
local function stored(username)
	local ok, account, err = pcall(accounts.get, accounts, username);
	if not ok then
		return nil, tostring(account);
	end
	return account, err;
end

-- Whether there is such an account: true, false, or nil and an error if nobody knows just now. Where accounts are
-- elsewhere, only the authentication provider knows; where they are here it takes an error of the storage for a no.
-- (usermanager.user_exists takes a session for an account.)
local function exists(username)
	local ok, it_does = pcall(hosts[host].users.user_exists, username);
	if not ok then
		return nil, it_does;
	elseif it_does then
		return true;
	end
	local _, err = stored(username);
	if err then
		return nil, err;
	end
	return false;
end

-- Whether it may log in: true, false, or nil and an error. Prosody 0.12 has no accounts that are disabled.
local function is_enabled(username)
	if not usermanager.user_is_enabled then return true; end
	local ok, enabled, err = pcall(usermanager.user_is_enabled, username, host);
	if not ok then
		return nil, enabled;
	elseif enabled == nil and err ~= "method not implemented" then -- by providers that disable none
		return nil, err or "the storage does not say whether it is enabled";
	end
	return enabled ~= false;
end

-- Changes with the password, which is in what is stored of an account; false if it is not.
local function credentials_in(account, username)
	if type(account) ~= "table" then return false; end
	local secret = account.stored_key or account.password;
	return secret and hashes.sha256(host.."\0"..username.."\0"..tostring(account.salt).."\0"..secret, true) or false;
end

-- The same: a string, or false if the accounts are elsewhere; nil and an error if it cannot be read now.
local function credentials(username)
	local account, err = stored(username);
	if not account and err then
		return nil, err;
	end
	return credentials_in(account, username);
end

-- An answer as the library takes it: true, false, or why nobody can tell.
local function answer(is, err)
	if is == nil then return tostring(err or "nobody says why"); end
	return is;
end

-- Providers whose accounts are those that are stored here: one look tells all.
local stores_accounts = { internal_hashed = true, internal_plain = true };

local function look(username)
	if not stores_accounts[hosts[host].users.name] then
		return { account_exists = answer(exists(username)) };
	end
	local account, err = stored(username);
	if not account and err then
		return { account_exists = answer(nil, err) };
	end
	return { account_exists = account ~= nil, credentials = account and credentials_in(account, username) };
end

-- What is so of an account today, for the library's verdict on its sessions: asked once for all of them.
local function facts(username)
	local known = look(username);
	if known.account_exists == true then
		known.account_is_enabled = answer(is_enabled(username));
	end
	return known;
end

-- The same of one session: whether the account has the password that it was let in by. `known` is of its account.
local function same_password(known, username, former)
	if not former or known.account_exists ~= true then return nil; end
	if known.credentials == nil then
		local today, err = credentials(username);
		known.credentials, known.credentials_unknown = today, today == nil and tostring(err) or nil;
	end
	return known.credentials_unknown or known.credentials == former;
end

return {
	credentials = credentials;
	exists = exists;
	facts = facts;
	same_password = same_password;
};
