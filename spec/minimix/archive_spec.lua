local t = require "support";
local muc = require "support.muc";

local function archive(c)
	local id = t.client.id();
	c:send(("<iq type='set' id='%s'><query xmlns='urn:xmpp:mam:2' queryid='q'/></iq>"):format(id));
	local out = {};
	for _, m in ipairs(t.only(c:read_until({ name = "iq", id = id }), "message")) do
		local result = m:child("result", "urn:xmpp:mam:2");
		local inner = result and result:child("forwarded"):child("message");
		if inner and (inner:body() or inner.attr.type == "groupchat") then out[#out + 1] = inner:body() or tostring(inner); end
	end
	return out;
end

local function two(ctx)
	local room, owner = muc.open(ctx);
	local phone = muc.guest(ctx, room, "ada", nil, owner);
	local desk = muc.client(ctx, { user = phone.username });
	muc.enter(desk, room, "ada");
	return room, owner, phone, desk;
end

muc.account("an account's archive of rooms", {
	config = "minimix_archive = true; default_archive_policy = true", modules = { "mam" },
}, function (ctx, it)
	it("has each message once, whatever the number of clients", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		phone:expect({ body = "m1" });
		muc.say(phone, room, "m2");
		desk:expect({ body = "m2" });
		muc.say(desk, room, "m3");
		muc.settle(owner, phone, desk);
		assert.same({ "m1", "m2", "m3" }, archive(phone));
		assert.same({ "m1", "m2", "m3" }, archive(owner));
	end);

	it("says of each message which it is, on all clients the same", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		local function id_of(c)
			for _, el in ipairs(muc.saw(c, muc.groupchat(room, "owner", "m1")):children()) do
				if el.name == "stanza-id" and el.attr.by == c.bare then return el.attr.id; end
			end
		end
		assert.truthy(id_of(phone));
		assert.equal(id_of(phone), id_of(desk));
	end);

	it("has no message again that a client is served as history", function ()
		local room, owner, phone, desk = two(ctx);
		for i = 1, 3 do muc.say(owner, room, "m" .. i); end
		muc.settle(owner, phone, desk);
		muc.left(desk, room, "ada");
		assert.equal(3, #muc.enter(desk, room, "ada").history);
		assert.same(t.numbered("m", 3), archive(phone));
	end);

	it("has private messages once, too", function ()
		local room, owner, phone, desk = two(ctx);
		owner:message(room .. "/ada", "psst");
		muc.settle(owner, phone, desk);
		desk:message(room .. "/owner", "what?");
		muc.settle(desk, owner);
		assert.same({ "psst", "what?" }, archive(phone));
	end);

	it("has nothing that's said after the account left", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		muc.settle(owner, phone);
		muc.left(phone, room, "ada");
		muc.left(desk, room, "ada");
		muc.say(owner, room, "m2");
		muc.settle(owner);
		assert.same({ "m1" }, archive(phone));
	end);

	it("has nothing that isn't to be kept", function ()
		local room, owner, phone = two(ctx);
		muc.say(owner, room, "gone", nil, "<no-store xmlns='urn:xmpp:hints'/>");
		muc.say(owner, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
		muc.say(owner, room, "m1");
		muc.settle(owner, phone);
		assert.same({ "m1" }, archive(phone));
	end);
end);

muc.account("an account's archive, by default", { config = "default_archive_policy = true", modules = { "mam" } }, function (ctx, it)
	it("has no messages of rooms", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		muc.say(desk, room, "m2");
		owner:message(phone.bare, "direct");
		muc.settle(owner, phone, desk);
		assert.same({ "direct" }, archive(phone));
	end);
end);

muc.ordinary("private messages in an account's archive", { config = "default_archive_policy = true", modules = { "mam" } }, function (ctx, it)
	it("are there once, on both sides", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		owner:message(room .. "/ada", "psst");
		ada:expect({ body = "psst" });
		ada:message(room .. "/owner", "what?");
		owner:expect({ body = "what?" });
		muc.say(owner, room, "to all");
		muc.settle(owner, ada);
		assert.same({ "psst", "what?" }, archive(ada));
		assert.same({ "psst", "what?" }, archive(owner));
	end);
end);
