local t = require "support";
local muc = require "support.muc";

muc.ordinary("requests through a room", {}, function (ctx, it)
	local function three()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	local function request(c, to, kind, payload, id)
		id = id or t.client.id();
		c:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, id, t.escape(to), payload));
		return id;
	end

	local function is_request(el) return el.name == "iq" and (el.attr.type == "get" or el.attr.type == "set"); end

	local function answer(c, iq, payload)
		c:send(("<iq type='result' id='%s' to='%s'>%s</iq>"):format(t.escape(iq.attr.id), t.escape(iq.attr.from), payload or ""));
	end

	it("to an occupant arrive from one's nick, and the answer under one's id", function ()
		local room, _, ada, bob = three();
		local id = request(ada, room .. "/bob", "get", "<query xmlns='jabber:iq:last'/>");
		local iq = bob:expect(is_request);
		assert.equal(room .. "/ada", iq.attr.from);
		assert.equal(bob.jid, iq.attr.to);
		assert.truthy(iq:child("query", "jabber:iq:last"));
		answer(bob, iq);
		local result = ada:expect({ name = "iq", id = id });
		assert.equal("result", result.attr.type);
		assert.equal(room .. "/bob", result.attr.from);
		assert.equal(ada.jid, result.attr.to);
	end);

	it("to see whether an occupant is there are answered by its client or, for it, by its server", function ()
		local room, _, ada, bob = three();
		local id = request(ada, room .. "/bob", "get", "<ping xmlns='urn:xmpp:ping'/>");
		muc.settle(ada, bob);
		for _, iq in ipairs(muc.got(bob, 1, is_request)) do answer(bob, iq); end
		muc.settle(bob, ada);
		local results = muc.got(ada, 1, { name = "iq", id = id });
		assert.equal(1, #results);
		assert.equal("result", results[1].attr.type);
		assert.equal(room .. "/bob", results[1].attr.from);
	end);

	it("carry what is in them both ways: a call's offer", function ()
		local room, _, ada, bob = three();
		local id = request(ada, room .. "/bob", "set", "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='s1'>"
			.. "<content creator='initiator' name='voice'><description xmlns='urn:x:d'>text &amp; more</description></content></jingle>");
		local iq = bob:expect(is_request);
		assert.equal("set", iq.attr.type);
		assert.equal("text & more", iq:child("jingle"):child("content"):child_text("description"));
		answer(bob, iq);
		assert.equal("result", ada:expect({ name = "iq", id = id }).attr.type);
		local back = request(bob, room .. "/ada", "set", "<jingle xmlns='urn:xmpp:jingle:1' action='session-accept' sid='s1'/>");
		iq = ada:expect(is_request);
		assert.equal(room .. "/bob", iq.attr.from);
		answer(ada, iq, "<ok xmlns='urn:x:ok'>fine</ok>");
		assert.equal("fine", bob:expect({ name = "iq", id = back }):child_text("ok"));
	end);

	it("can be answered by an error, and nobody is thrown out for it", function ()
		local room, owner, ada, bob = three();
		local id = request(ada, room .. "/bob", "get", "<query xmlns='jabber:iq:version'/>");
		local iq = bob:expect(is_request);
		bob:send(("<iq type='error' id='%s' to='%s'><error type='cancel'><service-unavailable xmlns='%s'/><text xmlns='%s'>no</text></error></iq>")
			:format(t.escape(iq.attr.id), iq.attr.from, t.ns_errors, t.ns_errors));
		local err = ada:expect({ name = "iq", id = id });
		assert.equal("error", err.attr.type);
		assert.equal("service-unavailable", (t.condition(err:child("error"))));
		assert.equal("no", err:child("error"):child_text("text"));
		assert.equal(room .. "/bob", err.attr.from);
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("for what one can do and which client it is are answered by the client", function ()
		local room, _, ada, bob = three();
		local id = request(ada, room .. "/bob", "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='urn:x#y'/>");
		local iq = bob:expect(is_request);
		assert.equal("urn:x#y", iq:child("query").attr.node);
		answer(bob, iq, "<query xmlns='http://jabber.org/protocol/disco#info' node='urn:x#y'><feature var='urn:of:bob'/></query>");
		assert.equal("urn:of:bob", ada:expect({ name = "iq", id = id }):child("query"):child("feature").attr.var);
		id = request(ada, room .. "/bob", "get", "<query xmlns='jabber:iq:version'/>");
		answer(bob, bob:expect(is_request), "<query xmlns='jabber:iq:version'><name>Client</name></query>");
		assert.equal("Client", ada:expect({ name = "iq", id = id }):child("query"):child_text("name"));
	end);

	it("of two clients under the same id, answered the other way round, come back to each", function ()
		local room, owner, ada, bob = three();
		request(ada, room .. "/bob", "get", "<q xmlns='urn:x:ada'/>", "same");
		muc.settle(ada);
		request(owner, room .. "/bob", "get", "<q xmlns='urn:x:owner'/>", "same");
		local first, second = bob:expect(is_request), bob:expect(is_request);
		assert.equal("urn:x:ada", first:child("q").ns);
		answer(bob, second, "<a xmlns='urn:x:to-owner'/>");
		answer(bob, first, "<a xmlns='urn:x:to-ada'/>");
		assert.truthy(ada:expect({ name = "iq", id = "same" }):child("a", "urn:x:to-ada"));
		assert.truthy(owner:expect({ name = "iq", id = "same" }):child("a", "urn:x:to-owner"));
	end);

	it("of one client to several come back from each", function ()
		local room, owner, ada, bob = three();
		local to_owner = request(ada, room .. "/owner", "get", "<q xmlns='urn:x:q'/>");
		local to_bob = request(ada, room .. "/bob", "get", "<q xmlns='urn:x:q'/>");
		answer(bob, bob:expect(is_request));
		answer(owner, owner:expect(is_request));
		muc.settle(bob, owner, ada);
		assert.equal(room .. "/owner", muc.got(ada, 1, { name = "iq", id = to_owner })[1].attr.from);
		assert.equal(room .. "/bob", muc.got(ada, 1, { name = "iq", id = to_bob })[1].attr.from);
	end);

	it("keep ids of any letters and length", function ()
		local room, _, ada, bob = three();
		for _, id in ipairs { "a'b<c>&\"", ("i"):rep(300), "ü 🍵", "0" } do
			ada:send(("<iq type='get' id='%s' to='%s/bob'><q xmlns='urn:x:q'/></iq>"):format(t.escape(id), room));
			answer(bob, bob:expect(is_request));
			assert.equal("result", ada:expect({ name = "iq", id = id }).attr.type);
		end
	end);

	it("to a nick that isn't there are refused", function ()
		local room, _, ada = three();
		local id = request(ada, room .. "/nobody", "get", "<query xmlns='jabber:iq:version'/>");
		local err = ada:expect({ name = "iq", id = id });
		assert.equal("item-not-found", (t.condition(err:child("error"))));
		assert.equal(room, muc.bare(err.attr.from));
	end);

	it("of those who aren't in the room are refused", function ()
		local room = three();
		local eve = muc.client(ctx);
		local id = request(eve, room .. "/bob", "get", "<query xmlns='jabber:iq:version'/>");
		local err = eve:expect({ name = "iq", id = id });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
		assert.equal(eve.jid, err.attr.to);
	end);

	it("for an occupant's vCard are answered by its server", function ()
		local room, _, ada, bob = three();
		bob:iq("set", "<vCard xmlns='vcard-temp'><FN>Robert</FN></vCard>");
		local id = request(ada, room .. "/bob", "get", "<vCard xmlns='vcard-temp'/>");
		local result = ada:expect({ name = "iq", id = id });
		assert.equal("result", result.attr.type);
		assert.equal("Robert", result:child("vCard"):child_text("FN"));
		assert.equal(room .. "/bob", result.attr.from);
		muc.settle(bob);
		assert.same({}, muc.got(bob, 1, is_request));
	end);

	it("for what an occupant publishes are answered by its server", function ()
		local room, _, ada, bob = three();
		local published = bob:iq("set", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:x:open'><item id='i1'>"
			.. "<e xmlns='urn:x:e'/></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'>"
			.. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
			.. "<field var='pubsub#access_model'><value>open</value></field></x></publish-options></pubsub>");
		assert.equal("result", published.attr.type);
		local id = request(ada, room .. "/bob", "get", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:x:open'/></pubsub>");
		local result = ada:expect({ name = "iq", id = id });
		assert.equal("result", result.attr.type, tostring(result));
		assert.equal("i1", result:child("pubsub"):child("items"):child("item").attr.id);
	end);

	it("to oneself by one's nick come", function ()
		local room, _, ada = three();
		request(ada, room .. "/ada", "get", "<q xmlns='urn:x:self'/>", "own");
		local iq = ada:expect(is_request);
		assert.equal(room .. "/ada", iq.attr.from);
		answer(ada, iq, "<a xmlns='urn:x:self'/>");
		local result = ada:expect({ name = "iq", type = "result" });
		assert.equal("own", result.attr.id);
		assert.equal(room .. "/ada", result.attr.from);
	end);

	it("to the room itself are answered by it", function ()
		local room, _, ada = three();
		local info = ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room);
		assert.equal("result", info.attr.type);
		assert.equal(room, info.attr.from);
		assert.equal(ada.jid, info.attr.to);
		local features = {};
		for _, el in ipairs(info:child("query"):children()) do features[el.attr.var or ""] = true; end
		assert.is_true(features[muc.ns]);
		assert.is_true(features["muc_unsecured"]);
		assert.equal("result", ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", room).attr.type);
		local unknown = ada:iq("get", "<q xmlns='urn:x:unknown'/>", room);
		assert.equal("error", unknown.attr.type);
		assert.equal("service-unavailable", (t.condition(unknown:child("error"))));
	end);

	it("to the room itself are answered to those who aren't in it, too", function ()
		local room = three();
		local eve = muc.client(ctx);
		local info = eve:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room);
		assert.equal("result", info.attr.type);
		assert.equal(eve.jid, info.attr.to);
	end);

	it("to the service list its rooms", function ()
		local room, owner, ada = three();
		muc.configure(owner, room, { ["muc#roomconfig_publicroom"] = "1", ["muc#roomconfig_roomname"] = "The Room" });
		local found;
		for _, item in ipairs(ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", "rooms.localhost"):child("query"):children()) do
			if item.attr.jid == room then found = item.attr.name; end
		end
		assert.equal("The Room", found);
		local info = ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", "rooms.localhost");
		assert.equal("conference", info:child("query"):child("identity").attr.category);
	end);

	it("to an occupant's older nick are refused after a change", function ()
		local room, _, ada, bob = three();
		bob:send(("<presence to='%s/robert'/>"):format(room));
		ada:expect(muc.presence_of(room, "robert"));
		local id = request(ada, room .. "/bob", "get", "<q xmlns='urn:x:q'/>");
		assert.equal("item-not-found", (t.condition(ada:expect({ name = "iq", id = id }):child("error"))));
		id = request(ada, room .. "/robert", "get", "<q xmlns='urn:x:q'/>");
		answer(bob, bob:expect(is_request));
		assert.equal(room .. "/robert", ada:expect({ name = "iq", id = id }).attr.from);
	end);
end);
