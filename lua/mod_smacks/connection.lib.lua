-- What a session is to Prosody beside its stanzas: a connection, a thread, functions that know it. Closing one, and
-- giving a session the connection of another.
--
-- Knows nothing of acks and queues.

local async = require "util.async";
local sessionmanager = require "core.sessionmanager";
local st = require "util.stanza";
local timer = require "util.timer";

local contain = require "enjamb.contain"(module);
local sm = require "enjamb".smacks;

local own_of = module:require "session";

local coroutine, ipairs, pairs, rawget, setmetatable = coroutine, ipairs, pairs, rawget, setmetatable;

local xmlns_streams = "http://etherx.jabber.org/streams";
local xmlns_stream_errors = "urn:ietf:params:xml:ns:xmpp-streams";

-- For how many seconds a resumption waits for stanzas of the old connection that are being processed.
local settle_timeout = 5;

local c2s_sessions = module:shared("/*/c2s/sessions");
local bosh_sessions = module:shared("/*/bosh/sessions");

local function is_bosh(session)
	return session.sid ~= nil;
end

-- Its account, or its host.
local function bare_jid(session)
	return session.username and (session.username.."@"..session.host) or module.host;
end

-- Its time to wait for a connection is not counted any more.
local function stop_waiting(session)
	if session.hibernating_watchdog then
		session.hibernating_watchdog:cancel();
		session.hibernating_watchdog = nil;
	end
end

-- Ends a stream with an error, { condition, text }, and an element that goes with it, if one does.
local function close(session, err, extra)
	local condition, text = err.condition, err.text;
	if not session.websocket_request then
		return session:close { condition = condition; text = text; extra = extra };
	end
	-- Prosody 13 would send an element whose prefix is not declared in its frame.
	local element = st.stanza("stream:error", { ["xmlns:stream"] = xmlns_streams })
		:tag(condition, { xmlns = xmlns_stream_errors }):up()
		:text_tag("text", text, { xmlns = xmlns_stream_errors });
	if extra then
		element:add_child(extra);
	end
	return session:close(element);
end

-- Between arriving and being processed, stanzas wait in session.thread. Returns how many do, at least; those behind
-- `element` only, if that is in the queue.
local function waiting_stanzas(session, element)
	local thread = rawget(session, "thread"); -- one that waits may have none
	if not thread or not thread.queue or thread.state == "ready" then return 0; end
	local n = 0;
	for _, item in ipairs(thread.queue) do
		if item == element then
			n = 0;
		elseif st.is_stanza(item) and sm.is_stanza(item.name, item.attr.xmlns) then
			n = n + 1;
		end
	end
	if thread.state == "waiting" and not element then
		n = n + 1; -- the one that is being processed has left the queue
	end
	return n;
end

-- The same when a stream is closed from within the handling of one of its stanzas: a request whose answer is `last`, what
-- was sent last, has been processed, though it has not left the queue yet.
local function unanswered_stanzas(session, last)
	local waiting = waiting_stanzas(session);
	local kind = last and last.name == "iq" and last.attr.type;
	if waiting == 0 or kind ~= "result" and kind ~= "error" then return waiting; end
	local thread = session.thread;
	for _, item in ipairs(thread.queue) do
		if st.is_stanza(item) and item.name == "iq" and not item.attr.xmlns and item.attr.id == last.attr.id then
			return waiting_stanzas(session, item);
		end
	end
	-- One that has waited for something has left the queue. 0.12 does not say which it is; it is what runs now.
	local current = thread.current_item;
	if thread.state == "waiting" and coroutine.running() == thread.thread
	and (not st.is_stanza(current) or current.attr.id == last.attr.id) then
		return waiting - 1;
	end
	return waiting;
end

-- mod_csi_simple may have paused it.
local function resume_writes(conn)
	if conn and conn.resume_writes then
		conn:resume_writes();
	end
end

-- Whether it has not yet taken all that it was given.
local function has_unsent(conn)
	local buffer = conn and conn.writebuffer;
	return buffer ~= nil and #buffer > 0;
end

-- mod_bosh finds by the sid what becomes active or times out with its requests. With the one of the session, which goes on, it is to
-- find nothing any more. The requests that it holds are answered when `stand_in` is closed.
local function leave_bosh(session, stand_in)
	for _, name in ipairs { "bosh_wait_timer", "inactive_timer" } do
		if session[name] then
			session[name]:stop();
			session[name] = nil;
		end
	end
	bosh_sessions[session.sid] = nil;
	stand_in.sid, stand_in.requests = session.sid, session.requests;
	session.requests, session.send_buffer = {}, {};
end

-- Tells whoever still has the session's old connection that it was replaced. Should that fail the session goes on all the same.
local function close_replaced(session)
	local conn = session.conn;
	session.conn = nil;
	c2s_sessions[conn] = nil;
	-- Looks to the transport's own close like a session that has nothing but the connection.
	local connection = {
		type = "c2s_unbound"; host = session.host; conn = conn; ip = session.ip; log = session.log; id = session.id;
		send = session.send; rawsend = session.rawsend; filter = session.filter; filters = session.filters;
		close = session.close; open_stream = session.open_stream; thread = session.thread;
		version = session.version; streamid = session.streamid; websocket_request = session.websocket_request;
	};
	if is_bosh(session) then
		leave_bosh(session, connection);
	end
	contain.attempt(session, "closing the connection that was replaced", function ()
		resume_writes(conn);
		close(connection, sm.stream_error("replaced"));
	end);
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
local function adopt(session, from)
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
end

-- The connection of a session whose client is gone is closed; the session stays.
local function detach(session)
	local conn = session.conn;
	session.conn = nil;
	if conn and not is_bosh(session) then
		c2s_sessions[conn] = nil;
		conn:close();
	end
end

-- The connection did not take what the session has sent, and has to go before it takes what comes after that: the client
-- counts what it gets.
local function lost(session, reason)
	local conn = session.conn;
	session.log("info", "Disconnecting: %s", reason);
	sessionmanager.destroy_session(session, reason);
	if conn then
		conn:close();
	end
end

-- It has not taken what was just written (Prosody 13, if it is paused and full): the client counts on it, if the session is managed.
local function refused(session, reason)
	if own_of(session).stream and not session.hibernating then
		lost(session, reason or "The connection takes no more");
	end
end

-- What came in on the old connection may still wait to be processed. Before the client is told that it was handled, it
-- is, unless that takes too long: it will be, in any case.
local function settle(session)
	local thread = rawget(session, "thread");
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

return {
	adopt = adopt;
	bare_jid = bare_jid;
	close = close;
	close_replaced = close_replaced;
	detach = detach;
	has_unsent = function (session) return has_unsent(session.conn); end;
	is_bosh = is_bosh;
	lost = lost;
	new_thread = new_thread;
	refused = refused;
	resume_writes = function (session) return resume_writes(session.conn); end;
	settle = settle;
	stop_waiting = stop_waiting;
	unanswered_stanzas = unanswered_stanzas;
	waiting_stanzas = waiting_stanzas;
};
