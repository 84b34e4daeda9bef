-- What is kept of sessions, and what may therefore be acknowledged.
--
-- The library's journal follows the streams by itself. This file says when what it noted has to be on its way to the
-- disk: before anything is acknowledged (level "process"), or there (level "power"). It also tells the admin how the
-- journal is. What a session is made of again is known to state.lib.lua, when it comes back to restore.lib.lua.

local async = require "util.async";
local server = require "net.server";
local timer = require "util.timer";

local enjamb = require "enjamb";
local connection = module:require "connection";
local contain = module:require "contain";

local jn, sm = enjamb.journal, enjamb.smacks;
local jn_commit, jn_handled, sm_handled = jn.commit, jn.handled, sm.handled;
local waiting_stanzas = connection.waiting_stanzas;
local pairs, pcall = pairs, pcall;
local table_remove = table.remove;

-- For how many seconds a resumption waits for the disk, at level "power".
local disk_patience = 5;

local host = module.host;

local level = module:get_option_string("smacks_durability", "process");
if level ~= "process" and level ~= "power" and level ~= "none" then
	module:log("error", "Option 'smacks_durability' must be \"process\", \"power\" or \"none\", not %q, using \"process\"", level);
	level = "process";
end

-- The journal is the process's: whichever host comes first opens it.
local journal = module:shared("/*/smacks/journal");
-- Sessions on which something came in since the last commit. Shared, since a commit is everybody's.
local touched = module:shared("/*/smacks/touched");
-- At level "power": sessions that are owed an ack, and others that wait, for the disk.
local waiting = module:shared("/*/smacks/waiting");
-- By host: what each does with its own sessions, keep(session), dismiss(key, reason) and tell(session, h), and whether it
-- keeps any (is_kept).
local by_host = module:shared("/*/smacks/keeping");
local own = {};
by_host[host] = own;

-- Whether a session outlives the server: levels are the host's, and not every account can come back.
function own.is_kept(session)
	return level ~= "none" and journal.open and session.resumption_token ~= nil and session.smacks_timeout ~= nil
		and not session.smacks_in_memory_only;
end
local is_kept = own.is_kept;

local function failed(err)
	if not journal.failing then
		module:log("error", "The journal of sessions cannot be written, nothing more is acknowledged until it can be: %s", err);
		journal.failing = true;
	end
end

-- Makes a string of a session's state: state.lib.lua's.
local describe;
-- Writes what clients know of their contacts: contacts.lib.lua's.
local write_down;

-- The sessions of these streams cannot be kept, so nothing of theirs may be acknowledged any more: they have to end. That
-- is nobody else's trouble.
local function dismiss(unkept)
	for key, reason in pairs(unkept) do
		for _, of_host in pairs(by_host) do
			contain.attempt(nil, "ending a session that cannot be kept", of_host.dismiss, key, reason);
		end
	end
end

-- Keeps the state of a session, if it is another one than what is kept.
local function keep(session)
	session.smacks_state_changed = nil;
	local described, text, reason = contain.attempt(session, "describing a session for the journal", describe, session, session.smacks_timeout);
	if not text or not described then
		return dismiss { [session.enjamb_stream] = described and reason or "an error was raised" };
	elseif text == session.smacks_state then
		return;
	end
	local ok, err = jn.keep(session.enjamb_stream, text);
	if ok then
		session.smacks_state = text;
	else
		failed(err);
	end
end
own.keep = keep;

-- Notes what has been processed of what came in on a session. Returns whether that is all.
local function note(session, is_claiming)
	local key, of_host = session.enjamb_stream, by_host[session.host];
	if not key or session.destroyed or not of_host or not of_host.is_kept(session) then return true; end
	if session.smacks_state_changed then
		of_host.keep(session);
	end
	local n_waiting = waiting_stanzas(session);
	if not is_claiming then
		jn_handled(key, sm_handled(key, n_waiting));
	end
	return n_waiting == 0; -- else its count is not yet what it will be
end

