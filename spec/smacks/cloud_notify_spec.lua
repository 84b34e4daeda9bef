local t = require "support";

t.each("push notifications", {
	config = "smacks_hibernation_time = 1; smacks_max_ack_delay = 1; push_max_hibernation_timeout = 8", modules = { "cloud_notify" },
}, function (ctx, it)
	-- A client with push, and the app server that's notified (an ordinary client, here).
	local function with_push()
		local app = ctx:login { resource = "app" };
		local c = ctx:resumable { available = true };
		c:iq("set", ("<enable xmlns='urn:xmpp:push:0' jid='%s' node='n'/>"):format(app.jid));
		c:ack();
		c:sync();
		return c, app;
	end

	local function push(app, seconds)
		local iq = app:try(function (e) return e.name == "iq" and e.attr.type == "set" and e:child("pubsub"); end, seconds or 4);
		if iq then app:send(("<iq type='result' id='%s' to='%s'/>"):format(iq.attr.id, iq.attr.from)); end
		return iq;
	end

	it("are sent for messages to a hibernating session", function ()
		local c, app = with_push();
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "hello");
		assert.truthy(push(app), "no push");
		ctx:resume(c):expect({ body = "hello" });
	end);

	it("are sent for unacked messages when hibernation starts", function ()
		local c, app = with_push();
		local other = ctx:login();
		other:message(c.jid, "hello");
		c:expect({ body = "hello" });
		ctx:hibernate(c);
		assert.truthy(push(app, 0.8), "no push");
	end);

	it("are sent when an ack is late", function ()
		local c, app = with_push();
		local other = ctx:login();
		other:message(c.jid, "hello");
		assert.truthy(push(app, 5), "no push");
		assert.falsy(ctx:field(c.jid, "s.hibernating"));
	end);

	it("aren't sent twice for a message", function ()
		local c, app = with_push();
		local other = ctx:login();
		local h = c.h;
		other:message(c.jid, "hello");
		c:expect({ body = "hello" });
		ctx:hibernate(c);
		assert.truthy(push(app), "no push");
		-- resumed without getting it, and gone again
		local d = ctx:authenticated(c.username);
		assert.equal("resumed", d:try_resume(c.token, h).name);
		d.jid = c.jid;
		ctx:hibernate(d);
		assert.is_nil(push(app, 1.5));
	end);

	it("prolong the hibernation until the first of them", function ()
		local c, app = with_push();
		local other = ctx:login();
		ctx:hibernate(c);
		assert.equal(8, ctx:field(c.jid, "s.hibernating_watchdog.timeout"));
		app:drain(1.8); -- longer than smacks_hibernation_time
		assert.truthy(ctx:field(c.jid, "s.hibernating and true"));
		other:message(c.jid, "hello");
		assert.truthy(push(app), "no push");
		-- from there on the usual time counts
		ctx.srv:wait_gone(c.jid, 5);
		local failed = ctx:authenticated(c.username):try_resume(c.token, c.h);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.truthy(failed.attr.h);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "hello" });
	end);

	it("whose prolonged hibernation ends end the session", function ()
		local c = with_push();
		ctx:hibernate(c);
		ctx.srv:eval(([[
			local s = session(%q);
			-- as if the longer time had passed
			local dog = s.hibernating_watchdog;
			dog.callback(dog);
			return true;
		]]):format(c.jid));
		ctx.srv:wait_gone(c.jid);
	end);

	it("prolonged, resumed: no watchdog bites later", function ()
		local c, app = with_push();
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "hello");
		push(app);
		local d = ctx:resume(c);
		d:ack();
		d:drain(2);
		assert.falsy(d.closed);
		d:ask_h();
		assert.falsy(ctx:field(c.jid, "s.hibernating"));
	end);
end);
