-- What outlives the server: which account is in which room, and enough of each room to tell clients that come back what
-- changed meanwhile.

local jid_prep = require "util.jid".prep;
local jid_split = require "util.jid".split;

local full_sessions = prosody.full_sessions;
local host = module.host;
-- By user: rooms, each with the nickname and the clients that were in it.
local accounts = module:open_store("minimix");
-- Who was in which room and what was said last is kept by the library, in one file for all hosts.
local rooms_file = "enjamb-rooms";

local state = module:shared("/*/minimix/state");
local mx, perform, savers;

local function save_account(account)
	local memberships = mx.memberships(account);
	local username = jid_split(account);
	local ok, err = accounts:set(username, next(memberships) and { version = 1, rooms = memberships } or nil);
	if not ok then
		module:log("error", "The rooms of %s could not be saved: %s", account, err);
	end
end

local function restore_account(username, load_bookmarks)
	local saved, err = accounts:get(username);
	if not saved then
		if err then
			module:log("error", "The rooms of %s@%s could not be read: %s", username, host, err);
		end
		return 0;
	elseif saved.version ~= 1 then
		module:log("warn", "The rooms of %s@%s were saved by another version, they are not joined", username, host);
		return 0;
	end
	local account, n = username.."@"..host, 0;
	for room, membership in pairs(saved.rooms) do
		if jid_prep(room) == room and type(membership) == "table" and membership.nick then
			local clients = {};
			for _, client in ipairs(membership.clients or clients) do
				if full_sessions[account.."/"..client.resource] then -- mod_smacks brought it back
					clients[#clients+1] = client;
				end
			end
			membership.clients = clients;
			perform(mx.restore(account, room, membership, prosody.bare_sessions[account] ~= nil), account);
			n = n + 1;
		end
	end
	load_bookmarks(account);
	return n;
end

local function restore(load_bookmarks)
	local usernames, n_rooms, n_accounts = {}, 0, 0;
	for username in accounts:users() do
		usernames[#usernames+1] = username;
	end
	for _, username in ipairs(usernames) do
		local n = restore_account(username, load_bookmarks);
		n_rooms = n_rooms + n;
		n_accounts = n_accounts + (n > 0 and 1 or 0);
	end
	if n_rooms > 0 then
		module:log("info", "%d accounts are joining the %d rooms again that they were in", n_accounts, n_rooms);
	end
end

-- After the fork of prosody -D.
local function keep_rooms()
	if state.keeping then return; end
	local ok, err = mx.keep(prosody.paths.data.."/"..rooms_file);
	if not ok then
		module:log("error", "Who is in which room cannot be kept across a restart: %s", err);
	end
	state.keeping = true;
	-- By then every host has joined its rooms again.
	module:add_timer(60, function () mx.kept(); end);
end

return {
	watch = function (library, perform_decisions, shared_savers, load_bookmarks)
		mx, perform, savers = library, perform_decisions, shared_savers;
		savers[host] = save_account;
		if state.started then
			keep_rooms();
			restore(load_bookmarks);
		end
		-- After mod_smacks (-10) has brought sessions back.
		module:hook_global("server-started", function ()
			state.started = true;
			keep_rooms();
			restore(load_bookmarks);
		end, -20);
	end;
};
