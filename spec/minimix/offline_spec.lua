local t = require "support";
local muc = require "support.muc";

local bookmark, retract = muc.bookmark, muc.retract;

local function wait_inside(ctx, room, bare, inside)
	ctx.srv:wait_for(([[
		local room = host_module("rooms.localhost", "muc").get_room_from_jid(%q);
		return (room and room:get_occupant_jid(%q) ~= nil or false) == %s;
	]]):format(room, bare, tostring(inside)), 5, bare .. (inside and " in " or " out of ") .. room);
end

-- A room, its owner, and a client that has it bookmarked with autojoin and is in it.
local function bookmarked(ctx)
	local room, owner = muc.open(ctx);
	local ada = muc.client(ctx);
	bookmark(ada, room, true, "ada");
	wait_inside(ctx, room, ada.bare, true);
	muc.enter(ada, room, "ada");
	return room, owner, ada;
end

muc.account("bookmarks (XEP-0402)", {}, function (ctx, it)
	it("with autojoin the account joins, under the nick in it", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		bookmark(ada, room, true, "lovelace");
		wait_inside(ctx, room, ada.bare, true);
		owner:expect(muc.presence_of(room, "lovelace"));
		assert.equal("lovelace", muc.enter(ada, room, "lovelace").nick);
		muc.in_step(ctx, room, owner, ada);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
	end);

	it("a client that asks for another nick than the bookmark's is told: 210", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		bookmark(ada, room, true, "lovelace");
		wait_inside(ctx, room, ada.bare, true);
		local entry = muc.enter(ada, room, "other");
		assert.equal("lovelace", entry.nick);
		assert.equal("110 210", muc.codes(entry.self));
	end);

	it("without autojoin change nothing", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		bookmark(ada, room, false, "lovelace");
		muc.settle(ada);
		assert.is_nil(muc.truth(ctx.srv, room).lovelace);
		assert.equal("ada", muc.enter(ada, room, "ada").nick);
	end);

	it("of the address of an account of this server join nothing", function ()
		local ada, friend = muc.client(ctx), muc.client(ctx);
		muc.settle(ada, friend);
		local mark = muc.mark(friend);
		muc.bookmark(ada, friend.bare, true, "ada");
		muc.settle(ada, friend);
		assert.same({}, muc.got(friend, mark, { name = "presence" }));
		assert.is_false(ctx.srv:eval("return require 'enjamb'.minimix.has(a, b)", ada.bare, friend.bare));
	end);

	it("have a password", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "pw" } });
		local ada = muc.client(ctx);
		bookmark(ada, room, true, "ada", "pw");
		wait_inside(ctx, room, ada.bare, true);
		muc.in_step(ctx, room, owner);
	end);

	it("that are retracted make the account leave, and its clients hear of it", function ()
		local room, owner, ada = bookmarked(ctx);
		retract(ada, room);
		wait_inside(ctx, room, ada.bare, false);
		assert.truthy(muc.has_code(muc.saw(ada, muc.presence_of(room, "ada", "unavailable")), "110"));
		muc.in_step(ctx, room, owner);
	end);

	it("of which autojoin is taken away make the account leave", function ()
		local room, owner, ada = bookmarked(ctx);
		bookmark(ada, room, false, "ada");
		wait_inside(ctx, room, ada.bare, false);
		assert.truthy(muc.has_code(muc.saw(ada, muc.presence_of(room, "ada", "unavailable")), "110"));
		muc.in_step(ctx, room, owner);
	end);

	it("that change the nick change the account's, for all", function ()
		local room, owner, ada = bookmarked(ctx);
		bookmark(ada, room, true, "countess");
		assert.truthy(muc.has_code(muc.saw(ada, muc.presence_of(room, "ada", "unavailable")), "303"));
		muc.in_step(ctx, room, owner, ada);
		assert.truthy(muc.truth(ctx.srv, room).countess);
	end);

	it("keep their nick when a client changes its own in the room", function ()
		local room, owner, ada = bookmarked(ctx);
		ada:send(("<presence to='%s/countess'/>"):format(room));
		ada:expect(muc.presence_of(room, "countess", nil, "110"));
		local items = ada:iq("get", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub>")
			:child("pubsub"):child("items"):children();
		assert.equal(1, #items);
		assert.equal("ada", items[1]:child("conference"):child_text("nick"));
		-- published again as it was, it changes nothing
		bookmark(ada, room, true, "ada");
		muc.settle(ada, owner);
		assert.truthy(muc.in_step(ctx, room, owner, ada).countess);
		-- with another, it does
		bookmark(ada, room, true, "lovelace");
		muc.saw(ada, muc.presence_of(room, "lovelace", nil, "110"));
		assert.truthy(muc.in_step(ctx, room, owner, ada).lovelace);
	end);

	it("with autojoin keep the account in a room that its last client leaves", function ()
		local room, owner, ada = bookmarked(ctx);
		muc.left(ada, room, "ada");
		muc.say(owner, room, "still there?");
		muc.settle(owner, ada);
		assert.truthy(muc.in_step(ctx, room, owner).ada);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
		assert.same({}, muc.got(ada, 1, { body = "still there?" }));
		assert.same({ "still there?" }, t.bodies(muc.enter(ada, room, "ada").history));
	end);

	it("are one account's, not another's", function ()
		local room = muc.open(ctx);
		local ada, bob = muc.client(ctx), muc.client(ctx);
		bookmark(ada, room, true, "ada");
		wait_inside(ctx, room, ada.bare, true);
		muc.settle(bob);
		assert.same({}, muc.got_from(bob, 1, room));
	end);
end);

muc.account("with no device online, where it's bookmarked (the default)", {}, function (ctx, it)
	it("the account stays in rooms with autojoin, shown as away", function ()
		local room, owner, ada = bookmarked(ctx);
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		muc.settle(owner);
		assert.equal("xa", muc.truth(ctx.srv, room).ada.show);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
		assert.equal("xa", muc.picture(owner, room).ada.show);
	end);

	it("the account leaves the others", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		local also = muc.client(ctx, { user = ada.username });
		muc.enter(also, room, "ada");
		ada:close();
		muc.settle(owner);
		assert.truthy(muc.truth(ctx.srv, room).ada);
		also:close();
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);

	it("the next device is served what it missed, and the account is present again", function ()
		local room, owner, ada = bookmarked(ctx);
		muc.say(owner, room, "m1");
		ada:expect({ body = "m1" });
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		for i = 2, 5 do muc.say(owner, room, "m" .. i); end
		muc.left(muc.guest(ctx, room, "bob", nil, owner), room, "bob");
		muc.guest(ctx, room, "eve", nil, owner);
		muc.settle(owner);
		local back = muc.client(ctx, { user = ada.username });
		local entry = muc.enter(back, room, "ada");
		assert.same({ "eve", "owner" }, entry.nicks);
		assert.same(t.numbered("m", 5), t.bodies(entry.history));
		for _, el in ipairs(entry.history) do assert.truthy(t.delay(el)); end
		muc.in_step(ctx, room, owner, back);
		assert.is_nil(muc.truth(ctx.srv, room).ada.show);
		assert.same({}, muc.got(owner, 1, muc.presence_of(room, "ada", "unavailable")));
	end);

	it("the account that was thrown out meanwhile joins as if for the first time", function ()
		local room, owner, ada = bookmarked(ctx);
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare });
		wait_inside(ctx, room, ada.bare, false);
		local back = muc.client(ctx, { user = ada.username });
		assert.equal("forbidden", (muc.refused(back, room, "ada")));
	end);
