local t = require "support";
local muc = require "support.muc";

muc.ordinary("a room's history", {}, function (ctx, it)
	local function talk(n, service)
		local room, owner = muc.open(ctx, { service = service });
		for i = 1, n do muc.say(owner, room, "m" .. i); end
		muc.settle(owner);
		return room, owner;
	end

	local function asked(room, history)
		local c = muc.client(ctx);
		return muc.enter(c, room, c.username, { history = history });
	end

	it("comes with the time at which it was said, from who said it", function ()
		local room = talk(3);
		local entry = asked(room);
		assert.same({ "m1", "m2", "m3" }, t.bodies(entry.history));
		for _, el in ipairs(entry.history) do
			assert.equal(room .. "/owner", el.attr.from);
			assert.equal("groupchat", el.attr.type);
			assert.equal(room, t.delay(el).attr.from);
			assert.truthy(t.delay(el).attr.stamp:match("^%d+%-%d+%-%d+T"));
			assert.truthy(el.attr.id);
		end
	end);

	it("is of 20 messages unless one asks for others", function ()
		local room = talk(30);
		assert.same(t.numbered("m", 30, 11), t.bodies(asked(room).history));
	end);

	it("is as long as one asks: maxstanzas", function ()
		local room = talk(10);
		assert.same({}, asked(room, { maxstanzas = 0 }).history);
		assert.same({ "m8", "m9", "m10" }, t.bodies(asked(room, { maxstanzas = 3 }).history));
		assert.same(t.numbered("m", 10), t.bodies(asked(room, { maxstanzas = 100 }).history));
	end);

	it("is as large as one asks: maxchars", function ()
		local room = talk(10);
		assert.same({}, asked(room, { maxchars = 0 }).history);
		local some = asked(room, { maxchars = 1500 }).history;
		assert.truthy(#some > 0 and #some < 10, #some .. " messages");
		assert.same(t.numbered("m", 10, 11 - #some), t.bodies(some));
		local size = 0;
		for _, el in ipairs(some) do size = size + #tostring(el); end
		assert.truthy(size <= 2500, size .. " characters");
	end);

	it("is as old as one asks: seconds and since", function ()
		local room = talk(5);
		assert.same(t.numbered("m", 5), t.bodies(asked(room, { seconds = 1000 }).history));
		assert.same(t.numbered("m", 5), t.bodies(asked(room, { since = "2020-01-01T00:00:00Z" }).history));
		assert.same({}, asked(room, { since = os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 3600) }).history);
		ctx.srv:eval([[
			for _, entry in ipairs(host_module("rooms.localhost", "muc").get_room_from_jid(a)._history) do
				if entry.stanza:get_child_text("body"):match("[12]") then
					entry.timestamp = entry.timestamp - 5000;
					entry.stanza:get_child("delay", "urn:xmpp:delay").attr.stamp = require "util.datetime".datetime(entry.timestamp);
				end
			end
		]], room);
		assert.same({ "m3", "m4", "m5" }, t.bodies(asked(room, { seconds = 1000 }).history));
		local since = os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - 1000);
		assert.same({ "m3", "m4", "m5" }, t.bodies(asked(room, { since = since }).history));
		assert.same(t.numbered("m", 5), t.bodies(asked(room, { seconds = 9000 }).history));
	end);

	it("by several measures is by the strictest", function ()
		local room = talk(10);
		assert.same({ "m9", "m10" }, t.bodies(asked(room, { maxstanzas = 2, seconds = 1000, maxchars = 65000 }).history));
		assert.same({}, asked(room, { maxstanzas = 5, maxchars = 0 }).history);
	end);

	it("has no chat states, nor what isn't to be kept", function ()
		local room, owner = talk(1);
		muc.say(owner, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
		muc.say(owner, room, "off the record", nil, "<no-store xmlns='urn:xmpp:hints'/>");
		muc.say(owner, room, "m2");
		muc.settle(owner);
		assert.same({ "m1", "m2" }, t.bodies(asked(room).history));
	end);

	it("is as long as the owner wants", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_historylength"] = "2" } });
		for i = 1, 5 do muc.say(owner, room, "m" .. i); end
		muc.settle(owner);
		assert.same({ "m4", "m5" }, t.bodies(asked(room).history));
	end);

	it("has what was said under nicks that are gone", function ()
		local room, owner = talk(1);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.say(ada, room, "m2");
		ada:send(("<presence to='%s/lovelace'/>"):format(room));
		muc.say(ada, room, "m3");
		muc.settle(ada);
		muc.left(ada, room, "lovelace");
		local from = {};
		for i, el in ipairs(asked(room).history) do from[i] = muc.nick_of(el.attr.from); end
		assert.same({ "owner", "ada", "lovelace" }, from);
	end);

	it("has the archive's ids where there is one", function ()
		local room, owner = talk(3, "logged.localhost");
		local ids = {};
		for _, el in ipairs(muc.got(owner, 1, { type = "groupchat" })) do
			if el:body() then ids[#ids + 1] = el:child("stanza-id", "urn:xmpp:sid:0").attr.id; end
		end
		assert.equal(3, #ids);
		local entry = asked(room);
		for i, el in ipairs(entry.history) do
			assert.equal(ids[i], el:child("stanza-id", "urn:xmpp:sid:0").attr.id);
			assert.equal(room, el:child("stanza-id", "urn:xmpp:sid:0").attr.by);
		end
		assert.equal(3, #entry.history);
	end);

	local function query(c, room, inside)
		local id = t.client.id();
		c:send(("<iq type='set' id='%s' to='%s'><query xmlns='urn:xmpp:mam:2' queryid='%s'>%s</query></iq>"):format(id, room, id, inside or ""));
		local list = c:read_until({ name = "iq", id = id });
		local out = {};
		for _, m in ipairs(t.only(list, "message")) do
			local result = m:child("result", "urn:xmpp:mam:2");
			if result then
				assert.equal(room, m.attr.from);
				assert.equal(c.jid, m.attr.to);
				assert.equal(id, result.attr.queryid);
				out[#out + 1] = result:child("forwarded"):child("message"):body();
			end
		end
		return out, list[#list];
	end

	it("is in the room's archive, which answers only to who asks", function ()
		local room, owner = talk(5, "logged.localhost");
		local ada = muc.guest(ctx, room, "ada");
		local mark = muc.mark(owner);
		local got, fin = query(ada, room);
		assert.same(t.numbered("m", 5), got);
		assert.equal("result", fin.attr.type);
		assert.equal("true", fin:child("fin").attr.complete);
		muc.settle(owner);
		assert.same({}, muc.got(owner, mark, function (e) return e:child("result", "urn:xmpp:mam:2"); end));
	end);

	it("is in the room's archive page by page", function ()
		local room = talk(6, "logged.localhost");
		local ada = muc.guest(ctx, room, "ada");
		local first, fin = query(ada, room, "<set xmlns='http://jabber.org/protocol/rsm'><max>4</max></set>");
		assert.same(t.numbered("m", 4), first);
		local last = fin:child("fin"):child("set"):child_text("last");
		assert.same({ "m5", "m6" }, (query(ada, room,
			"<set xmlns='http://jabber.org/protocol/rsm'><max>4</max><after>" .. last .. "</after></set>")));
		assert.same({ "m5", "m6" }, (query(ada, room, "<set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set>")));
	end);

	it("in the archive of a room of members isn't for others", function ()
		local room, owner = talk(1, "logged.localhost");
		muc.configure(owner, room, { ["muc#roomconfig_membersonly"] = "1" });
		local eve = muc.client(ctx);
		local _, answer = query(eve, room);
		assert.equal("error", answer.attr.type);
		assert.equal("forbidden", (t.condition(answer:child("error"))));
	end);
end);
