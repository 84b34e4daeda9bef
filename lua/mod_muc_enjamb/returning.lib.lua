-- Clients that come back to where the room has them already.
--
-- One that joins again with the same full JID, nickname and presence is told what anybody is who joins: who is there, itself, what
-- was said, the subject (XEP-0045 §7.2). The others have nothing to learn from that, and are told nothing.
--
-- One that logs in with the resource of a session that is there ends that session (RFC 6120 §7.7.2.2). Its places are held until it
-- has joined again, or for a while; while they are held it is told nothing of who is there and
-- what is said. What is for it alone (private messages, requests, answers) it gets.

local each_host = require "enjamb.each_host";
local replaced = require "enjamb.replaced";
local st = require "util.stanza";
local timer = require "util.timer";

local next, pairs, rawget, xpcall = next, pairs, rawget, require "enjamb.prosody".xpcall;
local error, pcall, traceback = error, pcall, debug.traceback;

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
	local kick = room_mt.handle_kickable;
	-- By real JID and room: the unavailable presence that was not heeded yet.
	local held = {};
	-- By room, while a client joins it that it has already: its `jid`, and the presence that it had `before`.
	local again = {};

	local function let_go(real_jid, room_jid)
		local rooms = held[real_jid];
		if not rooms then return nil; end
		local hold = rooms[room_jid];
		rooms[room_jid] = nil;
		if next(rooms) == nil then held[real_jid] = nil; end
		return hold;
	end

	local function hold(room, origin, stanza)
		local real_jid, room_jid = stanza.attr.from, room.jid;
		local one = { origin = origin, stanza = st.clone(stanza) };
		held[real_jid] = held[real_jid] or {};
		held[real_jid][room_jid] = one;
		module:add_timer(hold_time, function ()
			if not held[real_jid] or held[real_jid][room_jid] ~= one then return; end
			let_go(real_jid, room_jid);
			local its_room = muc.get_room_from_jid(room_jid);
			if its_room then handle(its_room, origin, one.stanza); end
		end);
	end

	local function handle_again(room, origin, stanza, occupant)
		again[room] = { jid = stanza.attr.from, before = occupant:get_presence(stanza.attr.from) };
		local ok, result = pcall(handle, room, origin, stanza);
		again[room] = nil;
		if not ok then error(result, 0); end
		return result;
	end

	local function handle_normal_presence(room, origin, stanza)
		local attr = stanza.attr;
		local kind, real_jid = attr.type, attr.from;
		if kind == "unavailable" and origin and replaced.is(origin) and room:get_occupant_jid(real_jid) then
			hold(room, origin, stanza);
			return true;
		end
		if kind ~= "probe" then
			absent.came(real_jid, room.jid);
			if next(held) then let_go(real_jid, room.jid); end
		end
		if kind == nil and room:get_occupant_jid(real_jid) == attr.to and stanza:get_child("x", xmlns_muc) then
			return handle_again(room, origin, stanza, room:get_occupant_by_real_jid(real_jid));
		end
		return handle(room, origin, stanza);
	end

	local function each_of_none() end

	-- Without the broadcast to the others.
	local function tell_itself(room, to, ...)
		local own_each, own_route = rawget(room, "each_occupant"), rawget(room, "route_stanza");
		local send = room.route_stanza;
		room.each_occupant = function () return each_of_none; end
		room.route_stanza = function (self, stanza)
			if stanza.attr.to == to then return send(self, stanza); end
		end
		local ok, err = xpcall(publicise, traceback, room, ...);
		room.each_occupant, room.route_stanza = own_each, own_route;
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
		local rooms = next(held) and held[stanza.attr.to];
		if rooms and rooms[room.jid] and (stanza.name == "presence" or stanza.attr.type == "groupchat") then return; end
		return route(room, stanza);
	end

	-- What was queued for the session comes back as errors, for which a room throws out.
	local function handle_kickable(room, origin, stanza)
		local real_jid = stanza.attr.from;
		if ending[real_jid] or held[real_jid] and held[real_jid][room.jid] then return true; end
		return kick(room, origin, stanza);
	end

	room_mt.handle_normal_presence, room_mt.publicise_occupant_status, room_mt.route_stanza, room_mt.handle_kickable =
		handle_normal_presence, publicise_occupant_status, route_stanza, handle_kickable;

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
		unload = function ()
			if room_mt.handle_normal_presence == handle_normal_presence then room_mt.handle_normal_presence = handle; end
			if room_mt.publicise_occupant_status == publicise_occupant_status then room_mt.publicise_occupant_status = publicise; end
			if room_mt.handle_kickable == handle_kickable then room_mt.handle_kickable = kick; end
			if room_mt.route_stanza == route_stanza then room_mt.route_stanza = route; end
		end;
	};
end;
