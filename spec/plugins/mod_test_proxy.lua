-- A component that is a module of the server, and asks those of whom it was told that they are there: as Jitsi's client_proxy does.

local jid = require "util.jid";
local st = require "util.stanza";

local target = module:get_option_string("test_proxy_target");
local there = {};

module:hook("presence/host", function (event)
	local stanza = event.stanza;
	local resource, kind = jid.resource(stanza.attr.from), stanza.attr.type;
	if jid.bare(stanza.attr.from) == target and resource then
		if kind == nil then there[resource] = true; elseif kind == "unavailable" then there[resource] = nil; end
	end
	return true;
end);

module:hook("iq/host", function (event)
	local reply = next(there) and st.reply(event.stanza) or st.error_reply(event.stanza, "cancel", "service-unavailable");
	module:send(reply:tag("there"));
	return true;
end);
