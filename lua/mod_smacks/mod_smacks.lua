-- XEP-0198: Stream Management, the Prosody side of Enjamb.
--
-- This file turns Prosody's events into calls and the answers into what Prosody does. It decides nothing about the
-- protocol: that is done by the library (crates/stream-management), which also keeps the counters and the queue.
--
-- Beside it: queue (what other modules see of it), connection (what a session is to Prosody), journal (what is kept, and
-- may therefore be acknowledged), state (what a session is made of again), fields (what other modules keep on it),
-- restore, rooms, contacts, pep and shell.
--
-- A managed session has session.enjamb_stream, the library's key of its stream. The other fields are those that
-- modules know from Prosody's own mod_smacks.

local add_filter = require "util.filters".add_filter;
local async = require "util.async";
local errors = require "util.error";
local jid = require "util.jid";
local parse_xml = require "util.xml".parse;
local remove_filter = require "util.filters".remove_filter;
local sessionmanager = require "core.sessionmanager";
local st = require "util.stanza";
local statsmanager = require "core.statsmanager";
local time_now = require "util.time".now;
local timer = require "util.timer";
local watchdog = require "util.watchdog";

local enjamb = require "enjamb";
local version = "0.1.0";
if enjamb.version ~= version then
	-- A reload loads this file anew, but never the library.
	error("mod_smacks is of Enjamb "..version..", the library in memory of "..tostring(enjamb.version)
		..": restart Prosody after installing another version", 0);
end
local sm = enjamb.smacks;
local connection = module:require "connection";
local contacts = module:require "contacts";
local contain = module:require "contain";
local fields = module:require "fields";
local journal = module:require "journal";
local pep = module:require "pep";
local queue_of = module:require "queue";
local rights = module:require "rights";
local rooms = module:require "rooms";
local room_services = module:require "mod_muc_enjamb/loading";
local sending = module:require "sending";
local shell = module:require "shell";
local state = module:require "state";

local filters_out, filters_in = "stanzas/out", "stanzas/in";
local format = string.format;
local get_counts, sm_ack, sm_push, sm_received, sm_wants_ack = sm.counts, sm.ack, sm.push, sm.received, sm.wants_ack;
local ipairs, next, pairs, tostring, type = ipairs, next, pairs, tostring, type;
local os_time = os.time;

local xmlns_client = "jabber:client";
local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local xmlns_mam = "urn:xmpp:mam:2";
local xmlns_sid = "urn:xmpp:sid:0";
local xmlns_sm2, xmlns_sm3 = "urn:xmpp:sm:2", "urn:xmpp:sm:3";
local xmlns_streams = "http://etherx.jabber.org/streams";

local is_stanza_name = { message = true, presence = true, iq = true };
local is_sm = { [xmlns_sm2] = true, [xmlns_sm3] = true };

-- What Prosody fires for an <a/> or <r/>.
local event_of = {};
for xmlns in pairs(is_sm) do
	event_of[xmlns] = { a = "stanza/"..xmlns..":a", r = "stanza/"..xmlns..":r" };
end

-- Resent stanzas are handed to the connection in pieces of about this many bytes, and no more than so many at a time:
-- the rest stays where it is until the connection has taken them. If nothing says that it has, that is tried again after
-- some seconds.
local resend_piece, resend_batch, resend_patience = 16384, 262144, 5;

-- Options -----------------------------------------------------------------------------------------------------------

local function whole_number(name, default, min, max, value)
	if value ~= value or type(value) ~= "number" or value < min then
		module:log("error", "Option '%s' must be a number from %d, using %d", name, min, default);
		return default;
	end
	-- "never" is infinite
	return math.floor(math.min(value, max));
end

local function get_number(name, default, min)
	return whole_number(name, default, min, 2^53, module:get_option_number(name, default));
end

local function get_period(name, default)
	if module.get_option_period then -- Prosody 13
		return whole_number(name, default, 0, 0x7fffffff, module:get_option_period(name, default));
	end
	return whole_number(name, default, 0, 0x7fffffff, module:get_option_number(name, default));
end

local s2s_smacks = module:get_option_boolean("smacks_enabled_s2s", true);
local s2s_resend = module:get_option_boolean("smacks_s2s_resend", false);
local max_ack_delay = get_period("smacks_max_ack_delay", 30);
local max_old_sessions = get_number("smacks_max_old_sessions", 10, 0);

local hibernation_time = get_period("smacks_hibernation_time", 600);

local limits = sm.limits {
	hibernation_time = hibernation_time;
	queue_stanzas = get_number("smacks_max_queue_size", 500, 1);
	queue_bytes = get_number("smacks_max_queue_bytes", 64 * 1024 * 1024, 1);
	account_bytes = get_number("smacks_max_account_queue_bytes", 256 * 1024 * 1024, 1);
	server_bytes = get_number("smacks_max_server_queue_bytes", 8 * 1024 * 1024 * 1024, 1);
	memory_bytes = get_number("smacks_max_memory_queue_bytes", 256 * 1024 * 1024, 1);
	unacked = get_number("smacks_max_unacked_stanzas", 0, 0);
	inactive_unacked = get_number("smacks_max_inactive_unacked_stanzas", 256, 0);
	hibernated = get_number("smacks_max_hibernated_sessions", 10, 0);
};

-- Metrics, named as Prosody's -----------------------------------------------------------------------------------------

-- Without statistics they are something that answers to every call.
local has_metrics = statsmanager.get_metric_registry() and true;

