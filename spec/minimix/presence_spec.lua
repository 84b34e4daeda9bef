local muc = require "support.muc";

muc.ordinary("presence in a room", {}, function (ctx, it)
	local function three()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	local function directed(c, room, nick, content)
		c:send(("<presence to='%s/%s'>%s</presence>"):format(room, nick, content or ""));
	end

	it("is changed for everybody, oneself included, once", function ()
		local room, owner, ada, bob = three();
		directed(ada, room, "ada", "<show>away</show><status>tea</status>");
		muc.settle(ada, owner, bob);
		for _, c in ipairs { owner, bob } do
			local list = muc.got(c, 1, function (el) return muc.presence_of(room, "ada")(el) and el:child("show"); end);
			assert.equal(1, #list);
			assert.equal("tea", list[1]:child_text("status"));
			assert.equal("", muc.codes(list[1]));
		end
		local own = muc.got(ada, 1, function (el) return muc.presence_of(room, "ada")(el) and el:child("show"); end);
		assert.equal(1, #own);
		assert.equal("110", muc.codes(own[1]));
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("goes back to plain", function ()
		local room, owner, ada, bob = three();
		directed(ada, room, "ada", "<show>xa</show><status>gone</status>");
		directed(ada, room, "ada");
		muc.in_step(ctx, room, owner, ada, bob);
		assert.is_nil(muc.picture(bob, room).ada.show);
	end);

	it("comes in the order in which it changed", function ()
		local room, owner, ada, bob = three();
		for i = 1, 20 do directed(ada, room, "ada", "<status>s" .. i .. "</status>"); end
		muc.settle(ada, owner, bob);
		local seen = {};
		for _, el in ipairs(muc.got(bob, 1, muc.presence_of(room, "ada"))) do
			if el:child("status") then seen[#seen + 1] = el:child_text("status"); end
		end
		assert.same(require "support".numbered("s", 20), seen);
	end);

	it("sent to all one's contacts isn't the room's", function ()
		local room, owner, ada, bob = three();
		ada:presence(nil, "<show>dnd</show>");
		muc.in_step(ctx, room, owner, ada, bob);
		assert.is_nil(muc.picture(bob, room).ada.show);
	end);

	it("carries what else is in it: capabilities, idle time, avatar hash", function ()
		local room, owner, ada, bob = three();
		directed(ada, room, "ada", "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:y' ver='v2='/>"
			.. "<idle xmlns='urn:xmpp:idle:1' since='2026-01-01T00:00:00Z'/>"
			.. "<x xmlns='vcard-temp:x:update'><photo>abcdef</photo></x>");
		for _, c in ipairs { owner, bob } do
			local el = c:expect(function (e) return muc.presence_of(room, "ada")(e) and e:child("idle"); end);
			assert.equal("v2=", el:child("c", "http://jabber.org/protocol/caps").attr.ver);
			assert.equal("2026-01-01T00:00:00Z", el:child("idle", "urn:xmpp:idle:1").attr.since);
			assert.equal("abcdef", el:child("x", "vcard-temp:x:update"):child_text("photo"));
		end
	end);

	it("is that of each room", function ()
		local room, owner, ada = three();
		local other = muc.open(ctx, { owner = owner });
		muc.enter(ada, other, "ada");
		directed(ada, room, "ada", "<show>away</show>");
		directed(ada, other, "ada", "<show>dnd</show>");
		muc.in_step(ctx, room, owner, ada);
		muc.in_step(ctx, other, owner, ada);
		assert.equal("away", muc.picture(owner, room).ada.show);
		assert.equal("dnd", muc.picture(owner, other).ada.show);
	end);

	it("is what one who comes later sees", function ()
		local room, owner, ada = three();
		directed(ada, room, "ada", "<show>chat</show><status>late</status>");
		muc.settle(ada);
		local eve = muc.guest(ctx, room, "eve");
		assert.equal("chat", muc.picture(eve, room).ada.show);
		muc.in_step(ctx, room, owner, ada, eve);
	end);

	it("shows the hats that people wear", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		ctx.srv:eval([[
			local room = host_module("rooms.localhost", "muc").get_room_from_jid(a);
			room:set_affiliation_data(b, "hats", { ["urn:hat:wizard"] = { title = "Wizard", active = true } });
		]], room, ada.bare);
		directed(ada, room, "ada", "<status>hatted</status>");
		for _, c in ipairs { bob, ada } do
			local el = c:expect(function (e) return muc.presence_of(room, "ada")(e) and e:child_text("status") == "hatted"; end);
			assert.equal("Wizard", el:child("hats"):child("hat").attr.title);
		end
		local eve = muc.guest(ctx, room, "eve");
		for _, el in ipairs(eve.entry.others) do
			assert.equal(muc.nick_of(el.attr.from) == "ada", el:child("hats") ~= nil);
		end
	end);

	it("with hats that one puts on oneself shows none", function ()
		local room, _, ada, bob = three();
		local ns = ctx.version == "13" and "urn:xmpp:hats:0" or "xmpp:prosody.im/protocol/hats:1";
		directed(ada, room, "ada", "<status>forged</status><hats xmlns='" .. ns .. "'><hat title='King' uri='urn:king'/></hats>");
		local el = bob:expect(function (e) return muc.presence_of(room, "ada")(e) and e:child_text("status") == "forged"; end);
		assert.is_nil(el:child("hats"));
	end);

	it("sent to the room's own address changes it as well", function ()
		local room, owner, ada, bob = three();
		ada:send("<presence to='" .. room .. "'><show>away</show></presence>");
		muc.in_step(ctx, room, owner, ada, bob);
		assert.equal("away", muc.picture(bob, room).ada.show);
	end);

	it("of several is told apart", function ()
		local room, owner, ada, bob = three();
		directed(ada, room, "ada", "<show>away</show>");
		directed(bob, room, "bob", "<show>dnd</show>");
		directed(owner, room, "owner", "<status>here</status>");
		local truth = muc.in_step(ctx, room, owner, ada, bob);
		assert.equal("away", truth.ada.show);
		assert.equal("dnd", truth.bob.show);
		assert.equal("here", truth.owner.status);
	end);
end);
