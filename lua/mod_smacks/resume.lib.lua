-- <resume/>: a session gets another connection, and is sent what it has missed.

local st = require "util.stanza";
local timer = require "util.timer";

local connection = module:require "connection";
local own_of = module:require "session";
local queue_of = module:require "queue";
local rights = module:require "rights";
local sm = require "enjamb".smacks;
local waiting = module:require "waiting";

local format, max = string.format, math.max;
local os_time = os.time;
local select, tostring = select, tostring;

local session_of = module:shared("sessions");
local callbacks = module:shared("callbacks");

-- Given by mod_smacks.lua.
local acks, fields, filters, journal, metrics, negotiate, recall, release_held, request_ack, verify;

-- What it has missed ------------------------------------------------------------------------------------------------------

-- Hands the connection what it is to be sent again, as long as it takes it.
local function send_turn(session, key)
	local conn, from, framed = session.conn, session.outgoing_stanza_queue.from, session.websocket_request ~= nil;
	local bytes, lost = sm.next_piece(key, framed, from);
	while bytes do
		if lost > 0 then
			session.log("error", "%d stanzas that were queued for %s are damaged on disk and lost", lost, session.full_jid);
		end
		if session.rawsend(bytes) == false then
			connection.refused(session);
		end
		if session.conn ~= conn or session.destroyed then return; end -- it is lost again
		bytes, lost = sm.next_piece(key, framed, from);
	end
	if lost then -- why it cannot be read
		session.log("error", "What is queued for %s cannot be read, it stays in the journal: %s", session.full_jid, lost);
		connection.close(session, sm.stream_error("unreadable"));
	end
end

-- The same, turn by turn, until all is sent.
function callbacks.resend(session)
	local own = own_of(session);
	local key = own.stream;
	if session.destroyed or session.hibernating or not key then return; end
	connection.resume_writes(session);
	local more_in;
	if sm.begin_turn(key) then -- else the connection has taken something within rawsend()
		send_turn(session, key);
		more_in = sm.end_turn(key);
	end
	request_ack(session, not more_in);
	if more_in and not own.resend_timer then
		own.resend_timer = timer.add_task(more_in, function ()
			own.resend_timer = nil;
			callbacks.resend(session);
		end);
	end
end

-- The connection has taken all that it was given.
local function drained(session)
	local own = session.enjamb;
	if not own then return; end
	own.draining = nil;
	if own.resend_timer then
		timer.stop(own.resend_timer);
		own.resend_timer = nil;
		callbacks.resend(session);
	end
end

-- What a client was sent just before it says that nobody looks may still be in the connection that mod_csi_simple pauses, be
-- it urgent or not; that will pause it again when it is empty. So too what it has missed, and <resumed/>, if it resumes in the
-- background and says so at once.
local function inactive(session)
	if own_of(session).draining or connection.has_unsent(session) then
		connection.resume_writes(session);
	end
end

-- Another connection ------------------------------------------------------------------------------------------------------

-- Gives `session` the connection of `from`. What came in behind `element`, the <resume/>, counts here.
local function adopt_connection(session, from, element)
	local n_behind = connection.waiting_stanzas(from, element);
	local watchers = from.thread and from.thread.watchers;
	session.role = rights.resumed(session, from);
	fields.take_over(session, from);
	connection.adopt(session, from);
	waiting.ends(session, watchers);
	session.awaiting_ack = nil;
	own_of(session).draining = true;
	filters.add(session);
	session.handled_stanza_count = sm.received_behind(own_of(session).stream, session.handled_stanza_count, n_behind);
end

-- Takes the steps to the point at which the session can be resumed. Returns it and what was found of it; or nil and why not.
local function find(session, attempt)
	local step, found = attempt:next();
	if step == "settle" then
		local original = session_of[found];
		if original then
			connection.settle(original);
		end
		if session.destroyed then
			step, found = attempt:refuse("connection lost");
		else
			step, found = attempt:next();
		end
	end
	if step == "refuse" then return nil, found; end
	local original = session_of[found.key];
	if not original or original.destroyed then
		session.log("error", "The session to resume is lost, please report this");
		sm.revoke(found.key);
		journal.ended(found.key);
		return nil, select(2, attempt:refuse("session lost"));
	end
	return original, found;
end

-- What <resumed/> says was handled, which mod_sasl2_sm writes itself. If not all of it is kept, the client sends the rest again.
-- False if nobody can tell.
local function settle_count(session, key)
	local kept = journal.claim_for_good(session, session.handled_stanza_count);
	if not kept then return false; end
	if kept ~= session.handled_stanza_count then
		sm.recount(key, kept);
		session.handled_stanza_count = kept;
	end
	return true;
end

-- Decides on a <resume/>. Returns nil and an error, or a table whose finish() is to be called once the client has been
-- told.
local function resume(session, stanza)
	local previd = stanza.attr.previd;
	local attempt = sm.resumption(negotiate.origin_of(session), previd, stanza.attr.h);
	local original, found = find(session, attempt);
	if not original then
		session.log("debug", "Not resuming: %s", found.text);
		local old_h = found.remembered and recall(session, previd) or nil;
		if old_h then metrics.resumption_expired(); end
		return nil, negotiate.error(found, old_h);
	end

	if verify(original) then
		return nil, negotiate.error(select(2, attempt:refuse("disk silent")));
	elseif original.destroyed then
		return nil, negotiate.error(select(2, attempt:refuse("session lost")));
	end
	release_held(original);
	local key = found.key;
	local tell = queue_of.is_hooked("delivery/success") and acks.fire_success(original, key, found.acked);
	local step, resumed = attempt:next();
	if step == "refuse" then
		return nil, negotiate.error(resumed);
	end
	original.outgoing_stanza_queue:purge();
	local age = resumed.since and max(0, os_time() - resumed.since) or 0;
	connection.stop_waiting(original);
	if original.conn then
		connection.close_replaced(original);
	end
	original.log("debug", "Resumed by %s after %d seconds with %d stanzas to send again",
		tostring(session.id or session.ip), age, (sm.counts(key)));
	adopt_connection(original, session, stanza);
	original.smacks = stanza.attr.xmlns;
	if not settle_count(original, key) then
		connection.lost(original, "The disk does not say what it has");
		return nil, negotiate.error(select(2, attempt:refuse("disk silent")));
	end

	return {
		type = "resumed";
		session = original;
		id = previd;
		finish = function ()
			callbacks.resend(original);
			metrics.resumed(resumed.acked, age);
			if tell then tell(); end
			queue_of.fire("smacks-hibernation-end", original, { origin = session, resumed = original });
		end;
	};
end

local function handle_resume(session, stanza)
	local xmlns = stanza.attr.xmlns;
	local resumed, err = resume(session, stanza);
	if not resumed then
		negotiate.send_failed(session, xmlns, err);
		return true;
	end
	session = resumed.session;
	session.send(st.stanza("resumed", {
		xmlns = xmlns;
		previd = resumed.id;
		h = format("%d", session.handled_stanza_count);
	}));
	resumed.finish();
	return true;
end

return {
	take = function (parts)
		acks, fields, filters, journal = parts.acks, parts.fields, parts.filters, parts.journal;
		metrics, negotiate, recall = parts.metrics, parts.negotiate, parts.remembered.recall;
		release_held, request_ack = parts.hibernate.release_held, parts.asking.request;
	end;
	drained = drained;
	handle_resume = handle_resume;
	inactive = inactive;
	resume = resume;
	-- verify(session) says why nobody can tell whether the session may be resumed, if that is so; and may end it.
	verify_by = function (f) verify = f; end;
};
