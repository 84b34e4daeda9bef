local t = require "support";

t.each("rooms of an account that is deleted", {
	modules = { "minimix" }, config = 'minimix_offline = "stay"',
	extra = 'Component "rooms.localhost" "muc"\nmodules_disabled = { "minimix" }\nrestrict_room_creation = false',
}, function (ctx, it)
	local function join(c, room, nick)
		c:send(("<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(room, nick));
		c:expect(function (e) return e.name == "message" and e:child("subject"); end);
	end

	it("see it leave, and nothing of it is kept", function ()
		local room = "deleted@rooms.localhost";
		local owner = ctx:login { available = true };
		join(owner, room, "owner");
		owner:iq("set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>", room);
		local ada = ctx:login { available = true };
		join(ada, room, "ada");
		local function saved()
			return ctx.srv:eval("return host_module('localhost', 'minimix').module:open_store('minimix'):get(a) ~= nil", ada.username);
		end
		assert.is_true(saved());
		ctx.srv:eval("return require 'core.usermanager'.delete_user(a, 'localhost') and true", ada.username);
		owner:expect({ name = "presence", type = "unavailable", from = room .. "/ada" });
		ctx.srv:wait_gone(ada.jid);
		assert.is_false(saved());
		assert.same({ 0 }, ctx.srv:eval("return { #(select(2, require 'enjamb'.minimix.clients(a, b)) or {}) }", ada.bare, room));
	end);
end);
