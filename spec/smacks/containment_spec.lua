local t = require "support";
local it = require "busted".it;

-- One session's trouble stays its own: other modules' errors, and what a client makes grow.

local config = "smacks_hibernation_time = 60\nsmacks_max_ack_delay = 1";

local function acked(c)
	c:send("<r xmlns='" .. t.sm3 .. "'/>");
	return tonumber(c:expect("a").attr.h);
end

local function breaking(events, more)
	return config .. "\ntest_break_users = { 'alice' }\ntest_break_events = { " .. events .. " }\n" .. (more or "");
end

local users = { alice = "secret", bob = "secret", carol = "secret" };

-- An error of the module that breaks on purpose, and of nobody else.
local function only_breaking(ctx)
	ctx:allow("test_breaking fails to handle .* for alice@localhost/");
	ctx:allow("^stack traceback:");
end

t.versions("another module's error", function (start)
	it("while a session is described is that session's: others are acknowledged, and the server stops", function ()
		local ctx = start { config = breaking "'smacks-save-session'", modules = { "test_breaking" }, users = users };
		only_breaking(ctx);
		local alice = ctx:resumable { user = "alice", available = true };
		local bob, carol = ctx:resumable { user = "bob", available = true }, ctx:resumable { user = "carol", available = true };
		alice:message(bob.jid, "one");
		bob:expect({ body = "one" });
		assert.equal(2, acked(alice));
		bob:message(carol.jid, "two");
		assert.equal(2, acked(bob));
		carol:expect({ body = "two" });
		ctx:hibernate(carol);
		bob:message(carol.jid, "three");
		assert.equal(3, acked(bob));
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		local d = ctx:resume(carol);
		d:expect({ body = "three" });
		-- what that module would have had kept is missing, the session is not
		ctx:resume(alice):sync();
		assert.same({}, ctx:log_errors(0));
		assert.truthy(ctx.srv:log():find("mod_test_breaking fails to handle smacks-save-session, for alice@localhost/", 1, true));
	end);

	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("while a session is restored leaves it in the journal for the next start (" .. how .. ")", function ()
			local ctx = start { config = config, modules = { "test_breaking" }, users = users };
			only_breaking(ctx);
			ctx:allow("stays in the journal, with what is queued for it, until the next start: another module failed with it");
			local alice = ctx:resumable { user = "alice", available = true };
			local bob, carol = ctx:resumable { user = "bob", available = true }, ctx:resumable { user = "carol", available = true };
			ctx:hibernate(alice);
			ctx:hibernate(bob);
			carol:message(alice.jid, "for alice");
			carol:message(bob.jid, "for bob");
			assert.equal(3, acked(carol));
			local stop = how == "SIGTERM" and ctx.srv.terminate or ctx.srv.kill;
			stop(ctx.srv);
			ctx.srv:rewrite_config { config = breaking "'smacks-restore-session'" };
			ctx.srv:launch();
			ctx:resume(bob):expect({ body = "for bob" });
			assert.equal("failed", ctx:authenticated("alice"):try_resume(alice.token, alice.h).name);
			assert.is_nil(ctx:field(alice.jid, "true"), "nothing is left of the attempt");
			stop(ctx.srv);
			ctx.srv:rewrite_config { config = config };
			ctx.srv:launch();
			ctx:resume(alice):expect({ body = "for alice" });
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("in an event of ours keeps nobody from anything", function ()
		local ctx = start {
			config = breaking [['smacks-hibernation-start', 'smacks-hibernation-stanza-queued', 'smacks-hibernation-end', 'smacks-ack-delayed',
				'delivery/success', 'delivery/failure']];
			modules = { "test_breaking", "offline" }; users = users;
		};
		only_breaking(ctx);
		local alice = ctx:resumable { user = "alice", available = true };
		local bob = ctx:resumable { user = "bob", available = true };
		bob:message(alice.jid, "one");
		alice:expect({ body = "one" });
		alice:ack();
		alice:sync();
		ctx:hibernate(alice);
		bob:message(alice.jid, "two");
		bob:message(bob.jid, "to myself");
		bob:expect({ body = "to myself" });
		assert.equal(4, acked(bob));
		local d = ctx:resume(alice);
		d:expect({ body = "two" });
		bob:message(d.jid, "three");
		d:expect({ body = "three" });
		-- not acknowledged: a handler of delivery/failure fails, the message does not get lost
		ctx:hibernate(d);
		ctx.srv:eval("session(a):close()", d.jid);
		ctx.srv:wait_gone(d.jid);
		local again = ctx:login { user = "alice" };
		again:presence();
		again:expect({ body = "three" });
		assert.same({}, ctx:log_errors(0));
	end);
end);

t.versions("what a client makes grow", function (start)
	it("is bounded: directed presence to too many addresses is refused, others are acknowledged", function ()
		local ctx = start { config = config, users = users };
		local alice = ctx:resumable { user = "alice", available = true };
		local bob = ctx:resumable { user = "bob", available = true };
		local refused = 0;
		local long = ("r"):rep(900);
		for i = 1, 2000 do
			alice:send(("<presence id='p%d' to='nobody@localhost/%s%d'/>"):format(i, long, i));
			if i % 200 == 0 then
				alice:sync();
				alice:ack();
			end
		end
		for _, p in ipairs(t.only(alice.seen, { name = "presence", type = "error" })) do
			local condition = t.condition(p:child("error"));
			if condition == "resource-constraint" then refused = refused + 1; end
		end
		assert.truthy(refused > 1000 and refused < 2000, refused .. " refused");
		assert.equal(2001, acked(alice));
		bob:message(bob.jid, "one");
		bob:expect({ body = "one" });
		assert.equal(2, acked(bob));
		-- making room is possible
		for i = 1, 10 do alice:send(("<presence type='unavailable' to='nobody@localhost/%s%d'/>"):format(long, i)); end
		alice:send("<presence id='again' to='nobody@localhost/again'/>");
		alice:sync();
		alice:drain(0.2);
		for _, p in ipairs(t.only(alice.seen, { name = "presence", type = "error" })) do
			assert.not_equal("again", p.attr.id);
		end
		ctx.srv:kill();
		ctx.srv:launch();
		ctx:resume(bob):sync();
		ctx:resume(alice):sync();
		assert.same({}, ctx:log_errors(0));
	end);

	for _, bytes in ipairs { 9 * 1024 * 1024, 20 * 1024 * 1024 } do
		it(("ends that session if it cannot be kept (%d bytes), and nobody else's"):format(bytes), function ()
			local ctx = start {
				config = config .. "\ntest_break_users = { 'alice' }\ntest_break_state = " .. bytes;
				modules = { "test_breaking" }; users = users;
			};
			ctx:allow("alice@localhost/%S+ must end, it cannot be kept in the journal: %d+ bytes are too many");
			local bob = ctx:resumable { user = "bob", available = true };
			local alice = ctx:login { user = "alice", enable = true };
			alice:expect_stream_error("policy-violation");
			bob:message("carol@localhost", "one");
			assert.equal(2, acked(bob));
			ctx.srv:wait_gone(alice.jid);
			bob:message(bob.jid, "two");
			bob:expect({ body = "two" });
			assert.equal(3, acked(bob));
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);
