local t = require "support";
local muc = require "support.muc";

muc.ordinary("messages in a room", {}, function (ctx, it)
	local function three(opts)
		local room, owner = muc.open(ctx, opts);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	it("come to all, the sender too, once, under the sender's id", function ()
		local room, owner, ada, bob = three();
		local id = muc.say(ada, room, "hello");
		muc.settle(ada, owner, bob);
		for _, c in ipairs { ada, owner, bob } do
			local list = muc.got(c, 1, { name = "message", body = "hello" });
			assert.equal(1, #list);
			assert.equal(id, list[1].attr.id);
			assert.equal("groupchat", list[1].attr.type);
			assert.equal(room .. "/ada", list[1].attr.from);
			assert.equal(c.jid, list[1].attr.to);
			assert.is_nil(t.delay(list[1]));
		end
	end);

	it("come to all in the same order", function ()
		local room, owner, ada, bob = three();
		for i = 1, 30 do
			muc.say(ada, room, "a" .. i);
			muc.say(bob, room, "b" .. i);
			muc.say(owner, room, "o" .. i);
		end
		muc.settle(ada, owner, bob);
		local function heard(c) return t.bodies(muc.got(c, 1, { type = "groupchat" })); end
		assert.equal(90, #heard(owner));
		assert.same(heard(owner), heard(ada));
		assert.same(heard(owner), heard(bob));
	end);

	it("keep what is in them", function ()
		local room, owner, ada = three();
		local extra = "<thread>th</thread><origin-id xmlns='urn:xmpp:sid:0' id='o1'/><x xmlns='jabber:x:oob'><url>http://x.test/</url></x>"
			.. "<reply xmlns='urn:xmpp:reply:0' id='r' to='" .. room .. "/bob'/>"
			.. "<reactions xmlns='urn:xmpp:reactions:0' id='q'><reaction>🍵</reaction></reactions>"
			.. "<replace xmlns='urn:xmpp:message-correct:0' id='before'/>";
		muc.say(ada, room, "all of it", { ["xml:lang"] = "eo" }, extra);
		local el = owner:expect(muc.groupchat(room, "ada", "all of it"));
		assert.equal("eo", el.attr["xml:lang"]);
		assert.equal("th", el:child_text("thread"));
		assert.equal("o1", el:child("origin-id").attr.id);
		assert.equal("http://x.test/", el:child("x", "jabber:x:oob"):child_text("url"));
		assert.equal("r", el:child("reply").attr.id);
		assert.equal("🍵", el:child("reactions"):child_text("reaction"));
		assert.equal("before", el:child("replace").attr.id);
	end);

	it("without a body come, too: chat states and markers", function ()
		local room, owner, ada, bob = three();
		muc.say(ada, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
		muc.say(ada, room, nil, nil, "<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>");
		for _, c in ipairs { owner, bob, ada } do
			c:expect({ child = "composing" });
			assert.equal("m1", c:expect({ child = "displayed" }):child("displayed").attr.id);
		end
		muc.settle(owner, bob, ada);
	end);

	it("with an empty body come as they are", function ()
		local room, owner, ada, bob = three();
		muc.say(ada, room, nil, { id = "empty" }, "<body/>");
		for _, c in ipairs { owner, bob, ada } do
			local el = c:expect({ name = "message", id = "empty" });
			assert.equal("", el:body());
			assert.equal(room .. "/ada", el.attr.from);
		end
	end);

	it("without an id come", function ()
		local room, owner, ada = three();
		ada:send(("<message type='groupchat' to='%s'><body>nameless</body></message>"):format(room));
		muc.all_hear({ owner, ada }, room, "ada", "nameless");
	end);

	it("of any letters and of 50,000 of them come whole", function ()
		local room, owner, ada = three();
		local odd = "<b> & \"q\" 'a' \n\t ]]> ﷽ 🏳️‍🌈 שלום";
		muc.say(ada, room, odd);
		owner:expect(muc.groupchat(room, "ada", odd));
		local long = ("0123456789"):rep(5000);
		muc.say(ada, room, long);
		muc.all_hear({ owner, ada }, room, "ada", long);
	end);

	it("to a room that one isn't in are refused", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		local id = muc.say(ada, room, "let me in");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
		assert.equal("cancel", err:child("error").attr.type);
		assert.equal(room, err.attr.from);
		assert.equal(ada.jid, err.attr.to);
		muc.settle(owner);
		assert.same({}, t.bodies(owner.seen));
	end);

	it("to a room that doesn't exist are refused", function ()
		local ada, room = muc.client(ctx), muc.new_room();
		local id = muc.say(ada, room, "anybody?");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("item-not-found", (t.condition(err:child("error"))));
	end);

	it("to an occupant aren't groupchat", function ()
		local room, owner, ada = three();
		ada:message(room .. "/owner", "hm", { type = "groupchat", id = "g1" });
		local err = ada:expect({ name = "message", type = "error", id = "g1" });
		assert.equal("bad-request", (t.condition(err:child("error"))));
		muc.settle(owner);
		assert.same({}, t.bodies(owner.seen));
	end);

	it("of visitors are forbidden in a moderated room", function ()
		local room, owner, ada = three({ config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		local id = muc.say(ada, room, "psst");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("forbidden", (t.condition(err:child("error"))));
		assert.equal("auth", err:child("error").attr.type);
		assert.equal(room, err.attr.from);
		assert.equal(ada.jid, err.attr.to);
		-- that's no reason to be out
		muc.in_step(ctx, room, owner, ada);
		muc.say(owner, room, "hush");
		ada:expect(muc.groupchat(room, "owner", "hush"));
	end);

	it("that set the subject set it for all, and for who comes later", function ()
		local room, owner, ada, bob = three();
		muc.say(owner, room, nil, nil, "<subject>Tea &amp; cake</subject>");
		for _, c in ipairs { owner, ada, bob } do
			local el = c:expect(function (e) return e.name == "message" and e:child_text("subject") == "Tea & cake"; end);
			assert.equal(room .. "/owner", el.attr.from);
			assert.is_nil(el:child("body"));
		end
		local eve = muc.guest(ctx, room, "eve");
		assert.equal("Tea & cake", eve.entry.subject:child_text("subject"));
		assert.equal(room .. "/owner", eve.entry.subject.attr.from);
		muc.say(owner, room, nil, nil, "<subject/>");
		ada:expect(function (e) return e.name == "message" and e:child("subject") and e:child_text("subject") == ""; end);
	end);

	it("that tell the subject tell since when if it was set meanwhile, else what the room tells", function ()
		local function since(entry)
			local delay = entry.subject:child("delay", "urn:xmpp:delay");
			return delay and delay.attr.from.." "..delay.attr.stamp:gsub("%.%d+", "") or "not told";
		end
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		local first = muc.enter(ada, room, "ada");
		assert.equal(since(muc.guest(ctx, room, "eve").entry), since(first));
		local function others() return muc.enter(muc.client(ctx, { user = ada.username }), room, "ada"); end
		muc.settle(ada);
		assert.equal(since(first), since(others()));
		muc.say(owner, room, nil, nil, "<subject>Tea</subject>");
		ada:expect(function (e) return e.name == "message" and e:child_text("subject") == "Tea"; end);
		local now = since(others());
		assert.equal(room, now:match("^%S+"));
		assert.not_equal(since(first), now);
	end);

	it("that would set the subject are forbidden to participants", function ()
		local room, owner, ada = three();
		local id = muc.say(ada, room, nil, nil, "<subject>Mine</subject>");
		local err = ada:expect({ name = "message", type = "error", id = id });
		assert.equal("forbidden", (t.condition(err:child("error"))));
		assert.equal("auth", err:child("error").attr.type);
		muc.settle(owner);
		assert.same({}, muc.got(owner, 1, function (e) return e.name == "message" and e:child_text("subject") == "Mine"; end));
	end);

	it("with a body and a subject are messages", function ()
		local room, owner, ada = three();
		muc.say(ada, room, "the body", nil, "<subject>the subject</subject>");
		assert.equal("the subject", owner:expect(muc.groupchat(room, "ada", "the body")):child_text("subject"));
		assert.equal("", muc.guest(ctx, room, "eve").entry.subject:child_text("subject"));
	end);

	it("of those who left in between are heard by those who stayed", function ()
		local room, owner, ada, bob = three();
		muc.say(ada, room, "bye");
		muc.left(ada, room, "ada");
		muc.say(bob, room, "bye ada");
		muc.all_hear({ owner, bob }, room, "bob", "bye ada");
		muc.settle(owner, bob, ada);
		assert.same({ "bye", "bye ada" }, t.bodies(owner.seen));
		assert.same({ "bye" }, t.bodies(muc.got(ada, 1, { type = "groupchat" })));
	end);

	it("that are to be seen by nobody else aren't copied to contacts or other clients", function ()
		local room, _, ada = three();
		local also = muc.client(ctx, { user = ada.username });
		also:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
		ada:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
		local mark = muc.mark(also);
		muc.say(ada, room, "in the room");
		muc.settle(ada, also);
		assert.same({}, muc.got(also, mark, "message"));
		assert.equal(1, #muc.got(ada, 1, { name = "message", type = "groupchat", body = "in the room" }));
	end);

	it("of a nick that's blocked don't come", function ()
		local room, owner, ada, bob = three();
		local answer = ada:iq("set", ("<block xmlns='urn:xmpp:blocking'><item jid='%s/bob'/></block>"):format(room));
		assert.equal("result", answer.attr.type);
		muc.say(bob, room, "spam");
		bob:sync();
		muc.say(owner, room, "no spam");
		ada:expect(muc.groupchat(room, "owner", "no spam"));
		assert.same({}, muc.got(ada, 1, { body = "spam" }));
		assert.truthy(muc.truth(ctx.srv, room).ada);
		ada:iq("set", ("<unblock xmlns='urn:xmpp:blocking'><item jid='%s/bob'/></unblock>"):format(room));
		muc.say(bob, room, "peace");
		ada:expect(muc.groupchat(room, "bob", "peace"));
	end);

	it("go on when the service is reloaded", function ()
		local room, owner, ada, bob = three();
		ctx.srv:eval([[return require "core.modulemanager".reload("rooms.localhost", "muc") and true]]);
		muc.say(ada, room, "still there?");
		muc.all_hear({ owner, bob, ada }, room, "ada", "still there?");
		muc.left(bob, room, "bob");
		muc.in_step(ctx, room, owner, ada);
	end);
end);
