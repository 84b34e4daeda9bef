local t = require "support";
local muc = require "support.muc";

muc.account("what crosses on the way", {}, function (ctx, it)
	local function presence(room, nick, kind, content)
		return ("<presence to='%s/%s'%s>%s</presence>"):format(room, nick, kind and " type='" .. kind .. "'" or "", content or "");
	end
	local x = "<x xmlns='" .. muc.ns .. "'/>";

	local function party()
		local room, owner = muc.open(ctx);
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada");
		return room, owner, phone, desk;
	end

	it("joining, speaking and leaving in one breath", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		ada:send(presence(room, "ada", nil, x) .. ("<message type='groupchat' to='%s'><body>hi</body></message>"):format(room)
			.. presence(room, "ada", "unavailable"));
		ada:sync();
		owner:expect(muc.presence_of(room, "ada"));
		owner:expect(muc.groupchat(room, "ada", "hi"));
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.same({}, muc.picture(ada, room));
		muc.in_step(ctx, room, owner);
	end);

	it("leaving and joining again in one breath, again and again", function ()
		local room, owner, phone, desk = party();
		for _ = 1, 10 do phone:send(presence(room, "ada", "unavailable") .. presence(room, "ada", nil, x)); end
		phone:sync();
		muc.in_step(ctx, room, owner, phone, desk);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
	end);

	it("both clients leaving and joining at the same time", function ()
		local room, owner, phone, desk = party();
		for _ = 1, 10 do
			for _, c in ipairs { phone, desk } do c:send(presence(room, "ada", "unavailable")); end
			for _, c in ipairs { desk, phone } do c:send(presence(room, "ada", nil, x)); end
		end
		muc.in_step(ctx, room, owner, phone, desk);
		muc.say(owner, room, "still here?");
		muc.all_hear({ phone, desk }, room, "owner", "still here?");
	end);

	it("two clients that join first at the same time", function ()
		for _ = 1, 5 do
			local room, owner = muc.open(ctx);
			local phone = muc.client(ctx);
			local desk = muc.client(ctx, { user = phone.username });
			muc.join(phone, room, "ada");
			muc.join(desk, room, "lovelace");
			local a, b = muc.entered(phone, room), muc.entered(desk, room);
			assert.equal(a.nick, b.nick);
			muc.in_step(ctx, room, owner, phone, desk);
		end
	end);

	it("two clients that change the nick at the same time", function ()
		local room, owner, phone, desk = party();
		for i = 1, 10 do
			phone:send(presence(room, "p" .. i));
			desk:send(presence(room, "d" .. i));
		end
		local truth = muc.in_step(ctx, room, owner, phone, desk);
		local n = 0;
		for _ in pairs(truth) do n = n + 1; end
		assert.equal(2, n);
	end);

	it("a nick change while the other one leaves", function ()
		local room, owner, phone, desk = party();
		phone:send(presence(room, "lovelace"));
		desk:send(presence(room, "ada", "unavailable"));
		muc.settle(phone, desk);
		muc.in_step(ctx, room, owner, phone);
		assert.same({}, muc.picture(desk, room));
		muc.say(phone, room, "me");
		owner:expect(muc.groupchat(room, "lovelace", "me"));
	end);

	it("a kick while one leaves, speaks and joins", function ()
		for i = 1, 5 do
			local room, owner, phone, desk = party();
			owner:send(("<iq type='set' id='k' to='%s'><query xmlns='%s'><item nick='ada' role='none'/></query></iq>"):format(room, muc.ns_admin));
			phone:send(presence(room, "ada", "unavailable"));
			muc.say(desk, room, "what?");
			if i % 2 == 0 then phone:send(presence(room, "ada", nil, x)); end
			muc.settle(owner, phone, desk);
			local inside = muc.truth(ctx.srv, room).ada;
			local pictures = { muc.picture(phone, room).ada ~= nil, muc.picture(desk, room).ada ~= nil };
			-- nobody believes to be in a room that the account isn't in
			if not inside then assert.same({ false, false }, pictures); end
			if inside then assert.truthy(pictures[1] or pictures[2]); end
			muc.in_step(ctx, room, owner);
			-- and each can get in
			muc.enter(phone, room, "ada");
			muc.enter(desk, room, "ada");
			muc.in_step(ctx, room, owner, phone, desk);
		end
	end);

	it("the room's end while the second client joins", function ()
		local room, owner, phone, desk = party();
		muc.left(desk, room, "ada");
		owner:send(("<iq type='set' id='d' to='%s'><query xmlns='%s'><destroy/></query></iq>"):format(room, muc.ns_owner));
		desk:send(presence(room, "ada", nil, x));
		muc.settle(owner, phone, desk);
		assert.same(muc.truth(ctx.srv, room).ada ~= nil, muc.picture(desk, room).ada ~= nil);
		assert.same({}, muc.picture(phone, room));
	end);

	it("a client that's gone before its answer comes", function ()
		local room, owner, phone, desk = party();
		desk:send(("<iq type='get' id='q' to='%s/owner'><q xmlns='urn:x:q'/></iq>"):format(room));
		local iq = owner:expect({ name = "iq", type = "get" });
		desk:cut();
		ctx.srv:wait_gone(desk.jid);
		owner:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(iq.attr.id), iq.attr.from));
		muc.settle(owner, phone);
		assert.same({}, muc.got(phone, 1, { name = "iq", id = "q" }));
		muc.in_step(ctx, room, owner, phone);
	end);

	it("many accounts with two clients each, coming and going", function ()
		local room, owner = muc.open(ctx);
		local all, inside = {}, {};
		for i = 1, 5 do
			local user = ctx:user();
			for _ = 1, 2 do
				local c = muc.client(ctx, { user = user });
				all[#all + 1] = { c = c, nick = "n" .. i };
			end
		end
		math.randomseed(4711);
		for _ = 1, 150 do
			local who = all[math.random(#all)];
			if inside[who] and math.random(3) == 1 then
				who.c:send(presence(room, who.nick, "unavailable"));
				inside[who] = nil;
			elseif inside[who] then
				who.c:send(presence(room, who.nick, nil, "<status>" .. math.random(100) .. "</status>"));
			else
				who.c:send(presence(room, who.nick, nil, x));
				inside[who] = true;
			end
		end
		local clients = { owner };
		for who in pairs(inside) do clients[#clients + 1] = who.c; end
		for _, who in ipairs(all) do who.c:sync(); end
		muc.in_step(ctx, room, table.unpack(clients));
		for _, who in ipairs(all) do
			if not inside[who] then assert.same({}, muc.picture(who.c, room)); end
		end
	end);
end);
