local t = require "support";
local mime = require "mime";

local ns_sasl2, ns_bind2 = "urn:xmpp:sasl:2", "urn:xmpp:bind:0";

t.each("SASL2", {
	config = "smacks_hibernation_time = 60", community = { "sasl2", "sasl2_bind2", "sasl2_sm" },
}, function (ctx, it)
	-- Sends <authenticate/> with what's inlined and returns <success/>.
	local function authenticate(user, inline)
		local c = ctx:connect():open_stream();
		c.username = user;
		c:send(("<authenticate xmlns='%s' mechanism='PLAIN'><initial-response>%s</initial-response>%s</authenticate>"):format(
			ns_sasl2, (mime.b64("\0" .. user .. "\0secret")), inline or ""));
		return c, c:expect({ name = "success", ns = ns_sasl2 });
	end

	local bind_enable = "<bind xmlns='urn:xmpp:bind:0'><tag>test</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";

	local function start(user)
		local c, success = authenticate(user, bind_enable);
		local enabled = success:child("bound", ns_bind2):child("enabled", t.sm3);
		assert.truthy(enabled, tostring(success));
		c.token = enabled.attr.id;
		c.jid = success:child_text("authorization-identifier");
		c.sm_ns = t.sm3;
		c.counting = true;
		c:expect("features");
		return c, enabled;
	end

	it("offers it inline", function ()
		local c = ctx:connect():open_stream();
		local inline = c.features:child("authentication", ns_sasl2):child("inline");
		assert.truthy(inline:child("sm", t.sm3));
		local found = false;
		for _, f in ipairs(inline:child("bind", ns_bind2):child("inline"):children()) do
			if f.attr.var == t.sm3 then found = true; end
		end
		assert.is_true(found);
	end);

	it("enables along with binding", function ()
		local c, enabled = start(ctx:user());
		assert.truthy(enabled.attr.id);
		assert.truthy(enabled.attr.resume == "true" or enabled.attr.resume == "1");
		assert.equal("60", enabled.attr.max);
		c:message(c.jid, "m1");
		c:expect({ body = "m1" });
		assert.equal("1", c:ask_h());
		assert.equal(1, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		c:ack(1);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("resumes along with authenticating", function ()
		local user = ctx:user();
		local c, other = start(user), ctx:login();
		c:presence();
		c:expect("presence");
		local h = c.h;
		ctx:hibernate(c);
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		other:sync();
		local d, success = authenticate(user, ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(h, c.token));
		local resumed = success:child("resumed", t.sm3);
		assert.truthy(resumed, tostring(success));
		assert.equal(c.token, resumed.attr.previd);
		assert.equal("1", resumed.attr.h);
		d.counting, d.sm_ns = true, t.sm3;
		d:expect({ body = "m3" });
		assert.same({ "m1", "m2", "m3" }, t.bodies(d.seen));
		d:message(c.jid, "mine");
		d:expect({ body = "mine" });
		assert.equal("2", d:ask_h());
		d:ack(h + 4);
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
	end);

	it("resumes a session that was enabled the old way", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		local d, success = authenticate(c.username, ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(c.h, c.token));
		assert.truthy(success:child("resumed", t.sm3));
		d:expect({ body = "m1" });
	end);

	it("ignores <bind/> when it resumed", function ()
		local user = ctx:user();
		local c = start(user);
		ctx:hibernate(c);
		local _, success = authenticate(user, ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(c.h, c.token) .. bind_enable);
		assert.truthy(success:child("resumed", t.sm3), tostring(success));
		assert.is_nil(success:child("bound", ns_bind2));
		assert.equal(c.jid, success:child_text("authorization-identifier"));
	end);

	it("says when it can't resume, and binds", function ()
		local user = ctx:user();
		local d, success = authenticate(user, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='unknown'/>" .. bind_enable);
		local failed = success:child("failed", t.sm3);
		assert.truthy(failed, tostring(success));
		assert.truthy(tostring(failed):match("item%-not%-found"), tostring(failed));
		local bound = success:child("bound", ns_bind2);
		assert.truthy(bound, tostring(success));
		assert.truthy(bound:child("enabled", t.sm3));
		d.jid = success:child_text("authorization-identifier");
		d.counting, d.sm_ns = true, t.sm3;
		d:message(d.jid, "fine");
		d:expect({ body = "fine" });
		assert.equal("1", d:ask_h());
	end);

	for _, attrs in ipairs { "h='x'", "h='99'", "" } do
		it("leaves a session that is asked for wrongly (" .. attrs .. ")", function ()
			local user = ctx:user();
			local c = start(user);
			ctx:hibernate(c);
			local _, success = authenticate(user, ("<resume xmlns='urn:xmpp:sm:3' %s previd='%s'/>"):format(attrs, c.token));
			assert.truthy(success:child("failed", t.sm3), tostring(success));
			local _, again = authenticate(user, ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(c.h, c.token));
			assert.truthy(again:child("resumed", t.sm3), tostring(again));
		end);
	end

	it("refuses another account's session", function ()
		local c = start(ctx:user());
		ctx:hibernate(c);
		local _, success = authenticate(ctx:user(), ("<resume xmlns='urn:xmpp:sm:3' h='0' previd='%s'/>"):format(c.token));
		assert.truthy(success:child("failed", t.sm3), tostring(success));
		assert.truthy(ctx:field(c.jid, "s.hibernating and true"));
	end);

	it("replaces an open connection, which gets a conflict", function ()
		local user = ctx:user();
		local c = start(user);
		local d, success = authenticate(user, ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(c.h, c.token));
		assert.truthy(success:child("resumed", t.sm3), tostring(success));
		c:expect_stream_error("conflict");
		c:expect_closed();
		d.counting, d.sm_ns = true, t.sm3;
		assert.equal("0", d:ask_h());
	end);
end);
