-- XEP-0198: Stream Management, the Prosody side of Enjamb.
--
-- This file turns Prosody's events into calls and the answers into what Prosody does. It decides nothing about the
-- protocol: that is done by the library (crates/stream-management), which also keeps the counters and the queue.
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
local jn = enjamb.journal;
local sm = enjamb.smacks;

local filters_out, filters_in = "stanzas/out", "stanzas/in";
local format = string.format;
local get_counts, sm_push, sm_received = sm.counts, sm.push, sm.received;
local ipairs, next, pairs, setmetatable, tostring, type = ipairs, next, pairs, setmetatable, tostring, type;
local os_time = os.time;

local xmlns_client = "jabber:client";
local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local xmlns_mam = "urn:xmpp:mam:2";
local xmlns_sid = "urn:xmpp:sid:0";
local xmlns_sm2, xmlns_sm3 = "urn:xmpp:sm:2", "urn:xmpp:sm:3";
local xmlns_streams = "http://etherx.jabber.org/streams";
local xmlns_stream_errors = "urn:ietf:params:xml:ns:xmpp-streams";

local is_stanza_name = { message = true, presence = true, iq = true };
local is_sm = { [xmlns_sm2] = true, [xmlns_sm3] = true };

-- Resent stanzas are handed to the connection in pieces of about this many bytes.
local resend_budget = 16384;
-- For how many seconds a resumption waits for stanzas of the old connection that are being processed.
local settle_timeout = 5;

-- Options -----------------------------------------------------------------------------------------------------------

local function whole_number(name, default, min, value)
	if value ~= value or type(value) ~= "number" or value < min then
		module:log("error", "Option '%s' must be a number from %d, using %d", name, min, default);
		return default;
	end
	-- "never" is infinite; what the library counts in has 32 bits
	return math.floor(math.min(value, 0x7fffffff));
end

local function get_number(name, default, min)
	return whole_number(name, default, min, module:get_option_number(name, default));
end

local function get_period(name, default)
	if module.get_option_period then -- Prosody 13
		return whole_number(name, default, 0, module:get_option_period(name, default));
	end
	return get_number(name, default, 0);
end

local s2s_smacks = module:get_option_boolean("smacks_enabled_s2s", true);
local s2s_resend = module:get_option_boolean("smacks_s2s_resend", false);
local max_ack_delay = get_period("smacks_max_ack_delay", 30);
local max_old_sessions = get_number("smacks_max_old_sessions", 10, 0);

local durability = module:get_option_string("smacks_durability", "process");
if durability ~= "process" and durability ~= "none" then
	module:log("error", "Option 'smacks_durability' must be \"process\" or \"none\", not %q, using \"process\"", durability);
	durability = "process";
end

local hibernation_time = get_period("smacks_hibernation_time", 600);

local limits = sm.limits {
	hibernation_time = hibernation_time;
	queue_stanzas = get_number("smacks_max_queue_size", 500, 1);
	queue_bytes = get_number("smacks_max_queue_bytes", 64 * 1024 * 1024, 1);
	unacked = get_number("smacks_max_unacked_stanzas", 0, 0);
	inactive_unacked = get_number("smacks_max_inactive_unacked_stanzas", 256, 0);
	hibernated = get_number("smacks_max_hibernated_sessions", 10, 0);
};

-- Metrics, named as Prosody's -----------------------------------------------------------------------------------------

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
local host_events = prosody.hosts[host].events;
local c2s_sessions = module:shared("/*/c2s/sessions");
local old_sessions = module:open_store("smacks_h");

-- By key. Outlives a reload, like the streams themselves.
local session_of = module:shared("sessions");
-- What timers of managed sessions call, so that after a reload they call the new code.
local callbacks = module:shared("callbacks");

local function is_hooked(event_name)
	return host_events.get_handlers(event_name) ~= nil;
end

local function is_bosh(session)
	return session.sid ~= nil;
end

local function bare_jid(session)
	return session.username and (session.username.."@"..session.host) or host;
end

local function send(session, element)
	return (session.sends2s or session.send)(element);
end

