local t = require "support";

local function manage(ctx, what)
	return ctx.srv:eval(([[
		local ok, err = require "core.modulemanager".%s("localhost", "smacks");
		if not ok then error(tostring(err)); end
		return true;
	]]):format(what));
end

t.each("reloading", { config = "smacks_hibernation_time = 3" }, function (ctx, it)
	it("keeps live sessions going", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 3 do other:message(c.jid, "a" .. i); end
		c:ping();
		c:sync();
		local h = c:ask_h();
		local token = ctx:field(c.jid, "s.resumption_token");
		manage(ctx, "reload");
		assert.equal(h, c:ask_h());
		assert.equal(token, ctx:field(c.jid, "s.resumption_token"));
		for i = 4, 6 do other:message(c.jid, "a" .. i); end
		c:expect({ body = "a6" });
		c:message(c.jid, "own");
		c:expect({ body = "own" });
		assert.equal(tostring(h + 1), c:ask_h());
		c:ack();
		c:sync();
		assert.falsy(c.closed);
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		ctx:hibernate(c);
		other:message(c.jid, "late");
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "late" });
		assert.same({ "late" }, t.bodies(d.seen));
		assert.equal(tostring(h + 1), d.resumed.attr.h);
	end);

	it("counts every stanza once afterwards", function ()
		local c = ctx:resumable();
		for _ = 1, 5 do manage(ctx, "reload"); end
		c:ping();
		c:expect("iq");
		assert.equal("1", c:ask_h());
		assert.equal(1, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		local d = ctx:resumable();
		d:ping();
		d:expect("iq");
		assert.equal("1", d:ask_h());
		assert.equal(1, ctx:field(d.jid, "#s.outgoing_stanza_queue"));
	end);

	it("keeps hibernating sessions, which can be resumed", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		manage(ctx, "reload");
		other:message(c.jid, "m2");
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m2" });
		assert.same({ "m1", "m2" }, t.bodies(d.seen));
		d:message(c.jid, "on");
		d:expect({ body = "on" });
		assert.equal("2", d:ask_h());
	end);

	it("keeps the watchdogs of hibernating sessions", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		manage(ctx, "reload");
		ctx.srv:wait_gone(c.jid, 8);
		assert.equal("1", ctx:authenticated(c.username):try_resume(c.token, c.h).attr.h);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m1" });
	end);

	it("keeps late acks being noticed", function ()
		local c, other = ctx:resumable(), ctx:login();
		other:message(c.jid, "m1");
		c:expect("r");
		manage(ctx, "reload");
		c:ack(1);
		other:message(c.jid, "m2");
		c:expect("r");
	end);

	it("leaves sessions alone that don't use it", function ()
		local c = ctx:login { available = true };
		manage(ctx, "reload");
		c:message(c.jid, "m1");
		c:expect({ body = "m1" });
		assert.equal("enabled", c:enable { resume = "true" }.name);
		assert.equal("0", c:ask_h());
	end);

	it("with other settings is as if it had been started with them", function ()
		local c = ctx:login();
		assert.equal("3", c:enable { resume = "true" }.attr.max);
		ctx.srv:eval([[
			require "core.configmanager".set("localhost", "smacks_hibernation_time", 77);
		]]);
		manage(ctx, "reload");
		assert.equal("77", ctx:login():enable { resume = "true" }.attr.max);
		ctx.srv:eval([[
			require "core.configmanager".set("localhost", "smacks_hibernation_time", nil);
		]]);
		manage(ctx, "reload");
	end);
end);

t.each("unloading", { config = "smacks_hibernation_time = 2" }, function (ctx, it)
	it("leaves the server and its sessions in order, and loading brings it back", function ()
		local live, hibernating, other = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(hibernating);
		other:message(hibernating.jid, "kept?", { id = "kept" });
		other:sync();
		manage(ctx, "unload");
		-- new streams are without it
		local c = ctx:authenticated(ctx:user());
		assert.is_nil(c.features:child("sm", t.sm3));
		c:bind("x");
		c:message(c.jid, "works");
		c:expect({ body = "works" });
		-- those that were there still are
		other:message(live.jid, "m1");
		live:expect({ body = "m1" });
		live:message(other.jid, "m2");
		other:expect({ body = "m2" });
		-- the hibernating one's message isn't lost
		ctx.srv:wait_gone(hibernating.jid, 8);
		local d = ctx:login { user = hibernating.username };
		d:presence();
		local found = d:try({ body = "kept?" }, 1) or other:try({ name = "message", type = "error", id = "kept" }, 1);
		assert.truthy(found, "the message is lost");
		live:cut();
		ctx.srv:wait_gone(live.jid, 8);
		manage(ctx, "load");
		local e = ctx:resumable();
		ctx:hibernate(e);
		ctx:resume(e);
	end);
end);