end);

muc.account("with no device online, where it's to stay", {
	config = 'minimix_offline = "stay"; minimix_archive = true; default_archive_policy = true', modules = { "mam" },
}, function (ctx, it)
	local function asleep()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		muc.settle(owner);
		return room, owner, ada;
	end

	it("the account stays in any room, as xa", function ()
		local room, owner = asleep();
		assert.equal("xa", muc.in_step(ctx, room, owner).ada.show);
	end);

	it("a broken connection is the same", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		ada:cut();
		ctx.srv:wait_gone(ada.jid);
		assert.equal("xa", muc.in_step(ctx, room, owner).ada.show);
	end);

	it("leaving is leaving nevertheless", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.left(ada, room, "ada");
		muc.in_step(ctx, room, owner);
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		assert.is_nil(muc.truth(ctx.srv, room).ada);
	end);

	it("messages aren't bounced, reach the archive and the push service's hook", function ()
		local room, owner, ada = asleep();
		ctx.srv:eval([[
			kept.pushed = {};
			if not kept.hooked then
				kept.hooked = true;
				host_module("localhost", "minimix").module:hook("message/bare/groupchat", function (event)
					table.insert(kept.pushed, (event.stanza:get_child_text("body")));
				end, 10);
			end
		]]);
		for i = 1, 3 do muc.say(owner, room, "m" .. i); end
		owner:message(room .. "/ada", "psst");
		muc.settle(owner);
		assert.same({}, muc.got(owner, 1, { type = "error" }));
		assert.truthy(muc.truth(ctx.srv, room).ada);
		assert.same({ "m1", "m2", "m3" }, ctx.srv:eval("return kept.pushed"));
		local back = ctx:login { user = ada.username };
		back:send("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>");
		local bodies = {};
		for _, m in ipairs(t.only(back:read_until({ name = "iq", id = "q" }), "message")) do
			local result = m:child("result", "urn:xmpp:mam:2");
			if result then bodies[#bodies + 1] = result:child("forwarded"):child("message"):body(); end
		end
		assert.same({ "m1", "m2", "m3", "psst" }, bodies);
	end);

	it("requests to the occupant are answered with an error, not left", function ()
		local room, owner = asleep();
		local id = t.client.id();
		owner:send(("<iq type='get' id='%s' to='%s/ada'><query xmlns='jabber:iq:version'/></iq>"):format(id, room));
		local answer = owner:expect({ name = "iq", id = id });
		assert.equal("error", answer.attr.type);
		muc.settle(owner);
		assert.truthy(muc.truth(ctx.srv, room).ada);
	end);

	it("other devices that are only online get nothing until they join", function ()
		local room, owner, ada = asleep();
		local back = muc.client(ctx, { user = ada.username });
		muc.say(owner, room, "m1");
		muc.settle(owner, back);
		assert.same({}, muc.got_from(back, 1, room));
		assert.same({ "m1" }, t.bodies(muc.enter(back, room, "ada").history));
		assert.is_nil(muc.in_step(ctx, room, owner, back).ada.show);
	end);
end);

muc.account("with no device online, where it's to leave", { config = 'minimix_offline = "leave"' }, function (ctx, it)
	it("the account leaves all rooms, bookmarked or not", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		bookmark(ada, room, true, "ada");
		muc.enter(ada, room, "ada");
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		wait_inside(ctx, room, ada.bare, false);
		muc.in_step(ctx, room, owner);
	end);
end);
