local t = require "support";
local it = require "busted".it;

-- What other modules put on a session, and what they do when it waits for its client, after a restart.

local function stop(ctx, how)
	if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
end

t.versions("fields of other modules", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("are there again after a restart (" .. how .. ")", function ()
			local ctx = start {
				config = "smacks_hibernation_time = 60\nsmacks_kept_fields = { 'test_by_admin' }\ntest_room = 'before'"; modules = { "test_fields" };
				users = { alice = "secret" };
			};
			ctx:allow("A field of sessions that [%w_ ]+ wants to be kept is none that can be: conn");
			local c = ctx:resumable { user = "alice", available = true };
			assert.equal("before", ctx:field(c.jid, "s.test_query_room"));
			ctx.srv:eval([[
				local s = session(a);
				s.test_named, s.test_by_admin, s.test_mine = { "kept", deep = { 1, true } }, "kept", "its own";
				s.push_registration_id, s.push_registration = "r1", { service = "push.example", matches = { { match = "all" } } };
				s.rooms_joined = { ["r@rooms"] = "me" };
				host_module("localhost", "smacks").module:fire_event("smacks-session-changed", { session = s });
			]], c.jid);
			c:sync();
			stop(ctx, how);
			ctx.srv:rewrite_config { config = "smacks_hibernation_time = 60\nsmacks_kept_fields = { 'test_by_admin' }\ntest_room = 'after'" };
			ctx.srv:launch();
			ctx.srv:wait_hibernating(c.jid);
			assert.equal("kept 1 true", ctx:field(c.jid,
				"('%s %d %s'):format(s.test_named[1], s.test_named.deep[1], tostring(s.test_named.deep[2]))"));
			assert.equal("kept", ctx:field(c.jid, "s.test_by_admin"));
			assert.equal("me", ctx:field(c.jid, "s.rooms_joined['r@rooms']"));
			assert.is_nil(ctx:field(c.jid, "s.test_query_room"));
			-- push: its registration, and the time that it has a session wait for
			assert.equal("r1", ctx:field(c.jid, "s.push_registration_id"));
			assert.equal("all", ctx:field(c.jid, "s.push_registration.matches[1].match"));
			assert.equal(72 * 3600, ctx.srv:wait_for(
				("local s = session(%q); return s.original_smacks_timeout and s.hibernating_watchdog.timeout"):format(c.jid)));
			assert.equal(60, ctx:field(c.jid, "s.original_smacks_timeout"));
			-- what it has not is its new connection's
			ctx.srv:eval("session(a).test_context = 'its own'", c.jid);
			local d = ctx:resume(c);
			d:sync();
			assert.equal("after", ctx:field(c.jid, "s.test_query_room"));
			assert.equal("its own", ctx:field(c.jid, "s.test_context"));
			assert.is_nil(ctx:field(c.jid, "s.test_bound"));
			assert.is_nil(ctx:field(c.jid, "s.test_function"));
			-- once
			ctx.srv:eval("session(a).test_query_room = nil", c.jid);
			ctx:hibernate(d);
			ctx:resume(d):sync();
			assert.is_nil(ctx:field(c.jid, "s.test_query_room"));
			assert.same({}, ctx:log_errors(0));
		end);

		it("are told what is in a queue if they cannot know it (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60"; modules = { "test_fields" }; users = { alice = "secret", bob = "secret" } };
			ctx:allow("A field of sessions that [%w_ ]+ wants to be kept is none that can be: conn");
			local away, live = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
			away:ack();
			live:ack();
			live:sync();
			away:sync();
			ctx:hibernate(away);
			for i = 1, 3 do
				live:message(away.jid, "m" .. i);
				live:message(live.jid, "m" .. i);
			end
			live:expect({ body = "m3" });
			live:sync();
			stop(ctx, how);
			for _ = 1, 2 do
				ctx.srv:launch();
				for _, c in ipairs { away, live } do
					ctx.srv:wait_for(("local s = session(%q); return s and s.test_queued"):format(c.jid));
				end
				assert.equal(0, ctx:field(away.jid, "s.test_queued"));
				if _ == 1 then
					assert.equal(3, ctx:field(live.jid, "s.test_queued"));
					stop(ctx, how);
				end
			end
			assert.equal(0, ctx:field(live.jid, "s.test_queued"));
			ctx:resume(away):expect({ body = "m3" });
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);

