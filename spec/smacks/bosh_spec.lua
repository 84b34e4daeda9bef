local t = require "support";
local socket = require "socket";

t.each("BOSH", {
	config = "smacks_hibernation_time = 60; bosh_max_inactivity = 2", modules = { "bosh", "websocket" }, with_http = true,
}, function (ctx, it)
	it("enables acks", function ()
		local c = ctx:login { how = "bosh" };
		local enabled = c:enable {};
		assert.equal("enabled", enabled.name);
		c:message(c.jid, "m1");
		c:expect({ body = "m1" });
		assert.equal("1", c:ask_h());
		c:ack(1);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("may ask for resumption, and the session works on", function ()
		local c, other = ctx:login { how = "bosh", enable = { resume = "true" }, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:ack();
		assert.equal("1", c:ask_h());
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("doesn't resume other sessions, which stay as they are", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		local d = ctx:authenticated(c.username, "bosh");
		local failed = d:try_resume(c.token, c.h);
		assert.equal("failed", failed.name);
		assert.equal("feature-not-implemented", (t.condition(failed)));
		-- it may bind
		d:bind("bosh");
		d:presence();
		d:message(d.jid, "mine");
		d:expect({ body = "mine" });
		-- and the session may be resumed over TCP
		local e = ctx:resume(c);
		e:expect({ body = "m1" });
		e:message(c.jid, "on");
		e:expect({ body = "on" });
	end);

	it("doesn't break a live session by trying that", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		local d = ctx:authenticated(c.username, "bosh");
		assert.equal("failed", d:try_resume(c.token, c.h).name);
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		assert.falsy(c.closed);
	end);

	it("is told conflict when its session is resumed over TCP or WebSocket, which goes on", function ()
		for _, how in ipairs { "connect", "websocket" } do
			local c = ctx:login { how = "bosh", enable = { resume = "true" }, available = true };
			local other = ctx:login();
			if not c.token then return; end
			c:ack();
			c:sync();
			c:_request(); -- the server holds it
			other:sync();
			local d = ctx:resume(c, nil, how);
			local err = c:expect("error");
			assert.truthy(err:child("conflict"), tostring(err));
			c:try("nothing", 0.2);
			assert.truthy(c.closed);
			-- after the time that BOSH has for its clients, too
			socket.sleep(2.5);
			other:message(c.jid, "m1");
			d:expect({ body = "m1" });
			ctx:hibernate(d);
			other:message(c.jid, "m2");
			other:sync();
			local e = ctx:resume(d);
			e:expect({ body = "m2" });
		end
	end);

	it("cannot hinder a resumption over TCP, if it fails when it is closed", function ()
		ctx:allow("closing the connection that was replaced");
		ctx:allow("stack traceback");
		local c = ctx:login { how = "bosh", enable = { resume = "true" }, available = true };
		if not c.token then return; end
		c:ack();
		c:sync();
		ctx:field(c.jid, "(function () s.close = function () error('broken'); end end)()");
		local d = ctx:resume(c);
		d:message(d.jid, "on");
		d:expect({ body = "on" });
	end);

	it("terminate ends the session", function ()
		local a, b = ctx:contacts();
		local friend = ctx:login { user = b, available = true };
		local c = ctx:login { user = a, how = "bosh", enable = { resume = "true" }, available = true };
		friend:expect({ name = "presence", from = c.jid });
		c:close();
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" });
		ctx.srv:wait_gone(c.jid);
		if c.token then
			assert.equal("item-not-found", (t.condition(ctx:authenticated(a):try_resume(c.token, c.h))));
		end
	end);

	it("a client that vanishes loses no message", function ()
		local c, other = ctx:login { how = "bosh", enable = { resume = "true" }, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:cut();
		other:message(c.jid, "m2");
		other:sync();
		ctx.srv:wait_for(("local s = session(%q); return not s or s.hibernating and true"):format(c.jid), 12);
		if c.token and ctx:field(c.jid, "true") then -- it hibernates: resume it over TCP
			local d = ctx:resume(c, c.h - 1);
			d:expect({ body = "m2" });
		else
			local d = ctx:login { user = c.username };
			d:presence();
			d:expect({ body = "m2" });
		end
	end);
end);
