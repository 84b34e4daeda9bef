-- Streams that are closed: on purpose, when there is nothing to come back to; and because the server stops.

local sessionmanager = require "core.sessionmanager";

local connection = module:require "connection";
local own_of = module:require "session";
local sm = require "enjamb".smacks;

local touched = module:shared("/*/smacks/touched");

-- Given by mod_smacks.lua.
local acknowledge, give_up, journal, release_held, remember;

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
	elseif session.sends2s then
		-- What the other server is not told now it takes for lost, and returns.
		before_close(session, false);
	end
end

return {
	take = function (parts)
		acknowledge, give_up, journal = parts.acks.acknowledge, parts.undelivered.give_up, parts.journal;
		release_held, remember = parts.hibernate.release_held, parts.remembered.remember;
	end;
	before_close = before_close;
	stop = stop;
	watch_bosh = watch_bosh;
};