t.versions("what modules read when a resource is bound", function (start)
	it("is there for a session that comes back", function ()
		local ctx = start {
			config = "smacks_hibernation_time = 60\nfirewall_experimental_user_marks = true"; community = { "privacy_lists", "firewall" };
			users = { alice = "secret", bob = "secret" };
		};
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
		local ns = "jabber:iq:privacy";
		alice:iq("set", ("<query xmlns='%s'><list name='l'><item type='jid' value='bob@localhost' action='deny' order='1'/></list></query>"):format(ns));
		alice:iq("set", ("<query xmlns='%s'><active name='l'/></query>"):format(ns));
		ctx.srv:eval([[
			local marks = session(a).firewall_marks; -- since 2025 none before the first mark
			if marks then marks.friend = 1; end
			require "core.storagemanager".open("localhost", "firewall_marks"):set("alice", { friend = 1 });
		]], alice.jid);
		for _, c in ipairs { alice, bob } do c:sync(); c:ack(); c:sync(); end
		ctx.srv:kill();
		ctx.srv:launch();
		local a, b = ctx:resume(alice), ctx:resume(bob);
		b:message(a.jid, "refused");
		a:message(a.jid, "mine");
		b:sync();
		a:expect({ body = "mine" });
		assert.same({ "mine" }, t.bodies(a.seen));
		assert.equal(1, ctx:field(a.jid, "s.firewall_marks.friend"));
		a:close();
		assert.equal(1, ctx.srv:eval([[return (require "core.storagemanager".open("localhost", "firewall_marks"):get("alice") or {}).friend]]));
		assert.same({}, ctx:log_errors(0));
	end);
end);

t.versions("a push", function (start)
	it("is sent for what came while nobody was told, and not again after a restart", function ()
		local ctx = start {
			config = "smacks_hibernation_time = 60\npush_max_hibernation_timeout = 1000"; modules = { "cloud_notify" };
			users = { app = "secret", alice = "secret", bob = "secret" };
		};
		local app = ctx:resumable { user = "app" };
		local function pushes(c)
			c:sync();
			local n = 0;
			for _, iq in ipairs(t.only(c.seen, { name = "iq", type = "set", child = "pubsub" })) do
				n = n + 1;
				c:send(("<iq type='result' id='%s' to='%s'/>"):format(iq.attr.id, iq.attr.from));
			end
			c.seen, c.next = {}, 1;
			c:ask_h();
			c:ack();
			c:sync();
			return n;
		end
		local alice = ctx:resumable { user = "alice", available = true };
		alice:iq("set", ("<enable xmlns='urn:xmpp:push:0' jid='%s' node='n'/>"):format(app.jid));
		alice:ack();
		alice:sync();
		ctx:hibernate(alice);
		local bob = ctx:resumable { user = "bob" };
		bob:message(alice.jid, "one");
		app:expect({ name = "iq", type = "set" });
		assert.equal(1, pushes(app));
		bob:sync();
		for _ = 1, 2 do
			ctx.srv:kill();
			ctx.srv:launch();
			app = ctx:resume(app);
			ctx.srv:wait_for(("local s = session(%q); return s and s.original_smacks_timeout"):format(alice.jid));
			assert.equal(0, pushes(app));
			assert.equal(1000, ctx:field(alice.jid, "s.hibernating_watchdog.timeout"));
		end
		bob = ctx:resume(bob);
		bob:message(alice.jid, "two");
		app:expect({ name = "iq", type = "set" });
		assert.equal(60, ctx:field(alice.jid, "s.hibernating_watchdog.timeout"));
		ctx:resume(alice):expect({ body = "two" });
		assert.same({}, ctx:log_errors(0));
	end);
end);
