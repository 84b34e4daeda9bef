-- Sessions whose connection is lost: they wait for their client, or end.

local async = require "util.async";
local sessionmanager = require "core.sessionmanager";
local st = require "util.stanza";
local timer = require "util.timer";
local watchdog = require "util.watchdog";

local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local queue_of = module:require "queue";
local sm = require "enjamb".smacks;
local waiting = module:require "waiting";

local ipairs, type = ipairs, type;
local os_time = os.time;

local session_of = module:shared("sessions");
local callbacks = module:shared("callbacks");

-- Given by mod_smacks.lua.
local give_up, journal, metrics, remember;

-- Waiting -----------------------------------------------------------------------------------------------------------------

-- A session that loses its connection, or gets another one, is active (XEP-0352 §5.2), and the modules that hold something
-- back for an inactive client are told so: they send it, and it comes into the queue. What they have is in no journal, and
-- what they remember of the session's filters is no longer so when it has those of another connection.
local function release_held(session)
	if not session.state or session.state == "active" then return; end
	session.state = "active";
	contain.fire("csi-client-active", session, { origin = session; stanza = st.stanza("active", { xmlns = "urn:xmpp:csi:0" }) });
end

-- Stands in for session.close while there is no connection: those of mod_websocket (0.12) and mod_bosh need one.
local function close_disconnected(session, reason)
	module:fire_event("pre-session-close", { session = session; reason = reason });
	if type(reason) == "table" then
		reason = reason.text or reason.condition or reason.name;
	end
	sessionmanager.destroy_session(session, reason or nil);
end

-- Modules know of all that is queued by now, and have seen to it.
local function note_told(session)
	own_of(session).n_told = session.outgoing_stanza_queue:count_unacked();
end

-- They are told that the session waits. `stanzas`: in place of what is queued.
local function tell(session, stanzas)
	own_of(session).n_told = nil;
	if not queue_of.is_hooked("smacks-hibernation-start") then return; end
	queue_of.fire("smacks-hibernation-start", session, { origin = session, queue = stanzas });
	if session.outgoing_stanza_queue then
		note_told(session);
	end
end

-- The same of one that came back. What is queued they have been told if its client was away when the server ended; the last of it
-- again, which they may not have seen to.
local function tell_again(session, had_waited)
	if not session.hibernating then return; end
	if not had_waited then return tell(session); end
	local own = own_of(session);
	local n_told = own.n_told;
	tell(session, {});
	if not n_told or session.destroyed or not own.stream then return; end
	local unacked, _, first = sm.counts(own.stream);
	own.n_told = n_told;
	for number = first + n_told, first + unacked - 1 do
		queue_of.fire_queued(session, number);
	end
end

function callbacks.told(session)
	local own = own_of(session);
	own.is_telling = nil;
	if session.destroyed or not session.hibernating or not own.stream then return; end
	note_told(session);
	journal.changed_away(session);
end

module:hook("smacks-save-session", function (event)
	event.state.n_told = own_of(event.session).n_told;
end);

module:hook("smacks-restore-session", function (event)
	local n_told = event.state.n_told;
	own_of(event.session).n_told = type(n_told) == "number" and n_told or nil;
end);

-- `is_back`: after a restart; others are told of that a little later.
local function start(session, timeout, is_back)
	release_held(session);
	session.hibernating = os_time();
	session.awaiting_ack = nil;
	session.close = close_disconnected;
	session.hibernating_watchdog = watchdog.new(timeout, function ()
		return callbacks.expired(session);
	end);
	connection.detach(session);
	waiting.let_go_of_connection(session);
	session.log("debug", "Hibernating for up to %d seconds", timeout);
	if not is_back then
		tell(session);
	end
end

-- Ending ------------------------------------------------------------------------------------------------------------------

local function expire_now(session, reason)
	local key = own_of(session).stream;
	if session.destroyed or not key then return; end
	session.log("debug", "Ending hibernation: %s", reason);
	if session.resumption_token then
		remember(session);
	end
	sm.revoke(key);
	session.resumption_token = nil;
	sessionmanager.destroy_session(session, reason);
	metrics.session_expired();
end

-- Nobody came back for it. Storage may wait, so what leads to it runs where waiting is possible.
local function expire(session, reason)
	if session.destroyed or not own_of(session).stream then return; end
	async.runner(function () expire_now(session, reason); end, {
		error = function (_, err)
			module:log("error", "Error while ending a session: %s", err);
		end;
	}):run(true);
end

local function expire_evicted(keys)
	for _, key in ipairs(keys) do
		local oldest = session_of[key];
		if oldest then
			contain.attempt(oldest, "ending a session", expire, oldest, "Too many hibernating sessions");
		end
	end
end

function callbacks.expired(session)
	if session.hibernating then
		expire(session, "Hibernating too long");
	end
end

-- The session of that stream has to end, because of "too much" that is queued, or since something is "unkept".
function callbacks.must_end(key, cause)
	local session = session_of[key];
	if not session or not sm.must_end(key, cause) then return; end
	-- Not now: whoever is sending may be looping over sessions, and somebody else's ack may be under way. What comes until
	-- then is queued as well, so that the order is kept.
	timer.add_task(0, function () return callbacks.ends(session, key, cause); end);
	return session;
end

function callbacks.ends(session, key, cause)
	if session.destroyed or own_of(session).stream ~= key then return; end
	local reason, err = sm.ending(key, cause);
	local queue = session.outgoing_stanza_queue;
	if reason then
		session.log("info", "Ending a disconnected session (%d stanzas, %d bytes): what is in its queue is stored or returned: %s",
			queue:count_unacked(), queue:count_bytes(), reason);
		expire(session, reason);
	elseif err then
		session.log("warn", "Closing a stream: %s: %s", err.text, queue);
		connection.close(session, err);
	end
end

-- What is to be kept of a session cannot be. For the journal, which knows streams only.
local function dismiss(key, why)
	local session = callbacks.must_end(key, "unkept");
	if session then
		session.log("error", "%s must end, it cannot be kept in the journal: %s", session.full_jid, why);
	end
end

-- The connection is lost. True: the session stays.
local function lost(session)
	local key = own_of(session).stream;
	if not key then return; end
	local timeout, more = sm.lost(key, os_time());
	if timeout then
		start(session, timeout);
		expire_evicted(more);
		return true;
	end
	if more then -- it could have been resumed, but none may wait
		remember(session);
	end
	give_up(session);
end

-- The same for one that came back after a restart, and has no connection yet.
local function waits_again(session, key, timeout)
	local may_wait, more = sm.lost(key, os_time());
	start(session, timeout, true);
	expire_evicted(may_wait and more or more and { key } or {});
end

return {
	take = function (parts)
		journal = parts.journal;
		give_up, metrics, remember = parts.undelivered.give_up, parts.metrics, parts.remembered.remember;
		parts.journal.dismiss_by(dismiss);
	end;
	close_disconnected = close_disconnected;
	expire = expire;
	lost = lost;
	release_held = release_held;
	tell_again = tell_again;
	waits_again = waits_again;
};
