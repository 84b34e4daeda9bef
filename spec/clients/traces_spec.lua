-- What clients send that cannot be run here, by their public sources: how they log in, enable, ask for acks and give them, tell
-- that nobody looks, come back, and fall back when they can't; each replayed by the raw client of these specs, stanza by stanza
-- and in their order. In between the connection is cut, what the client wrote last gets lost, and the server is killed. In the
-- end both sides must have had every message exactly once and in order, and both counts must agree. What each does is told in
-- docs/clients.md, with the version that was read.

local t = require "support";
local mime = require "mime";

local ns_sasl, ns_sasl2, ns_bind2 = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:sasl:2", "urn:xmpp:bind:0";
local ns_csi = "urn:xmpp:csi:0";
local request = "<r xmlns='urn:xmpp:sm:3'/>";
local csi = { active = "<active xmlns='" .. ns_csi .. "'/>", inactive = "<inactive xmlns='" .. ns_csi .. "'/>" };

-- A device: what any of them keeps ------------------------------------------------

local Device = {};
Device.__index = Device;

local function device(ctx, kind)
	return setmetatable({ ctx = ctx, kind = kind, user = ctx:user("phone"), queue = {}, sent = 0, handled = 0, bodies = {}, n = 0 }, Device);
end

local function secret(user)
	return (mime.b64("\0" .. user .. "\0secret"));
end

-- Something that the server counts. `lost`: it was written into a connection that is gone.
function Device:stanza(text, lost)
	self.sent = self.sent + 1;
	table.insert(self.queue, { number = self.sent, text = text });
	if not lost then
		self.c:send(text);
		self.kind.after_stanza(self, text);
	end
end

function Device:message(to, lost)
	self.n = self.n + 1;
	self:stanza(("<message to='%s' type='chat' id='m%d'><body>u%d</body></message>"):format(to, self.n, self.n), lost);
end

function Device:acked(h)
	self.handled = tonumber(h);
	assert(self.handled <= self.sent, "more is acknowledged than was sent");
	while self.queue[1] and self.queue[1].number <= self.handled do table.remove(self.queue, 1); end
	self.asked = false;
end

-- What has been read is had, and is answered as the client does.
function Device:take(elements)
	for _, el in ipairs(elements) do
		if el.ns == t.sm3 and el.name == "r" then self.c:ack();
		elseif el.ns == t.sm3 and el.name == "a" then
			self:acked(el.attr.h);
			if self.kind.after_ack then self.kind.after_ack(self); end
		elseif el.name == "message" and el:body() then
			assert.not_equal("error", el.attr.type, tostring(el));
			table.insert(self.bodies, el:body());
			if self.kind.after_received then self.kind.after_received(self); end
		end
	end
end

function Device:read(seconds)
	self:take(self.c:drain(seconds or 0.05));
end

-- The answer to <resume/>: what is left is sent again under the numbers that follow the server's.
function Device:resumed(el)
	assert.equal("resumed", el.name, tostring(el));
	assert.equal(self.token, el.attr.previd);
	self.c.counting, self.c.sm_ns = true, t.sm3;
	self:acked(el.attr.h);
	local again = self.queue;
	self.queue, self.sent = {}, self.handled;
	self.kind.after_resumed(self, again);
end

function Device:enabled(el)
	assert.equal("enabled", el.name, tostring(el));
	assert.truthy(el.attr.resume == "true" or el.attr.resume == "1", tostring(el));
	self.token = el.attr.id;
	self.c.counting, self.c.sm_ns = true, t.sm3;
end

