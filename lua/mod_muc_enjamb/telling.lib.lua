-- What a room would tell somebody who joins it now, without telling it: for mod_minimix, whose accounts the room has still after a
-- restart, and who have nothing to ask it.
--
local jid = require "util.jid";
local st = require "util.stanza";
local timer = require "util.timer";

local rerouted = module:require "rerouted";
local serialize = require "enjamb".serialize;

local is_anonymous_for = require "enjamb.prosody".is_anonymous_for;
local error, next, pcall, rawget = error, next, pcall, rawget;

local xmlns_muc = "http://jabber.org/protocol/muc";
local xmlns_muc_user = xmlns_muc.."#user";
local xmlns_occupant_id = "urn:xmpp:occupant-id:0";
-- As many messages as mod_minimix would ask for.
local most_history = 100;

-- Its bytes, for nobody in particular: a message's `id` is its own, a presence's is of the request that it answered.
local function bytes_of(stanza, without_from)
	local attr = stanza.attr;
	local from, to, id = attr.from, attr.to, attr.id;
	attr.to = nil;
	if stanza.name == "presence" then attr.id = nil; end
	if without_from then attr.from = nil; end
	local bytes = serialize(stanza);
	attr.from, attr.to, attr.id = from, to, id;
	return bytes;
end

-- Calls the room's method, and each(stanza) with what it would send.
local function instead(room, each, method, ...)
	rerouted(room, function (stanza) each(stanza); end, room[method], room, ...);
end

-- What the account last told the room.
local function shown_of(presence)
	if presence:get_child("occupant-id", xmlns_occupant_id) then
		presence = st.clone(presence);
		presence:maptags(function (tag)
			return tag.name ~= "occupant-id" and tag or nil;
		end);
	end
	return bytes_of(presence, true);
end

-- Of a presence as its own occupant sees it, makes that which others see who see no real JIDs: one item stands for all sessions.
local function make_anonymous(x)
	local has_item = false;
	x:maptags(function (tag)
		if tag.name == "status" or tag.name == "item" and has_item then return nil; end
		if tag.name == "item" then
			has_item, tag.attr.jid = true, nil;
		end
		return tag;
	end);
end

-- The presences of all occupants that a room shows: to who sees real JIDs (`open`), to who does not (`anonymous`), and by
-- nickname to itself (`own`). It makes one for each who asks; here each is made once, and the others from it.
local function list(room)
	local all, n = { nicks = {}, open = {}, anonymous = {}, own = {} }, 0;
	local get_whois = rawget(room, "get_whois");
	room.get_whois = function () return "anyone"; end
	local ok, err = pcall(instead, room, function (presence)
		local attr = presence.attr;
		local nick = attr.type == nil and jid.resource(attr.from);
		local x = nick and presence:get_child("x", xmlns_muc_user);
		if not x then return; end
		n = n + 1;
		all.nicks[n], all.open[n] = nick, bytes_of(presence);
		x:tag("status", { code = "110" }):up();
		all.own[nick] = bytes_of(presence);
		make_anonymous(x);
		all.anonymous[n] = bytes_of(presence);
	end, "send_occupant_list", room.jid);
	room.get_whois = get_whois;
	if not ok then error(err, 0); end
	return all;
end

-- The account's own presence, where it is not that of the list: its role is not shown to others, or a session beside it is the
-- occupant's first.
local function own_of(room, occupant, account)
	local own, x = st.clone(occupant:get_presence(account)), st.stanza("x", { xmlns = xmlns_muc_user });
	room:build_item_list(occupant, x, false);
	own:add_child(x:tag("status", { code = "110" }):up());
	module:fire_event("muc-build-occupant-presence", { room = room, occupant = occupant, stanza = own });
	return bytes_of(own);
end

return function (muc)
	-- By room, what is the same for all accounts; for this turn of the main loop.
	local told = {};

	local function of_room(room)
		local known = told[room];
		if known then return known; end
		if next(told) == nil then
			timer.add_task(0, function () told = {}; end);
		end
		known = { history = {}, subject = "", occupants = list(room) };
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

	-- What mod_minimix needs to know of a room that has the account: nil if it has not.
	return function (room_jid, account)
		local room = muc.get_room_from_jid(room_jid);
		local occupant = room and room:get_occupant_by_real_jid(account);
		if not occupant then return nil; end
		local known, nick = of_room(room), jid.resource(occupant.nick);
		local occupants = known.occupants;
		return {
			nick = nick;
			own = occupant.jid == account and occupants.own[nick] or own_of(room, occupant, account);
			shown = shown_of(occupant:get_presence(account));
			nicks = occupants.nicks;
			presences = is_anonymous_for(room, account) and occupants.anonymous or occupants.open;
			history = known.history; subject = known.subject;
		};
	end;
end;
