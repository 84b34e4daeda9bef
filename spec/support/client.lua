-- XMPP clients for the tests, over TCP, WebSocket (RFC 7395) and BOSH (XEP-0124
-- and 0206).  They do what they're told and nothing by themselves: no acks, no
-- answers.  Every wait has an end.
--
--   local c = client.connect(srv)                  -- or client.websocket(srv), client.bosh(srv)
--   c:login("user", "secret", "phone")
--   c:enable { resume = "true" }                   -- returns <enabled/>
--   c:send("<r xmlns='urn:xmpp:sm:3'/>")
--   c:expect("a").attr.h
--   c:cut()

local socket = require "socket";
local mime = require "mime";
local xml = require "support.xml";

local M = { timeout = 20 }; -- seconds: long, for machines that do much else; what is there comes at once
local ns_streams = "http://etherx.jabber.org/streams";
local ns_framing = "urn:ietf:params:xml:ns:xmpp-framing";
M.sm3, M.sm2 = "urn:xmpp:sm:3", "urn:xmpp:sm:2";
local escape = xml.escape;
M.escape = escape;

M.all = {};

local Client = {};
Client.__index = Client;

local function new(srv, class, fields)
	local c = setmetatable({
		srv = srv;
		host = fields and fields.host or srv.host;
		seen = {}; -- every element received
		next = 1; -- index in seen of the first that wasn't looked at
		rx = {}; -- what came in, raw
		h = 0; -- stanzas received since <enabled/>
		out = 0; -- stanzas sent since <enable/>
		counting = false;
		closed = false; -- the connection ended
		stream_ended = false; -- </stream:stream> came
	}, class);
	M.all[#M.all + 1] = c;
	return c;
end

function Client:_element(el)
	self.seen[#self.seen + 1] = el;
	if el.ns == M.sm3 or el.ns == M.sm2 then
		if el.name == "enabled" or el.name == "resumed" then
			self.counting = true;
			self.sm_ns = el.ns;
		end
	elseif self.counting and el:is_stanza() and (el.ns == "jabber:client" or not el.ns) then
		self.h = self.h + 1;
	end
end

-- Turns a name, a table { name =, ns =, attr = { .. }, body = } or a function into a predicate.
local function predicate(what)
	if type(what) == "function" then return what; end
	if type(what) == "string" then
		return function (el) return el.name == what; end
	end
	return function (el)
		if what.name and el.name ~= what.name then return false; end
		if what.ns and el.ns ~= what.ns then return false; end
		if what.body and el:body() ~= what.body then return false; end
		if what.child and not el:child(what.child) then return false; end
		for k, v in pairs(what.attr or {}) do
			if el.attr[k] ~= v then return false; end
		end
		for _, k in ipairs { "id", "from", "to", "type" } do
			if what[k] and el.attr[k] ~= what[k] then return false; end
		end
		return true;
	end
end

local function describe(what)
	if type(what) == "table" then
		local out = {};
		for k, v in pairs(what) do out[#out + 1] = ("%s=%s"):format(k, type(v) == "table" and "{..}" or tostring(v)); end
		return "{" .. table.concat(out, " ") .. "}";
	elseif type(what) == "function" then
		return "an element";
	end
	return tostring(what);
end

function Client:history(from)
	local out = {};
	for i = math.max(from or 1, #self.seen - 20), #self.seen do
		local text = tostring(self.seen[i]);
		out[#out + 1] = "  " .. (#text > 400 and text:sub(1, 400) .. "..." or text);
	end
	return table.concat(out, "\n");
end

-- Waits for an element; those before it are skipped (and stay in .seen).
function Client:expect(what, seconds, message)
	local start = self.next;
	local el = self:try(what, seconds);
	if el then return el; end
	error(("%s, got%s:\n%s"):format(message or ("expected " .. describe(what)),
		self.closed and " (connection closed)" or "", self:history(start)), 2);
end

-- The same, but returns nil when nothing comes.
function Client:try(what, seconds)
	local match = predicate(what);
	local deadline = socket.gettime() + (seconds or M.timeout);
	while true do
		while self.next <= #self.seen do
			local el = self.seen[self.next];
			self.next = self.next + 1;
			if match(el) then return el; end
		end
		local left = deadline - socket.gettime();
		if self.closed or left <= 0 then return nil; end
		self:_pump(left);
	end
end

-- All elements up to and including the first that matches.
function Client:read_until(what, seconds)
	local start = self.next;
	self:expect(what, seconds);
	return table.move(self.seen, start, self.next - 1, 1, {});
end

-- Everything that comes within that time.
function Client:drain(seconds)
	local start = self.next;
	local deadline = socket.gettime() + (seconds or 0.3);
	repeat
		local left = deadline - socket.gettime();
		if left > 0 then self:_pump(left); end
	until self.closed or left <= 0;
	self.next = #self.seen + 1;
	return table.move(self.seen, start, #self.seen, 1, {});
end

-- Everything sent to this client before now: asks for an ack (or, without
-- stream management, sends a ping) and reads until the answer.
function Client:sync(seconds)
	if self.counting then
		self:send("<r xmlns='" .. self.sm_ns .. "'/>");
		local out = self:read_until("a", seconds);
		self.acked_h = out[#out].attr.h;
		return out;
	end
	local id = self:ping();
	return self:read_until({ name = "iq", id = id }, seconds);
end

-- Sends what ends the stream and waits for the server to end it too; what it sent before that.
function Client:_end(text)
	if self.closed then return {}; end
	local start = self.next;
	self:send(text);
	local deadline = socket.gettime() + M.timeout;
	while not self.closed and not self.stream_ended and socket.gettime() < deadline do
		self:_pump(deadline - socket.gettime());
	end
	local out = table.move(self.seen, start, #self.seen, 1, {});
	self.next = #self.seen + 1;
	self:cut();
	return out;
end

-- Sends <r/> and returns the number the server answers with (as it stands there).
function Client:ask_h(seconds)
	self:send("<r xmlns='" .. (self.sm_ns or M.sm3) .. "'/>");
	return self:expect("a", seconds).attr.h;
end

function Client:ack(h)
	self:send(("<a xmlns='%s' h='%s'/>"):format(self.sm_ns or M.sm3, h or self.h));
end

local counter = 0;
function M.id()
	counter = counter + 1;
	return "id" .. counter;
end

function Client:ping(to)
	local id = M.id();
	self:send(("<iq type='get' id='%s'%s><ping xmlns='urn:xmpp:ping'/></iq>"):format(id, to and " to='" .. to .. "'" or ""));
	return id;
end

function Client:message(to, body, attrs, extra)
	local text = { "<message to='", escape(to), "'" };
	attrs = attrs or {};
	if not attrs.type then text[#text + 1] = " type='chat'"; end
	for k, v in pairs(attrs) do text[#text + 1] = (" %s='%s'"):format(k, escape(v)); end
	text[#text + 1] = ">";
	if body then text[#text + 1] = "<body>" .. escape(body) .. "</body>"; end
	text[#text + 1] = (extra or "") .. "</message>";
	self:send(table.concat(text));
end

function Client:presence(kind, extra)
	self:send(("<presence%s>%s</presence>"):format(kind and " type='" .. kind .. "'" or "", extra or ""));
end

function Client:iq(kind, payload, to)
	local id = M.id();
	self:send(("<iq type='%s' id='%s'%s>%s</iq>"):format(kind, id, to and " to='" .. to .. "'" or "", payload));
	return self:expect({ name = "iq", id = id });
end

function Client:auth(user, password)
	self.username = user;
	self:send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
		.. mime.b64("\0" .. user .. "\0" .. (password or "secret")) .. "</auth>");
	self:expect({ name = "success", ns = "urn:ietf:params:xml:ns:xmpp-sasl" });
	self:restart_stream();
	return self;
end

function Client:bind(resource)
	local id = M.id();
	self:send(("<iq type='set' id='%s'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>%s</bind></iq>"):format(
		id, resource and "<resource>" .. escape(resource) .. "</resource>" or ""));
	local iq = self:expect({ name = "iq", id = id });
	local bind = iq:child("bind");
	if iq.attr.type ~= "result" or not bind then error("binding failed: " .. tostring(iq), 2); end
	self.jid = bind:child_text("jid");
	self.bare = self.jid:match("^[^/]+");
	self.resource = self.jid:match("/(.*)$");
	return self;
end

-- Opens the stream and authenticates, without binding.
function Client:authenticate(user, password)
	self:open_stream();
	return self:auth(user, password);
end

function Client:login(user, password, resource)
	self:authenticate(user, password);
	return self:bind(resource);
end

function Client:enable(attrs)
	local ns = attrs and attrs.ns or M.sm3;
	local text = { "<enable xmlns='", ns, "'" };
	for _, k in ipairs { "resume", "max" } do
		local v = attrs and attrs[k];
		if v == true then v = "true"; end
		if v then text[#text + 1] = (" %s='%s'"):format(k, escape(v)); end
	end
	text[#text + 1] = "/>";
	self:send(table.concat(text));
	local el = self:expect(function (e) return (e.name == "enabled" or e.name == "failed") and e.ns == ns; end, nil,
		"expected <enabled/> or <failed/>");
	self.token = el.attr.id;
	self.enabled = el;
	return el;
end

-- Sends <resume/> and returns the answer.
function Client:try_resume(previd, h, ns)
	ns = ns or M.sm3;
	self:send(("<resume xmlns='%s'%s%s/>"):format(ns,
		h and " h='" .. escape(h) .. "'" or "", previd and " previd='" .. escape(previd) .. "'" or ""));
	return self:expect(function (e) return (e.name == "resumed" or e.name == "failed") and e.ns == ns; end, nil,
		"expected <resumed/> or <failed/>");
end

-- Continues the session of `old` (a client whose connection was cut), which
-- was received up to h (what `old` received, unless given).
function Client:resume(old, h)
	self.h = tonumber(h or old.h);
	local el = self:try_resume(old.token, self.h, old.sm_ns);
	if el.name ~= "resumed" then error("the session wasn't resumed: " .. tostring(el), 2); end
	self.token, self.jid, self.bare, self.resource = old.token, old.jid, old.bare, old.resource;
	self.resumed = el;
	return self;
end

-- Waits until the server has closed the connection.
function Client:expect_closed(seconds)
	local deadline = socket.gettime() + (seconds or M.timeout);
	while not self.closed do
		local left = deadline - socket.gettime();
		if left <= 0 then error("the server didn't close the connection, got:\n" .. self:history(), 2); end
		self:_pump(left);
	end
end

function Client:expect_stream_error(condition, seconds)
	local err = self:expect({ name = "error", ns = ns_streams }, seconds, "expected a stream error");
	if condition and not err:child(condition, "urn:ietf:params:xml:ns:xmpp-streams") then
		error("expected the stream error " .. condition .. ", got " .. tostring(err), 2);
	end
	return err;
end

-- Bodies of the messages in a list of elements.
function M.bodies(list)
	local out = {};
	for _, el in ipairs(list) do
		if el.name == "message" and el:body() then out[#out + 1] = el:body(); end
	end
	return out;
end

function M.only(list, what)
	local match = predicate(what);
	local out = {};
	for _, el in ipairs(list) do
		if match(el) then out[#out + 1] = el; end
	end
	return out;
end

-- Sockets ------------------------------------------------------------------

local function dial(srv, port)
	local s = socket.tcp();
	s:settimeout(10);
	local ok, err = s:connect(srv.address, port);
	if not ok then error("can't connect to the server: " .. tostring(err), 3); end
	s:setoption("tcp-nodelay", true);
	return s;
end

local function send_all(s, data)
	s:settimeout(60);
	local pos = 1;
	while pos <= #data do
		local last, err, partial = s:send(data, pos);
		if not last then
			if err == "timeout" and partial and partial >= pos then pos = partial + 1;
			else return nil, err; end
		else
			pos = last + 1;
		end
	end
	return true;
end

-- What can be read from the socket within that time; nil at its end.
local function receive_some(s, seconds)
	local ready = socket.select({ s }, nil, math.max(0, seconds));
	if #ready == 0 then return ""; end
	s:settimeout(0);
	local data, err, partial = s:receive(65536);
	data = data or partial or "";
	if data == "" and err ~= "timeout" and err ~= "wantread" then return nil; end
	return data;
end

-- TCP ----------------------------------------------------------------------

local Tcp = setmetatable({}, { __index = Client });
Tcp.__index = Tcp;
Tcp.transport = "tcp";

function M.connect(srv, fields)
	local c = new(srv, Tcp, fields);
	c.sock = dial(srv, fields and fields.port or srv.c2s);
	c:_new_parser();
	return c;
end

function Tcp:_new_parser()
	self.parser = xml.parser(1, function (el) self:_element(el); end, function (el) self.stream = el; end,
		function () self.stream_ended = true; end);
end

function Tcp:_pump(seconds)
	if self.closed then return; end
	local data = receive_some(self.sock, seconds);
	if not data then
		self.closed = true;
		self.sock:close();
		return;
	end
	if data ~= "" then
		self.rx[#self.rx + 1] = data;
		self.parser:feed(data);
	end
end

function Tcp:send(text)
	if self.counting or text:match("^<enable[ >/]") then self.sent_something = true; end
	return send_all(self.sock, text);
end

function Tcp:raw()
	return table.concat(self.rx);
end

function Tcp:header()
	return ("<?xml version='1.0'?><stream:stream to='%s' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='%s'>"):format(
		self.host, ns_streams);
end

function Tcp:open_stream()
	self:send(self:header());
	self.features = self:expect({ name = "features", ns = ns_streams });
	return self;
end

function Tcp:restart_stream()
	self:_new_parser();
	self:open_stream();
end

function Tcp:starttls()
	self:send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
	self:expect({ name = "proceed", ns = "urn:ietf:params:xml:ns:xmpp-tls" });
	local conn = assert(require "ssl".wrap(self.sock, { mode = "client", protocol = "any", verify = "none", options = "all" }));
	conn:settimeout(10);
	assert(conn:dohandshake());
	self.sock = conn;
	self:restart_stream();
end

-- The connection goes, the stream stays open.
function Tcp:cut()
	if not self.closed then
		self.closed = true;
		self.sock:close();
	end
end

-- Ends the stream and waits for the server to do the same; what it sent before that.
function Tcp:close()
	return self:_end("</stream:stream>");
end

-- WebSocket ----------------------------------------------------------------

local Ws = setmetatable({}, { __index = Client });
Ws.__index = Ws;
Ws.transport = "websocket";

function M.websocket(srv, fields)
	local c = new(srv, Ws, fields);
	c.sock = dial(srv, srv.http);
	c.buffer = "";
	c.frames = {}; -- text of each frame
	send_all(c.sock, table.concat({
		"GET /xmpp-websocket HTTP/1.1", "Host: " .. srv.host, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: xmpp", "", "",
	}, "\r\n"));
	local deadline = socket.gettime() + M.timeout;
	while not c.buffer:find("\r\n\r\n", 1, true) do
		local data = receive_some(c.sock, deadline - socket.gettime());
		if not data or socket.gettime() > deadline then error("no WebSocket: " .. c.buffer, 2); end
		c.buffer = c.buffer .. data;
	end
	if not c.buffer:match("^HTTP/1.1 101") then error("no WebSocket: " .. c.buffer, 2); end
	c.buffer = c.buffer:match("\r\n\r\n(.*)$");
	return c;
end

local function frame(opcode, payload)
	local mask = "\x37\x9a\x21\x5c";
	local len = #payload;
	local head;
	if len < 126 then head = string.char(0x80 + opcode, 0x80 + len);
	elseif len < 65536 then head = string.pack(">BBI2", 0x80 + opcode, 0x80 + 126, len);
	else head = string.pack(">BBI8", 0x80 + opcode, 0x80 + 127, len); end
	local m = { mask:byte(1, 4) };
	local out = {};
	for i = 1, len do out[i] = string.char(payload:byte(i) ~ m[(i - 1) % 4 + 1]); end
	return head .. mask .. table.concat(out);
end
M.ws_frame = frame;

function Ws:_frames()
	while #self.buffer >= 2 do
		local b1, b2 = self.buffer:byte(1, 2);
		local len, pos = b2 & 0x7f, 3;
		if len == 126 then
			if #self.buffer < 4 then return; end
			len, pos = string.unpack(">I2", self.buffer, 3);
		elseif len == 127 then
			if #self.buffer < 10 then return; end
			len, pos = string.unpack(">I8", self.buffer, 3);
		end
		if #self.buffer < pos + len - 1 then return; end
		local payload = self.buffer:sub(pos, pos + len - 1);
		self.buffer = self.buffer:sub(pos + len);
		local opcode = b1 & 0x0f;
		if opcode == 1 or opcode == 0 then
			self.partial = (self.partial or "") .. payload;
			if b1 & 0x80 ~= 0 then
				local text = self.partial;
				self.partial = nil;
				self.frames[#self.frames + 1] = text;
				local whole = text;
				if text:match("^<stream:[^>]*>") and not text:match("^<[^>]*xmlns:stream=") then
					-- Prosody 13 leaves that away when it closes a stream with an error
					whole = text:gsub("^<stream:%a+", "%0 xmlns:stream='" .. ns_streams .. "'", 1);
				end
				local el = xml.parse(whole);
				if el and el.ns == ns_framing and el.name == "open" then self.stream = el;
				elseif el and el.ns == ns_framing and el.name == "close" then self.stream_ended = true;
				elseif el then
					el.frame = text;
					self:_element(el);
				end
			end
		elseif opcode == 9 then
			send_all(self.sock, frame(10, payload));
		elseif opcode == 8 then
			self.ws_closed = true;
		end
	end
end

function Ws:_pump(seconds)
	if self.closed then return; end
	local data = receive_some(self.sock, seconds);
	if not data then
		self.closed = true;
		self.sock:close();
		return;
	end
	self.rx[#self.rx + 1] = data;
	self.buffer = self.buffer .. data;
	self:_frames();
end

-- One frame; stanzas get the namespace that they need on a WebSocket.
function Ws:send(text)
	local name = text:match("^<(%a+)");
	if (name == "message" or name == "presence" or name == "iq") and not text:match("^<%a+[^>]* xmlns=") then
		text = text:gsub("^<%a+", "%0 xmlns='jabber:client'", 1);
	end
	return send_all(self.sock, frame(1, text));
end

function Ws:open_stream()
	self:send(("<open xmlns='%s' to='%s' version='1.0'/>"):format(ns_framing, self.host));
	self.features = self:expect({ name = "features", ns = ns_streams });
	return self;
end
Ws.restart_stream = Ws.open_stream;
Ws.cut = Tcp.cut;

function Ws:close()
	return self:_end(("<close xmlns='%s'/>"):format(ns_framing));
end

-- BOSH ---------------------------------------------------------------------

local Bosh = setmetatable({}, { __index = Client });
Bosh.__index = Bosh;
Bosh.transport = "bosh";

local ns_bosh = "http://jabber.org/protocol/httpbind";

function M.bosh(srv, fields)
	local c = new(srv, Bosh, fields);
	c.rid = math.random(1000, 1000000);
	c.requests = {}; -- connections with a request that wasn't answered yet
	return c;
end

function Bosh:_request(attrs, payload)
	self.rid = self.rid + 1;
	local body = ("<body xmlns='%s' rid='%d'%s%s>%s</body>"):format(ns_bosh, self.rid,
		self.sid and " sid='" .. self.sid .. "'" or "", attrs or "", payload or "");
	local s = dial(self.srv, self.srv.http);
	send_all(s, table.concat({
		"POST /http-bind HTTP/1.1", "Host: " .. self.srv.host, "Content-Type: text/xml; charset=utf-8",
		"Connection: close", "Content-Length: " .. #body, "", body,
	}, "\r\n"));
	table.insert(self.requests, { sock = s, data = "" });
end

function Bosh:_response(text)
	self.rx[#self.rx + 1] = text;
	local body = xml.parse(text);
	self.last_body = body;
	self.sid = body.attr.sid or self.sid;
	if body.attr.type == "terminate" then
		self.closed = true;
		self.terminated = body.attr.condition or true;
	end
	for _, el in ipairs(body:children()) do self:_element(el); end
end

function Bosh:_pump(seconds)
	if #self.requests == 0 then
		if self.closed or not self.sid then return; end
		self:_request(); -- something for the server to answer
	end
	local socks = {};
	for i, r in ipairs(self.requests) do socks[i] = r.sock; end
	local ready = socket.select(socks, nil, math.max(0, seconds));
	for _, s in ipairs(ready) do
		for i, r in ipairs(self.requests) do
			if r.sock == s then
				s:settimeout(0);
				local data, err, partial = s:receive(65536);
				r.data = r.data .. (data or partial or "");
				local head, rest = r.data:match("^(.-\r\n\r\n)(.*)$");
				local len = head and tonumber(head:lower():match("content%-length: *(%d+)"));
				if len and #rest >= len or err == "closed" then
					table.remove(self.requests, i);
					s:close();
					self.status = head and tonumber(head:match("^HTTP/1.1 (%d+)"));
					if rest and rest ~= "" and self.status == 200 then self:_response(rest:sub(1, len)); else self.closed = true; end
				end
				break;
			end
		end
	end
end

function Bosh:send(text)
	self:_request("", text);
end

function Bosh:open_stream()
	self:_request((" to='%s' xml:lang='en' wait='%d' hold='1' ver='1.6' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'"):format(
		self.host, self.wait or 30));
	self.features = self:expect({ name = "features", ns = ns_streams });
	return self;
end

function Bosh:restart_stream()
	self:_request((" to='%s' xml:lang='en' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'"):format(self.host));
	self.features = self:expect({ name = "features", ns = ns_streams });
end

function Bosh:cut()
	for _, r in ipairs(self.requests) do r.sock:close(); end
	self.requests = {};
	self.closed = true;
end

function Bosh:close()
	if self.closed then return {}; end
	local start = self.next;
	self:_request(" type='terminate'");
	local deadline = socket.gettime() + M.timeout;
	while not self.closed and socket.gettime() < deadline do self:_pump(deadline - socket.gettime()); end
	local out = table.move(self.seen, start, #self.seen, 1, {});
	self.next = #self.seen + 1;
	self:cut();
	return out;
end

function M.cut_all()
	for _, c in ipairs(M.all) do pcall(c.cut, c); end
	M.all = {};
end

return M;
