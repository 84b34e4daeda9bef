local t = require "support";
local muc = require "support.muc";

muc.ordinary("making and keeping rooms", {}, function (ctx, it)
	local function destroy(c, room, content, jid)
		return c:iq("set", ("<query xmlns='%s'><destroy%s>%s</destroy></query>"):format(muc.ns_owner,
			jid and " jid='" .. jid .. "'" or "", content or ""), room);
	end

	local function form_of(c, room)
		local answer = c:iq("get", "<query xmlns='" .. muc.ns_owner .. "'/>", room);
		if answer.attr.type == "error" then return nil, (t.condition(answer:child("error"))); end
		local out = {};
		for _, f in ipairs(answer:child("query"):child("x", "jabber:x:data"):children()) do
			if f.attr.var then out[f.attr.var] = f:child_text("value") or ""; end
		end
		return out;
	end

	it("the first one makes the room and owns it: 201", function ()
		local room, owner = muc.new_room(), muc.client(ctx);
		local entry = muc.enter(owner, room, "owner");
		assert.equal("110 201", muc.codes(entry.self));
		assert.equal("owner", muc.item(entry.self).attr.affiliation);
		assert.equal("moderator", muc.item(entry.self).attr.role);
		assert.same({}, entry.nicks);
		muc.configure(owner, room);
		local ada = muc.client(ctx);
		assert.equal("110", muc.codes(muc.enter(ada, room, "ada").self));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("a room is configured before anybody else comes", function ()
		local room, owner = muc.new_room(), muc.client(ctx);
		muc.enter(owner, room, "owner");
		assert.equal(muc.ns_config, form_of(owner, room).FORM_TYPE);
		muc.configure(owner, room, { ["muc#roomconfig_roomname"] = "Coven", ["muc#roomconfig_moderatedroom"] = "1" });
		local ada = muc.guest(ctx, room, "ada");
		assert.equal("visitor", muc.item(ada.entry.self).attr.role);
		local info = ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room);
		assert.equal("Coven", info:child("query"):child("identity").attr.name);
	end);

	it("a form that's cancelled leaves the room as it was", function ()
		local room, owner = muc.open(ctx);
		local answer = owner:iq("set", ("<query xmlns='%s'><x xmlns='jabber:x:data' type='cancel'/></query>"):format(muc.ns_owner), room);
		assert.equal("result", answer.attr.type);
		muc.guest(ctx, room, "ada", nil, owner);
	end);

	it("a change of the configuration is told to all: 104", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.configure(owner, room, { ["muc#roomconfig_roomname"] = "New name" });
		for _, c in ipairs { owner, ada } do
			local el = c:expect(function (e) return e.name == "message" and muc.has_code(e, "104"); end);
			assert.equal("groupchat", el.attr.type);
			assert.equal(room, el.attr.from);
			assert.equal(c.jid, el.attr.to);
		end
		assert.equal("New name", form_of(owner, room)["muc#roomconfig_roomname"]);
	end);

	it("showing addresses is told to all: 172, and not showing them: 173", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.configure(owner, room, { ["muc#roomconfig_whois"] = "anyone" });
		ada:expect(function (e) return e.name == "message" and muc.has_code(e, "172"); end);
		muc.configure(owner, room, { ["muc#roomconfig_whois"] = "moderators" });
		ada:expect(function (e) return e.name == "message" and muc.has_code(e, "173"); end);
	end);

	it("only owners see and send the form", function ()
		local room = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		local _, condition = form_of(ada, room);
		assert.equal("forbidden", condition);
		local answer = ada:iq("set", ("<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'/></query>"):format(muc.ns_owner), room);
		assert.equal("forbidden", (t.condition(answer:child("error"))));
		assert.equal(ada.jid, answer.attr.to);
		assert.equal("forbidden", (t.condition(destroy(ada, room):child("error"))));
		ada:sync();
	end);

	it("an owner who isn't in the room can configure it", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		muc.left(owner, room, "owner");
		muc.configure(owner, room, { ["muc#roomconfig_roomname"] = "From afar" });
		assert.equal("From afar", form_of(owner, room)["muc#roomconfig_roomname"]);
	end);

	it("a persistent room stays when all have left", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		muc.say(owner, room, nil, nil, "<subject>Lasting</subject>");
		muc.say(owner, room, "remember");
		owner:expect({ body = "remember" });
		muc.left(owner, room, "owner");
		local ada = muc.client(ctx);
		local entry = muc.enter(ada, room, "ada");
		assert.equal("110", muc.codes(entry.self));
		assert.equal("Lasting", entry.subject:child_text("subject"));
		assert.same({ "remember" }, t.bodies(entry.history));
		assert.equal("owner", muc.item(muc.enter(owner, room, "owner").self).attr.affiliation);
	end);

	it("a room that's destroyed says so to all, with the alternative and why", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		local answer = destroy(owner, room, "<reason>Macbeth</reason><password>pw</password>", "other@rooms.localhost");
		assert.equal("result", answer.attr.type);
		muc.settle(owner, ada);
		for c, nick in pairs { [owner] = "owner"; [ada] = "ada" } do
			local own = muc.got(c, 1, muc.presence_of(room, nick, "unavailable"));
			assert.equal(1, #own);
			assert.equal(c.jid, own[1].attr.to);
			local gone = own[1]:child("x", muc.ns_user):child("destroy");
			assert.equal("other@rooms.localhost", gone.attr.jid);
			assert.equal("Macbeth", gone:child_text("reason"));
			assert.equal("pw", gone:child_text("password"));
		end
	end);

	it("a room that was destroyed can be made anew", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.say(ada, room, "old");
		ada:expect({ body = "old" });
		destroy(owner, room);
		ada:expect(muc.presence_of(room, "ada", "unavailable"));
		local entry = muc.enter(ada, room, "ada");
		assert.equal("110 201", muc.codes(entry.self));
		assert.same({}, entry.history);
		assert.same({}, entry.nicks);
		muc.in_step(ctx, room, ada);
	end);

	it("a persistent room that was destroyed says where it went", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		destroy(owner, room, "<reason>moved</reason>", "there@rooms.localhost");
		ada:expect(muc.presence_of(room, "ada", "unavailable"));
		local condition, _, el = muc.refused(ada, room, "ada");
		assert.equal("gone", condition);
		assert.equal("xmpp:there@rooms.localhost?join", el:child("error"):child_text("gone"));
		assert.equal("moved", el:child("error"):child_text("text"));
	end);

	it("a service that lets nobody make rooms refuses", function ()
		local ada = muc.client(ctx);
		local condition, kind, el = muc.refused(ada, "new@closed.localhost", "ada");
		assert.equal("not-allowed", condition);
		assert.equal("cancel", kind);
		assert.truthy(el:child("error"):child_text("text"));
	end);

	it("a password can be set and taken away while people are in", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.configure(owner, room, { ["muc#roomconfig_roomsecret"] = "pw" });
		local bob = muc.client(ctx);
		assert.equal("not-authorized", (muc.refused(bob, room, "bob")));
		muc.configure(owner, room, { ["muc#roomconfig_roomsecret"] = "" });
		muc.enter(bob, room, "bob");
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("a room with a password from the start is made so", function ()
		local room, owner = muc.new_room(), muc.client(ctx);
		assert.equal("110 201", muc.codes(muc.enter(owner, room, "owner", { password = "first" }).self));
		muc.configure(owner, room);
		local ada = muc.client(ctx);
		assert.equal("not-authorized", (muc.refused(ada, room, "ada")));
		muc.enter(ada, room, "ada", { password = "first" });
	end);
end);
