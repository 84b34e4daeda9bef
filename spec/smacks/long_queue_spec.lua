local t = require "support";
local it = require "busted".it;

-- Queues that are on disk only, and are read when their client is back, a piece at a time.

local function totals(ctx)
	return ctx.srv:eval("local n, bytes, here = require 'enjamb'.smacks.totals(); return { n = n, bytes = bytes, here = here }");
end

-- Fills the queue of a client that is away; from within the server, since this is about much.
local function fill(ctx, jid, n, size)
	ctx.srv:eval(([[
		for i = 1, %d do
			session(%q).send(st.message({ to = %q, from = "x@localhost", type = "chat", id = "i" .. i }, i .. (" "):rep(%d)));
		end
	]]):format(n, jid, jid, size));
end

local function numbers(seen)
	local out = {};
	for _, body in ipairs(t.bodies(seen)) do
		local n = tonumber(body:match("^%d+"));
		if n then out[#out + 1] = n; end
	end
	return out;
end

local function up_to(n, first)
	local out = {};
	for i = first or 1, n do out[#out + 1] = i; end
	return out;
end

t.versions("a long queue", function (start)
	for _, how in ipairs { "connect", "websocket" } do
		it("of a client that is away is not in memory, and comes back in order by " .. how, function ()
			local ctx = start { config = "smacks_max_queue_size = 100000", with_http = true, modules = { "websocket" } };
			local c = ctx:resumable { available = true };
			c:sync();
			ctx:hibernate(c);
			fill(ctx, c.jid, 3000, 400);
			local held = totals(ctx);
			assert.truthy(held.n >= 3000 and held.bytes > 3000 * 400, held.bytes);
			assert.equal(0, held.here);
			local d = ctx:resume(c, nil, how);
			d:expect({ id = "i3000" }, 60);
			assert.same(up_to(3000), numbers(d.seen));
			d:ack();
			d:sync();
			assert.equal(0, totals(ctx).n);
		end);
	end

	it("goes out no faster than it is taken, and what is new comes behind it", function ()
		local ctx = start { config = "smacks_max_queue_size = 100000" };
		local c = ctx:resumable { available = true };
		c:sync();
		ctx:hibernate(c);
		fill(ctx, c.jid, 4000, 4000); -- 16 MB
		local d = ctx:authenticated(c.username);
		d:send(("<resume xmlns='%s' previd='%s' h='%d'/>"):format(t.sm3, c.token, c.h));
		-- It reads nothing. The connection's buffers and one more piece are all that leaves the journal.
		ctx.srv:wait_for(("local s = session(%q); return not s.hibernating"):format(c.jid), 10);
		require "socket".sleep(1);
		local unsent = ctx.srv:eval(([[
			local next, last = require "enjamb".smacks.resend(session(%q).enjamb.stream);
			return last - next;
		]]):format(c.jid));
		assert.truthy(unsent > 1000, unsent .. " left");
		ctx.srv:eval(("session(%q).send(st.message({ id = 'new' }, '4001'))"):format(c.jid));
		d:expect({ name = "resumed" });
		d:expect({ id = "new" }, 120);
		assert.same(up_to(4001), numbers(d.seen));
	end);

	it("may be cut anywhere, any number of times", function ()
		local ctx = start { config = "smacks_max_queue_size = 100000" };
		local c = ctx:resumable { available = true };
		c:sync();
		ctx:hibernate(c);
		fill(ctx, c.jid, 3000, 1500);
		local got, h, token = {}, c.h, c.token;
		for round = 1, 8 do
			local d = ctx:authenticated(c.username);
			d:send(("<resume xmlns='%s' previd='%s' h='%d'/>"):format(t.sm3, token, h));
			d:expect({ name = "resumed" });
			d:expect({ id = "i" .. (round < 8 and #got + 350 or 3000) }, 60);
			for _, n in ipairs(numbers(d.seen)) do got[#got + 1] = n; end
			for _, el in ipairs(d.seen) do
				if el:is_stanza() then h = h + 1; end
			end
			if round == 5 then
				ctx.srv:kill();
				ctx.srv:launch();
				ctx.srv:wait_hibernating(c.jid);
			elseif round < 8 then
				ctx:hibernate(setmetatable({ jid = c.jid }, { __index = d }));
			end
		end
		assert.same(up_to(3000), got);
	end);

	it("cannot be acknowledged before it was sent", function ()
		local ctx = start { config = "smacks_max_queue_size = 100000" };
		local c = ctx:resumable { available = true };
		c:sync();
		ctx:hibernate(c);
		fill(ctx, c.jid, 10, 10);
		local failed = ctx:authenticated(c.username):try_resume(c.token, c.h + 5);
		assert.equal("failed", failed.name);
		local d = ctx:resume(c);
		d:expect({ id = "i10" });
	end);

	it("is returned to whoever sent it, from the disk, when the client does not come back", function ()
		local ctx = start { config = "smacks_max_queue_size = 100000\nsmacks_hibernation_time = 2", disable = { "offline" } };
		local c, other = ctx:resumable { available = true }, ctx:login { available = true };
		c:sync();
		ctx:hibernate(c);
		for i = 1, 200 do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:expect({ name = "message", type = "error", id = "m200" }, 20);
		for i, el in ipairs(t.only(other.seen, { name = "message", type = "error" })) do
			assert.equal("m" .. i, el.attr.id);
		end
		assert.same({ n = 0, bytes = 0, here = 0 }, totals(ctx));
	end);

	it("ends the longest one of an account when that has too much", function ()
		local ctx = start { config = "smacks_max_account_queue_bytes = 30000" };
		local user = ctx:user();
		local a, b = ctx:resumable { user = user, resource = "a", available = true }, ctx:resumable { user = user, resource = "b", available = true };
		for _, c in ipairs { a, b } do
			c:sync();
			ctx:hibernate(c);
		end
		fill(ctx, a.jid, 5, 3000);
		fill(ctx, b.jid, 3, 3000);
		assert.truthy(ctx:field(a.jid, "true"));
		fill(ctx, b.jid, 1, 9000);
		ctx.srv:wait_gone(b.jid);
		assert.truthy(ctx:field(a.jid, "true"));
		local d = ctx:resume(a);
		d:expect({ id = "i5" });
	end);

	it("counts what cannot be resumed for its account, too", function ()
		local ctx = start { config = "smacks_max_account_queue_bytes = 30000" };
		local user = ctx:user();
		local function plain(resource, of)
			local c = ctx:login { user = of or user, resource = resource, enable = {}, available = true };
			c:sync();
			c:ack();
			return c;
		end
		local a, b, other = plain("a"), plain("b"), plain("c", ctx:user());
		fill(ctx, a.jid, 4, 3000);
		a:expect({ id = "i4" });
		a:ack(); -- makes room
		fill(ctx, a.jid, 4, 3000);
		fill(ctx, b.jid, 4, 3000);
		fill(ctx, other.jid, 8, 3000);
		for _, c in ipairs { a, b, other } do c:sync(); end
		fill(ctx, b.jid, 3, 3000);
		b:expect({ name = "error" });
		b:expect_closed();
		a:sync();
		other:sync();
	end);

	it("ends the one that holds most of the memory when there is too much in it", function ()
		local ctx = start { config = "smacks_max_memory_queue_bytes = 30000" };
		local kept, a, b = ctx:resumable { available = true }, ctx:login { enable = {} }, ctx:login { enable = {} };
		fill(ctx, kept.jid, 20, 3000); -- that is on disk
		fill(ctx, a.jid, 6, 3000);
		fill(ctx, b.jid, 2, 3000);
		for _, c in ipairs { kept, a, b } do c:sync(); end
		fill(ctx, b.jid, 2, 3000);
		a:expect({ name = "error" });
		a:expect_closed();
		b:sync();
		kept:sync();
	end);

	it("ends the longest one of all when the server has too much", function ()
		local ctx = start { config = "smacks_max_server_queue_bytes = 30000" };
		local a, b = ctx:resumable { available = true }, ctx:resumable { available = true };
		for _, c in ipairs { a, b } do
			c:sync();
			ctx:hibernate(c);
		end
		fill(ctx, a.jid, 7, 3000);
		fill(ctx, b.jid, 4, 3000);
		ctx.srv:wait_gone(a.jid);
		local d = ctx:resume(b);
		d:expect({ id = "i4" });
	end);
end);
