-- Rooms that are not as XEP-0045 has them, and those that are in unusual ways.

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
