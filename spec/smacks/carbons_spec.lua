local t = require "support";

t.each("carbons", { config = "smacks_hibernation_time = 2", modules = { "carbons" } }, function (ctx, it)
	local function with_carbons(opts)
		local c = ctx:resumable(opts);
		c:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
		c:presence();
		c:expect({ name = "presence", from = c.jid });
		c:ack();
		c:sync();
		return c;
	end

	local function carbons(list, kind)
		local out = {};
		for _, m in ipairs(t.only(list, "message")) do
			local x = m:child(kind, "urn:xmpp:carbons:2");
			if x then out[#out + 1] = x:child("forwarded"):child("message"):body(); end
		end
		return out;
	end

	it("come after resuming, once each", function ()
		local user = ctx:user();
		local phone, desk = with_carbons { user = user }, with_carbons { user = user };
		local other = ctx:login { available = true };
		ctx:hibernate(phone);
		desk:message(other.jid, "sent by desk");
		other:expect({ body = "sent by desk" });
		other:message(desk.jid, "answer");
		desk:expect({ body = "answer" });
		local d = ctx:resume(phone);
		d:sync();
		assert.same({ "sent by desk" }, carbons(d.seen, "sent"));
		assert.same({ "answer" }, carbons(d.seen, "received"));
		for _, m in ipairs(t.only(d.seen, "message")) do assert.equal(phone.bare, m.attr.from); end
		-- the setting is the session's: it's still there
		desk:message(other.jid, "another");
		d:sync();
		d:drain(0.2);
		assert.same({ "sent by desk", "another" }, carbons(d.seen, "sent"));
	end);

	it("that expire make no errors for anyone", function ()
		local user = ctx:user();
		local phone, desk = with_carbons { user = user }, with_carbons { user = user };
		local other = ctx:login { available = true };
		ctx:hibernate(phone);
		desk:message(other.jid, "sent by desk");
		other:expect({ body = "sent by desk" });
		other:message(desk.jid, "answer");
		desk:expect({ body = "answer" });
		ctx.srv:wait_gone(phone.jid, 6);
		other:drain(0.3);
		desk:sync();
		assert.equal(0, #t.only(other.seen, { type = "error" }));
		assert.equal(0, #t.only(desk.seen, { name = "message", type = "error" }));
	end);

	it("that expire last aren't stored as messages of the user to himself", function ()
		local user = ctx:user();
		local phone, desk = with_carbons { user = user }, with_carbons { user = user };
		local other = ctx:login { available = true };
		ctx:hibernate(phone);
		desk:message(other.jid, "sent by desk");
		other:expect({ body = "sent by desk" });
		desk:ack();
		desk:sync();
		desk:close();
		ctx.srv:wait_gone(phone.jid, 6);
		local d = ctx:login { user = user, available = true };
		d:sync();
		assert.equal(0, #t.only(other:sync(), { type = "error" }));
	end);
end);
