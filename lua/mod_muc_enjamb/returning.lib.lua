-- Clients that come back to where the room has them already.
--
-- One that joins again with the same full JID, nickname and presence is told what anybody is who joins: who is there, itself, what
-- was said, the subject (XEP-0045 §7.2). The others have nothing to learn from that, and are told nothing.
--
-- One that logs in with the resource of a session that is there ends that session (RFC 6120 §7.7.2.2). Its places are held until it
-- has joined again, or for a while; while they are held it is told nothing of who is there and
-- what is said, and for what it sends it is not in the room: it has to ask for the place as anybody has. What is for it alone (private
-- messages, requests, answers) it gets, and may answer.

local each_host = require "enjamb.each_host";
local replaced = require "enjamb.replaced";
local rerouted = module:require "rerouted";
local st = require "util.stanza";
local time_now = require "util.time".monotonic;
local timer = require "util.timer";

local max = math.max;
local next, pairs, rawget = next, pairs, rawget;
local error, pcall = error, pcall;

local hosts = prosody.hosts;
local xmlns_muc = "http://jabber.org/protocol/muc";

-- For so many seconds.
local hold_time = 15;

-- By full JID, of a session that another one replaces, while what was queued for it is returned. For all components.
local ending = module:shared("/*/muc_enjamb/ending");

local function is_same_attr(a, b, without)
	for name, value in pairs(a) do
		if name ~= without and b[name] ~= value then return false; end
	end
	for name in pairs(b) do
		if name ~= without and a[name] == nil then return false; end
	end
	return true;
end

-- Whether two stanzas say the same.
local function is_same(a, b, without)
	if a.name ~= b.name or #a ~= #b or not is_same_attr(a.attr, b.attr, without) then return false; end
	for i = 1, #a do
		local one, other = a[i], b[i];
		if one ~= other and not (st.is_stanza(one) and st.is_stanza(other) and is_same(one, other)) then return false; end
	end
	return true;
end

