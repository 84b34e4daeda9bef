local t = require "support";

t.each("chat rooms", {
	config = "smacks_hibernation_time = 2", extra = 'Component "rooms.localhost" "muc"\nrestrict_room_creation = false',
}, function (ctx, it)
	local rooms = 0;

	local function join(c, room, nick)
		c:send(("<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"):format(room, nick));
		c:expect(function (e) return e.name == "presence" and e.attr.from == room .. "/" .. nick; end);
	end

	local function room_of_two(enable)
		rooms = rooms + 1;
		local room = "room" .. rooms .. "@rooms.localhost";
		local owner = ctx:login { available = true };
		join(owner, room, "owner");
		owner:iq("set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>", room);
		local c = ctx:login { available = true, enable = enable or { resume = "true" } };
		join(c, room, "guest");
		owner:expect(function (e) return e.name == "presence" and e.attr.from == room .. "/guest"; end);
		c:drain(0.2);
		c:ack();
		c:sync();
		return room, owner, c;
	end

	it("go on for a session that's resumed: nothing missed, nobody left", function ()
		local room, owner, c = room_of_two();
		ctx:hibernate(c);
		for i = 1, 5 do owner:message(room, "m" .. i, { type = "groupchat" }); end
		owner:expect({ body = "m5" });
		local d = ctx:resume(c);
		d:expect({ body = "m5" });
		assert.same(t.numbered("m", 5), t.bodies(d.seen));
		d:message(room, "hello", { type = "groupchat" });
		assert.equal(room .. "/guest", owner:expect({ body = "hello" }).attr.from);
		d:expect({ body = "hello" });
		owner:drain(0.2);
		assert.equal(0, #t.only(owner.seen, { name = "presence", type = "unavailable" }));
	end);

	it("are left when the session expires, and their messages aren't kept for later", function ()
		local room, owner, c = room_of_two();
		ctx:hibernate(c);
		owner:message(room, "m1", { type = "groupchat" });
		owner:expect({ body = "m1" });
		owner:expect({ name = "presence", type = "unavailable", from = room .. "/guest" }, 8);
		ctx.srv:wait_gone(c.jid);
		owner:drain(0.2);
		assert.equal(1, #t.only(owner.seen, { name = "presence", type = "unavailable" }));
		assert.equal(0, #t.only(owner.seen, { type = "error" }));
		local d = ctx:login { user = c.username, available = true };
		assert.same({}, t.bodies(d:sync()));
	end);

	it("bring private messages too", function ()
		local room, owner, c = room_of_two();
		ctx:hibernate(c);
		owner:message(room .. "/guest", "psst");
		owner:sync();
		local d = ctx:resume(c);
		assert.equal(room .. "/owner", d:expect({ body = "psst" }).attr.from);
	end);
end);
