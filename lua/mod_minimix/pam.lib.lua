-- MUC2-PAM (inbox/new-muc): a client asks by iq for its account to join. Rooms of today are joined by presence for it.

local jid = require "util.jid";
local resourceprep = require "util.encodings".stringprep.resourceprep;
local st = require "util.stanza";

local xmlns_muc2, xmlns_pam = "urn:xmpp:muc:0", "urn:xmpp:muc:pam:0";

local function offer(mx, perform)
	module:hook("account-disco-info", function (event)
		(event.reply or event.stanza):tag("feature", { var = xmlns_pam }):up();
	end);

	module:hook("iq-set/self/"..xmlns_muc2..":join", function (event)
		local origin, stanza = event.origin, event.stanza;
		local join = stanza.tags[1];
		local room = jid.prep(join.attr.room or "");
		local node, room_host, resource = jid.split(room);
		local nick = resourceprep(join:get_child_text("nickname") or origin.username);
		local of_us = prosody.hosts[room_host];
		if not node or resource or not nick or nick == "" or of_us and of_us.type == "local" then
			origin.send(st.error_reply(stanza, "modify", "jid-malformed", "Room and nickname must be those of a chat room"));
			return true;
		end
		local account = origin.username.."@"..origin.host;
		local request = { resource = origin.resource, id = stanza.attr.id, room = room, nick = nick };
		return perform(mx.pam_join(account, request), account, stanza, origin);
	end);
end

return { offer = offer };
