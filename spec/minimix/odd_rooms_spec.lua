-- Rooms that are not as XEP-0045 has them, and those that are in unusual ways.

local t = require "support";
local muc = require "support.muc";
local gateway = require "support.gateway";
local eventually = muc.eventually;

-- The room forgot who is in it, and the account has found out.
local function forgotten(ctx, room, c)
	local before = gateway.facts(ctx, room).joins;
	muc.say(c, room, "anybody?");
	eventually("in again", function ()
		muc.settle(c);
		assert.equal(before + 1, gateway.facts(ctx, room).joins);
	end);
end

muc.account("who is who", gateway.options, function (ctx, it)
	local changes = {
		["another real JID"] = { { jid = "bob@x.test/1" }, { jid = "mallory@x.test/1" } };
		["a real JID that was not shown"] = { {}, { jid = "bob@x.test/1" } };
		["another occupant-id"] = {
			{ extra = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>" }, { extra = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o2'/>" },
		};
		["another affiliation"] = { { affiliation = "none" }, { affiliation = "admin" } };
		["another role"] = { { role = "visitor" }, { role = "moderator" } };
	};
	for what, change in pairs(changes) do
		it("the same nick with " .. what .. " after the room forgot the account is told", function ()
			local room = gateway.open(ctx, { join = { gateway.occupant("bob", change[1]), gateway.own(), gateway.subject() } });
			local ada = muc.client(ctx);
			muc.enter(ada, room, "ada");
			gateway.forget(ctx, room);
			gateway.script(ctx, room, { join = { gateway.occupant("bob", change[2]), gateway.own(), gateway.subject() } });
			local mark = muc.mark(ada);
			forgotten(ctx, room, ada);
			local told = muc.saw(ada, muc.presence_of(room, "bob"));
			assert.equal(change[2].jid, muc.item(told).attr.jid);
			assert.equal(1, #muc.got(ada, mark, muc.presence_of(room, "bob")));
		end);
	end

	it("the same occupant after the room forgot the account is not told again, whatever the stanza's id", function ()
		local room = gateway.open(ctx, { join = { gateway.occupant("bob", { id = "one", jid = "bob@x.test/1" }), gateway.own(), gateway.subject() } });
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		gateway.forget(ctx, room);
		gateway.script(ctx, room, { join = { gateway.occupant("bob", { id = "two", jid = "bob@x.test/1" }), gateway.own(), gateway.subject() } });
		local mark = muc.mark(ada);
		forgotten(ctx, room, ada);
		assert.same({}, muc.got(ada, mark, muc.presence_of(room, "bob")));
	end);
end);

muc.account("who said what", gateway.options, function (ctx, it)
	-- A client is in, "alarm" is said, the room forgets the account, "alarm" is said again.
	local function again(first, second)
		local room = gateway.open(ctx);
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		gateway.says(ctx, room, first);
		ada:expect({ body = "alarm" });
		gateway.forget(ctx, room);
		gateway.script(ctx, room, { join = { gateway.own(), (first:gsub("</message>$", gateway.delay(0) .. "</message>")), second, gateway.subject() } });
		local mark = muc.mark(ada);
		forgotten(ctx, room, ada);
		return muc.got(ada, mark, { name = "message", body = "alarm" }), room, ada;
	end

	it("the same words with another name of the room's are another message", function ()
		local got, room, ada = again(gateway.words("bot", "alarm", { sid = "s1" }), gateway.words("bot", "alarm", { sid = "s2", stamp = gateway.ago(0) }));
		assert.equal(1, #got);
		assert.equal("s2", got[1]:child("stanza-id").attr.id);
		-- in both devices
		local also = muc.client(ctx, { user = ada.username });
		local ids = {};
		for i, el in ipairs(muc.enter(also, room, "ada").history) do ids[i] = el:child("stanza-id").attr.id; end
		table.sort(ids); -- the second may have been stamped in the second before
		assert.same({ "s1", "s2" }, ids);
	end);

	it("the same words without any name, said twice, come twice", function ()
		assert.equal(1, #again(gateway.words("bot", "alarm"), gateway.words("bot", "alarm", { stamp = gateway.ago(0) })));
	end);

	it("the same words under an id that is always the same come twice", function ()
		assert.equal(1, #again(gateway.words("bot", "alarm", { id = "1" }), gateway.words("bot", "alarm", { id = "1", stamp = gateway.ago(0) })));
	end);

	it("what another device gets later has the time at which it was said", function ()
		local room = gateway.open(ctx);
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		for _ = 1, 2 do
			gateway.says(ctx, room, gateway.words("bot", "alarm"));
			ada:expect({ body = "alarm" });
		end
		local also = muc.client(ctx, { user = ada.username });
		assert.equal(2, #muc.enter(also, room, "ada").history);
	end);
end);

-- The first client gets what the room sends, another what is kept of it; both end with a subject.
muc.account("rooms that answer in their own way", gateway.options, function (ctx, it)
	local own, occupant, words, subject, ago = gateway.own, gateway.occupant, gateway.words, gateway.subject, gateway.ago;
	local old = function (nick, text, opts)
		return words(nick, text, { id = text, stamp = ago(opts and opts.ago or 100) });
	end

	-- Joins and waits for the subject and all of the words; the codes of the self-presence, the words, the nicks, the subject.
	local function arrive(room, user, opts)
		opts = opts or {};
		local c = muc.client(ctx, { user = user });
		muc.join(c, room, "ada", { history = opts.history });
		local me = c:expect(muc.presence_of(room, opts.nick or "ada", nil, "110"));
		local function all(what) return muc.got(c, 1, what); end
		eventually("everything", function ()
			muc.settle(c);
			local subjects = all(function (el) return el:child("subject") and not el:body(); end);
			assert.equal(opts.subject or "topic", #subjects > 0 and subjects[#subjects]:child_text("subject"));
			local bodies = t.bodies(all({ name = "message", type = "groupchat" }));
			table.sort(bodies);
			assert.same(opts.words or {}, bodies);
			for _, nick in ipairs(opts.nicks or {}) do assert.truthy(all(muc.presence_of(room, nick))[1], nick); end
		end);
		return c, me;
	end

	local orders = {
		["own presence first"] = { own(), old("bob", "one"), occupant("bob"), subject("topic") };
		["messages among the presences"] = { occupant("bob"), words("bob", "one", { id = "one" }), occupant("eve"), own(), subject("topic") };
		["the history before the presences"] = { old("bob", "one"), occupant("bob"), own(), subject("topic") };
		["the subject first"] = { subject("topic"), occupant("bob"), own(), old("bob", "one") };
		["the subject before the history"] = { occupant("bob"), own(), subject("topic"), old("bob", "one") };
		["a subject with a time"] = { occupant("bob"), own(), old("bob", "one"), subject("topic", { stamp = ago(50), nick = "bob" }) };
		["a subject in the history"] = {
			occupant("bob"), own(), subject("before", { stamp = ago(500), nick = "bob" }), old("bob", "one"),
			subject("topic", { stamp = ago(50), nick = "bob" });
		};
		["no mark on one's own presence"] = { own { codes = {} }, occupant("bob"), old("bob", "one"), subject("topic") };
		["no mark, and an id of its own"] = { occupant("bob"), own { codes = {}, id = "r1" }, old("bob", "one"), subject("topic") };
		["no id at all"] = { occupant("bob"), own { id = false }, old("bob", "one"), subject("topic") };
		["times as they were"] = {
			occupant("bob"), own(),
			gateway.message("bob", "<body>one</body><x xmlns='jabber:x:delay' stamp='20200101T00:00:00'/>", { id = "one" }), subject("topic"),
		};
	};
	for what, join in pairs(orders) do
		it(what .. ": both clients get everything, once", function ()
			local room = gateway.open(ctx, { join = join });
			local phone = arrive(room, nil, { words = { "one" }, nicks = { "bob" } });
			local desk = arrive(room, phone.username, { words = { "one" }, nicks = { "bob" } });
			gateway.says(ctx, room, words("bob", "now", { id = "now" }));
			for _, c in ipairs { phone, desk } do c:expect({ body = "now" }); end
			muc.say(desk, room, "me, too");
			for _, c in ipairs { phone, desk } do c:expect(muc.groupchat(room, "ada", "me, too")); end
			assert.equal(1, gateway.facts(ctx, room).joins);
		end);

		it(what .. ": a client that wants no history gets none", function ()
			local room = gateway.open(ctx, { join = join });
			local live = what:find("among", 1, true) and { "one" } or {};
			local phone = arrive(room, nil, { history = { maxstanzas = 0 }, words = live, nicks = { "bob" } });
			gateway.says(ctx, room, words("bob", "now", { id = "now" }));
			phone:expect({ body = "now" });
			muc.settle(phone);
			live[#live + 1] = "now";
			table.sort(live);
			local bodies = t.bodies(muc.got(phone, 1, { type = "groupchat" }));
			table.sort(bodies);
			assert.same(live, bodies);
		end);

		it(what .. ": after the room forgot the account, its clients go on and nothing is told twice", function ()
			local room = gateway.open(ctx, { join = join });
			local phone = arrive(room, nil, { words = { "one" }, nicks = { "bob" } });
			gateway.says(ctx, room, words("bob", "two", { id = "two" }));
			phone:expect({ body = "two" });
			gateway.forget(ctx, room);
			local mark = muc.mark(phone);
			forgotten(ctx, room, phone);
			gateway.says(ctx, room, words("bob", "three", { id = "three" }));
			phone:expect({ body = "three" });
			muc.settle(phone);
			local bodies = t.bodies(muc.got(phone, mark, { name = "message", type = "groupchat" }));
			-- what has no time may be new
			if bodies[1] == "one" then table.remove(bodies, 1); end
			assert.same({ "three" }, bodies);
			assert.same({}, muc.got(phone, mark, { name = "presence", type = "unavailable" }));
			muc.say(phone, room, "still here");
			phone:expect(muc.groupchat(room, "ada", "still here"));
		end);
	end

	it("a part of the history is the last part, wherever a subject stands in it", function ()
		local join = { own() };
		for i = 1, 10 do
			join[#join + 1] = old("bob", "m" .. i, { ago = 100 - i });
			if i == 3 or i == 7 then join[#join + 1] = subject("topic " .. i, { stamp = ago(100 - i), nick = "bob" }); end
		end
		local room = gateway.open(ctx, { join = join });
		arrive(room, nil, { history = { maxstanzas = 2 }, words = { "m10", "m9" }, subject = "topic 7" });
	end);

	it("an answer to the join that has another id, and says no", function ()
		local room = gateway.open(ctx, { join = { "<presence from='$room/$nick' to='$to' type='error' id='its-own'><error type='auth'>"
			.. "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>" } });
		local ada = muc.client(ctx);
		local condition = muc.refused(ada, room, "ada");
		assert.equal("forbidden", condition);
		gateway.script(ctx, room, { join = { own(), subject("topic") } });
		assert.equal("ada", muc.enter(ada, room, "ada").nick);
	end);

	it("nobody leaves and comes back when one's own presence comes first", function ()
		local room = gateway.open(ctx, { join = { own(), occupant("bob"), occupant("eve"), subject("topic") } });
		local phone = arrive(room, nil, { nicks = { "bob", "eve" } });
		gateway.forget(ctx, room);
		gateway.script(ctx, room, { join = { own(), occupant("bob"), subject("topic") } });
		local mark = muc.mark(phone);
		forgotten(ctx, room, phone);
		muc.saw(phone, muc.presence_of(room, "eve", "unavailable"));
		assert.same({}, muc.got(phone, mark, muc.presence_of(room, "bob", "unavailable")));
		assert.same({}, muc.got(phone, mark, muc.presence_of(room, "bob")));
	end);
end);

muc.account("what the join told", gateway.options, function (ctx, it)
	local own, subject = gateway.own, gateway.subject;

	local function bookmarked(codes)
		local room = gateway.open(ctx, { join = { own { codes = codes }, subject("topic") } });
		local watch = muc.client(ctx);
		muc.bookmark(watch, room, true, "ada");
		eventually("in", function () assert.equal(1, gateway.facts(ctx, room).joins); end);
		return room, watch.username;
	end

	it("while nobody was there is told to the first client, and what the room is to all", function ()
		local room, user = bookmarked { 100, 110, 170, 172, 201 };
		assert.equal("100 110 170 172 201", muc.codes(muc.enter(muc.client(ctx, { user = user }), room, "ada").self));
		local second = muc.codes(muc.enter(muc.client(ctx, { user = user }), room, "ada").self);
		assert.truthy(second:find("100 110 170", 1, true), second);
		assert.is_nil(second:find("201", 1, true), second);
	end);

	it("is told though the account's presence changed since", function ()
		local room, user = bookmarked { 100, 110, 201, 555 };
		gateway.says(ctx, room, own { id = false });
		assert.equal("100 110 201 555", muc.codes(muc.enter(muc.client(ctx, { user = user }), room, "ada").self));
	end);

	it("in several elements is understood", function ()
		local room = gateway.open(ctx, { join = {
			"<presence from='$room/$nick' to='$to' id='$id'><x xmlns='" .. muc.ns_user .. "'><item affiliation='none' role='participant'/></x>"
				.. "<x xmlns='" .. muc.ns_user .. "'><status code='110'/></x></presence>",
			subject("topic"),
		} });
		assert.equal("ada", muc.enter(muc.client(ctx), room, "ada").nick);
	end);

	it("of a change to the room is told to who comes later", function ()
		local room, user = bookmarked { 110 };
		gateway.says(ctx, room, "<message from='$room' to='$to' type='groupchat'><x xmlns='" .. muc.ns_user .. "'><status code='172'/></x></message>");
		assert.equal("100 110", muc.codes(muc.enter(muc.client(ctx, { user = user }), room, "ada").self));
	end);
end);

muc.account("a room that a bookmark made", { modules = { "bookmarks" } }, function (ctx, it)
	it("is unlocked by the client that joins it", function ()
		local room = muc.new_room();
		local ada = muc.client(ctx);
		muc.bookmark(ada, room, true, "ada");
		local entry = muc.enter(ada, room, "ada");
		assert.truthy(muc.has_code(entry.self, "201"), tostring(entry.self));
		muc.configure(ada, room);
		muc.enter(muc.client(ctx, { host = "plain.localhost" }), room, "bob");
	end);

	it("that shows real addresses says so to every device", function ()
		local room, owner = muc.open(ctx, { client = { host = "plain.localhost" } });
		local phone = muc.client(ctx);
		muc.enter(phone, room, "ada");
		muc.configure(owner, room, { ["muc#roomconfig_whois"] = "anyone" });
		muc.settle(owner, phone);
		local desk = muc.client(ctx, { user = phone.username });
		assert.truthy(muc.has_code(muc.enter(desk, room, "ada").self, "100"));
	end);
end);
