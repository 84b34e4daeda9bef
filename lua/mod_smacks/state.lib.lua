-- What the library is to know of a session beside its stream, so that it can be made again after a restart: noted when it changes.
--
-- Presence is told when it is another one, directed presence and rooms address by address: a client may have thousands of them.
-- All else is little, and told together; the library writes what is new. Other modules add what they need by the events
-- smacks-save-session and smacks-restore-session, whose `state` is a table that is kept. What becomes of it is revive.lib.lua's.

local jid_bare = require "util.jid".bare;
local st = require "util.stanza";

local enjamb = require "enjamb";
local accounts = module:require "accounts";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local rights = module:require "rights";

local jn, serialize = enjamb.journal, enjamb.serialize;
local jn_directed, jn_keep, jn_presence, jn_room = jn.directed, jn.keep, jn.presence, jn.room;
local ipairs, next, pairs, rawget = ipairs, next, pairs, rawget;

local host = module.host;

-- A client can make these grow, with directed presence (RFC 6121 §4.6) and with rooms, in bytes: more is refused.
local most_directed = 256 * 1024;

-- Fields that are kept as they are. Those of other modules are fields.lib.lua's.
local plain_fields = { "resource", "priority", "interested", "client_id", "ip", "secure", "encrypted", "state", "auth_scope" };

-- Addresses ---------------------------------------------------------------------------------------------------------------

local function directed_bytes(session)
	local n = 0;
	for jid in pairs(session.directed or {}) do
		n = n + #jid + 8;
	end
	for room, nick in pairs(own_of(session).rooms or {}) do
		n = n + #room + #nick + 8;
	end
	return n;
end

-- Directed presence to that address, or being in that room, may have begun or ended: told with what is noted next. If nothing was
-- noted yet, all will be.
local function address_changed(session, address)
	local own = own_of(session);
	if not own.noted then return; end
	own.addresses = own.addresses or {};
	own.addresses[address] = true;
end

-- Before mod_presence (0), which notes it on the session.
local function before_directed(event)
	local session, stanza = event.origin, event.stanza;
	local to, kind = stanza.attr.to, stanza.attr.type;
	if not to or not own_of(session).stream or kind ~= nil and kind ~= "unavailable" and kind ~= "error" then return; end
	if kind == nil and not (session.directed and session.directed[to]) then
		-- It is counted anew when what was added since makes that seem worthwhile.
		local seems = (own_of(session).directed_bytes or 0) + 2 * #to + 16;
		if seems > most_directed then
			seems = directed_bytes(session) + 2 * #to + 16;
			if seems > most_directed then
				session.log("info", "Refusing directed presence, to more addresses than can be kept (%d bytes of them)", seems);
				session.send(st.error_reply(stanza, "wait", "resource-constraint",
					"You have sent presence to too many addresses: send unavailable presence to some of them first"));
				return true;
			end
		end
		own_of(session).directed_bytes = seems;
	end
	address_changed(session, to);
end

for _, kind in ipairs { "full", "bare", "host" } do
	module:hook("pre-presence/"..kind, before_directed, 10);
end

-- Accounts ----------------------------------------------------------------------------------------------------------------

-- Read once per session: the store may be a file.
local function credentials_of(session)
	if own_of(session).credentials == nil then
		own_of(session).credentials = accounts.credentials(session.username);
	end
	return own_of(session).credentials or nil;
end

module:hook_global("user-password-changed", function (event)
	local user = event.host == host and prosody.hosts[host].sessions[event.username];
	for _, session in pairs(user and user.sessions or {}) do
		own_of(session).credentials = nil; -- the session that changed it goes on
		own_of(session).state_changed = true;
	end
end);

-- Whether the session's account can be there after a restart. Those of anonymous users, and of services that let in whoever
-- has a token, cannot: only a storage that fails leaves that open.
local function can_come_back(session)
	if credentials_of(session) then return true; end
	return accounts.exists(session.username) ~= false;
end

-- Noting ------------------------------------------------------------------------------------------------------------------

-- A presence as it is kept. While it is sent to others it may have an address.
local function bytes_of(presence)
	if not presence then return nil; end
	local to = presence.attr.to;
	presence.attr.to = nil;
	local bytes = serialize(presence);
	presence.attr.to = to;
	return bytes;
end

local function keys_of(set)
	if not set then return nil; end
	local keys = {};
	for key in pairs(set) do
		keys[#keys+1] = key;
	end
	return keys;
end

-- What is little.
local function small_state(session, timeout)
	local state = {
		host = host; username = session.username; id = session.resumption_token; timeout = timeout; xmlns = session.smacks;
		credentials = credentials_of(session); role = own_of(session).former_role;
	};
	if not own_of(session).unverified then
		state.role = rights.describe(session);
	end
	for i = 1, #plain_fields do
		local field = plain_fields[i];
		state[field] = session[field];
	end
	return state;
end

-- The library has of the session what it is now.
local function mark_noted(session)
	local own = own_of(session);
	own.noted, own.noted_presence, own.noted_directed = true, rawget(session, "presence"), session.directed;
end

-- Tells the library all that it is to know of the session. Returns true; or nil and an error if the disk cannot take it now.
local function note_all(session, timeout)
	local state = small_state(session, timeout);
	state.presence = bytes_of(session.presence);
	state.directed = keys_of(session.directed);
	state.rooms = own_of(session).rooms;
	contain.fire("smacks-save-session", session, { session = session, state = state });
	mark_noted(session);
	own_of(session).addresses = nil;
	return jn_keep(own_of(session).stream, state, true);
end

-- The same with what may have changed since it was last told. `settled`: nothing that would change it is being processed.
local function note(session, timeout, settled)
	local own = own_of(session);
	if not own.noted or session.directed ~= own.noted_directed then
		return note_all(session, timeout);
	end
	local key, ok, err = own.stream, true, nil;
	local function tell(f, ...)
		local told, reason = f(key, ...);
		if not told then
			ok, err = nil, reason;
		end
	end
	local presence = session.presence;
	if presence ~= own.noted_presence then
		own.noted_presence = presence;
		tell(jn_presence, bytes_of(presence));
	end
	local addresses = own.addresses;
	if addresses then
		local directed, rooms = session.directed or {}, own.rooms or {};
		for address in next, addresses do
			local room = jid_bare(address);
			tell(jn_directed, address, directed[address] ~= nil);
			tell(jn_room, room, rooms[room]);
		end
		if settled then
			own.addresses = nil;
		end
	end
	local state = small_state(session, timeout);
	contain.fire("smacks-save-session", session, { session = session, state = state });
	tell(jn_keep, state, false);
	return ok, err;
end

return {
	address_changed = address_changed;
	can_come_back = can_come_back;
	mark_noted = mark_noted;
	note = note;
	note_all = note_all;
};
