-- Puts fields on sessions when a connection is made, as Jitsi's modules do of what the URL says, and has others kept. And has
-- a session with push wait for longer, as mod_push2 does.

local watchdog = require "util.watchdog";

module:add_item("smacks-kept-field", "test_named");
module:add_item("smacks-kept-field", "conn"); -- is none

module:hook("stream-features", function (event)
	local session = event.origin;
	session.test_query_room = session.test_query_room or module:get_option_string("test_room");
	session.test_context = { user = { name = "Alice" }, features = { "recording" } };
	session.test_bound = { session = session, send = session.send };
	session.test_function = function () return session; end;
end);

module:hook("smacks-hibernation-start", function (event)
	local session = event.origin;
	session.test_queued = #event.queue;
	if not session.push_registration_id then return; end
	session.original_smacks_callback, session.original_smacks_timeout = session.hibernating_watchdog.callback, session.hibernating_watchdog.timeout;
	session.hibernating_watchdog:cancel();
	session.hibernating_watchdog = watchdog.new(72 * 3600, function () session.original_smacks_callback(); end);
end);
