-- More clients that other people wrote, each of which talks to a contact and in a chat room at once while its connection is
-- broken three times (cut.py): in the middle of a burst that it is sent, in the middle of a stanza that it sends, and for a
-- while. Its account has a second device (the raw client of these specs) in the same room, by mod_minimix. In the end the
-- client, the device, the contact and the room must have had every message exactly once and in order. See README.md.

local t = require "support";
local muc = require "support.muc";
local socket = require "socket";
local process = require "support.process";

local server = t.server;
local here = server.top .. "/spec/clients";
local build = os.getenv("ENJAMB_CLIENTS") or "build/clients";
if build:sub(1, 1) ~= "/" then build = server.top .. "/" .. build; end

local ns_carbons, ns_forward = "urn:xmpp:carbons:2", "urn:xmpp:forward:0";
local many = 90; -- messages each way, and as many in the room each way
local pace = 0.03; -- seconds between two rounds of four
local burst = 10; -- rounds at once
local reserved = 30; -- rounds for the time after the connection was away

-- Clients -------------------------------------------------------------------

local function runs(command)
	return server.run(command .. " >/dev/null 2>&1 </dev/null") == 0;
end

local function node(script)
	return "env ENJAMB_CLIENT_MODULES=" .. server.quote(build .. "/node") .. " node " .. server.quote(here .. "/xmpp-js/" .. script);
end

local function script(name)
	return "/usr/bin/python3 " .. server.quote(here .. "/" .. name);
end

local function package(name)
	return runs("test -d " .. server.quote(build .. "/node/node_modules/" .. name));
end

local clients = {
	{
		name = "nbxmpp (Gajim's)"; command = script "nbxmpp_talk.py"; wants = "Debian's python3-nbxmpp";
		there = function () return runs [[/usr/bin/python3 -c 'import gi; gi.require_version("Soup", "3.0"); import nbxmpp.client']]; end;
	};
	{
		name = "aioxmpp"; command = script "aioxmpp_talk.py"; wants = "Debian's python3-aioxmpp";
		there = function () return runs "/usr/bin/python3 -c 'import aioxmpp'"; end;
		-- 0.13.3: stream.py's _resume_sm() puts what was not acknowledged back into its queue last first.
		sends_again_in_reverse = true;
	};
	{
		name = "profanity (libstrophe)"; command = script "profanity_talk.py"; wants = "Debian's profanity";
		there = function () return runs "profanity --version"; end;
		-- libstrophe 0.12.2 takes for handled what is not; the driver tells what it so forgot to send again, though on a busy machine
		-- not always all of it.
		forgets = true; heavy = true;
	};
	{
		name = "stanza.js"; command = node "stanza_talk.mjs"; wants = "npm's stanza"; websocket = true;
		there = function () return package "stanza"; end;
		forgets = true; -- as the driver tells
	};
	{
		name = "strophe.js in Node"; command = node "strophe_talk.mjs"; wants = "npm's strophe.js"; websocket = true;
		there = function () return package "strophe.js"; end;
	};
	{
		name = "strophe.js in Chromium"; command = node "strophe_chromium.mjs"; wants = "Debian's chromium"; websocket = true; heavy = true;
		there = function () return runs "command -v chromium" and package "strophe.js"; end;
	};
};

local function with_tls(srv)
	local key, certificate = srv.dir .. "/certs/test.key", srv.dir .. "/certs/test.crt";
	local code, out = server.run(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=%s -keyout %s -out %s"):format(srv.host,
		server.quote(key), server.quote(certificate)));
	assert(code == 0, out);
	return ("smacks_hibernation_time = 120\nssl = { key = %q; certificate = %q }"):format(key, certificate);
end