-- Hands what is noted to the operating system. `h` is what is about to be claimed for `session`. Returns whether that
-- may be.
local function commit(session, h)
	if level == "none" or not journal.open then return true; end
	for other in pairs(touched) do
		local ok, complete = contain.attempt(other, "noting what was handled", note, other, other == session);
		if complete or not ok then
			touched[other] = nil;
		end
	end
	if session and is_kept(session) then
		jn_handled(session.enjamb_stream, h);
	end
	local ok, err, unkept = jn_commit();
	if unkept then
		dismiss(unkept);
	end
	if not ok then
		failed(err);
		return false;
	elseif journal.failing then
		module:log("info", "The journal of sessions can be written again");
		journal.failing = nil;
	end
	if err and err ~= journal.trouble then -- it was written, but something else is wrong
		module:log("error", "The journal of sessions: %s", err);
	end
	journal.trouble = err or journal.trouble;
	write_down();
	if not session then return true; end
	if session.smacks_dismissed then return false; end
	session.smacks_committed_h = h;
	return true;
end

-- Acks that wait for the disk: whatever it has by now is acknowledged unasked (XEP-0198 §4).
local function disk_has_more()
	local durable = jn.durable();
	for session, wait in pairs(waiting) do
		local h;
		while wait[1] and wait[1].position <= durable do
			h = table_remove(wait, 1).h;
		end
		if not wait[1] then
			waiting[session] = nil;
		end
		if wait.done then
			if h then contain.attempt(nil, "going on with what waited for the disk", wait.done); end
		elseif h then
			session.smacks_durable_h = h;
			local of_host = by_host[session.host];
			if of_host and session.enjamb_stream and not session.destroyed and not session.hibernating then
				contain.attempt(session, "acknowledging", of_host.tell, session, h);
			end
		end
	end
end
journal.disk_has_more = disk_has_more;

