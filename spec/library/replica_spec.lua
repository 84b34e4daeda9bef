-- The replica as the library shows it, without a database.

local tree = os.getenv("ENJAMB_TREE") or "build/tree";
package.path = tree.."/share/lua/5.4/?.lua;"..package.path;
-- The library that is loaded where there is to be one, which is made for Lua 5.4.
if _VERSION ~= "Lua 5.4" then
	describe("a replica", function () pending("is for Lua 5.4"); end);
	return;
end
local enjamb = assert(package.loadlib(tree.."/lib/lua/5.4/enjamb-replica.so", "luaopen_enjamb"))("enjamb", tree);
local replica, journal = enjamb.replica, enjamb.journal;

local function directory()
	local name = os.tmpname();
	os.remove(name);
	assert(os.execute("mkdir -p " .. name));
	return name;
end

describe("a replica", function ()
	local there;

	before_each(function ()
		there = directory();
	end);

	after_each(function ()
		replica.stop();
		journal.close();
		os.execute("rm -rf " .. there);
	end);

	local function start(options)
		return replica.start {
			url = options.url or "postgresql://prosody:secret@127.0.0.1:1/xmpp";
			cluster = options.cluster or "test"; directory = options.directory or there .. "/journal";
		};
	end

	it("is stopped before it is started", function ()
		assert.equal("stopped", replica.state().role);
		assert.is_false(replica.permitted());
		assert.is_nil(replica.watch());
		assert.is_nil((replica.attach()));
		replica.turned();
		replica.handover();
		assert.is_false(replica.release(0));
	end);

	it("says what is wrong with its URL, without the password", function ()
		for _, url in ipairs { "secret", "postgresql://u:secret@h/d?sslmode=perhaps", "postgresql://u:secret@h:port/d" } do
			local ok, message = start { url = url };
			assert.is_nil(ok);
			assert.is_string(message);
			assert.is_nil(message:find("u:secret", 1, true));
		end
		assert.equal("db1", replica.host("postgresql://u@db1,db2:5433/d"));
		assert.is_nil((replica.host("db1")));
	end);

	it("waits for a database that is not there, and serves nobody", function ()
		assert.is_true(start {});
		assert.is_number(replica.watch());
		local state;
		for _ = 1, 100 do
			state = replica.wait(0.05);
			if state.reason then break; end
		end
		assert.equal("connecting", state.role);
		assert.is_string(state.reason);
		assert.is_false(state.connected);
		assert.equal(0, state.left);
		assert.is_false(replica.permitted());
		assert.is_true(replica.woken());
		assert.is_false(replica.woken());
		-- Once is enough.
		assert.is_true(start {});
		-- What nobody has need not be given up.
		assert.is_true(replica.release(10));
		assert.equal("released", replica.state().role);
	end);

	it("has its directory for itself", function ()
		assert.is_true(start {});
		replica.stop();
		assert.equal("stopped", replica.state().role);
		assert.is_true(start {});
		replica.stop();
		assert.is_nil((start { directory = there .. "/nowhere/journal" }));
	end);

	it("leaves nothing to a journal that is used without one", function ()
		local unsent = there .. "/journal/unsent";
		for _, with in ipairs { true, false } do
			os.execute("mkdir -p " .. unsent .. " && touch " .. unsent .. "/00000001.seg");
			if with then assert.is_true(start {}); end
			assert(journal.open(there .. "/journal"));
			local file = io.open(unsent .. "/00000001.seg");
			assert.equal(with, file ~= nil);
			if file then file:close(); end
			journal.close();
			replica.stop();
		end
	end);

	it("has nothing of a journal that is not attached, nor of one that is before the database does", function ()
		local sm = enjamb.smacks;
		local limits = sm.limits {
			hibernation_time = 60, queue_stanzas = 1000, queue_bytes = 2^20, account_bytes = 2^40, server_bytes = 2^40;
			memory_bytes = 2^40, unacked = 0, inactive_unacked = 256, hibernated = 10;
		};
		assert.is_true(start {});
		assert(journal.open(there .. "/journal"));
		local _, id, timeout = sm.enable(limits, { account = "a@b", bound = true }, false, "true", nil);
		local key, handle = sm.start(limits, "a@b", id, timeout, 0); -- luacheck: ignore 211/handle
		local h, pending = journal.claim(key, 3, "replicated");
		assert.same({ 0, true }, { h, pending });
		assert.is_true(replica.attach());
		h, pending = journal.claim(key, 4, "replicated");
		assert.same({ 0, true }, { h, pending });
		assert.same({}, journal.settled());
		assert.equal(4, (journal.claim(key, 4, "process")));
		assert.is_true(replica.state().lag >= 0);
	end);
end);