function Device:cut()
	local c = self.c;
	self:take(table.move(c.seen, c.next, #c.seen, 1, {}));
	self.old_h = self.c.h;
	self.c:cut();
end

-- Their ways -----------------------------------------------------------------------

local function connect(self)
	self.c = self.ctx:connect();
	self.c.h = self.old_h or 0;
	return self.c;
end

local auth = "<auth xmlns='" .. ns_sasl .. "' mechanism='PLAIN'>%s</auth>";

-- Each waits for what the other side has to say first.
local function patiently(self)
	connect(self):authenticate(self.user);
end

-- Monal: the header and <auth/> together, then, once that succeeded, the header and what follows it together, by the features that
-- it remembers of the last time.
local function pipelined(self, after)
	local c = connect(self);
	c:send(c:header() .. auth:format(secret(self.user)));
	c:expect({ name = "success", ns = ns_sasl });
	c:_new_parser();
	c:send(c:header() .. after);
	c:expect("features");
end

local function resume_text(self)
	return ("<resume xmlns='%s' h='%d' previd='%s'/>"):format(t.sm3, self.old_h, self.token);
end

local function bind_text(resource)
	return ("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>"):format(resource);
end

local function bound(self)
	local iq = self.c:expect({ name = "iq", id = "bind" });
	self.c.jid = iq:child("bind"):child_text("jid");
	self.jid = self.c.jid;
end

local enable = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
local function sm_answer(self)
	return self.c:expect(function (el) return el.ns == t.sm3 and (el.name == "enabled" or el.name == "resumed" or el.name == "failed"); end);
end

local function fresh(self)
	self.queue, self.sent, self.handled = {}, 0, 0;
end

local function roster(self)
	self:stanza("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
end

local is_message = "^<message";

local conversations = {
	name = "Conversations";
	idle = function (self) self.c:send(csi.inactive); end;
	awake = function (self) self.c:send(csi.active); end;
	-- After each message; and where others ping, <r/>.
	after_stanza = function (self, text)
		if text:match(is_message) then self.c:send(request); end
	end;
	-- <r/> before anything else: its answer tells that all that had waited is there.
	after_resumed = function (self, again)
		self.c:send(request);
		for _, entry in ipairs(again) do self:stanza(entry.text); end
	end;
	-- What is sent between <enable/> and its answer counts; the answer is answered with <r/>.
	log_in = function (self)
		patiently(self);
		self.c:send(bind_text("Conversations.Yk3F"));
		bound(self);
		fresh(self);
		self.c:send(enable);
		roster(self);
		self:stanza("<iq type='get' id='disco' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
		self:stanza("<presence/>");
		self:enabled(sm_answer(self));
		self.c:send(request);
	end;
	come_back = function (self)
		patiently(self);
		self.c:send(resume_text(self));
		local el = sm_answer(self);
		if el.name == "resumed" then return self:resumed(el); end
		return self.kind.log_in_again(self);
	end;
	-- On the same stream. Of what was left it sends messages again, later, by itself.
	log_in_again = function (self)
		local again = self.queue;
		self.c:send(bind_text("Conversations.Yk3F"));
		bound(self);
		fresh(self);
		self.c.h = 0;
		self.c:send(enable);
		self:stanza("<presence/>");
		self:enabled(sm_answer(self));
		self.c:send(request);
		for _, entry in ipairs(again) do
			if entry.text:match(is_message) then self:stanza(entry.text); end
		end
	end;
};

-- The header and <authenticate/> together; in it to bind and to enable, and if there is something to resume that as well, in one.
local function authenticate(self)
	local c = connect(self);
	c.counting, c.sm_ns = true, t.sm3; -- what comes in one piece with <success/> counts
	c:send(("%s<authenticate xmlns='%s' mechanism='PLAIN'><initial-response>%s</initial-response><user-agent id='%s'>"
		.. "<software>Conversations</software><device>Google Pixel</device></user-agent><bind xmlns='%s'><tag>Conversations</tag>"
		.. "<enable xmlns='urn:xmpp:carbons:2'/>%s</bind>%s</authenticate>"):format(c:header(), ns_sasl2, secret(self.user),
		"0a3fd1c5-2ef0-4b5c-8c39-6b9d4b8a35f1", ns_bind2, enable, self.token and resume_text(self) or ""));
	return c:expect({ name = "success", ns = ns_sasl2 });
end

local conversations2 = setmetatable({
	name = "Conversations with SASL2, Bind 2 and a quick start";
	log_in = function (self)
		local success = authenticate(self);
		self.jid = success:child_text("authorization-identifier");
		self.c.jid = self.jid;
		fresh(self);
		self:enabled(success:child("bound", ns_bind2):child("enabled", t.sm3));
		self.c:send(request);
		roster(self);
		self:stanza("<presence/>");
	end;
	come_back = function (self)
		local success = authenticate(self);
		local resumed = success:child("resumed", t.sm3);
		if resumed then
			assert.is_nil(success:child("bound", ns_bind2), tostring(success));
			return self:resumed(resumed);
		end
		local again = self.queue;
		assert.truthy(success:child("failed", t.sm3), tostring(success));
		self.jid = success:child_text("authorization-identifier");
		self.c.jid = self.jid;
		fresh(self);
		self.c.h = self.c.h - self.old_h;
		self:enabled(success:child("bound", ns_bind2):child("enabled", t.sm3));
		self.c:send(request);
		self:stanza("<presence/>");
		for _, entry in ipairs(again) do
			if entry.text:match(is_message) then self:stanza(entry.text); end
		end
	end;
}, { __index = conversations });

-- <r/> while something is not acknowledged, one at a time.
local function ask(self, force)
	if force or not self.asked and #self.queue > 0 then
		self.asked = true;
		self.c:send(request);
	end
end

local monal = {
	name = "Monal, pipelining";
	after_stanza = function (self) ask(self); end;
	after_ack = function (self) ask(self); end;
	-- Presence that tells since when, then <inactive/>, and an <a/> that nobody asked for.
	idle = function (self)
		self:stanza("<presence><idle xmlns='urn:xmpp:idle:1' since='2024-10-23T10:00:00Z'/></presence>");
		self.c:send(csi.inactive);
		self.c:ack();
	end;
	awake = function (self)
		self.c:send(csi.active);
		self:stanza("<presence/>");
	end;
	-- What is left, whether somebody looks, presence, then <r/> in any case.
	after_resumed = function (self, again)
		self.asked = false;
		for _, entry in ipairs(again) do self:stanza(entry.text); end
		self.c:send(csi.active);
		self:stanza("<presence/>");
		ask(self, not self.asked);
	end;
	log_in = function (self)
		pipelined(self, bind_text("Monal-iOS.4f1c"));
		self.kind.bound(self);
	end;
	bound = function (self, again)
		bound(self);
		fresh(self);
		self.c.h = 0;
		self.c:send(enable);
		self:enabled(sm_answer(self));
		self:stanza("<iq type='get' id='disco' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
		roster(self);
		self:stanza("<presence/>");
		self.c:send(csi.active);
		for _, entry in ipairs(again or {}) do
			if entry.text:match(is_message) then self:stanza(entry.text); end
		end
	end;
	come_back = function (self)
		pipelined(self, resume_text(self));
		local el = sm_answer(self);
		if el.name == "resumed" then return self:resumed(el); end
		local again = self.queue;
		self.c:send(bind_text("Monal-iOS.4f1c"));
		self.kind.bound(self, again);
	end;
};

-- yaxim has Smack 4.3 with its defaults, aTalk 4.4: an <r/> for each message, or after five other stanzas.
local smack = {
	name = "Smack (yaxim, aTalk)";
	after_stanza = function (self, text)
		self.others = text:match(is_message) and 5 or (self.others or 0) + 1;
		if self.others >= 5 then
			self.others = 0;
			self.c:send(request);
		end
	end;
	idle = function (self) self.c:send(csi.inactive); end;
	awake = function (self) self.c:send(csi.active); end;
	-- What is left, and one <r/> for all of that.
	after_resumed = function (self, again)
		for _, entry in ipairs(again) do
			self.sent = self.sent + 1;
			table.insert(self.queue, { number = self.sent, text = entry.text });
			self.c:send(entry.text);
		end
		if #again > 0 then self.c:send(request); end
	end;
	log_in = function (self)
		patiently(self);
		self.kind.bind(self, {});
	end;
	-- All that was left goes again, whatever it is.
	bind = function (self, again)
		self.c:send(bind_text("yaxim.b2f9"));
		bound(self);
		fresh(self);
		self.c.h = 0;
		self.c:send(enable);
		self:enabled(sm_answer(self));
		for _, entry in ipairs(again) do self:stanza(entry.text); end
		roster(self);
		self:stanza("<presence/>");
	end;
	come_back = function (self)
		patiently(self);
		self.c:send(resume_text(self));
		local el = sm_answer(self);
		if el.name == "resumed" then return self:resumed(el); end
		self.kind.bind(self, self.queue);
	end;
	-- Before it ends the stream it acknowledges once more.
	log_out = function (self)
		self.c:ack();
		self.c:close();
	end;
};

-- XMPPFramework, as ChatSecure sets it: it asks after ten stanzas, and acknowledges after ten without being asked; presence before
-- <enable/>. <resume/> stands in the place of binding. What was not handled, its message queue sends again.
local chatsecure = {
	name = "ChatSecure (XMPPFramework)";
	after_stanza = function (self)
		self.others = (self.others or 0) + 1;
		if self.others == 10 then
			self.others = 0;
			self.c:send(request);
		end
	end;
	after_received = function (self)
		self.received = (self.received or 0) + 1;
		if self.received % 10 == 0 then self.c:ack(); end
	end;
	idle = function (self) self:stanza("<presence><show>away</show></presence>"); end;
	awake = function (self) self:stanza("<presence/>"); end;
	after_resumed = function (self, again)
		for _, entry in ipairs(again) do self:stanza(entry.text); end
	end;
	log_in = function (self)
		patiently(self);
		self.kind.bind(self, {});
	end;
	bind = function (self, again)
		self.c:send(bind_text("chatsecure4711"));
		bound(self);
		fresh(self);
		self.c.h = 0;
		self.c:send("<presence/>");
		self.c:send(enable);
		roster(self);
		self:enabled(sm_answer(self));
		for _, entry in ipairs(again) do
			if entry.text:match(is_message) then self:stanza(entry.text); end
		end
	end;
	come_back = smack.come_back;
};

-- What happens to each ------------------------------------------------------------

local function trace(ctx, kind)
	local self = device(ctx, kind);
	local friend, said, heard = ctx:resumable { resource = "friend", available = true }, 0, {};
	kind.log_in(self);
	self:read(0.1);

	local function say(n)
		for _ = 1, n do
			said = said + 1;
			friend:message(self.user .. "@" .. ctx.srv.host, "d" .. said);
		end
	end
	local function listen()
		friend:sync();
		friend:ack();
		heard = t.bodies(friend.seen);
	end
	-- All that was said on both sides is there, and the server has counted what was sent.
	local function settled()
		for _ = 1, 100 do
			self:read();
			listen();
			if #self.bodies >= said and #heard >= self.n then break; end
		end
		assert.same(t.numbered("d", said), self.bodies);
		assert.same(t.numbered("u", self.n), heard);
		self.c:send(request);
		for _ = 1, 100 do
			if self.handled == self.sent then break; end
			self:read();
		end
		assert.equal(self.sent, self.handled);
		self.c:ack();
		ctx.srv:wait_for(("return #session(%q).outgoing_stanza_queue == 0"):format(self.jid), 5, "an empty queue");
	end

	say(5);
	for _ = 1, 3 do self:message(friend.jid); end
	settled();

	-- Nobody looks at it: what is urgent comes all the same.
	kind.idle(self);
	say(4);
	self:message(friend.jid);
	settled();

	-- Cut; what it wrote last gets lost.
	self:message(friend.jid);
	self:read();
	self:cut();
	self:message(friend.jid, true);
	self:message(friend.jid, true);
	ctx.srv:wait_hibernating(self.jid);
	say(12);
	friend:sync();
	kind.come_back(self);
	kind.awake(self);
	settled();

	-- Twice in a row, the second time before anything was acknowledged.
	for _ = 1, 2 do
		self:message(friend.jid);
		self:cut();
		ctx.srv:wait_hibernating(self.jid);
		say(3);
		friend:sync();
		kind.come_back(self);
	end
	settled();

	-- The server is killed.
	self:message(friend.jid);
	settled();
	self:cut();
	friend:cut();
	ctx.srv:kill();
	self:message(friend.jid, true);
	ctx.srv:launch();
	local before = friend;
	friend = ctx:resume(before);
	friend.seen = table.move(friend.seen, 1, #friend.seen, #before.seen + 1, before.seen);
	friend.next = #friend.seen + 1;
	say(2);
	kind.come_back(self);
	kind.awake(self);
	settled();

	-- And the session is not there any more: it falls back on a log-in, and sends again what nobody has told it was handled.
	self:cut();
	ctx.srv:wait_hibernating(self.jid);
	ctx.srv:eval("local s = session(a); s.hibernating_watchdog:cancel(); s.hibernating_watchdog.callback()", self.jid);
	ctx.srv:wait_gone(self.jid, 5);
	self:message(friend.jid, true);
	kind.come_back(self);
	say(2);
	settled();
	if kind.log_out then
		kind.log_out(self);
		ctx.srv:wait_gone(self.jid, 5);
	end
end

for name, set in pairs {
	["what clients send, by their sources"] = { { conversations, monal, smack, chatsecure }, {} };
	["what clients send, by their sources, with SASL2"] = { { conversations2 }, { "sasl2", "sasl2_bind2", "sasl2_sm" } };
} do
	t.each(name, { config = "smacks_hibernation_time = 120", modules = { "csi_simple", "carbons" }, community = set[2] }, function (ctx, it)
		for _, kind in ipairs(set[1]) do
			it("is answered as it should be: " .. kind.name, function () trace(ctx, kind); end);
		end
	end);
end
