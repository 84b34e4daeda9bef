-- What of a session outlives the server beside its stream: what Prosody's modules know of it, as a string, and a session
-- made of that again.
--
-- The library's journal keeps the stream: counters and queue. Other modules add what they need by the events smacks-save-session and
-- smacks-restore-session, whose `state` is a table that is kept.

local hashes = require "util.hashes";
local it = require "util.iterators";
local recalc_resource_map = require "util.presence".recalc_resource_map;
local rostermanager = require "core.rostermanager";
local serialization = require "util.serialization";
local sessionmanager = require "core.sessionmanager";
local parse_xml = require "util.xml".parse;
local st = require "util.stanza";
local usermanager = require "core.usermanager";

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local rights = module:require "rights";

local ipairs, next, pairs, pcall, setmetatable, tostring, type = ipairs, next, pairs, pcall, setmetatable, tostring, type;

local bare_sessions, full_sessions, hosts = prosody.bare_sessions, prosody.full_sessions, prosody.hosts;
local host = module.host;
local accounts = module:open_store("accounts");

-- A client can make these grow, with directed presence (RFC 6121 §4.6) and with rooms, in bytes: more is refused.
local most_directed = 256 * 1024;

local serialize = serialization.new { preset = "compact", fatal = false };

-- Of what describe() gives.
local version = 1;

-- Fields that are kept as they are. Those of other modules are fields.lib.lua's.
local plain_fields = { "resource", "priority", "interested", "client_id", "ip", "secure", "encrypted", "state", "auth_scope" };

-- Accounts --------------------------------------------------------------------------------------------------------------

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
local function account_exists(username)
	local ok, exists = pcall(hosts[host].users.user_exists, username);
	if not ok then
		return nil, exists;
	elseif exists then
		return true;
	end
	local _, err = stored(username);
	if err then
		return nil, err;
	end
	return false;
end

-- Whether it may log in: true, false, or nil and an error. Prosody 0.12 has no accounts that are disabled.
local function account_enabled(username)
	if not usermanager.user_is_enabled then return true; end
	local ok, enabled, err = pcall(usermanager.user_is_enabled, username, host);
	if not ok then
		return nil, enabled;
	elseif enabled == nil and err ~= "method not implemented" then -- by providers that disable none
		return nil, err or "the storage does not say whether it is enabled";
	end
	return enabled ~= false;
end

-- Changes with the password: a string, or false if the accounts are elsewhere; nil and an error if it cannot be read now.
local function credentials(username)
	local account, err = stored(username);
	if not account and err then
		return nil, err;
	elseif type(account) ~= "table" then
		return false;
	end
	local secret = account.stored_key or account.password;
	return secret and hashes.sha256(host.."\0"..username.."\0"..tostring(account.salt).."\0"..secret, true) or false;
end

-- Read once per session: the store may be a file.
local function credentials_of(session)
	if own_of(session).credentials == nil then
		own_of(session).credentials = credentials(session.username);
	end
	return own_of(session).credentials or nil;
end

module:hook_global("user-password-changed", function (event)
	local user = event.host == host and hosts[host].sessions[event.username];
	for _, session in pairs(user and user.sessions or {}) do
		own_of(session).credentials = nil; -- the session that changed it goes on
		own_of(session).state_changed = true;
	end
end);

-- Whether the session's account can be there after a restart. Those of anonymous users, and of services that let in whoever
-- has a token, cannot: only a storage that fails leaves that open.
local function can_come_back(session)
	if credentials_of(session) then return true; end
	return account_exists(session.username) ~= false;
end

-- Directed presence -----------------------------------------------------------------------------------------------------

local function directed_bytes(session)
	local n = 0;
	for jid in pairs(session.directed or {}) do
		n = n + #jid + 8;
	end
	for room, nick in pairs(own_of(session).rooms or {}) do
		n = n + #room + #nick + 8;
	end
	return n;
end

-- Before mod_presence (0), which notes it.
local function bound_directed(event)
	local session, stanza = event.origin, event.stanza;
	local to = stanza.attr.to;
	if not to or stanza.attr.type ~= nil or not own_of(session).stream or session.directed and session.directed[to] then return; end
	-- It is counted anew when what was added since makes that seem worthwhile.
	local seems = (own_of(session).directed_bytes or 0) + 2 * #to + 16;
	if seems > most_directed then
		seems = directed_bytes(session) + 2 * #to + 16;
		if seems > most_directed then
			session.log("info", "Refusing directed presence, to more addresses than can be kept (%d bytes of them)", seems);
			session.send(st.error_reply(stanza, "wait", "resource-constraint",
				"You have sent presence to too many addresses: send unavailable presence to some of them first"));
			return true;
		end
	end
	own_of(session).directed_bytes = seems;
end

for _, kind in ipairs { "full", "bare", "host" } do
	module:hook("pre-presence/"..kind, bound_directed, 10);
end

-- Describing ------------------------------------------------------------------------------------------------------------

-- The JIDs of directed presence, in order: what is the same reads the same.
local function directed_jids(session)
	local jids = it.to_array(it.keys(session.directed));
	table.sort(jids);
	return jids;
end

