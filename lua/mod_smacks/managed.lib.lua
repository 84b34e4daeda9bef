-- Sessions that are managed: putting one under management, and taking it out.

local connection = module:require "connection";
local own_of = module:require "session";
local queue_of = module:require "queue";
local sm = require "enjamb".smacks;

local pairs = pairs;

-- By key. Outlives a reload, like the streams themselves.
local session_of = module:shared("sessions");
local touched = module:shared("/*/smacks/touched");

-- Given by mod_smacks.lua.
local contacts, filters, journal, metrics, options, state;

-- Ties a session to its stream in the library. `h`: how many stanzas have come in; nil: none are counted yet.
local function attach(session, key, handle, xmlns, id, timeout, h)
	local own = own_of(session);
	session.smacks = xmlns;
	session.resumption_token = id;
	session.handled_stanza_count = h;
	session.outgoing_stanza_queue = queue_of.new(key, handle, connection.bare_jid(session));
	own.timeout = timeout;
	own.stream = key;
	session_of[key] = session;
	filters.add(session);
end

-- Puts a session under management. `waiting` stanzas have come in behind its <enable/>; nil: none are counted yet.
local function manage(session, xmlns, id, timeout, waiting)
	-- Resumable or not, its queue counts for the account.
	local account = session.username and connection.bare_jid(session) or nil;
	local key, handle = sm.start(options.limits, account, id, timeout, waiting);
	attach(session, key, handle, xmlns, id, timeout, waiting);
	if id and not state.can_come_back(session) then
		own_of(session).in_memory_only = true;
	end
	if journal.is_kept(session) then
		journal.keep(session);
		touched[session] = true;
		contacts.kept(session);
	end
	metrics.session_started();
end

-- What the library has of the stream stays until its queue is let go.
local function stop(session)
	local own = own_of(session);
	local key = own.stream;
	own.stream = nil;
	session.outgoing_stanza_queue = nil;
	session.resumption_token = nil;
	session.smacks = false;
	session.awaiting_ack = nil;
	session_of[key] = nil;
	touched[session] = nil;
	connection.stop_waiting(session);
	sm.revoke(key);
end

local function all()
	local sessions = {};
	for _, session in pairs(session_of) do
		if own_of(session).stream and not session.destroyed then
			sessions[#sessions+1] = session;
		end
	end
	return sessions;
end

return {
	take = function (parts)
		contacts, filters, journal = parts.contacts, parts.filters, parts.journal;
		metrics, options, state = parts.metrics, parts.options, parts.state;
	end;
	all = all;
	attach = attach;
	manage = manage;
	stop = stop;
};
