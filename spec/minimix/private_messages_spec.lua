local t = require "support";
local muc = require "support.muc";

muc.ordinary("private messages", {}, function (ctx, it)
	local function three()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	it("come to the occupant, once, and to nobody else", function ()
		local room, owner, ada, bob = three();
		ada:message(room .. "/bob", "psst", { id = "pm1" });
		muc.settle(ada, bob, owner);
		local list = muc.got(bob, 1, { body = "psst" });
		assert.equal(1, #list);
		local el = list[1];
		assert.equal("pm1", el.attr.id);
		assert.equal("chat", el.attr.type);
		assert.equal(room .. "/ada", el.attr.from);
		assert.equal(bob.jid, el.attr.to);
		assert.truthy(el:child("x", muc.ns_user));
		assert.same({}, muc.got(owner, 1, { body = "psst" }));
		assert.same({}, muc.got(ada, 1, { body = "psst" }));
	end);

	it("are answered", function ()
		local room, _, ada, bob = three();
		for i = 1, 10 do
			ada:message(room .. "/bob", "ping" .. i);
			local el = bob:expect({ body = "ping" .. i });
			bob:message(el.attr.from, "pong" .. i);
			assert.equal(room .. "/bob", ada:expect({ body = "pong" .. i }).attr.from);
		end
	end);

	it("of any type come as such", function ()
		local room, _, ada, bob = three();
		ada:message(room .. "/bob", "normal", { type = "normal" });
		assert.equal("normal", bob:expect({ body = "normal" }).attr.type or "normal");
		ada:send(("<message to='%s/bob'><body>typeless</body></message>"):format(room));
		assert.equal("normal", bob:expect({ body = "typeless" }).attr.type or "normal");
		ada:message(room .. "/bob", "headline", { type = "headline" });
		assert.equal("headline", bob:expect({ body = "headline" }).attr.type);
	end);

	it("without a body come, too, and keep what is in them", function ()
		local room, _, ada, bob = three();
		ada:message(room .. "/bob", nil, nil, "<paused xmlns='http://jabber.org/protocol/chatstates'/>");
		assert.equal(room .. "/ada", bob:expect({ child = "paused" }).attr.from);
		ada:message(room .. "/bob", "with a receipt", { id = "r1" }, "<request xmlns='urn:xmpp:receipts'/>");
		assert.truthy(bob:expect({ body = "with a receipt" }):child("request", "urn:xmpp:receipts"));
		bob:message(room .. "/ada", nil, nil, "<received xmlns='urn:xmpp:receipts' id='r1'/>");
		assert.equal("r1", ada:expect({ child = "received" }):child("received").attr.id);
	end);

	it("to a nick that isn't there are refused", function ()
		local room, _, ada = three();
		ada:message(room .. "/nobody", "hello?", { id = "pm2" });
		local err = ada:expect({ name = "message", type = "error", id = "pm2" });
		assert.equal("item-not-found", (t.condition(err:child("error"))));
		assert.equal(room, muc.bare(err.attr.from));
		assert.equal(ada.jid, err.attr.to);
	end);

	it("of those who aren't in the room are refused", function ()
		local room, owner = three();
		local eve = muc.client(ctx);
		eve:message(room .. "/owner", "hello?", { id = "pm3" });
		local err = eve:expect({ name = "message", type = "error", id = "pm3" });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
		assert.equal(eve.jid, err.attr.to);
		muc.settle(owner);
		assert.same({}, muc.got(owner, 1, { body = "hello?" }));
	end);

	it("to oneself come", function ()
		local room, _, ada = three();
		ada:message(room .. "/ada", "note to self", { id = "self1" });
		local el = ada:expect({ body = "note to self" });
		assert.equal("self1", el.attr.id);
		assert.equal(room .. "/ada", el.attr.from);
		muc.settle(ada);
		assert.equal(1, #muc.got(ada, 1, { body = "note to self" }));
	end);

	it("go by the new nick after a change", function ()
		local room, _, ada, bob = three();
		bob:send(("<presence to='%s/robert'/>"):format(room));
		ada:expect(muc.presence_of(room, "robert"));
		ada:message(room .. "/bob", "old", { id = "old" });
		assert.equal("error", ada:expect({ name = "message", id = "old" }).attr.type);
		ada:message(room .. "/robert", "new");
		bob:expect({ body = "new" });
		bob:message(room .. "/ada", "thanks");
		assert.equal(room .. "/robert", ada:expect({ body = "thanks" }).attr.from);
	end);

	it("keep their order among the room's messages", function ()
		local room, _, ada, bob = three();
		for i = 1, 10 do
			muc.say(ada, room, "m" .. 2 * i - 1);
			ada:message(room .. "/bob", "m" .. 2 * i);
		end
		muc.settle(ada, bob);
		assert.same(t.numbered("m", 20), t.bodies(bob.seen));
	end);

	it("reach whoever has the nick, in each room", function ()
		local room, _, ada, bob = three();
		local other, owner2 = muc.open(ctx, { nick = "bob" });
		muc.enter(ada, other, "ada");
		ada:message(room .. "/bob", "one");
		ada:message(other .. "/bob", "two");
		assert.equal(room .. "/ada", bob:expect({ body = "one" }).attr.from);
		assert.equal(other .. "/ada", owner2:expect({ body = "two" }).attr.from);
		muc.settle(ada, bob, owner2);
		assert.same({}, muc.got(bob, 1, { body = "two" }));
	end);

	it("are refused where the room doesn't allow them", function ()
		if ctx.version == "0.12" then return; end -- has no such rooms
		local room, owner, ada = three();
		muc.configure(owner, room, { ["muc#roomconfig_allowpm"] = "moderator" });
		ada:message(room .. "/bob", "psst", { id = "pm4" });
		local err = ada:expect({ name = "message", type = "error", id = "pm4" });
		assert.equal("policy-violation", (t.condition(err:child("error"))));
	end);

	it("that one sends are copied to one's other clients that want copies", function ()
		local room, _, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		also:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
		ada:message(room .. "/bob", "psst", { id = "copied" });
		bob:expect({ body = "psst" });
		local copy, n = muc.saw(also, function (el) return el.name == "message" and el:child("sent", "urn:xmpp:carbons:2"); end);
		assert.equal(1, n);
		assert.equal(also.bare, copy.attr.from);
		local inner = copy:child("sent"):child("forwarded"):child("message");
		assert.equal("psst", inner:body());
		assert.equal(ada.jid, inner.attr.from);
		assert.equal(room .. "/bob", inner.attr.to);
	end);
end);
