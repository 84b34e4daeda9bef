-- Rooms that are back after a restart, as they were, without anybody's being told.
--
-- What mod_muc has stored of a room with its occupants, when the server was stopped or the room had to make place for others,
-- is as new as what the journal has, and comes back by itself when somebody wants the room. All others are put back: mod_muc
-- would have forgotten them, or their occupants. A room that cannot be is its own trouble.

local deserialize = require "util.serialization".deserialize;
local jid_split = require "util.jid".split;
local parse_xml = require "util.xml".parse;

local for_all = require "enjamb.for_all"(module);
local kept = require "enjamb".muc;
local stored = require "enjamb.stored";
local ipairs, next, pairs, tonumber, type, xpcall = ipairs, next, pairs, tonumber, type, require "enjamb.prosody".xpcall;
local sub = string.sub;
local traceback = debug.traceback;

local hosts = prosody.hosts;
local host = module.host;

return function (muc, keeping, absent, standing)
	local configs, states = module:open_store("config"), module:open_store("state");
	local persistent = module:open_store("persistent");

	-- The room that is put back now, and what is kept of it.
	local at_hand = {};

	-- What mod_muc has stored.
	local function stored_in(store, node)
		local data, err = stored(store, node);
		if err then error("its storage cannot be read: "..err, 0); end
		return type(data) == "table" and data or nil;
	end

	local function set_configuration(room, frozen)
		room._data = frozen._data or {};
		room._affiliation_data = frozen._affiliation_data or {};
		room._affiliations = {};
		for jid, affiliation in pairs(frozen._affiliations or frozen) do -- Prosody 0.9 had them in a table
			if sub(jid, 1, 1) ~= "_" and jid ~= "jid" and type(affiliation) == "string" then
				room._affiliations[jid] = affiliation;
			end
		end
	end

	-- A room that nobody has, to be asked what it would do.
	local function as_configured(jid, frozen)
		local room = muc.new_room(jid);
		set_configuration(room, frozen);
		return room;
	end

	-- As mod_muc makes one of what it finds in its storage.
	local function make(jid, frozen)
		if module:fire_event("muc-room-pre-restore", { jid = jid, data = frozen }) == false then
			return nil, "another module objects";
		end
		local room = as_configured(jid, frozen);
		if not muc.track_room(room) then
			return nil, "no more rooms are allowed";
		end
		module:fire_event("muc-room-restored", { jid = jid, room = room });
		keeping.came_from(room, nil);
		return room;
	end

	-- Whether the room was destroyed in a run without this module: mod_muc has stored so, or has not got what it had stored. What it had
	-- not stored when the room was noted is newer than what it has.
	local function is_destroyed(jid, frozen, config)
		local data = frozen._data or {};
		if frozen._unstored then return false; end
		if config then
			return config._data ~= nil and config._data.destroyed and not data.destroyed;
		elseif not data.persistent or not frozen._stored or frozen._stored ~= keeping.storage() then
			return false;
		end
		-- What its list of rooms has still it has lost.
		return not (stored_in(persistent, nil) or {})[jid];
	end

	-- Its fields are those of keeping.lib.lua.
	local function put_in(room, nick, fields)
		local role, bare_jid, primary = fields[1], fields[2], fields[3];
		local occupant = room:new_occupant(bare_jid, room.jid.."/"..nick);
		occupant.role = role;
		for i = 4, #fields - 1, 2 do
			local presence = parse_xml(fields[i + 1]);
			if presence then
				occupant:set_session(fields[i], presence, fields[i] == primary);
			end
		end
		room:save_occupant(occupant);
	end

	-- Puts back what is to be. Returns whether it did, and with how many occupants.
	local function put_back(jid)
		local record, err = kept.read(jid);
		if not record then
			if err then error(err, 0); end
			kept.forget(jid); -- occupants of a room of which nothing else is there
			return false;
		end
		at_hand = { [jid] = record };
		if record.lost > 0 then
			module:log("error", "%d records of room %s are damaged on disk and lost", record.lost, jid);
		end
		local frozen = deserialize(record.configuration);
		if type(frozen) ~= "table" then error("its configuration cannot be read", 0); end
		local node = jid_split(jid);
		local state, config = stored_in(states, node), stored_in(configs, node);
		if is_destroyed(jid, frozen, config) then
			module:log("info", "Room %s does not come back: it has been destroyed meanwhile", jid);
			kept.forget(jid);
			return false;
		end
		for nick, fields in pairs(record.occupants) do
			absent.expect(jid, nick, fields);
		end
		if state then
			if config and not frozen._unstored then
				standing.compare(jid, as_configured(jid, frozen), as_configured(jid, config), record.occupants);
			end
			return false;
		end
		local is_persistent = frozen._data and frozen._data.persistent;
		if next(record.occupants) == nil and (config or not is_persistent) then
			if not config then kept.forget(jid); end
			return false;
		end
		local room;
		if config then
			room, err = muc.get_room_from_jid(jid), "it cannot be restored from its storage";
			if room and (frozen._unstored or not is_persistent) then
				-- The server was killed before mod_muc had stored it; or that was when it was stopped, or the room made place, at some time.
				set_configuration(room, frozen);
			end
		else
			room, err = make(jid, frozen);
		end
		if not room then error(err, 0); end
		local n = 0;
		for nick, fields in pairs(record.occupants) do
			put_in(room, nick, fields);
			n = n + 1;
		end
		if config then
			standing.compare(jid, as_configured(jid, frozen), room, record.occupants);
		end
		return true, n;
	end

	-- The history that was kept, where there is no archive: mod_muc stores the last message only.
	local function give_history(room)
		if hosts[host].modules.muc_mam then return; end
		local record = at_hand[room.jid] or kept.read(room.jid);
		local history, own = {}, room._history;
		for _, fields in ipairs(record and record.history or history) do
			local stanza = fields[2] and parse_xml(fields[2]);
			if stanza then
				history[#history+1] = { stanza = stanza; timestamp = tonumber(fields[1]) or 0 };
			end
		end
		local last, its_last = history[#history], own and own[#own];
		if not last or its_last and its_last.timestamp > last.timestamp then return; end
		room._history = history;
		keeping.has_history(room);
	end

	module:hook("muc-room-restored", function (event)
		keeping.came_from(event.room, "storage");
		local ok, err = xpcall(give_history, traceback, event.room);
		if not ok then
			module:log("error", "The history of room %s could not be restored: %s", event.room.jid, err);
		end
	end, 10);

	return function ()
		local n_rooms, n_occupants = 0, 0;
		for_all(kept.rooms(host), "putting back rooms", function (jid)
			local ok, is_back, n = xpcall(put_back, function (err)
				return type(err) == "string" and err or traceback(err);
			end, jid);
			if not ok then
				module:log("error", "Room %s is not as it was before the restart: %s", jid, is_back);
			elseif is_back then
				n_rooms, n_occupants = n_rooms + 1, n_occupants + n;
			end
		end);
		if n_rooms > 0 then
			module:log("info", "%d rooms are back from before the restart, with %d occupants", n_rooms, n_occupants);
		end
		local newer = kept.newer();
		if newer > 0 then
			module:log("error", "%d records of rooms in the journal were written by another version of Enjamb and are left as they are", newer);
		end
		at_hand = {};
		absent.watch();
	end;
end;
