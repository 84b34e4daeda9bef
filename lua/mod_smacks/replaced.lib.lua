-- A client that logs in anew under the resource of a session that is there yet, which ends that session (RFC 6120 §7.7.2.2).
--
-- To its contacts nothing has happened: they are not told that it is gone, just before they are told that it is there. If it does not
-- say so they are told a little later. Rooms hold its places in the same way (mod_muc_enjamb).

local own_of = module:require "session";
local replaced = require "enjamb.replaced";

-- Contacts are told after so many seconds that it is gone, unless it is there.
local patience = 15;
-- Whom mod_presence tells of a session's end.
local nobody = { [false] = { pending = {} } };

local contacts;

module:hook("pre-session-close", replaced.note, 10);

-- Before mod_presence (0), which does all else: the account's other clients are told, and who got presence directly.
module:hook("resource-unbind", function (event)
	local session = event.session;
	if replaced.is(session) and session.presence and session.full_jid and session.username then
		own_of(session).is_held = true;
		session.roster = nobody;
	end
end, 10);

-- After contacts.lib.lua (-10), which forgets a session that has ended: contacts know of this one.
module:hook("resource-unbind", function (event)
	local session = event.session;
	if not own_of(session).is_held then return; end
	local account, full_jid = session.username.."@"..session.host, session.full_jid;
	local hold = contacts.hold(account, full_jid);
	module:add_timer(patience, function () contacts.end_hold(account, full_jid, hold); end);
end, -20);

return {
	take = function (parts) contacts = parts.contacts; end;
};
