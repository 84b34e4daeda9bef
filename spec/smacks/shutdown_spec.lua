local t = require "support";
local it = require "busted".it;

-- What becomes of sessions that are not kept; restart_spec.lua has those that are.
t.versions("shutting down without a journal", function (start_server)
	local function start(opts)
		opts.config = (opts.config or "") .. "\nsmacks_durability = 'none'";
		return start_server(opts);
	end

	it("and starting again: clients are told what was handled", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local live, hib = ctx:resumable { available = true }, ctx:resumable { available = true };
		for _ = 1, 3 do live:ping(); end
		live:sync();
		for _ = 1, 5 do hib:ping(); end
		hib:sync();
		ctx:hibernate(hib);
		assert.is_true(ctx.srv:terminate(), "the server didn't stop by itself");
		live:expect_closed();
		ctx.srv:launch();
		for _, x in ipairs { { live, "4" }, { hib, "6" } } do
			local c, h = x[1], x[2];
			local d = ctx:authenticated(c.username);
			local failed = d:try_resume(c.token, c.h);
			assert.equal("failed", failed.name);
			assert.equal("item-not-found", (t.condition(failed)));
			assert.equal(h, failed.attr.h);
			d:bind("again");
			assert.equal("enabled", d:enable { resume = "true" }.name);
		end
		assert.same({}, ctx:log_errors(0));
	end);

	it("keeps unacked messages, of live and hibernating sessions", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local live, hib, other = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:login();
		other:message(live.jid, "to live");
		live:expect({ body = "to live" });
		ctx:hibernate(hib);
		other:message(hib.jid, "to hib 1");
		other:message(hib.bare, "to hib 2");
		other:sync();
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		local d = ctx:login { user = live.username };
		d:presence();
		d:expect({ body = "to live" });
		assert.same({ "to live" }, t.bodies(d.seen));
		local e = ctx:login { user = hib.username };
		e:presence();
		e:expect({ body = "to hib 2" });
		assert.same({ "to hib 1", "to hib 2" }, t.bodies(e.seen));
		for _, m in ipairs(t.only(e.seen, "message")) do assert.truthy(t.delay(m)); end
	end);

	it("keeps no acked messages", function ()
		local ctx = start {};
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:ack();
		c:sync();
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		local d = ctx:login { user = c.username, available = true };
		assert.same({}, t.bodies(d:sync()));
	end);

	it("takes long for nobody, with many sessions", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local other = ctx:login();
		local all = {};
		for i = 1, 40 do all[i] = ctx:resumable { available = true }; end
		for i = 1, 20 do all[i]:cut(); end
		for i = 1, 20 do ctx.srv:wait_hibernating(all[i].jid); end
		for i = 1, 40 do other:message(all[i].jid, "for " .. i); end
		other:sync();
		assert.is_true(ctx.srv:terminate(15), "the server didn't stop by itself");
		assert.same({}, ctx:log_errors(0));
		ctx.srv:launch();
		for i = 1, 40, 7 do
			local d = ctx:login { user = all[i].username };
			d:presence();
			d:expect({ body = "for " .. i });
		end
	end);

	it("by force loses only what can't be kept", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local c = ctx:resumable { available = true };
		ctx:hibernate(c);
		ctx.srv:kill();
		ctx.srv:launch();
		local d = ctx:authenticated(c.username);
		local failed = d:try_resume(c.token, c.h);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.is_nil(failed.attr.h);
		d:bind("again");
		assert.equal("enabled", d:enable { resume = "true" }.name);
	end);

	it("with the store of old sessions damaged is no reason not to work", function ()
		local ctx = start { config = "smacks_hibernation_time = 1" };
		local user = ctx:user();
		require "lfs".mkdir(ctx.srv.dir .. "/data/localhost");
		require "lfs".mkdir(ctx.srv.dir .. "/data/localhost/smacks_h");
		t.server.write_file(ctx.srv.dir .. "/data/localhost/smacks_h/" .. user .. ".dat", "return { broken");
		local c = ctx:login { user = user };
		assert.equal("enabled", c:enable { resume = "true" }.name);
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		local d = ctx:authenticated(user);
		assert.equal("failed", d:try_resume("whatever", "0").name);
		d:bind("x");
		assert.equal("enabled", d:enable { resume = "true" }.name);
	end);
end);
