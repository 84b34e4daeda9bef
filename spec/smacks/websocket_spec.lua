local t = require "support";

t.each("WebSocket", { config = "smacks_hibernation_time = 60", modules = { "websocket" }, with_http = true }, function (ctx, it)
	local function all_frames_have_namespaces(c)
		for _, text in ipairs(c.frames) do
			local name = text:match("^<([%a:]+)");
			if not text:match("^<stream:") then
				assert.truthy(text:match("^<[%a:]+[^>]* xmlns=") , "no namespace: " .. text);
			end
			if name == "message" or name == "iq" or name == "presence" then
				assert.truthy(text:match("^<%a+[^>]* xmlns=['\"]jabber:client['\"]"), "no xmlns='jabber:client': " .. text);
				local _, n = text:match("^<[^>]*>"):gsub(" xmlns=", "");
				assert.equal(1, n, text);
			end
		end
	end

	it("offers and enables it", function ()
		local c = ctx:login { how = "websocket" };
		assert.truthy(c.features:child("sm", t.sm3));
		assert.equal("enabled", c:enable { resume = "true" }.name);
		c:message(c.jid, "m1");
		assert.truthy(c:expect({ body = "m1" }));
		assert.equal("1", c:ask_h());
		c:ack();
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		all_frames_have_namespaces(c);
	end);

	it("counts incoming stanzas, which have a namespace", function ()
		local c = ctx:login { how = "websocket", enable = { resume = "true" } };
		c:presence();
		c:ping();
		c:message("localhost", "x");
		assert.equal("3", c:ask_h());
	end);

	it("hibernates and is resumed over WebSocket", function ()
		local c, other = ctx:login { how = "websocket", enable = { resume = "true" }, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:ack();
		c:sync();
		ctx:hibernate(c);
		other:message(c.bare, "m2");
		other:ping(c.jid);
		other:send("<presence to='" .. c.jid .. "'/>");
		other:sync();
		local d = ctx:resume(c, nil, "websocket");
		assert.equal("1", d.resumed.attr.h);
		local m = d:expect({ body = "m2" });
		assert.equal("jabber:client", m.ns);
		assert.truthy(t.delay(m));
		assert.is_nil(t.delay(d:expect("iq")));
		d:expect("presence");
		other:message(c.jid, "m3");
		assert.is_nil(t.delay(d:expect({ body = "m3" })));
		d:message(c.jid, "m4");
		d:expect({ body = "m4" });
		assert.equal("2", d:ask_h());
		assert.same({ "m2", "m3", "m4" }, t.bodies(d.seen));
		d:ack();
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		all_frames_have_namespaces(d);
	end);

	it("resumes a TCP session", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		ctx:hibernate(c);
		for i = 2, 5 do other:message(c.jid, "m" .. i); end
		other:ping(c.jid);
		other:sync();
		local d = ctx:resume(c, c.h - 1, "websocket");
		d:expect("iq");
		assert.same(t.numbered("m", 5), t.bodies(d.seen));
		other:message(c.jid, "live");
		d:expect({ body = "live" });
		d:message(c.jid, "mine");
		d:expect({ body = "mine" });
		assert.equal("2", d:ask_h());
		d:ack();
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		all_frames_have_namespaces(d);
	end);

	it("sessions are resumed over TCP", function ()
		local c, other = ctx:login { how = "websocket", enable = { resume = "true" }, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		ctx:hibernate(c);
		other:message(c.jid, "m2");
		other:ping(c.jid);
		other:sync();
		local d = ctx:resume(c, c.h - 1);
		d:expect("iq");
		assert.same({ "m1", "m2" }, t.bodies(d.seen));
		for _, m in ipairs(t.only(d.seen, "message")) do assert.equal("jabber:client", m.ns); end
		other:message(c.jid, "live");
		d:expect({ body = "live" });
		d:message(c.jid, "mine");
		d:expect({ body = "mine" });
		assert.equal("2", d:ask_h());
		d:ack();
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("sessions go back and forth", function ()
		local other = ctx:login();
		local c = ctx:resumable { available = true };
		for round = 1, 6 do
			other:message(c.jid, "live" .. round);
			c:expect({ body = "live" .. round });
			ctx:hibernate(c);
			other:message(c.jid, "late" .. round);
			other:sync();
			c = ctx:resume(c, nil, round % 2 == 1 and "websocket" or "connect");
			c:expect({ body = "late" .. round });
			c:message(c.jid, "own" .. round);
			c:expect({ body = "own" .. round });
			assert.equal(tostring(round + 1), c:ask_h());
			assert.same({ "late" .. round, "own" .. round }, t.bodies(c.seen));
			if c.transport == "websocket" then all_frames_have_namespaces(c); end
		end
	end);

	it("takes over from an open TCP connection, which gets a conflict", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		local d = ctx:authenticated(c.username, "websocket");
		assert.equal("resumed", d:try_resume(c.token, c.h).name);
		c:expect_stream_error("conflict");
		c:expect_closed();
		other:message(c.jid, "m1");
		d:expect({ body = "m1" });
	end);

	it("is taken over while open, with a conflict", function ()
		local c, other = ctx:login { how = "websocket", enable = { resume = "true" }, available = true }, ctx:login();
		local d = ctx:authenticated(c.username);
		assert.equal("resumed", d:try_resume(c.token, c.h).name);
		c:expect_stream_error("conflict");
		c:expect_closed();
		other:message(c.jid, "m1");
		d:expect({ body = "m1" });
		all_frames_have_namespaces(c);
	end);

	it("ends cleanly with <close/>", function ()
		local c = ctx:login { how = "websocket", enable = { resume = "true" }, available = true };
		c:ping();
		c:sync();
		local last = c:close();
		local a = t.only(last, "a")[1];
		assert.truthy(a, "no last ack");
		assert.equal("2", a.attr.h);
		ctx.srv:wait_gone(c.jid);
		assert.equal("item-not-found", (t.condition(ctx:authenticated(c.username):try_resume(c.token, c.h))));
	end);

	it("answers wrong resumptions like TCP does", function ()
		local d = ctx:authenticated(ctx:user(), "websocket");
		local failed = d:try_resume("unknown", "0");
		assert.equal("item-not-found", (t.condition(failed)));
		d:bind("x");
		assert.equal("enabled", d:enable { resume = "true" }.name);
	end);

	it("answers acks of too much with the stream error", function ()
		local c = ctx:login { how = "websocket", enable = { resume = "true" } };
		c:ack(5);
		c:expect_stream_error("undefined-condition");
		c:expect_closed();
	end);

	it("is asked for acks", function ()
		local c, other = ctx:login { how = "websocket", enable = { resume = "true" } }, ctx:login();
		other:message(c.jid, "m1");
		assert.equal(t.sm3, c:expect("r").ns);
		all_frames_have_namespaces(c);
	end);
end);

t.each("WebSocket and expiry", { config = "smacks_hibernation_time = 1", modules = { "websocket" }, with_http = true }, function (ctx, it)
	it("keeps unacked messages for the next login", function ()
		local c, other = ctx:login { how = "websocket", enable = { resume = "true" }, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:cut();
		ctx.srv:wait_hibernating(c.jid);
		other:message(c.jid, "m2");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m2" });
		assert.same({ "m1", "m2" }, t.bodies(d.seen));
		for _, m in ipairs(t.only(d.seen, "message")) do assert.equal("jabber:client", m.ns); end
		d:close();
		ctx.srv:wait_gone(d.jid);
	end);
end);
