-- The rooms of this server that a session has joined by itself. They forget their occupants when the server stops, so a
-- session that comes back is told that it is out of them (XEP-0045 §17.3, status 332), once, and its client joins again.
--
-- Rooms of other servers know nothing of our restart and keep their occupants.

local jid = require "util.jid";
local st = require "util.stanza";

local ipairs, pairs = ipairs, pairs;

local xmlns_muc_user = "http://jabber.org/protocol/muc#user";

local hosts = prosody.hosts;

local function is_room(bare)
	local _, domain = jid.split(bare);
	local component = hosts[domain];
	return component ~= nil and component.modules ~= nil and component.modules.muc ~= nil;
end

-- After mod_presence, and only what a client sends to a full JID.
module:hook("pre-presence/full", function (event)
	local session, stanza = event.origin, event.stanza;
	if not session.full_jid or not session.enjamb_stream then return; end
	local node, domain, nick = jid.split(stanza.attr.to);
	local room = jid.join(node, domain);
	if not nick or not is_room(room) then return; end
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
	local rooms = {};
	for room in pairs(state.rooms or {}) do
		rooms[#rooms+1] = room;
	end
	table.sort(rooms);
	for _, room in ipairs(rooms) do
		local occupant = room.."/"..state.rooms[room];
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

return {
	say_that_it_is_out = say_that_it_is_out;
};