-- A string from which the session can be made again.
local function describe(session, timeout)
	local function own()
		local state = {
			version = version; host = host; username = session.username; id = session.resumption_token; timeout = timeout; xmlns = session.smacks;
			credentials = credentials_of(session); role = rights.describe(session);
			presence = session.presence and tostring(session.presence);
			directed = session.directed and directed_jids(session);
		};
		for _, field in ipairs(plain_fields) do
			state[field] = session[field];
		end
		return state;
	end
	local state = own();
	contain.fire("smacks-save-session", session, { session = session, state = state });
	local ok, text = contain.attempt(session, "writing down what other modules want to be kept", serialize, state);
	if not ok then
		text = serialize(own());
	end
	return text;
end

-- Restoring -------------------------------------------------------------------------------------------------------------

-- What describe() gave, as a table with the text itself; nil and why if it is not for this code.
local function read(text)
	local state = text ~= "" and serialization.deserialize(text);
	if type(state) ~= "table" then
		return nil, "what is known of them cannot be read";
	elseif state.version ~= version then
		return nil, ("they were kept by another version of mod_smacks (format %s, this one reads %d) and are left as they are")
			:format(tostring(state.version), version);
	end
	for field, wanted in pairs { host = "string", username = "string", resource = "string", xmlns = "string", timeout = "number" } do
		if type(state[field]) ~= wanted then
			return nil, "what is known of them makes no sense: "..field.." is a "..type(state[field]);
		end
	end
	state.text = text;
	return state;
end

-- The same with another field set, as describe() would write it.
local function with(state, field, value)
	local copy = {};
	for name, v in pairs(state) do
		copy[name] = v;
	end
	copy.text, copy[field] = nil, value;
	return serialize(copy);
end

-- Whether a session may come back: true; false, why not, and whether that is because its account is gone; or nil and an
-- error, if nobody can tell now.
local function may_return(state)
	local exists, err = account_exists(state.username);
	if not exists then
		return exists, err or "the account is gone", true;
	end
	local enabled;
	enabled, err = account_enabled(state.username);
	if not enabled then
		return enabled, err or "the account is disabled";
	end
	if state.credentials then
		local today;
		today, err = credentials(state.username);
		if today == nil then
			return nil, err;
		elseif today ~= state.credentials then
			return false, "the password was changed";
		end
	end
	local role, reason, may_change = rights.restored(state.username, state.role);
	if not role and reason then
		if may_change then return nil, reason; end
		return false, reason;
	end
	local user = hosts[host].sessions[state.username];
	if user and user.sessions[state.resource] then
		return false, "its resource is taken";
	end
	return true;
end

local disconnected = {};
function disconnected.write()
	return nil, "disconnected";
end

-- Takes a session back out of where Prosody looks for sessions, without telling anybody: it was never there.
local function withdraw(session)
	local user = hosts[host].sessions[session.username];
	if user and user.sessions[session.resource] == session then
		user.sessions[session.resource] = nil;
		if next(user.sessions) == nil then
			hosts[host].sessions[session.username] = nil;
			bare_sessions[session.username.."@"..host] = nil;
		else
			recalc_resource_map(user);
		end
	end
	if full_sessions[session.full_jid] == session then
		full_sessions[session.full_jid] = nil;
	end
	sessionmanager.retire_session(session);
end

-- Makes the session, without a connection, and puts it where Prosody looks for sessions. `ending`: only for as long as it
-- takes to end it. Nil and why, and whether that may change by itself, if it cannot be done now; then it is as if nothing
-- had been tried.
local function revive(state, new_thread, ending, account_gone)
	local session = sessionmanager.new_session(setmetatable({ ip = function () return state.ip; end }, { __index = disconnected }));
	session.conn = nil;
	session.type = "c2s";
	session.username, session.host = state.username, host;
	own_of(session).account_gone = account_gone or nil;
	for _, field in ipairs(plain_fields) do
		session[field] = state[field];
	end
	session.full_jid = state.username.."@"..host.."/"..state.resource;
	session.role = rights.restored(state.username, state.role);
	session.thread = new_thread(session, {
		error = function (_, traceback)
			session.log("error", "Traceback[c2s]: %s", traceback);
		end;
	});

	local user = hosts[host].sessions[state.username];
	if not user then
		user = { sessions = {} };
		hosts[host].sessions[state.username] = user;
		bare_sessions[state.username.."@"..host] = user;
	end
	user.sessions[state.resource] = session;
	full_sessions[session.full_jid] = session;

	local function complete()
		-- Only now: it is kept for the account's sessions together, if there are any.
		local err;
		session.roster, err = rostermanager.load_roster(state.username, host);
		if err then
			return "the roster cannot be read: "..tostring(err), true;
		end
		if state.presence then
			session.presence = parse_xml(state.presence);
			recalc_resource_map(user);
		end
		if state.directed then
			session.directed = {};
			for _, jid in ipairs(state.directed) do
				session.directed[jid] = true;
			end
		end
		local _, failed = contain.fire("smacks-restore-session", session, { session = session, state = state });
		return failed > 0 and not ending and "another module failed with it" or nil;
	end
	local ok, reason, may_change = contain.attempt(session, "bringing back a session", complete);
	if not ok or reason then
		withdraw(session);
		return nil, ok and reason or "an error was raised", ok and may_change;
	end
	return session;
end

return {
	can_come_back = can_come_back;
	describe = describe;
	may_return = may_return;
	read = read;
	revive = revive;
	with = with;
	withdraw = withdraw;
};
