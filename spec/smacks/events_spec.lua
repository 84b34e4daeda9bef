local t = require "support";

t.each("events", { events = true, config = "smacks_hibernation_time = 2; smacks_max_ack_delay = 60" }, function (ctx, it)
	it("smacks-hibernation-start comes with the session and its queue", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		other:message(c.jid, "m1");
		other:message(c.jid, "m2");
		c:expect({ body = "m2" });
		ctx:hibernate(c);
		local events = ctx:events("smacks-hibernation-start", c.jid);
		assert.equal(1, #events);
		local e = events[1];
		assert.equal("localhost", e.host);
		assert.is_true(e.hibernating);
		assert.is_true(e.watchdog, "the watchdog wasn't there yet");
		assert.equal(2, #e.queue);
		assert.truthy(e.queue[1]:match("m1"));
		assert.truthy(e.queue[2]:match("m2"));
	end);

	it("smacks-hibernation-stanza-queued comes for each stanza meanwhile", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "before");
		c:expect({ body = "before" });
		assert.equal(0, #ctx:events("smacks-hibernation-stanza-queued", c.jid));
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:ping(c.jid);
		other:sync();
		local events = ctx:events("smacks-hibernation-stanza-queued", c.jid);
		assert.equal(2, #events);
		assert.truthy(events[1].stanza:match("m1"));
		assert.truthy(events[2].stanza:match("ping"));
		assert.equal(2, #events[1].queue);
		assert.equal(3, #events[2].queue);
		assert.truthy(events[2].queue[1]:match("before"));
	end);

	it("smacks-hibernation-end comes with both sessions", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m1" });
		local found;
		for _, e in ipairs(ctx:events("smacks-hibernation-end")) do
			if e.resumed == c.jid then found = e; end
		end
		assert.truthy(found);
		assert.truthy(found.origin); -- the connection's former session
		assert.equal(1, #found.queue);
		assert.truthy(found.queue[1]:match("m1"));
	end);

	it("give the same table for the same stanza, which modules mark", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		ctx:hibernate(c);
		local first = ctx:events("smacks-hibernation-start", c.jid)[1].first;
		assert.truthy(first);
		other:message(c.jid, "m2");
		other:sync();
		local queued = ctx:events("smacks-hibernation-stanza-queued", c.jid)[1];
		assert.equal(first, queued.first);
		local same = ctx.srv:eval(([[
			local q = session(%q).outgoing_stanza_queue;
			local one, two = q:table(), q:table();
			one[1].test_mark = "here";
			return { marked = two[1].test_mark, same = rawequal(one[1], two[1]) and rawequal(one[2], two[2]),
				first = ("%%p"):format(one[1]), second = ("%%p"):format(one[2]) };
		]]):format(c.jid));
		assert.is_true(same.same);
		assert.equal("here", same.marked);
		assert.equal(first, same.first);
		assert.equal(queued.identity, same.second);
		-- and after resuming and going again
		local d = ctx:resume(c, 0);
		d:expect({ body = "m2" });
		ctx:hibernate(d);
		assert.equal("here", ctx:field(c.jid, "s.outgoing_stanza_queue:table()[1].test_mark"));
		local starts = ctx:events("smacks-hibernation-start", c.jid);
		assert.equal(first, starts[#starts].first);
	end);

	it("don't share the queue's stanzas with other recipients", function ()
		local user = ctx:user();
		local c1 = ctx:resumable { user = user, available = true };
		local c2 = ctx:resumable { user = user, available = true };
		local other = ctx:login();
		ctx:hibernate(c1);
		ctx:hibernate(c2);
		other:message(c1.bare, "both");
		other:sync();
		local same = ctx.srv:eval(([[
			local function last(jid) local q = session(jid).outgoing_stanza_queue:table(); return q[#q]; end
			return rawequal(last(%q), last(%q));
		]]):format(c1.jid, c2.jid));
		assert.is_false(same);
	end);

	it("delivery/success comes for each stanza that was acked", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 4 do other:message(c.jid, "m" .. i, { id = "id-m" .. i }); end
		c:expect({ body = "m4" });
		c:ack(3);
		c:sync();
		local ids = {};
		for _, e in ipairs(ctx:events("delivery/success", c.jid)) do ids[#ids + 1] = e.stanza_id; end
		assert.same({ "id-m1", "id-m2", "id-m3" }, ids);
		ctx:hibernate(c);
		ctx:resume(c, 4):sync();
		local events = ctx:events("delivery/success", c.jid);
		assert.equal(4, #events);
		assert.equal("id-m4", events[4].stanza_id);
	end);

	it("delivery/failure comes for each that never was", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i, { id = "id-m" .. i }); end
		c:expect({ body = "m3" });
		c:ack(c.h - 2);
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		local ids = {};
		for _, e in ipairs(ctx:events("delivery/failure", c.jid)) do ids[#ids + 1] = e.stanza_id; end
		assert.same({ "id-m2", "id-m3" }, ids);
	end);

	it("delivery/failure that a module handles is the end of it", function ()
		ctx.srv:eval([[
			kept.hook = function (event)
				local body = event.stanza:get_child_text("body");
				if body == "mine" then return true; end
			end
			prosody.hosts.localhost.events.add_handler("delivery/failure", kept.hook, 500);
		]]);
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "mine");
		other:message(c.jid, "yours");
		c:expect({ body = "yours" });
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "yours" });
		assert.same({ "yours" }, t.bodies(d.seen));
		assert.equal(0, #t.only(other:sync(), "message"));
		ctx.srv:eval([[prosody.hosts.localhost.events.remove_handler("delivery/failure", kept.hook)]]);
	end);

	it("aren't fired for sessions without stream management", function ()
		local c, other = ctx:login { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:cut();
		ctx.srv:wait_gone(c.jid);
		for _, e in ipairs(ctx:events()) do
			assert.is_not.equal(c.jid, e.origin);
			assert.is_not.equal(c.jid, e.session);
		end
	end);
end);

-- Modules that notify wait a second for more. What they have had no time for they are told again after a restart, and nothing else.
t.versions("what is queued in the last second", function (start)
	local it, sleep = require "busted".it, require "socket".sleep;
	for _, how in ipairs { "kill", "terminate" } do
		it("is told again after a restart (" .. how .. ")", function ()
			local ctx = start { events = true; config = "smacks_hibernation_time = 60"; users = { alice = "secret", bob = "secret" } };
			local function restart()
				ctx.srv[how](ctx.srv);
				ctx.srv:launch();
			end
			local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:login { user = "bob" };
			bob:message(alice.jid, "m1");
			alice:expect({ body = "m1" });
			ctx:hibernate(alice);
			local function told()
				ctx.srv:wait_for(("local s = session(%q); return s and s.hibernating and #events > 0"):format(alice.jid));
				assert.same({}, ctx:events("smacks-hibernation-start", alice.jid)[1].queue);
				local bodies = {};
				for _, e in ipairs(ctx:events("smacks-hibernation-stanza-queued", alice.jid)) do
					bodies[#bodies+1] = e.stanza:match("<body>(.-)</body>");
				end
				return bodies;
			end
			bob:message(alice.jid, "m2");
			bob:sync();
			sleep(1.4);
			bob:message(alice.jid, "m3");
			bob:message(alice.jid, "m4");
			bob:sync();
			restart();
			assert.same({ "m3", "m4" }, told());
			sleep(1.4);
			restart();
			assert.same({}, told());
			restart();
			assert.same({}, told());
			local back = ctx:resume(alice);
			back:expect({ body = "m4" });
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);

t.each("session fields", { config = "smacks_hibernation_time = 30" }, function (ctx, it)
	it("are those that other modules know", function ()
		local c, other = ctx:login(), ctx:login();
		assert.falsy(ctx:field(c.jid, "s.smacks"));
		c:enable { resume = "true" };
		assert.equal(t.sm3, ctx:field(c.jid, "s.smacks"));
		assert.equal(c.token, ctx:field(c.jid, "s.resumption_token"));
		assert.equal(0, ctx:field(c.jid, "s.handled_stanza_count"));
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		assert.falsy(ctx:field(c.jid, "s.awaiting_ack"));
		assert.falsy(ctx:field(c.jid, "s.hibernating"));
		other:message(c.jid, "m1");
		other:message(c.jid, "m2");
		other:sync();
		c:expect("r");
		assert.is_true(ctx:field(c.jid, "s.awaiting_ack and true"));
		assert.equal(2, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		assert.equal(2, ctx:field(c.jid, "#s.outgoing_stanza_queue:table()"));
		assert.truthy(ctx:field(c.jid, "tostring(s.outgoing_stanza_queue:table()[2])"):match("m2"));
		assert.is_true(ctx:field(c.jid, "require 'util.stanza'.is_stanza(s.outgoing_stanza_queue:table()[1])"));
		c:ack(2);
		c:sync();
		assert.falsy(ctx:field(c.jid, "s.awaiting_ack"));
		c:ping();
		c:ping();
		c:sync();
		assert.equal(2, ctx:field(c.jid, "s.handled_stanza_count"));
	end);

	it("of a hibernating session have a watchdog that can be replaced", function ()
		local c = ctx:resumable();
		local before = os.time();
		ctx:hibernate(c);
		assert.truthy(ctx:field(c.jid, "s.hibernating") >= before - 1);
		assert.equal("function", ctx:field(c.jid, "type(s.hibernating_watchdog.callback)"));
		assert.equal(30, ctx:field(c.jid, "s.hibernating_watchdog.timeout"));
		assert.equal("function", ctx:field(c.jid, "type(s.hibernating_watchdog.cancel)"));
		-- as mod_cloud_notify does it
		ctx.srv:eval(([[
			local s = session(%q);
			local callback = s.hibernating_watchdog.callback;
			s.hibernating_watchdog:cancel();
			s.hibernating_watchdog = require "util.watchdog".new(1, function () return callback(); end);
		]]):format(c.jid));
		ctx.srv:wait_gone(c.jid, 5);
		assert.equal("0", ctx:authenticated(c.username):try_resume(c.token, 0).attr.h);
	end);

	it("let a module prolong the hibernation", function ()
		local c = ctx:login();
		c:enable { resume = "true", max = "1" };
		ctx:hibernate(c);
		ctx.srv:eval(([[
			local s = session(%q);
			local callback = s.hibernating_watchdog.callback;
			s.hibernating_watchdog:cancel();
			s.hibernating_watchdog = require "util.watchdog".new(60, function () return callback(); end);
		]]):format(c.jid));
		require "socket".sleep(1.6);
		ctx:resume(c):sync();
	end);
end);
