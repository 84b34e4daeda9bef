-- Other modules' code and stored data, handled so that what goes wrong with one session stays that session's trouble.
--
-- A server is one process: an error that is raised in a loop over sessions, or in the middle of an ack, reaches everybody.

local debug_info, traceback = require "debug".getinfo, require "debug".traceback;
local tostring, xpcall = tostring, xpcall;

local events = prosody.hosts[module.host].events;

-- The module that a function was loaded with.
local function module_of(f)
	local source = debug_info(f, "S").source;
	return source:match(".*(mod_[%w_]+)") or source;
end

local function name_of(session)
	return session and (session.full_jid or session.id) or "nobody";
end

local function told(session, what, ok, ...)
	if not ok then
		module:log("error", "Error while %s, of %s: %s", what, name_of(session), tostring((...)));
	end
	return ok, ...;
end

-- Calls f(...). Returns true and what it gives; false and the error, which is in the log, with whose session it was.
local function attempt(session, what, f, ...)
	return told(session, what, xpcall(f, traceback, ...));
end

-- Fires an event as module:fire_event does, but handler by handler: one that fails is named in the log, and counts as one
-- that did nothing. Returns what the event gives, and how many handlers have failed.
local function fire(event_name, session, event)
	local handlers = events.get_handlers(event_name);
	local failed = 0;
	if not handlers then return nil, failed; end
	for i = 1, #handlers do
		local ok, result = xpcall(handlers[i], traceback, event);
		if not ok then
			failed = failed + 1;
			module:log("error", "%s fails to handle %s, for %s: %s", module_of(handlers[i]), event_name, name_of(session), tostring(result));
		elseif result ~= nil then
			return result, failed;
		end
	end
	return nil, failed;
end

return {
	attempt = attempt;
	fire = fire;
};
