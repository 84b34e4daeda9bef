-- The rooms of this server that a session has joined by itself. Some forget their occupants when the server ends: all if
-- it was killed, those that are not persistent always. A session that comes back is told that it is out of these
-- (XEP-0045 §17.3, status 332), once, and its client joins again.
--
-- Rooms of other servers know nothing of our restart and keep their occupants.

local it = require "util.iterators";
local jid = require "util.jid";
local st = require "util.stanza";

local xmlns_muc_user = "http://jabber.org/protocol/muc#user";

local hosts = prosody.hosts;

-- The room service of this server that the domain is, if it is one.
local function service(domain)
	local component = hosts[domain];
	return component and component.modules and component.modules.muc;
end

local function is_in(room_jid, session)
	local muc = service(jid.host(room_jid));
	local room = muc and muc.get_room_from_jid(room_jid);
	return room and room:get_occupant_by_real_jid(session.full_jid) ~= nil;
end

-- Whether a room sent it that the session's client is in, or somebody through the room.
local function is_from_room(session, stanza)
	if stanza.attr.type == "groupchat" or stanza:get_child("x", xmlns_muc_user) then return true; end
	local room = jid.bare(stanza.attr.from);
	if not room then return false; end
	if session.smacks_rooms and session.smacks_rooms[room] then return true; end
	for occupant in pairs(session.directed or {}) do
		if jid.resource(occupant) and jid.bare(occupant) == room then return true; end
	end
	return false;
end

-- After mod_presence, and only what a client sends to a full JID.
module:hook("pre-presence/full", function (event)
	local session, stanza = event.origin, event.stanza;
	if not session.full_jid or not session.enjamb_stream then return; end
	local node, domain, nick = jid.split(stanza.attr.to);
	local room = jid.join(node, domain);
	if not nick or not service(domain) then return; end
	local kind = stanza.attr.type;
	if kind == nil then
		session.smacks_rooms = session.smacks_rooms or {};
		session.smacks_rooms[room] = nick;
	elseif kind == "unavailable" and session.smacks_rooms then
		session.smacks_rooms[room] = nil;
	end
end, -1);

module:hook("smacks-save-session", function (event)
	event.state.rooms = event.session.smacks_rooms;
end);

-- To be called when the session can be sent to.
local function say_that_it_is_out(session, state)
	for room, nick in it.sorted_pairs(state.rooms or {}) do
		local occupant = room.."/"..nick;
		if is_in(room, session) then
			session.smacks_rooms = session.smacks_rooms or {};
			session.smacks_rooms[room] = nick;
		else
			if session.directed then
				session.directed[occupant] = nil;
			end
			session.send(st.presence({ type = "unavailable", from = occupant, to = session.full_jid })
				:tag("x", { xmlns = xmlns_muc_user })
					:tag("item", { affiliation = "none", role = "none" }):up()
					:tag("status", { code = "110" }):up()
					:tag("status", { code = "332" }):up()
				:up());
		end
	end
end

return {
	is_from_room = is_from_room;
	say_that_it_is_out = say_that_it_is_out;
};
