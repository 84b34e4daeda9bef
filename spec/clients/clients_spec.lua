-- Clients that other people wrote, on connections that break: each logs in
-- through a proxy (cut.py), which resets its connection four times at bad
-- moments while messages go both ways, and must resume each time, and get and
-- have delivered every message exactly once and in order. See README.md.
--
-- They must be installed: spec/clients/install.sh build/clients, or another
-- directory that ENJAMB_CLIENTS then names. ENJAMB_CLIENTS_VERBOSE=1 has them
-- log what they do; with ENJAMB_KEEP=1 the logs stay.

local t = require "support";
local socket = require "socket";
local process = require "support.process";
local start = process.start;

local server = t.server;
local here = server.top .. "/spec/clients";
local build = os.getenv("ENJAMB_CLIENTS") or "build/clients";
if build:sub(1, 1) ~= "/" then build = server.top .. "/" .. build; end

local installed = server.run("test -x " .. server.quote(build .. "/venv/bin/python3")
	.. " -a -e " .. server.quote(build .. "/node/installed")
	.. " -a -x " .. server.quote(build .. "/tokio-xmpp/debug/enjamb-client-tokio-xmpp")) == 0;

local downs = 200; -- messages to the client
local at_once = 30; -- of these, sent in one burst
local reserved = 40; -- and at least as many after it's cut off for a while
local ups = 150; -- messages from the client
local pace = 0.025; -- seconds between two of those to the client
local up_interval = 35; -- milliseconds between two of those from it

-- Server --------------------------------------------------------------------

local https_port;

local function with_tls(srv)
	local key, certificate = srv.dir .. "/certs/test.key", srv.dir .. "/certs/test.crt";
	local code, out = server.run(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=%s "
		.. "-addext subjectAltName=DNS:%s -keyout %s -out %s"):format(srv.host, srv.host, server.quote(key),
		server.quote(certificate)));
	assert(code == 0, out);
	https_port = server.free_port();
	return ([[
		smacks_hibernation_time = 120
		https_ports = { %d }
		https_interfaces = { %q }
		ssl = { key = %q; certificate = %q }
	]]):format(https_port, srv.address, key, certificate);
end

-- Clients -------------------------------------------------------------------

local node = "env ENJAMB_CLIENT_MODULES=" .. server.quote(build .. "/node") .. " node " .. server.quote(here .. "/xmpp-js/client.mjs");

local clients = {
	{
		name = "slixmpp";
		command = server.quote(build .. "/venv/bin/python3") .. " " .. server.quote(here .. "/slixmpp_client.py");
	};
	{
		name = "@xmpp/client over STARTTLS";
		command = node;
		may_repeat = true;
	};
	{
		name = "@xmpp/client over a secure WebSocket";
		command = node;
		websocket = true;
		may_repeat = true;
	};
	{
		name = "tokio-xmpp";
		command = server.quote(build .. "/tokio-xmpp/debug/enjamb-client-tokio-xmpp");
		always_verbose = true;
	};
};

