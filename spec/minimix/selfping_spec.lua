local t = require "support";
local muc = require "support.muc";

muc.ordinary("pinging oneself in a room (XEP-0410)", {}, function (ctx, it)
	local function ping(c, to)
		local id = c:ping(to);
		local iq = c:expect({ name = "iq", id = id });
		if iq.attr.type == "result" then return "result", iq; end
		return (t.condition(iq:child("error"))), iq;
	end

	it("has a result while one is in it", function ()
		local room = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		local what, iq = ping(ada, room .. "/ada");
		assert.equal("result", what);
		assert.equal(room .. "/ada", iq.attr.from);
		assert.equal(ada.jid, iq.attr.to);
		-- the server itself answers
		assert.same({}, muc.got(ada, 1, { name = "iq", type = "get" }));
	end);

	it("says that one isn't in it", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		assert.equal("not-acceptable", (ping(ada, room .. "/ada")));
		assert.equal("item-not-found", (ping(ada, muc.new_room() .. "/ada")));
	end);

	it("says that one has left", function ()
		local room = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		muc.left(ada, room, "ada");
		assert.equal("not-acceptable", (ping(ada, room .. "/ada")));
	end);

	it("says that one was thrown out", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		muc.admin_ok(owner, room, { role = "none", nick = "ada" });
		assert.equal("not-acceptable", (ping(ada, room .. "/ada")));
	end);

	it("goes by one's present nick", function ()
		local room = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada");
		ada:send(("<presence to='%s/lovelace'/>"):format(room));
		ada:expect(muc.presence_of(room, "lovelace"));
		assert.equal("item-not-found", (ping(ada, room .. "/ada")));
		assert.equal("result", (ping(ada, room .. "/lovelace")));
	end);

	it("is told apart from pinging others", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		local id = ada:ping(room .. "/owner");
		muc.settle(ada, owner);
		-- the owner's server may have answered for it
		for _, iq in ipairs(muc.got(owner, 1, { name = "iq", type = "get" })) do
			assert.equal(room .. "/ada", iq.attr.from);
			owner:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(iq.attr.id), iq.attr.from));
		end
		muc.settle(owner, ada);
		assert.equal(room .. "/owner", muc.got(ada, 1, { name = "iq", id = id })[1].attr.from);
		assert.equal("item-not-found", (ping(ada, room .. "/nobody")));
	end);

	it("is announced by the room", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		local found = false;
		for _, el in ipairs(ada:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room):child("query"):children()) do
			found = found or el.attr.var == "http://jabber.org/protocol/muc#self-ping-optimization";
		end
		assert.is_true(found);
	end);
end);
