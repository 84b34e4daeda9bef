local t = require "support";
local muc = require "support.muc";

muc.account("rooms and stream management", { config = "smacks_hibernation_time = 2" }, function (ctx, it)
	local function party(two)
		local room, owner = muc.open(ctx);
		local ada = ctx:resumable { available = true };
		muc.enter(ada, room, "ada");
		local also = two and muc.client(ctx, { user = ada.username });
		if two then muc.enter(also, room, "ada"); end
		muc.settle(owner, ada);
		ada:ack();
		ada:sync();
		return room, owner, ada, also;
	end

	it("a client that loses its connection keeps its place and gets what it missed, once", function ()
		local room, owner, ada = party();
		ctx:hibernate(ada);
		for i = 1, 5 do muc.say(owner, room, "m" .. i); end
		owner:message(room .. "/ada", "psst");
		local bob = muc.guest(ctx, room, "bob", nil, owner);
		muc.settle(owner);
		local back = ctx:resume(ada);
		back:expect(muc.presence_of(room, "bob"));
		back:sync();
		assert.same({ "m1", "m2", "m3", "m4", "m5", "psst" }, t.bodies(back.seen));
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
		assert.equal(1, #muc.got(owner, 1, muc.presence_of(room, "ada")));
		muc.say(back, room, "I'm back");
		muc.all_hear({ owner, bob, back }, room, "ada", "I'm back");
	end);

	it("what was sent but not acked comes once as well", function ()
		local room, owner, ada = party();
		for i = 1, 5 do muc.say(owner, room, "m" .. i); end
		ada:expect({ body = "m3" });
		local had = #t.bodies(muc.got(ada, 1, { type = "groupchat" }));
		ctx:hibernate(ada);
		muc.say(owner, room, "m6");
		muc.settle(owner);
		local back = ctx:resume(ada);
		back:sync();
		assert.same(t.numbered("m", 6, had + 1), t.bodies(back.seen));
	end);

	it("a client whose time is over has left", function ()
		local room, owner, ada = party();
		ctx:hibernate(ada);
		owner:expect(muc.presence_of(room, "ada", "unavailable"), 8);
		ctx.srv:wait_gone(ada.jid);
		muc.in_step(ctx, room, owner);
		assert.equal(1, #muc.got(owner, 1, { name = "presence", type = "unavailable" }));
		assert.same({}, muc.got(owner, 1, { type = "error" }));
	end);

	it("a client whose time is over leaves the others of its account in the room", function ()
		local room, owner, ada, also = party(true);
		ctx:hibernate(ada);
		muc.say(owner, room, "m1");
		ctx.srv:wait_gone(ada.jid, 8);
		muc.say(owner, room, "m2");
		also:expect({ body = "m2" });
		muc.in_step(ctx, room, owner, also);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
		assert.same({}, muc.got(owner, 1, { type = "error" }));
		assert.same({ "m1", "m2" }, t.bodies(muc.got(also, 1, { type = "groupchat" })));
	end);

	it("a client that was thrown out while away is told when it's back", function ()
		local room, owner, ada, also = party(true);
		ctx:hibernate(ada);
		muc.admin_ok(owner, room, { role = "none", nick = "ada" });
		local back = ctx:resume(ada);
		for _, c in ipairs { back, also } do assert.equal("110 307", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable")))); end
		local id = muc.say(back, room, "what?");
		assert.equal("not-acceptable", (t.condition(back:expect({ name = "message", type = "error", id = id }):child("error"))));
	end);

	it("the account's nick changes for a client that's away", function ()
		local room, owner, ada, also = party(true);
		ctx:hibernate(ada);
		also:send(("<presence to='%s/lovelace'/>"):format(room));
		also:expect(muc.presence_of(room, "lovelace"));
		local back = ctx:resume(ada);
		back:expect(muc.presence_of(room, "ada", "unavailable", "303"));
		back:expect(muc.presence_of(room, "lovelace"));
		muc.say(back, room, "who am I?");
		owner:expect(muc.groupchat(room, "lovelace", "who am I?"));
	end);

	it("a client that joins while the other is away is served, and the other misses nothing", function ()
		local room, owner, ada = party();
		ctx:hibernate(ada);
		muc.say(owner, room, "m1");
		muc.settle(owner);
		local also = muc.client(ctx, { user = ada.username });
		local entry = muc.enter(also, room, "ada");
		assert.same({ "m1" }, t.bodies(entry.history));
		assert.same({ "owner" }, entry.nicks);
		muc.say(owner, room, "m2");
		also:expect({ body = "m2" });
		local back = ctx:resume(ada);
		back:sync();
		assert.same({ "m1", "m2" }, t.bodies(back.seen));
		muc.in_step(ctx, room, owner, also);
	end);

	it("the account's requests to those who are away wait for them", function ()
		local room, owner, ada = party();
		ctx:hibernate(ada);
		local id = t.client.id();
		owner:send(("<iq type='get' id='%s' to='%s/ada'><query xmlns='jabber:iq:version'/></iq>"):format(id, room));
		muc.settle(owner);
		local back = ctx:resume(ada);
		local iq = back:expect({ name = "iq", type = "get" });
		back:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(iq.attr.id), iq.attr.from));
		assert.equal("result", owner:expect({ name = "iq", id = id }).attr.type);
	end);

	it("counts stay right: many messages, resumed again and again", function ()
		local room, owner, ada, also = party(true);
		local got, c = {}, ada;
		for round = 1, 4 do
			for i = 1, 10 do muc.say(owner, room, ("r%d.%d"):format(round, i)); end
			muc.settle(owner);
			if round % 2 == 0 then c:sync(); end
			for _, body in ipairs(t.bodies(c.seen)) do got[#got + 1] = body; end
			ctx:hibernate(c);
			c = ctx:resume(c);
		end
		c:sync();
		for _, body in ipairs(t.bodies(c.seen)) do got[#got + 1] = body; end
		local expected = {};
		for round = 1, 4 do
			for i = 1, 10 do expected[#expected + 1] = ("r%d.%d"):format(round, i); end
		end
		assert.same(expected, got);
		also:sync();
		assert.same(expected, t.bodies(muc.got(also, 1, { type = "groupchat" })));
	end);
end);

muc.ordinary("rooms without stream management", { smacks = false }, function (ctx, it)
	it("are joined, heard and left", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.say(owner, room, "hello");
		ada:expect({ body = "hello" });
		muc.in_step(ctx, room, owner, ada);
		ada:cut();
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);
end);

muc.ordinary("rooms and clients that say that they're inactive", { modules = { "csi_simple" } }, function (ctx, it)
	it("they get all of it when they're active again, in order", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		ada:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		for i = 1, 5 do
			muc.say(owner, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
			muc.say(owner, room, "m" .. i);
		end
		local bob = muc.guest(ctx, room, "bob", nil, owner);
		owner:send(("<presence to='%s/owner'><show>away</show></presence>"):format(room));
		muc.settle(owner, bob);
		ada:send("<active xmlns='urn:xmpp:csi:0'/>");
		muc.in_step(ctx, room, owner, ada, bob);
		assert.same(t.numbered("m", 5), t.bodies(muc.got(ada, 1, { type = "groupchat" })));
	end);
end);

muc.ordinary("rooms and push", { config = "smacks_hibernation_time = 10", modules = { "cloud_notify" } }, function (ctx, it)
	it("a client that's away is notified of private messages", function ()
		local app = ctx:login { resource = "app" };
		local room, owner = muc.open(ctx);
		local ada = ctx:resumable { available = true };
		ada:iq("set", ("<enable xmlns='urn:xmpp:push:0' jid='%s' node='n'/>"):format(app.jid));
		muc.enter(ada, room, "ada");
		ada:ack();
		ada:sync();
		ctx:hibernate(ada);
		owner:message(room .. "/ada", "psst");
		app:expect(function (e) return e.name == "iq" and e.attr.type == "set" and e:child("pubsub"); end);
	end);
end);
