local t = require "support";
local it = require "busted".it;

-- smacks_durability = "power": what is acknowledged is on the disk itself.

local config = "smacks_hibernation_time = 60\nsmacks_durability = 'power'";

-- Stands in for a slow disk: the server believes that nothing more has got there until it is told otherwise.
local hold_disk = [[
	module:shared("/*/smacks/journal").disk_is_at = require "enjamb".journal.durable();
]];
local release_disk = [[
	local journal = module:shared("/*/smacks/journal");
	journal.disk_is_at = nil;
	journal.disk_has_more();
]];

t.versions("durability 'power'", function (start)
	it("acknowledges everything, if not at once", function ()
		local ctx = start { config = config };
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 20 do c:message(other.jid, "m" .. i); end
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		local h;
		repeat h = tonumber(c:expect({ name = "a" }).attr.h); until h == 21;
		assert.same({}, ctx:log_errors(0));
	end);

	it("answers a request at once with what the disk has, and acknowledges the rest unasked when it has it", function ()
		local ctx = start { config = config };
		local c = ctx:resumable { available = true };
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		local h;
		repeat h = tonumber(c:expect({ name = "a" }).attr.h); until h == 1;
		ctx.srv:eval(hold_disk);
		c:message(c.jid, "one");
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		assert.equal("1", c:expect({ name = "a" }).attr.h);
		c:message(c.jid, "two");
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		assert.equal("1", c:expect({ name = "a" }).attr.h);
		c:drain(0.3);
		assert.equal("1", t.only(c.seen, { name = "a" })[#t.only(c.seen, { name = "a" })].attr.h);
		ctx.srv:eval(release_disk);
		repeat h = tonumber(c:expect({ name = "a" }).attr.h); until h == 3;
	end);

	it("acknowledges what the disk got on behalf of somebody else", function ()
		local ctx = start { config = config };
		local c, d = ctx:resumable { available = true }, ctx:resumable { available = true };
		local function acked(client, expected)
			client:send("<r xmlns='" .. t.sm3 .. "'/>");
			repeat until tonumber(client:expect({ name = "a" }).attr.h) == expected;
		end
		acked(c, 1);
		c:message(d.jid, "one");
		d:expect({ body = "one" });
		require "socket".sleep(2.5); -- what nobody asks about is kept after a second, without the disk being asked
		d:message(d.jid, "two");
		acked(d, 2);
		acked(c, 2);
	end);

	it("says in <resumed/> only what the disk has, and waits for it", function ()
		local ctx = start { config = config };
		local c = ctx:resumable { available = true };
		c:sync();
		c:message(c.jid, "one");
		c:expect({ body = "one" });
		c:cut();
		ctx.srv:wait_hibernating(c.jid);
		local d = ctx:resume(c);
		assert.equal("2", d.resumed.attr.h);
		d:message(d.jid, "two");
		d:expect({ body = "two" });
		assert.same({}, ctx:log_errors(0));
	end);

	it("with a disk that hangs: a client is told less, sends the rest again, and the counts agree", function ()
		local ctx = start { config = config };
		local c = ctx:resumable { available = true };
		local h;
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		repeat h = tonumber(c:expect({ name = "a" }).attr.h); until h == 1;
		ctx.srv:eval(hold_disk);
		c:message("nobody@localhost", "one");
		c:expect({ name = "message", type = "error" });
		c:cut();
		ctx.srv:wait_hibernating(c.jid);
		local d = ctx:authenticated(c.username);
		d:send(("<resume xmlns='%s' previd='%s' h='%d'/>"):format(t.sm3, c.token, c.h));
		local resumed = d:expect({ name = "resumed" }, 15);
		assert.equal("1", resumed.attr.h);
		ctx.srv:eval(release_disk);
		d:send("<message to='nobody@localhost'><body>one</body></message>");
		d:send("<r xmlns='" .. t.sm3 .. "'/>");
		repeat h = tonumber(d:expect({ name = "a" }).attr.h); assert.truthy(h <= 2, h); until h == 2;
	end);

	for how, stop in pairs {
		SIGTERM = function (srv) assert.is_true(srv:terminate(60), "the server didn't stop by itself"); end;
		["kill -9"] = function (srv) srv:kill(); end;
	} do
		it("loses nothing that was acknowledged by " .. how, function ()
			local ctx = start { config = config };
			local c, other = ctx:resumable { available = true }, ctx:resumable();
			c:sync();
			ctx:hibernate(c);
			for i = 1, 30 do other:message(c.jid, "m" .. i); end
			other:send("<r xmlns='" .. t.sm3 .. "'/>");
			local h;
			repeat h = tonumber(other:expect({ name = "a" }).attr.h); until h == 30;
			stop(ctx.srv);
			ctx.srv:launch();
			ctx.srv:wait_hibernating(c.jid);
			local d = ctx:resume(c);
			d:expect({ body = "m30" });
			assert.same(t.numbered("m", 30), t.bodies(d.seen));
			ctx:resume(other):sync();
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("says in the log what the journal's thread cannot do", function ()
		local ctx = start { config = config };
		local dir = ctx.srv.dir .. "/data/enjamb-journal";
		-- The ports are open a moment before the journal is.
		for _ = 1, 300 do
			if require "lfs".attributes(dir .. "/00000001.seg", "size") then break; end
			require "socket".sleep(0.1);
		end
		require "socket".sleep(0.2);
		assert(os.rename(dir, dir .. "-away")); -- its files stay open, but its name cannot be synced any more
		local c = ctx:resumable { available = true };
		c:send("<r xmlns='" .. t.sm3 .. "'/>");
		assert.equal("0", c:expect({ name = "a" }).attr.h);
		local deadline = require "socket".gettime() + 30;
		local line;
		repeat
			c:drain(0.1);
			line = ctx.srv:log():match("enjamb:journal\terror\t([^\n]*)");
		until line or require "socket".gettime() > deadline;
		assert.matches("^cannot sync \"[^\n]*/enjamb%-journal\": No such file", line);
	end);

	it("an unknown level is told and is 'process'", function ()
		local ctx = start { config = "smacks_durability = 'diamond'" };
		local c = ctx:resumable();
		assert.equal("0", c:ask_h());
		assert.truthy(ctx.srv:log():match("'smacks_durability' must be [^\n]*diamond"));
		assert.truthy(require "lfs".attributes(ctx.srv.dir .. "/data/enjamb-journal"));
	end);
end);
