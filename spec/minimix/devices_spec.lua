local t = require "support";
local muc = require "support.muc";

local ns_ibb = "http://jabber.org/protocol/ibb";
local ns_commands = "http://jabber.org/protocol/commands";

muc.account("which device gets what", { modules = { "bookmarks" } }, function (ctx, it)
	-- Two clients of an account, and somebody else.
	local function three()
		local room, owner = muc.open(ctx);
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada");
		return room, owner, phone, desk;
	end

	local function set(c, to, payload)
		local id = t.client.id();
		c:send(("<iq type='set' id='%s' to='%s'>%s</iq>"):format(id, to, payload));
		return id;
	end

	local function shows(c, room)
		c:send(("<presence to='%s/ada'><status>%s</status></presence>"):format(room, t.client.id()));
		c:sync();
	end

	local function answer(c, iq, kind, payload)
		c:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, t.escape(iq.attr.id), t.escape(iq.attr.from), payload or ""));
		c:sync();
	end

	local function gets(c, payload, ns)
		return c:expect(function (el) return el.name == "iq" and el:child(payload, ns) ~= nil; end);
	end

	it("a bytestream stays with the client that it was opened with, a new one goes to whose presence is shown", function ()
		local room, owner, phone, desk = three();
		shows(phone, room);
		set(owner, room .. "/ada", ("<open xmlns='%s' block-size='4096' sid='s1' stanza='iq'/>"):format(ns_ibb));
		answer(phone, gets(phone, "open", ns_ibb), "result");
		shows(desk, room);
		for seq = 0, 2 do
			local id = set(owner, room .. "/ada", ("<data xmlns='%s' seq='%d' sid='s1'>AAAA</data>"):format(ns_ibb, seq));
			answer(phone, gets(phone, "data", ns_ibb), "result");
			assert.equal("result", owner:expect({ name = "iq", id = id }).attr.type);
		end
		set(owner, room .. "/ada", ("<open xmlns='%s' block-size='4096' sid='s2' stanza='iq'/>"):format(ns_ibb));
		answer(desk, gets(desk, "open", ns_ibb), "result");
		set(owner, room .. "/ada", ("<close xmlns='%s' sid='s1'/>"):format(ns_ibb));
		answer(phone, gets(phone, "close", ns_ibb), "result");
		-- when it is gone, another one says that it knows nothing of it
		muc.left(phone, room, "ada");
		local id = set(owner, room .. "/ada", ("<data xmlns='%s' seq='3' sid='s1'>AAAA</data>"):format(ns_ibb));
		answer(desk, gets(desk, "data", ns_ibb), "error",
			"<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>");
		assert.equal("error", owner:expect({ name = "iq", id = id }).attr.type);
	end);

	it("so do Jingle with its bytestream, and the stages of a command", function ()
		local room, owner, phone, desk = three();
		shows(phone, room);
		set(owner, room .. "/ada", "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='j1'/>");
		answer(phone, gets(phone, "jingle", "urn:xmpp:jingle:1"), "result");
		shows(desk, room);
		set(owner, room .. "/ada", ("<open xmlns='%s' block-size='4096' sid='ibb-of-j1' stanza='iq'/>"):format(ns_ibb));
		answer(phone, gets(phone, "open", ns_ibb), "result");
		set(owner, room .. "/ada", "<jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='j1'/>");
		answer(phone, gets(phone, "jingle", "urn:xmpp:jingle:1"), "result");
		local bob = muc.guest(ctx, room, "bob", nil, owner, phone, desk);
		shows(desk, room);
		set(bob, room .. "/ada", ("<command xmlns='%s' node='n' action='execute'/>"):format(ns_commands));
		answer(desk, gets(desk, "command", ns_commands), "result",
			("<command xmlns='%s' node='n' sessionid='c1' status='executing'/>"):format(ns_commands));
		shows(phone, room);
		set(bob, room .. "/ada", ("<command xmlns='%s' node='n' sessionid='c1' action='next'/>"):format(ns_commands));
		gets(desk, "command", ns_commands);
	end);

	it("what comes of an exchange that a client began is for that client", function ()
		local room, owner, phone, desk = three();
		set(phone, room .. "/owner", "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='mine'/>");
		answer(owner, gets(owner, "jingle", "urn:xmpp:jingle:1"), "result");
		shows(desk, room);
		set(owner, room .. "/ada", "<jingle xmlns='urn:xmpp:jingle:1' action='session-accept' sid='mine'/>");
		gets(phone, "jingle", "urn:xmpp:jingle:1");
		set(owner, room .. "/ada", "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='other'/>");
		gets(desk, "jingle", "urn:xmpp:jingle:1");
	end);

	it("who does not know what it is asked for does not get the next", function ()
		local room, owner, phone, desk = three();
		shows(phone, room);
		set(owner, room .. "/ada", ("<open xmlns='%s' block-size='4096' sid='s1' stanza='iq'/>"):format(ns_ibb));
		answer(phone, gets(phone, "open", ns_ibb), "error",
			"<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>");
		shows(desk, room);
		set(owner, room .. "/ada", ("<open xmlns='%s' block-size='4096' sid='s1' stanza='iq'/>"):format(ns_ibb));
		gets(desk, "open", ns_ibb);
	end);

	it("a private message to an account that is in without its device goes to the device, not to the disk", function ()
		local room, owner = muc.open(ctx);
		local phone = muc.client(ctx);
		muc.bookmark(phone, room, true, "ada");
		owner:expect(muc.presence_of(room, "ada"));
		owner:message(room .. "/ada", "psst", { id = "pm" });
		local el = phone:expect({ body = "psst" });
		assert.equal(room .. "/owner", el.attr.from);
		owner:message(room .. "/ada", "again", { type = "normal" });
		phone:expect({ body = "again" });
		muc.enter(phone, room, "ada");
		muc.settle(owner, phone);
		assert.equal(1, #muc.got(phone, 1, { body = "psst" }));
		assert.same({}, muc.got(owner, 1, { name = "message", type = "error" }));
	end);

	it("a client that answers what the room says by errors is taken for gone, one that does it once is not", function ()
		local room, owner, phone, desk = three();
		local function complain(c)
			c:send(("<message type='error' to='%s/owner' id='x'><error type='cancel'>"
				.. "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"):format(room));
		end
		for _ = 1, 3 do
			for _ = 1, 3 do complain(phone); end
			muc.say(phone, room, "still here");
			phone:expect(muc.groupchat(room, "ada", "still here"));
		end
		for _ = 1, 5 do complain(phone); end
		phone:expect(muc.presence_of(room, "ada", "unavailable", "333"));
		muc.say(owner, room, "hello");
		desk:expect(muc.groupchat(room, "owner", "hello"));
		muc.in_step(ctx, room, owner, desk);
		assert.same({}, muc.picture(phone, room));
		for _ = 1, 5 do complain(desk); end
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		desk:expect(muc.presence_of(room, "ada", "unavailable", "333"));
		muc.enter(phone, room, "ada");
	end);

	local function private(c, inner)
		local result = c:iq("set", ("<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'>%s</storage></query>"):format(inner));
		assert.equal("result", result.attr.type);
	end

	it("bookmarks in private storage are followed like those in PEP", function ()
		local room, owner = muc.open(ctx);
		local phone = muc.client(ctx);
		local function conference(autojoin, nick)
			return ("<conference jid='%s' autojoin='%s' name='x'><nick>%s</nick></conference>"):format(room, autojoin, nick);
		end
		private(phone, conference("true", "al"));
		owner:expect(muc.presence_of(room, "al"));
		private(phone, conference("false", "al"));
		owner:expect(muc.presence_of(room, "al", "unavailable"));
		private(phone, conference("1", "al"));
		owner:expect(muc.presence_of(room, "al"));
		private(phone, conference("1", "lovelace"));
		owner:expect(muc.presence_of(room, "lovelace"));
		private(phone, "");
		owner:expect(muc.presence_of(room, "lovelace", "unavailable"));
	end);
end);
