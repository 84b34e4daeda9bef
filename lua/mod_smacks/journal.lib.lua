-- What is kept of sessions, and what may therefore be acknowledged.
--
-- The library's journal follows the streams by itself. This file says when what it noted has to be on its way to the
-- disk: before anything is acknowledged (level "process"), or there (level "power"), or in the database too (level
-- "replicated"; replica.lib.lua); and what is queued before others can be told of what it follows from. It also tells the admin how
-- the journal is. What is kept of a session beside its stream is known to state.lib.lua, when it comes back to restore.lib.lua.

local async = require "util.async";
local server = require "net.server";
local timer = require "util.timer";

local enjamb = require "enjamb";
local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";

local jn, sm = enjamb.journal, enjamb.smacks;
local jn_claim, jn_commit, jn_processed = jn.claim, jn.commit, jn.processed;
local waiting_stanzas = connection.waiting_stanzas;
local is_the_one = require "enjamb.one_host"(module);
local open_journal = require "enjamb.open_journal";
local versions = require "enjamb.prosody";
local floor = math.floor;
local pairs, pcall, rawget = pairs, pcall, rawget;

-- For how many seconds a resumption waits for the disk, at level "power".
local disk_patience = 5;

local host = module.host;

local level = module:get_option_string("smacks_durability", "process");
if level ~= "process" and level ~= "power" and level ~= "replicated" and level ~= "none" then
	module:log("error", "Option 'smacks_durability' must be \"process\", \"power\", \"replicated\" or \"none\", not %q, using \"process\"", level);
	level = "process";
end

-- The journal is the process's: whichever host comes first opens it.
local journal = module:shared("/*/smacks/journal");
-- Sessions on which something came in since the last commit. Shared, since a commit is everybody's.
local touched = module:shared("/*/smacks/touched");
-- Whether something was queued since the last commit (queued), and whether it is committed at the end of the turn (has_end).
local turn = module:shared("/*/smacks/turn");
-- At level "power", by key of their stream: what waits for the disk to have more, in place of an ack.
local resuming = module:shared("/*/smacks/resuming");
-- By host: what each does with its own sessions, keep(session, settled), dismiss(key, reason) and tell(key, h), and whether it
-- keeps any (is_kept).
local by_host = module:shared("/*/smacks/keeping");
local this_host = {};
by_host[host] = this_host;
-- By component, what notes there how its rooms are (mod_muc_enjamb): false if that could not be done now.
local before_claims = module:shared("/*/smacks/before_claims");

-- Whether a session outlives the server: levels are the host's, and not every account can come back.
function this_host.is_kept(session)
	return level ~= "none" and journal.open and session.resumption_token ~= nil and own_of(session).timeout ~= nil
		and not own_of(session).in_memory_only;
end
local is_kept = this_host.is_kept;

local function failed(err)
	if not journal.failing then
		module:log("error", "The journal of sessions cannot be written, nothing more is acknowledged until it can be: %s", err);
		journal.failing = true;
	end
end

-- Tell the library what is so of a session, what has changed or all: state.lib.lua's.
local note_state, note_all_state;
-- Writes what clients know of their contacts: contacts.lib.lua's.
local write_down;
-- The copy of the journal on a database: replica.lib.lua's.
local replica;

-- The sessions of these streams cannot be kept, so they have to end. That is nobody else's trouble.
local function dismiss(unkept)
	for key, reason in pairs(unkept) do
		for _, of_host in pairs(by_host) do
			contain.attempt(nil, "ending a session that cannot be kept", of_host.dismiss, key, reason);
		end
	end
end

local function keep_by(note_it, session, settled)
	own_of(session).state_changed = nil;
	local told, ok, err = contain.attempt(session, "describing a session for the journal", note_it, session, own_of(session).timeout, settled);
	if not told then
		dismiss { [own_of(session).stream] = "an error was raised" };
	elseif not ok then
		failed(err);
	end
end

-- Keeps what has changed of a session. `settled`: nothing that changes it is being processed.
function this_host.keep(session, settled)
	keep_by(note_state, session, settled);
end

-- Keeps all that there is to it.
local function keep(session)
	keep_by(note_all_state, session, true);
end

