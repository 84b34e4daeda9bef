local t = require "support";

t.each("TLS", { config = "smacks_hibernation_time = 60", certificates = true }, function (ctx, it)
	local function secure(user)
		local c = ctx:connect():open_stream();
		c:starttls();
		c:auth(user);
		return c;
	end

	it("connections are managed and resumed", function ()
		local c, other = secure(ctx:user()):bind("phone"), ctx:login();
		c:enable { resume = "true" };
		c:presence();
		c:ping();
		assert.equal("2", c:ask_h());
		assert.is_true(ctx:field(c.jid, "s.secure"));
		ctx:hibernate(c);
		for i = 1, 20 do other:message(c.jid, "m" .. i); end
		other:sync();
		local d = secure(c.username):resume(c);
		d:expect({ body = "m20" });
		assert.same(t.numbered("m", 20), t.bodies(d.seen));
		assert.is_true(ctx:field(c.jid, "s.secure"));
		d:message(c.jid, "on");
		d:expect({ body = "on" });
		assert.equal("3", d:ask_h());
		assert.equal("a", d:close()[1].name);
		ctx.srv:wait_gone(c.jid);
	end);

	it("sessions know when they're no longer secure", function ()
		local c = secure(ctx:user()):bind("phone");
		c:enable { resume = "true" };
		ctx:hibernate(c);
		local d = ctx:resume(c);
		assert.falsy(ctx:field(c.jid, "s.secure"));
		d:message(c.jid, "on");
		d:expect({ body = "on" });
		ctx:hibernate(d);
		local e = secure(c.username):resume(d);
		e:message(c.jid, "again");
		e:expect({ body = "again" });
		assert.is_true(ctx:field(c.jid, "s.secure"));
	end);

	it("a connection that is replaced gets its conflict", function ()
		local c = secure(ctx:user()):bind("phone");
		c:enable { resume = "true" };
		local d = secure(c.username);
		assert.equal("resumed", d:try_resume(c.token, 0).name);
		c:expect_stream_error("conflict");
		c:expect_closed();
		d:message(c.jid, "on");
		d:expect({ body = "on" });
	end);
end);
