local t = require "support";

t.each("client state", {
	config = "smacks_hibernation_time = 60; smacks_max_inactive_unacked_stanzas = 3", modules = { "csi" },
}, function (ctx, it)
	it("inactive makes acks be asked for more rarely, active at once", function ()
		local c, other = ctx:resumable(), ctx:login();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		c:sync();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m3" });
		c:drain(0.3);
		assert.equal(0, #t.only(c.seen, "r"));
		c:send("<active xmlns='urn:xmpp:csi:0'/>");
		c:expect("r");
		c:ack();
	end);

	it("inactive doesn't put it off for ever", function ()
		local c, other = ctx:resumable(), ctx:login();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		c:sync();
		for i = 1, 4 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m4" });
		c:expect("r");
	end);

	it("active asks even when there's nothing new", function ()
		local c = ctx:resumable();
		c:send("<active xmlns='urn:xmpp:csi:0'/>");
		c:expect("r");
		c:ack(0);
		c:sync();
		assert.falsy(c.closed);
	end);
end);

t.each("client state with mod_csi_simple", {
	config = "smacks_hibernation_time = 60", modules = { "csi_simple", "websocket" }, with_http = true,
}, function (ctx, it)
	it("holds presence back and counts right", function ()
		local a, b = ctx:contacts();
		local c = ctx:resumable { user = a, available = true };
		c:ack();
		c:sync();
		local before = c.h;
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		c:send(" ");
		local friend = ctx:login { user = b };
		for i = 1, 3 do friend:presence(nil, "<status>s" .. i .. "</status>"); end
		friend:sync();
		friend:message(c.jid, "important");
		c:expect({ body = "important" });
		c:send("<active xmlns='urn:xmpp:csi:0'/>");
		c:sync();
		c:ack();
		c:sync();
		assert.falsy(c.closed);
		assert.truthy(c.h >= before + 2);
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("doesn't keep back what it was given before the client became inactive", function ()
		for _, how in ipairs { "connect", "websocket" } do
			local c = ctx:resumable { how = how };
			c:sync();
			-- In one turn: the connection has not written it when mod_csi_simple pauses it.
			ctx.srv:eval([[
				local s = session(a);
				s.send(st.message({ to = a, from = "x@localhost", type = "chat" }, "just in time"));
				s.state = "inactive";
				hosts[s.host].events.fire_event("csi-client-inactive", { origin = s });
			]], c.jid);
			c:expect({ body = "just in time" }, 5);
		end
	end);

	it("answers an <r/> of an inactive client at once", function ()
		local c = ctx:resumable();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		assert.equal("0", c:ask_h());
		assert.equal("0", c:ask_h()); -- and again: that answer left the connection paused, or not
		local d = ctx:resumable();
		d:send("<inactive xmlns='urn:xmpp:csi:0'/><r xmlns='urn:xmpp:sm:3'/>");
		d:expect("a");
	end);

	it("answers and asks over WebSocket", function ()
		local c, other = ctx:resumable { how = "websocket" }, ctx:login();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		assert.equal("0", c:ask_h());
		other:message(c.jid, "important");
		c:expect({ body = "important" });
		c:sync();
		c:ack();
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("answers in order with what is held back", function ()
		local a, b = ctx:contacts();
		local c = ctx:resumable { user = a, available = true };
		c:sync();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		local friend = ctx:login { user = b };
		friend:presence(nil, "<status>held</status>");
		friend:sync();
		local seen = c:sync();
		local held = t.only(seen, { name = "presence", from = friend.jid });
		assert.equal("held", held[1] and held[1]:child_text("status"));
		c:ack();
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("asks an inactive client when nothing has been read for long", function ()
		local c = ctx:resumable();
		c:sync();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		ctx.srv:wait_for(("return session(%q).state == 'inactive'"):format(c.jid));
		local function read_timeout()
			return ctx:field(c.jid, "prosody.hosts[s.host].events.fire_event('c2s-read-timeout', { session = s })");
		end
		for _ = 1, 2 do
			assert.equal(true, read_timeout());
			c:expect("r");
			c:ack();
			ctx.srv:wait_for(("return not session(%q).awaiting_ack"):format(c.jid));
		end
		assert.equal(true, read_timeout());
		c:expect("r");
		assert.equal(false, read_timeout()); -- was asked, said nothing
	end);

	it("a session cut while inactive is resumed with everything", function ()
		local a, b = ctx:contacts();
		local c = ctx:resumable { user = a, available = true };
		c:ack();
		c:sync();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		local friend = ctx:login { user = b };
		friend:presence(nil, "<status>one</status>");
		friend:sync();
		c:drain(0.2);
		ctx:hibernate(c);
		friend:presence(nil, "<status>two</status>");
		friend:message(c.jid, "m1");
		friend:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m1" });
		d:sync();
		local last;
		for _, list in ipairs { c.seen, d.seen } do
			for _, p in ipairs(t.only(list, "presence")) do
				if p.attr.from == friend.jid then last = p:child_text("status"); end
			end
		end
		assert.equal("two", last);
		d:ack();
		d:sync();
		assert.falsy(d.closed);
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);
end);

t.each("a long queue with mod_csi_simple", {
	config = "smacks_hibernation_time = 60; smacks_max_queue_size = 10000", modules = { "csi_simple" },
}, function (ctx, it)
	it("goes out although its client is inactive as soon as it has resumed", function ()
		local c = ctx:resumable { available = true };
		c:sync();
		ctx:hibernate(c);
		ctx.srv:eval(([[
			for i = 1, 1000 do
				session(%q).send(st.message({ to = %q, from = "x@localhost", type = "chat", id = "i" .. i }, i .. (" "):rep(1000)));
			end
		]]):format(c.jid, c.jid));
		local d = ctx:authenticated(c.username);
		d.token, d.h = c.token, c.h;
		d:send(("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='%d'/><inactive xmlns='urn:xmpp:csi:0'/>"):format(c.token, c.h));
		d:expect("resumed");
		d:expect({ id = "i1000" });
	end);
end);

t.each("a connection with little room, and mod_csi_simple", {
	config = "smacks_hibernation_time = 60; network_settings = { max_send_buffer_size = 65536 }", modules = { "csi_simple" },
}, function (ctx, it)
	it("that is full and paused is cut, and nothing is missing after the resumption", function ()
		local a, b = ctx:contacts();
		local c = ctx:resumable { user = a, available = true };
		c:sync();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		ctx.srv:wait_for(("return session(%q).state == 'inactive'"):format(c.jid));
		local friend = ctx:login { user = b };
		for i = 1, 20 do friend:presence(nil, ("<status>%d %s</status>"):format(i, ("x"):rep(5000))); end
		friend:sync();
		if ctx.version == "0.12" then -- has no limit, and nothing is lost
			c:cut();
		else
			c:expect_closed();
		end
		ctx.srv:wait_hibernating(c.jid);
		local d = ctx:resume(c);
		d:sync();
		local told = {};
		for _, list in ipairs { c.seen, d.seen } do
			for _, p in ipairs(t.only(list, { name = "presence", from = friend.jid })) do
				told[#told + 1] = tonumber(p:child_text("status"):match("^%d+"));
			end
		end
		for i = 1, 20 do assert.equal(i, told[i]); end
		d:ack();
		d:sync();
		assert.falsy(d.closed);
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);
end);
