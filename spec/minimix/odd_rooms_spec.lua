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
