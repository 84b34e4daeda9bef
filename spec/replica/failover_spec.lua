local t = require "support";
local busted = require "busted";
local it, pending = busted.it, busted.pending;
local ledgers = require "support.ledger";
local pair = require "support.pair";
local postgres = require "support.postgres";
local server = require "support.server";
local socket = require "socket";

-- One server after another, with an exact account of every message.

t.versions("a server that goes", function (start)
	if not postgres.is_installed() then
		pending("PostgreSQL is not installed");
		return;
	end

	local pg;
	busted.lazy_setup(function () pg = postgres.start(); end);
	busted.lazy_teardown(function () pg:remove(); end);

	local users = { "a", "b", "c", "d", "e", "f" };

	-- Six sessions, two of which have lost their connections.
	local function sessions(ctx)
		ctx:accounts(users);
		local ledger, all = ledgers.new(), {};
		for i, name in ipairs(users) do
			local client = ctx:resumable { user = name, resource = "r" };
			all[i] = ledger:follow(client);
		end
		for i = 5, 6 do ctx:hibernate(all[i].client); end
		return ledger, all;
	end

	-- Everybody who is there writes to everybody.
	local function write(ledger, all, rounds, seconds)
		for i = 1, rounds do
			for from = 1, 4 do
				all[from]:send(all[(from + i) % 6 + 1]);
				if i % 3 == 0 then all[from]:ask(); end
			end
			ledger:pump(seconds or 0.01);
		end
	end

	-- Everybody comes back on that server, and what was not handled is sent again.
	local function all_come_back(ctx, all)
		for _, entry in ipairs(all) do
			entry:look();
			entry:goes_on(ctx:resume(entry.client));
		end
	end

	local function assert_whole(ledger)
		ledger:pump(0.5, function () return #ledger:lost() == 0; end);
		assert.same({}, ledger:lost());
		assert.is_true(ledger:settle(), "not all arrived, or was told handled: " .. table.concat(ledger:missing(), " "));
		assert.same({}, ledger:twice());
	end

	it("by kill -9, and its disk with it: the other one has every session, and all that was told handled", function ()
		local one = pair.start(start, pg, { lease = 3 });
		local two = one:standby();
		local ledger, all = sessions(one);
		assert.falsy(two:is_open());
		write(ledger, all, 60);
		write(ledger, all, 10, 0); -- on its way
		one.srv:kill();
		server.run("rm -rf " .. server.quote(one.srv.dir .. "/data"));
		ledger:pump(0.2);
		assert.is_true(ledger:count_told() > 50);
		two:wait_ready();
		all_come_back(two, all);
		assert_whole(ledger);
		assert.same({}, two:log_errors(0));
	end);

	it("because it is stopped: the other one goes on at once, and then the first one again", function ()
		local one = pair.start(start, pg, { lease = 60 }); -- which nobody waits for
		local two = one:standby();
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		assert.is_true(one.srv:terminate(30));
		ledger:pump(0.2);
		for i = 1, 4 do assert.falsy(all[i].client.stream_ended); end
		two:wait_ready();
		all_come_back(two, all);
		write(ledger, all, 20);
		one.srv:spawn();
		one:wait_log("this one waits", 30, one.srv.log_mark);
		write(ledger, all, 5);
		assert.is_true(two.srv:terminate(30));
		one:wait_ready();
		all_come_back(one, all);
		assert_whole(ledger);
		for _, ctx in ipairs { one, two } do assert.same({}, ctx:log_errors(0)); end
	end);

	it("because an admin gives the lease away in the shell", function ()
		local one = pair.start(start, pg, { lease = 60; modules = { "admin_socket", "admin_shell" } });
		local two = one:standby();
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		local code, out = one.srv:prosodyctl("shell 'smacks:replica()'");
		assert.equal(0, code, out);
		assert.matches("Role +holder", out);
		code, out = one.srv:prosodyctl("shell 'smacks:handover()'");
		assert.equal(0, code, out);
		write(ledger, all, 5);
		one.srv:wait_ended(30);
		ledger:pump(0.2);
		for i = 1, 4 do assert.falsy(all[i].client.stream_ended); end
		two:wait_ready();
		all_come_back(two, all);
		assert_whole(ledger);
		for _, ctx in ipairs { one, two } do assert.same({}, ctx:log_errors(0)); end
	end);

	it("for a while (SIGSTOP): when it goes on it acknowledges, delivers and stores nothing", function ()
		local one = pair.start(start, pg, { lease = 3; modules = { "offline" } });
		local two = one:standby();
		one:accounts { "nobody" };
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		one:signal("STOP");
		ledger:pump(0.2);
		-- What it would read when it goes on.
		for i = 1, 4 do
			all[i].client:send(("<message to='nobody@localhost' id='stale%d'><body>stale</body></message>"):format(i));
			all[i].client:send(("<message to='%s' id='late%d'><body>late</body></message>"):format(all[i % 4 + 1].client.jid, i));
			all[i]:ask();
		end
		two:wait_ready();
		local seen = {};
		for i = 1, 4 do seen[i] = #all[i].client.seen; end
		one:signal("CONT");
		one.srv:wait_ended(30);
		for i = 1, 4 do
			local client = all[i].client;
			client:drain(0.2);
			assert.is_true(client.closed);
			assert.is_false(client.stream_ended);
			assert.equal(seen[i], #client.seen);
		end
		assert.equal("0", pg:sql("SELECT count(*) FROM prosody WHERE store = 'offline' OR value LIKE '%stale%'", one.pair.opts.database));
		assert.equal("0", pg:sql("SELECT count(*) FROM prosodyarchive WHERE value LIKE '%stale%'", one.pair.opts.database));
		all_come_back(two, all);
		assert_whole(ledger);
		assert.same({}, two:log_errors(0));
	end);

	-- Has the server stop itself (SIGSTOP) there.
	local stop_itself = [[
		local pposix, signal = require "util.pposix", require "util.signal";
		signal.kill(pposix.getpid(), signal.SIGSTOP);
	]];

	local function wait_stopped(ctx)
		local deadline = socket.gettime() + 20;
		repeat
			socket.sleep(0.02);
			local state = server.read_file("/proc/" .. ctx.srv.pid .. "/stat"):match("^%d+ %(.*%) (%a)");
		until state == "T" or socket.gettime() > deadline;
	end

	it("for a while, in the middle of a transaction of its storage: that blocks nobody, and is not committed", function ()
		local one = pair.start(start, pg, { lease = 3; modules = { "mam" } });
		local two = one:standby();
		local ledger, all = sessions(one);
		all[1]:send_text("<message to='b@localhost' type='chat'><body>so that there is an archive</body></message>");
		assert.is_true(ledger:settle());
		local count = "SELECT count(*) FROM prosodyarchive";
		local before = pg:sql(count, one.pair.opts.database);
		one.srv:eval(([[
			local _, engine = next(module:shared("/*/sql/connections"));
			require "util.timer".add_task(0.2, function ()
				engine:transaction(function ()
					engine:insert([=[INSERT INTO "prosodyarchive" ("host", "user", "store", "when", "with", "key", "type", "value")
						VALUES ('localhost', 'a', 'archive', 1, '', 'stale', 'xml', '')]=]);
					%s
				end);
			end);
		]]):format(stop_itself));
		wait_stopped(one);
		two:wait_ready();
		one:signal("CONT");
		one.srv:wait_ended(30);
		all_come_back(two, all);
		all[1]:send_text("<message to='b@localhost' type='chat'><body>another</body></message>");
		assert_whole(ledger);
		assert.equal("0", pg:sql(count .. " WHERE key = 'stale'", one.pair.opts.database));
		assert.is_true(tonumber(pg:sql(count, one.pair.opts.database)) > tonumber(before));
		assert.same({}, two:log_errors(0));
	end);

	-- With opportunistic_writes what is sent goes out at once, not in the next turn of the main loop.
	for _, network in ipairs { "", "network_settings = { opportunistic_writes = true }" } do
		it("for a while, in the middle of a stanza: what that leads to stays where it is (" .. network .. ")", function ()
			local one = pair.start(start, pg, { lease = 3; modules = { "offline" }; config = network });
			local two = one:standby();
			one:accounts { "nobody" };
			local ledger, all = sessions(one);
			write(ledger, all, 10);
			assert.is_true(ledger:settle());
			one.srv:eval(([[
				prosody.hosts.localhost.events.add_handler("pre-message/full", function ()
					%s
				end, 1000);
				prosody.hosts.localhost.events.add_handler("pre-message/bare", function ()
					io.open(prosody.paths.data .. "/processed", "w"):close();
				end, 1000);
			]]):format(stop_itself));
			all[1].client:send(("<message to='%s' id='late'><body>late</body></message>"):format(all[2].client.jid)
				.. "<message to='nobody@localhost' id='stale'><body>stale</body></message>");
			wait_stopped(one);
			two:wait_ready();
			local seen = {};
			for i = 1, 4 do seen[i] = #all[i].client.seen; end
			one:signal("CONT");
			one.srv:wait_ended(30);
			for i = 1, 4 do
				all[i].client:drain(0.2);
				assert.equal(seen[i], #all[i].client.seen);
			end
			assert.is_nil(server.read_file(one.srv.dir .. "/data/processed"), "the next stanza was processed");
			assert.equal("0", pg:sql("SELECT count(*) FROM prosody WHERE value LIKE '%stale%'", one.pair.opts.database));
			assert.equal("0", pg:sql("SELECT count(*) FROM prosodyarchive WHERE value LIKE '%stale%'", one.pair.opts.database));
			all_come_back(two, all);
			assert_whole(ledger);
		end);
	end

	it("and comes back with what is on its disk: that is not believed", function ()
		local one = pair.start(start, pg, { lease = 3 });
		local two = one:standby();
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		one.srv:kill();
		ledger:pump(0.2);
		two:wait_ready();
		all_come_back(two, all);
		write(ledger, all, 20);
		one.srv:spawn();
		one:wait_log("this one waits", 30, one.srv.log_mark);
		write(ledger, all, 20);
		two.srv:kill();
		ledger:pump(0.2);
		one:wait_ready();
		all_come_back(one, all);
		assert_whole(ledger);
		assert.same({}, one:log_errors(one.srv.log_mark));
	end);

	it("alone, and its database's content too: it goes on with what is on its disk if it is told to", function ()
		local one = pair.start(start, pg, { lease = 60 });
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		one.srv:kill();
		ledger:pump(0.2);
		pg:sql("TRUNCATE enjamb_lease, enjamb_batch", one.pair.opts.database);
		assert(os.remove(one.srv.dir .. "/data/enjamb-journal/replica"));
		one:launch();
		all_come_back(one, all);
		assert_whole(ledger);
		assert.same({}, one:log_errors(0));
	end);

	it("alone, and is started again: it waits for nobody", function ()
		local one = pair.start(start, pg, { lease = 60 });
		local ledger, all = sessions(one);
		write(ledger, all, 20);
		one.srv:kill();
		ledger:pump(0.2);
		one:launch();
		all_come_back(one, all);
		assert_whole(ledger);
		assert.same({}, one:log_errors(0));
	end);
end);
