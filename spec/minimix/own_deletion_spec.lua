local busted = require "busted";
local t = require "support";
local muc = require "support.muc";

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

t.versions("rooms of an account that is disabled", function (start, version)
	if version == "0.12" then return; end -- which disables none

	busted.it("see it leave, and see it again when it logs in as its bookmark says", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60", authentication = "internal_hashed" });
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		local ada = muc.client(ctx);
		muc.bookmark(ada, room, true, "ada");
		owner:expect(muc.presence_of(room, "ada"));
		ctx.srv:eval("return require 'core.usermanager'.disable_user(a, 'localhost') and true", ada.username);
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		ctx.srv:wait_gone(ada.jid);
		ada:cut();
		owner:cut();
		ctx.srv:kill();
		ctx.srv:launch();
		assert.is_nil(muc.truth(ctx.srv, room).ada);
		ctx.srv:eval("return require 'core.usermanager'.enable_user(a, 'localhost') and true", ada.username);
		muc.client(ctx, { user = ada.username });
		muc.eventually("it is in again", function () assert.truthy(muc.truth(ctx.srv, room).ada); end);
	end);
end);
