local t = require "support";

t.each("counting", { modules = { "csi" }, config = "smacks_hibernation_time = 60" }, function (ctx, it)
	it("includes messages, presence and iq, handled or not", function ()
		local c = ctx:resumable();
		c:message(c.jid, "x");
		assert.equal("1", c:ask_h());
		c:presence();
		assert.equal("2", c:ask_h());
		c:ping();
		assert.equal("3", c:ask_h());
		c:send("<iq type='get' id='u'><unknown xmlns='urn:example:unknown'/></iq>");
		assert.equal("4", c:ask_h());
		c:send("<iq type='result' id='nobody-asked' to='localhost'/>");
		assert.equal("5", c:ask_h());
		c:send("<message type='error' to='nobody@localhost'><body>x</body></message>");
		assert.equal("6", c:ask_h());
		c:send("<message xmlns='jabber:client' to='" .. c.jid .. "'><body>with its namespace</body></message>");
		assert.equal("7", c:ask_h());
		c:send("<message/>");
		assert.equal("8", c:ask_h());
	end);

	it("includes malformed iq, which the server answers itself", function ()
		local c = ctx:resumable();
		c:send("<iq type='get' id='x1'/>");
		c:send("<iq type='nonsense' id='x2'><query xmlns='jabber:iq:roster'/></iq>");
		c:send("<iq type='get'><query xmlns='jabber:iq:roster'/></iq>");
		assert.equal("3", c:ask_h());
	end);

	it("includes stanzas to addresses that aren't valid", function ()
		local c = ctx:resumable();
		c:send("<message to='@@@'><body>x</body></message>");
		c:send("<message to='a b@localhost'><body>x</body></message>");
		assert.equal("2", c:ask_h());
	end);

	it("excludes everything else", function ()
		local c = ctx:resumable();
		c:send("<r xmlns='urn:xmpp:sm:3'/>");
		c:expect("a");
		c:send("<a xmlns='urn:xmpp:sm:3' h='0'/>");
		c:send(" \n \t ");
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		c:send("<active xmlns='urn:xmpp:csi:0'/>");
		assert.equal("0", c:ask_h());
		assert.equal(0, ctx:field(c.jid, "s.handled_stanza_count"));
	end);

	it("excludes stanzas of other namespaces, which end the stream", function ()
		local c = ctx:resumable();
		c:ping();
		c:send("<message xmlns='urn:example:other'><body>x</body></message>");
		c:expect_stream_error("unsupported-stanza-type");
		local a = t.only(c.seen, "a")[1];
		if a then assert.equal("1", a.attr.h); end
	end);

	it("excludes csi elements", function ()
		local c = ctx:resumable();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/><active xmlns='urn:xmpp:csi:0'/>");
		assert.equal("0", c:ask_h());
	end);

	it("goes on over many stanzas", function ()
		local c = ctx:resumable();
		for i = 1, 50 do
			c:send(("<iq type='get' id='p%d'><ping xmlns='urn:xmpp:ping'/></iq>"):format(i):rep(20));
			assert.equal(tostring(i * 20), c:ask_h());
			c:ack();
		end
		assert.equal(1000, c.h);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("is the same for both directions of a session", function ()
		local c = ctx:resumable();
		for i = 1, 30 do c:message(c.jid, "m" .. i); end
		c:expect({ body = "m30" });
		assert.equal("30", c:ask_h());
		assert.equal(30, ctx:field(c.jid, "s.handled_stanza_count"));
		assert.equal(30, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_acked()"));
		c:ack(30);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		assert.equal(30, ctx:field(c.jid, "s.outgoing_stanza_queue:count_acked()"));
	end);

	it("counts what was processed before <r/> and nothing behind it", function ()
		local c = ctx:resumable();
		local m = "<message to='" .. c.jid .. "' type='chat'><body>%s</body></message>";
		c:send(m:format("first") .. m:format("wait 1") .. "<r xmlns='urn:xmpp:sm:3'/>" .. m:format("second")
			.. m:format("third") .. "<r xmlns='urn:xmpp:sm:3'/>");
		assert.equal("2", c:expect("a").attr.h);
		assert.equal("4", c:expect("a").attr.h);
		assert.same({ "first", "wait 1", "second", "third" }, t.bodies(c.seen));
	end);

	it("answers <r/> behind a stanza that's being processed only when that's done", function ()
		local c = ctx:resumable();
		local m = "<message to='" .. c.jid .. "' type='chat'><body>%s</body></message>";
		c:send(m:format("first") .. m:format("wait 1"));
		c:expect({ body = "first" });
		c:send("<r xmlns='urn:xmpp:sm:3'/>");
		c:send(m:format("last"));
		local list = c:read_until("a");
		assert.same({ "wait 1" }, t.bodies(list));
		assert.equal("2", list[#list].attr.h);
		c:expect({ body = "last" });
	end);

	for _, seconds in ipairs { "0.5", "4" } do
		it("counts nothing for a resuming client that isn't then processed, as when that takes " .. seconds .. " s", function ()
			local c, other = ctx:resumable(), ctx:login();
			local m = "<message to='" .. other.jid .. "' type='chat'><body>%s</body></message>";
			local all = { "first", "wait " .. seconds, "second" };
			c:send(m:format(all[1]) .. m:format(all[2]) .. m:format(all[3]));
			other:expect({ body = "first" });
			c:cut();
			ctx.srv:wait_hibernating(c.jid);
			local d = ctx:authenticated(c.username);
			local resumed = d:try_resume(c.token, 0);
			assert.equal("resumed", resumed.name);
			local h = tonumber(resumed.attr.h);
			assert.truthy(h >= 1 and h <= 3);
			if h > 1 then other:expect({ body = all[h] }, 8); end
			-- a message of the new connection comes behind them
			d:message(other.jid, "later");
			other:expect({ body = "later" }, 8);
			local got = t.bodies(other.seen);
			for i = 1, h do assert.equal(all[i], got[i]); end
		end);
	end

	it("tells a resuming client only of stanzas that were handled", function ()
		-- the client sends its unacked stanzas again: none is lost
		local other = ctx:login();
		local c = ctx:resumable();
		local m = "<message to='" .. other.jid .. "' type='chat'><body>%s</body></message>";
		c:send(m:format("one") .. m:format("two") .. m:format("wait 2") .. m:format("four") .. m:format("five"));
		other:expect({ body = "two" });
		c:cut();
		ctx.srv:wait_hibernating(c.jid);
		local d = ctx:authenticated(c.username);
		local h = tonumber(d:try_resume(c.token, 0).attr.h);
		local all = { "one", "two", "wait 2", "four", "five" };
		for i = h + 1, 5 do d:send(m:format((all[i]:gsub("wait 2", "wait 0")))); end
		other:expect({ body = "five" });
		local got = {};
		for _, body in ipairs(t.bodies(other.seen)) do got[body] = true; end
		assert.truthy(got.one and got.two and got.four and got.five and (got["wait 2"] or got["wait 0"]));
	end);

	it("counts a stanza whose handler failed no more than once", function ()
		ctx:allow("failed on purpose");
		ctx:allow("Traceback");
		ctx:allow("stack traceback");
		local c = ctx:resumable();
		c:message(c.jid, "fail on purpose");
		assert.equal("1", c:ask_h());
		c:message(c.jid, "fine");
		c:expect({ body = "fine" });
		assert.equal("2", c:ask_h());
	end);

	it("wraps around at 2^32", function ()
		local c = ctx:resumable();
		ctx.srv:eval(([[session(%q).handled_stanza_count = 4294967294]]):format(c.jid));
		assert.equal("4294967294", c:ask_h());
		for _, h in ipairs { "4294967295", "0", "1" } do
			c:ping();
			assert.equal(h, c:ask_h());
		end
		ctx:hibernate(c);
		assert.equal("1", ctx:resume(c).resumed.attr.h);
	end);

	it("leaves out what clients get before <enabled/>", function ()
		local other = ctx:login();
		local c = ctx:login();
		other:message(c.jid, "before");
		c:expect({ body = "before" });
		c:enable { resume = "true" };
		other:message(c.jid, "after");
		c:expect({ body = "after" });
		assert.equal(1, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		c:ack(1);
		c:sync();
		assert.falsy(c.closed);
	end);
end);
