-- Streams that are closed: on purpose, when there is nothing to come back to; and because the server stops.

local async = require "util.async";
local sessionmanager = require "core.sessionmanager";
local time_now = require "util.time".now;
local timer = require "util.timer";

local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local sm = require "enjamb".smacks;

local ipairs = ipairs;

-- For so many seconds other servers are waited for, and looked at in between.
local patience, pause = 2, 0.02;

local touched = module:shared("/*/smacks/touched");
-- Until when, for all hosts.
local stopping = module:shared("/*/smacks/stopping");

-- Given by mod_smacks.lua.
local acknowledge, all_sessions, give_up, journal, release_held, remember, request_ack;

-- The end tag goes out next. `by_client`: it has closed the stream.
local function before_close(session, by_client)
	local key = own_of(session).stream;
	if not key then return; end
	local waiting = session.conn and connection.unanswered_stanzas(session, session.outgoing_stanza_queue:last()) or nil;
	local is_news, h = sm.close(key, by_client, waiting);
	if not is_news then return; end
	session.resumption_token = nil;
	connection.stop_waiting(session);
	acknowledge(session, session.smacks, h and journal.claim(session, h));
end

-- BOSH's own close does not fire pre-session-close. What is closed need not be the session: it may have another connection by then.
local function watch_bosh(session)
	local close = session.close;
	function session.close(self, reason)
		before_close(self, not reason);
		return close(self, reason);
	end
end

-- Writes down all that is kept of a session. Returns whether it is.
local function keep(session)
	if not journal.is_kept(session) then return false; end
	journal.keep(session);
	touched[session] = true;
	return journal.commit();
end

-- The server stops: clients are to come back, to their session if it is kept, else to ask what was handled.
local function stop(session)
	if session.resumption_token then
		release_held(session);
		local kept = keep(session);
		if not kept then
			remember(session);
			give_up(session);
		end
		connection.detach(session);
		if not kept then
			sessionmanager.destroy_session(session, "Server is shutting down");
		end
	end
end

-- Streams with other servers are closed after that. What was not acknowledged by then is returned, though it may have arrived.
-- Returns of how many that is so.
local function ask_servers()
	stopping.patient_until = stopping.patient_until or time_now() + patience;
	local n = 0;
	for _, session in ipairs(all_sessions()) do
		if session.sends2s and session.outgoing_stanza_queue:count_unacked() > 0 then
			n = n + 1;
			contain.attempt(session, "asking for an ack", request_ack, session, true);
		end
	end
	return n;
end

local function wait_for_servers()
	if ask_servers() == 0 or not async.ready() then return; end
	local wait, done = async.waiter();
	timer.add_task(pause, function ()
		if ask_servers() > 0 and time_now() < stopping.patient_until then return pause; end
		done();
	end);
	wait();
end

-- What they are not told now they take for lost, and return.
local function tell_servers()
	for _, session in ipairs(all_sessions()) do
		if session.sends2s then
			contain.attempt(session, "stopping a stream", before_close, session, false);
		end
	end
end

return {
	take = function (parts)
		acknowledge, give_up, journal = parts.acks.acknowledge, parts.undelivered.give_up, parts.journal;
		release_held, remember = parts.hibernate.release_held, parts.remembered.remember;
		all_sessions, request_ack = parts.managed.all, parts.asking.request;
	end;
	ask_servers = function () ask_servers(); end;
	before_close = before_close;
	stop = stop;
	tell_servers = tell_servers;
	wait_for_servers = wait_for_servers;
	watch_bosh = watch_bosh;
};
