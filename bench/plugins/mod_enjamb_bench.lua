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
local samples = module:get_option_number("enjamb_bench_samples", 1);
-- How much of it: sessions of memory, growth and fill, messages for each, and the longest queue of growth
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
			return parse(padded(bytes or 409,
				"<message xml:lang='en' from='juliet@capulet.lit/balcony' to='%s' type='chat' id='%s'>"
				.. "<body>@BODY@</body><origin-id xmlns='urn:xmpp:sid:0' id='%s'/>"
				.. "<request xmlns='urn:xmpp:receipts'/>"
				.. "<active xmlns='http://jabber.org/protocol/chatstates'/>"
				.. "</message>", n, TO, uuid(n), uuid(n)));
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

-- A session that is authenticated, and with nothing else if `unbound`
local function new_session(username, unbound)
	local conn = setmetatable({ written = 0 }, conn_mt);
	local session = sessionmanager.new_session(conn);
	session.host = host;
	session.secure = true;
	function session.close(_, reason)
		error("session was closed: "..tostring(type(reason) == "table" and (reason.text or reason.condition) or reason));
	end
	c2s_sessions[conn] = session;
	assert(sessionmanager.make_authenticated(session, username));
	if not unbound then
		assert(sessionmanager.bind_resource(session, "bench"));
		enable(session);
	end
	return { session = session; conn = conn; sent = 0 };
end

local function new_ack(h)
	return st.stanza("a", { xmlns = xmlns_sm3, h = ("%d"):format(h) });
end

local function fire_ack(session, stanza)
	return host_events.fire_event("stanza/urn:xmpp:sm:3:a", { origin = session, stanza = stanza });
end

-- `count` more stanzas have been sent; the client says that it has all but `left`
local function ack(client, left)
	if variant == "none" then return 0; end
	local stanza = new_ack(client.sent - (left or 0));
	local t = clock();
	fire_ack(client.session, stanza);
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
-- full after it, which is timed apart.
local function measure_send(client, pool, total, gc, collect_every)
	return with_collector(gc, function ()
		local filter = client.session.filter;
		if gc == "off" then total = total // 2; end -- it varies less
		local elapsed, acking, blocks, at = 0, 0, total // ACK_EVERY, 1;
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
			acking = acking + ack(client);
			at = at + ACK_EVERY;
			if at > #pool then at = 1; end
			if gc == "off" and block % collect_every == 0 then collectgarbage("collect"); end
		end
		return { n = blocks * ACK_EVERY, seconds = elapsed, acks = blocks, ack_seconds = acking };
	end);
end

