-- The fence: past the deadline of the lease nothing that was read is processed, queued, sent or stored.
--
-- Another server may have taken over by then, and what this one still did would be done twice. Where it is looked at, and what that
-- relies on, is in docs/architecture.md ("Short cuts"): Prosody's main loop comes by its poller before each connection that has something
-- and before timers; each stanza and each request starts in a runner; and what has been written waits in a buffer until the connection takes it.
-- Whether the lease holds is the library's to say; this file knows nothing of the database.

local async = require "util.async";
local poller = require "util.poll";
local signal = require "util.signal";

local rp = require "enjamb".replica;
local getmetatable, ipairs, os_exit = getmetatable, ipairs, os.exit;
local monotonic = require "util.time".monotonic;

-- So long, in seconds, what is in buffers may still go out when the lease has been given up on purpose.
local farewell = 1;

-- What stands in Prosody calls through this table, so a reload replaces what it does. up: there is a lease to be looked at; lenient: it counts only
-- that it is not another's.
local fence = module:shared("/*/smacks/fence");

-- Ends the process at once: nobody is told, nothing is stored, streams are not ended.
local function leave(code)
	os_exit(code);
end

-- On 13 signals are looked for by the main loop, which stands still here. On 0.12 they come by themselves.
local function stop_signals()
	local found = {};
	for _, name in ipairs(signal.signalfd and { "SIGTERM", "SIGINT" } or {}) do
		found[#found+1] = signal.signalfd(signal[name]);
	end
	return {
		asked = function ()
			for _, fd in ipairs(found) do
				if fd:read() then return true; end
			end
			return false;
		end;
		close = function ()
			for _, fd in ipairs(found) do fd:close(); end
		end;
	};
end

-- Somebody wants the server to stop, and it is not known whether the lease is still its own.
function fence.stop()
	fence.leaving = true;
	module:log("warn", "Asked to stop while it is not known whether the lease is still this server's: it ends without storing anything");
	leave(1);
end

-- Returns when the lease is confirmed. If it is another's by then the process ends here.
function fence.hold()
	if not fence.up or fence.leaving or fence.lenient and rp.state().role ~= "lost" then return; end
	fence.holding = true;
	local since, said, signals = monotonic(), false, stop_signals();
	repeat
		rp.turned();
		local state = rp.wait(0.1);
		if rp.permitted() then break; end
		if state.role ~= "holder" then
			fence.leaving = true;
			module:log("error", "The lease is not this server's any more (%s): it has stopped acknowledging and delivering, and ends. "
				.."Clients find their sessions on %s", state.reason or state.role, state.holder or "the other server");
			leave(1);
		elseif signals.asked() then
			fence.stop();
		elseif not said then
			said = true;
			module:log("error", "The lease could not be renewed in time, nothing is read and nothing sent until it is confirmed%s",
				state.reason and ": "..state.reason or "");
		end
	until false;
	fence.holding = nil;
	signals.close();
	module:log("warn", "The lease is still this server's, all goes on after %.1f seconds", monotonic() - since);
end

-- The lease was given up, so nothing is read and no timer runs; what had been sent before that may go. Ends the process.
function fence.say_farewell(poll, wait)
	repeat
		local fd, _, w = wait(poll, 0.05);
		if fd and w then return fd, nil, w; end
	until not fd or monotonic() > fence.farewell;
	os_exit(prosody.shutdown_code or 0, true);
end

-- Puts the deadline before everything that Prosody does. `connection` is any that net.server has made; guard_commits(f) has f() called
-- before Prosody's storage commits. `lenient`: it goes on past the deadline unless another has the lease, since there is no other.
local function put_up(connection, guard_commits, lenient)
	fence.up, fence.lenient = true, lenient;
	if fence.stands then return; end
	fence.stands = true;
	local permitted, turned = rp.permitted, rp.turned;

	local poll_methods = getmetatable(poller.new()).__index;
	local wait = poll_methods.wait;
	function poll_methods.wait(poll, timeout)
		if fence.farewell then return fence.say_farewell(poll, wait); end
		local fd, r, w = wait(poll, timeout);
		turned();
		if not permitted() then fence.hold(); end
		return fd, r, w;
	end

	local runner_methods = getmetatable(async.runner()).__index;
	local run = runner_methods.run;
	function runner_methods.run(runner, input)
		-- What signals ask for on 0.12 has its own (check).
		if not permitted() and runner ~= prosody.main_thread then fence.hold(); end
		return run(runner, input);
	end

	guard_commits(function ()
		if not permitted() then fence.hold(); end
	end);

	local connection_methods = getmetatable(connection).__index;
	local onwritable = connection_methods.onwritable;
	function connection_methods.onwritable(conn)
		if not permitted() then fence.hold(); end
		return onwritable(conn);
	end
end

-- The lease is about to be given up, on purpose.
local function take_down()
	fence.up = false;
end

-- It was given up.
local function farewell_begins()
	fence.farewell = monotonic() + farewell;
end

return {
	put_up = put_up;
	take_down = take_down;
	farewell_begins = farewell_begins;
	-- Before anything is done about stopping: without the lease nothing is.
	check = function ()
		if not fence.up or rp.permitted() then return; end
		if fence.holding then
			fence.stop();
		else
			fence.hold();
		end
	end;
	stop_signals = stop_signals;
};
