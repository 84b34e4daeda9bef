-- What the experiment that this grew from couldn't: "You can never leave. You will never see anyone leave. Being kicked is
-- not handled", and later: bookmarks, outgoing presence, nicknames.

local t = require "support";
local muc = require "support.muc";

muc.account("leaving, being left, being thrown out", {}, function (ctx, it)
	local function three()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	it("one can leave, and is told so", function ()
		local room, owner, ada, bob = three();
		local own = muc.left(ada, room, "ada");
		assert.equal(ada.jid, own.attr.to);
		muc.in_step(ctx, room, owner, bob);
		assert.is_nil(muc.truth(ctx.srv, room).ada);
	end);

	it("one can leave, and the account has no session in the room any more", function ()
		local room, owner, ada, bob = three();
		muc.left(ada, room, "ada");
		local expected = { bob.bare, owner.bare };
		table.sort(expected);
		assert.same(expected, muc.sessions(ctx.srv, room));
	end);

	it("one can leave and join again, ten times", function ()
		local room, owner, ada, bob = three();
		for i = 1, 10 do
			muc.left(ada, room, "ada");
			muc.say(bob, room, "m" .. i);
			bob:expect({ body = "m" .. i });
			assert.same(t.numbered("m", i), t.bodies(muc.enter(ada, room, "ada").history));
		end
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("one can leave by going offline with two clients in two rooms", function ()
		local room, owner, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		local other = muc.open(ctx, { owner = owner });
		muc.enter(also, other, "ada");
		ada:presence("unavailable");
		also:presence("unavailable");
		muc.settle(ada, also);
		muc.in_step(ctx, room, owner, bob);
		muc.in_step(ctx, other, owner);
		assert.is_nil(muc.truth(ctx.srv, room).ada);
		assert.is_nil(muc.truth(ctx.srv, other).ada);
	end);

	it("all of one's clients see others leave", function ()
		local room, owner, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		muc.left(bob, room, "bob", "<status>bye</status>");
		for _, c in ipairs { ada, also } do
			local el, n = muc.saw(c, muc.presence_of(room, "bob", "unavailable"));
			assert.equal(1, n);
			assert.equal(c.jid, el.attr.to);
			assert.equal("bye", el:child_text("status"));
		end
		muc.in_step(ctx, room, owner, ada, also);
	end);

	it("one sees others leave whose connection breaks, or who are thrown out", function ()
		local room, owner, ada, bob = three();
		bob:cut();
		ada:expect(muc.presence_of(room, "bob", "unavailable"));
		local eve = muc.guest(ctx, room, "eve", nil, owner, ada);
		muc.admin_ok(owner, room, { role = "none", nick = "eve" });
		assert.equal("307", muc.codes(muc.saw(ada, muc.presence_of(room, "eve", "unavailable"))));
		muc.in_step(ctx, room, owner, ada);
		assert.equal("110 307", muc.codes(muc.saw(eve, muc.presence_of(room, "eve", "unavailable"))));
	end);

	it("who comes later isn't shown those who have left", function ()
		local room, owner, ada, bob = three();
		muc.left(bob, room, "bob");
		local also = muc.client(ctx, { user = ada.username });
		assert.same({ "owner" }, muc.enter(also, room, "ada").nicks);
		muc.in_step(ctx, room, owner, ada, also);
	end);

	it("a kick is told to all clients, and nothing stale is served afterwards", function ()
		local room, owner, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		muc.admin_ok(owner, room, { role = "none", nick = "ada" });
		for _, c in ipairs { ada, also } do
			assert.equal("110 307", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable"))));
		end
		muc.left(bob, room, "bob");
		muc.say(owner, room, "quiet");
		owner:expect({ body = "quiet" });
		local entry = muc.enter(also, room, "ada");
		assert.same({ "owner" }, entry.nicks);
		assert.same({ "quiet" }, t.bodies(entry.history));
	end);

	it("a ban is told to all clients, and none gets in again", function ()
		local room, owner, ada = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare });
		for _, c in ipairs { ada, also } do
			assert.equal("110 301", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable"))));
			assert.equal("forbidden", (muc.refused(c, room, "ada")));
		end
	end);

	it("the end of a room is told to all clients, and it's a new room that one makes then", function ()
		local room, owner, ada = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		owner:iq("set", ("<query xmlns='%s'><destroy jid='next@rooms.localhost'><reason>over</reason></destroy></query>"):format(muc.ns_owner), room);
		for _, c in ipairs { ada, also } do
			local own, n = muc.saw(c, muc.presence_of(room, "ada", "unavailable"));
			assert.equal(1, n);
			assert.equal("next@rooms.localhost", own:child("x", muc.ns_user):child("destroy").attr.jid);
		end
		assert.equal("110 201", muc.codes(muc.enter(also, room, "ada").self));
		muc.configure(also, room);
		assert.same({}, muc.enter(ada, room, "ada").nicks);
		muc.in_step(ctx, room, ada, also);
	end);

	it("outgoing presence reaches the room from whichever client", function ()
		local room, owner, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		for i, c in ipairs { ada, also, ada, also } do
			c:send(("<presence to='%s/ada'><show>away</show><status>s%d</status></presence>"):format(room, i));
			c:sync();
			assert.equal("s" .. i, muc.in_step(ctx, room, owner, bob, ada, also).ada.status);
		end
	end);

	it("a nick is changed from whichever client, and one leaves under the new one", function ()
		local room, owner, ada, bob = three();
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		for i, c in ipairs { ada, also, ada } do
			c:send(("<presence to='%s/ada%d'/>"):format(room, i));
			for _, x in ipairs { ada, also, bob } do x:expect(muc.presence_of(room, "ada" .. i)); end
		end
		muc.left(ada, room, "ada3");
		muc.in_step(ctx, room, owner, bob, also);
		muc.left(also, room, "ada3");
		muc.in_step(ctx, room, owner, bob);
	end);

	it("a room that throws out all at once (332) tells all clients, and all come back", function ()
		local room, owner, ada, bob = three();
		muc.configure(owner, room, { ["muc#roomconfig_persistentroom"] = "1" });
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		ctx.srv:eval([[
			local x = st.stanza("x", { xmlns = "http://jabber.org/protocol/muc#user" }):tag("status", { code = "332" }):up();
			host_module("rooms.localhost", "muc").get_room_from_jid(a):clear(x);
		]], room);
		for _, c in ipairs { ada, also } do
			assert.equal("110 332", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable"))));
		end
		for c, nick in pairs { [also] = "ada"; [ada] = "ada"; [bob] = "bob"; [owner] = "owner" } do muc.enter(c, room, nick); end
		muc.in_step(ctx, room, owner, bob, ada, also);
	end);
end);
