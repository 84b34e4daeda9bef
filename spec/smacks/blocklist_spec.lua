local t = require "support";

t.each("blocked contacts", { config = "smacks_hibernation_time = 2", modules = { "blocklist" } }, function (ctx, it)
	local function block(c, jid)
		c:iq("set", ("<block xmlns='urn:xmpp:blocking'><item jid='%s'/></block>"):format(jid));
	end

	it("get nothing into the queue", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		block(c, other.bare);
		c:ack();
		c:sync();
		ctx:hibernate(c);
		local before = ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()");
		other:message(c.jid, "m1", { id = "m1" });
		other:message(c.bare, "m2", { id = "m2" });
		other:ping(c.jid);
		other:sync();
		assert.equal(before, ctx:field(c.jid, "s.outgoing_stanza_queue:count_unacked()"));
		local d = ctx:resume(c);
		d:sync();
		assert.same({}, t.bodies(d.seen));
	end);

	it("that were blocked too late end well when the session expires", function ()
		local user = ctx:user();
		local c, other = ctx:resumable { user = user, available = true }, ctx:login();
		local also = ctx:login { user = user, available = true };
		ctx:hibernate(c);
		other:message(c.jid, "m1", { id = "m1" });
		other:ping(c.jid);
		other:sync();
		block(also, other.bare);
		ctx.srv:wait_gone(c.jid, 6);
		also:sync();
		other:sync();
		-- nothing goes round in circles
		local n = #ctx.srv:log();
		also:drain(0.5);
		assert.truthy(#ctx.srv:log() - n < 20000);
	end);
end);
