local t = require "support";
local muc = require "support.muc";

muc.account("several clients of an account in a room", {}, function (ctx, it)
	-- A room with an owner, another occupant of an account without minimix, and two clients of one account in it.
	local function party(nick, opts)
		local room, owner = muc.open(ctx, opts);
		local watcher = muc.client(ctx, { host = "plain.localhost" });
		muc.enter(watcher, room, "watcher");
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		local desk = muc.client(ctx, { user = phone.username });
		desk.entry = muc.enter(desk, room, nick or "ada");
		muc.settle(owner, watcher, phone, desk);
		return room, owner, phone, desk, watcher;
	end

	-- Counts what the room sends to each address from now on.
	local function count_copies(room)
		ctx.srv:eval([[
			local room = host_module(a:match("@(.*)$"), "muc").get_room_from_jid(a);
			kept.copies = {};
			local host = host_module(a:match("@(.*)$"), "muc").module;
			function room:route_stanza(stanza)
				if stanza.name == "message" then kept.copies[stanza.attr.to] = (kept.copies[stanza.attr.to] or 0) + 1; end
				return host:send(stanza);
			end
		]], room);
		return function () return ctx.srv:eval("return kept.copies"); end;
	end

	it("are one occupant, whose address is the account's", function ()
		local room, owner, phone, _, watcher = party();
		local expected = { owner.bare, phone.bare, watcher.jid };
		table.sort(expected);
		assert.same(expected, muc.sessions(ctx.srv, room));
		assert.equal(phone.bare, muc.bare(muc.item(muc.saw(owner, muc.presence_of(room, "ada"))).attr.jid));
	end);

	it("come without the others' noticing the second", function ()
		local room, owner, _, _, watcher = party();
		for _, c in ipairs { owner, watcher } do
			assert.equal(1, (select(2, muc.saw(c, muc.presence_of(room, "ada")))));
		end
	end);

	it("are served in order: others, self, history, subject", function ()
		local room, owner = muc.open(ctx);
		local watcher = muc.client(ctx, { host = "plain.localhost" });
		muc.enter(watcher, room, "watcher");
		muc.say(owner, room, nil, nil, "<subject>The subject</subject>");
		muc.say(owner, room, "before");
		muc.settle(owner);
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		muc.say(owner, room, "between");
		phone:expect({ body = "between" });
		local desk = muc.client(ctx, { user = phone.username });
		local entry = muc.enter(desk, room, "ada", { id = "second" });
		local kinds = {};
		for _, el in ipairs(entry.all) do
			kinds[#kinds + 1] = el.name == "presence" and (muc.has_code(el, "110") and "self" or "other")
				or el:child("subject") and not el:child("body") and "subject" or el:body();
			assert.equal(desk.jid, el.attr.to);
		end
		assert.same({ "other", "other", "self", "before", "between", "subject" }, kinds);
		assert.same({ "owner", "watcher" }, entry.nicks);
		assert.equal("ada", entry.nick);
		assert.equal("second", entry.self.attr.id);
		assert.equal("The subject", entry.subject:child_text("subject"));
		for _, el in ipairs(entry.history) do
			assert.equal(room .. "/owner", el.attr.from);
			assert.truthy(t.delay(el), tostring(el));
		end
		muc.in_step(ctx, room, owner, watcher, phone, desk);
	end);

	it("have their own wishes for the history", function ()
		local room, owner = muc.open(ctx);
		for i = 1, 6 do muc.say(owner, room, "m" .. i); end
		muc.settle(owner);
		local phone = muc.client(ctx);
		assert.same({}, muc.enter(phone, room, "ada", { history = { maxstanzas = 0 } }).history);
		muc.say(owner, room, "m7");
		phone:expect({ body = "m7" });
		local function second(history)
			local c = muc.client(ctx, { user = phone.username });
			return t.bodies(muc.enter(c, room, "ada", { history = history }).history);
		end
		assert.same(t.numbered("m", 7), second());
		assert.same({}, second { maxstanzas = 0 });
		assert.same({ "m6", "m7" }, second { maxstanzas = 2 });
		assert.same({}, second { maxchars = 0 });
		assert.same(t.numbered("m", 7), second { seconds = 600 });
		assert.same(t.numbered("m", 7), second { since = "2020-01-01T00:00:00Z" });
		assert.same({}, second { since = os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 3600) });
		muc.settle(phone);
		assert.same({ "m7" }, t.bodies(muc.got(phone, 1, { type = "groupchat" })));
	end);

	it("get each message once, and the room sends one copy", function ()
		local room, owner, phone, desk = party();
		local copies = count_copies(room);
		for i = 1, 10 do muc.say(owner, room, "m" .. i); end
		muc.settle(owner, phone, desk);
		for _, c in ipairs { phone, desk } do
			local list = muc.got(c, 1, { type = "groupchat", name = "message" });
			assert.same(t.numbered("m", 10), t.bodies(list));
			for _, el in ipairs(list) do
				assert.equal(c.jid, el.attr.to);
				if el:body() then assert.equal(room .. "/owner", el.attr.from); end
			end
		end
		local counted = copies();
		assert.equal(10, counted[phone.bare]);
		assert.is_nil(counted[phone.jid]);
		assert.is_nil(counted[desk.jid]);
	end);

	it("all get what one of them says, under its id", function ()
		local room, owner, phone, desk, watcher = party();
		local id = muc.say(phone, room, "from the phone");
		local id2 = muc.say(desk, room, "from the desk");
		for _, c in ipairs { phone, desk, owner, watcher } do
			local el, n = muc.saw(c, muc.groupchat(room, "ada", "from the phone"));
			assert.equal(1, n);
			assert.equal(id, el.attr.id);
			assert.equal(c.jid, el.attr.to);
			assert.equal(id2, (muc.saw(c, muc.groupchat(room, "ada", "from the desk"))).attr.id);
		end
	end);

	it("that ask for another nick get the account's: 210", function ()
		local room, owner, phone, desk, watcher = party("lovelace");
		assert.equal("ada", desk.entry.nick);
		assert.equal("110 210", muc.codes(desk.entry.self));
		muc.in_step(ctx, room, owner, phone, desk, watcher);
		-- and may leave under the one that they asked for
		muc.leave(desk, room, "lovelace");
		local own = desk:expect(function (el) return el.name == "presence" and el.attr.type == "unavailable" and muc.has_code(el, "110"); end);
		assert.equal(room, muc.bare(own.attr.from));
		muc.say(owner, room, "who's left?");
		phone:expect({ body = "who's left?" });
		desk:sync();
		assert.same({}, muc.got(desk, 1, { body = "who's left?" }));
		muc.in_step(ctx, room, owner, phone, watcher);
	end);

	it("that asked for another nick may change their presence under it", function ()
		local room, owner, phone, desk, watcher = party("lovelace");
		desk:send(("<presence to='%s/lovelace'><show>dnd</show></presence>"):format(room));
		desk:sync();
		-- either it's the account's presence now or the account's nick; in any case all agree
		muc.in_step(ctx, room, owner, phone, desk, watcher);
		local truth = muc.truth(ctx.srv, room);
		assert.equal("dnd", (truth.ada or truth.lovelace or {}).show);
	end);

	it("change the nick for all of them", function ()
		local room, owner, phone, desk, watcher = party();
		desk:send(("<presence to='%s/countess'/>"):format(room));
		for _, c in ipairs { desk, phone } do
			local old = c:expect(muc.presence_of(room, "ada", "unavailable"));
			assert.equal("110 303", muc.codes(old));
			assert.equal("countess", muc.item(old).attr.nick);
			assert.equal(c.jid, old.attr.to);
			assert.equal("110", muc.codes(c:expect(muc.presence_of(room, "countess"))));
		end
		muc.in_step(ctx, room, owner, phone, desk, watcher);
		assert.equal(1, (select(2, muc.saw(watcher, muc.presence_of(room, "ada", "unavailable", "303")))));
		muc.say(phone, room, "as a countess");
		muc.all_hear({ owner, phone, desk, watcher }, room, "countess", "as a countess");
	end);

	it("hear of a conflict of nicks only if they asked", function ()
		local room, owner, phone, desk, watcher = party();
		desk:send(("<presence id='n1' to='%s/watcher'/>"):format(room));
		local err = desk:expect({ name = "presence", type = "error" });
		assert.equal("n1", err.attr.id);
		assert.equal("conflict", (t.condition(err:child("error"))));
		muc.settle(phone);
		assert.same({}, muc.got(phone, 1, { type = "error" }));
		muc.in_step(ctx, room, owner, phone, desk, watcher);
	end);

	it("leave one at a time; the room sees the last one leave", function ()
		local room, owner, phone, desk, watcher = party();
		local own = muc.left(phone, room, "ada");
		assert.equal(phone.jid, own.attr.to);
		assert.equal("none", muc.item(own).attr.role);
		local mark = muc.mark(phone);
		muc.say(owner, room, "still two");
		desk:expect({ body = "still two" });
		muc.settle(phone, desk, owner, watcher);
		assert.same({}, muc.got_from(phone, mark, room));
		assert.same({}, muc.got(watcher, 1, { name = "presence", type = "unavailable" }));
		assert.same({}, muc.got(desk, 1, { name = "presence", type = "unavailable" }));
		muc.in_step(ctx, room, owner, desk, watcher);
		muc.left(desk, room, "ada");
		watcher:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner, watcher);
	end);

	it("leave one at a time when they go offline, too", function ()
		local room, owner, phone, desk, watcher = party();
		phone:presence("unavailable");
		muc.settle(phone);
		muc.in_step(ctx, room, owner, desk, watcher);
		assert.truthy(muc.truth(ctx.srv, room).ada);
		desk:cut();
		watcher:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner, watcher);
	end);

	it("show the presence that was sent last, and fall back", function ()
		local room, owner, phone, desk, watcher = party();
		phone:send(("<presence to='%s/ada'><show>away</show><status>phone</status></presence>"):format(room));
		muc.settle(phone);
		desk:send(("<presence to='%s/ada'><show>dnd</show><status>desk</status></presence>"):format(room));
		muc.settle(desk);
		assert.equal("desk", muc.in_step(ctx, room, owner, phone, desk, watcher).ada.status);
		muc.left(desk, room, "ada");
		local truth = muc.in_step(ctx, room, owner, phone, watcher);
		assert.equal("phone", truth.ada.status);
		assert.equal("away", truth.ada.show);
	end);

	it("change the presence by joining, too", function ()
		local room, owner, phone, _, watcher = party();
		local third = muc.client(ctx, { user = phone.username });
		muc.enter(third, room, "ada", { extra = "<show>chat</show>" });
		assert.equal("chat", muc.in_step(ctx, room, owner, phone, third, watcher).ada.show);
	end);

	local function is_request(el) return el.name == "iq" and (el.attr.type == "get" or el.attr.type == "set"); end

	it("get a request to their occupant only once, among them", function ()
		local room, owner, phone, desk = party();
		local id = t.client.id();
		owner:send(("<iq type='get' id='%s' to='%s/ada'><query xmlns='jabber:iq:version'/></iq>"):format(id, room));
		muc.settle(owner, phone, desk);
		local at_phone, at_desk = muc.got(phone, 1, is_request), muc.got(desk, 1, is_request);
		assert.equal(1, #at_phone + #at_desk);
		local c = #at_phone == 1 and phone or desk;
		local iq = at_phone[1] or at_desk[1];
		assert.equal(c.jid, iq.attr.to);
		assert.equal(room .. "/owner", iq.attr.from);
		c:send(("<iq type='result' id='%s' to='%s'><query xmlns='jabber:iq:version'><name>N</name></query></iq>"):format(
			t.escape(iq.attr.id), iq.attr.from));
		local result = owner:expect({ name = "iq", id = id });
		assert.equal("result", result.attr.type);
		assert.equal(room .. "/ada", result.attr.from);
	end);

	it("get the answers to what each of them asked, even under one id", function ()
		local room, owner, phone, desk = party();
		phone:send(("<iq type='get' id='x' to='%s/owner'><q xmlns='urn:x:phone'/></iq>"):format(room));
		muc.settle(phone);
		desk:send(("<iq type='get' id='x' to='%s/owner'><q xmlns='urn:x:desk'/></iq>"):format(room));
		local first, second = owner:expect(is_request), owner:expect(is_request);
		assert.truthy(first:child("q", "urn:x:phone"));
		owner:send(("<iq type='result' id='%s' to='%s'><a xmlns='urn:x:to-desk'/></iq>"):format(t.escape(second.attr.id), second.attr.from));
		owner:send(("<iq type='result' id='%s' to='%s'><a xmlns='urn:x:to-phone'/></iq>"):format(t.escape(first.attr.id), first.attr.from));
		muc.settle(owner, phone, desk);
		local function answers(c) return muc.got(c, 1, { name = "iq", type = "result", id = "x" }); end
		assert.equal(1, #answers(phone));
		assert.equal(1, #answers(desk));
		assert.truthy(answers(phone)[1]:child("a", "urn:x:to-phone"));
		assert.truthy(answers(desk)[1]:child("a", "urn:x:to-desk"));
	end);

	it("all get private messages, once", function ()
		local room, owner, phone, desk = party();
		for _, c in ipairs { phone, desk } do c:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>"); end
		owner:message(room .. "/ada", "psst", { id = "pm" });
		muc.settle(owner, phone, desk);
		for _, c in ipairs { phone, desk } do
			local list = muc.got(c, 1, function (el) return el.name == "message" and tostring(el):find("psst", 1, true); end);
			assert.equal(1, #list);
			assert.equal(room .. "/owner", list[1].attr.from);
			assert.equal(c.jid, list[1].attr.to);
			assert.equal("pm", list[1].attr.id);
		end
	end);

	it("that didn't join get nothing of the room, and may nothing in it", function ()
		local room, owner, phone, desk = party();
		local third = muc.client(ctx, { user = phone.username });
		third:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
		local mark = muc.mark(third);
		muc.say(owner, room, "hello");
		owner:message(room .. "/ada", "psst");
		owner:send(("<presence to='%s/owner'><show>away</show></presence>"):format(room));
		desk:expect({ body = "psst" });
		muc.settle(owner, phone, desk, third);
		assert.same({}, muc.got_from(third, mark, room));
		for _, el in ipairs(muc.got(third, mark, "message")) do assert.falsy(tostring(el):find("hello", 1, true), tostring(el)); end
		local id = muc.say(third, room, "me too");
		assert.equal("not-acceptable", (t.condition(third:expect({ name = "message", type = "error", id = id }):child("error"))));
		third:message(room .. "/owner", "psst", { id = "p" });
		assert.equal("not-acceptable", (t.condition(third:expect({ name = "message", type = "error", id = "p" }):child("error"))));
		local ping = third:ping(room .. "/ada");
		assert.equal("not-acceptable", (t.condition(third:expect({ name = "iq", id = ping }):child("error"))));
		ping = phone:ping(room .. "/ada");
		assert.equal("result", phone:expect({ name = "iq", id = ping }).attr.type);
	end);

	it("hear of the room's refusals only if they asked for them", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada");
		local id = muc.say(desk, room, "no voice");
		local err = desk:expect({ name = "message", type = "error" });
		assert.equal(id, err.attr.id);
		assert.equal("forbidden", (t.condition(err:child("error"))));
		assert.equal(room, err.attr.from);
		phone:message(room .. "/nobody", "psst", { id = "pm" });
		err = phone:expect({ name = "message", type = "error" });
		assert.equal("pm", err.attr.id);
		assert.equal("item-not-found", (t.condition(err:child("error"))));
		muc.settle(phone, desk);
		assert.equal(1, #muc.got(phone, 1, { name = "message", type = "error" }));
		assert.equal(1, #muc.got(desk, 1, { name = "message", type = "error" }));
		muc.in_step(ctx, room, owner, phone, desk);
	end);

	it("are all thrown out by a kick, and each may come back", function ()
		local room, owner, phone, desk, watcher = party();
		muc.admin_ok(owner, room, { role = "none", nick = "ada", reason = "out" });
		for _, c in ipairs { phone, desk } do
			local own = muc.saw(c, muc.presence_of(room, "ada", "unavailable"));
			assert.equal("110 307", muc.codes(own));
			assert.equal("out", muc.item(own):child_text("reason"));
			assert.equal(c.jid, own.attr.to);
			local ping = c:ping(room .. "/ada");
			assert.equal("not-acceptable", (t.condition(c:expect({ name = "iq", id = ping }):child("error"))));
		end
		muc.settle(owner);
		assert.same({ "owner", "watcher" }, muc.enter(desk, room, "ada").nicks);
		muc.in_step(ctx, room, owner, desk, watcher);
		phone:sync();
		local mark = muc.mark(phone);
		muc.say(owner, room, "one of you");
		desk:expect({ body = "one of you" });
		phone:sync();
		assert.same({}, muc.got_from(phone, mark, room));
		muc.enter(phone, room, "ada");
		muc.in_step(ctx, room, owner, phone, desk, watcher);
	end);

	it("see the addresses that the account may see, and no others'", function ()
		local room, owner, phone, desk, watcher = party();
		for _, el in ipairs(desk.entry.others) do assert.is_nil(muc.item(el).attr.jid, tostring(el)); end
		local owner2 = muc.client(ctx, { user = owner.username });
		local entry = muc.enter(owner2, room, "owner");
		local jids = {};
		for _, el in ipairs(entry.others) do jids[muc.nick_of(el.attr.from)] = muc.bare(muc.item(el).attr.jid); end
		assert.same({ ada = phone.bare, watcher = watcher.bare }, jids);
		local phone3 = muc.client(ctx, { user = phone.username });
		for _, el in ipairs(muc.enter(phone3, room, "ada").others) do assert.is_nil(muc.item(el).attr.jid, tostring(el)); end
	end);

	it("may send an error, and the account stays in the room", function ()
		local room, owner, phone, desk, watcher = party();
		owner:message(room .. "/ada", "psst", { id = "pm" });
		local el = desk:expect({ body = "psst" });
		for _, to in ipairs { el.attr.from, room } do
			desk:send(("<message type='error' id='pm' to='%s'><error type='cancel'><service-unavailable xmlns='%s'/></error></message>"):format(
				to, t.ns_errors));
		end
		desk:send(("<presence type='error' to='%s'><error type='cancel'><gone xmlns='%s'/></error></presence>"):format(el.attr.from, t.ns_errors));
		muc.settle(desk, phone);
		assert.truthy(muc.truth(ctx.srv, room).ada, "the account is out");
		assert.same({}, muc.got(watcher, 1, { name = "presence", type = "unavailable" }));
		muc.in_step(ctx, room, owner, phone, watcher);
	end);

	it("are in different rooms, each its own", function ()
		local room, owner, phone, desk = party();
		local other = muc.open(ctx, { owner = owner });
		muc.enter(desk, other, "ada");
		muc.left(desk, room, "ada");
		muc.say(owner, room, "for the phone");
		muc.say(owner, other, "for the desk");
		muc.settle(owner, phone, desk);
		assert.same({ "for the phone" }, t.bodies(muc.got(phone, 1, { type = "groupchat" })));
		assert.same({ "for the desk" }, t.bodies(muc.got(desk, 1, { type = "groupchat" })));
		muc.in_step(ctx, room, owner, phone);
		muc.in_step(ctx, other, owner, desk);
	end);

	it("many of them stay in step", function ()
		local room, owner, phone, desk, watcher = party();
		local all = { owner, watcher, phone, desk };
		for _ = 1, 6 do
			local c = muc.client(ctx, { user = phone.username });
			muc.enter(c, room, "ada");
			all[#all + 1] = c;
		end
		for i, c in ipairs(all) do muc.say(c, room, "m" .. i); c:sync(); end
		muc.in_step(ctx, room, table.unpack(all));
		for i, c in ipairs(all) do
			local bodies = {};
			for _, el in ipairs(muc.got(c, 1, { type = "groupchat" })) do
				if el:body() then bodies[#bodies + 1] = el:body(); end
			end
			assert.same(t.numbered("m", #all), bodies, "client " .. i);
		end
	end);

	it("that ask for a nick that somebody else has get the account's, too", function ()
		local room, owner, phone, desk, watcher = party("watcher");
		assert.equal("ada", desk.entry.nick);
		assert.equal("110 210", muc.codes(desk.entry.self));
		muc.in_step(ctx, room, owner, phone, desk, watcher);
	end);

	it("that ask for a nick that somebody else has, or comes to have, reach that one by it", function ()
		for _, asked in ipairs { "watcher", "later" } do
			local room, owner, phone, desk, watcher = party(asked);
			watcher:send(("<presence to='%s/%s'/>"):format(room, asked));
			muc.settle(watcher, desk);
			desk:message(room .. "/" .. asked, "psst");
			assert.equal(room .. "/ada", watcher:expect({ body = "psst" }).attr.from);
			desk:send(("<iq type='get' id='v' to='%s/%s'><query xmlns='jabber:iq:version'/></iq>"):format(room, asked));
			assert.equal(room .. "/ada", watcher:expect({ name = "iq", type = "get" }).attr.from);
			desk:send(("<presence type='probe' id='w' to='%s/%s'/>"):format(room, asked));
			assert.equal("w", desk:expect(muc.presence_of(room, asked)).attr.id);
			muc.in_step(ctx, room, owner, phone, desk, watcher);
			assert.same({}, muc.got(phone, 1, { body = "psst" }));
		end
	end);

	it("that join after the room has hidden real JIDs are not shown them", function ()
		local room, owner, phone, desk, watcher = party(nil, { config = { ["muc#roomconfig_whois"] = "anyone" } });
		assert.truthy(muc.item((muc.saw(desk, muc.presence_of(room, "watcher")))).attr.jid);
		muc.configure(owner, room, { ["muc#roomconfig_whois"] = "moderators" });
		phone:expect(function (el) return el.name == "message" and muc.has_code(el, "173"); end);
		local third = muc.client(ctx, { user = phone.username });
		muc.enter(third, room, "ada");
		for _, nick in ipairs { "owner", "watcher" } do
			assert.is_nil(muc.item((muc.saw(third, muc.presence_of(room, nick)))).attr.jid);
		end
		muc.in_step(ctx, room, owner, phone, desk, watcher, third);
	end);

	for what, change in pairs {
		["the room shows real JIDs"] = function (owner, room) muc.configure(owner, room, { ["muc#roomconfig_whois"] = "anyone" }); end;
		["the account is a moderator"] = function (owner, room) muc.admin_ok(owner, room, { role = "moderator", nick = "ada" }); end;
	} do
		it("that join when " .. what .. " are shown them", function ()
			local room, owner, phone, desk, watcher = party();
			assert.is_nil(muc.item((muc.saw(desk, muc.presence_of(room, "watcher")))).attr.jid);
			local mark = muc.mark(desk);
			change(owner, room);
			muc.in_step(ctx, room, owner, phone, desk, watcher);
			local third = muc.client(ctx, { user = phone.username });
			muc.enter(third, room, "ada");
			for nick, c in pairs { owner = owner, watcher = watcher } do
				assert.equal(c.jid, muc.item((muc.saw(third, muc.presence_of(room, nick)))).attr.jid);
			end
			muc.in_step(ctx, room, owner, phone, desk, watcher, third);
			assert.same({}, muc.got(desk, mark, muc.presence_of(room, "watcher")));
		end);
	end

	it("need the password only once", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "pw" } });
		local phone = muc.client(ctx);
		muc.enter(phone, room, "ada", { password = "pw" });
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada");
		muc.in_step(ctx, room, owner, phone, desk);
	end);

	it("that log in anew and join under another nick get everything, and the account gets that nick", function ()
		local room, owner, phone, desk, watcher = party();
		muc.say(owner, room, "hello");
		local again = muc.client(ctx, { user = desk.username, resource = desk.resource });
		again:send(("<presence id='again' to='%s/countess'><x xmlns='%s'/></presence>"):format(room, muc.ns));
		phone:expect(muc.presence_of(room, "countess"));
		muc.in_step(ctx, room, owner, phone, watcher, again);
		for _, nick in ipairs { "owner", "watcher", "countess" } do
			assert.equal(1, (select(2, muc.saw(again, muc.presence_of(room, nick)))));
		end
		assert.equal(1, (select(2, muc.saw(again, muc.groupchat(room, "owner", "hello")))));
		muc.saw(again, function (el) return el.name == "message" and el:child("subject"); end);
		assert.equal(1, (select(2, muc.saw(watcher, muc.presence_of(room, "ada", "unavailable", "303")))));
	end);

	it("whose resource is taken over by another leave as that one", function ()
		local room, owner, phone, desk, watcher = party();
		local again = muc.client(ctx, { user = desk.username, resource = desk.resource });
		muc.settle(again);
		local mark = muc.mark(again);
		muc.say(owner, room, "for the phone");
		phone:expect({ body = "for the phone" });
		again:sync();
		assert.same({}, muc.got_from(again, mark, room));
		muc.in_step(ctx, room, owner, phone, watcher);
		assert.same({}, muc.got(watcher, 1, { name = "presence", type = "unavailable" }));
		muc.enter(again, room, "ada");
		muc.in_step(ctx, room, owner, phone, watcher, again);
	end);

	it("of an account that's deleted are out", function ()
		local room, owner, phone, desk, watcher = party();
		ctx.srv:eval([[return require "core.usermanager".delete_user(a, "localhost")]], phone.username);
		watcher:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.in_step(ctx, room, owner, watcher);
		phone:cut();
		desk:cut();
	end);

	it("that didn't join aren't in by a presence, an absence or a request", function ()
		local room, owner, phone, desk, watcher = party();
		local third = muc.client(ctx, { user = phone.username });
		assert.equal("item-not-found", (muc.refused(third, room, "ada", { x = false, extra = "<status>sneaky</status>" })));
		local mark = muc.mark(third);
		muc.leave(third, room, "ada");
		muc.settle(third);
		assert.same({}, muc.got_from(third, mark, room));
		third:send(("<iq type='get' id='r' to='%s/owner'><query xmlns='jabber:iq:version'/></iq>"):format(room));
		assert.equal("not-acceptable", (t.condition(third:expect({ name = "iq", id = "r" }):child("error"))));
		muc.settle(owner);
		assert.same({}, muc.got(owner, 1, is_request));
		muc.in_step(ctx, room, owner, phone, desk, watcher);
		assert.is_nil(muc.truth(ctx.srv, room).ada.status);
	end);

	it("all get what one of them says to itself in private", function ()
		local room, owner, phone, desk = party();
		phone:message(room .. "/ada", "note to self", { id = "self" });
		muc.settle(phone, desk, owner);
		for _, c in ipairs { phone, desk } do
			local list = muc.got(c, 1, { name = "message", body = "note to self" });
			assert.equal(1, #list);
			assert.equal(room .. "/ada", list[1].attr.from);
			assert.equal("self", list[1].attr.id);
		end
		assert.same({}, muc.got(owner, 1, { body = "note to self" }));
	end);

	it("that probe an occupant are told how it is, and nobody else is", function ()
		local room, owner, phone, desk = party();
		owner:send(("<presence to='%s/owner'><show>dnd</show></presence>"):format(room));
		muc.settle(owner, phone, desk);
		for _, nick in ipairs { "owner", "ada" } do
			local before, before_others = muc.mark(phone), { muc.mark(desk), muc.mark(owner) };
			phone:send(("<presence type='probe' id='p-%s' to='%s/%s'/>"):format(nick, room, nick));
			muc.settle(phone, owner, desk);
			local got = muc.got_from(phone, before, room);
			assert.equal(1, #got);
			assert.equal("p-" .. nick, got[1].attr.id);
			assert.equal(room .. "/" .. nick, got[1].attr.from);
			assert.equal(phone.jid, got[1].attr.to);
			assert.equal(nick == "ada", muc.has_code(got[1], "110"));
			assert.equal(nick == "owner" and "dnd" or nil, got[1]:child_text("show"));
			assert.same({}, muc.got_from(desk, before_others[1], room));
			assert.same({}, muc.got_from(owner, before_others[2], room));
		end
		muc.in_step(ctx, room, owner, phone, desk);
	end);

	it("that probe somebody who isn't there ask the room as the account", function ()
		local room, owner, phone, desk = party();
		ctx.srv:eval([[
			kept.probes = {};
			host_module("rooms.localhost", "muc").module:hook("presence/full", function (event)
				if event.stanza.attr.type == "probe" then table.insert(kept.probes, event.stanza.attr.from); end
			end, 1000);
		]]);
		phone:send(("<presence type='probe' id='p' to='%s/nobody'/>"):format(room));
		muc.settle(phone, owner, desk);
		assert.same({ phone.bare }, ctx.srv:eval("return kept.probes"));
		muc.in_step(ctx, room, owner, phone, desk);
	end);

	it("of which nothing leaves from a client's own address", function ()
		local room, owner, phone, desk = party();
		ctx.srv:eval([[
			kept.senders = {};
			local module = host_module("rooms.localhost", "muc").module;
			for _, kind in ipairs { "presence", "message", "iq" } do
				for _, to in ipairs { "full", "bare" } do
					module:hook(kind .. "/" .. to, function (event)
						if event.stanza.attr.from:find("^[^/]+/") and event.stanza.attr.from:find(a, 1, true) == 1 then
							table.insert(kept.senders, tostring(event.stanza));
						end
					end, 1000);
				end
			end
		]], phone.bare);
		for _, to in ipairs { room, room .. "/owner", room .. "/ada", room .. "/nobody" } do
			for _, kind in ipairs { "", "type='probe'", "type='error'" } do
				if to ~= room .. "/nobody" or kind ~= "" then phone:send(("<presence %s to='%s' id='x'/>"):format(kind, to)); end
			end
			for _, kind in ipairs { "chat", "groupchat", "headline", "normal", "error" } do
				if to == room or kind ~= "groupchat" then phone:message(to, "m", { type = kind }); end
			end
			for _, what in ipairs { "<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='jabber:iq:version'/>", "<vCard xmlns='vcard-temp'/>" } do
				for _, kind in ipairs { "get", "set" } do
					phone:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, t.client.id(), to, what));
				end
			end
			phone:send(("<iq type='result' id='unknown' to='%s'/>"):format(to));
			phone:send(("<iq type='error' id='unknown' to='%s'/>"):format(to));
		end
		muc.settle(phone, owner, desk);
		assert.same({}, ctx.srv:eval("return kept.senders"));
		assert.truthy(muc.truth(ctx.srv, room).ada);
	end);

	it("of a moderator get a request for voice, each once at most", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		local also = muc.client(ctx, { user = owner.username });
		muc.enter(also, room, "owner");
		local ada = muc.guest(ctx, room, "ada");
		ada:send(("<message to='%s'><x xmlns='jabber:x:data' type='submit'>"
			.. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>"
			.. "<field var='muc#role'><value>participant</value></field></x></message>"):format(room));
		muc.settle(ada, owner, also);
		local function forms(c) return #muc.got(c, 1, function (e) return e.name == "message" and e:child("x", "jabber:x:data"); end); end
		assert.truthy(forms(owner) + forms(also) > 0);
		assert.truthy(forms(owner) <= 1 and forms(also) <= 1);
	end);
end);

muc.account("real addresses", {}, function (ctx, it)
	local function jid_of(c, room, nick)
		return muc.item((muc.saw(c, muc.presence_of(room, nick)))).attr.jid;
	end

	it("of one's own account and, for who may see them, of others here are those of the client that is shown", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_whois"] = "anyone" } });
		local phone = muc.client(ctx);
		muc.enter(phone, room, "ada");
		assert.equal(phone.jid, jid_of(phone, room, "ada"));
		assert.equal(phone.jid, jid_of(owner, room, "ada"));
		assert.equal(owner.jid, jid_of(phone, room, "owner"));
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada", { extra = "<show>dnd</show>" });
		for _, c in ipairs { phone, desk, owner } do
			c:expect(function (el) return el.name == "presence" and el:child_text("show") == "dnd"; end);
			assert.equal(desk.jid, jid_of(c, room, "ada"));
		end
		assert.equal(owner.jid, jid_of(desk, room, "owner"));
	end);

	it("aren't shown to who may not see them, and stay bare for accounts that nobody shows", function ()
		local room, owner = muc.open(ctx);
		local phone = muc.client(ctx);
		muc.bookmark(phone, room, true, "ada");
		muc.eventually("in", function () assert.equal(phone.bare, jid_of(owner, room, "ada")); end);
		local eve = muc.guest(ctx, room, "eve");
		assert.is_nil(jid_of(eve, room, "ada"));
		assert.is_nil(jid_of(eve, room, "owner"));
		assert.equal(eve.jid, jid_of(owner, room, "eve"));
	end);
end);
