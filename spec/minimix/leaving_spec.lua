local t = require "support";
local muc = require "support.muc";

muc.ordinary("leaving a room", {}, function (ctx, it)
	local function two()
		local room, owner = muc.open(ctx);
		return room, owner, muc.guest(ctx, room, "ada", nil, owner);
	end

	it("is answered, and seen by the others, once", function ()
		local room, owner, ada = two();
		local own = muc.left(ada, room, "ada");
		assert.equal(ada.jid, own.attr.to);
		assert.equal("none", muc.item(own).attr.role);
		muc.settle(ada, owner);
		local seen = muc.got(owner, 1, muc.presence_of(room, "ada", "unavailable"));
		assert.equal(1, #seen);
		assert.equal("none", muc.item(seen[1]).attr.role);
		assert.equal("", muc.codes(seen[1]));
		assert.same({}, muc.got(ada, 1, muc.presence_of(room, "owner", "unavailable")));
		muc.in_step(ctx, room, owner);
	end);

	it("takes along the status", function ()
		local room, owner, ada = two();
		muc.leave(ada, room, "ada", "<status>gone where the goblins go</status>");
		local el = owner:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.equal("gone where the goblins go", el:child_text("status"));
	end);

	it("ends the messages, and one may not send any", function ()
		local room, owner, ada = two();
		muc.left(ada, room, "ada");
		local mark = muc.mark(ada);
		muc.say(owner, room, "she's gone");
		muc.settle(owner, ada);
		assert.same({}, muc.got_from(ada, mark, room));
		local id = muc.say(ada, room, "I'm not");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
		assert.equal(room, err.attr.from);
		assert.equal(ada.jid, err.attr.to);
	end);

	it("all rooms is what going offline does", function ()
		local room, owner, ada = two();
		local other = muc.open(ctx, { owner = owner });
		muc.enter(ada, other, "lovelace");
		ada:presence("unavailable");
		muc.settle(ada, owner);
		assert.equal(1, #muc.got(owner, 1, muc.presence_of(room, "ada", "unavailable")));
		assert.equal(1, #muc.got(owner, 1, muc.presence_of(other, "lovelace", "unavailable")));
		muc.in_step(ctx, room, owner);
		muc.in_step(ctx, other, owner);
	end);

	it("is what the end of the stream does", function ()
		local room, owner, ada = two();
		ada:close();
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);

	it("is what a broken connection does", function ()
		local room, owner, ada = two();
		ada:cut();
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.settle(owner);
		assert.equal(1, #muc.got(owner, 1, muc.presence_of(room, "ada", "unavailable")));
		muc.in_step(ctx, room, owner);
	end);

	it("is what another connection with one's resource does, unless it joins in a moment", function ()
		local room, owner, ada = two();
		local again = muc.client(ctx, { user = ada.username, resource = ada.resource });
		assert.same({ "owner" }, muc.enter(again, room, "ada").nicks);
		muc.settle(owner, again);
		assert.equal(0, #muc.got(owner, 1, muc.presence_of(room, "ada", "unavailable")));
		muc.in_step(ctx, room, owner, again);
		again = muc.client(ctx, { user = ada.username, resource = ada.resource });
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
		assert.same({ "owner" }, muc.enter(again, room, "ada").nicks);
		muc.in_step(ctx, room, owner, again);
	end);

	it("is not heard of by another connection with one's resource, but what is for it alone", function ()
		local room, owner, ada = two();
		local again = muc.client(ctx, { user = ada.username, resource = ada.resource });
		muc.say(owner, room, "to all");
		owner:send(("<message to='%s/ada' type='chat'><body>to ada</body></message>"):format(room));
		again:expect({ body = "to ada" });
		assert.same({ "to ada" }, t.bodies(again.seen));
		assert.same({ "to all" }, t.bodies(muc.enter(again, room, "ada").history));
		muc.in_step(ctx, room, owner, again);
	end);

	it("one room doesn't touch the other", function ()
		local room, owner, ada = two();
		local other = muc.open(ctx, { owner = owner });
		muc.enter(ada, other, "ada");
		muc.left(ada, room, "ada");
		muc.say(owner, other, "still here");
		ada:expect(muc.groupchat(other, "owner", "still here"));
		muc.in_step(ctx, other, owner, ada);
		muc.in_step(ctx, room, owner);
	end);

	it("as the last one ends a room that isn't persistent", function ()
		local room, owner, ada = two();
		muc.left(owner, room, "owner");
		muc.left(ada, room, "ada");
		local entry = muc.enter(ada, room, "ada");
		assert.equal("110 201", muc.codes(entry.self));
		assert.equal("owner", muc.item(entry.self).attr.affiliation);
		assert.same({}, entry.history);
	end);

	it("and coming back is like coming for the first time", function ()
		local room, owner, ada = two();
		muc.say(owner, room, "one");
		ada:expect({ body = "one" });
		muc.left(ada, room, "ada");
		muc.say(owner, room, "two");
		muc.settle(owner, ada);
		muc.guest(ctx, room, "bob", nil, owner);
		local entry = muc.enter(ada, room, "ada");
		assert.same({ "bob", "owner" }, entry.nicks);
		assert.same({ "one", "two" }, t.bodies(entry.history));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("that one isn't in is met with silence", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		muc.leave(ada, room, "ada");
		muc.settle(ada);
		assert.same({}, muc.got_from(ada, 1, room));
	end);

	it("works by the room's own address, too", function ()
		local room, owner, ada = two();
		ada:send("<presence type='unavailable' to='" .. room .. "'/>");
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);

	it("is seen of each of many, in the order in which they leave", function ()
		local room, owner = muc.open(ctx);
		local watcher = muc.guest(ctx, room, "watcher", nil, owner);
		local list = {};
		for i = 1, 10 do list[i] = muc.guest(ctx, room, "n" .. i); end
		for i, c in ipairs(list) do muc.left(c, room, "n" .. i); end
		muc.settle(owner, watcher);
		for _, c in ipairs { owner, watcher } do
			local seen = {};
			for _, el in ipairs(t.only(c.seen, { name = "presence", type = "unavailable" })) do
				seen[#seen + 1] = muc.nick_of(el.attr.from);
			end
			assert.same(t.numbered("n", 10), seen);
		end
		muc.in_step(ctx, room, owner, watcher);
	end);
end);

-- Not every client says that it's available before it joins.
muc.ordinary("clients that aren't available to anybody", {}, function (ctx, it)
	it("join, talk, get private messages and requests, and leave", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx, { available = false });
		assert.same({ "owner" }, muc.enter(ada, room, "ada").nicks);
		muc.say(ada, room, "hello");
		muc.all_hear({ owner, ada }, room, "ada", "hello");
		owner:message(room .. "/ada", "psst");
		ada:expect({ body = "psst" });
		owner:send(("<iq type='get' id='v' to='%s/ada'><query xmlns='jabber:iq:version'/></iq>"):format(room));
		local iq = ada:expect({ name = "iq", type = "get" });
		ada:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(iq.attr.id), iq.attr.from));
		assert.equal("result", owner:expect({ name = "iq", id = "v" }).attr.type);
		muc.in_step(ctx, room, owner, ada);
		muc.left(ada, room, "ada");
		muc.in_step(ctx, room, owner);
	end);

	it("leave when their stream ends or breaks", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx, { available = false });
		muc.enter(ada, room, "ada");
		local bob = muc.client(ctx, { available = false });
		muc.enter(bob, room, "bob");
		ada:close();
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		bob:cut();
		owner:expect(muc.presence_of(room, "bob", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);

	it("stay in the room when they become available and change that", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx, { available = false });
		muc.enter(ada, room, "ada");
		ada:presence();
		ada:presence(nil, "<priority>-5</priority>");
		muc.in_step(ctx, room, owner, ada);
		owner:message(room .. "/ada", "psst");
		muc.say(owner, room, "hello");
		ada:expect({ body = "psst" });
		ada:expect({ body = "hello" });
	end);
end);