-- Ends a stream with an error.
local function close_stream(session, condition, text, extra)
	if not session.websocket_request then
		return session:close { condition = condition; text = text; extra = extra };
	end
	-- Prosody 13 would send an element whose prefix is not declared in its frame.
	local err = st.stanza("stream:error", { ["xmlns:stream"] = xmlns_streams })
		:tag(condition, { xmlns = xmlns_stream_errors }):up()
		:text_tag("text", text, { xmlns = xmlns_stream_errors });
	if extra then
		err:add_child(extra);
	end
	return session:close(err);
end

-- Storage may wait, so what leads to it runs where waiting is possible.
local function run_async(what, f)
	async.runner(f, {
		error = function (_, err)
			module:log("error", "Error while %s: %s", what, err);
		end;
	}):run(true);
end

-- Between arriving and being processed, stanzas wait in session.thread. Returns how many do, at least; those behind
-- `element` only, if that is in the queue.
local function waiting_stanzas(session, element)
	local thread = session.thread;
	if not thread or not thread.queue or thread.state == "ready" then return 0; end
	local n = 0;
	for _, item in ipairs(thread.queue) do
		if item == element then
			n = 0;
		elseif st.is_stanza(item) and not item.attr.xmlns and is_stanza_name[item.name] then
			n = n + 1;
		end
	end
	if thread.state == "waiting" and not element then
		n = n + 1; -- the one that is being processed has left the queue
	end
	return n;
end

-- The journal -----------------------------------------------------------------------------------------------------------

local keeping = module:require "journal";
-- The journal is the process's: whichever host comes first opens it.
local journal = module:shared("/*/smacks/journal");
-- Sessions on which something came in since the last commit. Shared, since a commit is everybody's.
local touched = module:shared("/*/smacks/touched");

local function is_kept(session)
	return journal.open and session.resumption_token ~= nil and session.smacks_timeout ~= nil;
end

local function journal_failed(err)
	if not journal.failing then
		module:log("error", "The journal of sessions cannot be written, nothing more is acknowledged until it can be: %s", err);
		journal.failing = true;
	end
end

-- Keeps the state of a session, if it is another one than what is kept.
local function keep(session)
	session.smacks_state_changed = nil;
	local state = keeping.describe(session, session.smacks_timeout);
	if state == session.smacks_state then return; end
	local ok, err = jn.keep(session.enjamb_stream, state);
	if ok then
		session.smacks_state = state;
	else
		journal_failed(err);
	end
end

-- By host: each knows how to describe its own sessions.
local keepers = module:shared("/*/smacks/keepers");
keepers[host] = keep;

-- Before anything is acknowledged: what it covers, and what followed from it, is handed to the operating system. `h` is
-- what is about to be claimed for `session`. Returns whether it may be.
local function commit(session, h)
	if not journal.open then return true; end
	local handled = {};
	for other in pairs(touched) do
		local key, waiting = other.enjamb_stream, 0;
		if key and not other.destroyed and is_kept(other) then
			if other.smacks_state_changed and keepers[other.host] then
				keepers[other.host](other);
			end
			waiting = waiting_stanzas(other);
			handled[key] = sm.handled(key, waiting);
		end
		if waiting == 0 then -- else its count is not yet what it will be
			touched[other] = nil;
		end
	end
	if session and is_kept(session) then
		handled[session.enjamb_stream] = h;
	end
	jn.handled(handled);
	local ok, err = jn.commit();
	if not ok then
		journal_failed(err);
		return false;
	elseif journal.failing then
		module:log("info", "The journal of sessions can be written again");
		journal.failing = nil;
	end
	if err then -- it was written, but something else is wrong
		module:log("error", "The journal of sessions: %s", err);
	end
	if session then
		session.smacks_committed_h = h;
	end
	return true;
end

-- What may be claimed to have been handled of `session`: h, or less if that cannot be kept.
local function committed(session, h)
	if commit(session, h) then return h; end
	return is_kept(session) and (session.smacks_committed_h or 0) or h;
end

-- The queue, as other modules see it in session.outgoing_stanza_queue --------------------------------------------------

local queue_methods = {};
local queue_mt = { __name = "smacks queue", __index = queue_methods };

function queue_methods:count_unacked()
	return (get_counts(self.key)) or 0;
end

function queue_methods:count_acked()
	local _, acked = get_counts(self.key);
	return acked or 0;
end

function queue_methods:count_bytes()
	local _, _, _, bytes = get_counts(self.key);
	return bytes or 0;
