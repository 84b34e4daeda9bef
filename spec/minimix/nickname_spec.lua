local t = require "support";
local muc = require "support.muc";

muc.ordinary("nicknames", {}, function (ctx, it)
	local function two(opts)
		local room, owner = muc.open(ctx, opts);
		return room, owner, muc.guest(ctx, room, "ada", nil, owner);
	end

	local function rename(c, room, nick)
		local id = t.client.id();
		c:send(("<presence id='%s' to='%s/%s'/>"):format(id, room, t.escape(nick)));
		return id;
	end

	it("can be changed: 303 and the new one, for all", function ()
		local room, owner, ada = two();
		local bob = muc.guest(ctx, room, "bob", nil, owner, ada);
		rename(ada, room, "lovelace");
		local own = ada:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.equal("110 303", muc.codes(own));
		assert.equal("lovelace", muc.item(own).attr.nick);
		assert.equal("110", muc.codes(ada:expect(muc.presence_of(room, "lovelace"))));
		for _, c in ipairs { owner, bob } do
			local old = c:expect(muc.presence_of(room, "ada", "unavailable"));
			assert.equal("303", muc.codes(old));
			assert.equal("lovelace", muc.item(old).attr.nick);
			assert.equal("", muc.codes(c:expect(muc.presence_of(room, "lovelace"))));
		end
		muc.in_step(ctx, room, owner, ada, bob);
		muc.say(ada, room, "it's me");
		muc.all_hear({ owner, ada, bob }, room, "lovelace", "it's me");
	end);

	it("of a join by who is in are a change, and everything is told as to whoever joins", function ()
		local room, owner, ada = two();
		muc.say(owner, room, "hello");
		ada:expect(muc.groupchat(room, "owner", "hello"));
		local mark = muc.mark(ada);
		ada:send(("<presence id='again' to='%s/lovelace'><x xmlns='%s'/></presence>"):format(room, muc.ns));
		ada:expect(muc.presence_of(room, "lovelace"));
		muc.in_step(ctx, room, owner, ada);
		local function count(what) return #muc.got(ada, mark, what); end
		assert.equal(1, count(muc.presence_of(room, "owner")));
		assert.equal(1, count(muc.presence_of(room, "ada", "unavailable", "303")));
		assert.equal(1, count(muc.groupchat(room, "owner", "hello")));
		assert.equal(1, count(function (el) return el.name == "message" and el:child("subject"); end));
		assert.equal(1, (select(2, muc.saw(owner, muc.presence_of(room, "lovelace")))));
	end);

	it("of somebody else can't be taken", function ()
		local room, owner, ada = two();
		local id = rename(ada, room, "owner");
		local err = ada:expect({ name = "presence", type = "error", id = id });
		assert.equal("conflict", (t.condition(err:child("error"))));
		assert.equal(ada.jid, err.attr.to);
		muc.say(ada, room, "still ada");
		owner:expect(muc.groupchat(room, "ada", "still ada"));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("are free again when they're given up", function ()
		local room, owner, ada = two();
		rename(ada, room, "lovelace");
		ada:expect(muc.presence_of(room, "lovelace"));
		local bob = muc.guest(ctx, room, "ada", nil, owner);
		assert.same({ "lovelace", "owner" }, bob.entry.nicks);
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("can be changed back and forth, and one leaves under the last", function ()
		local room, owner, ada = two();
		for _, nick in ipairs { "b", "c", "ada", "d" } do
			rename(ada, room, nick);
			ada:expect(muc.presence_of(room, nick));
		end
		muc.in_step(ctx, room, owner, ada);
		muc.left(ada, room, "d");
		muc.in_step(ctx, room, owner);
	end);

	it("can be swapped by two, by a third nick", function ()
		local room, owner, ada = two();
		local bob = muc.guest(ctx, room, "bob", nil, owner, ada);
		rename(ada, room, "tmp");
		ada:sync();
		rename(bob, room, "ada");
		bob:sync();
		rename(ada, room, "bob");
		local truth = muc.in_step(ctx, room, owner, ada, bob);
		assert.truthy(truth.ada and truth.bob);
		muc.say(ada, room, "I'm bob now");
		bob:expect(muc.groupchat(room, "bob", "I'm bob now"));
	end);

	it("are told apart by case", function ()
		local room, owner, ada = two();
		local other = muc.guest(ctx, room, "Ada", nil, owner, ada);
		assert.same({ "ada", "owner" }, other.entry.nicks);
		muc.in_step(ctx, room, owner, ada, other);
	end);

	for what, nick in pairs {
		["spaces inside"] = "Ada King Lovelace"; ["characters of XML"] = "a<b>&'c\""; ["a slash and an at"] = "a/b@c";
		["Hebrew letters"] = "שלום"; ["accents, composed"] = "Zoë"; ["Chinese characters"] = "王小明"; ["one letter"] = "x";
	} do
		it("may have " .. what, function ()
			local room, owner = muc.open(ctx);
			local ada = muc.guest(ctx, room, nick, nil, owner);
			assert.equal(nick, ada.entry.nick);
			muc.say(ada, room, "hello");
			muc.all_hear({ owner, ada }, room, nick, "hello");
			owner:message(room .. "/" .. nick, "psst");
			assert.equal(ada.jid, ada:expect({ body = "psst" }).attr.to);
			muc.in_step(ctx, room, owner, ada);
			muc.left(ada, room, nick);
			muc.in_step(ctx, room, owner);
		end);
	end

	it("are normalised, and one leaves under either form", function ()
		local room, owner = muc.open(ctx);
		local wide = "ａｄａ";
		local ada = muc.client(ctx);
		assert.equal("ada", muc.enter(ada, room, wide).nick);
		owner:expect(muc.presence_of(room, "ada"));
		ada:send(("<presence to='%s/%s'><show>away</show></presence>"):format(room, wide));
		muc.in_step(ctx, room, owner, ada);
		muc.leave(ada, room, wide);
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner);
	end);

	for what, nick in pairs { ["an emoji"] = "🦊"; ["nothing but space"] = "   "; } do
		it("of " .. what .. " are refused by the room", function ()
			local room, owner = muc.open(ctx);
			local ada = muc.client(ctx);
			local condition, kind = muc.refused(ada, room, nick);
			assert.equal("modify", kind);
			assert.equal(what == "an emoji" and "jid-malformed" or "not-allowed", condition);
			assert.equal("ada", muc.enter(ada, room, "ada").nick);
			muc.in_step(ctx, room, owner, ada);
		end);
	end

	it("that are no resource of an address are refused", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		for _, nick in ipairs { ("x"):rep(1024), "שa" } do
			muc.join(ada, room, nick, { id = "bad" });
			local err = ada:expect({ name = "presence", type = "error", id = "bad" });
			assert.equal("jid-malformed", (t.condition(err:child("error"))));
		end
		muc.enter(ada, room, "ada");
	end);

	it("can't be changed to one that the room refuses", function ()
		local room, owner, ada = two();
		local id = rename(ada, room, "🦊");
		local err = ada:expect({ name = "presence", type = "error", id = id });
		assert.equal("jid-malformed", (t.condition(err:child("error"))));
		muc.in_step(ctx, room, owner, ada);
		muc.left(ada, room, "ada");
	end);

	local function register(c, room, nick)
		return c:iq("set", ("<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>"
			.. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>"
			.. "<field var='muc#register_roomnick'><value>%s</value></field></x></query>"):format(nick), room);
	end

	it("can be registered, and then nobody else gets them", function ()
		local room, owner, ada = two();
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		local form = ada:iq("get", "<query xmlns='jabber:iq:register'/>", room);
		assert.equal("result", form.attr.type);
		assert.truthy(form:child("query"):child("x", "jabber:x:data"));
		assert.equal("result", register(ada, room, "countess").attr.type);
		local disco = ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>", room);
		assert.equal("countess", disco:child("query"):child("identity").attr.name);
		local bob = muc.client(ctx);
		assert.equal("conflict", (muc.refused(bob, room, "countess")));
		rename(ada, room, "countess");
		ada:expect(muc.presence_of(room, "countess"));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("can only be registered by members", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		local answer = register(ada, room, "countess");
		assert.equal("error", answer.attr.type);
		assert.equal("registration-required", (t.condition(answer:child("error"))));
		assert.equal(room, answer.attr.from);
	end);

	it("that are registered are given by a room that insists: 210", function ()
		local room, owner, ada = two({ service = "strict.localhost" });
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		register(ada, room, "countess");
		ada:drain(0.1);
		ada:sync();
		local bob_and_ada = muc.picture(ada, room);
		if bob_and_ada.ada then muc.left(ada, room, "ada"); end
		local entry = muc.enter(ada, room, "somebody");
		assert.equal("countess", entry.nick);
		assert.equal("110 210", muc.codes(entry.self));
		muc.in_step(ctx, room, owner, ada);
		muc.say(ada, room, "so be it");
		owner:expect(muc.groupchat(room, "countess", "so be it"));
		muc.left(ada, room, "countess");
		muc.in_step(ctx, room, owner);
	end);
end);
