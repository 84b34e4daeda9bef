local t = require "support";
local muc = require "support.muc";

local function archive(c)
	local id = t.client.id();
	c:send(("<iq type='set' id='%s'><query xmlns='urn:xmpp:mam:2' queryid='q'/></iq>"):format(id));
	local out = {};
	for _, m in ipairs(t.only(c:read_until({ name = "iq", id = id }), "message")) do
		local result = m:child("result", "urn:xmpp:mam:2");
		local inner = result and result:child("forwarded"):child("message");
		if inner and (inner:body() or inner.attr.type == "groupchat") then out[#out + 1] = inner:body() or tostring(inner); end
	end
	return out;
end

local function two(ctx)
	local room, owner = muc.open(ctx);
	local phone = muc.guest(ctx, room, "ada", nil, owner);
	local desk = muc.client(ctx, { user = phone.username });
	muc.enter(desk, room, "ada");
	return room, owner, phone, desk;
end

muc.account("an account's archive of rooms", {
	config = "minimix_archive = true; default_archive_policy = true", modules = { "mam" },
}, function (ctx, it)
	it("has each message once, whatever the number of clients", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		phone:expect({ body = "m1" });
		muc.say(phone, room, "m2");
		desk:expect({ body = "m2" });
		muc.say(desk, room, "m3");
		muc.settle(owner, phone, desk);
		assert.same({ "m1", "m2", "m3" }, archive(phone));
		assert.same({ "m1", "m2", "m3" }, archive(owner));
	end);

	it("says of each message which it is, on all clients the same", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		local function id_of(c)
			for _, el in ipairs(muc.saw(c, muc.groupchat(room, "owner", "m1")):children()) do
				if el.name == "stanza-id" and el.attr.by == c.bare then return el.attr.id; end
			end
		end
		assert.truthy(id_of(phone));
		assert.equal(id_of(phone), id_of(desk));
	end);

	it("has no message again that a client is served as history", function ()
		local room, owner, phone, desk = two(ctx);
		for i = 1, 3 do muc.say(owner, room, "m" .. i); end
		muc.settle(owner, phone, desk);
		muc.left(desk, room, "ada");
		assert.equal(3, #muc.enter(desk, room, "ada").history);
		assert.same(t.numbered("m", 3), archive(phone));
	end);

	it("has private messages once, too", function ()
		local room, owner, phone, desk = two(ctx);
		owner:message(room .. "/ada", "psst");
		muc.settle(owner, phone, desk);
		desk:message(room .. "/owner", "what?");
		muc.settle(desk, owner);
		assert.same({ "psst", "what?" }, archive(phone));
	end);

	it("has nothing that's said after the account left", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		muc.settle(owner, phone);
		muc.left(phone, room, "ada");
		muc.left(desk, room, "ada");
		muc.say(owner, room, "m2");
		muc.settle(owner);
		assert.same({ "m1" }, archive(phone));
	end);

	it("has nothing that isn't to be kept", function ()
		local room, owner, phone = two(ctx);
		muc.say(owner, room, "gone", nil, "<no-store xmlns='urn:xmpp:hints'/>");
		muc.say(owner, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
		muc.say(owner, room, "m1");
		muc.settle(owner, phone);
		assert.same({ "m1" }, archive(phone));
	end);
end);

local ns_mam, ns_rsm = "urn:xmpp:mam:2", "http://jabber.org/protocol/rsm";

-- One page: bodies, <set/>, whether it is the last, or the error. wants: value of include-groupchat; rsm: children of <set/>
local function page(c, wants, rsm, more)
	local id = t.client.id();
	c:send(("<iq type='set' id='%s'><query xmlns='%s' queryid='q'><x xmlns='jabber:x:data' type='submit'>"
		.. "<field var='FORM_TYPE' type='hidden'><value>%s</value></field>%s</x><set xmlns='%s'>%s</set>%s</query></iq>"):format(id, ns_mam, ns_mam,
		wants and "<field var='include-groupchat'><value>" .. wants .. "</value></field>" or "", ns_rsm, rsm, more or ""));
	local bodies, fin = {}, nil;
	for _, el in ipairs(c:read_until({ name = "iq", id = id })) do
		local result = el.name == "message" and el:child("result", ns_mam);
		if result then
			bodies[#bodies + 1] = result:child("forwarded"):child("message"):body();
		elseif el.attr.id == id then
			if el.attr.type == "error" then return nil, nil, nil, el:child("error"); end
			fin = el:child("fin", ns_mam);
		end
	end
	return bodies, fin:child("set", ns_rsm), fin.attr.complete == "true";
end

-- All pages put together, and how many had nothing.
local function through(c, wants, max, backwards, more)
	local all, empty, at = {}, 0, nil;
	for _ = 1, 50 do
		local rsm = ("<max>%d</max>%s"):format(max, backwards and "<before>" .. (at or "") .. "</before>" or at and "<after>" .. at .. "</after>" or "");
		local bodies, set, complete = page(c, wants, rsm, more);
		table.move(bodies, 1, #bodies, backwards and 1 or #all + 1, backwards and table.move(all, 1, #all, #bodies + 1, all) or all);
		if #bodies == 0 then empty = empty + 1; end
		if complete then return all, empty; end
		at = set:child_text(backwards and "first" or "last");
	end
	error("there is no last page");
end

muc.account("queries with include-groupchat (XEP-0313)", {
	config = "minimix_archive = true; default_archive_policy = true", modules = { "mam" },
}, function (ctx, it)
	-- g: in a room, d: direct
	local mixed = "g1 d1 g2 g3 g4 g5 g6 d2 d3 g7 d4 g8 g9";
	local function archived()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		for body in mixed:gmatch("%S+") do
			if body:find("^g") then muc.say(owner, room, body); else owner:message(ada.bare, body); end
			ada:expect({ body = body });
		end
		return ada, owner, room;
	end

	it("are announced, in the form too", function ()
		local ada = muc.client(ctx);
		local features, fields = {}, {};
		for _, el in ipairs(ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", ada.bare):child("query"):children()) do
			features[el.attr.var or ""] = true;
		end
		assert.is_true(features[ns_mam .. "#groupchat-field"]);
		assert.is_true(features[ns_mam .. "#groupchat-available"]);
		for _, el in ipairs(ada:iq("get", ("<query xmlns='%s'/>"):format(ns_mam)):child("query"):child("x"):children()) do
			fields[el.attr.var or ""] = el.attr.type;
		end
		assert.equal("boolean", fields["include-groupchat"]);
		assert.equal("jid-single", fields.with);
	end);

	it("false leaves them out, true and nothing leave them in", function ()
		local ada = archived();
		assert.same("d1 d2 d3 d4", table.concat(page(ada, "false", "<max>50</max>"), " "));
		assert.same("d1 d2 d3 d4", table.concat(page(ada, "0", "<max>50</max>"), " "));
		assert.same(mixed, table.concat(page(ada, "true", "<max>50</max>"), " "));
		assert.same(mixed, table.concat(page(ada, "1", "<max>50</max>"), " "));
		assert.same(mixed, table.concat(page(ada, nil, "<max>50</max>"), " "));
	end);

	it("go through pages in both directions, with nothing lost or twice", function ()
		local ada = archived();
		for max = 1, 6 do
			for _, backwards in ipairs { false, true } do
				for wants, expected in pairs { ["false"] = "d1 d2 d3 d4", ["true"] = mixed } do
					local all, empty = through(ada, wants, max, backwards);
					assert.equal(expected, table.concat(all, " "), ("max %d, backwards %s"):format(max, tostring(backwards)));
					if max == 2 and wants == "false" then assert.truthy(empty > 0, "no page came out empty"); end
				end
			end
		end
	end);

	it("flip pages", function ()
		local ada = archived();
		local flip = ("<flip-page xmlns='%s'/>"):format(ns_mam);
		assert.same("d4 d3 d2 d1", table.concat(page(ada, "false", "<max>50</max>", flip), " "));
	end);

	it("with something else in it are refused", function ()
		local ada = muc.client(ctx);
		local _, _, _, err = page(ada, "perhaps", "<max>5</max>");
		assert.equal("bad-request", (t.condition(err)));
	end);

	it("leave the session as it was", function ()
		local ada, owner, room = archived();
		page(ada, "false", "<max>50</max>");
		muc.say(owner, room, "after");
		ada:expect(muc.groupchat(room, "owner", "after"));
		assert.is_true(ctx.srv:eval("return session(a).mam_requested == true", ada.jid));
	end);
end);

muc.account("queries with include-groupchat, where groupchat isn't archived", {
	config = "default_archive_policy = true", modules = { "mam" },
}, function (ctx, it)
	it("aren't announced", function ()
		local ada = muc.client(ctx);
		for _, el in ipairs(ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", ada.bare):child("query"):children()) do
			assert.falsy((el.attr.var or ""):find("groupchat", 1, true));
		end
	end);
end);

muc.account("an account's archive, by default", { config = "default_archive_policy = true", modules = { "mam" } }, function (ctx, it)
	it("has no messages of rooms", function ()
		local room, owner, phone, desk = two(ctx);
		muc.say(owner, room, "m1");
		muc.say(desk, room, "m2");
		owner:message(phone.bare, "direct");
		muc.settle(owner, phone, desk);
		assert.same({ "direct" }, archive(phone));
	end);
end);

muc.ordinary("private messages in an account's archive", { config = "default_archive_policy = true", modules = { "mam" } }, function (ctx, it)
	it("are there once, on both sides", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		owner:message(room .. "/ada", "psst");
		ada:expect({ body = "psst" });
		ada:message(room .. "/owner", "what?");
		owner:expect({ body = "what?" });
		muc.say(owner, room, "to all");
		muc.settle(owner, ada);
		assert.same({ "psst", "what?" }, archive(ada));
		assert.same({ "psst", "what?" }, archive(owner));
	end);
end);
