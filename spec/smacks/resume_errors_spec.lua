local t = require "support";

t.each("resuming wrongly", {
	config = "smacks_hibernation_time = 60", extra = 'VirtualHost "other.localhost"',
}, function (ctx, it)
	local function failed_with(el, condition)
		assert.equal("failed", el.name, tostring(el));
		local found, n = t.condition(el);
		assert.equal(condition, found, tostring(el));
		assert.equal(1, n, tostring(el));
	end

	-- A hibernating session with 5 messages in the queue, of 7 stanzas sent, of which the client acked 2.
	local function prepare()
		local other = ctx:login();
		local c = ctx:resumable();
		for i = 1, 2 do other:message(c.jid, "old" .. i); end
		c:expect({ body = "old2" });
		c:ping();
		c:ping();
		c:ack(2);
		c:ask_h();
		c:ack(4);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		ctx:hibernate(c);
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		other:sync();
		return c, other;
	end

	local function still_resumable(c, d)
		d = d or ctx:authenticated(c.username);
		local resumed = d:try_resume(c.token, 4);
		assert.equal("resumed", resumed.name, tostring(resumed));
		assert.equal("2", resumed.attr.h);
		d:expect({ body = "m5" });
		assert.same(t.numbered("m", 5), t.bodies(d.seen));
		d.token, d.h, d.jid = c.token, 9, c.jid;
		d:ack(9);
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		d:message(c.jid, "after");
		d:expect({ body = "after" });
		assert.equal("3", d:ask_h());
	end

	local bad = { "", "-1", "+4", "0x4", "4e0", "4.0", "4.5", " 4", "4 ", "4294967296", "99999999999999999999", "abc", "\u{664}", "nan" };
	for _, h in ipairs(bad) do
		it(("with h='%s' fails and leaves the session"):format(h), function ()
			local c, other = prepare();
			local d = ctx:authenticated(c.username);
			failed_with(d:try_resume(c.token, h), "bad-request");
			assert.falsy(d.closed);
			assert.truthy(ctx:field(c.jid, "s.hibernating and true"));
			assert.truthy(ctx:field(c.jid, "s.hibernating_watchdog and true"));
			still_resumable(c, d); -- on the same stream
			assert.equal(0, #t.only(other:sync(), "message"));
		end);
	end

	it("without h fails and leaves the session", function ()
		local c = prepare();
		local d = ctx:authenticated(c.username);
		failed_with(d:try_resume(c.token, nil), "bad-request");
		still_resumable(c, d);
	end);

	it("without previd fails and leaves the session", function ()
		local c = prepare();
		local d = ctx:authenticated(c.username);
		failed_with(d:try_resume(nil, 4), "bad-request");
		still_resumable(c, d);
	end);

	it("with neither fails", function ()
		local d = ctx:authenticated(ctx:user());
		d:send("<resume xmlns='urn:xmpp:sm:3'/>");
		failed_with(d:expect("failed"), "bad-request");
		d:bind("x");
	end);

	for _, h in ipairs { "10", "100", "4294967295" } do
		it("with h=" .. h .. ", too high, fails and leaves the session", function ()
			local c, other = prepare();
			local d = ctx:authenticated(c.username);
			local failed = d:try_resume(c.token, h);
			assert.equal("failed", failed.name);
			assert.truthy((t.condition(failed)));
			d:sync();
			assert.falsy(d.closed);
			still_resumable(c);
			assert.equal(0, #t.only(other:sync(), "message"));
		end);
	end

	for _, h in ipairs { "0", "3" } do
		it("with h=" .. h .. ", less than was acked, fails and leaves the session", function ()
			local c, other = prepare();
			local d = ctx:authenticated(c.username);
			local failed = d:try_resume(c.token, h);
			assert.equal("failed", failed.name);
			assert.truthy((t.condition(failed)));
			still_resumable(c, d);
			assert.equal(0, #t.only(other:sync(), "message"));
		end);
	end

	it("again and again doesn't keep the right try from working", function ()
		local c = prepare();
		local d = ctx:authenticated(c.username);
		for _ = 1, 20 do
			assert.equal("failed", d:try_resume(c.token, "1000").name);
			assert.equal("failed", d:try_resume(c.token, "abc").name);
			assert.equal("failed", d:try_resume(c.token, "1").name);
			assert.equal("failed", d:try_resume("x" .. c.token, "4").name);
		end
		still_resumable(c, d);
	end);

	it("while the old connection is open leaves that alone", function ()
		local c, other = ctx:resumable(), ctx:login();
		local d = ctx:authenticated(c.username);
		assert.equal("failed", d:try_resume(c.token, "55").name);
		assert.equal("failed", d:try_resume(c.token, "x").name);
		other:message(c.jid, "hello");
		c:expect({ body = "hello" });
		c:message(c.jid, "hi");
		c:expect({ body = "hi" });
		assert.equal("1", c:ask_h());
		c:ack(2);
		assert.falsy(c.closed);
	end);

	it("with a previd that never was fails", function ()
		local d = ctx:authenticated(ctx:user());
		for _, id in ipairs { "nonsense", "a/b", "@", "x@y/z", "\u{661}\u{1F600}", ("x"):rep(2000), "%s%n", "../../etc/passwd", "'" } do
			failed_with(d:try_resume(id, "0"), "item-not-found");
		end
		assert.falsy(d.closed);
		d:bind("x");
		assert.equal("enabled", d:enable().name);
	end);

	it("with an empty previd fails", function ()
		local c = prepare();
		local d = ctx:authenticated(c.username);
		d:send("<resume xmlns='urn:xmpp:sm:3' h='4' previd=''/>");
		local failed = d:expect("failed");
		assert.truthy((t.condition(failed)));
		still_resumable(c, d);
	end);

	it("with another account's previd fails and leaves the session", function ()
		local c = prepare();
		local d = ctx:authenticated(ctx:user());
		failed_with(d:try_resume(c.token, "4"), "item-not-found");
		failed_with(d:try_resume(c.username .. "@localhost/" .. c.token, "4"), "item-not-found");
		still_resumable(c);
	end);

	it("with the previd of an account of the same name on another host fails and leaves the session", function ()
		local c = prepare();
		ctx.srv:adduser(c.username, "secret", "other.localhost");
		local d = ctx:connect("connect", { host = "other.localhost" }):authenticate(c.username, "secret");
		failed_with(d:try_resume(c.token, "4"), "item-not-found");
		d:bind("x");
		assert.equal("enabled", d:enable { resume = "true" }.name);
		still_resumable(c);
	end);

	it("with a session of one's own without resumption fails", function ()
		local user = ctx:user();
		local c = ctx:login { user = user, enable = {}, resource = "phone" };
		local d = ctx:authenticated(user);
		failed_with(d:try_resume("phone", "0"), "item-not-found");
		c:sync();
		assert.falsy(c.closed);
	end);

	it("after binding fails and changes nothing", function ()
		local c = prepare();
		local d = ctx:login { user = c.username };
		failed_with(d:try_resume(c.token, "4"), "unexpected-request");
		d:sync();
		assert.equal("enabled", d:enable { resume = "true" }.name);
		failed_with(d:try_resume(c.token, "4"), "unexpected-request");
		d:sync();
		assert.falsy(d.closed);
		still_resumable(c);
	end);

	it("before authentication fails and changes nothing", function ()
		local c = prepare();
		local d = ctx:connect():open_stream();
		local failed = d:try_resume(c.token, "4");
		assert.equal("failed", failed.name);
		assert.truthy((t.condition(failed)));
		assert.falsy(d.closed);
		d:auth(c.username);
		still_resumable(c, d);
	end);

	it("lets the client bind on the same stream", function ()
		local user = ctx:user();
		local d = ctx:authenticated(user);
		failed_with(d:try_resume("gone", "7"), "item-not-found");
		d:bind("phone");
		d:enable { resume = "true" };
		d:presence();
		d:expect({ name = "presence", from = d.jid });
		d:message(d.jid, "fine");
		d:expect({ body = "fine" });
		assert.equal("2", d:ask_h());
		ctx:hibernate(d);
		local e = ctx:resume(d);
		assert.equal("2", e.resumed.attr.h);
	end);

	it("with the id of a session that was ended cleanly fails", function ()
		local c = ctx:resumable();
		c:close();
		local d = ctx:authenticated(c.username);
		local failed = d:try_resume(c.token, "0");
		failed_with(failed, "item-not-found");
	end);

	it("answers in the namespace of the request", function ()
		local d = ctx:authenticated(ctx:user());
		local failed = d:try_resume("x", "0", t.sm2);
		assert.equal(t.sm2, failed.ns);
		failed_with(failed, "item-not-found");
	end);
end);
