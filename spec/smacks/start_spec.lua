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
