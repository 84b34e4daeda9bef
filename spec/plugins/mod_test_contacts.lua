-- A gateway whose contacts are as a file says: for each account of it presences, one a line, that are sent to whoever probes. A
-- line "error" has it answer that it cannot be reached, once.

local parse_xml = require "util.xml".parse;
local st = require "util.stanza";
local jid = require "util.jid";

local file = module:get_option_string("test_contacts_file");
probes = {}; -- luacheck: ignore 111

local function handle(event)
	local stanza = event.stanza;
	if stanza.attr.type ~= "probe" then return true; end
	local to = jid.bare(stanza.attr.to);
	table.insert(probes, ("%s %s"):format(stanza.attr.from, to)); -- luacheck: ignore 113
	local answered = false;
	for line in io.lines(file) do
		if line == "error" then
			if not failed then -- luacheck: ignore 113
				failed = true; -- luacheck: ignore 111
				module:send(st.error_reply(stanza, "wait", "remote-server-timeout"));
				return true;
			end
		else
			local presence = parse_xml(line);
			if jid.bare(presence.attr.from) == to then
				answered = true;
				presence.attr.to = stanza.attr.from;
				module:send(presence);
			end
		end
	end
	if not answered then
		module:send(st.presence({ type = "unavailable", from = to, to = stanza.attr.from }));
	end
	return true;
end

for _, kind in ipairs { "full", "bare", "host" } do
	module:hook("presence/" .. kind, handle);
end
