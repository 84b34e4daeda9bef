-- What outlives the server: which account is in which room, and enough of each room to tell clients that come back what
-- changed meanwhile.
--
-- An account's record is written only when all of it has been taken up. Until then, and while it cannot be read, what is on disk
-- is all there is: "unknown" is not "no rooms". What is damaged is that account's trouble, or that room's, and stays as it is.

local jid_prep = require "util.jid".prep;
local jid_split = require "util.jid".split;
local parse_xml = require "util.xml".parse;
local resourceprep = require "util.encodings".stringprep.resourceprep;

local contain = require "enjamb.contain"(module);
local ask, protect = contain.ask, contain.protect;
local by_itself = module:require "by_itself";
local for_all = require "enjamb.for_all"(module);
local stored = require "enjamb.stored";
local table_move = require "enjamb.prosody".move;
local ipairs, next, pairs, type = ipairs, next, pairs, type;

local bare_sessions, hosts = prosody.bare_sessions, prosody.hosts;
local host = module.host;
-- By user: rooms, each with the nickname and the clients that were in it.
local accounts = module:open_store("minimix");
local version = 1;
-- Who was in which room and what was said last is kept by the library, in one file for all hosts.
local rooms_file = "enjamb-rooms";

-- Seconds between tries at what failed: the first, and the longest.
local first_pause, longest_pause = 1, 600;
-- So many accounts are tried in vain before the next pause; so many are named in the log at a time.
local max_failures, max_named = 20, 100;
-- No client's presence is longer: what is, was not written by this module.
local max_presence = 2^20;

local state = module:shared("/*/minimix/state");
-- `in_use`: another server has it, which has the same data directory.
local journal = module:shared("/*/smacks/journal");
local mx, perform, savers, load_bookmarks, forget_account;

-- Outlives a reload.
local records = module:shared("records");
-- By user: there is a record that is not taken up; true if that failed.
records.unknown = records.unknown or {};
-- While it is not known who has a record, by user: it is taken up.
records.known = records.known or {};
-- By user: the last time, the record could not be written.
records.unsaved = records.unsaved or {};
-- Those and users whose record could not be written, in the order in which they are tried again; and the set of them.
records.queue = records.queue or {};
records.queued = records.queued or {};
-- By user and room: what could not be taken up, as it was read.
records.damaged = records.damaged or {};
-- By user: the rooms that the record has, as they were read, until it is written for the first time.
records.read = records.read or {};
-- By user, while the record is taken up: whether it is to be written afterwards.
local busy = {};
local pause; -- while a try is due
local named = 0;

local function tell(level, ...)
	named = named + 1;
	if named <= max_named then
		module:log(level, ...);
	elseif named == max_named + 1 then
		module:log(level, "And so it is with more accounts, which are not named here");
	end
end

local try_again;

local function try_later(username)
	if not records.queued[username] then
		records.queued[username] = true;
		table.insert(records.queue, username);
	end
	try_again();
end

-- Writing ---------------------------------------------------------------------------------------------------------------

local function is_same(a, b)
	if type(a) ~= "table" or type(b) ~= "table" then return a == b; end
	for key, value in pairs(a) do
		if not is_same(value, b[key]) then return false; end
	end
	for key in pairs(b) do
		if a[key] == nil then return false; end
	end
	return true;
end

local function write(username)
	local rooms = mx.memberships(username.."@"..host);
	local damaged, read = records.damaged[username], records.read[username];
	records.read[username] = nil;
	for room, membership in pairs(damaged or {}) do
		if rooms[room] then
			damaged[room] = nil; -- joined anew
		else
			rooms[room] = membership;
		end
	end
	if read and is_same(read, rooms) then return true; end -- most are, after a restart
	local called, ok, err = ask(accounts.set, accounts, username, next(rooms) and { version = version, rooms = rooms } or nil);
	if called and ok then return true; end
	return false, called and err or ok;
end

local take_up;

local function save_account(account)
	local username = jid_split(account);
	if busy[username] ~= nil or not state.started then
		busy[username] = true;
	elseif records.unknown[username] ~= nil then
		return; -- it is written when it is taken up
	elseif not records.listed and not records.known[username] then
		take_up(username);
	else
		local ok, err = write(username);
		if not ok then
			if not records.unsaved[username] then
				tell("error", "The rooms of %s could not be saved (store \"minimix\"), which is tried again: %s", account, err);
			end
			records.unsaved[username] = true;
			try_later(username);
		elseif records.unsaved[username] then
			records.unsaved[username] = nil;
			module:log("info", "The rooms of %s are saved again", account);
		end
	end
