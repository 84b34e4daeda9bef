local t = require "support";
local busted = require "busted";
local it, pending = busted.it, busted.pending;
local ledgers = require "support.ledger";
local pair = require "support.pair";
local postgres = require "support.postgres";
local socket = require "socket";

-- The database is away, and comes back.

t.versions("a replica whose database is away", function (start)
	if not postgres.is_installed() then
		pending("PostgreSQL is not installed");
		return;
	end

	local pg;
	busted.before_each(function () pg = postgres.start(); end);
	busted.after_each(function () pg:remove(); end);

	local function two_sessions(ctx)
		ctx:accounts { "a", "b" };
		local ledger = ledgers.new();
		local a = ledger:follow(ctx:resumable { user = "a", resource = "r" });
		local b = ledger:follow(ctx:resumable { user = "b", resource = "r" });
		return ledger, a, b;
	end

	for what, away in pairs {
		["stopped for 5 seconds"] = { function () pg:stop(); end, 5 };
		["killed (kill -9)"] = { function () pg:kill(); end, 1 };
	} do
		for _, lease in ipairs { 10, 3 } do
			it(what .. ", lease of " .. lease .. " s: no ack leaves, clients stay, all goes on when it is back", function ()
				local one = pair.start(start, pg, { lease = lease });
				local two = one:standby();
				local ledger, a, b = two_sessions(one);
				for _ = 1, 10 do a:send(b); b:send(a); end
				assert.is_true(ledger:settle());
				away[1]();
				local told = a.told;
				for _ = 1, 10 do a:send(b); b:send(a); end
				a:ask();
				b:ask();
				ledger:pump(away[2]);
				assert.equal(told, a.told);
				pg:launch();
				assert.is_true(ledger:settle(), "missing: " .. table.concat(ledger:missing(), " "));
				assert.same({}, ledger:lost());
				assert.same({}, ledger:twice());
				for _, entry in ipairs { a, b } do assert.falsy(entry.client.closed); end
				assert.falsy(two:is_open());
				local _, n = one.srv:log():gsub("replica's database is out of reach", "");
				assert.equal(1, n, "it is told once");
				one:allow("out of reach");
				one:allow("could not be renewed");
				one:allow("enjamb:replica");
				assert.same({}, one:log_errors(0));
				-- And the other one has it all, when it is its turn.
				assert.is_true(one.srv:terminate(30));
				two:wait_ready();
				a:goes_on(two:resume(a.client));
				b:goes_on(two:resume(b.client));
				assert.is_true(ledger:settle());
			end);
		end
	end

	it("at level 'process' holds up nothing", function ()
		local one = pair.start(start, pg, { lease = 10; durability = "process" });
		local ledger, a, b = two_sessions(one);
		a:send(b);
		assert.is_true(ledger:settle());
		pg:stop();
		for _ = 1, 10 do a:send(b); b:send(a); end
		assert.is_true(ledger:settle());
		one:wait_log("replica's database is out of reach");
		pg:launch();
		one:wait_log("database is back");
		one.srv:wait_for("return require 'enjamb'.replica.state().lag == 0");
		-- What was not copied meanwhile is.
		one.srv:kill();
		require "support.server".run("rm -rf " .. one.srv.dir .. "/data/enjamb-journal");
		one:launch();
		a:goes_on(one:resume(a.client));
		b:goes_on(one:resume(b.client));
		assert.is_true(ledger:settle());
		assert.same({}, ledger:lost());
	end);

	it("that need not be: it goes on for as long as the database is away", function ()
		local one = pair.start(start, pg, { lease = 3; durability = "process"; config = "smacks_replica_required = false" });
		local ledger, a, b = two_sessions(one);
		a:send(b);
		assert.is_true(ledger:settle());
		pg:stop();
		one:wait_log("replica's database is out of reach");
		socket.sleep(4);
		for _ = 1, 10 do a:send(b); b:send(a); end
		assert.is_true(ledger:settle());
		assert.falsy(one.srv:log():find("could not be renewed", 1, true));
		pg:launch();
		one:wait_log("database is back");
	end);

	it("at the start: nobody is served until it is there", function ()
		local one = pair.new(start, pg, { lease = 60 });
		pg:stop();
		one.srv:spawn();
		one:wait_log("out of reach, nobody is served until it is there");
		socket.sleep(0.5);
		assert.falsy(one:is_open());
		pg:launch();
		one:wait_ready();
		local ledger, a, b = two_sessions(one);
		a:send(b);
		assert.is_true(ledger:settle());
	end);

	it("at the start, and SIGTERM or SIGINT ends it all the same; SIGHUP does not", function ()
		for _, name in ipairs { "TERM", "INT" } do
			local one = pair.new(start, pg, { lease = 60 });
			pg:stop();
			one.srv:spawn();
			one:wait_log("out of reach, nobody is served until it is there");
			one:signal("HUP");
			socket.sleep(0.5);
			assert.is_true(one.srv:alive());
			one:signal(name);
			one.srv:wait_ended(10);
			assert.is_nil(require "lfs".attributes(one.srv.dir .. "/prosody.pid"));
			pg:launch();
		end
	end);

	it("at the start, as a daemon", function ()
		local one = pair.new(start, pg, { lease = 60; daemonize = true });
		pg:stop();
		one.srv:spawn(); -- which comes back when it has forked
		one:wait_pid();
		one:wait_log("out of reach, nobody is served until it is there");
		assert.falsy(one:is_open());
		pg:launch();
		one:wait_ready();
		local ledger, a, b = two_sessions(one);
		a:send(b);
		assert.is_true(ledger:settle());
		assert.is_true(one.srv:terminate(30));
	end);
end);
