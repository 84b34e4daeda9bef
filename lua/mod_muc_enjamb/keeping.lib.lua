-- What changes of rooms, and is noted in the library's journal: before anybody is told of it, and before anything that came in
-- is acknowledged. Else a server that is killed would come back with a room in which somebody is who has left, as those know who
-- were told in time.
--
-- What changed is only marked when it does, and described when it is noted: as it is then. All changes of occupants go
-- through mod_muc's save_occupant, those of a configuration through the room's save(), rooms come by track_room and go by
-- delete_room.

local jid_node = require "util.jid".node;
local serialization = require "util.serialization";
local storagemanager = require "core.storagemanager";
local timer = require "util.timer";

local enjamb = require "enjamb";

local kept, serialize = enjamb.muc, enjamb.serialize;
local next, pairs, rawget, setmetatable, tostring, xpcall = next, pairs, rawget, setmetatable, tostring, require "enjamb.prosody".xpcall;
local sub = string.sub;
local table_unpack, traceback = require "enjamb.prosody".unpack, debug.traceback;

local hosts = prosody.hosts;
local host = module.host;

-- As mod_muc writes them to its own storage; what other modules put there and cannot be written is left out.
local to_text = serialization.new { preset = "compact", fatal = false };

-- By component: notes what changed there, before anything is acknowledged. False if that could not be done now.
local before_claims = module:shared("/*/smacks/before_claims");

