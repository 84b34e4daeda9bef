local t = require "support";
local busted = require "busted";
local it, pending = busted.it, busted.pending;
local pair = require "support.pair";
local postgres = require "support.postgres";
local socket = require "socket";

-- What an admin is told who has set something that cannot be.

t.versions("a start with a replica", function (start)
	if not postgres.is_installed() then
		pending("PostgreSQL is not installed");
		return;
	end

	local pg;
	busted.lazy_setup(function () pg = postgres.start(); end);
	busted.lazy_teardown(function () pg:remove(); end);

	-- It ends, never having opened a port, and its log has that.
	local function does_not_start(opts, pattern)
		local ctx = pair.new(start, pg, opts);
		ctx.srv:spawn();
		ctx.srv:wait_ended(30);
		assert.matches(pattern, ctx.srv:log());
		assert.matches("Prosody does not start", ctx.srv:log());
		assert.is_nil(require "lfs".attributes(ctx.srv.dir .. "/data/enjamb-journal/00000001.seg"));
		return ctx;
	end

	it("whose password is wrong", function ()
		local database = pg:database();
		local ctx = does_not_start({ database = database; url = pg:url(database, nil, "wrong") }, "password authentication failed");
		assert.falsy(ctx.srv:log():find("wrong@", 1, true), "the log has the password");
	end);

	it("whose database is not there", function ()
		does_not_start({ database = pg:database(); url = pg:url("nowhere") }, "nowhere");
	end);

	it("whose role may not write there, and make no table", function ()
		local database = pg:database();
		if pg:sql("SELECT count(*) FROM pg_roles WHERE rolname = 'weak'") == "0" then pg:sql("CREATE ROLE weak LOGIN PASSWORD 'weak'"); end
		does_not_start({ database = database; url = pg:url(database, "weak", "weak") }, "docs/replica.sql");
	end);

	for what, case in pairs {
		["that is no address of a database"] = { { url = "mysql://a:b@c/d" }, "'smacks_replica' must be like" };
		["whose lease is too short"] = { { lease = 1 }, "'smacks_replica_lease' must be a number of seconds from 3" };
		["with another loop than Prosody's own"] = { { config = "network_backend = 'select'" }, "network_backend" };
	} do
		it(what, function () does_not_start(case[1], case[2]); end);
	end

	it("that is set for one host only", function ()
		local ctx = start { launch = false; host_config = "smacks_replica = 'postgresql://a:b@127.0.0.1/c'" };
		ctx.srv:spawn();
		ctx.srv:wait_ended(30);
		assert.matches("'smacks_replica' holds for the whole server", ctx.srv:log());
	end);

	it("that is not set, at level 'replicated'", function ()
		local ctx = start { launch = false; config = "smacks_durability = 'replicated'" };
		ctx.srv:spawn();
		ctx.srv:wait_ended(30);
		assert.matches("'smacks_replica' does not say where to. Prosody does not start", ctx.srv:log());
	end);

	it("that cannot be, and need not: it goes on without, at level 'power'", function ()
		local database = pg:database();
		local ctx = pair.start(start, pg, { database = database; url = pg:url(database, nil, "wrong"); config = "smacks_replica_required = false" });
		assert.matches("It goes on without a replica", ctx.srv:log());
		ctx:accounts { "a" };
		local c = ctx:resumable { user = "a" };
		c:message("a@localhost/nowhere", "one");
		local h;
		repeat
			c:send("<r xmlns='" .. t.sm3 .. "'/>");
			h = c:expect("a").attr.h;
		until h == "1";
	end);

	it("where another one serves under the same name: it waits and says for whom", function ()
		local one = pair.start(start, pg, { lease = 60 });
		local two = one:standby();
		local name = io.open("/proc/sys/kernel/hostname"):read("l");
		assert.truthy(two.srv:log():find("Another server, " .. name .. ", serves as", 1, true));
		assert.truthy(two.srv:log():find('serves as "localhost"', 1, true));
		assert.falsy(two:is_open());
	end);

	it("where another one serves: the shell says that nobody is there, until this one serves", function ()
		local one = pair.start(start, pg, { lease = 60; modules = { "admin_socket", "admin_shell" } });
		local two = one:standby();
		local code, out = two.srv:prosodyctl("shell 'smacks:replica()'");
		assert.not_equal(0, code);
		assert.matches("nable to connect", out);
		assert.is_true(one.srv:terminate(30));
		two:wait_ready();
		code, out = two.srv:prosodyctl("shell 'smacks:replica()'");
		assert.equal(0, code, out);
		assert.matches("Role +holder", out);
	end);

	it("under another name does not", function ()
		local one = pair.start(start, pg, { lease = 60 });
		local two = pair.start(start, pg, { lease = 60; database = one.pair.opts.database; config = "smacks_replica_name = 'another'" });
		two:accounts { "a" };
		two:resumable { user = "a" };
	end);

	it("warns of what is on this machine only", function ()
		local one = pair.start(start, pg, { config = "storage = 'internal'" });
		assert.matches("What localhost keeps in accounts, roster, smacks_h, [^\n]* is on this machine only %(internal%)", one.srv:log());
	end);

	it("is told of by prosodyctl mod_smacks check", function ()
		local one = pair.start(start, pg, {});
		local _, out = one.srv:prosodyctl("mod_smacks check");
		assert.falsy(out:find("on this machine only", 1, true), out);
		assert.falsy(out:find("smacks_replica", 1, true), out);
		local two = start { launch = false; config = "smacks_durability = 'replicated'" };
		_, out = two.srv:prosodyctl("mod_smacks check");
		assert.matches("WRONG +smacks_durability is \"replicated\", and smacks_replica does not say where to", out);
		local three = start { launch = false; config = "smacks_replica = 'postgresql://a:b@127.0.0.1/c'" };
		_, out = three.srv:prosodyctl("mod_smacks check");
		assert.matches("advice +smacks_durability is \"replicated\" nowhere", out);
		assert.matches("advice +localhost: accounts, roster, [^\n]* are on this machine only %(internal%)", out);
	end);

	it("is measured", function ()
		local one = pair.start(start, pg, { modules = { "http_openmetrics" };
			config = "statistics = 'internal'\nopenmetrics_allow_ips = { '127.0.0.1' }" });
		local connection = assert(socket.connect("127.0.0.1", one.srv.http));
		connection:settimeout(10);
		connection:send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
		local text, _, partial = connection:receive("*a");
		text = text or partial;
		for name, value in pairs {
			is_holder = "1", epoch = "1", is_connected = "1", lag_bytes = "%d+", lease_seconds = "[%d.]+", commit_seconds = "[%d.e-]+",
		} do
			assert.truthy(text:find("prosody_mod_smacks__replica_" .. name .. "%b{} " .. value), name);
		end
	end);

	it("is not begun while a server runs", function ()
		local ctx = start {};
		local mark = ctx.srv:log_size();
		ctx.srv:eval([[
			require "core.configmanager".set("*", "smacks_replica", "postgresql://a:b@127.0.0.1/c");
			return require "core.modulemanager".reload("localhost", "smacks");
		]]);
		assert.matches("smacks_replica is heeded when Prosody starts", ctx.srv:log(mark));
		local c = ctx:resumable();
		c:ping();
		assert.equal("1", c:ask_h());
	end);

	it("survives a reload of the module", function ()
		local one = pair.start(start, pg, { lease = 60 });
		one:accounts { "a" };
		local c = one:resumable { user = "a" };
		one.srv:eval("return require 'core.modulemanager'.reload('localhost', 'smacks')");
		c:message(c.jid, "one");
		c:expect({ body = "one" });
		local h;
		repeat
			c:send("<r xmlns='" .. t.sm3 .. "'/>");
			h = c:expect("a").attr.h;
		until h == "1";
		assert.same({}, one:log_errors(0));
		local two = one:standby();
		assert.is_true(one.srv:terminate(30));
		two:wait_ready();
		two:resume(c):sync();
	end);
end);
