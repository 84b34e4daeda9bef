local t = require "support";
local it = require "busted".it;

-- Who comes back at a start, when it cannot be told whether they may.

local config = "smacks_hibernation_time = 60";
local users = { alice = "secret", bob = "secret" };

local function failing(store)
	return {
		config = function (srv)
			return ("%s\ntest_failing_storage = %q\nstorage = { %s = 'test_failing' }"):format(config, srv.dir .. "/fail", store);
		end;
		users = users;
	};
end

local function break_storage(ctx, broken)
	local name = ctx.srv.dir .. "/fail";
	if broken then
		io.open(name, "w"):close();
	else
		os.remove(name);
	end
end

t.versions("a storage that fails at the start", function (start)
	for _, store in ipairs { "accounts", "roster" } do
		it("(" .. store .. ") ends no session: it comes back when the storage does", function ()
			local ctx = start(failing(store));
			ctx:allow("nobody can tell whether they may come back; that is tried again: .*fails on purpose");
			ctx:allow("fails on purpose");
			local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
			ctx:hibernate(alice);
			bob:message(alice.jid, "kept");
			assert.equal("2", bob:ask_h());
			ctx.srv:kill();
			break_storage(ctx, true);
			ctx.srv:launch();
			ctx.srv:wait_for("return host_module('localhost', 'smacks') and true");
			assert.is_nil(ctx:field(alice.jid, "true"));
			-- not even a second start on which it fails
			ctx.srv:terminate();
			ctx.srv:launch();
			break_storage(ctx, false);
			ctx.srv:wait_hibernating(alice.jid, 30);
			ctx:resume(alice):expect({ body = "kept" });
			ctx:resume(bob):sync();
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);

-- Who comes back when there are so many that their accounts are not looked at before the first client is read from: but one of
-- them, here, whichever is the first.
t.versions("sessions whose accounts are looked at later", function (start)
	local names = { "alice", "bob", "carol", "dave" };

	local function begin()
		local ctx = start {
			config = config;
			users = { alice = "secret", bob = "secret", carol = "secret", dave = "secret", other = "secret", tail = "secret" };
			modules = { "test_busy" };
		};
		return ctx, ctx:resumable { user = "other", available = true };
	end

	local function queue_for(ctx, other, clients)
		for _, c in ipairs(clients) do
			ctx:hibernate(c);
			for i = 1, 2 do other:message(c.jid, c.username .. i, { id = c.username .. i }); end
		end
		other:sync();
	end

	it("are resumed, and are what they were", function ()
		local ctx, other = begin();
		ctx:befriend("alice", "other");
		ctx:befriend("bob", "other");
		local clients = {};
		for i, name in ipairs(names) do
			clients[i] = ctx:resumable { user = name };
			clients[i]:presence(nil, "<status>" .. name .. "</status>");
			clients[i]:sync();
		end
		queue_for(ctx, other, clients);
		ctx.srv:kill();
		ctx.srv:launch();
		for _, c in ipairs(clients) do ctx.srv:wait_hibernating(c.jid); end
		-- what a module sees of one that nobody has looked at yet
		assert.equal(4, ctx.srv:eval([[
			local n = 0;
			for _, name in ipairs { "alice", "bob", "carol", "dave" } do
				for _, session in pairs(prosody.hosts.localhost.sessions[name].sessions) do
					assert(session.presence:get_child_text("status") == name);
					assert(session.roster and session.roster[false] and session.roster == require "core.rostermanager".load_roster(name, "localhost"));
					assert(session.thread and session.thread == session.thread and session.send and session.rawsend and session.filter);
					assert(session.role == nil or session.role.name);
					n = n + 1;
				end
			end
			return n;
		]]));
		for i, c in ipairs(clients) do
			local d = ctx:resume(c);
			for n = 1, 2 do d:expect({ body = names[i] .. n }); end
			d:sync();
		end
		assert.same({}, ctx:log_errors(0));
	end);

	it("are seen by a contact that logs in", function ()
		local ctx = begin();
		for _, name in ipairs(names) do ctx:befriend(name, "tail"); end
		local clients = {};
		for i, name in ipairs(names) do
			clients[i] = ctx:resumable { user = name, available = true };
			clients[i]:sync();
			ctx:hibernate(clients[i]);
		end
		ctx.srv:kill();
		ctx.srv:launch();
		for _, c in ipairs(clients) do ctx.srv:wait_hibernating(c.jid); end
		local tail = ctx:login { user = "tail", available = true };
		tail:sync();
		for _, c in ipairs(clients) do assert.equal(1, #t.only(tail.seen, { name = "presence", from = c.jid })); end
		-- and see it
		for _, c in ipairs(clients) do ctx:resume(c):expect({ name = "presence", from = tail.jid }); end
	end);

	it("end if the account is gone or the password is another, and nothing is lost", function ()
		local ctx, other = begin();
		local clients = {};
		for i, name in ipairs(names) do clients[i] = ctx:resumable { user = name, available = true }; end
		queue_for(ctx, other, clients);
		ctx.srv:kill();
		ctx.srv:adduser("alice", "another");
		ctx.srv:adduser("bob", "another");
		os.remove(ctx.srv.dir .. "/data/localhost/accounts/carol.dat");
		ctx.srv:launch();
		ctx.srv:wait_hibernating(clients[4].jid);
		local o = ctx:resume(other);
		for _, name in ipairs { "alice", "bob" } do
			local d = ctx:connect();
			d:login(name, "another");
			d:presence();
			d:expect({ body = name .. 2 });
			assert.same(t.numbered(name, 2), t.bodies(d.seen));
		end
		for n = 1, 2 do o:expect({ name = "message", type = "error", id = "carol" .. n }); end
		ctx.srv:wait_for(("return not prosody.full_sessions[%q]"):format(clients[3].jid));
		assert.same({}, t.only(o.seen, { name = "message", type = "error", id = "alice1" }));
		ctx:resume(clients[4]):expect({ body = "dave2" });
		assert.same({}, ctx:log_errors(0));
	end);

	it("are not resumed while nobody can tell, and are then", function ()
		local ctx, other;
		ctx = start {
			config = function (srv)
				return ("%s\ntest_failing_storage = %q\nstorage = { roster = 'test_failing' }"):format(config, srv.dir .. "/fail");
			end;
			users = { alice = "secret", bob = "secret", other = "secret" };
			modules = { "test_busy" };
		};
		ctx:allow("nobody can tell whether they may come back; that is tried again: .*fails on purpose");
		ctx:allow("Nobody can tell whether sessions of localhost may come back");
		ctx:allow("fails on purpose");
		other = ctx:resumable { user = "other", available = true };
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
		queue_for(ctx, other, { alice, bob });
		ctx.srv:kill();
		t.server.write_file(ctx.srv.dir .. "/fail", "alice");
		ctx.srv:launch();
		ctx.srv:wait_hibernating(bob.jid);
		local el = ctx:authenticated("alice"):try_resume(alice.token, alice.h);
		assert.equal("failed", el.name);
		ctx:resume(bob):expect({ body = "bob2" });
		break_storage(ctx, false);
		ctx.srv:wait_hibernating(alice.jid, 30);
		ctx:resume(alice):expect({ body = "alice2" });
		assert.same({}, ctx:log_errors(0));
	end);
end);

t.versions("a host that is not there", function (start)
	local function with_host(name)
		return ("VirtualHost %q"):format(name);
	end

	it("has its sessions kept for a day", function ()
		local ctx = start { config = config, users = users, extra = with_host "other.example" };
		ctx.srv:adduser("carol", "secret", "other.example");
		local carol = t.client.connect(ctx.srv, { host = "other.example" }):login("carol", "secret");
		carol:enable { resume = "true" };
		carol:presence();
		carol:sync();
		local bob = ctx:resumable { user = "bob", available = true };
		ctx:hibernate(carol);
		bob:message(carol.jid, "kept");
		assert.equal("2", bob:ask_h());
		ctx.srv:terminate();
		ctx.srv:rewrite_config { extra = with_host "othre.example" };
		ctx.srv:launch();
		ctx:resume(bob):sync();
		assert.truthy(ctx.srv:log():find("A session of carol@other.example is kept for a day", 1, true));
		ctx.srv:kill();
		ctx.srv:rewrite_config { extra = with_host "other.example" };
		ctx.srv:launch();
		local back = t.client.connect(ctx.srv, { host = "other.example" }):authenticate("carol", "secret"):resume(carol);
		back:expect({ body = "kept" });
		assert.same({}, ctx:log_errors(0));
	end);

	it("has them dropped after a day", function ()
		local ctx = start { config = config, users = users, extra = with_host "other.example" };
		ctx.srv:adduser("carol", "secret", "other.example");
		local carol = t.client.connect(ctx.srv, { host = "other.example" }):login("carol", "secret");
		carol:enable { resume = "true" };
		carol:sync();
		ctx.srv:terminate();
		ctx.srv:rewrite_config { extra = "" };
		ctx.srv:launch();
		-- Since the day before yesterday.
		local n = ctx.srv:eval([[
			local jn = require "enjamb".journal;
			local n = 0;
			for _, tokens in pairs((jn.found())) do
				for _, token in ipairs(tokens) do
					local since = jn.state(token).missing_since;
					n = n + (os.time() - since < 60 and 1 or 0);
					assert(jn.host_is_missing(token, since - 2 * 24 * 60 * 60));
				end
			end
			return n;
		]]);
		assert.equal(1, n);
		ctx.srv:terminate();
		ctx.srv:launch();
		ctx.srv:wait_for("return next((require 'enjamb'.journal.found())) == nil");
		assert.truthy(ctx.srv:log():find("A session of carol@other.example is dropped", 1, true));
	end);
end);
