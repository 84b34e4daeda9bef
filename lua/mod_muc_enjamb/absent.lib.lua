-- Occupants that the rooms have and that are not back after a restart: they leave, as clients do whose connection is lost, and
-- the others are told so.
--
-- Those of other servers stay: whether they are there only they know, and what is sent to them comes back if not. So do those of
-- components. A client of this server that has a session again, which mod_smacks brought back, is in its rooms as ever; one
-- that has not may still log in and join again within moments, and then nobody is told anything.

local jid_split = require "util.jid".split;
local st = require "util.stanza";
local time_now = require "util.time".monotonic;

local minimix = require "enjamb".minimix;
local rerouted = module:require "rerouted";

local max = math.max;
local next, pairs, xpcall = next, pairs, require "enjamb.prosody".xpcall;
local traceback = debug.traceback;

local full_sessions, hosts = prosody.full_sessions, prosody.hosts;
local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";

-- For so many seconds a client that has no session any more may come back to its place.
local patience = 10;
-- And so often it is looked whether it is known now who comes back.
local period = 5;
-- So many seconds of work at a time, with a pause in between.
local work, pause = 0.02, 0.1;

-- Sessions of which nobody can tell yet whether they come back, by full JID; and hosts of which it is not known who was in which room.
local undecided = module:shared("/*/smacks/undecided");
local memberships = module:shared("/*/minimix/state");

local nobody = { send = function () return true; end };

-- Outlives a reload: nobody else knows who is still waited for. `ends`: when it is looked who has not come.
local waiting = module:shared("absent");
waiting.expected, waiting.is_late = waiting.expected or {}, waiting.is_late or {};

return function (muc)
	-- By real JID and room: who was in it when the server ended, and is not known to be back.
	local expected = waiting.expected;
	-- By real JID: it was not known in time, so a session that it has now is the one that was waited for.
	local is_late = waiting.is_late;

	local function is_expected(real_jid, room_jid)
		local rooms = expected[real_jid];
		return rooms and rooms[room_jid] or false;
	end

	-- Whether it is in the room on its own account: nil if that is not known yet.
	local function is_back(real_jid, room_jid)
		local username, domain, resource = jid_split(real_jid);
		local its_host = hosts[domain];
		if not username or not its_host or its_host.type ~= "local" then return true; end
		if undecided[real_jid] then return nil; end
		if resource then
			return full_sessions[real_jid] ~= nil;
		elseif not (its_host.modules and its_host.modules.minimix) then
			return false;
		elseif minimix.has(real_jid, room_jid) then
			return true;
		end
		if memberships.unrestored and memberships.unrestored[domain] then return nil; end
		return false;
	end

	local function came(real_jid, room_jid)
		if not is_expected(real_jid, room_jid) then return; end
		local rooms = expected[real_jid];
		rooms[room_jid] = nil;
		if next(rooms) == nil then expected[real_jid] = nil; end
	end

	local function leave(real_jid, room_jid)
		local room = muc.get_room_from_jid(room_jid);
		local occupant = room and room:get_occupant_by_real_jid(real_jid);
		if not occupant then return; end
		room:handle_presence_to_occupant(nobody, st.presence({ type = "error", from = real_jid, to = occupant.nick })
			:tag("error", { type = "cancel" })
				:tag("recipient-unavailable", { xmlns = xmlns_errors }):up()
			:up());
	end

	-- Whether mod_smacks has told its session that it is out of the room, when that was not there.
	local function was_told_out(real_jid, room_jid)
		local session = full_sessions[real_jid];
		local out_of = session and session.enjamb and session.enjamb.out_of;
		return out_of and out_of[room_jid] or false;
	end

	-- Those who were told so leave. The others are told; they themselves are told nothing more.
	local function leave_untold(room_jid, real_jids)
		local room = muc.get_room_from_jid(room_jid);
		if not room then return; end
		rerouted(room, function (stanza, send)
			if not real_jids[stanza.attr.to] then return send(room, stanza); end
		end, function ()
			for real_jid in pairs(real_jids) do leave(real_jid, room_jid); end
		end);
	end

	local function each_expected(f)
		for real_jid, rooms in pairs(expected) do
			for room_jid in pairs(rooms) do
				f(real_jid, room_jid);
			end
		end
	end

	-- Those who are there before the first client is read from.
	local function look_who_is_back()
		local told_out = {};
		each_expected(function (real_jid, room_jid)
			if not is_back(real_jid, room_jid) then return; end
			came(real_jid, room_jid);
			if was_told_out(real_jid, room_jid) then
				told_out[room_jid] = told_out[room_jid] or {};
				told_out[room_jid][real_jid] = true;
			end
		end);
		for room_jid, real_jids in pairs(told_out) do
			local ok, err = xpcall(leave_untold, traceback, room_jid, real_jids);
			if not ok then
				module:log("error", "Who was told to be out of %s may still be in it: %s", room_jid, err);
			end
		end
	end

	-- Who is not, by now. A session of a client that has logged in anew and not joined again is none of the room's.
	local function look_who_is_not()
		local gone = {};
		each_expected(function (real_jid, room_jid)
			local _, _, resource = jid_split(real_jid);
			local back = is_back(real_jid, room_jid);
			if back == nil then
				is_late[real_jid] = true;
				return;
			end
			if not back or resource and not is_late[real_jid] then
				gone[#gone+1] = { real_jid, room_jid };
			else
				came(real_jid, room_jid);
			end
		end);
		local i = 0;
		local function some()
			local until_then = time_now() + work;
			while i < #gone and time_now() < until_then do
				i = i + 1;
				local real_jid, room_jid = gone[i][1], gone[i][2];
				if is_expected(real_jid, room_jid) then -- it has not come meanwhile
					came(real_jid, room_jid);
					local ok, err = xpcall(leave, traceback, real_jid, room_jid);
					if not ok then
						module:log("error", "%s is still in %s, but not there: %s", real_jid, room_jid, err);
					end
				end
			end
			if i < #gone then return pause; end
		end
		module:add_timer(0, some);
		if next(expected) then return period; end
	end

	local function watch()
		module:add_timer(max(0, waiting.ends - time_now()), look_who_is_not);
	end

	-- After mod_smacks (-10) and mod_minimix (-20).
	module:hook_global("server-started", look_who_is_back, -30);

	-- A module's timers end with it.
	if next(expected) then watch(); end

	return {
		-- `fields` are those of keeping.lib.lua.
		expect = function (room_jid, _, fields)
			for i = 4, #fields - 1, 2 do
				expected[fields[i]] = expected[fields[i]] or {};
				expected[fields[i]][room_jid] = true;
			end
		end;
		came = came;
		watch = function ()
			waiting.ends = time_now() + patience;
			watch();
		end;
	};
end;