return function (muc, journal)
	local room_mt = muc.room_mt;
	-- By room: what changed, which is `gone`, `everything`, `configuration` or `history`, and `occupants` by their JIDs in the room.
	local changes = {};
	-- By room: `data`, the fields of _data as they were noted, and `last`, the last message of its history that was.
	local noted = {};
	-- Rooms that could not be noted, by JID: told once.
	local told = {};
	-- From then on what changes is noted: not before rooms are back.
	local is_on = false;
	local is_scheduled = false;
	-- Persistent rooms that mod_muc's storage has.
	local stored = setmetatable({}, { __mode = "k" });
	-- A room's own save(), which another one stands in for.
	local saves = setmetatable({}, { __mode = "k" });

	local end_of_turn;

	local function change_of(room)
		local jid = room.jid;
		local change = changes[jid];
		if not change then
			change = { occupants = {} };
			changes[jid] = change;
			if not is_scheduled and is_on then
				is_scheduled = true;
				timer.add_task(0, function () end_of_turn(); end);
			end
		end
		change.room = room;
		return change;
	end

	-- Noting --------------------------------------------------------------------------------------------------------------

	-- Whether there is no more to be done about something, and if there is, not for its length.
	local function is_done(jid, ok, err, is_too_long)
		if ok then return true; end
		if is_too_long and not told[jid] then
			told[jid] = true;
			module:log("error", "Not all of room %s can be kept across a restart: %s", jid, err);
		end
		return is_too_long;
	end

	local function has_changed(known, data)
		for name, value in pairs(data) do
			if known[name] ~= value then return true; end
		end
		for name in pairs(known) do
			if data[name] == nil then return true; end
		end
		return false;
	end

	-- What outlives the server, of what mod_muc stores; nil if nothing does.
	local function storage()
		local _, driver = storagemanager.get_driver(host, "config");
		return driver ~= "memory" and driver ~= "null" and driver or nil;
	end

	local function note_configuration(room, note, is_unstored)
		local data = {};
		for name, value in pairs(room._data) do
			data[name] = value;
		end
		local frozen = room:freeze();
		frozen._unstored = is_unstored;
		frozen._stored = stored[room] and storage() or nil;
		if not is_done(room.jid, kept.configure(room.jid, to_text(frozen))) then return false; end
		note.data = data;
		return true;
	end

	-- Role, bare JID, primary session's JID, and JID and presence of each session.
	local function note_occupant(room, occupant_jid)
		local jid = room.jid;
		local nick = sub(occupant_jid, #jid + 2);
		local occupant = room:get_occupant_by_nick(occupant_jid);
		if not occupant then
			return is_done(jid, kept.leave(jid, nick));
		end
		local fields, n = { occupant.role, occupant.bare_jid, occupant.jid or "" }, 3;
		for real_jid, presence in occupant:each_session() do
			if presence.attr.type == nil then
				fields[n + 1], fields[n + 2] = real_jid, serialize(presence);
				n = n + 2;
			end
		end
		return is_done(jid, kept.enter(jid, nick, table_unpack(fields, 1, n)));
	end

	-- What is not in the room's history yet, as far as is known. With an archive it comes from there.
	local function note_history(room, note)
		local history, jid = room._history, room.jid;
		if hosts[host].modules.muc_mam then history = nil; end
		local n = history and #history or 0;
		local first = n + 1;
		while first > 1 and history[first - 1] ~= note.last do
			first = first - 1;
		end
		if first == 1 then -- none of it is
			if not is_done(jid, kept.limit_history(jid, 0)) then return false; end
			note.last = nil;
		end
		for i = first, n do
			local entry = history[i];
			if not is_done(jid, kept.said(jid, tostring(entry.timestamp), serialize(entry.stanza))) then return false; end
			note.last = entry;
		end
		return n == 0 or is_done(jid, kept.limit_history(jid, n));
	end

	local function note_change(jid, change)
		if change.gone then
			if not is_done(jid, kept.forget(jid)) then return false; end
			change.gone, noted[jid], told[jid] = nil, nil, nil;
		end
		local room, occupants = change.room, change.occupants;
		if not room then return true; end
		local note = noted[jid];
		if not note then
			note = { data = {} };
			noted[jid] = note;
		end
		if change.everything then
			for occupant_jid in room:each_occupant() do
				occupants[occupant_jid] = true;
			end
			for _, nick in pairs(kept.occupants(jid)) do
				occupants[jid.."/"..nick] = true;
			end
			change.configuration, change.history, change.everything = true, true, nil;
		end
		if change.configuration or has_changed(note.data, room._data) then
			if not note_configuration(room, note, change.is_unstored) then return false; end
			change.configuration, change.is_unstored = nil, nil;
		end
		for occupant_jid in pairs(occupants) do
			if not note_occupant(room, occupant_jid) then return false; end
			occupants[occupant_jid] = nil;
		end
		if change.history and not note_history(room, note) then return false; end
		return true;
	end

	-- Notes what changed. False if there is something that the disk does not take now. A room that cannot be described is
	-- its own trouble.
	local function note_all()
		if not is_on then return true; end
		local all = true;
		for jid, change in pairs(changes) do
			local ok, is_noted = xpcall(note_change, traceback, jid, change);
			if not ok then
				module:log("error", "What changed of room %s cannot be kept across a restart: %s", jid, is_noted);
			end
			if ok and not is_noted then
				all = false;
			else
				changes[jid] = nil;
			end
		end
		return all;
	end

	-- With much to do timers wait, and what was said to somebody may go out before them.
	local function before_it_is_told()
		if is_scheduled then end_of_turn(); end
	end

	local function watch(name)
		local of_host = hosts[name];
		if not of_host then return; end
		module:hook_object_event(of_host.events, "c2s-pre-ondrain", before_it_is_told, 1000);
		module:hook_object_event(of_host.events, "s2s-pre-ondrain", before_it_is_told, 1000);
	end
	require "enjamb.each_host"(module, watch);

	function end_of_turn()
		is_scheduled = false;
		if not is_on or next(changes) == nil then return; end
		local all = note_all();
		journal.commit();
		if not all and not is_scheduled then
			is_scheduled = true;
			timer.add_task(1, function () end_of_turn(); end);
		end
	end

	-- Marking -------------------------------------------------------------------------------------------------------------

	-- Stands in for the room's save(). What mod_muc stores of a persistent room is what that will be: who was told of it was told
	-- for good, and until it is stored it is here.
	local function save(room, ...)
		local change = change_of(room);
		change.configuration = true;
		if not room._data.persistent then
			stored[room] = nil;
			return saves[room](room, ...);
		end
		change.is_unstored = true;
		before_it_is_told();
		change_of(room).configuration = true;
		local ok, err = saves[room](room, ...);
		if ok then stored[room] = true; end
		return ok, err;
	end

	local function follow(room)
		local own = rawget(room, "save");
		if own ~= save then
			saves[room] = own or room_mt.save;
			room.save = save;
		end
		change_of(room).everything = true;
	end

	local save_occupant, track_room, delete_room = room_mt.save_occupant, muc.track_room, muc.delete_room;

	local function save_and_mark(room, occupant)
		if saves[room] then
			change_of(room).occupants[occupant.nick] = true;
		end
		return save_occupant(room, occupant);
	end

	local function track_and_follow(room)
		local tracked = track_room(room);
		if tracked then follow(room); end
		return tracked;
	end

	local function delete_and_mark(room)
		local change = change_of(room);
		if saves[room] then
			room.save, saves[room] = saves[room], nil;
		end
		change.gone, change.room, change.occupants, change.everything = true, nil, {}, nil;
		return delete_room(room);
	end

	room_mt.save_occupant, muc.track_room, muc.delete_room = save_and_mark, track_and_follow, delete_and_mark;

	-- It is history when it is noted.
	module:hook("muc-broadcast-message", function (event)
		if saves[event.room] then change_of(event.room).history = true; end
	end, 1000);

	local configs = module:open_store("config");
	for room in muc.live_rooms() do
		stored[room] = room._data.persistent and configs:get(jid_node(room.jid)) ~= nil or nil;
		follow(room);
	end
	before_claims[host] = note_all;

	return {
		note = note_all;
		start = function ()
			is_on = true;
			end_of_turn();
		end;
		storage = storage;
		-- Whether a room came from mod_muc's storage.
		came_from = function (room, where)
			stored[room] = where == "storage" and room._data.persistent or nil;
		end;
		-- A room has the history that was kept of it.
		has_history = function (room)
			local history = room._history;
			noted[room.jid] = noted[room.jid] or { data = {} };
			noted[room.jid].last = history[#history];
		end;
		-- `stays`: what was noted is kept on, else it is not followed any more and must not come back.
		unload = function (stays)
			is_on = false;
			before_claims[host] = nil;
			if room_mt.save_occupant == save_and_mark then room_mt.save_occupant = save_occupant; end
			if muc.track_room == track_and_follow then muc.track_room = track_room; end
			if muc.delete_room == delete_and_mark then muc.delete_room = delete_room; end
			for room, own in pairs(saves) do
				if rawget(room, "save") == save then room.save = own; end
			end
			if stays or not journal.is_open() then return; end
			for _, jid in pairs(kept.rooms(host)) do
				kept.forget(jid);
			end
			journal.commit();
		end;
	};
end;