local function fields(line)
	local out = {};
	for field in (line .. "\t"):gmatch("([^\t]*)\t") do out[#out + 1] = field; end
	return out;
end

-- One run -------------------------------------------------------------------

local Talk = {};
Talk.__index = Talk;

-- What the program printed after that word, by lines: all fields, or the last.
function Talk:said(word)
	self.program:poll();
	local out = {};
	for _, line in ipairs(self.program.lines) do
		local f = fields(line);
		if f[1] == word then table.insert(out, f); end
	end
	return out;
end

function Talk:heard(who)
	local out = {};
	for _, f in ipairs(self:said("heard")) do
		if f[2] == who then table.insert(out, f[3]); end
	end
	return out;
end

function Talk:messages()
	local out = {};
	for _, f in ipairs(self:said("message")) do table.insert(out, f[2]); end
	return out;
end

function Talk:order(...)
	self.program.input:write(table.concat({ ... }, "\t") .. "\n");
end

-- The n-th message of each of the four kinds.
function Talk:round()
	self.rounds = self.rounds + 1;
	local n = self.rounds;
	self.friend:message(self.bare, "d" .. n);
	self:order("tell", self.friend.jid, "u" .. n);
	muc.say(self.friend, self.room, "r" .. n);
	self:order("say", "s" .. n);
end

-- Reads, and sends a round if it is time, for a moment.
function Talk:step()
	if self.next_due and self.rounds < self.limit and socket.gettime() >= self.next_due then
		self.next_due = self.next_due + pace;
		self:round();
	end
	for _, c in ipairs { self.friend, self.device } do
		c:_pump(0.003);
		assert(not c.closed, "a connection that nobody cut is gone");
	end
end

-- Until fn() gives something; else the error says `what`, and what `missing()` adds.
function Talk:wait(what, fn, missing)
	local deadline = socket.gettime() + 60;
	while true do
		local value = fn();
		if value then return value; end
		if socket.gettime() > deadline then
			error(("never came: %s (%d rounds)%s\n%s\n%s"):format(what, self.rounds, missing and missing() or "", self.proxy:describe(),
				self.program and self.program:describe() or ""), 0);
		end
		self:step();
	end
end

function Talk:answer(pattern)
	return self:wait("the proxy's answer " .. pattern, function ()
		self.proxy:poll();
		while self.answers < #self.proxy.lines do
			self.answers = self.answers + 1;
			local found = self.proxy.lines[self.answers]:match(pattern);
			if found then return found; end
		end
	end);
end

function Talk:cut(command)
	self.proxy.input:write(command, "\n");
	self:answer("^ok " .. command:match("^%S+"):gsub("%-", "%%-"));
end

function Talk:noticed()
	self.cuts = self.cuts + 1;
	self:wait("that the client notices cut " .. self.cuts, function () return #self:said("disconnected") >= self.cuts; end);
end

function Talk:resumed()
	self:wait("resumption " .. self.cuts, function () return #self:said("resumed") >= self.cuts; end);
	assert.equal(1, #self:said("ready"), "it logged in afresh\n" .. self.program:describe());
end

-- Everything goes both ways.
function Talk:flows()
	local before, got = self.rounds, #self:messages();
	self:wait("messages after " .. self.cuts .. " cuts", function ()
		return self.rounds >= math.min(before + 5, self.limit) and #self:messages() >= math.min(got + 5, self.rounds);
	end);
end

-- With what the library itself lost, by its driver, and that never came.
function Talk:with_forgotten(list, letter)
	local came, out = {}, table.move(list, 1, #list, 1, {});
	for _, body in ipairs(list) do came[body] = true; end
	for _, f in ipairs(self:said("forgotten")) do
		if f[2]:sub(1, 1) == letter and not came[f[2]] then
			came[f[2]] = true;
			table.insert(out, f[2]);
		end
	end
	return out;
end

-- Bodies that start with that letter among the messages that a raw client got, of one type.
local function bodies(c, kind, letter)
	local out = {};
	for _, el in ipairs(c.seen) do
		if el.name == "message" and el.attr.type == kind and (el:body() or ""):sub(1, 1) == letter then table.insert(out, el:body()); end
	end
	return out;
end

local function carbons(c)
	local out = {};
	for _, el in ipairs(c.seen) do
		local sent = el.name == "message" and el:child("sent", ns_carbons);
		local copy = sent and sent:child("forwarded", ns_forward):child("message");
		if copy and copy:child("body") then table.insert(out, copy:child_text("body")); end
	end
	return out;
end

local function by_number(a, b)
	return tonumber(a:match("%d+")) < tonumber(b:match("%d+"));
end

local function run(ctx, client)
	local dir = ctx.srv.dir .. "/talk" .. math.random(1000000);
	assert(server.run("mkdir " .. server.quote(dir)) == 0);
	local user = ctx:user("talker");
	local self = setmetatable({
		bare = user .. "@" .. ctx.srv.host; rounds = 0; limit = 0; cuts = 0; answers = 0;
		proxy = process.start(dir, "proxy", ("python3 %s 0 %d"):format(server.quote(here .. "/cut.py"),
			client.websocket and ctx.srv.http or ctx.srv.c2s));
	}, Talk);
	self.room, self.friend = muc.open(ctx, { nick = "friend" });
	self.device = ctx:login { user = user, resource = "device", available = true };
	assert.equal("result", self.device:iq("set", ("<enable xmlns='%s'/>"):format(ns_carbons)).attr.type);
	muc.enter(self.device, self.room, "talker");

	local port = self:answer("^listening (%d+)$");
	local where = client.websocket and ("--url ws://127.0.0.1:%s/xmpp-websocket"):format(port) or "--host 127.0.0.1 --port " .. port;
	self.program = process.start(dir, "client", ("%s --jid %s/talking --password secret %s%s"):format(client.command, self.bare, where,
		os.getenv("ENJAMB_CLIENTS_VERBOSE") and " --verbose" or ""));
	self:wait("that the client is ready", function ()
		assert(self.program:alive(), self.program:describe());
		return self:said("ready")[1];
	end);
	self:order("join", self.room, "talker");
	self:wait("that it is in the room", function () return self:said("joined")[1]; end);
	assert.equal("talker", self:said("joined")[1][2]);
	local sessions = 0;
	for _, real in ipairs(muc.sessions(ctx.srv, self.room)) do
		if muc.bare(real) == self.bare then sessions = sessions + 1; end
	end
	assert.equal(1, sessions);

	self.next_due = socket.gettime();
	self.limit = many - reserved - burst; -- however slow the machine is, what comes later has something to send
	self:flows();

	-- In the middle of a burst.
	self:cut("cut-after 2500");
	self.limit = self.limit + burst;
	for _ = 1, burst do self:round(); end
	self:answer("^fired cut%-after 2500");
	self:noticed();
	self:resumed();
	self:flows();

	-- In the middle of something that it sends.
	self.limit = math.min(many - reserved + 10, many);
	self:cut("cut-after 450 up");
	self:answer("^fired cut%-after 450");
	self:noticed();
	self:resumed();
	self:flows();

	-- And for a while, with messages queuing up.
	self:cut("down");
	self:noticed();
	ctx.srv:wait_hibernating(self:said("ready")[1][2]);
	self.limit = many;
	local before = self.rounds;
	self:wait("the sending of more", function () return self.rounds >= math.min(before + 15, many); end);
	self:cut("up");
	self:resumed();

	-- Who has how much of what.
	local function shares()
		return {
			{ "the client has of the contact's", "d", self:messages() };
			{ "the client has of the room's", "r", self:heard("friend") };
			{ "the contact has", "u", self:with_forgotten(bodies(self.friend, "chat", "u"), "u") };
			{ "the contact has of the room's", "s", self:with_forgotten(bodies(self.friend, "groupchat", "s"), "s") };
			{ "the device has of the room's", "s", self:with_forgotten(bodies(self.device, "groupchat", "s"), "s") };
			{ "the client has of its own in the room", "s", self:with_forgotten(self:heard("talker"), "s") };
		};
	end
	self:wait("the end of all that is said", function ()
		if self.rounds < many then return false; end
		for _, share in ipairs(shares()) do
			if #share[3] < many then return false; end
		end
		return true;
	end, function ()
		local out = {};
		for _, share in ipairs(shares()) do
			local has = {};
			for _, body in ipairs(share[3]) do has[body] = true; end
			local lacks = {};
			for _, body in ipairs(t.numbered(share[2], many)) do
				if not has[body] then table.insert(lacks, body); end
			end
			table.insert(out, ("\n%s %d of %d: without %s"):format(share[1], #share[3], many, table.concat(lacks, " ")));
		end
		return table.concat(out);
	end);
	local settled = socket.gettime() + 0.5; -- for what comes once too often
	while socket.gettime() < settled do self:step(); end

	local everything = self.program:describe();
	assert.same(t.numbered("d", many), self:messages(), everything);
	assert.same(t.numbered("r", many), self:heard("friend"), everything);
	local told, said = bodies(self.friend, "chat", "u"), bodies(self.friend, "groupchat", "s");
	assert.same(said, self:heard("talker"), everything);
	assert.same(said, bodies(self.device, "groupchat", "s"), everything);
	assert.same(told, carbons(self.device), everything);
	if client.forgets then
		for _, list in ipairs { told, said } do
			for i = 2, #list do assert(by_number(list[i - 1], list[i]), list[i] .. " is late, or there twice\n" .. everything); end
		end
		told, said = self:with_forgotten(told, "u"), self:with_forgotten(said, "s");
	end
	if client.forgets or client.sends_again_in_reverse then
		table.sort(told, by_number);
		table.sort(said, by_number);
	end
	assert.same(t.numbered("u", many), told, everything);
	assert.same(t.numbered("s", many), said, everything);
	assert.same(t.numbered("d", many), bodies(self.device, "chat", "d"), everything);
	for _, c in ipairs { self.friend, self.device } do
		assert.same(t.numbered("r", many), bodies(c, "groupchat", "r"), everything);
		for _, el in ipairs(c.seen) do assert.not_equal("error", el.attr.type, tostring(el)); end
	end
	assert.equal(3, #self:said("disconnected"), everything);
	assert.equal(3, #self:said("resumed"), everything);
	for _, word in ipairs { "failed", "bounced" } do assert.same({}, self:said(word), everything); end

	assert(self.program:stop(), "the client didn't end\n" .. everything);
	assert(self.proxy:stop(), "the proxy didn't end");
	muc.in_step(ctx, self.room, self.friend, self.device);
end

muc.account("clients that other people wrote, in talk", {
	modules = { "tls"; "websocket" }; with_http = true; config = with_tls;
}, function (ctx, it)
	after_each(process.stop_all);
	for _, client in ipairs(clients) do
		-- What is too much for each run of all tests is in `make test-clients`.
		if client.heavy and not os.getenv("ENJAMB_CLIENTS_ALL") then goto next_client; end
		local title = "keep every message of a contact and of a room, with a second device: " .. client.name;
		if client.there() then
			it(title, function () run(ctx, client); end);
		else
			pending(title .. " (not installed: " .. client.wants .. ")");
		end
		::next_client::
	end
end);
