local t = require "support";

t.each("rooms of accounts without stream management", {
	smacks = false, modules = { "minimix" },
	extra = 'Component "rooms.localhost" "muc"\nmodules_disabled = { "minimix" }\nrestrict_room_creation = false',
}, function (ctx, it)
	local ns_user = "http://jabber.org/protocol/muc#user";
	local rooms = 0;

	local function has_code(el, code)
		local x = el:child("x", ns_user);
		for _, child in ipairs(x and x:children() or {}) do
			if child.name == "status" and child.attr.code == code then return true; end
		end
		return false;
	end

	local function join(c, room, nick)
		c:send(("<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"):format(room, nick));
		c:expect(function (e) return e.name == "message" and e:child("subject"); end);
	end

	local function open()
		rooms = rooms + 1;
		local room = "own" .. rooms .. "@rooms.localhost";
		local owner = ctx:login { available = true };
		join(owner, room, "owner");
		owner:iq("set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>", room);
		return room, owner;
	end

	it("have one occupant for two clients, who leave one by one", function ()
		local room, owner = open();
		local phone = ctx:login { available = true };
		join(phone, room, "ada");
		local desk = ctx:login { user = phone.username, available = true };
		join(desk, room, "ada");
		assert.same({ owner.bare, phone.bare }, ctx.srv:eval([[
			local found = {};
			for _, occupant in host_module("rooms.localhost", "muc").get_room_from_jid(a):each_occupant() do
				for jid in occupant:each_session() do found[#found + 1] = jid; end
			end
			table.sort(found);
			return found;
		]], room));
		owner:message(room, "m1", { type = "groupchat" });
		for _, c in ipairs { phone, desk } do
			assert.equal(c.jid, c:expect({ body = "m1" }).attr.to);
			c:sync();
			assert.equal(1, #t.only(c.seen, { body = "m1" }));
		end
		phone:cut();
		ctx.srv:wait_gone(phone.jid);
		owner:sync();
		assert.equal(0, #t.only(owner.seen, { name = "presence", type = "unavailable" }));
		desk:send(("<presence to='%s/ada' type='unavailable' id='bye'/>"):format(room));
		local own = desk:expect({ name = "presence", type = "unavailable", from = room .. "/ada" });
		assert.is_true(has_code(own, "110"));
		assert.equal("bye", own.attr.id);
		owner:expect({ name = "presence", type = "unavailable", from = room .. "/ada" });
	end);

	it("are left when the last connection breaks", function ()
		local room, owner = open();
		local ada = ctx:login { available = true };
		join(ada, room, "ada");
		ada:cut();
		owner:expect({ name = "presence", type = "unavailable", from = room .. "/ada" });
	end);
end);
