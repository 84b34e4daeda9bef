-- The part of Enjamb's benchmark that runs inside Prosody.
--
-- bench/inprocess.py starts Prosody with this module loaded on one host.  Once
-- the server is up it makes client sessions with Prosody's own session manager
-- over a connection object that only counts bytes, turns stream management on
-- with the event a real <enable/> causes, measures, writes one JSON object per
-- line to the file named by `enjamb_bench_output` and ends the process.
--
-- What is timed of sending is what session.send() does with a stanza minus its
-- debug log line and the socket: the stanzas/out filters, then tostring().

local sessionmanager = require "core.sessionmanager";
local modulemanager = require "core.modulemanager";
local st = require "util.stanza";
local json = require "util.json";
local new_xmpp_stream = require "util.xmppstream".new;

local output = assert(module:get_option_string("enjamb_bench_output"));
local variant = assert(module:get_option_string("enjamb_bench_variant")); -- none, builtin, enjamb
local phase = module:get_option_string("enjamb_bench_phase", "speed"); -- or hibernation, memory, acks, growth, fill
-- How much of it: sessions of hibernation, memory, growth and fill, messages for each, and the longest queue of growth
local n_sessions = module:get_option_number("enjamb_bench_sessions", 200);
local n_messages = module:get_option_number("enjamb_bench_messages", 400);
local longest = module:get_option_number("enjamb_bench_longest", 500);

local host = module.host;
local host_events = prosody.hosts[host].events;
local c2s_sessions = module:shared("/*/c2s/sessions");

local xmlns_sm3 = "urn:xmpp:sm:3";
local clock = os.clock; -- CPU time of this process
local tostring = tostring;
local ACK_EVERY = 50;

local out;
local function report(record)
	out:write(json.encode(record), "\n");
end

-- Everything runs in one coroutine, so that the server can go about its business in between.
local running;
local function resume_running()
	assert(coroutine.resume(running));
end
local function sleep(seconds)
	module:add_timer(seconds, resume_running);
	coroutine.yield();
end

------------------------------------------------------------------- stanzas --

-- Stanzas that come from other clients are made by Prosody's own parser, so
-- that their tables are what the router would be handing over (it adds
-- xml:lang to those that have none, so here they all have it).
local new_parser; do
	local header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
	function new_parser()
		local result;
		local session = { notopen = true };
		local stream = new_xmpp_stream(session, {
			default_ns = "jabber:client";
			streamopened = function () session.notopen = nil; end;
			streamclosed = function () end;
			error = function (_, err, data) error("parser: "..tostring(err).." "..tostring(data)); end;
			handlestanza = function (_, stanza) result = stanza; end;
		});
		assert(stream:feed(header));
		return function (xml)
			result = nil;
			assert(stream:feed(xml));
			return assert(result);
		end
	end
end
local parse = new_parser();

