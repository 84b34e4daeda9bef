local t = require "support";
local it = require "busted".it;

t.versions("as a daemon", function (start)
	it("works, after forking", function ()
		local ctx = start { daemonize = true, config = "smacks_hibernation_time = 1" };
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m3" });
		assert.equal("1", c:ask_h());
		c:ack();
		ctx:hibernate(c);
		other:message(c.jid, "m4");
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m4" });
		assert.equal("1", d:ask_h());
		-- timers run as well
		d:cut();
		ctx.srv:wait_gone(c.jid, 6);
		local e = ctx:login { user = c.username };
		e:presence();
		e:expect({ body = "m4" });
		assert.same({}, ctx:log_errors(0));
		assert.is_true(ctx.srv:terminate());
	end);

	it("gives ids that another daemon doesn't", function ()
		local seen = {};
		for _ = 1, 2 do
			local ctx = start { daemonize = true };
			for _ = 1, 5 do
				local id = ctx:resumable().token;
				assert.is_nil(seen[id]);
				seen[id] = true;
			end
		end
	end);
end);
