-- Occupants whose standing in a room is another one than it was when the room was last kept: somebody was banned in a run without this
-- module, or the stored configuration was edited while nobody ran. What a room that is there would have done then is done when it
-- is back, and all are told (XEP-0045 §9.1, §9.4, §10.2): when there are sessions to tell, and before the first client is read from.

local st = require "util.stanza";

local ipairs, next, pairs, xpcall = ipairs, next, pairs, require "enjamb.prosody".xpcall;
local traceback = debug.traceback;

local xmlns_muc_user = "http://jabber.org/protocol/muc#user";

-- What is more has the higher number.
local affiliations = { outcast = -1, none = 0, member = 1, admin = 2, owner = 3 };
local roles = { none = 0, visitor = 1, participant = 2, moderator = 3 };

local function has_changed(before, now, account)
	local was, is = before:get_affiliation(account), now:get_affiliation(account);
	return was ~= is or before:get_default_role(was) ~= nil and now:get_default_role(is) == nil;
end

-- The role that follows from another affiliation: a higher one raises it, a lower one brings it down.
local function role_after(room, was, is, role)
	local usual = room:get_default_role(is);
	if not usual or affiliations[is or "none"] < affiliations[was or "none"] or roles[usual] > roles[role or "none"] then
		return usual;
	end
	return role;
end

-- The room and all in it are told of an occupant as it is now.
local function tell(room, occupant, code, former_role)
	local x = st.stanza("x", { xmlns = xmlns_muc_user });
	if code then x:tag("status", { code = code }):up(); end
	room:publicise_occupant_status(occupant, x, nil, nil, nil, former_role);
	local account = occupant.bare_jid;
	if not occupant.role then
		module:fire_event("muc-occupant-left", { room = room; nick = occupant.nick; occupant = occupant });
	elseif room:get_whois() == "moderators" and (occupant.role == "moderator") ~= (former_role == "moderator") then
		for real_jid in occupant:each_session() do -- it sees more of the others than before, or less
			room:send_occupant_list(real_jid, function (_, other) return not other or other.bare_jid ~= account; end);
		end
	end
end

-- Sets its role. Returns the status code with which it is out, if it is.
local function set(room, occupant, before)
	local account = occupant.bare_jid;
	local was, is = before:get_affiliation(account), room:get_affiliation(account);
	occupant.role = role_after(room, was, is, occupant.role);
	room:save_occupant(occupant);
	if occupant.role then return nil; end
	return is == "outcast" and "301" or was ~= is and "321" or "322";
end

local function set_all(room, before)
	local changed = {};
	for _, occupant in room:each_occupant() do
		if has_changed(before, room, occupant.bare_jid) then
			changed[#changed+1] = { occupant = occupant, role = occupant.role };
		end
	end
	for _, one in ipairs(changed) do
		one.code = set(room, one.occupant, before);
	end
	-- Who is out is told nothing of the others.
	for _, one in ipairs(changed) do
		tell(room, one.occupant, one.code, one.role);
	end
end

return function (muc)
	-- By JID, rooms with such occupants, as they were.
	local were = {};

	local function apply()
		local rooms = were;
		were = {};
		for jid, before in pairs(rooms) do
			local ok, err = xpcall(function ()
				local room = muc.get_room_from_jid(jid);
				if room then set_all(room, before); end
			end, traceback);
			if not ok then
				module:log("error", "Who may be in room %s after the restart is not settled: %s", jid, err);
			end
		end
	end

	-- After sessions (mod_smacks, -10) and accounts (mod_minimix, -20) are back.
	module:hook_global("server-started", apply, -29);

	return {
		-- Of a room that was `before` and is `now`, two rooms, and its occupants; their fields are those of keeping.lib.lua.
		compare = function (jid, before, now, occupants)
			for _, fields in next, occupants do
				if has_changed(before, now, fields[2]) then
					were[jid] = before;
					return;
				end
			end
		end;
		apply = apply;
	};
end;