local function start_client(ctx, client, dir, name, to, port)
	local args = {
		"--jid", name .. "@" .. ctx.srv.host .. "/device";
		"--password", "secret";
		"--to", to;
		"--prefix", "u";
		"--receive", tostring(downs);
		"--send", tostring(ups);
		"--interval", tostring(up_interval);
	};
	if client.websocket then
		table.move({ "--url", "wss://127.0.0.1:" .. port .. "/xmpp-websocket" }, 1, 2, #args + 1, args);
	else
		table.move({ "--host", "127.0.0.1", "--port", tostring(port) }, 1, 4, #args + 1, args);
	end
	for i, arg in ipairs(args) do args[i] = server.quote(arg); end
	if os.getenv("ENJAMB_CLIENTS_VERBOSE") and not client.always_verbose then table.insert(args, "--verbose"); end
	return start(dir, "client", client.command .. " " .. table.concat(args, " "));
end

-- One run -------------------------------------------------------------------

local function run(ctx, client)
	local dir = ctx.srv.dir .. "/client" .. os.time() .. math.random(1000000);
	assert(server.run("mkdir " .. server.quote(dir)) == 0);
	local target = client.websocket and https_port or ctx.srv.c2s;
	local proxy = start(dir, "proxy", ("python3 %s 0 %d"):format(server.quote(here .. "/cut.py"), target));
	local answers = 0; -- lines of the proxy that were looked at

	local sender = ctx:login { resource = "sender" };
	local name = ctx:user("client");

	local program; -- the client's process
	local receiver; -- its full JID
	local sent, next_due = 0, nil;
	local limit = downs - reserved - at_once; -- however slow the machine is, what comes later has something to send

	-- Reads, and sends the next message if it's time, for a moment.
	local function step()
		if next_due and sent < limit and socket.gettime() >= next_due then
			next_due = next_due + pace;
			sent = sent + 1;
			sender:message(receiver, "d" .. sent);
		end
		sender:_pump(0.005);
		assert(not sender.closed, "the sender lost its connection");
	end

	local function wait(what, seconds, fn)
		local deadline = socket.gettime() + seconds;
		while true do
			local value = fn();
			if value then return value; end
			if socket.gettime() > deadline then
				error(("never came: %s (%d sent to the client)\n%s\n%s"):format(what, sent, proxy:describe(),
					program and program:describe() or ""), 0);
			end
			step();
		end
	end

	local function answer(pattern)
		return wait("the proxy's answer " .. pattern, 60, function ()
			proxy:poll();
			while answers < #proxy.lines do
				answers = answers + 1;
				local found = proxy.lines[answers]:match(pattern);
				if found then return found; end
			end
		end);
	end

	local function order(command)
		proxy.input:write(command, "\n");
		return answer("^ok " .. command:match("^%S+"):gsub("%-", "%%-") .. " ?(.*)$");
	end

	local function received() return #program:said("message"); end

	local function from_client()
		local out = {};
		for _, el in ipairs(sender.seen) do
			if el.name == "message" and el:body() then table.insert(out, el:body()); end
		end
		return out;
	end

	local cuts = 0;
	local function cut_happened()
		cuts = cuts + 1;
		wait("that the client notices cut " .. cuts, 60, function () return #program:said("disconnected") >= cuts; end);
	end
	local function resumed()
		wait("resumption " .. cuts, 60, function () return #program:said("resumed") >= cuts; end);
		assert.equal(1, #program:said("ready"), "it logged in afresh\n" .. program:describe());
	end
	-- Both directions flow.
	local function flows(n)
		local down, up = received() + n, #from_client() + n;
		wait("messages to the client after " .. cuts .. " cuts", 60, function () return received() >= math.min(down, sent); end);
		wait("messages from the client after " .. cuts .. " cuts", 60, function () return #from_client() >= math.min(up, ups); end);
	end

	local port = answer("^listening (%d+)$");
	program = start_client(ctx, client, dir, name, sender.jid, port);
	receiver = wait("that the client is ready", 60, function ()
		assert(program:alive(), program:describe());
		return program:said("ready")[1];
	end);

	-- Steady traffic, and a plain cut in it.
	next_due = socket.gettime();
	flows(10);
	order("cut");
	cut_happened();
	resumed();
	flows(8);

	-- In the middle of a burst, most likely of a stanza.
	order("cut-after 1500");
	limit = limit + at_once;
	for _ = 1, at_once do
		sent = sent + 1;
		sender:message(receiver, "d" .. sent);
	end
	answer("^fired cut%-after 1500 (.*)$");
	cut_happened();
	resumed();
	flows(8);

	-- In the middle of something that the client sends.
	order("cut-after 250 up");
	answer("^fired cut%-after 250 (.*)$");
	cut_happened();
	resumed();
	flows(8);

	-- And for a while, with messages queuing up.
	order("down");
	cut_happened();
	ctx.srv:wait_hibernating(receiver, 5);
	limit = downs;
	local before = sent;
	wait("the sending of more", 60, function () return sent >= before + 25; end);
	order("up");
	resumed();

	wait("the end", 60, function () return #program:said("done") > 0; end);
	wait("the last message from the client", 60, function () return #from_client() >= ups; end);
	local settled = socket.gettime() + 0.7; -- for what comes once too often
	while socket.gettime() < settled do step(); end

	local everything = program:describe();
	assert.equal(downs, sent);
	assert.same(t.numbered("d", downs), program:said("message"), everything);
	assert.equal(4, #program:said("disconnected"), everything);
	assert.equal(4, #program:said("resumed"), everything);
	assert.equal(1, #program:said("ready"), everything);
	assert.same({}, program:said("failed"), everything);
	assert.same({}, program:said("bounced"), everything);

	-- From the client: exactly once and in order, but that what the driver of
	-- @xmpp/client (not the library) had to send again, not knowing whether it
	-- got through, may be there twice.
	local again = {};
	if client.may_repeat then
		for _, body in ipairs(program:said("retry")) do again[body] = true; end
	end
	local got, seen = {}, {};
	for _, body in ipairs(from_client()) do
		if not (seen[body] and again[body]) then table.insert(got, body); end
		seen[body] = true;
	end
	assert.same(t.numbered("u", ups), got, everything);

	-- No error came back to the sender, and nothing that wasn't asked for.
	for _, el in ipairs(sender.seen) do assert.not_equal("error", el.attr.type, tostring(el)); end

	assert(program:stop(), "the client didn't end\n" .. everything);
	assert(proxy:stop(), "the proxy didn't end");
end

-- A server that goes away and comes back ------------------------------------

local function in_order(bodies)
	local last = 0;
	for _, body in ipairs(bodies) do
		local n = tonumber(body:match("%d+"));
		if n > last + 1 then return false, last, ("%d came after %d"):format(n, last); end
		last = math.max(last, n);
	end
	return true, last;
end

-- What the sender was not told to be handled it sends again, so a message may come twice; none may be missing or late.
local function outlive(ctx, client)
	local dir = ctx.srv.dir .. "/client" .. os.time() .. math.random(1000000);
	assert(server.run("mkdir " .. server.quote(dir)) == 0);
	local sender, sent, heard = ctx:resumable { resource = "sender", available = true }, {}, {};
	local name = ctx:user("client");
	local program = start_client(ctx, client, dir, name, sender.jid, client.websocket and https_port or ctx.srv.c2s);
	local receiver;

	local function read(seconds)
		sender:drain(seconds);
		for _, body in ipairs(t.bodies(sender.seen)) do heard[#heard + 1] = body; end
		sender.seen, sender.next = {}, 1;
	end

	local function wait(what, seconds, fn)
		local deadline = socket.gettime() + seconds;
		while not fn() do
			assert(socket.gettime() < deadline, "never came: " .. what .. "\n" .. program:describe());
			read(0.02);
		end
	end

	local function send(n)
		for _ = 1, n do
			sent[#sent + 1] = ("<message to='%s' type='chat'><body>d%d</body></message>"):format(receiver, #sent + 1);
			sender:send(sent[#sent]);
			read(pace);
		end
	end

	wait("that the client is ready", 60, function () return program:said("ready")[1]; end);
	receiver = program:said("ready")[1];
	for round, how in ipairs { "terminate", "kill", "kill" } do
		send(20);
		read(0.05);
		sender:cut();
		ctx.srv[how](ctx.srv, 20);
		ctx.srv:launch();
		local old = sender;
		sender = ctx:resume(old);
		for i = tonumber(sender.resumed.attr.h), #sent do -- its presence is the first that it sent
			if i > 0 then sender:send(sent[i]); end
		end
		wait("resumption " .. round, 60, function () return #program:said("resumed") >= round; end);
		assert.equal(1, #program:said("ready"), "it logged in afresh\n" .. program:describe());
	end
	send(downs - #sent);
	wait("the last message to the client", 60, function () return select(2, in_order(program:said("message"))) == downs; end);
	wait("the last message from the client", 60, function () return select(2, in_order(heard)) == ups; end);
	read(0.5);
	for what, bodies in pairs { ["to it"] = program:said("message"), ["from it"] = heard } do
		local ok, _, wrong = in_order(bodies);
		assert(ok, what .. ": " .. tostring(wrong) .. "\n" .. program:describe());
	end
	assert.same({}, program:said("bounced"));
	program:stop();
end

if not installed then
	describe("clients that other people wrote", function ()
		it("work", function ()
			local message = "not installed in " .. build .. ": run spec/clients/install.sh " .. build;
			if os.getenv("ENJAMB_CLIENTS") then error(message, 0); end
			pending(message);
		end);
	end);
	return;
end

t.each("clients that other people wrote", {
	modules = { "tls"; "websocket" }; with_http = true; config = with_tls;
}, function (ctx, it)
	after_each(process.stop_all);
	for _, client in ipairs(clients) do
		it("keep every message: " .. client.name, function ()
			run(ctx, client);
		end);
		it("resume when the server was stopped and killed: " .. client.name, function ()
			outlive(ctx, client);
		end);
	end
end);
