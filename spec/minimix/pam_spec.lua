local t = require "support";
local muc = require "support.muc";

local ns_pam, ns_muc2 = "urn:xmpp:muc:pam:0", "urn:xmpp:muc:0";

local function announced(c)
	for _, el in ipairs(c:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", c.bare):child("query"):children()) do
		if el.attr.var == ns_pam then return true; end
	end
	return false;
end

local function join(c, room, nick)
	return c:iq("set", ("<join xmlns='%s' room='%s'><nickname>%s</nickname></join>"):format(ns_muc2, room, nick), c.bare);
end

muc.account("joining by the account (MUC2-PAM)", { config = "minimix_muc2_pam = true" }, function (ctx, it)
	it("is announced", function ()
		assert.is_true(announced(muc.client(ctx)));
	end);

	it("makes the account an occupant, and its messages don't bounce", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		local answer = join(ada, room, "ada");
		assert.equal("result", answer.attr.type, tostring(answer));
		local el = answer:child("join", ns_muc2);
		assert.equal("ada", el:child_text("nickname"));
		assert.equal(1, (select(2, muc.saw(owner, muc.presence_of(room, "ada")))));
		assert.truthy(muc.truth(ctx.srv, room).ada);
		muc.say(owner, room, "welcome");
		muc.settle(owner, ada);
		assert.same({}, muc.got(owner, 1, { type = "error" }));
		assert.truthy(muc.truth(ctx.srv, room).ada);
	end);

	it("says why it failed", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		local answer = join(ada, room, "owner");
		assert.equal("error", answer.attr.type);
		assert.equal("conflict", (t.condition(answer:child("error"))));
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare });
		assert.equal("forbidden", (t.condition(join(ada, room, "ada"):child("error"))));
	end);

	it("goes together with joining by presence", function ()
		local room, owner = muc.open(ctx);
		local ada = muc.client(ctx);
		assert.equal("result", join(ada, room, "ada").attr.type);
		local also = muc.client(ctx, { user = ada.username });
		assert.same({ "owner" }, muc.enter(also, room, "ada").nicks);
		muc.in_step(ctx, room, owner, also);
	end);

	it("isn't for others' accounts", function ()
		local room = muc.open(ctx);
		local ada, eve = muc.client(ctx), muc.client(ctx);
		local answer = eve:iq("set", ("<join xmlns='%s' room='%s'><nickname>n</nickname></join>"):format(ns_muc2, room), ada.bare);
		assert.equal("error", answer.attr.type);
		assert.is_nil(muc.truth(ctx.srv, room).n);
	end);

	it("of what is no room's address is refused", function ()
		local ada = muc.client(ctx);
		for _, attr in ipairs { "", " room=''", " room='@'", " room='a@b/c'" } do
			local answer = ada:iq("set", ("<join xmlns='%s'%s><nickname>n</nickname></join>"):format(ns_muc2, attr), ada.bare);
			assert.equal("error", answer.attr.type, tostring(answer));
		end
	end);
end);

muc.account("joining by the account, unless it's asked for", {}, function (ctx, it)
	it("isn't there", function ()
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		assert.is_false(announced(ada));
		local answer = join(ada, room, "ada");
		assert.equal("error", answer.attr.type);
		assert.equal("service-unavailable", (t.condition(answer:child("error"))));
	end);
end);
