local t = require "support";

t.each("floods", {
	config = [[
		smacks_hibernation_time = 60
		c2s_stanza_size_limit = 1024 * 1024
		network_settings = { max_send_buffer_size = 256 * 1024 * 1024 }
	]],
}, function (ctx, it)
	-- Sends text n times, reading what comes back meanwhile.
	local function flood(c, text, n, chunk)
		local block = text:rep(chunk);
		for _ = 1, n // chunk do
			c:send(block);
			while true do
				local before = #c.rx;
				c:_pump(0);
				if #c.rx == before or c.closed then break; end
			end
		end
	end

	it("of 100,000 <r/> are all answered", function ()
		local c = ctx:resumable();
		c:ping();
		c:sync();
		local start = #t.only(c.seen, "a");
		flood(c, "<r xmlns='urn:xmpp:sm:3'/>", 100000, 1000);
		local id = c:ping();
		c:expect({ name = "iq", id = id }, 60);
		assert.equal(100000, #t.only(c.seen, "a") - start);
		for _, a in ipairs(t.only(c.seen, "a")) do
			if a.attr.h ~= "1" then assert.equal("1", a.attr.h); end
		end
		assert.equal("2", c:ask_h());
	end);

	it("of 100,000 <a/> are no problem", function ()
		local c = ctx:resumable();
		flood(c, "<a xmlns='urn:xmpp:sm:3' h='0'/>", 100000, 1000);
		assert.equal("0", c:ask_h(60));
		c:ping();
		c:expect("iq");
		flood(c, "<a xmlns='urn:xmpp:sm:3' h='1'/>", 10000, 1000);
		assert.equal("1", c:ask_h(60));
		assert.truthy(#t.only(c.seen, "r") < 10);
	end);

	it("of resumptions with random ids are all refused", function ()
		local user = ctx:user();
		local real = ctx:resumable { user = user };
		ctx:hibernate(real);
		local d = ctx:authenticated(user);
		local parts = {};
		for round = 1, 20 do
			for i = 1, 1000 do
				parts[i] = ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s%d-%d'/>"):format(i, "x", round, math.random(1 << 40));
			end
			d:send(table.concat(parts));
			while true do
				local before = #d.rx;
				d:_pump(0);
				if #d.rx == before then break; end
			end
		end
		d:send("<resume xmlns='urn:xmpp:sm:3' h='0' previd='last'/>");
		local n = 0;
		while n < 20001 do
			d:expect("failed", 60);
			n = n + 1;
		end
		assert.equal("resumed", d:try_resume(real.token, 0).name);
		d:message(real.jid, "fine");
		d:expect({ body = "fine" });
	end);

	it("of <enable/> are refused, one was enough", function ()
		local c = ctx:resumable();
		flood(c, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>", 10000, 1000);
		assert.equal("0", c:ask_h(60));
		assert.equal(10000, #t.only(c.seen, "failed"));
	end);

	it("of large messages into the queue come out again", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		local n, filler = 200, ("x"):rep(200 * 1024);
		for i = 1, n do other:message(c.jid, i .. " " .. filler); end
		other:sync(60);
		assert.equal(n + c.h, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		-- somebody else is served meanwhile
		local watcher = ctx:login();
		watcher:sync();
		local d = ctx:resume(c);
		watcher:sync();
		local i = 0;
		while i < n do
			local m = d:expect("message", 60);
			i = i + 1;
			local body = m:body();
			assert.equal(tostring(i), body:match("^%d+"));
			assert.equal(#filler + #tostring(i) + 1, #body);
			d.seen[d.next - 1] = { name = "message", attr = {} }; -- (they are large)
			setmetatable(d.seen[d.next - 1], require "support.xml".Element);
		end
		d:ack();
		d:sync(30);
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("at a client that reads nothing keep nobody else from being served", function ()
		local deaf, other = ctx:resumable { available = true }, ctx:login();
		local filler = ("x"):rep(100 * 1024);
		for i = 1, 100 do other:message(deaf.jid, i .. " " .. filler); end
		other:sync(60);
		local watcher = ctx:resumable();
		for i = 1, 20 do
			watcher:message(watcher.jid, "m" .. i);
			watcher:expect({ body = "m" .. i });
		end
		assert.equal("20", watcher:ask_h());
		-- it's cut off and comes back: everything is there
		local h = deaf.h;
		deaf:cut();
		ctx.srv:wait_hibernating(deaf.jid, 20);
		local d = ctx:authenticated(deaf.username);
		assert.equal("resumed", d:try_resume(deaf.token, h).name);
		for i = 1, 100 do assert.equal(tostring(i), d:expect("message", 30):body():match("^%d+")); end
	end);

	it("of <r/> from a client that reads nothing keep nobody else from being served", function ()
		local deaf = ctx:resumable();
		deaf.sock:settimeout(0);
		local block = ("<r xmlns='urn:xmpp:sm:3'/>"):rep(1000);
		for _ = 1, 100 do
			if not deaf.sock:send(block) then break; end
		end
		local watcher = ctx:resumable();
		for i = 1, 20 do
			watcher:message(watcher.jid, "m" .. i);
			watcher:expect({ body = "m" .. i }, 20);
		end
	end);

	it("of connections that enable and vanish leave nothing", function ()
		local user = ctx:user();
		for _ = 1, 60 do
			local c = ctx:login { user = user, resource = "same" };
			c:enable { resume = "true" };
			c:cut();
		end
		local c = ctx:login { user = user, resource = "same" };
		c:enable { resume = "true" };
		c:sync();
		assert.equal(1, ctx.srv:eval(([[
			local n = 0;
			for _ in pairs(prosody.hosts.localhost.sessions[%q].sessions) do n = n + 1; end
			return n;
		]]):format(user)));
	end);
end);
