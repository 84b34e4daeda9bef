-- Sessions that are in a room of this server by themselves, from a time when their host was without this module: mod_smacks knows
-- of them, and they outlive the restart as the room does. When the account is in the room, they are its clients, and their own place
-- is given up: the room would tell all to both. The client hears nothing of that.

local jid_bare = require "util.jid".bare;
local st = require "util.stanza";

local protect = require "enjamb.contain"(module).protect;

local pairs = pairs;

local bare_sessions = prosody.bare_sessions;

-- By full JID: the room whose stanzas are not for it just now. Shared, for this is loaded by each who requires it.
local silenced = module:shared("silenced");

local function is_silenced(event)
	local attr = event.stanza.attr;
	local room = silenced[attr.to];
	if room and jid_bare(attr.from) == room then return true; end
end

-- The nickname under which it is in the room by itself; nil if it is not.
local function nick_of(session, room)
	local own = session.enjamb;
	return own and own.rooms and own.rooms[room];
end

-- Calls f(), during which the room tells the session nothing, and gives what that gives.
local function silently(session, room, f, ...)
	silenced[session.full_jid] = room;
	local ok, result = protect(f, ...);
	silenced[session.full_jid] = nil;
	if not ok then
		module:log("error", "%s may be in %s beside its account: %s", session.full_jid, room, result);
	end
	return result;
end

local function send_leave(session, room, nick)
	local occupant = room.."/"..nick;
	if session.directed then
		session.directed[occupant] = nil;
	end
	module:send(st.presence({ type = "unavailable", from = session.full_jid, to = occupant }));
	-- If the room did not know it: mod_smacks would tell the client after a restart that it is out.
	local rooms = session.enjamb.rooms;
	if rooms then
		rooms[room] = nil;
	end
end

return {
	nick_of = nick_of;
	silently = silently;
	send_leave = send_leave;
	-- The sessions of an account that are in a room by themselves: session, nickname.
	each = function (account, room)
		local user, found = bare_sessions[account], {};
		for _, session in pairs(user and user.sessions or found) do
			found[session] = nick_of(session, room);
		end
		return pairs(found);
	end;
	watch = function ()
		-- After mod_smacks (1000), which notes that it is out.
		module:hook("presence/full", is_silenced, 999);
		module:hook("message/full", is_silenced, 999);
	end;
};