return function (muc, absent)
	local room_mt = muc.room_mt;
	local handle, publicise, route = room_mt.handle_normal_presence, room_mt.publicise_occupant_status, room_mt.route_stanza;
	local kick, nick_of, answer = room_mt.handle_kickable, room_mt.get_occupant_jid, room_mt.handle_iq_to_occupant;
	-- By real JID and room: the unavailable presence that was not heeded yet, and when it is. Outlives a reload, for nobody else
	-- knows that a place is to be given up.
	local held = module:shared("held");
	-- By room, while a client joins it that it has already: its `jid`, and the presence that it had `before`.
	local again = {};

	-- While what a client answers is on its way through the room.
	local answering = false;

	local function hold_of(real_jid, room_jid)
		local rooms = held[real_jid];
		return rooms and rooms[room_jid];
	end

	local function let_go(real_jid, room_jid)
		local rooms = held[real_jid];
		if not rooms then return nil; end
		local hold = rooms[room_jid];
		rooms[room_jid] = nil;
		if next(rooms) == nil then held[real_jid] = nil; end
		return hold;
	end

	local function heed(real_jid, room_jid, one)
		if hold_of(real_jid, room_jid) ~= one then return; end
		let_go(real_jid, room_jid);
		local room = muc.get_room_from_jid(room_jid);
		if room then handle(room, one.origin, one.stanza); end
	end

	local function heed_in_time(real_jid, room_jid, one)
		module:add_timer(max(0, one.ends - time_now()), function () heed(real_jid, room_jid, one); end);
	end

	local function each_held(f)
		local all = {};
		for real_jid, rooms in pairs(held) do
			for room_jid, one in pairs(rooms) do
				all[#all+1] = { real_jid, room_jid, one };
			end
		end
		for i = 1, #all do
			f(all[i][1], all[i][2], all[i][3]);
		end
	end

	local function hold(room, origin, stanza)
		local real_jid, room_jid = stanza.attr.from, room.jid;
		local one = { origin = origin, stanza = st.clone(stanza), ends = time_now() + hold_time };
		held[real_jid] = held[real_jid] or {};
		held[real_jid][room_jid] = one;
		heed_in_time(real_jid, room_jid, one);
	end

	-- A module's timers end with it.
	each_held(heed_in_time);

	local function handle_again(room, origin, stanza, occupant)
		again[room] = { jid = stanza.attr.from, before = occupant:get_presence(stanza.attr.from) };
		local ok, result = pcall(handle, room, origin, stanza);
		again[room] = nil;
		if not ok then error(result, 0); end
		return result;
	end

	-- A place that is held is given up: the others are told what they would have been told when its session ended.
	local function give_up(room, real_jid)
		local one = hold_of(real_jid, room.jid);
		let_go(real_jid, room.jid);
		rerouted(room, function (stanza, send)
			if stanza.attr.to ~= real_jid then return send(room, stanza); end
		end, handle, room, one.origin, one.stanza);
	end

	-- From a client for which a place is held.
	local function handle_held(room, origin, stanza, nick)
		local attr = stanza.attr;
		local is_join = attr.type == nil and stanza:get_child("x", xmlns_muc) ~= nil;
		if is_join and attr.to == nick then
			return handle_again(room, origin, stanza, room:get_occupant_by_nick(nick)); -- it is let go of when the room lets it in
		elseif is_join or attr.type == "unavailable" then
			give_up(room, attr.from);
			if muc.get_room_from_jid(room.jid) ~= room then -- it was the last one there
				return module:fire_event("presence/full", { origin = origin, stanza = stanza });
			end
		end
		return handle(room, origin, stanza);
	end

	-- The room lets somebody in, and no other module objects.
	module:hook("muc-occupant-pre-join", function (event)
		local room, real_jid = event.room, event.stanza.attr.from;
		if not hold_of(real_jid, room.jid) then return; end
		if nick_of(room, real_jid) == event.occupant.nick then
			let_go(real_jid, room.jid);
		else
			local destroying = room.destroying;
			room.destroying = true; -- not for its being empty in between
			give_up(room, real_jid);
			room.destroying = destroying;
		end
	end, -10000);

	local function handle_normal_presence(room, origin, stanza)
		local attr = stanza.attr;
		local kind, real_jid = attr.type, attr.from;
		local nick = nick_of(room, real_jid);
		if kind == "unavailable" and origin and replaced.is(origin) and nick then
			hold(room, origin, stanza);
			return true;
		end
		if kind ~= "probe" then absent.came(real_jid, room.jid); end
		if hold_of(real_jid, room.jid) then
			if nick then return handle_held(room, origin, stanza, nick); end
			let_go(real_jid, room.jid); -- somebody has thrown it out
		end
		if kind == nil and nick == attr.to and stanza:get_child("x", xmlns_muc) then
			return handle_again(room, origin, stanza, room:get_occupant_by_real_jid(real_jid));
		end
		return handle(room, origin, stanza);
	end

	local function get_occupant_jid(room, real_jid)
		if next(held) and not answering and real_jid and hold_of(real_jid, room.jid) then return nil; end
		return nick_of(room, real_jid);
	end

	local function handle_iq_to_occupant(room, origin, stanza)
		local kind = stanza.attr.type;
		if kind ~= "result" and kind ~= "error" then return answer(room, origin, stanza); end
		answering = true;
		local ok, result = pcall(answer, room, origin, stanza);
		answering = false;
		if not ok then error(result, 0); end
		return result;
	end

	local function each_of_none() end

	-- Without the broadcast to the others.
	local function tell_itself(room, to, ...)
		local own_each = rawget(room, "each_occupant");
		room.each_occupant = function () return each_of_none; end
		local ok, err = pcall(rerouted, room, function (stanza, send)
			if stanza.attr.to == to then return send(room, stanza); end
		end, publicise, room, ...);
		room.each_occupant = own_each;
		if not ok then error(err, 0); end
	end

	local function publicise_occupant_status(room, occupant, ...)
		local joining = again[room];
		local now = joining and occupant.role and occupant:get_presence(joining.jid);
		if now and is_same(joining.before, now, "id") then
			return tell_itself(room, joining.jid, occupant, ...);
		end
		return publicise(room, occupant, ...);
	end

	local function route_stanza(room, stanza)
		if next(held) and hold_of(stanza.attr.to, room.jid) and (stanza.name == "presence" or stanza.attr.type == "groupchat") then return; end
		return route(room, stanza);
	end

	-- What was queued for the session comes back as errors, for which a room throws out.
	local function handle_kickable(room, origin, stanza)
		local real_jid = stanza.attr.from;
		if ending[real_jid] or hold_of(real_jid, room.jid) then return true; end
		return kick(room, origin, stanza);
	end

	room_mt.handle_normal_presence, room_mt.publicise_occupant_status, room_mt.route_stanza, room_mt.handle_kickable =
		handle_normal_presence, publicise_occupant_status, route_stanza, handle_kickable;
	room_mt.get_occupant_jid, room_mt.handle_iq_to_occupant = get_occupant_jid, handle_iq_to_occupant;

	local function watch(name)
		local of_host = hosts[name];
		if not of_host or of_host.type ~= "local" then return; end
		module:hook_object_event(of_host.events, "pre-session-close", function (event)
			replaced.note(event);
			local full_jid = replaced.is(event.session) and event.session.full_jid;
			if not full_jid or ending[full_jid] then return; end
			ending[full_jid] = true;
			timer.add_task(0, function () ending[full_jid] = nil; end);
		end, 10);
	end
	each_host(module, watch);

	return {
		-- `for_good`: nobody holds a place any more.
		unload = function (for_good)
			if for_good then each_held(heed); end
			if room_mt.handle_normal_presence == handle_normal_presence then room_mt.handle_normal_presence = handle; end
			if room_mt.publicise_occupant_status == publicise_occupant_status then room_mt.publicise_occupant_status = publicise; end
			if room_mt.handle_kickable == handle_kickable then room_mt.handle_kickable = kick; end
			if room_mt.get_occupant_jid == get_occupant_jid then room_mt.get_occupant_jid = nick_of; end
			if room_mt.handle_iq_to_occupant == handle_iq_to_occupant then room_mt.handle_iq_to_occupant = answer; end
			if room_mt.route_stanza == route_stanza then room_mt.route_stanza = route; end
		end;
	};
end;
