-- Lets no message through to n0, n1, ...: what is measured then is reading and routing them.

local add_filter = require "util.filters".add_filter;

local function drop_messages(stanza)
	if stanza.name == "message" then return nil; end
	return stanza;
end

module:hook("resource-bind", function (event)
	if event.session.username:match("^n%d+$") then
		add_filter(event.session, "stanzas/out", drop_messages, 1000);
	end
end);