-- The same with the acks inside what is timed, one for every `every` stanzas
local function measure_send_and_ack(client, pool, total, gc, collect_every, every)
	return with_collector(gc, function ()
		local filter, session = client.session.filter, client.session;
		local size = math.max(every, ACK_EVERY);
		if gc == "off" then total = total // 2; end
		local elapsed, blocks, at = 0, total // size, 1;
		for block = 1, blocks do
			local acks = {};
			if variant ~= "none" then
				for i = every, size, every do acks[i] = new_ack(client.sent + i); end
			end
			local offset = at - 1;
			lose_step(gc);
			local t0 = clock();
			for i = 1, size do
				local t = filter("stanzas/out", pool[offset + i]);
				if t then
					tostring(t);
				end
				local a = acks[i];
				if a then fire_ack(session, a); end
			end
			elapsed = elapsed + (clock() - t0);
			client.sent = client.sent + size;
			at = at + size;
			if at > #pool then at = 1; end
			if gc == "off" and block % collect_every == 0 then collectgarbage("collect"); end
		end
		expect_queue(client, 0);
		return { n = blocks * size, seconds = elapsed };
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
	if result.acks then record.ack_ns = result.ack_seconds / result.acks * 1e9; end
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

local function run_hibernation_speed()
	if variant == "none" then return; end
	local SESSIONS, PUSHES = 4, 10;
	local clients = {};
	local pool = make_pool(kind_by_name.chat, SESSIONS * PUSHES * 10, HIBERNATION_BYTES);
	local at = 0;
	for i = 1, SESSIONS do
		clients[i] = new_session("sleeper"..i);
		hibernate(clients[i]);
	end
	local function push(count)
		for i = 1, SESSIONS do
			local filter = clients[i].session.filter;
			for _ = 1, count do
				at = at % #pool + 1;
				assert(filter("stanzas/out", pool[at]) == nil, "stanza was sent to a hibernating session");
			end
			clients[i].sent = clients[i].sent + count;
		end
	end
	local held = 0;
	-- The last of PUSHES stanzas makes the queue as long as it says; 500 is the
	-- size of the queue, so with that one it is full.
	for _, length in ipairs { 10, 100, 500 } do
		with_collector("off", function () push(length - PUSHES - held); end);
		held = length - PUSHES;
		for _ = 1, samples do
			for _, gc in ipairs { "on", "off" } do
				put("hibernating", "chat", gc, with_collector(gc, function ()
					local elapsed, ROUNDS = 0, gc == "on" and 20 or 5;
					for round = 1, ROUNDS do
						lose_step(gc);
						local t0 = clock();
						for i = 1, SESSIONS do
							local filter = clients[i].session.filter;
							for _ = 1, PUSHES do
								at = at % #pool + 1;
								filter("stanzas/out", pool[at]);
							end
						end
						elapsed = elapsed + (clock() - t0);
						for i = 1, SESSIONS do
							clients[i].sent = clients[i].sent + PUSHES;
							expect_queue(clients[i], length);
							-- the oldest ones go, the queue is as before
							ack(clients[i], held);
							expect_queue(clients[i], held);
						end
						if gc == "off" and round % 5 == 0 then collectgarbage("collect"); end
					end
					return { n = ROUNDS * SESSIONS * PUSHES, seconds = elapsed };
				end), { length = length });
			end
		end
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
		for _ = 1, samples do
			for _, gc in ipairs { "on", "off" } do
				put("send", kind.name, gc, measure_send(client, pool, kind.total, gc, kind.collect_every));
				-- the chat message once more, in other ways
				if kind.name == "chat" then
					for _, every in ipairs { 1, 100 } do
						put("send+ack", kind.name, gc,
							measure_send_and_ack(client, pool, 1800, gc, kind.collect_every, every), { every = every });
					end
					put("session.send", kind.name, gc, measure_whole_send(client, pool, 1800, gc, kind.collect_every));
				end
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

-- To fill queues takes the better part of a minute with the collector as
-- Prosody sets it, so it runs here when the heap has grown by a tenth.
local function with_lazy_collector(work)
	collectgarbage("stop");
	local limit = 0;
	work(function ()
		if collectgarbage("count") > limit then
			collectgarbage("collect");
			limit = collectgarbage("count") * 1.1 + 4096;
		end
	end);
	collectgarbage("restart");
end

-- Every message is parsed anew and referred to by nobody but the queue.
local function fill(clients, messages)
	local make = kind_by_name.chat.make;
	local n = 0;
	with_lazy_collector(function (collect)
		for _ = 1, messages do
			for i = 1, #clients do
				n = n + 1;
				clients[i].session.filter("stanzas/out", make(n, HIBERNATION_BYTES));
				collect();
			end
		end
	end);
	for i = 1, #clients do
		clients[i].sent = clients[i].sent + messages;
		expect_queue(clients[i], clients[i].sent);
	end
end

local function new_sleepers(count, name)
	local clients = {};
	with_lazy_collector(function (collect)
		for i = 1, count do
			clients[i] = new_session((name or "sleeper")..i);
			collect();
		end
	end);
	return clients;
end

-- Memory of sessions without anything queued, of messages queued for them while
-- they are connected, and of messages queued for sessions that hibernate.
local function run_memory()
	local warm = new_session("warm");
	for n = 1, 2000 do kind_by_name.chat.make(n, HIBERNATION_BYTES); end
	local rss_start, lua_start = settle();
	local clients = new_sleepers(n_sessions);
	local rss_before, lua_before = settle();
	report {
		what = "empty", sessions = n_sessions,
		rss = (rss_before - rss_start) / n_sessions, lua = (lua_before - lua_start) / n_sessions,
	};
	if variant == "none" then return warm; end
	fill(clients, n_messages);
	sleep(1.5); -- some things are written behind
	local total = n_sessions * n_messages;
	local rss_live, lua_live = settle();
	report {
		what = "live", sessions = n_sessions, messages = n_messages, bytes = HIBERNATION_BYTES,
		rss = (rss_live - rss_before) / total, lua = (lua_live - lua_before) / total,
	};
	-- Others, so that these do not get what those gave up; and with as much before, so that what only grows once has.
	local others = new_sleepers(n_sessions, "dozer");
	for i = 1, n_sessions do
		hibernate(others[i]);
	end
	fill(others, n_messages // 10);
	sleep(1.5);
	local rss_away, lua_away = settle();
	fill(others, n_messages);
	sleep(3);
	local rss_after, lua_after = settle();
	local t0 = clock();
	collectgarbage("collect");
	local full = clock() - t0;
	report {
		what = "hibernating", sessions = n_sessions, messages = n_messages, bytes = HIBERNATION_BYTES,
		rss = (rss_after - rss_away) / total, lua = (lua_after - lua_away) / total,
		rss_total = rss_after, full_collection_ms = full * 1000,
	};
	return warm;
end

-- What one <a/> costs that covers one message, and one that covers a hundred.
local function run_acks()
	if variant == "none" then return; end
	local client = new_session("romeo");
	local pool = make_pool(kind_by_name.chat, 300);
	for _, gc in ipairs { "on", "off" } do
		for _, step in ipairs { 1, 10, 100 } do
			put("ack", "chat", gc, with_collector(gc, function ()
				local elapsed, count = 0, 0;
				for round = 1, 10 do
					for i = 1, 400 do client.session.filter("stanzas/out", pool[i % #pool + 1]); end
					local acks = {};
					for h = step, 400, step do acks[#acks+1] = new_ack(client.sent + h); end
					client.sent = client.sent + 400;
					lose_step(gc);
					local t0 = clock();
					for i = 1, #acks do fire_ack(client.session, acks[i]); end
					elapsed = elapsed + (clock() - t0);
					count = count + #acks;
					expect_queue(client, 0);
					if gc == "off" and round % 5 == 0 then collectgarbage("collect"); end
				end
				return { n = count, seconds = elapsed };
			end), { step = step });
		end
	end
end

local function resume(client)
	local session = client.session;
	local other = new_session(session.username, true);
	other.session.stream = { set_session = nothing }; -- its XML parser, of which nothing else is wanted
	other.session.data = {};
	local stanza = st.stanza("resume", { xmlns = xmlns_sm3, previd = session.resumption_token, h = ("%d"):format(client.sent) });
	-- the queue is as the client left it: nothing of it has arrived
	stanza.attr.h = ("%d"):format(client.sent - (queue_length(client) or 0));
	local t0 = clock();
	host_events.fire_event("stanza/urn:xmpp:sm:3:resume", { origin = other.session, stanza = stanza });
	local elapsed = clock() - t0;
	assert(not session.hibernating and session.conn == other.conn, "the session was not resumed");
	client.conn = other.conn;
	return elapsed;
end

-- How the steps grow: with the number of sessions that there are, and with the
-- length of a queue.  The collector is stopped: what it costs grows with the
-- heap, whoever filled it.
local function run_growth()
	if variant == "none" then return; end
	local pool = make_pool(kind_by_name.chat, 300, HIBERNATION_BYTES);
	local clients = new_sleepers(n_sessions);
	with_lazy_collector(function (collect)
		for i = 1, #clients do hibernate(clients[i]); collect(); end
	end);
	local function timed(what, count, work)
		collectgarbage("collect");
		collectgarbage("stop");
		local elapsed = 0;
		for i = 1, count do elapsed = elapsed + work(i); end
		collectgarbage("restart");
		report { what = what, sessions = n_sessions, ns = elapsed / count * 1e9 };
	end
	local step = math.max(1, n_sessions // 10);
	local function pick(i) return clients[(i * step) % n_sessions + 1]; end
	timed("grow/push", 2000, function (i)
		local client, stanza = pick(i), pool[i % #pool + 1];
		local t0 = clock();
		client.session.filter("stanzas/out", stanza);
		client.sent = client.sent + 1;
		return clock() - t0;
	end);
	timed("grow/ack", 200, function (i)
		local client = pick(i);
		return ack(client, queue_length(client) - 1);
	end);
	timed("grow/resume", 10, function (i)
		local client = clients[((i - 1) * step) % n_sessions + 1];
		ack(client);
		return client.session.hibernating and resume(client) or 0;
	end);
	timed("grow/enable", 50, function (i)
		local client = new_session("late"..i, true);
		assert(sessionmanager.bind_resource(client.session, "bench"));
		local t0 = clock();
		enable(client.session);
		return clock() - t0;
	end);

	local length = 1;
	while length <= longest do
		local client = new_session("long"..length);
		hibernate(client);
		collectgarbage("collect");
		collectgarbage("stop");
		local filter = client.session.filter;
		local function push(count)
			local t0 = clock();
			for i = 1, count do filter("stanzas/out", pool[i % #pool + 1]); end
			client.sent = client.sent + count;
			return (clock() - t0) / count;
		end
		if length > 10 then
			with_lazy_collector(function (collect)
				for _ = 1, length // 10 - 1 do push(10); collect(); end
			end);
			collectgarbage("collect");
			collectgarbage("stop");
		end
		local last = length > 10 and 10 or length;
		local pushing = push(last);
		local held = queue_length(client);
		local acking = ack(client, held - 1);
		local resuming = resume(client) / math.max(1, held - 1);
		local acking_rest = ack(client) / math.max(1, held - 1);
		collectgarbage("restart");
		report {
			what = "length", length = length, push_ns = pushing * 1e9, ack_ns = acking * 1e9,
			resume_ns = resuming * 1e9, ack_rest_ns = acking_rest * 1e9,
		};
		length = length * 10;
	end
end

-- Sessions to come back after the process has been killed.
local function run_fill()
	local clients = new_sleepers(n_sessions);
	fill(clients, n_messages);
	with_lazy_collector(function (collect)
		for i = 1, #clients do hibernate(clients[i]); collect(); end
	end);
	sleep(3); -- until all has been written
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
