-- What outlives the server: which account is in which room, and enough of each room to tell clients that come back what
-- changed meanwhile.

local jid_prep = require "util.jid".prep;
local jid_split = require "util.jid".split;

local full_sessions = prosody.full_sessions;
local host = module.host;
-- By user: rooms, each with the nickname and the clients that were in it.
local accounts = module:open_store("minimix");
-- By room: who was in it and what was said last.
local rooms = module:open_store("minimix_rooms");
-- Seconds between saving rooms that changed.
local interval = 5;

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

-- The library decides for all hosts, so the host that comes first saves for all that have accounts in rooms.
local function save_rooms()
	for _, room in ipairs(mx.changed_rooms()) do
		local occupants, said = mx.room_changes(room);
		if occupants then
			local ok, err = rooms:set(room, { version = 1, occupants = occupants, said = said });
			if not ok then
				module:log("error", "The occupants of %s could not be saved: %s", room, err);
			end
		end
	end
	return interval;
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
			local known = rooms:get(room);
			if known and known.version ~= 1 then known = nil; end
			perform(mx.restore(account, room, membership, known and known.occupants, known and known.said,
				prosody.bare_sessions[account] ~= nil), account);
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

return {
	save_rooms = save_rooms;
	watch = function (library, perform_decisions, shared_savers, load_bookmarks)
		mx, perform, savers = library, perform_decisions, shared_savers;
		savers[host] = save_account;
		module:add_timer(interval, save_rooms);
		if state.started then
			restore(load_bookmarks);
		end
		-- After mod_smacks (-10) has brought sessions back.
		module:hook_global("server-started", function ()
			state.started = true;
			restore(load_bookmarks);
		end, -20);
	end;
};