end

-- Reading ---------------------------------------------------------------------------------------------------------------

local function is_text(value, most)
	return type(value) == "string" and value ~= "" and (not most or #value <= most);
end

-- What is wrong with a room of a record.
local function fault_of(room, membership)
	if type(room) ~= "string" or jid_prep(room) ~= room then return "its address is none"; end
	if type(membership) ~= "table" then return "it is no table"; end
	if not is_text(membership.nick, 1023) or resourceprep(membership.nick) ~= membership.nick then return "it has no nickname"; end
	if membership.clients ~= nil and type(membership.clients) ~= "table" then return "its clients are no table"; end
	for _, client in ipairs(membership.clients or {}) do
		if type(client) ~= "table" or not is_text(client.resource, 1023) or not is_text(client.asked, 1023) then
			return "a client has no resource or no nickname";
		end
		local presence = client.presence;
		if presence ~= nil and type(presence) ~= "string" then return "a client's presence is no text"; end
		if presence and presence ~= "" then
			local parsed = #presence <= max_presence and parse_xml(presence);
			if not parsed or parsed.name ~= "presence" then return "a client's presence is none"; end
		end
	end
end

-- What a room of this server would tell the account now (mod_muc_enjamb): after a restart, if it has the account still.
local function remembered(account, room)
	local _, domain = jid_split(room);
	local service = hosts[domain];
	local rooms = service and service.modules and service.modules.muc_enjamb;
	if not rooms then return nil; end
	local ok, told = protect(rooms.as_told, room, account);
	if not ok then
		module:log("error", "It is not known what %s has of %s: %s", room, account, told);
	end
	return ok and told or nil;
end

-- While all accounts are taken up, what is to be done: first all are in their rooms, then is told what changed.
local later;

-- Of sessions that joined by themselves while this module was off: what is to be done when the account is in. { session, room, nickname }
local beside = {};

-- The membership with them as its clients, under the nickname that they have.
local function with_those_beside(account, room, membership)
	if membership.leaving then return membership; end
	local clients, is_client = {}, {};
	for session, nick in by_itself.each(account, room) do
		beside[#beside+1] = { session, room, nick };
		is_client[session.resource] = true;
		clients[#clients+1] = { resource = session.resource, asked = nick, presence = "" };
	end
	if not clients[1] then return membership; end
	for _, client in ipairs(membership.clients or {}) do
		if is_client[client.resource] then
			for _, other in ipairs(clients) do
				if other.resource == client.resource then other.presence = client.presence; end
			end
		else
			clients[#clients+1] = client;
		end
	end
	local changed = {};
	for key, value in pairs(membership) do
		changed[key] = value;
	end
	changed.nick, changed.joining, changed.clients = clients[1].asked, nil, clients;
	return changed;
end

local function give_up_places_beside()
	local all = beside;
	beside = {};
	for _, place in ipairs(all) do
		local session, room, nick = place[1], place[2], place[3];
		if not session.destroyed and by_itself.nick_of(session, room) and mx.has(session.username.."@"..host, room) then
			by_itself.silently(session, room, by_itself.send_leave, session, room, nick);
		end
	end
end

local function restore_room(account, room, membership)
	local fault = fault_of(room, membership);
	if fault then return false, fault; end
	local there, user = {}, bare_sessions[account];
	for resource in pairs(user and user.sessions or there) do -- mod_smacks brought them back
		there[#there+1] = resource;
	end
	local told = remembered(account, room);
	membership = with_those_beside(account, room, membership);
	local ok, decisions = ask(told and mx.adopt or mx.restore, account, room, membership, there, told);
	if not ok then return false, decisions; end
	if later then
		table_move(decisions, 1, #decisions, #later + 1, later);
	else
		perform(decisions, account);
		give_up_places_beside();
	end
	return true;
end

-- The rooms of an account's record, none if it has no record; or nil and why it is not known.
local function read(username)
	local called, saved, err = ask(stored, accounts, username);
	if not called then
		return nil, saved;
	elseif saved == nil then
		if err then return nil, err; end
		return {};
	elseif type(saved) ~= "table" then
		return nil, "the record is no table";
	elseif saved.version ~= version then
		return nil, ("the record is of version %s, this is %d"):format(saved.version, version);
	elseif type(saved.rooms) ~= "table" then
		return nil, "the record has no table of rooms";
	end
	records.read[username] = saved.rooms;
	return saved.rooms;
end

-- The account was removed while nobody told us. What was decided of it since, which is not done yet, is not done.
local function leave_all(account, n_before)
	module:log("info", "There is no account %s any more, it leaves the rooms that it was in", account);
	local decisions = forget_account(account);
	if not later then
		perform(decisions, account);
		return;
	end
	for i = #later, n_before + 1, -1 do
		later[i] = nil;
	end
	table_move(decisions, 1, #decisions, n_before + 1, later);
end

local function take_up_rooms(username)
	local account, n, n_before = username.."@"..host, 0, later and #later;
	local before = records.unknown[username];
	local rooms, err = read(username);
	if not rooms then
		records.unknown[username] = true;
		if not before then
			tell("error", "It is not known which rooms %s was in: %s. Its record (store \"minimix\") is left as it is, and changes are not saved, "
				.."until it can be read, which is tried again; mend or remove the record if it is damaged", account, err);
		end
		try_later(username);
		return false, 0;
	end
	busy[username] = busy[username] or false;
	local damaged, last;
	for room, membership in pairs(rooms) do
		local ok, fault = restore_room(account, room, membership);
		if ok then
			n = n + 1;
		else
			damaged = damaged or {};
			damaged[room] = membership;
			last = ("%s: %s"):format(room, fault);
		end
	end
	records.damaged[username] = damaged;
	if damaged then
		tell("error", "Not all rooms of %s could be joined again, what its record (store \"minimix\") has of the others is kept as it is: %s",
			account, last);
	end
	records.unknown[username] = nil;
	if not records.listed then
		records.known[username] = true;
	end
	if before then
		module:log("info", "The rooms of %s are known now, it is joining %d", account, n);
	end
	local known, is_gone = load_bookmarks(account);
	if is_gone then
		leave_all(account, n_before);
		n = 0;
	elseif not known then
		try_later(username);
	end
	local changed = busy[username] or n > 0;
	busy[username] = nil;
	if later and (n > 0 or is_gone) then return true, n; end -- it is saved when what was decided is done
	if changed or next(mx.memberships(account)) then
		save_account(account);
	end
	records.read[username] = nil;
	return true, n;
end

-- Takes up the record of an account: its rooms are joined again. Says whether that is done, and how many there are.
function take_up(username)
	local ok, done, n = protect(take_up_rooms, username);
	if ok then return done, n; end
	busy[username] = nil;
	records.unknown[username] = true;
	module:log("error", "The rooms of %s@%s could not be joined again, its record is left as it is: %s", username, host, done);
	try_later(username);
	return false, 0;
end

-- The users that have a record; or nil and why that is not known.
local function list()
	local usernames = {};
	local ok, err = ask(function ()
		local iterator, a, b = accounts:users();
		if not iterator then error(a or "users cannot be listed", 0); end
		for username in iterator, a, b do
			usernames[#usernames+1] = username;
		end
	end);
	if not ok then return nil, err; end
	return usernames;
end

local function take_up_all(usernames)
	local n_rooms, n_accounts, failed = 0, 0, 0;
	for_all(usernames, "taking up the rooms of accounts", function (username)
		if records.unknown[username] ~= false then return; end
		if failed >= max_failures then
			try_later(username);
			return;
		end
		local ok, n = take_up(username);
		failed = ok and 0 or failed + 1;
		n_rooms = n_rooms + n;
		n_accounts = n_accounts + (n > 0 and 1 or 0);
	end);
	return n_rooms, n_accounts;
end

-- Clients are told what changed before somebody else's presence changes once more.
local function perform_later()
	local told, sent = {}, {};
	for _, decision in ipairs(later) do
		table.insert(decision.what == "send" and sent or told, decision);
	end
	later = nil;
	perform(told);
	perform(sent);
	give_up_places_beside();
	records.read = {};
end

local function restore_all()
	local usernames, err = list();
	if not usernames then
		if not records.told then
			records.told = true;
			module:log("error", "It is not known which accounts were in rooms: %s. No record of theirs (store \"minimix\") is overwritten before "
				.."it is read; it is tried again until it is known", err);
		end
		return false;
	end
	if records.told then
		module:log("info", "It is known now which accounts were in rooms");
		records.told = nil;
	end
	for _, username in ipairs(usernames) do
		if not records.known[username] then
			records.unknown[username] = records.unknown[username] or false;
		end
	end
	records.listed, records.known = true, {};
	later = {};
	local n_rooms, n_accounts = take_up_all(usernames);
	perform_later();
	if n_rooms > 0 then
		module:log("info", "%d accounts are joining the %d rooms again that they were in", n_accounts, n_rooms);
	end
	return true;
end

-- Trying again ------------------------------------------------------------------------------------------------------------

-- Says whether nothing is left to be done for a user.
local function try(username)
	records.queued[username] = nil;
	if records.unknown[username] ~= nil then
		return (take_up(username));
	end
	local known, is_gone = load_bookmarks(username.."@"..host);
	if is_gone then
		leave_all(username.."@"..host);
	elseif known then
		save_account(username.."@"..host);
	else
		try_later(username);
	end
	return not records.queued[username];
end

local function try_all()
	named = 0;
	local ok = records.listed or restore_all();
	local queue, failed = records.queue, 0;
	records.queue = {};
	for i, username in ipairs(queue) do
		if failed < max_failures then
			failed = try(username) and 0 or failed + 1;
		else
			table_move(queue, i, #queue, #records.queue + 1, records.queue);
			break;
		end
	end
	state.unrestored[host] = (not ok or next(records.unknown) ~= nil) or nil;
	if ok and not records.queue[1] then
		pause = nil;
		return;
	end
	pause = math.min(pause * 2, longest_pause);
	return pause;
end

function try_again()
	if pause then return; end
	pause = first_pause;
	module:add_timer(pause, function ()
		local ok, again = protect(try_all);
		if not ok then
			module:log("error", "Could not try again: %s", again);
			return longest_pause;
		end
		return again;
	end);
end

-- The start -----------------------------------------------------------------------------------------------------------------

-- After the fork of prosody -D.
local function keep_rooms()
	if state.keeping then return; end
	local ok, err = mx.keep(prosody.paths.data.."/"..rooms_file);
	if not ok then
		module:log("error", "Who is in which room cannot be kept across a restart: %s", err);
	end
	state.keeping = true;
	-- By then every host has joined its rooms again, or has to wait too long.
	local minutes = 0;
	module:add_timer(60, function ()
		minutes = minutes + 1;
		if next(state.unrestored) and minutes < 60 then return 60; end
		mx.kept();
	end);
end

local restored = false;

local function start()
	if restored then return; end
	restored = true;
	if journal.in_use then
		module:log("error", "Another server runs on the same data directory: no rooms that accounts were in are joined again, and none are saved");
		return;
	end
	state.started = true;
	state.unrestored = state.unrestored or {};
	keep_rooms();
	-- After a reload the library still has them.
	local ok, done = true, records.listed;
	if not done then
		ok, done = protect(restore_all);
	end
	if not ok then
		module:log("error", "Could not join again the rooms that accounts were in: %s", done);
	end
	state.unrestored[host] = (not (ok and done) or next(records.unknown) ~= nil) or nil;
	if not (ok and done) or records.queue[1] then
		try_again();
	end
	for username in pairs(busy) do
		busy[username] = nil;
		save_account(username.."@"..host);
	end
end

return {
	watch = function (library, perform_decisions, shared_savers, bookmarks_loader, account_forgetter)
		mx, perform, savers, load_bookmarks, forget_account = library, perform_decisions, shared_savers, bookmarks_loader, account_forgetter;
		savers[host] = save_account;
		if state.started then
			start();
		end
		-- After mod_smacks (-10) has brought sessions back.
		module:hook_global("server-started", start, -20);
		-- Loaded into a server that has started already.
		module:add_timer(0, start);
	end;
	-- A device of the account is there: if its rooms are not known, now is the time to look again.
	look = function (username)
		if state.started and (records.unknown[username] ~= nil or not records.listed and not records.known[username]) then
			take_up(username);
		end
	end;
	save = save_account;
	remembered = remembered;
	-- The account is deleted, and its record with it.
	forget = function (username)
		records.unknown[username], records.damaged[username], records.unsaved[username], records.read[username] = nil, nil, nil, nil;
		records.known[username] = true;
	end;
};
