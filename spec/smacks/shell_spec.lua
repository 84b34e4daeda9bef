local t = require "support";

t.each("the admin shell", { config = "smacks_hibernation_time = 60", modules = { "admin_socket", "admin_shell" } }, function (ctx, it)
	local function row(output, jid)
		for line in output:gmatch("[^\n]+") do
			if line:find(jid, 1, true) then return line; end
		end
	end

	local function show(jid)
		local code, out = ctx.srv:prosodyctl(("shell 'c2s:show(\"%s\", \"jid smacks smacks_queue\")'"):format(jid));
		assert.equal(0, code, out);
		return row(out, jid) or error("not shown:\n" .. out);
	end

	it("shows which sessions use it, their queues and which hibernate", function ()
		local other = ctx:login();
		local without = ctx:login { resource = "a" };
		local with = ctx:resumable { resource = "b" };
		local hibernating = ctx:resumable { resource = "c" };
		for i = 1, 7 do other:message(with.jid, "m" .. i); end
		for i = 1, 12 do other:message(hibernating.jid, "m" .. i); end
		other:sync();
		ctx:hibernate(hibernating);
		assert.truthy(show(without.jid):match("no"));
		local line = show(with.jid);
		assert.truthy(line:match("yes"), line);
		assert.truthy(line:match("%f[%d]7%f[%D]"), line);
		-- mod_c2s's list, which the shell shows, has no hibernating sessions on all versions
		local columns = ctx.srv:eval(([[
			local s = session(%q);
			return { smacks = s.smacks, hibernating = s.hibernating and true, queue = tostring(s.outgoing_stanza_queue:count_unacked()) };
		]]):format(hibernating.jid));
		assert.equal(t.sm3, columns.smacks);
		assert.is_true(columns.hibernating);
		assert.equal("12", columns.queue);
	end);

	it("shows a resumed session once", function ()
		local c = ctx:resumable { available = true };
		ctx:hibernate(c);
		ctx:resume(c);
		local code, out = ctx.srv:prosodyctl("shell 'c2s:show()'");
		assert.equal(0, code, out);
		local n = 0;
		for line in out:gmatch("[^\n]+") do
			if line:find(c.jid, 1, true) then n = n + 1; end
		end
		assert.equal(1, n, out);
	end);

	it("closes sessions, which aren't to be resumed then", function ()
		local c = ctx:resumable { available = true };
		local code, out = ctx.srv:prosodyctl(("shell 'c2s:close(\"%s\")'"):format(c.jid));
		assert.equal(0, code, out);
		c:close();
		ctx.srv:wait_gone(c.jid);
		assert.equal("failed", ctx:authenticated(c.username):try_resume(c.token, c.h).name);
	end);

	it("reloads it", function ()
		local c = ctx:resumable();
		c:ping();
		local code, out = ctx.srv:prosodyctl("shell 'module:reload(\"smacks\", \"localhost\")'");
		assert.equal(0, code, out);
		assert.equal("1", c:ask_h());
	end);
end);
