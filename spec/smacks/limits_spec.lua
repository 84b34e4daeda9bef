local t = require "support";

t.each("the limit of hibernating sessions", {
	config = "smacks_hibernation_time = 60; smacks_max_hibernated_sessions = 2",
}, function (ctx, it)
	it("makes the oldest go, and remembers what it had handled", function ()
		local user = ctx:user();
		local c = {};
		local other = ctx:login();
		for i = 1, 4 do
			c[i] = ctx:resumable { user = user, resource = "r" .. i, available = true };
			for _ = 1, i do c[i]:ping(); end
			c[i]:sync();
		end
		for i = 1, 4 do
			c[i].cut_h = c[i].h;
			ctx:hibernate(c[i]);
			require "socket".sleep(1.1); -- the time of day counts in seconds
		end
		ctx.srv:wait_gone(c[1].jid);
		ctx.srv:wait_gone(c[2].jid);
		assert.truthy(ctx:field(c[3].jid, "s.hibernating and true"));
		assert.truthy(ctx:field(c[4].jid, "s.hibernating and true"));
		for i = 1, 2 do
			local failed = ctx:authenticated(user):try_resume(c[i].token, c[i].h);
			assert.equal("failed", failed.name);
			assert.equal("item-not-found", (t.condition(failed)));
			assert.equal(tostring(i + 1), failed.attr.h);
		end
		for i = 3, 4 do
			local resumed = ctx:authenticated(user):try_resume(c[i].token, c[i].h);
			assert.equal("resumed", resumed.name);
			assert.equal(tostring(i + 1), resumed.attr.h);
		end
		other:sync();
	end);

	it("counts for each account by itself", function ()
		local all = {};
		for i = 1, 5 do all[i] = ctx:resumable(); end
		for i = 1, 5 do ctx:hibernate(all[i]); end
		for i = 1, 5 do assert.equal("resumed", ctx:authenticated(all[i].username):try_resume(all[i].token, 0).name); end
	end);

	it("doesn't count live sessions, nor those resumed again", function ()
		local user = ctx:user();
		local live = {};
		for i = 1, 4 do live[i] = ctx:resumable { user = user }; end
		local a, b = ctx:resumable { user = user }, ctx:resumable { user = user };
		ctx:hibernate(a);
		ctx:hibernate(b);
		for _ = 1, 3 do
			a, b = ctx:resume(a), ctx:resume(b);
			ctx:hibernate(b);
			ctx:hibernate(a);
		end
		ctx:resume(a):sync();
		ctx:resume(b):sync();
		for i = 1, 4 do live[i]:sync(); end
	end);

	it("keeps the messages of those that go", function ()
		local user = ctx:user();
		local other = ctx:login();
		local c = {};
		for i = 1, 3 do c[i] = ctx:resumable { user = user, available = true }; end
		ctx:hibernate(c[1]);
		other:message(c[1].jid, "important", { id = "imp" });
		other:sync();
		ctx:hibernate(c[2]);
		ctx:hibernate(c[3]);
		ctx.srv:wait_gone(c[1].jid);
		-- the account has other sessions: the sender gets it back
		local err = other:try({ name = "message", type = "error", id = "imp" }, 1);
		local found = err;
		for i = 2, 3 do
			local d = ctx:resume(c[i]);
			found = found or d:try({ body = "important" }, 0.5);
		end
		assert.truthy(found, "the message is lost");
	end);
end);

t.each("the limit of remembered sessions", {
	config = "smacks_hibernation_time = 1; smacks_max_old_sessions = 3",
}, function (ctx, it)
	it("keeps the newest", function ()
		local user = ctx:user();
		local c = {};
		for i = 1, 5 do
			c[i] = ctx:login { user = user };
			c[i]:enable { resume = "true" };
			for _ = 1, i do c[i]:ping(); end
			c[i]:sync();
			c[i]:cut();
			ctx.srv:wait_gone(c[i].jid, 6);
		end
		-- (the built-in module clears up at the next <enable/>)
		ctx:login { user = user, enable = { resume = "true" } };
		local known = {};
		for i = 1, 5 do
			local failed = ctx:authenticated(user):try_resume(c[i].token, c[i].h);
			assert.equal("item-not-found", (t.condition(failed)));
			known[i] = failed.attr.h or "-";
		end
		assert.same({ "-", "-", "3", "4", "5" }, known);
	end);
end);

t.each("remembering no old sessions", {
	config = "smacks_hibernation_time = 1; smacks_max_old_sessions = 0",
}, function (ctx, it)
	it("works", function ()
		local user = ctx:user();
		local c = ctx:login { user = user, enable = { resume = "true" } };
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		ctx:login { user = user, enable = { resume = "true" } };
		local failed = ctx:authenticated(user):try_resume(c.token, c.h);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.is_nil(failed.attr.h);
	end);
end);

t.each("no hibernation at all", { config = "smacks_hibernation_time = 0" }, function (ctx, it)
	it("either gives no id or sessions that go at once", function ()
		local c = ctx:login();
		local enabled = c:enable { resume = "true" };
		assert.equal("enabled", enabled.name);
		c:ping();
		assert.equal("1", c:ask_h());
		c:cut();
		ctx.srv:wait_gone(c.jid, 4);
	end);
end);