-- Notes what has been processed of what came in on a session, unless that is about to be claimed. Returns whether it is all.
local function note(session, is_claiming)
	local key, of_host = own_of(session).stream, by_host[session.host];
	if not key or session.destroyed or not of_host or not of_host.is_kept(session) then return true; end
	local n_waiting = waiting_stanzas(session);
	local changed, n_done = own_of(session).state_changed, (session.handled_stanza_count or 0) - n_waiting;
	if changed and changed ~= n_done then
		of_host.keep(session, n_waiting == 0);
		-- What is being processed may change it once more.
		own_of(session).state_changed = n_waiting > 0 and n_done or nil;
	end
	if not is_claiming then
		jn_processed(key, n_waiting);
	end
	return n_waiting == 0; -- else its count is not yet what it will be
end

local function note_rooms()
	local all = true;
	for _, note_changes in pairs(before_claims) do
		all = note_changes() and all;
	end
	return all;
end

local function note_all(claiming)
	for session in pairs(touched) do
		local ok, complete = contain.attempt(session, "noting what was handled", note, session, session == claiming);
		if complete or not ok then
			touched[session] = nil;
		end
	end
end

-- What a commit has to tell: why nothing could be written, and what cannot be kept.
local function heed(err, unkept)
	if unkept then
		dismiss(unkept);
	end
	if err then
		failed(err);
	elseif journal.failing then
		module:log("info", "The journal of sessions can be written again");
		journal.failing = nil;
	end
	if err then return false; end
	write_down();
	return true;
end

-- Hands what is noted to the operating system. Returns whether that was done.
local function commit()
	if level == "none" or not journal.open then return true; end
	turn.queued = nil;
	note_rooms();
	note_all();
	return heed(jn_commit());
end

-- The same where it does not matter what was handled.
function this_host.hand_over()
	return heed(jn_commit());
end

-- What was queued is more than the journal's: a message is in an archive, a roster has changed, an offline message was given out and is
-- nowhere else. A client that resumes asks for none of these. So it is committed before anybody is told anything, and what is for a
-- client that is away, of which nobody need be told, at the end of the turn.
local function before_it_is_told()
	if turn.queued then commit(); end
end

-- With much to do the timer waits, so both.
module:hook("c2s-pre-ondrain", before_it_is_told, 500);
module:hook("s2s-pre-ondrain", before_it_is_told, 500);

local function end_of_turn()
	turn.has_end = nil;
	before_it_is_told();
end

-- What was just queued (turn.queued) is for a session without a connection.
local function queued_away(session)
	if level == "none" or not journal.open then return; end
	if not turn.has_end then
		turn.has_end = true;
		timer.add_task(0, end_of_turn);
	end
	-- It may be what the client is told of a roster that has changed.
	local own, roster = own_of(session), rawget(session, "roster");
	if roster and roster[false] and roster[false].version ~= own.noted_roster_version then
		own.state_changed = true;
		touched[session] = true;
	end
end

-- Something else that is kept of such a session is another.
local function changed_away(session)
	own_of(session).state_changed = true;
	touched[session] = true;
	turn.queued = true;
	queued_away(session);
end

-- It sends them and deletes them in one go, in the middle of the presence that asks for them: what the session is then is not to be noted.
module:wrap_event("message/offline/broadcast", function (handlers, name, event)
	local result = handlers(name, event);
	if level ~= "none" and journal.open then
		this_host.hand_over();
	end
	return result;
end);

-- What may be claimed to have been handled of `session` now: h, or less if that is not kept yet, or nothing if that cannot be
-- told; and whether more may be when the disk has it.
local function claim(session, h)
	if level ~= "none" and journal.open and not note_rooms() then
		commit(); -- there may be room for it again
		if not note_rooms() then return nil, false; end
	end
	note_all(session);
	turn.queued = nil;
	local claimed, pending, err, unkept = jn_claim(own_of(session).stream, h, level, journal.disk_is_at);
	if level ~= "none" and journal.open then -- else nothing was written
		heed(err, unkept);
	end
	return claimed, pending;
end

