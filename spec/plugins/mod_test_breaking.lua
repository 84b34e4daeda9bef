-- Breaks on purpose, for the sessions of the users in `test_break_users`: its handlers of the events in
-- `test_break_events` raise an error. With `test_break_state`, so many bytes are added to what is kept of their sessions.

local users = module:get_option_set("test_break_users", {});
local extra = module:get_option_number("test_break_state", 0);

for name in module:get_option_set("test_break_events", {}) do
	module:hook(name, function (event)
		local session = event.session or event.origin;
		if session and users:contains(session.username) then
			error("broken on purpose in "..name);
		end
	end, 10);
end

if extra > 0 then
	module:hook("smacks-save-session", function (event)
		if users:contains(event.session.username) then
			event.state.ballast = ("x"):rep(extra);
		end
	end);
end
