local t = require "support";

local malformed = {
	"", "-1", "+1", "0x10", "1e3", "1.5", " 1", "1 ", "4294967296", "99999999999999999999", "abc", "\u{661}", "0x", "nan", "1,0",
};

t.each("acks", { config = "smacks_hibernation_time = 60" }, function (ctx, it)
	it("are requested of the client after a stanza was sent to it", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "hello");
		c:expect({ name = "message", body = "hello" });
		local r = c:expect("r");
		assert.equal(t.sm3, r.ns);
		assert.is_nil(next(r.attr));
		assert.equal(0, #r);
	end);

	it("aren't requested again while one is awaited", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		c:expect({ name = "message", body = "m5" });
		other:sync();
		for i = 6, 10 do other:message(c.jid, "m" .. i); end
		c:expect({ name = "message", body = "m10" });
		local seen = c:drain(0.3);
		assert.equal(1, #t.only(c.seen, "r"), "requests sent");
		assert.equal(0, #t.only(seen, "a"));
		c:ack(10);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
	end);

	it("are requested again after one came that wasn't for everything", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		other:message(c.jid, "m2");
		c:expect({ name = "message", body = "m2" });
		c:ack(1);
		assert.truthy(c:expect("r"));
		c:ack(2);
		c:sync();
		assert.equal(2, #t.only(c.seen, "r"));
	end);

	it("that always say less than was sent make no loop of requests", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		for _ = 1, 20 do
			c:ack(0);
		end
		c:sync();
		assert.truthy(#t.only(c.seen, "r") <= 2, #t.only(c.seen, "r") .. " requests");
	end);

	it("are seen by whoever filters what comes in", function ()
		local c = ctx:resumable();
		ctx.srv:eval(([[
			prosody.seen = {};
			require "util.filters".add_filter(session(%q), "stanzas/in", function (stanza)
				table.insert(prosody.seen, stanza.name);
				return stanza;
			end);
		]]):format(c.jid));
		assert.equal("0", c:ask_h());
		c:ack(0);
		c:sync();
		assert.equal("r a", table.concat(ctx.srv:eval("return prosody.seen"), " ", 1, 2));
	end);

	it("are seen by whoever handles their events", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx.srv:eval([[
			prosody.seen, prosody.see = {}, function (event) table.insert(prosody.seen, event.stanza.name); end
			prosody.hosts.localhost.events.add_handler("stanza/urn:xmpp:sm:3:a", prosody.see, 1000);
			prosody.hosts.localhost.events.add_handler("stanza/urn:xmpp:sm:3:r", prosody.see, 1000);
		]]);
		finally(function ()
			ctx.srv:eval([[
				prosody.hosts.localhost.events.remove_handler("stanza/urn:xmpp:sm:3:a", prosody.see);
				prosody.hosts.localhost.events.remove_handler("stanza/urn:xmpp:sm:3:r", prosody.see);
			]]);
		end);
		other:message(c.jid, "m1");
		c:expect("r");
		assert.equal("0", c:ask_h());
		c:ack(1);
		c:sync();
		assert.equal("r a", table.concat(ctx.srv:eval("return prosody.seen"), " ", 1, 2));
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
	end);

	it("are in the debug log", function ()
		local c, other = ctx:resumable(), ctx:login();
		local mark = ctx.srv:log_size();
		other:message(c.jid, "m1");
		c:expect("r");
		c:send(("<r xmlns='%s'/>"):format(t.sm3));
		c:ack(1);
		c:sync();
		local log = ctx.srv:log(mark);
		assert.truthy(log:match("Received%[c2s%]: <r [^\n]*xmlns='urn:xmpp:sm:3'"), log);
		assert.truthy(log:match("Received%[c2s%]: <a [^\n]*h='1'"), log);
	end);

	it("remove stanzas from the queue", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m3" });
		c:ack(2);
		c:sync();
		assert.equal(1, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		assert.truthy(ctx:field(c.jid, "tostring(s.outgoing_stanza_queue:table()[1])"):match("m3"));
		c:ack(3);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("may be repeated", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		for _ = 1, 5 do c:ack(1); end
		assert.equal("0", c:ask_h());
		assert.falsy(c.closed);
	end);

	it("may be unrequested", function ()
		local c = ctx:resumable();
		c:ack(0);
		assert.equal("0", c:ask_h());
		c:ping();
		c:expect("iq");
		c:ack(1);
		assert.equal("1", c:ask_h());
	end);

	it("may have leading zeros", function () -- xs:unsignedInt allows that
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:send("<a xmlns='urn:xmpp:sm:3' h='0001'/>");
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	for _, h in ipairs(malformed) do
		it(("with h='%s' end the stream with an error"):format(h), function ()
			local c = ctx:resumable();
			-- enough to make 1, 1.5 and 16 numbers of sent stanzas
			for _ = 1, 17 do c:ping(); end
			for _ = 1, 17 do c:expect("iq"); end
			c:send(("<a xmlns='urn:xmpp:sm:3' h='%s'/>"):format(t.escape(h)));
			c:expect_stream_error();
			c:expect_closed();
			-- the server is fine
			ctx:login():iq("get", "<ping xmlns='urn:xmpp:ping'/>");
		end);
	end

	it("without h end the stream with an error", function ()
		local c = ctx:resumable();
		c:send("<a xmlns='urn:xmpp:sm:3'/>");
		c:expect_stream_error();
		c:expect_closed();
	end);

	it("of more than was sent end the stream with the error of the XEP", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		other:message(c.jid, "m2");
		c:expect({ body = "m2" });
		c:ack(10);
		local err = c:expect_stream_error("undefined-condition");
		local detail = err:child("handled-count-too-high");
		assert.truthy(detail, tostring(err));
		assert.equal(t.sm3, detail.ns);
		assert.equal("10", detail.attr.h);
		assert.equal("2", detail.attr["send-count"]);
		c:expect_closed();
	end);

	it("of the highest number end the stream with the error of the XEP", function ()
		local c = ctx:resumable();
		c:ack("4294967295");
		local err = c:expect_stream_error("undefined-condition");
		local detail = err:child("handled-count-too-high");
		assert.truthy(detail, tostring(err));
		assert.equal("4294967295", detail.attr.h);
		assert.equal("0", detail.attr["send-count"]);
		c:expect_closed();
	end);

	it("of less than was acked already end the stream with an error", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m3" });
		c:ack(3);
		c:sync();
		c:ack(2);
		c:expect_stream_error("undefined-condition");
		c:expect_closed();
	end);

	it("that end the stream leave other sessions alone", function ()
		local user = ctx:user();
		local good = ctx:resumable { user = user, available = true };
		local bad = ctx:resumable { user = user };
		bad:ack(77);
		bad:expect_stream_error();
		bad:expect_closed();
		good:message(good.jid, "still here");
		good:expect({ body = "still here" });
	end);

	it("before <enable/> are refused and the stream goes on", function ()
		local c = ctx:login();
		for _, what in ipairs { "<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>", "<a xmlns='urn:xmpp:sm:3'/>" } do
			c:send(what);
			local failed = c:expect("failed");
			assert.equal(t.sm3, failed.ns);
			assert.equal("unexpected-request", (t.condition(failed)));
		end
		assert.equal("enabled", c:enable().name);
		assert.equal("0", c:ask_h());
	end);

	it("before binding are refused and binding goes on", function ()
		local c = ctx:authenticated(ctx:user());
		c:send("<r xmlns='urn:xmpp:sm:3'/>");
		assert.equal("unexpected-request", (t.condition(c:expect("failed"))));
		c:send("<a xmlns='urn:xmpp:sm:3' h='0'/>");
		assert.equal("unexpected-request", (t.condition(c:expect("failed"))));
		c:bind("x");
		assert.equal("enabled", c:enable().name);
	end);

	it("aren't answered for version 2 with version 3", function ()
		local c = ctx:login();
		c:send("<r xmlns='urn:xmpp:sm:2'/>");
		local failed = c:expect("failed");
		assert.equal(t.sm2, failed.ns);
	end);

	for _, what in ipairs {
		"<enabled xmlns='urn:xmpp:sm:3' resume='true' id='mine' max='5'/>", "<enabled xmlns='urn:xmpp:sm:3'/>",
		"<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>", "<resumed xmlns='urn:xmpp:sm:3'/>",
		"<failed xmlns='urn:xmpp:sm:3'/>",
		"<failed xmlns='urn:xmpp:sm:3'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
	} do
		it(what:match("^<%a+[^>]*>") .. " from a client changes nothing", function ()
			local c, other = ctx:resumable(), ctx:login();
			other:message(c.jid, "m1");
			c:message(c.jid, "m2");
			c:expect({ body = "m2" });
			assert.equal("1", c:ask_h());
			local token = ctx:field(c.jid, "s.resumption_token");
			c:send(what);
			c:send((what:gsub("sm:3", "sm:2")));
			c:message(c.jid, "m3");
			c:expect({ body = "m3" });
			assert.equal("2", c:ask_h());
			assert.equal(token, ctx:field(c.jid, "s.resumption_token"));
			assert.equal(t.sm3, ctx:field(c.jid, "s.smacks"));
			assert.equal(3, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
			c:ack(3);
			c:sync();
			assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
			ctx:hibernate(c);
			local d = ctx:authenticated(c.username);
			assert.equal("2", d:resume(c).resumed.attr.h);
		end);

		it(what:match("^<%a+[^>]*>") .. " from a client that didn't enable changes nothing", function ()
			local c = ctx:login();
			c:send(what);
			c:message(c.jid, "m1");
			c:expect({ body = "m1" });
			assert.falsy(ctx:field(c.jid, "s.smacks"));
			assert.equal("enabled", c:enable { resume = "true" }.name);
			assert.equal("0", c:ask_h());
		end);
	end

	it("before authentication the server's own elements are no way in", function ()
		local victim = ctx:login { available = true };
		for _, what in ipairs { "enabled", "resumed", "failed", "r", "a" } do
			local c = ctx:connect():open_stream();
			c:send(("<%s xmlns='urn:xmpp:sm:3' h='0' id='x' previd='x'/>"):format(what));
			c:send("<message to='" .. victim.jid .. "'><body>let me in</body></message>");
			c:drain(0.2);
			c:cut();
		end
		assert.equal(0, #t.only(victim:sync(), "message"));
	end);
end);

t.each("delayed acks", { events = true, config = "smacks_max_ack_delay = 1; smacks_hibernation_time = 60" }, function (ctx, it)
	it("make the event smacks-ack-delayed", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		ctx.srv:wait_for(("for _, e in ipairs(events) do if e.name == 'smacks-ack-delayed' and e.origin == %q then return true end end"):format(c.jid), 4);
		local events = ctx:events("smacks-ack-delayed", c.jid);
		assert.equal(1, #events);
		assert.equal("table", events[1].queue_type);
		assert.equal(1, #events[1].queue);
		assert.truthy(events[1].queue[1]:match("m1"));
		-- it goes on as before
		c:ack(1);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("that come in time make no such event", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		c:ack(1);
		c:drain(1.5);
		assert.equal(0, #ctx:events("smacks-ack-delayed", c.jid));
	end);

	it("make no such event for a session that hibernates", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		ctx:hibernate(c);
		other:drain(1.5);
		assert.equal(0, #ctx:events("smacks-ack-delayed", c.jid));
	end);
end);

t.each("acks after more stanzas", { config = "smacks_max_unacked_stanzas = 3; smacks_hibernation_time = 60" }, function (ctx, it)
	it("are requested only when there are more than smacks_max_unacked_stanzas", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m3" });
		c:drain(0.3);
		assert.equal(0, #t.only(c.seen, "r"));
		other:message(c.jid, "m4");
		c:expect({ body = "m4" });
		c:expect("r");
		c:ack(4);
		for i = 5, 7 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m7" });
		c:drain(0.3);
		assert.equal(1, #t.only(c.seen, "r"));
	end);
end);

t.each("acks of clients that read nothing", {
	config = "network_settings = { read_timeout = 2 }; smacks_hibernation_time = 60",
}, function (ctx, it)
	it("are requested when nothing is heard; then the session hibernates", function ()
		local c = ctx:resumable();
		c:expect("r", 6);
		-- an answer keeps it alive
		c:ack(0);
		c:expect("r", 6);
		ctx.srv:wait_hibernating(c.jid, 8);
		c:expect_closed();
		local d = ctx:resume(c);
		assert.equal("0", d.resumed.attr.h);
	end);

	it("a client that was asked just before is given a whole period to answer", function ()
		local c = ctx:resumable();
		c:expect("r", 6);
		c:ack(0);
		ctx:login():message(c.jid, "one");
		c:expect("r");
		local function read_timeout()
			return ctx:field(c.jid, "prosody.hosts[s.host].events.fire_event('c2s-read-timeout', { session = s })");
		end
		assert.is_true(read_timeout());
		assert.is_false(read_timeout());
		c:ack();
		ctx.srv:wait_for(("return not session(%q).awaiting_ack"):format(c.jid));
		assert.is_true(read_timeout());
	end);

	it("a session that can't be resumed goes away then", function ()
		local c = ctx:login { enable = {} };
		c:expect("r", 6);
		ctx.srv:wait_gone(c.jid, 8);
	end);
end);
