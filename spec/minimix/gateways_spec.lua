-- Rooms of gateways (spec/support/gateway.lua): an account with two clients in each.

local t = require "support";
local muc = require "support.muc";
local gateway = require "support.gateway";
local eventually = muc.eventually;

muc.account("gateways", gateway.options, function (ctx, it)
	local names = {};
	for name in pairs(gateway.shapes) do names[#names + 1] = name; end
	table.sort(names);

	local function words(c, from) return t.bodies(muc.got(c, from or 1, { name = "message", type = "groupchat" })); end

	-- A client that asks for a nickname and is in, with everything that belongs to it.
	local function arrive(room, shape, user)
		local c = muc.client(ctx, { user = user });
		muc.join(c, room, "ada");
		c:expect(muc.presence_of(room, shape.given or "ada", nil, "110"));
		eventually("all there", function ()
			muc.settle(c);
			assert.truthy(muc.got(c, 1, muc.presence_of(room, "bob"))[1]);
			assert.truthy(muc.got(c, 1, function (el) return el.name == "message" and el:child("subject") and not el:body(); end)[1]);
			assert.same(shape.before or {}, words(c));
		end);
		return c;
	end

	for _, name in ipairs(names) do
		it(name .. ": two clients are in, hear and are heard, and leave", function ()
			local shape = gateway.shapes[name]();
			local room = gateway.open(ctx, { join = shape.join, leave = shape.leave, update = shape.update, given = shape.given });
			local nick = shape.given or "ada";
			local phone = arrive(room, shape);
			local desk = arrive(room, shape, phone.username);
			assert.equal(1, gateway.facts(ctx, room).joins);
			local mark = { [phone] = muc.mark(phone), [desk] = muc.mark(desk) };
			gateway.says(ctx, room, shape.said("one"));
			gateway.says(ctx, room, shape.said("one"));
			muc.say(desk, room, "mine");
			for _, c in ipairs { phone, desk } do
				c:expect(muc.groupchat(room, nick, "mine"));
				assert.same({ "one", "one", "mine" }, words(c, mark[c]));
			end
			muc.left(desk, room, nick);
			assert.equal(1, gateway.facts(ctx, room).inside);
			muc.left(phone, room, nick);
			eventually("out", function () assert.equal(0, gateway.facts(ctx, room).inside); end);
		end);

		it(name .. ": forgets the account, and has it again", function ()
			local shape = gateway.shapes[name]();
			local room = gateway.open(ctx, { join = shape.join, leave = shape.leave, update = shape.update, given = shape.given });
			local phone = arrive(room, shape);
			gateway.forget(ctx, room);
			local mark = muc.mark(phone);
			muc.say(phone, room, "anybody?");
			eventually("in again", function ()
				muc.settle(phone);
				assert.equal(2, gateway.facts(ctx, room).joins);
			end);
			gateway.says(ctx, room, shape.said("welcome back"));
			phone:expect({ body = "welcome back" });
			muc.say(phone, room, "thanks");
			phone:expect(muc.groupchat(room, shape.given or "ada", "thanks"));
			assert.same({}, muc.got(phone, mark, { name = "presence", type = "unavailable" }));
			local desk = muc.client(ctx, { user = phone.username });
			muc.join(desk, room, "ada");
			desk:expect(muc.presence_of(room, shape.given or "ada", nil, "110"));
		end);
	end

	it("the service gives the account another nickname", function ()
		local shape = gateway.shapes.biboumi();
		local room = gateway.open(ctx, { join = shape.join });
		local phone = arrive(room, shape);
		local desk = arrive(room, shape, phone.username);
		for _, text in ipairs(shape.renamed("ada", "ada_")) do gateway.says(ctx, room, text); end
		for _, c in ipairs { phone, desk } do
			local old = c:expect(muc.presence_of(room, "ada", "unavailable", "303"));
			assert.equal("ada_", muc.item(old).attr.nick);
			c:expect(muc.presence_of(room, "ada_", nil, "110"));
		end
		local third = muc.client(ctx, { user = phone.username });
		muc.join(third, room, "ada");
		assert.truthy(muc.has_code(third:expect(muc.presence_of(room, "ada_", nil, "110")), "210"));
	end);
end);
