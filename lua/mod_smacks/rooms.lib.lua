-- The rooms of this server that a session is in by itself, as the rooms have told it: what a client asked for may have been
-- refused, and it is out without having asked. Rooms outlive the server as sessions do (mod_muc_enjamb). Of one that does not, or does
-- not know its occupants any more, a session that comes back is told that it is out (XEP-0045 §17.3, status 332), once, and its
-- client joins again.
--
-- Rooms of other servers know nothing of our restart and keep their occupants. With mod_minimix it is the account that is in
-- a room, and that module's to keep.

local it = require "util.iterators";
local jid = require "util.jid";
local st = require "util.stanza";

local enjamb = require "enjamb";
local minimix, sm = enjamb.minimix, enjamb.smacks;
local own_of = module:require "session";

local xmlns_muc_user = "http://jabber.org/protocol/muc#user";

local find, sub = string.find, string.sub;
local ipairs, next, pairs, type = ipairs, next, pairs, type;

local full_sessions, hosts = prosody.full_sessions, prosody.hosts;
-- Given by mod_smacks.lua: state.lib.lua's, which has it kept.
local address_changed;
-- Sessions whose state is written before the next ack leaves.
local touched = module:shared("/*/smacks/touched");

-- The room service of this server that the domain is, if it is one.
local function service(domain)
	local component = hosts[domain];
	return component and component.modules and component.modules.muc;
end

-- Whether the session's account is in the room by itself.
local function has_account(room_jid, session)
	return hosts[module.host].modules.minimix ~= nil and minimix.has(session.username.."@"..session.host, room_jid);
end

-- Whether the room is there, and has the session for an occupant.
local function has_session(room_jid, session)
	local muc = service(jid.host(room_jid));
	local room = muc and muc.get_room_from_jid(room_jid);
	return room ~= nil and room:get_occupant_by_real_jid(session.full_jid) ~= nil;
end

-- Whether a room sent it that the session's client is in, or somebody through the room.
local function is_from_room(session, stanza)
	if stanza.attr.type == "groupchat" or stanza:get_child("x", xmlns_muc_user) then return true; end
	local room = jid.bare(stanza.attr.from);
	if not room then return false; end
	if own_of(session).rooms and own_of(session).rooms[room] then return true; end
	for occupant in pairs(session.directed or {}) do
		if jid.resource(occupant) and jid.bare(occupant) == room then return true; end
	end
	return false;
end

local function note(session, room, nick)
	local rooms, out_of = own_of(session).rooms or {}, own_of(session).out_of;
	if nick and out_of then out_of[room] = nil; end
	if rooms[room] == nick then return; end
	rooms[room] = nick;
	own_of(session).rooms = next(rooms) ~= nil and rooms or nil;
	if own_of(session).stream then
		address_changed(session, room);
		own_of(session).state_changed = true;
		touched[session] = true;
	end
end

local function codes_of(x)
	local codes = "";
	for status in x:childtags("status") do
		codes = codes..(status.attr.code or "").." ";
	end
	return codes;
end

-- What a room tells a client of itself. Also of one that has not enabled stream management yet.
module:hook("presence/full", function (event)
	local stanza = event.stanza;
	local from, to, kind = stanza.attr.from, stanza.attr.to, stanza.attr.type;
	local at = from and find(from, "@", 1, true);
	local slash = at and find(from, "/", at, true);
	if not slash or kind ~= nil and kind ~= "unavailable" or not service(sub(from, at + 1, slash - 1)) then return; end
	local session = full_sessions[to];
	local x = session and stanza:get_child("x", xmlns_muc_user);
	if not x then return; end
	local room, nick = sub(from, 1, slash - 1), sub(from, slash + 1);
	local rooms = own_of(session).rooms;
	local is_in = sm.own_presence(kind ~= nil, codes_of(x), rooms ~= nil and rooms[room] == nick);
	if is_in ~= nil then
		note(session, room, is_in and nick or nil);
	end
end, 1000);

module:hook("smacks-save-session", function (event)
	local out_of = own_of(event.session).out_of;
	event.state.out_of = out_of and next(out_of) ~= nil and out_of or nil;
end);

module:hook("smacks-restore-session", function (event)
	local own, out_of = own_of(event.session), event.state.out_of;
	own.rooms = event.state.rooms;
	own.out_of = type(out_of) == "table" and out_of or nil;
end);

-- Tells a session that it is out of a room, with these status codes, and forgets that it was in it.
local function tell_out(session, room, nick, codes)
	local occupant = room.."/"..nick;
	local own = own_of(session);
	own.out_of = own.out_of or {};
	own.out_of[room] = true;
	note(session, room, nil);
	if session.directed then
		session.directed[occupant] = nil;
		address_changed(session, occupant);
	end
	if session.rooms_joined then -- mod_track_muc_joins
		session.rooms_joined[room] = nil;
	end
	local presence = st.presence({ type = "unavailable", from = occupant, to = session.full_jid })
		:tag("x", { xmlns = xmlns_muc_user })
			:tag("item", { affiliation = "none", role = "none" }):up();
	for _, code in ipairs(codes) do
		presence:tag("status", { code = code }):up();
	end
	session.send(presence:up());
end

-- To be called when the session can be sent to, and memberships of accounts are there again.
local function say_that_it_is_out(session)
	for room in pairs(own_of(session).out_of or {}) do
		if service(jid.host(room)) then -- it has heeded that by now (mod_muc_enjamb)
			own_of(session).out_of[room] = nil;
			own_of(session).state_changed = true;
		end
	end
	for room, nick in it.sorted_pairs(own_of(session).rooms or {}) do
		local codes = sm.told_out(has_account(room, session), has_session(room, session));
		if codes then
			tell_out(session, room, nick, codes);
		end
	end
end

return {
	take = function (parts) address_changed = parts.state.address_changed; end;
	is_from_room = is_from_room;
	say_that_it_is_out = say_that_it_is_out;
};
