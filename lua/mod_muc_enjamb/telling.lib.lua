-- What a room would tell somebody who joins it now, without telling it: for mod_minimix, whose accounts the room has still after a
-- restart, and who have nothing to ask it.
--
-- All of it is said by the room's own methods; only the way out is another one meanwhile.

local jid = require "util.jid";
local st = require "util.stanza";
local timer = require "util.timer";

local serialize = require "enjamb".serialize;

local is_anonymous_for, xpcall = require "enjamb.prosody".is_anonymous_for, require "enjamb.prosody".xpcall;
local error, next, rawget = error, next, rawget;
local traceback = debug.traceback;

local xmlns_muc = "http://jabber.org/protocol/muc";
local xmlns_muc_user = xmlns_muc.."#user";
-- As many messages as mod_minimix would ask for.
local most_history = 100;

-- Its bytes, without `to`.
local function bytes_of(stanza)
	local to = stanza.attr.to;
	stanza.attr.to = nil;
	local bytes = serialize(stanza);
	stanza.attr.to = to;
	return bytes;
end

-- Calls the room's method, and each(stanza) with what it would send.
local function instead(room, each, method, ...)
	local own = rawget(room, "route_stanza");
	room.route_stanza = function (_, stanza) each(stanza); end
	local ok, err = xpcall(room[method], traceback, room, ...);
	room.route_stanza = own;
	if not ok then error(err, 0); end
end

return function (muc)
	-- By room, what is the same for several accounts; for this turn of the main loop.
	local told = {};

	local function of_room(room)
		local known = told[room];
		if known then return known; end
		if next(told) == nil then
			timer.add_task(0, function () told = {}; end);
		end
		known = { history = {}, subject = "" };
		local join = st.presence({ from = room.jid, to = room.jid })
			:tag("x", { xmlns = xmlns_muc }):tag("history", { maxstanzas = ("%d"):format(most_history) }):up():up();
		instead(room, function (message)
			known.history[#known.history+1] = bytes_of(message);
		end, "send_history", join);
		instead(room, function (message)
			known.subject = bytes_of(message);
		end, "send_subject", room.jid, room._data.subject_time);
		told[room] = known;
		return known;
	end

	-- Of all occupants, to one that sees their real JIDs or to one that does not.
	local function occupants_of(room, known, account)
		local is_anonymous = is_anonymous_for(room, account);
		local which = is_anonymous and "anonymous" or "open";
		if known[which] then return known[which]; end
		local nicks, presences = {}, {};
		instead(room, function (presence)
			local attr = presence.attr;
			local nick = attr.type == nil and jid.resource(attr.from);
			if nick then
				attr.id = nil;
				nicks[#nicks+1], presences[#presences+1] = nick, bytes_of(presence);
			end
		end, "send_occupant_list", is_anonymous and room.jid or account);
		known[which] = { nicks = nicks, presences = presences };
		return known[which];
	end

	-- What mod_minimix needs to know of a room that has the account: nil if it has not.
	return function (room_jid, account)
		local room = muc.get_room_from_jid(room_jid);
		local occupant = room and room:get_occupant_by_real_jid(account);
		if not occupant then return nil; end
		local own, x = st.clone(occupant:get_presence(account)), st.stanza("x", { xmlns = xmlns_muc_user });
		room:build_item_list(occupant, x, false);
		own:add_child(x:tag("status", { code = "110" }):up());
		own.attr.id = nil;
		module:fire_event("muc-build-occupant-presence", { room = room, occupant = occupant, stanza = own });
		local shown = st.clone(occupant:get_presence(account));
		shown.attr.from, shown.attr.to, shown.attr.id = nil, nil, nil;
		shown:maptags(function (tag)
			return tag.name ~= "occupant-id" and tag or nil;
		end);
		local known = of_room(room);
		local occupants = occupants_of(room, known, account);
		return {
			nick = jid.resource(occupant.nick); own = bytes_of(own); shown = serialize(shown);
			nicks = occupants.nicks; presences = occupants.presences;
			history = known.history; subject = known.subject;
		};
	end;
end;