-- The disk has more (level "power"), or the database: that is acknowledged unasked (XEP-0198 §4).
local function disk_has_more()
	for key, h in pairs(jn.settled(journal.disk_is_at)) do
		if resuming[key] then
			contain.attempt(nil, "going on with what waited for the disk", resuming[key], h);
		else
			for _, of_host in pairs(by_host) do
				contain.attempt(nil, "acknowledging", of_host.tell, key, h);
			end
		end
	end
end
journal.disk_has_more = disk_has_more;

-- The same for a <resumed/>, after which the peer sends again what it does not cover, and is sent what it has missed: so the
-- disk is waited for, where waiting is possible. Nothing if it cannot be told what was handled.
local function claim_for_good(session, h)
	local claimed, pending = claim(session, h);
	if not pending or not async.ready() then return claimed; end
	local key = own_of(session).stream;
	local wait, done = async.waiter(1, true);
	resuming[key] = function (has)
		claimed = has;
		if has == h then done(); end
	end;
	local timeout = timer.add_task(disk_patience, function () done(); end);
	wait();
	timer.stop(timeout);
	resuming[key] = nil;
	return claimed;
end

local function time_ago(seconds)
	if seconds < 120 then
		return ("%d seconds"):format(seconds);
	elseif seconds < 7200 then
		return ("%d minutes"):format(floor(seconds / 60));
	end
	return ("%d hours"):format(floor(seconds / 3600));
end

-- Level "replicated" where there is no replica, since the admin wants to go on without (smacks_replica_required). Returns whether that is news.
local function do_without_replica()
	if level ~= "replicated" or replica.is_wanted() then return false; end
	module:log("error", "There is no replica, so what is acknowledged is on the disk, and nowhere else (level \"power\")");
	level = "power";
	return true;
end

-- When its connection is lost, a session is compared as a whole: a module may have changed what nobody heard of.
module:hook("pre-resource-unbind", function (event)
	local session = event.session;
	if own_of(session).stream then
		own_of(session).noted, own_of(session).state_changed = nil, true;
		touched[session] = true;
	end
end, 1);

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
	if level == "none" or not replica.may_open() then return false; end
	do_without_replica();
	if journal.open then
		watch_disk();
		return true;
	end
	local found = open_journal(module, "sessions will not outlive the server");
	if not found then return false; end
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
	local damaged, incomplete = found.damaged or 0, found.incomplete or 0;
	if damaged > 0 then
		module:log("error", "The journal is damaged in %d places, %d sessions miss something", damaged, incomplete);
	elseif incomplete > 0 then -- as at each start until they end
		module:log("warn", "The journal has no new damage, but %d sessions still miss something that was lost earlier", incomplete);
	end
	replica.attach();
	watch_disk();
	return true;
end

this_host.open = open;

-- What nobody asks to be acknowledged is kept all the same, a little later.
module:add_timer(1, function ()
	if journal.open then
		if do_without_replica() then
			watch_disk();
		end
		commit();
	end
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
	replica.release();
	journal.open = false;
	local ok, err = pcall(jn.close);
	if not ok then
		module:log("error", "The journal could not be closed well: %s", err);
	end
end, -20); -- mod_minimix writes down at -10

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
	gauges[name] = versions.metric(module, "gauge", name, "", description);
end

module:hook_global("stats-update", function ()
	if not is_the_one() then return; end
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
	take = function (parts) replica = parts.replica; end;
	-- note_changes(session, timeout, settled) and note_whole(session, timeout) tell the library what is so of a session.
	note_by = function (note_changes, note_whole) note_state, note_all_state = note_changes, note_whole; end;
	write_down_by = function (f) write_down = f; end;
	-- dismiss(key, reason) ends the session of a stream that cannot be kept, if it is one of this host.
	dismiss_by = function (f) this_host.dismiss = f; end;
	changed_away = changed_away;
	claim = claim;
	claim_for_good = claim_for_good;
	commit = commit;
	-- ended(key): nothing is owed to that stream's peer any more, and what was queued is elsewhere.
	ended = jn.ended;
	is_kept = is_kept;
	keep = keep;
	keep_changes = this_host.keep;
	open = open;
	queued_away = queued_away;
	-- tell(key, h) sends an ack that nobody asked for, if the stream is one of this host.
	tell_by = function (tell) this_host.tell = tell; end;
	unload = function () by_host[host] = nil; end;
};
