-- Other modules' code and stored data, handled so that what goes wrong with one session, or account, stays its own trouble.
--
-- A server is one process: an error that is raised in a loop over sessions, or in the middle of an ack, reaches everybody.
-- Of both modules: `require "enjamb.contain"(module)`. Knows nothing of what is called.

local debug_info, traceback = require "debug".getinfo, require "debug".traceback;
local pcall, tostring, type, xpcall = pcall, tostring, type, require "enjamb.prosody".xpcall;

-- The module that a function was loaded with.
local function module_of(f)
	local source = debug_info(f, "S").source;
	return source:match(".*(mod_[%w_]+)") or source;
end

-- `whom`: a session; or an address, as text; or nothing.
local function name_of(whom)
	if type(whom) == "string" then return whom; end
	return whom and (whom.full_jid or whom.id) or "nobody";
end

-- For that module: what goes wrong is in its log, and its host's events are those that are fired.
return function (module)
	local contain = {};
	local events = prosody.hosts[module.host].events;

	local function told(whom, what, ok, ...)
		if not ok then
			module:log("error", "Error while %s, of %s: %s", what, name_of(whom), tostring((...)));
		end
		return ok, ...;
	end

	-- Calls f(...). Returns true and what it gives; false and the error, which is in the log, with whose trouble it is.
	function contain.attempt(whom, what, f, ...)
		return told(whom, what, xpcall(f, traceback, ...));
	end

	-- The same for who says itself what has failed: false and the error, with where it came from.
	function contain.protect(f, ...)
		return xpcall(f, traceback, ...);
	end

	-- The same where an error is an answer, as a storage's is: just the error.
	contain.ask = pcall;

	-- Fires an event as module:fire_event does, but handler by handler: one that fails is named in the log, and counts as one
	-- that did nothing. Returns what the event gives, and how many handlers have failed.
	function contain.fire(event_name, whom, event)
		local handlers = events.get_handlers(event_name);
		local failed = 0;
		if not handlers then return nil, failed; end
		for i = 1, #handlers do
			local ok, result = xpcall(handlers[i], traceback, event);
			if not ok then
				failed = failed + 1;
				module:log("error", "%s fails to handle %s, for %s: %s", module_of(handlers[i]), event_name, name_of(whom), tostring(result));
			elseif result ~= nil then
				return result, failed;
			end
		end
		return nil, failed;
	end

	return contain;
end;
