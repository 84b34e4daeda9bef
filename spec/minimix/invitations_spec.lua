local t = require "support";
local muc = require "support.muc";

muc.ordinary("invitations", {}, function (ctx, it)
	local function invite(c, room, jid, reason)
		c:send(("<message to='%s' id='inv'><x xmlns='%s'><invite to='%s'><reason>%s</reason></invite></x></message>"):format(
			room, muc.ns_user, jid, reason or "come"));
	end

	local function invitation(el)
		local x = el.name == "message" and el:child("x", muc.ns_user);
		return x and x:child("invite");
	end

	it("go by the room to whoever is invited, once", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		invite(owner, room, ada.bare, "tea");
		local el = ada:expect(invitation);
		assert.equal(room, el.attr.from);
		local from = muc.bare(invitation(el).attr.from); -- by nick or by address
		assert.truthy(from == room or from == owner.bare, tostring(el));
		assert.equal("tea", invitation(el):child_text("reason"));
		assert.equal(room, el:child("x", "jabber:x:conference").attr.jid);
		muc.settle(owner, ada);
		assert.equal(1, #muc.got(ada, 1, invitation));
		muc.enter(ada, room, "ada");
	end);

	it("of participants don't tell who they are", function ()
		local room = muc.open(ctx);
		local ada, bob = muc.guest(ctx, room, "ada"), muc.client(ctx);
		invite(ada, room, bob.bare);
		assert.equal(room .. "/ada", invitation(bob:expect(invitation)).attr.from);
	end);

	it("bring the password along", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "pw" } });
		local ada = muc.client(ctx);
		invite(owner, room, ada.bare);
		assert.equal("pw", ada:expect(invitation):child("x", muc.ns_user):child_text("password"));
	end);

	it("can be declined", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		invite(owner, room, ada.bare);
		local from = invitation(ada:expect(invitation)).attr.from;
		ada:send(("<message to='%s'><x xmlns='%s'><decline to='%s'><reason>busy</reason></decline></x></message>"):format(room, muc.ns_user, from));
		local el = owner:expect(function (e) return e.name == "message" and e:child("x", muc.ns_user) and e:child("x", muc.ns_user):child("decline"); end);
		local decline = el:child("x", muc.ns_user):child("decline");
		assert.equal(ada.bare, muc.bare(decline.attr.from));
		assert.equal("busy", decline:child_text("reason"));
		assert.equal(room, el.attr.from);
	end);

	it("into a room of members make one a member", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_membersonly"] = "1" } });
		local ada = muc.client(ctx);
		invite(owner, room, ada.bare);
		ada:expect(invitation);
		assert.equal("member", muc.item(muc.enter(ada, room, "ada").self).attr.affiliation);
		local bob = muc.client(ctx);
		invite(ada, room, bob.bare);
		local err = ada:expect({ name = "message", type = "error", id = "inv" });
		assert.equal("forbidden", (t.condition(err:child("error"))));
		assert.equal(ada.jid, err.attr.to);
		muc.settle(bob);
		assert.same({}, muc.got(bob, 1, invitation));
	end);

	it("go directly from one to another (XEP-0249)", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		owner:message(ada.bare, nil, { type = "normal", id = "direct" },
			("<x xmlns='jabber:x:conference' jid='%s' reason='hi' password='pw'/>"):format(room));
		local el = ada:expect({ name = "message", id = "direct" });
		assert.equal(owner.jid, el.attr.from);
		assert.equal(room, el:child("x", "jabber:x:conference").attr.jid);
		assert.equal("pw", el:child("x", "jabber:x:conference").attr.password);
	end);

	it("reach one who is in other rooms of the service", function ()
		local room, owner = muc.open(ctx);
		local other = muc.open(ctx);
		local ada = muc.guest(ctx, other, "ada");
		invite(owner, room, ada.bare);
		assert.equal(room, ada:expect(invitation).attr.from);
	end);

	it("reach one who is in the room already", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		invite(owner, room, ada.bare);
		ada:expect(invitation);
		muc.settle(owner, ada);
		assert.equal(1, #muc.got(ada, 1, invitation));
	end);
end);
