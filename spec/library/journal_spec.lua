-- The journal as the shim uses it, with the real library and real files.

local library = require "support.library";
local enjamb, st = library.enjamb, library.st;
local jn, sm = enjamb.journal, enjamb.smacks;

local limits = sm.limits {
	hibernation_time = 60, queue_stanzas = 1000, queue_bytes = 2^20, account_bytes = 2^40, server_bytes = 2^40, memory_bytes = 2^40;
	unacked = 0, inactive_unacked = 256, hibernated = 10;
};

describe("journal", function ()
	local directory;

	before_each(function ()
		directory = os.tmpname();
		os.remove(directory);
		assert.truthy(jn.open(directory));
	end);

	after_each(function ()
		jn.close();
		os.execute("rm -r '"..directory.."'");
	end);

	local function reopen()
		jn.close();
		return assert(jn.open(directory));
	end

	local function known(what)
		return { username = "a", host = "b", resource = "c", xmlns = "urn:xmpp:sm:3", id = "id", timeout = 60, what = what };
	end

	local function start(what)
		local _, id, timeout = sm.enable(limits, { account = "a@b", bound = true }, false, "true", nil);
		local key, handle = sm.start(limits, "a@b", id, timeout, 0);
		assert.truthy(jn.keep(key, known(what), true));
		return key, handle, id;
	end

	local function only_found(what)
		local hosts, unreadable = jn.found();
		assert.same({}, unreadable);
		assert.equal(1, #hosts.b);
		assert.same(known(what), jn.state(hosts.b[1]));
		return hosts.b[1];
	end

	local function queue(key)
		local bytes = sm.copies(key, select(3, sm.counts(key)), 2^40, 2^30, nil, "b") or "";
		return (bytes:gsub("<delay.-/>", ""));
	end

	it("brings a stream back with its counters and its queue", function ()
		local key, handle, id = start("state");
		for n = 1, 5 do sm.push(key, st.message({ id = tostring(n) }, "x"), false); end
		sm.received(key, 0, "iq");
		sm.received(key, 1, "message");
		jn.processed(key, 0);
		sm.ack(key, "2");
		local before = queue(key);
		assert.is_nil((jn.commit()));
		assert.equal(1, reopen().sessions);
		local token = only_found("state");
		local back, back_handle, h, lost = jn.restore(token, limits, "a@b", id, 60);
		assert.equal(2, h);
		assert.equal(0, lost);
		assert.equal(before, queue(back));
		assert.same({ 3, 2, 2 }, { library.unpack({ sm.counts(back) }, 1, 3) });
		assert.same({}, (jn.found()));
		assert.truthy(handle and back_handle);
	end);

	it("forgets what ended, and takes a new state for an old one", function ()
		local key, handle = start("one");
		local other, other_handle = start("two");
		assert.truthy(jn.keep(key, known "three", true));
		jn.ended(other);
		jn.commit();
		reopen();
		jn.discard(only_found("three"));
		jn.commit();
		assert.equal(0, reopen().sessions);
		assert.truthy(handle and other_handle);
	end);

	it("goes on counting when the peer had more than was kept", function ()
		local key, handle, id = start("state");
		sm.push(key, st.message({ id = "1" }), false);
		jn.commit();
		sm.revoke(key); -- as if this were another process
		reopen();
		local back, back_handle = jn.restore(only_found("state"), limits, "a@b", id, 60);
		sm.lost(back, 1);
		sm.push(back, st.message({ id = "2" }), false);
		-- the client had one more, which nobody was told of
		local attempt = sm.resumption({ account = "a@b" }, id, "2");
		assert.same({ "settle", back }, { attempt:next() });
		assert.equal("prepare", (attempt:next()));
		assert.equal("resumed", (attempt:next()));
		assert.equal("<message id='2'></message>", queue(back));
		assert.is_nil((jn.commit()));
		reopen();
		local third, third_handle = jn.restore(only_found("state"), limits, "a@b", id, 60);
		assert.equal("<message id='2'></message>", queue(third));
		assert.equal(2, (select(2, sm.counts(third))));
		assert.truthy(handle and back_handle and third_handle);
	end);

	it("says what is wrong with a directory", function ()
		jn.close();
		local found, err = jn.open("/proc/nowhere");
		assert.is_nil(found);
		assert.matches("/proc/nowhere", err);
		jn.open(directory);
	end);

	it("survives calls with wrong arguments, and for streams that it does not know", function ()
		for name, f in pairs(jn) do
			if name ~= "close" and name ~= "open" then
				for _, arguments in ipairs { {}, { {} }, { "x" }, { -1 }, { 1, 2 }, { 2^63 }, { 1, limits, "a", "b", 1 } } do
					local ok, err = pcall(f, library.unpack(arguments, 1, 5));
					assert.truthy(ok or tostring(err) ~= "", name);
				end
			end
		end
		assert.is_nil((jn.commit()));
	end);
end);
