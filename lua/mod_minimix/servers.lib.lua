-- Time, and servers and services that are lost and back: what the library is told of them.

local jid = require "util.jid";
local mx = require "enjamb".minimix;

local ipairs, pairs = ipairs, pairs;

local hosts = prosody.hosts;
local perform;

local bounds = {
	room = "The occupants of room %s take more memory than minimix_max_room_bytes: not all are kept for clients that join later";
	account = "What rooms told %s takes more memory than minimix_max_account_bytes: not all is kept for its clients that join later";
	server = "What rooms told takes more memory than minimix_max_server_bytes: not all is kept for clients that join later";
};

local function tell_full(full)
	for _, notice in ipairs(full) do
		module:log("warn", "%s", bounds[notice.what]:format(notice.jid));
	end
end

local function tick()
	local decisions = mx.tick();
	if decisions then
		perform(decisions);
	end
	local full = mx.full();
	if full then
		tell_full(full);
	end
	return 1;
end

local function other_end(session)
	return session.type == "s2sout" and session.to_host or session.from_host;
end

local function lost(event)
	local server = other_end(event.session);
	if server then
		mx.server_lost(server);
	end
end

local function up(event)
	local server = other_end(event.session);
	if server then
		mx.server_up(server, false);
	end
end

-- Services of this server: a component that connects, or is loaded, may know nothing of who was in its rooms.
local function watch_component(name)
	local component = hosts[name];
	if not component or component.type ~= "component" then return; end
	module:hook_object_event(component.events, "component-authenticated", function ()
		mx.server_up(name, true);
	end);
end

local function host_activated(name)
	watch_component(name);
	mx.server_up(name, true);
end

-- While this module was unloaded nobody followed what became of the accounts in their rooms.
local function doubt_all()
	for room in pairs(mx.rooms()) do
		mx.server_up(jid.host(room), true);
	end
end

return {
	tick = tick;
	lost = lost;
	up = up;
	host_activated = host_activated;
	watch = function (perform_decisions)
		perform = perform_decisions;
		for name in pairs(hosts) do
			watch_component(name);
		end
		if not module.reloading then
			doubt_all();
		end
	end;
};
