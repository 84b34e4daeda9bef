local t = require "support";
local muc = require "support.muc";

muc.ordinary("joining a room", {}, function (ctx, it)
	it("brings the others, oneself, the history and the subject, in this order", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.say(owner, room, "hello");
		muc.settle(owner);
		muc.say(ada, room, "hi");
		muc.settle(ada);
		local bob = muc.client(ctx);
		local entry = muc.enter(bob, room, "bob");
		assert.same({ "ada", "owner" }, entry.nicks);
		local kinds = {};
		for _, el in ipairs(entry.all) do
			kinds[#kinds + 1] = el.name == "presence" and (muc.has_code(el, "110") and "self" or "other")
				or el:child("subject") and "subject" or el:body();
		end
		assert.same({ "other", "other", "self", "hello", "hi", "subject" }, kinds);
		assert.equal("bob", entry.nick);
	end);

	it("addresses all that comes to the client that joined", function ()
		local room, owner = muc.open(ctx);
		muc.say(owner, room, "hello");
		muc.settle(owner);
		local ada = muc.client(ctx);
		for _, el in ipairs(muc.enter(ada, room, "ada").all) do assert.equal(ada.jid, el.attr.to, tostring(el)); end
	end);

	it("is answered under the id of the presence", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		local entry = muc.enter(ada, room, "ada", { id = "join-17" });
		assert.equal("join-17", entry.self.attr.id);
	end);

	it("is seen by the others, once", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.settle(ada, owner);
		local seen = muc.got(owner, 1, muc.presence_of(room, "ada"));
		assert.equal(1, #seen);
		assert.equal(owner.jid, seen[1].attr.to);
		assert.equal("participant", muc.item(seen[1]).attr.role);
		assert.equal("none", muc.item(seen[1]).attr.affiliation);
		-- the owner is a moderator, and may see who it is
		assert.equal(ada.bare, muc.bare(muc.item(seen[1]).attr.jid));
		assert.equal("", muc.codes(seen[1]));
	end);

	it("shows no real address to those who may not see it", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		local bob = muc.guest(ctx, room, "bob");
		muc.settle(owner, ada, bob);
		for _, el in ipairs(bob.entry.others) do assert.is_nil(muc.item(el).attr.jid); end
		assert.is_nil(muc.item(muc.got(ada, 1, muc.presence_of(room, "bob"))[1]).attr.jid);
		assert.equal(bob.bare, muc.bare(muc.item(bob.entry.self).attr.jid));
	end);

	it("takes along show, status and what else is in the presence", function ()
		local room, owner = muc.open(ctx);
		muc.guest(ctx, room, "ada", { extra = "<show>dnd</show><status>busy</status><priority>5</priority>"
			.. "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:x' ver='abc='/>" });
		local el = owner:expect(muc.presence_of(room, "ada"));
		assert.equal("dnd", el:child_text("show"));
		assert.equal("busy", el:child_text("status"));
		assert.equal("abc=", el:child("c", "http://jabber.org/protocol/caps").attr.ver);
		assert.is_nil(el:child("x", muc.ns));
	end);

	it("with many in it shows them all", function ()
		local room, owner = muc.open(ctx);
		local nicks = { "owner" };
		for i = 1, 25 do
			local nick = ("n%02d"):format(i);
			muc.guest(ctx, room, nick);
			table.insert(nicks, nick);
		end
		table.sort(nicks);
		local last = muc.guest(ctx, room, "last");
		assert.same(nicks, last.entry.nicks);
		muc.in_step(ctx, room, owner, last);
	end);

	it("wants the password of a room that has one", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "cauldron" } });
		local ada = muc.client(ctx);
		local condition, kind, el = muc.refused(ada, room, "ada");
		assert.equal("not-authorized", condition);
		assert.equal("auth", kind);
		assert.equal(room, muc.bare(el.attr.from));
		assert.equal("not-authorized", (muc.refused(ada, room, "ada", { password = "kettle" })));
		muc.settle(owner, ada);
		assert.same({}, muc.got(owner, 1, muc.presence_of(room, "ada")));
		assert.equal("ada", muc.enter(ada, room, "ada", { password = "cauldron" }).nick);
		muc.in_step(ctx, room, owner, ada);
	end);

	it("leaves nothing behind when it's refused", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "cauldron" } });
		local ada = muc.client(ctx);
		muc.refused(ada, room, "ada");
		local mark = muc.mark(ada);
		muc.say(owner, room, "secret");
		local id = muc.say(ada, room, "let me in");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
		muc.settle(owner, ada);
		assert.same({}, t.bodies(muc.got(ada, mark, { type = "groupchat" })));
		local ping = ada:ping(room .. "/ada");
		assert.equal("error", ada:expect({ name = "iq", id = ping }).attr.type);
	end);

	it("of members only is for members", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_membersonly"] = "1" } });
		local ada = muc.client(ctx);
		local condition, kind = muc.refused(ada, room, "ada");
		assert.equal("registration-required", condition);
		assert.equal("auth", kind);
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		local entry = muc.enter(ada, room, "ada");
		assert.equal("member", muc.item(entry.self).attr.affiliation);
	end);

	it("is forbidden to those who are banned", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare });
		local condition, kind = muc.refused(ada, room, "ada");
		assert.equal("forbidden", condition);
		assert.equal("auth", kind);
		muc.admin_ok(owner, room, { affiliation = "none", jid = ada.bare });
		muc.enter(ada, room, "ada");
	end);

	it("under a nick that's taken is a conflict, and another will do", function ()
		local room, owner = muc.open(ctx);
		local ada, other = muc.guest(ctx, room, "ada"), muc.client(ctx);
		local condition, kind = muc.refused(other, room, "ada");
		assert.equal("conflict", condition);
		assert.equal("cancel", kind);
		assert.same({ "ada", "owner" }, muc.enter(other, room, "ada2").nicks);
		muc.in_step(ctx, room, owner, ada, other);
	end);

	it("fails with the error of a room that's full", function ()
		local room = muc.open(ctx);
		ctx.srv:eval([[
			host_module("rooms.localhost", "muc").module:hook("muc-occupant-pre-join", function (event)
				if event.room.jid ~= kept.full then return; end
				event.origin.send(st.error_reply(event.stanza, "wait", "service-unavailable", "full", event.room.jid));
				return true;
			end, 100);
			kept.full = a;
		]], room);
		local ada = muc.client(ctx);
		local condition, kind, el = muc.refused(ada, room, "ada");
		assert.equal("service-unavailable", condition);
		assert.equal("wait", kind);
		assert.equal("full", el:child("error"):child_text("text"));
		ctx.srv:eval("kept.full = nil");
		muc.enter(ada, room, "ada");
	end);

	it("fails on a host that can't be reached", function ()
		local ada = muc.client(ctx);
		local condition, _, el = muc.refused(ada, "room@rooms.invalid", "ada");
		assert.equal("not-allowed", condition); -- this server talks to no others
		assert.equal("room@rooms.invalid/ada", el.attr.from);
	end);

	it("fails while the room is locked", function ()
		local room, owner = muc.new_room(), muc.client(ctx);
		muc.enter(owner, room, "owner");
		local ada = muc.client(ctx);
		assert.equal("item-not-found", (muc.refused(ada, room, "ada")));
		muc.configure(owner, room);
		muc.enter(ada, room, "ada");
	end);

	it("again, while in it, brings it all again", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.say(owner, room, "hello");
		ada:expect(muc.groupchat(room, "owner", "hello"));
		local entry = muc.enter(ada, room, "ada");
		assert.same({ "owner" }, entry.nicks);
		assert.same({ "hello" }, t.bodies(entry.history));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("doesn't touch the other rooms that one is in", function ()
		local one, owner = muc.open(ctx);
		local two = muc.open(ctx, { owner = owner, nick = "boss" });
		local ada = muc.guest(ctx, one, "ada");
		assert.same({ "boss" }, muc.enter(ada, two, "lovelace").nicks);
		muc.in_step(ctx, one, owner, ada);
		muc.in_step(ctx, two, owner, ada);
		muc.say(owner, one, "in one");
		muc.say(owner, two, "in two");
		assert.equal(one .. "/owner", ada:expect({ body = "in one" }).attr.from);
		assert.equal(two .. "/boss", ada:expect({ body = "in two" }).attr.from);
	end);

	it("of several rooms at once, without waiting, works for each", function ()
		local ada, list = muc.client(ctx), {};
		for i = 1, 8 do list[i] = muc.open(ctx); end
		for i, room in ipairs(list) do muc.join(ada, room, "ada" .. i); end
		ada:expect(function (el) return el.name == "message" and el:child("subject") and el.attr.from == list[8]; end);
		muc.settle(ada);
		for i, room in ipairs(list) do
			local own = muc.got(ada, 1, muc.presence_of(room, "ada" .. i));
			assert.equal(1, #own);
			assert.is_true(muc.has_code(own[1], "110"));
			muc.in_step(ctx, room, ada);
		end
	end);

	it("says that addresses are shown where they are", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_whois"] = "anyone" } });
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		local bob = muc.guest(ctx, room, "bob");
		assert.equal("100 110", muc.codes(bob.entry.self));
		for _, el in ipairs(bob.entry.others) do
			local who = muc.nick_of(el.attr.from) == "ada" and ada or owner;
			assert.equal(who.bare, muc.bare(muc.item(el).attr.jid));
		end
	end);

	it("of a moderated room makes one a visitor", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		assert.equal("visitor", muc.item(ada.entry.self).attr.role);
		muc.in_step(ctx, room, owner, ada);
	end);

	it("without XEP-0045's element isn't possible", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		assert.equal("item-not-found", (muc.refused(ada, room, "ada", { x = false })));
		assert.equal("item-not-found", (muc.refused(ada, muc.new_room(), "ada", { x = false })));
	end);

	it("gives each occupant an id that stays the same", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		local function id(el) return el:child("occupant-id", muc.ns_occupant_id).attr.id; end
		local first = id(ada.entry.self);
		assert.not_equal(first, id(ada.entry.others[1]));
		assert.equal(first, id(muc.got(owner, 1, muc.presence_of(room, "ada"))[1]));
		muc.left(ada, room, "ada");
		local entry = muc.enter(ada, room, "other");
		assert.equal(first, id(entry.self));
		muc.say(ada, room, "hello");
		assert.equal(first, id(owner:expect(muc.groupchat(room, "other", "hello"))));
	end);
end);

muc.ordinary("joining a room by other transports", { modules = { "websocket"; "bosh" }, with_http = true }, function (ctx, it)
	for _, how in ipairs { "websocket", "bosh" } do
		it("works the same: " .. how, function ()
			local room, owner = muc.open(ctx);
			muc.say(owner, room, "before");
			muc.settle(owner);
			local ada = muc.client(ctx, { how = how });
			local entry = muc.enter(ada, room, "ada");
			assert.same({ "owner" }, entry.nicks);
			assert.same({ "before" }, t.bodies(entry.history));
			muc.say(ada, room, "hello");
			muc.all_hear({ owner, ada }, room, "ada", "hello");
			owner:message(room .. "/ada", "psst");
			assert.equal(ada.jid, ada:expect({ body = "psst" }).attr.to);
			muc.in_step(ctx, room, owner, ada);
			muc.left(ada, room, "ada");
			muc.in_step(ctx, room, owner);
		end);
	end
end);