-- 100 characters, of which one apostrophe needs escaping
local prose = "But soft, what light through yonder window breaks? It is the east, and Juliet's the sun; arise fair ";
assert(#prose == 100);

local function text_of(length, n) -- the length is that after escaping
	local head = ("%d. "):format(n);
	local room = length - #head;
	assert(room >= 0, "no room for a body");
	local whole = room // 105;
	return head .. prose:gsub("'", "&apos;"):rep(whole) .. ("x"):rep(room - whole * 105);
end

local function uuid(n)
	return ("%08x-6c1d-4b1f-9f6e-%012x"):format((n * 2654435761) & 0xffffffff, n);
end

local TO = "romeo@" .. host .. "/rm";

-- Brings a stanza to exactly `bytes` bytes by its body
local function padded(bytes, format, n, ...)
	local bare = (format:format(...)):gsub("@BODY@", "", 1);
	return (format:format(...):gsub("@BODY@", function () return text_of(bytes - #bare, n) end, 1));
end

local function chat_text(n, bytes)
	return padded(bytes,
		"<message xml:lang='en' from='juliet@capulet.lit/balcony' to='%s' type='chat' id='%s'>"
		.. "<body>@BODY@</body><origin-id xmlns='urn:xmpp:sid:0' id='%s'/>"
		.. "<request xmlns='urn:xmpp:receipts'/>"
		.. "<active xmlns='http://jabber.org/protocol/chatstates'/>"
		.. "</message>", n, TO, uuid(n), uuid(n));
end

local kinds = {
	{
		name = "presence"; bytes = 90; pool = 300; total = 4800; collect_every = 24;
		make = function (n)
			local xml = ("<presence xml:lang='en' from='juliet@capulet.lit/a' to='%s'/>"):format(TO);
			local spare = 90 - #xml;
			assert(spare >= 0);
			-- distinct: the resource carries the number
			return parse((xml:gsub("/a'", ("/%0" .. (spare + 1) .. "d'"):format(n), 1)));
		end;
	},
	{
		name = "chat"; bytes = 409; pool = 300; total = 3000; collect_every = 10;
		make = function (n, bytes)
			return parse(chat_text(n, bytes or 409));
		end;
	},
	{
		name = "groupchat"; bytes = 450; pool = 300; total = 3000; collect_every = 10;
		make = function (n)
			return parse(padded(450,
				"<message xml:lang='en' from='balcony@conference.capulet.lit/Juliet' to='%s' type='groupchat' id='%s'>"
				.. "<body>@BODY@</body><origin-id xmlns='urn:xmpp:sid:0' id='%s'/>"
				.. "<stanza-id xmlns='urn:xmpp:sid:0' by='balcony@conference.capulet.lit' id='%016d'/>"
				.. "</message>", n, TO, uuid(n), uuid(n), n));
		end;
	},
	{
		-- A roster: made by the server, so with the builder
		name = "iq"; bytes = 2048; pool = 100; total = 600; collect_every = 3;
		make = function (n)
			local function roster(pad)
				local iq = st.stanza("iq", { type = "result", id = uuid(n), to = TO })
					:tag("query", { xmlns = "jabber:iq:roster", ver = uuid(n + 1) });
				for i = 1, 16 do
					iq:tag("item", {
						jid = ("contact%06d%02d@capulet.lit"):format(n, i); subscription = "both";
						name = i == 16 and "Nurse"..("x"):rep(pad) or ("Friend %06d %02d"):format(n, i);
					}):text_tag("group", i % 2 == 0 and "Capulets" or "Montague"):up();
				end
				return iq:up();
			end
			return roster(2048 - #tostring(roster(0)));
		end;
	},
	{
		name = "large"; bytes = 30000; pool = 50; total = 200; collect_every = 1;
		make = function (n)
			return parse(padded(30000,
				"<message xml:lang='en' from='juliet@capulet.lit/balcony' to='%s' type='chat' id='%s'>"
				.. "<body>@BODY@</body><origin-id xmlns='urn:xmpp:sid:0' id='%s'/>"
				.. "<request xmlns='urn:xmpp:receipts'/>"
				.. "</message>", n, TO, uuid(n), uuid(n)));
		end;
	},
};
local kind_by_name = {};
for _, kind in ipairs(kinds) do kind_by_name[kind.name] = kind; end
local HIBERNATION_BYTES = 478;

local next_number = 0;
local function make_pool(kind, count, bytes)
	local pool = {};
	for i = 1, count do
		next_number = next_number + 1;
		pool[i] = kind.make(next_number, bytes);
		local xml = tostring(pool[i]);
		if #xml ~= (bytes or kind.bytes) then
			error(("%s is %d bytes: %s"):format(kind.name, #xml, xml));
		end
	end
	return pool;
end

------------------------------------------------------------------ sessions --

local conn_methods = {};
function conn_methods:ip() return "127.0.0.1"; end -- luacheck: ignore 212/self
function conn_methods:ssl() return false; end -- luacheck: ignore 212/self
function conn_methods:write(data) self.written = self.written + #data; return true; end
function conn_methods:close() self.closed = true; end
local function nothing() end
local conn_mt = { __index = function (_, name) return conn_methods[name] or nothing; end };

local function enable(session)
	if variant == "none" then return; end
	local conn = session.conn;
	local before = conn.written;
	host_events.fire_event("stanza/urn:xmpp:sm:3:enable", {
		origin = session;
		stanza = st.stanza("enable", { xmlns = xmlns_sm3, resume = "true" });
	});
	assert(session.smacks and conn.written > before, "stream management was not enabled");
end

-- A session that is logged in; `short_of` "bind": before it has a resource, "enable": before it has stream management
local function new_session(username, short_of)
	local conn = setmetatable({ written = 0 }, conn_mt);
	local session = sessionmanager.new_session(conn);
	session.host = host;
	session.secure = true;
	function session.close(_, reason)
		error("session was closed: "..tostring(type(reason) == "table" and (reason.text or reason.condition) or reason));
	end
	c2s_sessions[conn] = session;
	assert(sessionmanager.make_authenticated(session, username));
	if short_of ~= "bind" then
		assert(sessionmanager.bind_resource(session, "bench"));
		if short_of ~= "enable" then enable(session); end
	end
	return { session = session; conn = conn; sent = 0 };
end

local function new_ack(h)
	return st.stanza("a", { xmlns = xmlns_sm3, h = ("%d"):format(h) });
end

-- As mod_c2s does with what its parser gives it, without the coroutine
local function receive(session, stanza)
	stanza = session.filter("stanzas/in", stanza);
	if stanza then
		prosody.core_process_stanza(session, stanza);
	end
end

-- `count` more stanzas have been sent; the client says that it has all but `left`
local function ack(client, left)
	if variant == "none" then return 0; end
	local stanza = new_ack(client.sent - (left or 0));
	local t = clock();
	receive(client.session, stanza);
	return clock() - t;
end

-- What is in the queue, if the module lets that be seen
local function queue_length(client)
	local queue = client.session.outgoing_stanza_queue;
	local ok, n = pcall(function () return queue:count_unacked(); end);
	if ok then return n; end
end

local function expect_queue(client, expected)
	if variant == "none" then return; end
	local n = queue_length(client);
	if n and n ~= expected then
		error(("%d stanzas in the queue, %d expected"):format(n, expected));
	end
end

-- Before a session hibernates all of its queue can be acknowledged, from then on nothing: none of it has been sent.
local function hibernate(client)
	sessionmanager.destroy_session(client.session, "benchmark");
	assert(client.session.hibernating and not client.session.destroyed, "session does not hibernate");
	assert(client.conn.closed, "connection was left open");
end

-------------------------------------------------------------------- timing --

local function with_collector(gc, work)
	collectgarbage("restart");
	collectgarbage("collect");
	collectgarbage("collect");
	if gc == "off" then collectgarbage("stop"); end
	local ok, result = xpcall(work, debug.traceback);
	collectgarbage("restart");
	if not ok then error(result, 0); end
	return result;
end

-- With Prosody's settings Lua collects all of its garbage in one go whenever
-- the heap has grown by four per cent.  Where that falls must depend on nothing
-- but how much is allocated, so the distance to it is made random before each
-- block: by up to one such growth, and in small pieces, for a large one would
-- start the next period at its end.
local function lose_step(gc)
	if gc == "on" then
		for _ = 1, math.random(0, collectgarbage("count") // 25 | 0) do
			local _ = ("x"):rep(1000);
		end
	end
end

-- Sends the stanzas of a pool in blocks of ACK_EVERY.  Each block is acked in
-- full after it, which is not timed.
local function measure_send(client, pool, total, gc, collect_every)
	return with_collector(gc, function ()
		local filter = client.session.filter;
		if gc == "off" then total = total // 2; end -- it varies less
		local elapsed, blocks, at = 0, total // ACK_EVERY, 1;
		for block = 1, blocks do
			lose_step(gc);
			local t0 = clock();
			for i = at, at + ACK_EVERY - 1 do
				local t = filter("stanzas/out", pool[i]);
				if t then
					tostring(t); -- as rawsend does, whatever it is given
				end
			end
			elapsed = elapsed + (clock() - t0);
			client.sent = client.sent + ACK_EVERY;
			ack(client);
			at = at + ACK_EVERY;
			if at > #pool then at = 1; end
			if gc == "off" and block % collect_every == 0 then collectgarbage("collect"); end
		end
		return { n = blocks * ACK_EVERY, seconds = elapsed };
	end);
end

-- All of session.send(), with its debug line (which nobody reads, but whose
-- arguments are worked out) and the write to the connection that only counts
local function measure_whole_send(client, pool, total, gc, collect_every)
	return with_collector(gc, function ()
		local send = client.session.send;
		if gc == "off" then total = total // 2; end
		local elapsed, blocks, at = 0, total // ACK_EVERY, 1;
		local before, bytes = client.conn.written, 0;
		for block = 1, blocks do
			for i = at, at + ACK_EVERY - 1 do bytes = bytes + #tostring(pool[i]); end
			lose_step(gc);
			local t0 = clock();
			for i = at, at + ACK_EVERY - 1 do
				send(pool[i]);
			end
			elapsed = elapsed + (clock() - t0);
			client.sent = client.sent + ACK_EVERY;
			assert(client.conn.written - before == bytes, "not what was to be written");
			ack(client);
			at = at + ACK_EVERY;
			if at > #pool then at = 1; end
			if gc == "off" and block % collect_every == 0 then collectgarbage("collect"); end
		end
		return { n = blocks * ACK_EVERY, seconds = elapsed };
	end);
end

local function put(what, kind, gc, result, more)
	local record = { what = what, kind = kind, gc = gc, n = result.n, ns = result.seconds / result.n * 1e9 };
	for k, v in pairs(more or {}) do record[k] = v; end
	report(record);
end

-- What leaves must be what would leave without stream management
local function check_output(client, kind, pool)
	for i = 1, ACK_EVERY do
		local before = tostring(pool[i]);
		local t = client.session.filter("stanzas/out", pool[i]);
		assert(t, "the stanza went nowhere");
		local s = tostring(t);
		-- the order of attributes is that of a Lua table, so compare the parsed form
		assert(#s == #before, kind.name .. ": length differs");
		local a, b = {}, {};
		for c in s:gmatch("[^%s/>]+") do a[#a+1] = c; end
		for c in before:gmatch("[^%s/>]+") do b[#b+1] = c; end
		table.sort(a); table.sort(b);
		assert(table.concat(a, " ") == table.concat(b, " "), kind.name .. ": content differs");
		if i == 1 then report { what = "output", kind = kind.name, type = type(t), bytes = #s }; end
	end
	client.sent = client.sent + ACK_EVERY;
	expect_queue(client, ACK_EVERY);
	ack(client);
	expect_queue(client, 0);
end

-------------------------------------------------------------------- phases --

-- The last messages of a queue that grows to each of these lengths: from, to.
-- 500 is the size of the queue, so with that one it is full.
local STRETCHES = { { 1, 10 }, { 51, 100 }, { 401, 500 } };

local function run_hibernation_speed()
	local pool = make_pool(kind_by_name.chat, 500, HIBERNATION_BYTES);
	for _, gc in ipairs { "on", "off" } do
		local results = {};
		for i = 1, #STRETCHES do results[i] = { n = 0, seconds = 0 }; end
		with_collector(gc, function ()
			for s = 1, n_sessions do
				local client = new_session("sleeper"..gc..s);
				hibernate(client);
				local filter = client.session.filter;
				for i, stretch in ipairs(STRETCHES) do
					local from, to = stretch[1], stretch[2];
					for at = client.sent + 1, from - 1 do
						local sent = filter("stanzas/out", pool[at]);
						assert(sent == nil, "a stanza was sent to a session that hibernates");
					end
					lose_step(gc);
					local t0 = clock();
					for at = from, to do filter("stanzas/out", pool[at]); end
					results[i].seconds = results[i].seconds + (clock() - t0);
					results[i].n = results[i].n + to - from + 1;
					client.sent = to;
					expect_queue(client, to);
				end
				if gc == "off" then collectgarbage("collect"); end
			end
		end);
		for i, result in ipairs(results) do put("hibernating", "chat", gc, result, { length = STRETCHES[i][2] }); end
	end
end

local function run_speed()
	local client = new_session("romeo");

	do -- what the measuring itself costs
		local t0 = clock();
		for _ = 1, 10000 do clock(); end
		report { what = "clock", ns = (clock() - t0) / 10000 * 1e9 };
	end

	for _, kind in ipairs(kinds) do
		local pool = make_pool(kind, kind.pool);
		check_output(client, kind, pool);
		measure_send(client, pool, math.max(kind.total // 4, ACK_EVERY), "on", kind.collect_every); -- to warm up
		for _, gc in ipairs { "on", "off" } do
			put("send", kind.name, gc, measure_send(client, pool, kind.total, gc, kind.collect_every));
			if kind.name == "chat" then
				put("session.send", kind.name, gc, measure_whole_send(client, pool, 1800, gc, kind.collect_every));
			end
		end
		pool = nil; -- luacheck: ignore 311/pool
		collectgarbage("collect");
	end
end

local function rss()
	local file = assert(io.open("/proc/self/statm"));
	local pages = tonumber(file:read("a"):match("^%d+ (%d+)"));
	file:close();
	return pages * 4096;
end

local function settle()
	collectgarbage("collect");
	collectgarbage("collect");
	return rss(), collectgarbage("count") * 1024;
end

-- Until nothing is written behind any more.
local function rest()
	repeat
		local t = clock();
		sleep(0.4);
	until clock() - t < 0.004;
end

-- The first large allocation after much has been freed sorts all of it, which is no cost of what is measured.
local function collect_and_stop()
	collectgarbage("collect");
	collectgarbage("stop");
	return #("x"):rep(100000);
end

-- To make sessions and queues takes the better part of a minute with the
-- collector as Prosody sets it, so it runs here when the heap has grown by a
-- tenth, or to so many times what it was.
local function with_lazy_collector(work, growth)
	growth = growth or 1.1;
	collectgarbage("stop");
	local limit = 0;
	work(function ()
		if collectgarbage("count") > limit then
			collectgarbage("collect");
			limit = collectgarbage("count") * growth + 4096;
		end
	end);
	collectgarbage("restart");
end

-- Queues messages for each; `make(n)` makes the nth.
local function fill(clients, messages, make)
	with_lazy_collector(function (collect)
		for n = 1, messages do
			for i = 1, #clients do
				clients[i].session.filter("stanzas/out", make(n + i));
				collect();
			end
		end
	end);
	for i = 1, #clients do
		clients[i].sent = clients[i].sent + messages;
		expect_queue(clients[i], clients[i].sent);
	end
end

local function new_sessions(count, name, short_of, growth)
	local clients = {};
	with_lazy_collector(function (collect)
		for i = 1, count do
			clients[i] = new_session(name..i, short_of);
			collect();
		end
	end, growth);
	return clients;
end

local function hibernate_all(clients, growth)
	with_lazy_collector(function (collect)
		for i = 1, #clients do hibernate(clients[i]); collect(); end
	end, growth);
end

-- Memory of sessions, of stream management with nothing queued, of messages queued for sessions while they are
-- connected, and of messages queued for sessions that hibernate.
local function run_memory()
	local before = {};
	local function grown(what, count, more)
		local resident, lua = settle();
		local record = { what = what, rss = (resident - before.rss) / count, lua = (lua - before.lua) / count };
		for k, v in pairs(more or {}) do record[k] = v; end
		report(record);
		before.rss, before.lua = resident, lua;
	end

	-- Every message is parsed anew and referred to by nobody but the queue.
	local texts = {};
	for n = 1, 500 do texts[n] = chat_text(n, HIBERNATION_BYTES); end
	local function make(n) return parse(texts[n % #texts + 1]); end

	-- what only grows once has grown
	local all = { new_session("warm") };
	for n = 1, 2000 do make(n); end
	before.rss, before.lua = settle();
	local count = 1000; -- so small that fewer do not show
	local idle = new_sessions(count, "idle", "enable");
	grown("session", count);
	if variant == "none" then return idle; end
	for i = 1, count do enable(idle[i].session); end
	rest();
	grown("empty", count);

	local clients, total = new_sessions(n_sessions, "sleeper"), n_sessions * n_messages;
	local queue = { sessions = n_sessions, messages = n_messages, bytes = HIBERNATION_BYTES };
	rest();
	before.rss, before.lua = settle();
	fill(clients, n_messages, make);
	rest();
	grown("live", total, queue);

	-- Others, so that these do not get what those gave up; and with as much before, so that what only grows once has.
	local others = new_sessions(n_sessions, "dozer");
	hibernate_all(others);
	fill(others, n_messages // 10, make);
	rest();
	before.rss, before.lua = settle();
	fill(others, n_messages, make);
	rest();
	grown("hibernating", total, queue);
	return all, idle, clients, others;
end

-- What one <a/> costs, by how many messages it covers: step, rounds of 500 messages to each.  The collector is stopped:
-- it would run once or not at all; what it would have to collect is counted instead.  It runs after the acks, not before:
-- the first allocation after much has been freed sorts it all, which is no cost of acks.
local ACKS = { { 1, 1 }, { 10, 2 }, { 100, 3 }, { 500, 6 } };

local function run_acks()
	local clients, length = {}, 500;
	for i = 1, 8 do clients[i] = new_session("romeo"..i); end
	local pool = make_pool(kind_by_name.chat, 300);
	local function round(step)
		local acks = {};
		for c, client in ipairs(clients) do
			for i = 1, length do client.session.filter("stanzas/out", pool[i % #pool + 1]); end
			acks[c] = {};
			for h = step, length, step do table.insert(acks[c], new_ack(client.sent + h)); end
			client.sent = client.sent + length;
		end
		local before, t0 = collectgarbage("count"), clock();
		for n = 1, length // step do
			for c = 1, #clients do receive(clients[c].session, acks[c][n]); end
		end
		local elapsed, garbage = clock() - t0, collectgarbage("count") - before;
		for _, client in ipairs(clients) do expect_queue(client, 0); end
		collectgarbage("collect");
		return elapsed, garbage, #clients * length // step;
	end
	for _, plan in ipairs(ACKS) do
		local step, rounds = plan[1], plan[2];
		local garbage = 0;
		local result = with_collector("off", function ()
			local elapsed, count = 0, 0;
			for _ = 1, rounds do
				local seconds, kilobytes, acks = round(step);
				elapsed, garbage, count = elapsed + seconds, garbage + kilobytes, count + acks;
			end
			return { n = count, seconds = elapsed };
		end);
		put("ack", "chat", "off", result, { step = step, garbage = garbage * 1024 / result.n });
	end
end

-- Resumes a session, whose client has seen nothing of its queue, over a connection that takes all it is given.
local function resume(client)
	local session = client.session;
	local other = new_session(session.username, "bind");
	other.session.stream = { set_session = nothing }; -- its XML parser, of which nothing else is wanted
	other.session.data = {};
	local h = client.sent - (queue_length(client) or 0);
	local stanza = st.stanza("resume", { xmlns = xmlns_sm3, previd = session.resumption_token, h = ("%d"):format(h) });
	local t0 = clock();
	host_events.fire_event("stanza/urn:xmpp:sm:3:resume", { origin = other.session, stanza = stanza });
	local written;
	repeat
		written = other.conn.written;
		host_events.fire_event("c2s-ondrain", { session = session });
	until other.conn.written == written;
	local elapsed = clock() - t0;
	assert(not session.hibernating and session.conn == other.conn, "the session was not resumed");
	assert(written >= (client.sent - h) * HIBERNATION_BYTES, "not everything was sent again");
	client.conn = other.conn;
	return elapsed;
end

-- How the steps grow: with the number of sessions that hibernate, and with the
-- length of a queue.  The collector is stopped: what it costs grows with the
-- heap, whoever filled it.
local function run_growth()
	local EACH = 10;
	local pool = make_pool(kind_by_name.chat, 300, HIBERNATION_BYTES);
	local rss_before, lua_before = settle();
	local clients = new_sessions(n_sessions, "sleeper", nil, 2);
	hibernate_all(clients, 2);
	rest();
	local rss_after, lua_after = settle();
	report {
		what = "grow/memory", sessions = n_sessions,
		rss = (rss_after - rss_before) / n_sessions, lua = (lua_after - lua_before) / n_sessions,
	};

	-- spread over all of them
	local some = {};
	for i = 1, math.min(n_sessions, 1000) do some[i] = clients[(i - 1) * n_sessions // math.min(n_sessions, 1000) + 1]; end
	local function timed(what, count, work)
		rest(); -- the clock is that of all threads
		collect_and_stop();
		local elapsed, n = 0, 0;
		for i = 1, count do
			local seconds, times = work(i);
			elapsed, n = elapsed + seconds, n + (times or 1);
		end
		collectgarbage("restart");
		report { what = what, sessions = n_sessions, ns = elapsed / n * 1e9 };
	end
	local function push(i, count)
		local filter = some[i].session.filter;
		local t0 = clock();
		for at = 1, count do filter("stanzas/out", pool[(i + at) % #pool + 1]); end
		local elapsed = clock() - t0;
		some[i].sent = some[i].sent + count;
		return elapsed, count;
	end
	-- What is put off until something is queued again is not of these messages.
	local before = clock();
	local other = new_session("other");
	hibernate(other);
	for i = 1, 20 do other.session.filter("stanzas/out", pool[i]); end
	rest();
	report { what = "grow/put-off", sessions = n_sessions, ns = (clock() - before) * 1e9 };
	timed("grow/first", #some, function (i) return push(i, 1); end);
	timed("grow/push", #some, function (i) return push(i, EACH - 1); end);
	timed("grow/resume", math.min(#some, 200), function (i) return resume(some[i]); end);
	timed("grow/ack", math.min(#some, 200), function (i) return ack(some[i]); end);
	timed("grow/enable", 50, function (i)
		local client = new_session("late"..i, "enable");
		local t0 = clock();
		enable(client.session);
		return clock() - t0;
	end);

	local length = 1;
	while length <= longest do
		local client = new_session("long"..length);
		hibernate(client);
		local filter = client.session.filter;
		local last = math.min(length, 10);
		with_lazy_collector(function (collect)
			for i = 1, length - last do
				filter("stanzas/out", pool[i % #pool + 1]);
				if i % 10 == 0 then collect(); end
			end
		end);
		collect_and_stop();
		local t0 = clock();
		for i = 1, last do filter("stanzas/out", pool[i]); end
		local pushing = (clock() - t0) / last;
		client.sent = length;
		expect_queue(client, length);
		local resuming = resume(client) / length;
		rest();
		local acking = 0;
		for i = 1, last do acking = acking + ack(client, length - i) / last; end
		local acking_rest = length > last and ack(client) / (length - last) or nil;
		expect_queue(client, 0);
		collectgarbage("restart");
		report {
			what = "length", length = length, push_ns = pushing * 1e9, ack_ns = acking * 1e9,
			resume_ns = resuming * 1e9, ack_rest_ns = acking_rest and acking_rest * 1e9,
		};
		length = length * 10;
	end
end

-- Sessions to come back after the process has been killed.
local function run_fill()
	local clients, pool = new_sessions(n_sessions, "sleeper"), make_pool(kind_by_name.chat, 500, HIBERNATION_BYTES);
	fill(clients, n_messages, function (n) return pool[n % #pool + 1]; end);
	hibernate_all(clients);
	rest();
end

-------------------------------------------------------------------- driver --

local phases = {
	speed = run_speed; hibernation = run_hibernation_speed; memory = run_memory; acks = run_acks; growth = run_growth; fill = run_fill;
};

local function run()
	out = assert(io.open(output, "w"));
	out:setvbuf("line");
	local ok, err = xpcall(function ()
		local smacks = modulemanager.get_module(host, "smacks");
		if variant == "none" then
			assert(not smacks, "mod_smacks is loaded");
		else
			assert(smacks, "mod_smacks is not loaded");
		end
		report {
			what = "server", variant = variant, phase = phase, prosody = prosody.version, lua = _VERSION,
			module_path = smacks and smacks.module.path or nil,
			statistics = module:context("*"):get_option_string("statistics"),
		};
		phases[phase]();
		report { what = "done" };
	end, debug.traceback);
	if not ok then report { what = "error", message = tostring(err) }; end
	out:close();
	if phase ~= "fill" then
		os.exit(ok and 0 or 1, false);
	end
end

module:hook_global("server-started", function ()
	running = coroutine.create(run);
	module:add_timer(0.05, resume_running);
end);
