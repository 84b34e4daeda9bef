local t = require "support";

t.each("archived messages", {
	config = "smacks_hibernation_time = 1; default_archive_policy = true", modules = { "mam" },
}, function (ctx, it)
	local function query(c)
		local id = t.client.id();
		c:send(("<iq type='set' id='%s'><query xmlns='urn:xmpp:mam:2' queryid='q'/></iq>"):format(id));
		local list = c:read_until({ name = "iq", id = id });
		local out = {};
		for _, m in ipairs(t.only(list, "message")) do
			local result = m:child("result", "urn:xmpp:mam:2");
			if result then out[#out + 1] = result:child("forwarded"):child("message"):body(); end
		end
		return out;
	end

	it("aren't bounced nor stored again when the client uses the archive", function ()
		local user = ctx:user();
		local c = ctx:resumable { user = user, available = true };
		query(c);
		local also = ctx:login { user = user, available = true };
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:message(c.bare, "m2");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(0, #t.only(other:drain(0.3), "message"));
		also:expect({ body = "m2" });
		assert.same({ "m1", "m2" }, query(ctx:login { user = user }));
	end);

	it("of the last client are in the archive once and come to no harm", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		query(c);
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(0, #t.only(other:drain(0.2), "message"));
		local d = ctx:login { user = c.username };
		assert.same({ "m1" }, query(d));
	end);

	it("are bounced when the client doesn't use the archive and the user is online elsewhere", function ()
		local user = ctx:user();
		local c = ctx:resumable { user = user, available = true };
		ctx:login { user = user, available = true };
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		ctx.srv:wait_gone(c.jid, 6);
		local err = other:expect({ name = "message", type = "error" });
		assert.truthy(err:child("error"):child("recipient-unavailable", t.ns_errors));
	end);

	it("that are results of a query aren't stored or bounced", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 3 do other:message(c.bare, "m" .. i); end
		c:expect({ body = "m3" });
		c:ack();
		assert.same({ "m1", "m2", "m3" }, query(c));
		-- the results aren't acked
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(0, #t.only(other:drain(0.2), "message"));
		local d = ctx:login { user = c.username, available = true };
		d:sync();
		for _, m in ipairs(t.only(d.seen, "message")) do assert.is_nil(m:child("result", "urn:xmpp:mam:2")); end
		assert.same({ "m1", "m2", "m3" }, query(d));
	end);

	it("come with their archive id after resuming", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		local d = ctx:resume(c);
		local m = d:expect({ body = "m1" });
		assert.truthy(m:child("stanza-id", "urn:xmpp:sid:0"), tostring(m));
	end);
end);