local tx_queued_stanzas = module:measure("tx_queued_stanzas", "counter");
local tx_dropped_stanzas = module:metric("histogram", "tx_dropped_stanzas", "", "number of stanzas in a queue which got dropped",
	{}, { buckets = { 0, 1, 2, 4, 8, 16, 32 } }):with_labels();
local tx_acked_stanzas = module:metric("histogram", "tx_acked_stanzas", "", "number of items acked per ack received",
	{}, { buckets = { 0, 1, 2, 4, 8, 16, 32 } }):with_labels();
local resumption_expired = module:measure("session_resumption_expired", "counter");
local resumption_age = module:metric("histogram", "resumption_age", "seconds",
	"time the session had been hibernating at the time of a resumption",
	{}, { buckets = { 0, 1, 12, 60, 360, 900, 1440, 3600, 14400, 86400 } }):with_labels();
local sessions_expired = module:measure("sessions_expired", "counter");
local sessions_started = module:measure("sessions_started", "counter");

-- Counted here and told when somebody asks: a call per stanza would cost more than queueing it.
local n_queued = 0;
module:hook_global("stats-update", function ()
	if n_queued > 0 then
		tx_queued_stanzas(n_queued);
		n_queued = 0;
	end
end);

-- State ---------------------------------------------------------------------------------------------------------------

local host = module.host;
local get_handlers = prosody.hosts[host].events.get_handlers;
local old_sessions = module:open_store("smacks_h");

-- By key. Outlives a reload, like the streams themselves.
local session_of = module:shared("sessions");
-- What timers of managed sessions call, so that after a reload they call the new code.
local callbacks = module:shared("callbacks");

local close_stream, is_bosh, waiting_stanzas = connection.close, connection.is_bosh, connection.waiting_stanzas;
journal.describe_by(state.describe);
journal.write_down_by(contacts.write_down);
local commit, is_kept, touched = journal.commit, journal.is_kept, journal.touched;
local fire_with_queue, is_hooked = queue_of.fire, queue_of.is_hooked;

local function bare_jid(session)
	return session.username and (session.username.."@"..session.host) or host;
end

local function send(session, element)
	return (session.sends2s or session.send)(element);
end

-- Defined below: the filter of what goes out.
local outgoing;

-- Whether nothing but this module, and the transport, has a say in what the session sends. mod_csi_simple has while the
-- client is inactive: it has paused the connection, and lets go what has come through its filter.
local function sends_alone(session)
	local list = session.filters and session.filters[filters_out];
	if not list or list[1] ~= outgoing then return false; end
	if session.sends2s then return list[2] == nil; end
	-- mod_websocket's filter declares the namespace of stanzas, and ours declare their own.
	return list[session.websocket_request and 3 or 2] == nil and sending.is_ours(session);
end

-- Sends one of our own elements: as text, past filters that are not there, or as others expect it.
local function send_element(session, text)
	if session.smacks_closing then
		return; -- the stream may have its end tag already
	elseif not sends_alone(session) then
		return (session.sends2s or session.send)(parse_xml(text));
	end
	return (session.sends2s or session.rawsend)(text);
end

local request_of = {
	[xmlns_sm2] = "<r xmlns='"..xmlns_sm2.."'/>";
	[xmlns_sm3] = "<r xmlns='"..xmlns_sm3.."'/>";
};

-- Storage may wait, so what leads to it runs where waiting is possible.
local function run_async(what, f)
	async.runner(f, {
		error = function (_, err)
			module:log("error", "Error while %s: %s", what, err);
		end;
	}):run(true);
end

-- Asking for acks -------------------------------------------------------------------------------------------------------

function callbacks.ack_delayed(session)
	if session.destroyed or session.hibernating or not session.awaiting_ack then
		session.delayed_ack_timer = nil;
		return;
	end
	local left = session.ack_requested_at + max_ack_delay - time_now();
	if left > 0 then
		return left; -- that request was answered, this is a later one
	end
	session.delayed_ack_timer = nil;
	session.log("debug", "No answer to an ack request for %d seconds", max_ack_delay);
	fire_with_queue("smacks-ack-delayed", session, { origin = session });
end

-- Sessions that are to be asked a little later.
callbacks.to_ask = callbacks.to_ask or {};

