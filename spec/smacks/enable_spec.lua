local t = require "support";

t.each("enabling", { config = "smacks_hibernation_time = 300" }, function (ctx, it)
	local function failed_with(el, condition)
		assert.equal("failed", el.name);
		local found, n = t.condition(el);
		assert.equal(1, n, tostring(el));
		assert.equal(condition, found);
	end

	it("is offered in both versions after authentication", function ()
		local c = ctx:authenticated(ctx:user());
		assert.truthy(c.features:child("sm", t.sm3));
		assert.truthy(c.features:child("sm", t.sm2));
	end);

	it("isn't offered before authentication", function ()
		local c = ctx:connect():open_stream();
		assert.falsy(c.features:child("sm", t.sm3));
		assert.falsy(c.features:child("sm", t.sm2));
	end);

	it("works", function ()
		local c = ctx:login();
		local enabled = c:enable();
		assert.equal("enabled", enabled.name);
		assert.equal(t.sm3, enabled.ns);
		assert.equal("0", c:ask_h());
	end);

	it("gives no id unless asked to be resumable", function ()
		for _, resume in ipairs { false, "false", "0", "no", "TRUE" } do
			local c = ctx:login();
			local enabled = c:enable { resume = resume or nil };
			assert.equal("enabled", enabled.name);
			assert.is_nil(enabled.attr.id);
			assert.is_not.equal("true", enabled.attr.resume);
			assert.is_not.equal("1", enabled.attr.resume);
			assert.is_nil(ctx:field(c.jid, "s.resumption_token"));
		end
	end);

	for _, value in ipairs { "true", "1" } do
		it("with resume='" .. value .. "' gives an id", function ()
			local c = ctx:login();
			local enabled = c:enable { resume = value };
			assert.equal("enabled", enabled.name);
			assert.equal("true", enabled.attr.resume);
			assert.truthy(enabled.attr.id);
			assert.equal("300", enabled.attr.max);
		end);
	end

	it("gives ids that are long and all different", function ()
		local seen = {};
		local user = ctx:user();
		for _ = 1, 20 do
			local c = ctx:login { user = user };
			local id = c:enable { resume = "true" }.attr.id;
			assert.is_nil(seen[id]);
			seen[id] = true;
			-- 128 bits take 22 characters of base64
			assert.truthy(#id >= 22, "the id " .. id .. " is too short for 128 bits");
		end
	end);

	it("answers a client of version 2 in version 2", function ()
		local c = ctx:login();
		local enabled = c:enable { ns = t.sm2, resume = "true" };
		assert.equal("enabled", enabled.name);
		assert.equal(t.sm2, enabled.ns);
		c:send("<r xmlns='urn:xmpp:sm:2'/>");
		local a = c:expect("a");
		assert.equal(t.sm2, a.ns);
		assert.equal("0", a.attr.h);
	end);

	it("asks a client of version 2 in version 2, and resumes it so", function ()
		local c = ctx:resumable { enable = { ns = t.sm2, resume = "true" } };
		local other = ctx:login();
		other:message(c.jid, "hello");
		assert.equal(t.sm2, c:expect("r").ns);
		c:ack();
		ctx:hibernate(c);
		local d = ctx:authenticated(c.username);
		local resumed = d:try_resume(c.token, c.h, t.sm2);
		assert.equal("resumed", resumed.name);
		assert.equal(t.sm2, resumed.ns);
	end);

	it("honours a lower max", function ()
		local c = ctx:login();
		local enabled = c:enable { resume = "true", max = "2" };
		assert.equal("2", enabled.attr.max);
		ctx:hibernate(c);
		ctx.srv:wait_gone(c.jid, 6);
	end);

	it("doesn't let max exceed what is configured", function ()
		local c = ctx:login();
		assert.equal("300", c:enable { resume = "true", max = "100000" }.attr.max);
	end);

	it("ignores a max that's no positive number", function ()
		for _, max in ipairs { "", "0", "-5", "abc", "1e1", "0x10", "2.5", "99999999999999999999" } do
			local c = ctx:login();
			local enabled = c:enable { resume = "true", max = max };
			assert.equal("enabled", enabled.name);
			assert.equal("300", enabled.attr.max, "for max=" .. max);
		end
	end);

	it("isn't possible before authentication", function ()
		local c = ctx:connect():open_stream();
		failed_with(c:enable { resume = "true" }, "unexpected-request");
		c:auth(ctx:user());
		c:bind("x");
		assert.equal("enabled", c:enable { resume = "true" }.name);
	end);

	it("isn't possible before binding, which still is then", function ()
		local c = ctx:authenticated(ctx:user());
		failed_with(c:enable { resume = "true" }, "unexpected-request");
		c:bind("phone");
		assert.equal("enabled", c:enable { resume = "true" }.name);
		assert.equal("0", c:ask_h());
	end);

	it("a second time fails and changes nothing", function ()
		local c = ctx:resumable();
		local token = c.token;
		c:message(c.jid, "one");
		c:expect({ name = "message", body = "one" });
		failed_with(c:enable { resume = "true" }, "unexpected-request");
		c:message(c.jid, "two");
		c:expect({ name = "message", body = "two" });
		assert.equal("2", c:ask_h());
		c:ack(2);
		c:sync();
		assert.equal(0, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		ctx:hibernate(c);
		local d = ctx:authenticated(c.username);
		assert.equal("resumed", d:try_resume(token, 2).name);
	end);

	it("fails a second time in the other version too", function ()
		local c = ctx:resumable();
		failed_with(c:enable { ns = t.sm2 }, "unexpected-request");
		assert.equal(t.sm3, ctx:field(c.jid, "s.smacks"));
		c.sm_ns = t.sm3;
		assert.equal("0", c:ask_h());
	end);

	it("twice at once gives one answer of each", function ()
		local c = ctx:login();
		c:send("<enable xmlns='urn:xmpp:sm:3' resume='true'/><enable xmlns='urn:xmpp:sm:3' resume='true'/>");
		assert.truthy(c:expect("enabled"));
		failed_with(c:expect("failed"), "unexpected-request");
		assert.equal("0", c:ask_h());
	end);

	it("counts from there on, not what came before", function ()
		local c = ctx:login();
		c:iq("get", "<ping xmlns='urn:xmpp:ping'/>");
		c:iq("get", "<ping xmlns='urn:xmpp:ping'/>");
		c:enable();
		assert.equal("0", c:ask_h());
		c:iq("get", "<ping xmlns='urn:xmpp:ping'/>");
		assert.equal("1", c:ask_h());
		assert.equal(1, c.h);
		c:ack(1);
		c:sync();
		assert.falsy(c.closed);
	end);

	it("counts stanzas sent along with <enable/>", function ()
		local c = ctx:login();
		c:send("<enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/><message to='" .. c.jid .. "'><body>x</body></message><r xmlns='urn:xmpp:sm:3'/>");
		c:expect("enabled");
		assert.equal("2", c:expect("a").attr.h);
	end);
end);
