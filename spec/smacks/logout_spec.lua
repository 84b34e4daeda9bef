local t = require "support";
local it_alone = require "busted".it;
local socket = require "socket";

-- A client that logs out in the ordinary way, right after traffic: nothing comes twice, nobody is sent an error.

-- Reads for so long, answering each <r/> at once.
local function answer(c, seconds)
	local deadline = socket.gettime() + seconds;
	repeat
		c:drain(math.max(0.005, math.min(0.02, deadline - socket.gettime())));
		for i = (c.answered or 0) + 1, #c.seen do
			if c.seen[i].name == "r" then c:ack(); end
		end
		c.answered = #c.seen;
	until socket.gettime() >= deadline;
end

t.each("a log-out soon after traffic", {
	config = "smacks_hibernation_time = 60", modules = { "offline", "carbons", "csi_simple" },
	extra = "Component 'rooms.localhost' 'muc'\nmuc_room_locking = false\n",
}, function (ctx, it)
	for _, pause in ipairs { 0.05, 0.15, 0.3 } do
		it(("(%g s) returns nothing to contacts and rooms"):format(pause), function ()
			local a, b = ctx:contacts();
			local alice = ctx:login { user = a, available = true };
			local bob = ctx:resumable { user = b, available = true };
			local room = "r" .. tostring(pause):gsub("%.", "") .. "@rooms.localhost";
			for _, c in ipairs { alice, bob } do
				c:send(("<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(room, c.username));
				c:expect(function (el) return el.name == "message" and el:child("subject"); end);
			end
			answer(bob, 0.3);
			for i = 1, 3 do
				alice:message(room, "in the room " .. i, { type = "groupchat" });
				alice:send(("<message to='%s/%s' type='chat'><body>private %d</body></message>"):format(room, b, i));
				answer(bob, 0.02);
			end
			alice:presence(nil, "<status>busy</status>");
			alice:send(("<presence to='%s/%s'><status>busy</status></presence>"):format(room, a));
			answer(bob, pause);
			bob:close();
			ctx.srv:wait_gone(bob.jid);
			local left = alice:expect({ name = "presence", type = "unavailable", from = room .. "/" .. b });
			assert.is_nil(tostring(left):find("333", 1, true), tostring(left));
			alice:sync();
			assert.same({}, t.only(alice.seen, { type = "error" }));
		end);
	end

	it("brings nothing a second time", function ()
		local a, b = ctx:contacts();
		local alice = ctx:login { user = a, available = true };
		local bob = ctx:resumable { user = b, available = true };
		answer(bob, 0.3);
		for i = 1, 3 do
			alice:message(b .. "@localhost", "m" .. i);
			answer(bob, 0.05);
		end
		alice:presence(nil, "<status>busy</status>");
		answer(bob, 1);
		assert.same({ "m1", "m2", "m3" }, t.bodies(bob.seen));
		bob:close();
		ctx.srv:wait_gone(bob.jid);
		local again = ctx:login { user = b, available = true };
		again:sync();
		assert.same({}, t.bodies(again.seen));
		assert.same({}, t.only(alice.seen, { type = "error" }));
	end);
end);

t.each("a stanza that ends its own session", {
	config = "smacks_hibernation_time = 60\nallow_registration = true", modules = { "register" },
}, function (ctx, it)
	it("is counted by the ack that goes out with its answer", function ()
		local c = ctx:resumable();
		c:send("<iq type='set' id='remove'><query xmlns='jabber:iq:register'><remove/></query></iq><r xmlns='" .. t.sm3 .. "'/>");
		assert.equal("result", c:expect({ name = "iq", id = "remove" }).attr.type);
		assert.equal("1", c:expect("a").attr.h);
		c:expect_closed();
	end);

	it("is not counted before: what came behind it is not either", function ()
		local c = ctx:resumable();
		c:send("<presence/><iq type='set' id='remove'><query xmlns='jabber:iq:register'><remove/></query></iq>"
			.. "<message to='localhost'><body>never handled</body></message>");
		c:expect({ name = "iq", id = "remove" });
		assert.equal("2", c:expect("a").attr.h);
		c:expect_closed();
	end);

	it("is counted if something before it had to wait", function ()
		local c = ctx:resumable();
		c:send("<message to='localhost'><body>wait 0.3</body></message>"
			.. "<iq type='set' id='remove'><query xmlns='jabber:iq:register'><remove/></query></iq>");
		c:expect({ name = "iq", id = "remove" });
		assert.equal("2", c:expect("a").attr.h);
		c:expect_closed();
	end);
end);

t.versions("levels", function (start)
	it_alone("are each host's own: one without a journal beside one that has it loses nothing at a clean stop", function ()
		local ctx = start {
			config = "smacks_hibernation_time = 60"; modules = { "offline" };
			extra = "VirtualHost 'none.example'\nsmacks_durability = 'none'\n";
		};
		ctx.srv:adduser("carol", "secret", "none.example");
		local carol = t.client.connect(ctx.srv, { host = "none.example" }):login("carol", "secret");
		carol:enable { resume = "true" };
		carol:presence();
		carol:sync();
		local bob = ctx:resumable { available = true };
		bob:sync();
		carol:cut();
		ctx.srv:wait_hibernating(carol.jid);
		bob:message(carol.jid, "acknowledged");
		assert.equal("2", bob:ask_h());
		assert.equal(1, ctx.srv:eval("return require 'enjamb'.journal.stats().sessions"), "only the one that is to be kept");
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		ctx:resume(bob):sync();
		local connection = t.client.connect(ctx.srv, { host = "none.example" }):authenticate("carol", "secret");
		local failed = connection:try_resume(carol.token, carol.h);
		assert.equal("failed", failed.name);
		assert.equal("1", failed.attr.h);
		connection:bind();
		connection:presence();
		connection:expect({ body = "acknowledged" });
		assert.same({}, ctx:log_errors(0));
	end);

	it_alone("'power' is kept by a host that comes after one with 'process'", function ()
		local ctx = start {
			config = "smacks_hibernation_time = 60";
			extra = "VirtualHost 'power.example'\nsmacks_durability = 'power'\n";
		};
		ctx.srv:adduser("carol", "secret", "power.example");
		local carol = t.client.connect(ctx.srv, { host = "power.example" }):login("carol", "secret");
		carol:enable { resume = "true" };
		carol:presence();
		carol:send("<r xmlns='" .. t.sm3 .. "'/>");
		local h;
		repeat h = tonumber(carol:expect("a").attr.h); until h == 1;
	end);

	it_alone("are none for accounts that cannot come back", function ()
		local ctx = start {
			config = "smacks_hibernation_time = 60";
			extra = "VirtualHost 'guests.example'\nauthentication = 'anonymous'\n";
		};
		local bob = ctx:resumable { available = true };
		local guest = t.client.connect(ctx.srv, { host = "guests.example" });
		guest:open_stream();
		guest:send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>");
		guest:expect({ name = "success" });
		guest:restart_stream();
		guest:bind();
		guest:enable { resume = "true" };
		guest:presence();
		guest:sync();
		assert.equal(1, ctx.srv:eval("return require 'enjamb'.journal.stats().sessions"));
		-- it is resumable all the same, as long as the server is there
		guest:cut();
		ctx.srv:wait_hibernating(guest.jid);
		bob:message(guest.jid, "kept in memory");
		assert.equal("2", bob:ask_h());
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		ctx:resume(bob):sync();
		assert.same({}, ctx:log_errors(0));
	end);
end);
