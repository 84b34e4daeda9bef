local t = require "support";
local muc = require "support.muc";

-- Has a local component's stanza delivered as a room would.
local function from_room(ctx, text)
	ctx.srv:eval([[
		local stanza = require "util.xml".parse(a);
		stanza.attr.xmlns = nil;
		prosody.core_post_stanza(prosody.hosts["rooms.localhost"], stanza);
	]], (text:gsub("^<(%a+) ", "<%1 xmlns='jabber:client' ")));
end

local function two(ctx)
	local room, owner = muc.open(ctx);
	return room, owner, muc.guest(ctx, room, "ada", nil, owner);
end

muc.ordinary("what isn't a room's", {}, function (ctx, it)
	it("groupchat to the account from what isn't a room of its bounces, as ever", function ()
		local _, _, ada = two(ctx);
		local eve = muc.client(ctx, { host = "plain.localhost" });
		local mark = muc.mark(ada);
		eve:message(ada.bare, "I'm a room", { type = "groupchat", id = "g" });
		local err = eve:expect({ name = "message", type = "error", id = "g" });
		assert.equal("service-unavailable", (t.condition(err:child("error"))));
		muc.settle(ada);
		assert.same({}, muc.got(ada, mark, "message"));
	end);

	it("groupchat and private messages of a room that was left don't reach the client", function ()
		local room, _, ada = two(ctx);
		muc.left(ada, room, "ada");
		local mark = muc.mark(ada);
		from_room(ctx, ("<message type='groupchat' from='%s/owner' to='%s'><body>ghost</body></message>"):format(room, ada.bare));
		muc.settle(ada);
		assert.same({}, muc.got(ada, mark, "message"));
	end);

	it("presence to the account from others goes to its clients, as ever", function ()
		local room, owner, ada = two(ctx);
		local also = muc.client(ctx, { user = ada.username });
		local eve = muc.client(ctx, { host = "plain.localhost" });
		eve:send(("<presence to='%s'><status>hello</status></presence>"):format(ada.bare));
		eve:sync();
		for _, c in ipairs { ada, also } do assert.equal(eve.jid, muc.saw(c, function (el) return el:child_text("status") == "hello"; end).attr.from); end
		muc.in_step(ctx, room, owner, ada);
	end);

	it("messages between clients by their addresses go as ever", function ()
		local _, _, ada = two(ctx);
		local eve = muc.client(ctx, { host = "plain.localhost" });
		eve:message(ada.jid, "to you", { id = "c1" });
		eve:message(ada.bare, "to all of you", { id = "c2" });
		assert.equal(eve.jid, ada:expect({ name = "message", id = "c1" }).attr.from);
		ada:expect({ name = "message", id = "c2" });
		ada:message(eve.jid, "back");
		assert.equal(ada.jid, eve:expect({ body = "back" }).attr.from);
		local id = ada:ping(eve.jid);
		local iq = eve:expect({ name = "iq", type = "get" });
		assert.equal(ada.jid, iq.attr.from);
		assert.equal(id, iq.attr.id);
		eve:send(("<iq type='result' id='%s' to='%s'/>"):format(iq.attr.id, iq.attr.from));
		assert.equal("result", ada:expect({ name = "iq", id = id }).attr.type);
	end);

	it("directed presence to others goes as ever, and is taken back in the end", function ()
		local _, _, ada = two(ctx);
		local eve = muc.client(ctx, { host = "plain.localhost" });
		ada:send(("<presence to='%s'><status>directed</status></presence>"):format(eve.jid));
		assert.equal(ada.jid, eve:expect(function (el) return el:child_text("status") == "directed"; end).attr.from);
		ada:close();
		assert.equal(ada.jid, eve:expect({ name = "presence", type = "unavailable" }).attr.from);
	end);

	it("answers that nobody asked for reach nobody", function ()
		local room, owner, ada = two(ctx);
		owner:send(("<iq type='result' id='id1' to='%s/ada'><q xmlns='urn:x:forged'/></iq>"):format(room));
		owner:send(("<iq type='error' id='roster' to='%s/ada'><q xmlns='urn:x:forged'/></iq>"):format(room));
		from_room(ctx, ("<iq type='result' id='id1' from='%s/owner' to='%s'><q xmlns='urn:x:forged'/></iq>"):format(room, ada.bare));
		muc.settle(owner, ada);
		assert.same({}, muc.got(ada, 1, function (el) return el:child("q", "urn:x:forged"); end));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("requests of a room to the account itself are the server's", function ()
		local room, owner, ada = two(ctx);
		ctx.srv:eval([[
			kept.answers = {};
			if not kept.answers_hooked then
				kept.answers_hooked = true;
				host_module("rooms.localhost", "muc").module:hook("iq/bare", function (event)
					if event.stanza.attr.id == "from-room" then table.insert(kept.answers, event.stanza.attr.type); return true; end
				end, 100);
			end
		]]);
		from_room(ctx, ("<iq type='get' id='from-room' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"):format(
			room, ada.bare));
		muc.settle(ada);
		assert.equal(1, #ctx.srv:eval("return kept.answers"));
		assert.same({}, muc.got(ada, 1, { name = "iq", id = "from-room" }));
		muc.in_step(ctx, room, owner, ada);
	end);
end);

muc.account("what isn't a room's, or is too much", { config = "minimix_max_rooms = 5" }, function (ctx, it)
	it("presence of a room that one isn't in makes no occupants", function ()
		local room, owner, ada = two(ctx);
		local other, owner2 = muc.open(ctx);
		from_room(ctx, ("<presence from='%s/ghost' to='%s'><x xmlns='%s'><item affiliation='none' role='participant'/></x></presence>"):format(
			other, ada.bare, muc.ns_user));
		ada:sync(); -- Prosody gives it to the account's clients, as any presence
		assert.same({ "owner" }, muc.enter(ada, other, "ada").nicks);
		muc.in_step(ctx, room, owner, ada);
		muc.settle(owner2, ada);
		assert.is_nil(muc.truth(ctx.srv, other).ghost);
	end);

	it("more rooms than an account may be in are refused, clearly", function ()
		local ada = muc.client(ctx);
		local rooms = {};
		for i = 1, 6 do rooms[i] = muc.open(ctx); end
		for i = 1, 5 do muc.enter(ada, rooms[i], "ada"); end
		local condition, _, el = muc.refused(ada, rooms[6], "ada");
		assert.truthy(condition == "resource-constraint" or condition == "policy-violation", tostring(el));
		assert.truthy(el:child("error"):child_text("text"), "says nothing");
		assert.equal(rooms[6] .. "/ada", el.attr.from);
		assert.is_nil(muc.truth(ctx.srv, rooms[6]).ada);
		-- other accounts have their own five, another client of this one hasn't
		local also = muc.client(ctx, { user = ada.username });
		muc.refused(also, rooms[6], "ada");
		muc.enter(also, rooms[5], "ada");
		muc.enter(muc.client(ctx), rooms[6], "bob");
		muc.left(also, rooms[5], "ada");
		muc.left(ada, rooms[1], "ada");
		muc.enter(ada, rooms[6], "ada");
	end);

	it("a join that fails doesn't count", function ()
		local ada = muc.client(ctx);
		local locked = muc.open(ctx, { config = { ["muc#roomconfig_roomsecret"] = "pw" } });
		for _ = 1, 10 do muc.refused(ada, locked, "ada"); end
		for _ = 1, 5 do muc.enter(ada, (muc.open(ctx)), "ada"); end
	end);

	it("a flood of joins, leaves and changes ends in order", function ()
		local room, owner, ada = two(ctx);
		local text = {};
		for i = 1, 300 do
			text[#text + 1] = ("<presence to='%s/ada%d'><x xmlns='%s'/></presence>"):format(room, i % 7, muc.ns);
			if i % 3 == 0 then text[#text + 1] = ("<presence to='%s/ada%d' type='unavailable'/>"):format(room, i % 7); end
		end
		ada:send(table.concat(text));
		ada:sync(30);
		local inside = muc.in_step(ctx, room, owner);
		local occupants = 0;
		for _ in pairs(inside) do occupants = occupants + 1; end
		assert.same(occupants == 2 and inside or {}, muc.picture(ada, room));
	end);

	it("joins to many rooms that don't exist or can't be reached leave nothing", function ()
		local ada = muc.client(ctx);
		for i = 1, 50 do muc.join(ada, "room@nowhere" .. i .. ".invalid", "ada"); end
		ada:sync(20);
		assert.equal(50, #muc.got(ada, 1, { name = "presence", type = "error" }));
		for _ = 1, 5 do muc.enter(ada, (muc.open(ctx)), "ada"); end
	end);

	it("an empty nick is no address", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		ada:send(("<presence id='e' to='%s/'><x xmlns='%s'/></presence>"):format(room, muc.ns));
		assert.equal("jid-malformed", (t.condition(ada:expect({ name = "presence", type = "error", id = "e" }):child("error"))));
		muc.enter(ada, room, "ada");
	end);

	it("nicks that are no address are refused, joining and renaming", function ()
		local room, owner, ada = two(ctx);
		local eve = muc.client(ctx);
		for _, nick in ipairs { "a\u{202e}b", ("n"):rep(1024), ("é"):rep(600), "a\u{e000}", "👩‍💻" } do
			for _, c in ipairs { eve, ada } do
				c:send(("<presence id='odd' to='%s/%s'>%s</presence>"):format(room, nick, c == eve and "<x xmlns='" .. muc.ns .. "'/>" or ""));
				local refusal = c:expect({ name = "presence", type = "error", id = "odd" });
				assert.equal("jid-malformed", (t.condition(refusal:child("error"))), nick);
			end
		end
		muc.in_step(ctx, room, owner, ada);
		assert.same({}, muc.picture(eve, room));
		muc.enter(eve, room, "eve");
		muc.in_step(ctx, room, owner, ada, eve);
	end);

	it("odd nicks are the account's in every form", function ()
		for _, nick in ipairs { "ａｄａ", "שלום", "a<b>&'c\"", "Ada King", ("n"):rep(1023), "☃ ♥",
			"A\u{30a}ngstro\u{308}m" } do
			local room, owner = muc.open(ctx);
			local phone = muc.client(ctx);
			local entry = muc.enter(phone, room, nick);
			local desk = muc.client(ctx, { user = phone.username });
			local second = muc.enter(desk, room, nick);
			assert.equal(entry.nick, second.nick);
			assert.equal("110", muc.codes(second.self));
			muc.in_step(ctx, room, owner, phone, desk);
			muc.leave(desk, room, nick);
			desk:expect(muc.presence_of(room, entry.nick, "unavailable"));
			muc.in_step(ctx, room, owner, phone);
		end
	end);

	it("a room of 5,000 occupants is joined by two clients", function ()
		local room, owner = muc.open(ctx);
		ctx.srv:eval([[
			local room = host_module("rooms.localhost", "muc").get_room_from_jid(a);
			for i = 1, 5000 do
				local o = room:new_occupant("crowd" .. i .. "@nowhere.invalid", a .. "/n" .. i);
				o:set_session("crowd" .. i .. "@nowhere.invalid/r", st.presence({ from = "crowd" .. i .. "@nowhere.invalid/r", to = a .. "/n" .. i }));
				room:save_occupant(o);
			end
			-- nobody is there to get what the room says
			local send = host_module("rooms.localhost", "muc").module;
			function room:route_stanza(stanza)
				if stanza.attr.to:find("nowhere.invalid", 1, true) then return true; end
				return send:send(stanza);
			end
		]], room);
		local phone = ctx:resumable { available = true };
		local desk = ctx:resumable { user = phone.username, available = true };
		assert.equal(5001, #muc.enter(phone, room, "ada", { seconds = 60 }).nicks);
		phone:ack();
		assert.equal(5001, #muc.enter(desk, room, "ada", { seconds = 60 }).nicks);
		muc.say(owner, room, "hello all");
		muc.all_hear({ phone, desk }, room, "owner", "hello all");
		muc.left(phone, room, "ada");
		muc.left(desk, room, "ada");
		assert.is_nil(muc.truth(ctx.srv, room).ada);
	end);
end);

muc.account("a room that is too large", { config = "minimix_max_room_bytes = 100000" }, function (ctx, it)
	it("reaches the clients that are there, and is not all kept", function ()
		local room, _, ada = two(ctx);
		local mark, seen = ctx.srv:log_size(), muc.mark(ada);
		ctx.srv:eval([[
			for i = 1, 1000 do
				prosody.core_post_stanza(prosody.hosts["rooms.localhost"], st.presence({ from = a.."/crowd"..i, to = b })
					:text_tag("status", ("x"):rep(100))
					:tag("x", { xmlns = "http://jabber.org/protocol/muc#user" }):tag("item", { affiliation = "none", role = "participant" }));
			end
		]], room, ada.bare);
		muc.settle(ada);
		assert.equal(1000, #muc.got(ada, seen, function (el) return el:child_text("status") ~= nil; end));
		assert.truthy(ctx.srv:eval("return (select(3, require 'enjamb'.minimix.totals()))") < 150000);
		muc.eventually("said in the log", function ()
			local _, n = ctx.srv:log(mark):gsub("\twarn\tThe occupants of room " .. room:gsub("%p", "%%%0") .. " take more memory", "");
			assert.equal(1, n);
		end);
		local desk = muc.client(ctx, { user = ada.username });
		local crowd = #muc.enter(desk, room, "ada").nicks;
		assert.truthy(crowd > 100 and crowd < 600, crowd .. " are kept");
		local shell = ctx.srv:eval([[
			local lines = {};
			local env = module:shared("/*/admin_shell/env");
			local _, text = env.minimix.list({ session = { print = function (line) table.insert(lines, line); end } });
			return table.concat(lines, "\n").."\n"..text;
		]]);
		assert.truthy(shell:find("\n" .. room .. " +%d+\n"), shell);
		assert.truthy(shell:find("%d+ bytes are kept"), shell);
	end);

	it("status codes that are none are no error", function ()
		local room, _, ada = two(ctx);
		for _, code in ipairs { "70000", "-1", "1e300", "110.5", "nan", "0x6e", "" } do
			from_room(ctx, ("<presence from='%s/odd' to='%s'><status>%s</status><x xmlns='%s'><item affiliation='none' role='participant'/><status code='%s'/>"
				.. "</x></presence>"):format(room, ada.bare, code, muc.ns_user, code));
			ada:expect(function (el) return el.name == "presence" and el:child_text("status") == code; end);
		end
	end);
end);