end

-- Nothing is ever dropped from a queue that is kept.
function queue_methods:resumable() -- luacheck: ignore 212/self
	return true;
end

-- The stanza of that number as a table: always the same one, since modules leave marks on it.
function queue_methods:get(number)
	local stanza = self.stanzas[number];
	if not stanza then
		local bytes = sm.copies(self.key, number, number + 1, 0, nil, self.from);
		if not bytes then return nil; end
		local err;
		stanza, err = parse_xml(bytes);
		if not stanza then
			module:log("error", "A queued stanza is not well-formed XML, whoever sent it must be repaired: %s: %s", err, bytes);
			return nil;
		end
		self.stanzas[number] = stanza;
	end
	return stanza;
end

function queue_methods:table()
	local unacked, _, first = get_counts(self.key);
	local stanzas = {};
	for number = first or 1, (first or 1) + (unacked or 0) - 1 do
		stanzas[#stanzas+1] = self:get(number);
	end
	return stanzas;
end

function queue_methods:resume()
	return ipairs(self:table());
end

-- Forgets the tables of stanzas that have left the queue.
function queue_methods:purge()
	if next(self.stanzas) == nil then return; end
	local _, _, first = get_counts(self.key);
	for number in pairs(self.stanzas) do
		if not first or number < first then
			self.stanzas[number] = nil;
		end
	end
end

queue_mt.__len = queue_methods.count_unacked;

function queue_mt.__tostring(queue)
	return format("smacks queue: %d unacked", queue:count_unacked());
end

function queue_mt.__freeze(queue)
	return { unacked = queue:count_unacked(); acked = queue:count_acked(); bytes = queue:count_bytes() };
end

-- An event whose queue is made when somebody looks at it.
local event_mt = {
	__index = function (event, key)
		if key ~= "queue" then return nil; end
		local queue = event.managed.outgoing_stanza_queue;
		local stanzas = queue and queue:table() or {};
		event.queue = stanzas;
		return stanzas;
	end;
};

-- Fires an event about `session` that has `queue`.
local function fire_with_queue(event_name, session, event)
	if not is_hooked(event_name) then return; end
	event.managed = session;
	return module:fire_event(event_name, setmetatable(event, event_mt));
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

local function request_ack(session, force)
	local key = session.enjamb_stream;
	if not key or session.destroyed then return; end
	if not sm.wants_ack(key, session.state == "inactive", force or false) then return; end
	sm.requested(key);
	session.awaiting_ack = true;
	session.ack_requested_at = time_now();
	if max_ack_delay > 0 and not session.delayed_ack_timer then
		session.delayed_ack_timer = timer.add_task(max_ack_delay, function ()
			return callbacks.ack_delayed(session);
		end);
	end
	send(session, st.stanza("r", { xmlns = session.smacks }));
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
	if session.awaiting_ack then
		return false; -- it was asked and said nothing: the connection is dead
	end
	request_ack(session, true);
	return true;
end

module:hook("c2s-read-timeout", handle_read_timeout);
module:hook("s2s-read-timeout", handle_read_timeout);

-- What goes out and what comes in ---------------------------------------------------------------------------------------

local function end_full_session(session)
	if session.smacks_over_limit then return; end
	session.smacks_over_limit = true;
	-- Not now: whoever is sending may be looping over sessions. What comes until then is queued as well, so that
	-- the order is kept.
	timer.add_task(0, function ()
		if session.smacks_over_limit and not session.destroyed then
			return callbacks.full(session);
		end
	end);
end

local function held(session, over_limit)
	if is_hooked("smacks-hibernation-stanza-queued") then
		local queue = session.outgoing_stanza_queue;
		local unacked, _, first = get_counts(session.enjamb_stream);
		fire_with_queue("smacks-hibernation-stanza-queued", session, {
			origin = session;
			stanza = queue:get(first + unacked - 1);
		});
	end
	if over_limit then
		end_full_session(session);
	end
	return nil;
end

local function outgoing(stanza, session)
	local key = session.enjamb_stream;
	if not key then return stanza; end
	-- The bytes serve only if no filter comes after this one: mod_websocket's wants a stanza.
	local list = session.filters[filters_out];
	local bytes, over_limit = sm_push(key, stanza, list[#list] == outgoing);
	if bytes then
		n_queued = n_queued + 1;
		if over_limit then
			end_full_session(session);
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
	return held(session, over_limit);
end

local function incoming(stanza, session)
	local count = session.handled_stanza_count;
	if not count or not session.enjamb_stream then return stanza; end
	local xmlns = stanza.attr.xmlns;
	if not xmlns then
		if is_stanza_name[stanza.name] then
			touched[session] = true;
			if stanza.name ~= "message" then
				session.smacks_state_changed = true;
			end
			session.handled_stanza_count = sm_received(session.enjamb_stream, count);
		end
	elseif stanza.name == "r" and is_sm[xmlns] then
		-- When this is answered, what came before it has been processed, what comes after it may not have been.
		stanza.enjamb_h = count;
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
	add_filter(session, filters_out, outgoing, -999);
	add_filter(session, filters_in, incoming, 999);
	if is_bosh(session) then
		add_filter(session, filters_out, ask_in_bosh, -998);
	end
end

local function remove_filters(session)
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
	session.outgoing_stanza_queue = setmetatable({
		key = key; handle = handle; from = bare_jid(session); stanzas = {};
	}, queue_mt);
	session_of[key] = session;
	add_filters(session);
end

-- Puts a session under management. `waiting` stanzas have come in behind its <enable/>; nil: none are counted yet.
local function manage(session, xmlns, id, timeout, waiting)
	local account = id and bare_jid(session) or nil;
	local key, handle = sm.start(limits, account, id, timeout, waiting or 0);
	attach(session, key, handle, xmlns, id, timeout, waiting);
	if is_kept(session) then
		keep(session);
		touched[session] = true;
	end
	sessions_started(1);
end

-- Undelivered stanzas ---------------------------------------------------------------------------------------------------

local function fate(stanza, recipient)
	return sm.fate(stanza.name, stanza.attr.type, recipient);
end

local function is_last_session(session)
	local user = prosody.hosts[host].sessions;
	user = user and user[session.username];
	if not user then return false; end
	local resource, other = next(user.sessions);
	return other == session and next(user.sessions, resource) == nil;
end

module:hook("delivery/failure", function (event)
	local session, stanza = event.session, event.stanza;
	if not session.username then return; end
	local is_message = stanza.name == "message";
	local verdict = fate(stanza, {
		own = stanza.attr.from == session.full_jid;
		last_session = is_message and is_last_session(session);
		archived = is_message and session.mam_requested
			and stanza:get_child_with_attr("stanza-id", xmlns_sid, "by", bare_jid(session)) ~= nil;
		archive_result = is_message and stanza:get_child("result", xmlns_mam) ~= nil;
	});
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

-- The session ends: what its client has not acknowledged is stored or returned.
local function give_up(session)
	local queue = session.outgoing_stanza_queue;
	local unacked, _, first = get_counts(queue.key);
	stop_managing(session);
	if not unacked or unacked == 0 then
		jn.ended(queue.key);
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
		local stanza = queue:get(number);
		if stanza and not module:fire_event("delivery/failure", { session = session, stanza = stanza })
		and fate(stanza, { own = stanza.attr.from == session.full_jid }) ~= "discard" then
			module:send(st.error_reply(stanza, "cancel", "recipient-unavailable", nil, error_by));
		end
	end
	-- Only now: until here the stanzas were nowhere else. From here on they are, and the session must not come back.
	jn.ended(queue.key);
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
			expire(oldest, "Too many hibernating sessions");
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
		session.log("warn", "Closing a stream whose peer does not acknowledge: %s", session.outgoing_stanza_queue);
		close_stream(session, "policy-violation", "Too many unacknowledged stanzas");
	end
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

local function start_hibernating(session, timeout)
	session.hibernating = os_time();
	session.awaiting_ack = nil;
	session.close = close_disconnected;
	session.hibernating_watchdog = watchdog.new(timeout, function ()
		return callbacks.expired(session);
	end);
	local conn = session.conn;
	session.conn = nil;
	if conn and not is_bosh(session) then
		c2s_sessions[conn] = nil;
		conn:close();
	end
	session.log("debug", "Hibernating for up to %d seconds", timeout);
	fire_with_queue("smacks-hibernation-start", session, { origin = session });
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
local function before_close(session)
	local key = session.enjamb_stream;
	if not key then return; end
	sm.revoke(key);
	session.resumption_token = nil;
	if session.hibernating_watchdog then
		session.hibernating_watchdog:cancel();
		session.hibernating_watchdog = nil;
	end
	if session.conn and session.handled_stanza_count then
		local h = sm.handled(key, waiting_stanzas(session));
		if h then
			h = committed(session, h);
			send(session, st.stanza("a", { xmlns = session.smacks; h = format("%d", h) }));
		end
	end
end

module:hook("pre-session-close", function (event)
	return before_close(event.session);
end);

local function on_s2s_destroyed(event)
	local session = event.session;
	if not session.enjamb_stream then return; end
	if not s2s_resend then
		return give_up(session);
	end
	local stanzas = session.outgoing_stanza_queue:table();
	stop_managing(session);
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
					before_close(session);
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
	local h = committed(session, stanza.enjamb_h or sm.handled(key, waiting_stanzas(session)));
	send(session, st.stanza("a", { xmlns = stanza.attr.xmlns, h = format("%d", h) }));
	request_ack(session);
	return true;
end

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
			module:fire_event("delivery/success", { session = session, stanza = stanza });
		end
	end;
end

local function handle_a(session, stanza)
	local key = session.enjamb_stream;
	if not key then return misplaced(session, stanza); end
	local tell;
	if is_hooked("delivery/success") then
		local n = sm.ack(key, stanza.attr.h, true);
		tell = n and fire_success(session, key, n);
	end
	local acked, err = sm.ack(key, stanza.attr.h, false);
	if not acked then
		session.log("warn", "Closing a stream for a wrong ack: %s", err.text);
		close_stream(session, err.condition, err.text, err.h and st.stanza("handled-count-too-high", {
			xmlns = session.smacks, h = format("%d", err.h), ["send-count"] = format("%d", err.send_count),
		}) or nil);
		return true;
	end
	session.awaiting_ack = nil;
	session.outgoing_stanza_queue:purge();
	tx_acked_stanzas:sample(acked);
	if tell then tell(); end
	request_ack(session);
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

-- Tells whoever still has the session's old connection that it was replaced.
local function close_replaced_connection(session)
	local conn = session.conn;
	session.conn = nil;
	c2s_sessions[conn] = nil;
	if conn.resume_writes then
		conn:resume_writes(); -- mod_csi_simple may have paused it
	end
	-- Looks to the transport's own close like a session that has nothing but the connection.
	local connection = {
		type = "c2s_unbound"; host = session.host; conn = conn; ip = session.ip; log = session.log; id = session.id;
		send = session.send; rawsend = session.rawsend; filter = session.filter; filters = session.filters;
		close = session.close; open_stream = session.open_stream; thread = session.thread;
		version = session.version; streamid = session.streamid; websocket_request = session.websocket_request;
	};
	close_stream(connection, "conflict", "This session was resumed on another connection");
end

-- Prosody 0.12 has no sessionmanager.update_session.
local function update_session(session, from)
	for _, field in ipairs { "ip", "conn", "rawsend", "send", "close", "filter", "filters", "stream", "secure", "sasl_handler", "since" } do
		session[field] = from[field];
	end
	-- Prosody lets the upvalues of a function be set like fields.
	session.rawsend.session = session;
	session.send.session = session;
	session.filter.session = session;
	session.hibernating = nil;
	session.resumption_counter = (session.resumption_counter or 0) + 1;
	session.stream:set_session(session);
	c2s_sessions[session.conn] = session;
	sessionmanager.retire_session(from);
end

-- The thread of a BOSH session knows only stanzas.
local function new_thread(session, watchers)
	return async.runner(function (item)
		if st.is_stanza(item) then
			prosody.core_process_stanza(session, item);
		elseif item.event == "callback" then
			item.callback(session, item);
		elseif item.event == "streamclosed" or item.stream == "closed" then
			session:close(false);
		end
	end, watchers, session);
end

-- Gives `session` the connection of `from`, of which nothing remains.
local function adopt_connection(session, from, element)
	local waiting = waiting_stanzas(from, element);
	local watchers = from.thread and from.thread.watchers;
	-- What update_session leaves behind. session.data belongs to the new connection's XML parser: the old one's may
	-- have stopped in the middle of a stanza.
	local rest = {};
	for _, field in ipairs { "data", "open_stream", "reset_stream", "encrypted", "compressed", "websocket_request", "stanza_size_limit", "ssl_ctx" } do
		rest[field] = from[field] or false;
	end
	(sessionmanager.update_session or update_session)(session, from);
	for field, value in pairs(rest) do
		session[field] = value or nil;
	end
	session.data.session = session;
	if is_bosh(session) then
		session.sid, session.bosh_version = nil, nil;
		session.thread = new_thread(session, watchers);
	end
	-- Closures of the transport may still know the old session.
	function from.close(_, reason)
		return session:close(reason);
	end
	session.hibernating = nil;
	session.awaiting_ack = nil;
	session.smacks_over_limit = nil;
	if session.state then
		session.state = "active"; -- XEP-0352 §5.2: not restored by a resumption
	end
	add_filters(session);
	for _ = 1, waiting do
		session.handled_stanza_count = sm_received(session.enjamb_stream, session.handled_stanza_count);
	end
end

local function resend(session, first, last)
	-- A frame of a WebSocket holds one stanza, which declares its namespace (RFC 7395).
	local is_websocket = session.websocket_request ~= nil;
	local budget, xmlns = resend_budget, nil;
	if is_websocket then
		budget, xmlns = 0, xmlns_client;
	end
	local from = session.outgoing_stanza_queue.from;
	while first < last do
		local bytes, following = sm.copies(session.enjamb_stream, first, last, budget, xmlns, from);
		if not bytes then break; end
		session.rawsend(bytes);
		if session.destroyed or session.hibernating or not session.enjamb_stream then return; end -- the connection is lost again
		first = following;
	end
end

-- What came in on the old connection may still wait to be processed. Before the client is told that it was handled, it
-- is, unless that takes too long: it will be, in any case.
local function settle(session)
	local thread = session.thread;
	if not thread or not thread.watchers or thread.state == "ready" or not async.ready() then return; end
	local wait, done = async.waiter(1, true);
	local watchers = thread.watchers;
	local function and_done(name)
		return function (...)
			thread.watchers = watchers;
			done();
			if watchers[name] then return watchers[name](...); end
		end
	end
	thread.watchers = setmetatable({ ready = and_done("ready"); error = and_done("error") }, { __index = watchers });
	local timeout = timer.add_task(settle_timeout, done);
	wait();
	timer.stop(timeout);
	thread.watchers = watchers;
end

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
		settle(original);
		if session.destroyed then
			return nil, new_error { condition = "item-not-found", text = "The connection was lost" };
		end
		found, refused = sm.resume(peer, previd, h, true);
		original = found and session_of[found.key];
	end
	if found and (not original or original.destroyed) then
		session.log("error", "The session to resume is lost, please report this");
		sm.revoke(found.key);
		jn.ended(found.key);
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

	local key = found.key;
	local tell = is_hooked("delivery/success") and fire_success(original, key, found.acked);
	sm.resume(peer, previd, h, false);
	original.outgoing_stanza_queue:purge();
	local unacked, _, first = get_counts(key);
	local age = found.since and math.max(0, os_time() - found.since) or 0;
	if original.hibernating_watchdog then
		original.hibernating_watchdog:cancel();
		original.hibernating_watchdog = nil;
	end
	if original.conn then
		close_replaced_connection(original);
	end
	original.log("debug", "Resumed by %s after %d seconds with %d stanzas to send again", tostring(session.id or session.ip), age, unacked);
	local xmlns = stanza.attr.xmlns;
	adopt_connection(original, session, stanza);
	original.smacks = xmlns;
	-- What <resumed/> will say, which mod_sasl2_sm writes itself.
	commit(original, original.handled_stanza_count);

	return {
		type = "resumed";
		session = original;
		id = previd;
		finish = function ()
			resend(original, first, first + unacked);
			tx_acked_stanzas:sample(found.acked);
			if tell then tell(); end
			fire_with_queue("smacks-hibernation-end", original, { origin = session, resumed = original });
			request_ack(original, true);
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
		h = format("%d", committed(session, session.handled_stanza_count));
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

local function restore(token, state)
	local timeout = math.min(state.timeout, hibernation_time);
	local key, handle, h, lost = jn.restore(token, limits, state.username.."@"..host, state.id, timeout);
	if not key then
		return nil, handle;
	end
	local session, err = keeping.revive(state, new_thread);
	if not session then
		sm.revoke(key);
		jn.ended(key);
		return nil, err;
	end
	attach(session, key, handle, state.xmlns, state.id, timeout, h);
	session.smacks_committed_h = h;
	if lost > 0 then
		session.log("error", "%d stanzas of %s's queue could not be read from the journal", lost, session.full_jid);
	end
	local _, evicted = sm.hibernate(key, os_time());
	start_hibernating(session, timeout);
	expire_evicted(evicted or {});
	return session;
end

local function restore_all()
	local n = 0;
	for token, text in pairs(jn.found()) do
		local state = keeping.read(text);
		if not state or not prosody.hosts[state.host] then
			module:log("warn", "A session of the journal is dropped: %s", state and ("there is no host "..state.host) or "its state cannot be read");
			jn.discard(token);
		elseif state.host == host then
			local objection = keeping.objection(state);
			local session, err;
			if not objection then
				session, err = restore(token, state);
			end
			if session then
				n = n + 1;
			else
				module:log("info", "A session of %s does not come back: %s", state.username, objection or err);
				jn.discard(token);
			end
		end
	end
	if n > 0 then
		module:log("info", "%d sessions are back from before the restart and wait for their clients", n);
	end
end

-- Not before the server has started: with -D it forks after the modules are loaded, and the journal has a thread.
local function open_journal()
	if durability == "none" then return; end
	if not journal.open then
		local directory = prosody.paths.data.."/enjamb-journal";
		local found, err = jn.open(directory);
		if not found then
			module:log("error", "The journal in %s cannot be opened, sessions will not outlive the server: %s", directory, err);
			return;
		end
		journal.open = true;
		if found.torn and found.torn > 0 then
			module:log("info", "The journal's last %d bytes were not whole and were cut", found.torn);
		end
		if (found.damaged or 0) > 0 or (found.incomplete or 0) > 0 then
			module:log("error", "The journal is damaged in %d places, %d sessions miss something", found.damaged, found.incomplete);
		end
	end
	restore_all();
	for _, session in pairs(session_of) do
		if session.enjamb_stream and session.resumption_token and session.smacks_timeout and not session.smacks_state then
			keep(session);
		end
	end
end

if prosody.start_time then
	module:add_timer(0, open_journal);
else
	module:hook_global("server-started", open_journal, -10);
end

-- What nobody asks to be acknowledged is kept all the same, a little later.
module:add_timer(1, function ()
	if journal.open then commit(); end
	return 1;
end);

module:hook_global("server-stopped", function ()
	if not journal.open then return; end
	journal.open = false;
	local ok, err = pcall(jn.close);
	if not ok then
		module:log("error", "The journal could not be closed well: %s", err);
	end
end);

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

function module.load()
	for _, session in ipairs(managed_sessions()) do
		setmetatable(session.outgoing_stanza_queue, queue_mt);
		if session.hibernating then
			session.close = close_disconnected;
		end
		add_filters(session);
	end
end

function module.unload()
	for _, session in ipairs(managed_sessions()) do
		remove_filters(session);
		if not module.reloading then
			if session.hibernating then
				expire(session, "Stream management was disabled");
			else
				session.log("debug", "Stream management was disabled");
				local key = session.enjamb_stream;
				stop_managing(session);
				jn.ended(key);
			end
		end
	end
end

module:hook_global("server-stopping", function ()
	for _, session in ipairs(managed_sessions()) do
		if session.resumption_token then
			-- Before mod_c2s closes the streams, which would end the sessions cleanly: their clients are to come back,
			-- to their session if it is kept, else to ask what was handled.
			local kept = is_kept(session);
			if kept then
				keep(session);
				kept = commit(session, sm.handled(session.enjamb_stream, waiting_stanzas(session)));
			end
			if not kept then
				remember(session);
				give_up(session);
			end
			local conn = session.conn;
			session.conn = nil;
			if conn and not is_bosh(session) then
				c2s_sessions[conn] = nil;
				conn:close();
			end
			if not kept then
				sessionmanager.destroy_session(session, "Server is shutting down");
			end
		end
	end
end, -90);
