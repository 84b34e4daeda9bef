local t = require "support";

local n = 50;

t.each("a full queue", { config = "smacks_hibernation_time = 2; smacks_max_queue_size = 10" }, function (ctx, it)
	-- What became of each of the messages: delivered on resuming, found offline or bounced.
	local function account(c, other, resumed)
		local fate = {};
		local function add(body, what)
			if body and body:match("^m%d+$") then
				fate[body] = fate[body] or {};
				table.insert(fate[body], what);
			end
		end
		local order = {};
		for _, el in ipairs(t.only(c.seen, "message")) do add(el:body(), "live"); end
		if resumed then
			for _, el in ipairs(t.only(resumed.seen, "message")) do add(el:body(), "resumed"); end
		end
		local d = ctx:login { user = c.username };
		d:presence();
		d:sync();
		d:drain(0.3);
		for _, el in ipairs(t.only(d.seen, "message")) do
			add(el:body(), "offline");
			order[#order + 1] = tonumber(el:body():match("%d+"));
		end
		other:sync();
		for _, el in ipairs(t.only(other.seen, { name = "message", type = "error" })) do add(el.attr.id, "bounced"); end
		for i = 2, #order do assert.truthy(order[i] > order[i - 1], "offline messages in the wrong order: " .. table.concat(order, " ")); end
		return fate;
	end

	local function complete(fate)
		local lost, twice = {}, {};
		for i = 1, n do
			local f = fate["m" .. i];
			if not f then lost[#lost + 1] = "m" .. i;
			elseif #f > 1 then twice[#twice + 1] = "m" .. i .. ":" .. table.concat(f, "+"); end
		end
		assert.equal("", table.concat(lost, " "), "lost messages");
		assert.equal("", table.concat(twice, " "), "messages in two places");
	end

	it("of a hibernating session loses nothing when that expires", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		ctx:hibernate(c);
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:sync();
		ctx.srv:wait_gone(c.jid, 8);
		complete(account(c, other));
	end);

	it("of a hibernating session loses nothing when that's resumed", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		ctx:hibernate(c);
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:sync();
		local d = ctx:authenticated(c.username);
		local answer = d:try_resume(c.token, c.h);
		if answer.name == "resumed" then
			-- then all of them must be there
			d:expect({ body = "m" .. n });
			assert.same(t.numbered("m", n), t.bodies(d.seen));
			d:ack(c.h + n);
			d:sync();
			assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
			d:close();
			ctx.srv:wait_gone(c.jid, 8);
			complete(account(c, other, d));
		else
			assert.truthy((t.condition(answer)));
			assert.falsy(d.closed);
			ctx.srv:wait_gone(c.jid, 8);
			complete(account(c, other, d));
		end
	end);

	it("of a hibernating session of a user with another client loses nothing", function ()
		local user = ctx:user();
		local c = ctx:resumable { user = user, available = true };
		local also = ctx:login { user = user, available = true };
		local other = ctx:login();
		c:ack();
		c:sync();
		ctx:hibernate(c);
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:sync();
		local d = ctx:authenticated(user);
		local answer = d:try_resume(c.token, c.h);
		if answer.name == "resumed" then
			d:expect({ body = "m" .. n });
			assert.same(t.numbered("m", n), t.bodies(d.seen));
		else
			ctx.srv:wait_gone(c.jid, 8);
			other:sync();
			also:sync();
			complete(account(c, other, also));
		end
	end);

	it("of exactly the limit can be resumed", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		for i = 1, 10 do other:message(c.jid, "m" .. i); end
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m10" });
		assert.same(t.numbered("m", 10), t.bodies(d.seen));
	end);

	it("of a live client that acks late doesn't matter: it gets all and acks all", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		local before = c.h;
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		c:expect({ body = "m" .. n });
		assert.same(t.numbered("m", n), t.bodies(c.seen));
		assert.equal(before + n, c.h);
		c:ack();
		c:sync();
		assert.falsy(c.closed);
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		assert.equal(0, #t.only(other:sync(), "message"));
		-- and then everything works as before
		ctx:hibernate(c);
		other:message(c.jid, "later");
		other:sync();
		ctx:resume(c):expect({ body = "later" });
	end);

	it("of a live client that acks some of it doesn't matter", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		c:expect({ body = "m" .. n });
		for _, h in ipairs { 3, 17, 39, 44, 50 } do
			c:ack(h);
			c:sync();
			assert.falsy(c.closed);
			assert.equal(n - h, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		end
		other:message(c.jid, "next");
		c:expect({ body = "next" });
	end);

	it("of a live client whose connection then breaks loses nothing", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		local before = c.h;
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:sync();
		ctx:hibernate(c);
		c.seen = {}; -- say it never got there
		local d = ctx:authenticated(c.username);
		local answer = d:try_resume(c.token, before);
		if answer.name == "resumed" then
			d:expect({ body = "m" .. n });
			assert.same(t.numbered("m", n), t.bodies(d.seen));
		else
			ctx.srv:wait_gone(c.jid, 8);
			complete(account(c, other));
		end
	end);

	it("isn't too full for the rest when the client did get it", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, n do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		c:expect({ body = "m" .. n });
		ctx:hibernate(c);
		-- the client says it has them all: nothing is missing
		local d = ctx:authenticated(c.username);
		local answer = d:try_resume(c.token, c.h);
		if answer.name == "resumed" then
			d:message(c.jid, "on");
			d:expect({ body = "on" });
			assert.same({ "on" }, t.bodies(d.seen));
		else
			assert.truthy((t.condition(answer)));
			ctx.srv:wait_gone(c.jid, 8);
			complete(account({ seen = {}, username = c.username }, other));
		end
	end);
end);

t.each("a queue of too many bytes", { config = "smacks_hibernation_time = 2; smacks_max_queue_bytes = 100000" }, function (ctx, it)
	it("loses nothing", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		ctx:hibernate(c);
		local filler = (" x"):rep(10000);
		for i = 1, 20 do other:message(c.jid, i .. filler, { id = "m" .. i }); end
		other:sync();
		local places = {};
		local d = ctx:authenticated(c.username);
		local answer = d:try_resume(c.token, c.h);
		if answer.name == "resumed" then
			d:expect(function (e) return e.name == "message" and e:body():match("^20 "); end);
		else
			ctx.srv:wait_gone(c.jid, 8);
			d:bind("next");
			d:presence();
			d:sync();
			d:drain(0.3);
		end
		for _, m in ipairs(t.only(d.seen, "message")) do places[#places + 1] = "m" .. m:body():match("^%d+"); end
		for _, m in ipairs(t.only(other:sync(), { name = "message", type = "error" })) do places[#places + 1] = m.attr.id; end
		table.sort(places, function (a, b) return tonumber(a:sub(2)) < tonumber(b:sub(2)); end);
		assert.same(t.numbered("m", 20), places);
	end);

	it("of a live client loses nothing either, though it may be told to go", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		local filler = (" x"):rep(10000);
		for i = 1, 20 do other:message(c.jid, i .. filler, { id = "m" .. i }); end
		other:sync();
		c:drain(0.5);
		local got = {};
		local function add(list)
			for _, m in ipairs(t.only(list, "message")) do
				if m:body() then got["m" .. m:body():match("^%d+")] = true; end
			end
		end
		if c.closed then
			local err = t.only(c.seen, { name = "error", ns = "http://etherx.jabber.org/streams" })[1];
			assert.truthy(err and err:child("policy-violation"), "the stream ended without its error");
			-- it acked nothing: all of it must be at the next login, or have gone back
			ctx.srv:wait_gone(c.jid, 8);
			local d = ctx:login { user = c.username };
			d:presence();
			d:sync();
			d:drain(0.3);
			add(d.seen);
		else
			add(c.seen);
			c:ack();
			c:sync();
			assert.falsy(c.closed);
			assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		end
		for _, m in ipairs(t.only(other:sync(), { name = "message", type = "error" })) do got[m.attr.id] = true; end
		for i = 1, 20 do assert.truthy(got["m" .. i], "m" .. i .. " is lost"); end
	end);
end);