-- What may be claimed to have been handled of `session` now: h, or less if that is not kept yet. At level "power" the rest
-- is acknowledged when it is.
local function committed(session, h)
	if not commit(session, h) then
		h = session.smacks_committed_h or 0;
	end
	if level ~= "power" or not journal.open then return h; end
	local durable = session.smacks_durable_h or 0;
	if h ~= durable then
		local wait = waiting[session] or {};
		local last = wait[#wait];
		if not last or last.h ~= h then
			last = { h = h, position = jn.sync() };
			wait[#wait+1] = last;
		end
		if last.position <= jn.durable() then
			-- There was nothing to write: what others asked of the disk had this in it.
			waiting[session] = nil;
			session.smacks_durable_h = h;
			return h;
		end
		waiting[session] = wait;
	end
	return durable;
end

-- The same for a <resumed/>, after which the peer sends again what it does not cover: so it is waited for, where
-- waiting is possible.
local function committed_for_good(session, h)
	if not commit(session, h) then
		return session.smacks_committed_h or 0;
	end
	if level ~= "power" or not journal.open then return h; end
	if h ~= session.smacks_durable_h then
		local wait, done = async.waiter(1, true);
		local entry = { position = jn.sync(), h = h };
		local waits = { entry, done = done };
		if async.ready() and jn.durable() < entry.position then
			waiting[waits] = waits;
			local timeout = timer.add_task(disk_patience, function ()
				waiting[waits] = nil;
				done();
			end);
			wait();
			timer.stop(timeout);
		end
		if jn.durable() < entry.position then
			return session.smacks_durable_h or 0;
		end
		session.smacks_durable_h = h;
	end
	return h;
end

-- What was in the journal of session `session` is on the disk: it came from there.
local function restored(session, h)
	session.smacks_committed_h, session.smacks_durable_h = h, h;
end

-- Nothing is owed to that stream's peer any more, and what was queued is elsewhere.
local function ended(key)
	jn.ended(key);
	sm.forget(key);
end

local function time_ago(seconds)
	if seconds < 120 then
		return ("%d seconds"):format(seconds);
	elseif seconds < 7200 then
		return ("%d minutes"):format(seconds // 60);
	end
	return ("%d hours"):format(seconds // 3600);
end

-- Opens the journal, unless another host has. Not before the server has started: with -D it forks after the modules are
-- loaded, and the journal has a thread.
local function watch_disk()
	if level ~= "power" or journal.watcher then return; end
	-- Through the table: a reload replaces the function.
	journal.watcher = server.watchfd(jn.watch(), function ()
		jn.woken();
		journal.disk_has_more();
	end);
end

local function open()
	if level == "none" then return false; end
	if journal.open then
		watch_disk();
		return true;
	end
	local directory = prosody.paths.data.."/enjamb-journal";
	local found, err = jn.open(directory);
	if not found then
		module:log("error", "The journal in %s cannot be opened, sessions will not outlive the server: %s", directory, err);
		return false;
	end
	journal.open = true;
	journal.recovery = found.seconds;
	if found.sessions and found.sessions > 0 then
		local age = found.written and math.max(0, os.time() - found.written);
		module:log("info", "%d sessions wait in the journal, which was last written %s (%s ago); it took %.1f seconds to read", found.sessions,
			found.written and os.date("!%Y-%m-%dT%H:%M:%SZ", found.written) or "at an unknown time", age and time_ago(age) or "?", found.seconds);
	end
	if found.torn and found.torn > 0 then
		module:log("info", "The journal's last %d bytes were not whole and were cut", found.torn);
	end
	if (found.damaged or 0) > 0 or (found.incomplete or 0) > 0 then
		module:log("error", "The journal is damaged in %d places, %d sessions miss something", found.damaged, found.incomplete);
	end
	watch_disk();
	return true;
end

-- What nobody asks to be acknowledged is kept all the same, a little later.
module:add_timer(1, function ()
	if journal.open then commit(); end
	return 1;
end);

-- After what was kept last (-90): the main loop does not end while anything is watched.
module:hook_global("server-stopping", function ()
	local watcher = journal.watcher;
	journal.watcher = nil;
	if watcher and watcher.close then
		watcher:close();
	elseif watcher then -- libevent
		watcher:setflags(false, false);
	end
end, -100);

module:hook_global("server-stopped", function ()
	if not journal.open then return; end
	commit();
	journal.open = false;
	local ok, err = pcall(jn.close);
	if not ok then
		module:log("error", "The journal could not be closed well: %s", err);
	end
end);

-- Metrics: of the whole process, so one host tells them.

local gauges = {};
for name, description in pairs {
	queued_stanzas = "stanzas that are not acknowledged, in all queues";
	queued_bytes = "bytes of stanzas that are not acknowledged, in all queues";
	queued_bytes_in_memory = "bytes among them that are in memory";
	journal_bytes = "size of the journal's files";
	journal_live_bytes = "bytes among them that are still needed";
	journal_commits = "writes to the journal since the start";
	journal_recovery_seconds = "how long the journal was read at the start";
} do
	gauges[name] = module:metric("gauge", name, "", description, {}):with_labels();
end

module:hook_global("stats-update", function ()
	if journal.measures == nil or not prosody.hosts[journal.measures] or not prosody.hosts[journal.measures].modules.smacks then
		journal.measures = host;
	end
	if journal.measures ~= host then return; end
	local stanzas, bytes, in_memory = sm.totals();
	gauges.queued_stanzas:set(stanzas);
	gauges.queued_bytes:set(bytes);
	gauges.queued_bytes_in_memory:set(in_memory);
	local stats = journal.open and jn.stats();
	if not stats then return; end
	gauges.journal_bytes:set(stats.disk_bytes);
	gauges.journal_live_bytes:set(stats.live_bytes);
	gauges.journal_commits:set(stats.commits);
	gauges.journal_recovery_seconds:set(journal.recovery or 0);
end);

return {
	describe_by = function (f) describe = f; end;
	write_down_by = function (f) write_down = f; end;
	-- dismiss(key, reason) ends the session of a stream that cannot be kept, if it is one of this host.
	dismiss_by = function (f) own.dismiss = f; end;
	commit = commit;
	committed = committed;
	committed_for_good = committed_for_good;
	ended = ended;
	is_kept = is_kept;
	keep = keep;
	open = open;
	restored = restored;
	-- tell(session, h) sends an ack that nobody asked for.
	tell_by = function (tell) own.tell = tell; end;
	touched = touched;
	unload = function () by_host[host] = nil; end;
};