local function request_ack(session, force)
	local key = session.enjamb_stream;
	if not key or session.destroyed or session.awaiting_ack then return; end
	local now = time_now();
	local wanted = sm_wants_ack(key, session.state == "inactive", force or false, now * 1000 // 1);
	if wanted ~= true then
		if wanted == false then return; end
		if next(callbacks.to_ask) == nil then
			timer.add_task(wanted / 1000, function () callbacks.ask_late(); end);
		end
		callbacks.to_ask[session] = true;
		return;
	end
	sm.requested(key, now * 1000 // 1);
	session.awaiting_ack = true;
	session.ack_requested_at = now;
	if max_ack_delay > 0 and not session.delayed_ack_timer then
		session.delayed_ack_timer = timer.add_task(max_ack_delay, function ()
			return callbacks.ack_delayed(session);
		end);
	end
	send_element(session, request_of[session.smacks]);
end

function callbacks.ask_late()
	local sessions = callbacks.to_ask;
	callbacks.to_ask = {};
	for session in pairs(sessions) do
		contain.attempt(session, "asking for an ack", request_ack, session);
	end
end

for event_name, force in pairs {
	["csi-client-active"] = true;
	["csi-flushing"] = false;
	["c2s-pre-ondrain"] = false;
	["s2s-pre-ondrain"] = false;
} do
	module:hook(event_name, function (event)
		request_ack(event.session or event.origin, force);
	end);
end

local function handle_read_timeout(event)
	local session = event.session;
	if not session.enjamb_stream then return; end
	local last = session.smacks_silent_at;
	if not session.awaiting_ack then
		request_ack(session, true);
	elseif last and session.ack_requested_at <= last then
		return false; -- it was asked, had a whole period to answer, and said nothing: the connection is dead
	end
	session.smacks_silent_at = time_now();
	return true;
end

module:hook("c2s-read-timeout", handle_read_timeout);
module:hook("s2s-read-timeout", handle_read_timeout);

-- What goes out and what comes in ---------------------------------------------------------------------------------------

local function end_full(key)
	local session = session_of[key];
	if not session or session.smacks_over_limit then return; end
	session.smacks_over_limit = true;
	-- Not now: whoever is sending may be looping over sessions. What comes until then is queued as well, so that
	-- the order is kept.
	timer.add_task(0, function ()
		if session.smacks_over_limit and not session.destroyed then
			return callbacks.full(session);
		end
	end);
end

function outgoing(stanza, session)
	local key = session.enjamb_stream;
	if not key then return stanza; end
	-- The bytes serve only if no filter comes after this one: mod_websocket's wants a stanza.
	local list = session.filters[filters_out];
	local bytes, over_limit = sm_push(key, stanza, list[#list] == outgoing);
	if bytes then
		n_queued = n_queued + 1;
		if over_limit then
			end_full(over_limit);
		end
		if bytes == true then return stanza; end
		return bytes;
	elseif bytes == nil then
		if over_limit then -- a message: it cannot be serialised, which is for the sender to know
			session.log("error", "%s", over_limit);
			error(over_limit, 0);
		end
		return stanza;
	end
	n_queued = n_queued + 1;
	if session.hibernating then -- else older ones go first
		queue_of.fire_queued(session);
	end
	if over_limit then
		end_full(over_limit);
	end
	return nil;
end

-- What to do with an <a/> or <r/> as soon as it is there. Each returns true if it was done.
local at_once = {};

-- Whether nobody but this module looks at stanzas that come in on the session, or handles this element.
local function is_ours_alone(session, xmlns, name)
	local list = session.filters[filters_in];
	return list[2] == nil and #get_handlers(event_of[xmlns][name]) == 1;
end

local function incoming(stanza, session)
	local count, key = session.handled_stanza_count, session.enjamb_stream;
	if not count or not key then return stanza; end
	local name, xmlns = stanza.name, stanza.attr.xmlns;
	if not xmlns then
		if is_stanza_name[name] then
			touched[session] = true;
			if name ~= "message" then
				session.smacks_state_changed = true;
			end
			session.handled_stanza_count = sm_received(key, count);
		end
		return stanza;
	elseif not is_sm[xmlns] then
		return stanza;
	end
	if name == "r" then
		-- When this is answered, what came before it has been processed, what comes after it may not have been.
		stanza.enjamb_h = count;
	end
	-- Both are frequent, and their way through the router takes longer than what is done at its end.
	local handle = at_once[name];
	if handle and is_ours_alone(session, xmlns, name) and handle(session, stanza) then
		sending.log_received(session, stanza);
		return nil;
	end
	return stanza;
end

-- BOSH has no drain event: ask once per turn of the main loop.
local function ask_in_bosh(stanza, session)
	if not session.smacks_asking and session.enjamb_stream then
		session.smacks_asking = true;
		timer.add_task(0, function ()
			session.smacks_asking = nil;
			request_ack(session);
		end);
	end
	return stanza;
end

local function add_filters(session)
	sending.replace(session);
	add_filter(session, filters_out, outgoing, -999);
	add_filter(session, filters_in, incoming, 999);
	if is_bosh(session) then
		add_filter(session, filters_out, ask_in_bosh, -998);
	end
end

local function remove_filters(session)
	sending.restore(session);
	remove_filter(session, filters_out, outgoing);
	remove_filter(session, filters_in, incoming);
	remove_filter(session, filters_out, ask_in_bosh);
end

-- Ties a session to its stream in the library. `h`: how many stanzas have come in; nil: none are counted yet.
local function attach(session, key, handle, xmlns, id, timeout, h)
	session.smacks = xmlns;
	session.resumption_token = id;
	session.smacks_timeout = timeout;
	session.enjamb_stream = key;
	session.handled_stanza_count = h;
	session.outgoing_stanza_queue = queue_of.new(key, handle, bare_jid(session));
	session_of[key] = session;
	add_filters(session);
end

-- Puts a session under management. `waiting` stanzas have come in behind its <enable/>; nil: none are counted yet.
local function manage(session, xmlns, id, timeout, waiting)
	-- Resumable or not, its queue counts for the account.
	local account = session.username and bare_jid(session) or nil;
	local key, handle = sm.start(limits, account, id, timeout, waiting or 0);
	attach(session, key, handle, xmlns, id, timeout, waiting);
	if id and not state.can_come_back(session) then
		session.smacks_in_memory_only = true;
	end
	if is_kept(session) then
		journal.keep(session);
		touched[session] = true;
		contacts.kept(session);
	end
	sessions_started(1);
end

-- Undelivered stanzas ---------------------------------------------------------------------------------------------------

local function is_last_session(session)
	local user = prosody.hosts[host].sessions;
	user = user and user[session.username];
	if not user then return false; end
	local resource, other = next(user.sessions);
	return other == session and next(user.sessions, resource) == nil;
end

-- What becomes of a stanza, and whether an error may be returned for it.
local function fate(session, stanza)
	local is_message = stanza.name == "message";
	return sm.fate(stanza.name, stanza.attr.type, {
		own = stanza.attr.from == session.full_jid;
		last_session = is_message and is_last_session(session) and not session.smacks_account_gone and not session.smacks_in_memory_only;
		archived = is_message and session.mam_requested
			and stanza:get_child_with_attr("stanza-id", xmlns_sid, "by", bare_jid(session)) ~= nil;
		archive_result = is_message and stanza:get_child("result", xmlns_mam) ~= nil;
		closed = session.smacks_closed_by_client;
		from_room = is_message and session.smacks_closed_by_client and rooms.is_from_room(session, stanza);
	});
end

module:hook("delivery/failure", function (event)
	local session, stanza = event.session, event.stanza;
	if not session.username then return; end
	local verdict = fate(session, stanza);
	if verdict == "discard" then
		return true;
	elseif verdict == "store" then
		return module:fire_event("message/offline/handle", { origin = session, username = session.username, stanza = stanza });
	end
end);

local function stop_managing(session)
	local key = session.enjamb_stream;
	session.enjamb_stream = nil;
	session.outgoing_stanza_queue = nil;
	session.resumption_token = nil;
	session.smacks = false;
	session.awaiting_ack = nil;
	session_of[key] = nil;
	touched[session] = nil;
	if session.hibernating_watchdog then
		session.hibernating_watchdog:cancel();
		session.hibernating_watchdog = nil;
	end
	sm.revoke(key);
end

local function undelivered(session, stanza, error_by)
	if contain.fire("delivery/failure", session, { session = session, stanza = stanza }) then return; end
	local _, may_return = fate(session, stanza);
	if may_return then
		module:send(st.error_reply(stanza, "cancel", "recipient-unavailable", nil, error_by));
	end
end

-- The session ends: what its client has not acknowledged is stored or returned.
local function give_up(session)
	local queue = session.outgoing_stanza_queue;
	local unacked, _, first = get_counts(queue.key);
	stop_managing(session);
	if not unacked or unacked == 0 then
		journal.ended(queue.key);
		commit();
		return;
	end
	session.log("debug", "Ending with %d unacknowledged stanzas", unacked);
	tx_dropped_stanzas:sample(unacked);
	if session.hibernating then
		-- Nothing may be said to have been sent from here on.
		function session.send() return false; end
	end
	local error_by = jid.join(session.username, session.host or host);
	for number = first, first + unacked - 1 do
		local stanza, err = queue:get(number);
		if err then
			-- It comes back, with what is left, when the server is started again.
			module:log("error", "What is queued for %s cannot be read and stays in the journal: %s", session.full_jid, err);
			return;
		end
		if stanza then
			contain.attempt(session, "storing or returning a stanza", undelivered, session, stanza, error_by);
		end
	end
	-- Only now: until here the stanzas were nowhere else. From here on they are, and the session must not come back.
	journal.ended(queue.key);
	commit();
end

-- Remembers how much was handled, for a client that comes back too late.
local function remember(session)
	local username = session.username;
	local sessions, err = old_sessions:get(username);
	if err then
		module:log("error", "Could not read the counts of %s's earlier sessions: %s", username, err);
	end
	sessions = sessions or {};
	sessions[session.resumption_token] = { h = session.handled_stanza_count; t = os_time() };
	local times = {};
	for id, old in pairs(sessions) do
		times[id] = math.floor(tonumber(old.t) or 0);
	end
	for _, id in ipairs(sm.forgotten(times, max_old_sessions)) do
		sessions[id] = nil;
	end
	local ok;
	ok, err = old_sessions:set(username, next(sessions) and sessions or nil);
	if not ok then
		module:log("error", "Could not store the counts of %s's earlier sessions: %s", username, err);
	end
end

local function recall(session, id)
	if type(id) ~= "string" or id == "" then return nil; end
	local sessions = old_sessions:get(session.username);
	local old = sessions and sessions[id];
	return old and old.h;
end

-- A session that nobody came back for.
local function expire(session, reason)
	if session.destroyed or not session.enjamb_stream then return; end
	run_async("ending a session", function ()
		if session.destroyed or not session.enjamb_stream then return; end
		session.log("debug", "Ending hibernation: %s", reason);
		if session.resumption_token then
			remember(session);
		end
		sm.revoke(session.enjamb_stream);
		session.resumption_token = nil;
		sessionmanager.destroy_session(session, reason);
		sessions_expired(1);
	end);
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

function callbacks.full(session)
	session.smacks_over_limit = nil;
	if session.hibernating then
		session.log("info", "Ending a disconnected session, its queue is full (%d stanzas, %d bytes): what is in it is stored or returned",
			session.outgoing_stanza_queue:count_unacked(), session.outgoing_stanza_queue:count_bytes());
		expire(session, "Too many stanzas queued");
	else
		session.log("warn", "Closing a stream, more is unacknowledged than it, its account or the server may hold: %s",
			session.outgoing_stanza_queue);
		close_stream(session, "policy-violation", "Too much is unacknowledged");
	end
end

-- Ends a session that cannot be kept: what is in its queue is stored or returned.
journal.dismiss_by(function (key, reason)
	local session = session_of[key];
	if not session or session.smacks_dismissed then return; end
	session.smacks_dismissed = true;
	session.log("error", "%s must end, it cannot be kept in the journal: %s", session.full_jid, reason);
	timer.add_task(0, function () -- somebody else's ack may be under way
		if session.destroyed or not session.enjamb_stream then
			return;
		elseif session.hibernating then
			expire(session, "It cannot be kept in the journal");
		else
			close_stream(session, "policy-violation", "What the server has to keep of this session is too large");
		end
	end);
end);

-- A session that loses its connection, or gets another one, is active (XEP-0352 §5.2), and the modules that hold something
-- back for an inactive client are told so: they send it, and it comes into the queue. What they have is in no journal, and
-- what they remember of the session's filters is no longer so when it has those of another connection.
local function release_held(session)
	if not session.state or session.state == "active" then return; end
	session.state = "active";
	contain.fire("csi-client-active", session, { origin = session; stanza = st.stanza("active", { xmlns = "urn:xmpp:csi:0" }) });
end

-- Hibernation -----------------------------------------------------------------------------------------------------------

-- Stands in for session.close while there is no connection: those of mod_websocket (0.12) and mod_bosh need one.
local function close_disconnected(session, reason)
	module:fire_event("pre-session-close", { session = session; reason = reason });
	if type(reason) == "table" then
		reason = reason.text or reason.condition or reason.name;
	end
	sessionmanager.destroy_session(session, reason or nil);
end

-- `is_back`: after a restart; others are told of that a little later.
local function start_hibernating(session, timeout, is_back)
	release_held(session);
	session.hibernating = os_time();
	session.awaiting_ack = nil;
	session.close = close_disconnected;
	session.hibernating_watchdog = watchdog.new(timeout, function ()
		return callbacks.expired(session);
	end);
	connection.detach(session);
	session.log("debug", "Hibernating for up to %d seconds", timeout);
	if not is_back then
		fire_with_queue("smacks-hibernation-start", session, { origin = session });
	end
end

module:hook("pre-resource-unbind", function (event)
	local session = event.session;
	local key = session.enjamb_stream;
	if not key then return; end
	local timeout, evicted;
	if not session.hibernating then
		timeout, evicted = sm.hibernate(key, os_time());
	end
	if not timeout then
		return give_up(session);
	end
	for _, evicted_key in ipairs(evicted) do
		if evicted_key == key then
			-- none may hibernate
			remember(session);
			return give_up(session);
		end
	end
	start_hibernating(session, timeout);
	expire_evicted(evicted);
	return true;
end);

-- The stream is closed on purpose: there is nothing to come back to.
local function before_close(session, by_client)
	local key = session.enjamb_stream;
	if not key or session.smacks_closing then return; end
	session.smacks_closed_by_client = by_client;
	sm.revoke(key);
	session.resumption_token = nil;
	if session.hibernating_watchdog then
		session.hibernating_watchdog:cancel();
		session.hibernating_watchdog = nil;
	end
	if session.conn and session.handled_stanza_count then
		local h = sm.handled(key, connection.unanswered_stanzas(session, session.outgoing_stanza_queue:last()));
		if h then
			h = journal.claim(session, h);
		end
		if h then
			send_element(session, format("<a xmlns='%s' h='%d'/>", session.smacks, h));
		end
	end
	session.smacks_closing = true;
end

module:hook("pre-session-close", function (event)
	contain.attempt(event.session, "closing a stream", before_close, event.session, event.reason == false);
end);

local function on_s2s_destroyed(event)
	local session = event.session;
	if not session.enjamb_stream then return; end
	if not s2s_resend then
		return give_up(session);
	end
	local key, stanzas = session.enjamb_stream, session.outgoing_stanza_queue:table();
	stop_managing(session);
	journal.ended(key);
	if #stanzas > 0 then
		session.log("info", "Sending %d unacknowledged stanzas again", #stanzas);
	end
	for _, stanza in ipairs(stanzas) do
		module:send(stanza);
	end
end

module:hook("s2sout-destroyed", on_s2s_destroyed);
module:hook("s2sin-destroyed", on_s2s_destroyed);

-- <enable/> -------------------------------------------------------------------------------------------------------------

local function peer_of(session)
	if session.username then
		return { account = bare_jid(session), bound = session.full_jid ~= nil };
	end
	return { server = s2s_smacks and (session.type == "s2sin" or session.type == "s2sout") };
end

local function new_error(refused, h)
	return errors.new({ type = "cancel", condition = refused.condition, text = refused.text },
		{ h = h, too_high = refused.h, send_count = refused.send_count });
end

local function send_failed(session, xmlns, err)
	local context = err.context or {};
	local failed = st.stanza("failed", { xmlns = xmlns, h = context.h and format("%d", context.h) })
		:tag(err.condition, { xmlns = xmlns_errors }):up();
	if context.too_high then
		failed:tag("handled-count-too-high", {
			xmlns = xmlns, h = format("%d", context.too_high), ["send-count"] = format("%d", context.send_count),
		});
	end
	send(session, failed);
end

-- Decides on an <enable/>. Returns nil and an error, or a table whose finish() is to be called once the client has been
-- told (mod_sasl2_sm does so within its own answer).
function do_enable(session, stanza)
	if not session.username and not s2s_smacks and session.type:sub(1, 3) == "s2s" then
		return nil, new_error { condition = "service-unavailable", text = "Stream management is disabled between servers" };
	end
	local ok, id, timeout = sm.enable(limits, peer_of(session), session.enjamb_stream ~= nil, stanza.attr.resume, stanza.attr.max);
	if not ok then
		session.log("debug", "Not enabling stream management: %s", id.text);
		return nil, new_error(id);
	end
	return {
		type = "enabled";
		id = id;
		resume_max = timeout and format("%d", timeout);
		session = session;
		finish = function ()
			manage(session, stanza.attr.xmlns, id, timeout, waiting_stanzas(session, stanza));
			if id then commit(); end -- the id is a promise
			if is_bosh(session) then
				local close = session.close; -- which does not fire pre-session-close
				function session.close(self, reason)
					before_close(session, not reason);
					return close(self, reason);
				end
			end
			session.log("debug", "Stream management enabled, resumable: %s", id ~= nil);
		end;
	};
end

local function handle_enable(session, stanza)
	local enabled, err = do_enable(session, stanza);
	if not enabled then
		send_failed(session, stanza.attr.xmlns, err);
		return true;
	end
	send(session, st.stanza("enabled", {
		xmlns = stanza.attr.xmlns;
		id = enabled.id;
		resume = enabled.id and "true"; -- Conversations does not take "1"
		max = enabled.resume_max;
	}));
	if not session.destroyed then
		enabled.finish();
	end
	return true;
end

local function offer(event)
	local session, features = event.origin, event.features;
	local peer = peer_of(session);
	if session.enjamb_stream or not (peer.account or peer.server) then return; end
	for _, xmlns in ipairs { xmlns_sm2, xmlns_sm3 } do
		features:tag("sm", { xmlns = xmlns }):tag("optional"):up():up();
	end
end

module:hook("stream-features", offer);
module:hook("s2s-stream-features", offer);

-- Outgoing streams between servers

module:hook_tag(xmlns_streams, "features", function (session, stanza)
	if s2s_smacks and session.type:sub(1, 6) == "s2sout" then
		local feature = stanza:get_child("sm", xmlns_sm3) or stanza:get_child("sm", xmlns_sm2);
		session.smacks_feature = feature and feature.attr.xmlns;
	end
end);

local function enable_outgoing(session)
	if session.destroyed or session.enjamb_stream or not session.smacks_feature then return; end
	session.sends2s(st.stanza("enable", { xmlns = session.smacks_feature }));
	if session.destroyed then return; end -- sending can do that
	manage(session, session.smacks_feature);
end

module:hook("s2sout-established", function (event)
	local session = event.session;
	if not s2s_smacks then return; end
	local first = session.sendq and session.sendq[1];
	if type(first) == "table" and type(first[1]) == "string" then
		-- Prosody 0.12 keeps what waits for the connection as strings and sends it after this event. It would not
		-- be counted here, but by the peer.
		timer.add_task(0, function () enable_outgoing(session); end);
	else
		enable_outgoing(session);
	end
end);

-- <r/> and <a/> ---------------------------------------------------------------------------------------------------------

local function misplaced(session, stanza)
	session.log("debug", "Received <%s/>, but stream management is not enabled", stanza.name);
	send_failed(session, stanza.attr.xmlns, { condition = "unexpected-request" });
	return true;
end

local function handle_r(session, stanza)
	local key = session.enjamb_stream;
	if not key then return misplaced(session, stanza); end
	local h = journal.claim(session, stanza.enjamb_h or sm.handled(key, waiting_stanzas(session)));
	if h then -- else the stream is gone
		send_element(session, format("<a xmlns='%s' h='%d'/>", stanza.attr.xmlns, h));
	end
	request_ack(session);
	return true;
end

function at_once.r(session, stanza)
	local thread = session.thread;
	-- else something that came before it waits
	return thread and thread.state == "ready" and handle_r(session, stanza);
end

journal.tell_by(function (session, h)
	send_element(session, format("<a xmlns='%s' h='%d'/>", session.smacks, h));
end);

-- Tells who wants to know that the first n stanzas of the queue have arrived.
local function fire_success(session, key, n)
	local queue = session.outgoing_stanza_queue;
	local _, _, first = get_counts(key);
	local stanzas = {};
	for number = first, first + n - 1 do
		stanzas[#stanzas+1] = queue:get(number);
	end
	return function ()
		for _, stanza in ipairs(stanzas) do
			contain.fire("delivery/success", session, { session = session, stanza = stanza });
		end
	end;
end

local function acknowledged(session, acked, left, tell)
	session.awaiting_ack = nil;
	session.outgoing_stanza_queue:purge();
	if has_metrics then
		tx_acked_stanzas:sample(acked);
	end
	if tell then tell(); end
	if left > 0 then
		request_ack(session);
	end
end

local function handle_a(session, stanza)
	local key = session.enjamb_stream;
	if not key then return misplaced(session, stanza); end
	local h, tell = stanza.attr.h, nil;
	if is_hooked("delivery/success") then
		local n = sm.covered(key, h);
		tell = n and fire_success(session, key, n);
	end
	local acked, left = sm_ack(key, h);
	if not acked then
		local _, err = sm.covered(key, h);
		if not err then return true; end -- the stream is gone
		session.log("warn", "Closing a stream for a wrong ack: %s", err.text);
		close_stream(session, err.condition, err.text, err.h and st.stanza("handled-count-too-high", {
			xmlns = session.smacks, h = format("%d", err.h), ["send-count"] = format("%d", err.send_count),
		}) or nil);
		return true;
	end
	acknowledged(session, acked, left, tell);
	return true;
end

-- Only what nobody has to be told of, and what is true: the rest goes the usual way.
function at_once.a(session, stanza)
	if is_hooked("delivery/success") then return false; end
	local acked, left = sm_ack(session.enjamb_stream, stanza.attr.h);
	if not acked then return false; end
	acknowledged(session, acked, left);
	return true;
end

-- What only a server says. A stream between servers may have asked; a client says it for no reason, and nothing follows.

local function handle_enabled(session)
	if session.type == "s2sout" and session.enjamb_stream and not session.handled_stanza_count then
		session.handled_stanza_count = 0;
	else
		session.log("debug", "Ignoring <enabled/>, which nothing asked for");
	end
	return true;
end

local function handle_failed(session)
	if session.type == "s2sout" and session.enjamb_stream and not session.handled_stanza_count then
		session.log("info", "The other server does not enable stream management");
		remove_filters(session);
		stop_managing(session);
	else
		session.log("debug", "Ignoring <failed/>, which nothing asked for");
	end
	return true;
end

local function handle_resumed(session)
	session.log("debug", "Ignoring <resumed/>, which nothing asked for");
	return true;
end

-- <resume/> -------------------------------------------------------------------------------------------------------------

-- Gives `session` the connection of `from`. What came in behind `element`, the <resume/>, counts here.
local function adopt_connection(session, from, element)
	local waiting = waiting_stanzas(from, element);
	session.role = rights.resumed(session, from);
	fields.take_over(session, from);
	connection.adopt(session, from);
	session.awaiting_ack = nil;
	session.smacks_over_limit = nil;
	session.smacks_draining = true;
	add_filters(session);
	for _ = 1, waiting do
		session.handled_stanza_count = sm_received(session.enjamb_stream, session.handled_stanza_count);
	end
end

-- Hands the connection what it is to be sent again, as long as it takes it.
local function resend(session)
	if session.smacks_resending then return; end -- the connection has taken something within rawsend()
	session.smacks_resending = true;
	-- A frame of a WebSocket holds one stanza, which declares its namespace (RFC 7395).
	local is_websocket = session.websocket_request ~= nil;
	local piece, xmlns = resend_piece, nil;
	if is_websocket then
		piece, xmlns = 0, xmlns_client;
	end
	local conn, key, from = session.conn, session.enjamb_stream, session.outgoing_stanza_queue.from;
	local batch, first, last = resend_batch, sm.resend(key);
	while first and batch > 0 do
		local bytes, following, lost = sm.copies(key, first, last, piece, xmlns, from);
		if not bytes then
			session.log("error", "What is queued for %s cannot be read, it stays in the journal: %s", session.full_jid, following);
			close_stream(session, "internal-server-error", "What is queued for you cannot be read now");
			break;
		end
		if lost > 0 then
			session.log("error", "%d stanzas that were queued for %s are damaged on disk and lost", lost, session.full_jid);
		end
		sm.resent(key, following);
		batch = batch - #bytes;
		if session.rawsend(bytes) == false then
			connection.lost(session, "The connection takes no more");
		end
		if session.conn ~= conn or session.destroyed then break; end -- it is lost again
		first, last = sm.resend(key);
	end
	session.smacks_resending = nil;
	return first ~= nil;
end

-- The same until all is sent.
function callbacks.resend(session)
	if session.destroyed or session.hibernating or not session.enjamb_stream then return; end
	connection.resume_writes(session);
	local more = resend(session);
	request_ack(session, not more);
	if more and not session.smacks_resend_timer then
		session.smacks_resend_timer = timer.add_task(resend_patience, function ()
			session.smacks_resend_timer = nil;
			callbacks.resend(session);
		end);
	end
end

-- A client that resumes in the background says so at once. What it has missed, and <resumed/>, may still be in the
-- connection that mod_csi_simple pauses; it will pause it again when that is empty.
module:hook("csi-client-inactive", function (event)
	if event.origin.smacks_draining then
		connection.resume_writes(event.origin);
	end
end, -10);

module:hook("c2s-ondrain", function (event)
	local session = event.session;
	session.smacks_draining = nil;
	if session.smacks_resend_timer then
		timer.stop(session.smacks_resend_timer);
		session.smacks_resend_timer = nil;
		callbacks.resend(session);
	end
end);

-- Decides on a <resume/>. Returns nil and an error, or a table whose finish() is to be called once the client has been
-- told.
function do_resume(session, stanza)
	local previd, h = stanza.attr.previd, stanza.attr.h;
	if is_bosh(session) then
		return nil, new_error { condition = "feature-not-implemented", text = "A session cannot be resumed over BOSH" };
	end
	local peer = peer_of(session);
	local found, refused = sm.resume(peer, previd, h, true);
	local original = found and session_of[found.key];
	if original then
		connection.settle(original);
		if session.destroyed then
			return nil, new_error { condition = "item-not-found", text = "The connection was lost" };
		end
		found, refused = sm.resume(peer, previd, h, true);
		original = found and session_of[found.key];
	end
	if found and (not original or original.destroyed) then
		session.log("error", "The session to resume is lost, please report this");
		sm.revoke(found.key);
		journal.ended(found.key);
		found, refused = nil, { condition = "item-not-found", text = "The session is lost" };
	end
	if not found then
		session.log("debug", "Not resuming: %s", refused.text);
		local old_h;
		if refused.condition == "item-not-found" then
			old_h = recall(session, previd);
			if old_h then resumption_expired(1); end
		end
		return nil, new_error(refused, old_h);
	end

	release_held(original);
	local key = found.key;
	local tell = is_hooked("delivery/success") and fire_success(original, key, found.acked);
	sm.resume(peer, previd, h, false);
	original.outgoing_stanza_queue:purge();
	local unacked = get_counts(key);
	local age = found.since and math.max(0, os_time() - found.since) or 0;
	if original.hibernating_watchdog then
		original.hibernating_watchdog:cancel();
		original.hibernating_watchdog = nil;
	end
	if original.conn then
		connection.close_replaced(original);
	end
	original.log("debug", "Resumed by %s after %d seconds with %d stanzas to send again", tostring(session.id or session.ip), age, unacked);
	adopt_connection(original, session, stanza);
	original.smacks = stanza.attr.xmlns;
	-- What <resumed/> will say, which mod_sasl2_sm writes itself. If not all of it is kept, the client sends the rest again.
	local kept = journal.claim_for_good(original, original.handled_stanza_count);
	if not kept then
		connection.lost(original, "The disk does not say what it has");
		return nil, new_error { condition = "internal-server-error", text = "The disk does not answer, try again" };
	elseif kept ~= original.handled_stanza_count then
		sm.recount(key, kept);
		original.handled_stanza_count = kept;
	end

	return {
		type = "resumed";
		session = original;
		id = previd;
		finish = function ()
			callbacks.resend(original);
			tx_acked_stanzas:sample(found.acked);
			if tell then tell(); end
			fire_with_queue("smacks-hibernation-end", original, { origin = session, resumed = original });
			resumption_age:sample(age);
		end;
	};
end

local function handle_resume(session, stanza)
	local xmlns = stanza.attr.xmlns;
	local resumed, err = do_resume(session, stanza);
	if not resumed then
		send_failed(session, xmlns, err);
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

for xmlns in pairs(is_sm) do
	module:hook_tag(xmlns, "enable", handle_enable, 100);
	module:hook_tag(xmlns, "enabled", handle_enabled, 100);
	module:hook_tag(xmlns, "resume", handle_resume);
	module:hook_tag(xmlns, "resumed", handle_resumed);
	module:hook_tag(xmlns, "failed", handle_failed);
	module:hook_tag(xmlns, "r", handle_r);
	module:hook_tag(xmlns, "a", handle_a);
end

-- mod_sasl2_sm and mod_sasl2_bind2 call this when a request is refused, Prosody 0.12 has not got it.
if not st.stanza_mt.add_error then
	function st.stanza_mt:add_error(err)
		return self:tag(err.condition, { xmlns = xmlns_errors }):up();
	end
end

-- Coming back after a restart ---------------------------------------------------------------------------------------------

local restore_all = module:require "restore"({
	attach = attach;
	expire = expire;
	hibernate = function (session, key, timeout)
		local _, evicted = sm.hibernate(key, os_time());
		start_hibernating(session, timeout, true);
		expire_evicted(evicted or {});
	end;
	-- Has modules know that it waits. What is in its queue they know if it had waited before.
	tell_that_it_waits = function (session, had_waited)
		if not session.hibernating then return; end
		fire_with_queue("smacks-hibernation-start", session, { origin = session, queue = had_waited and {} or nil });
	end;
}, journal, state, rooms, contacts, limits, hibernation_time);

local function open_journal()
	if not journal.open() then return; end
	contacts.open(is_kept);
	restore_all();
	for _, session in pairs(session_of) do
		if session.enjamb_stream and is_kept(session) and not session.smacks_state then
			journal.keep(session);
		end
	end
end

if prosody.start_time then
	module:add_timer(0, open_journal);
else
	module:hook_global("server-started", open_journal, -10);
end

-- Reload, unload, shutdown ------------------------------------------------------------------------------------------------

local function managed_sessions()
	local sessions = {};
	for _, session in pairs(session_of) do
		if session.enjamb_stream and not session.destroyed then
			sessions[#sessions+1] = session;
		end
	end
	return sessions;
end

shell.show {
	sessions = managed_sessions;
	drop = function (session) expire(session, "An admin ended it"); end;
};

function module.load()
	sending.load();
	for _, session in ipairs(managed_sessions()) do
		queue_of.adopt(session.outgoing_stanza_queue);
		if session.hibernating then
			session.close = close_disconnected;
		end
		add_filters(session);
	end
end

function module.unload()
	sending.unload();
	shell.unload();
	if not module.reloading then
		room_services.unload();
		pep.unload();
		journal.unload();
	end
	for _, session in ipairs(managed_sessions()) do
		remove_filters(session);
		if not module.reloading then
			if session.hibernating then
				expire(session, "Stream management was disabled");
			else
				session.log("debug", "Stream management was disabled");
				local key = session.enjamb_stream;
				stop_managing(session);
				journal.ended(key);
			end
		end
	end
end

-- On 0.12 a signal is handled wherever it comes in, even while a stanza is between being counted and being processed, and
-- with no connection to wait for the whole shutdown would take place there. So it goes on in the next turn of the main loop.
module:hook_global("server-stopping", function ()
	if not async.ready() then return; end
	local wait, done = async.waiter();
	timer.add_task(0, function () done(); end);
	wait();
end, -89);

local function stop(session)
	if session.resumption_token then
		release_held(session);
		-- Before mod_c2s closes the streams, which would end the sessions cleanly: their clients are to come back,
		-- to their session if it is kept, else to ask what was handled.
		local kept = is_kept(session);
		if kept then
			journal.keep(session);
			touched[session] = true;
			kept = commit();
		end
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
		before_close(session);
	end
end

module:hook_global("server-stopping", function ()
	for _, session in ipairs(managed_sessions()) do
		contain.attempt(session, "stopping a session", stop, session);
	end
end, -90);
