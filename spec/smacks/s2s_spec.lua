local t = require "support";
local server = t.server;

-- Two servers, a.test and b.test, with a way to each other.
local function pair(start, opts)
	opts = opts or {};
	local function one(host, config)
		return start {
			host = host, launch = false, with_s2s = true, config = config, smacks = opts[host .. " smacks"],
			modules = { "test_resolver" }, certificates = true,
		};
	end
	local a, b = one("a.test", opts.config), one("b.test", opts.config_b or opts.config);
	local way = ("test_resolver = { [\"a.test\"] = { \"127.0.0.1\", %d }, [\"b.test\"] = { \"127.0.0.1\", %d } }\n"):format(
		a.srv.s2s, b.srv.s2s);
	a.srv:rewrite_config { config = way .. (opts.config or "") };
	b.srv:rewrite_config { config = way .. (opts.config_b or opts.config or "") };
	a.srv:launch();
	b.srv:launch();
	return a, b;
end

-- What is known of the stream between two hosts.
local function stream(srv, direction, from, to)
	return srv:eval(([[
		local s;
		if %q == "out" then
			s = prosody.hosts[%q].s2sout[%q];
		else
			for x in pairs(prosody.incoming_s2s) do
				if x.from_host == %q and x.to_host == %q then s = x; end
			end
		end
		if not s then return nil; end
		local q = s.outgoing_stanza_queue;
		return { type = s.type, smacks = s.smacks or false, h = s.handled_stanza_count, token = s.resumption_token,
			unacked = q and q:count_unacked(), acked = q and q:count_acked(), awaiting = s.awaiting_ack and true or false };
	]]):format(direction, from, to, from, to));
end

local function wait_stream(srv, direction, from, to, check)
	local deadline = require "socket".gettime() + 20;
	while true do
		local s = stream(srv, direction, from, to);
		if s and check(s) then return s; end
		if require "socket".gettime() > deadline then
			error("the stream never got there: " .. require "dkjson".encode(s or {}), 2);
		end
		require "socket".sleep(0.05);
	end
end

t.versions("between servers", function (start)
	local it = require "busted".it;
	require "busted".lazy_teardown(server.forget_certificates);

	local function users(a, b)
		local ua, ub = a:user(), b:user();
		local ca = a:login { user = ua, available = true };
		local cb = b:login { user = ub, available = true };
		return ca, cb;
	end

	it("streams are managed and acked both ways", function ()
		local a, b = pair(start);
		local ca, cb = users(a, b);
		for i = 1, 10 do ca:message(cb.jid, "m" .. i); end
		cb:expect({ body = "m10" });
		assert.same(t.numbered("m", 10), t.bodies(cb.seen));
		for i = 1, 5 do cb:message(ca.jid, "n" .. i); end
		ca:expect({ body = "n5" });
		assert.same(t.numbered("n", 5), t.bodies(ca.seen));
		for i = 11, 20 do ca:message(cb.jid, "m" .. i); end
		cb:expect({ body = "m20" });
		assert.same(t.numbered("m", 20), t.bodies(cb.seen));

		local out = wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.unacked == 0 end);
		assert.equal(t.sm3, out.smacks);
		assert.is_nil(out.token);
		local inc = wait_stream(b.srv, "in", "a.test", "b.test", function (s) return s.h == out.acked end);
		assert.equal(t.sm3, inc.smacks);
		-- the first stanzas may have been sent before it was enabled
		assert.truthy(out.acked >= 10, "only " .. out.acked .. " stanzas were acked");
		local back = wait_stream(b.srv, "out", "b.test", "a.test", function (s) return s.unacked == 0 end);
		assert.equal(t.sm3, back.smacks);
		wait_stream(a.srv, "in", "b.test", "a.test", function (s) return s.h == back.acked end);
		assert.same({}, a:log_errors(0));
		assert.same({}, b:log_errors(0));
	end);

	it("a stream of many stanzas stays in step", function ()
		local a, b = pair(start);
		local ca, cb = users(a, b);
		-- (Prosody itself mixes up what's sent while it's still connecting)
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		for i = 2, 1000 do ca:message(cb.jid, "m" .. i); end
		cb:expect({ body = "m1000" }, 20);
		assert.same(t.numbered("m", 1000), t.bodies(cb.seen));
		local out = wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.unacked == 0 end);
		wait_stream(b.srv, "in", "a.test", "b.test", function (s) return s.h == out.acked end);
		assert.same({}, a:log_errors(0));
	end);

	it("what another server that died didn't ack comes back as errors", function ()
		local a, b = pair(start);
		local ca, cb = users(a, b);
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.smacks and s.unacked == 0 end);
		server.run("kill -STOP " .. b.srv.pid);
		for i = 2, 4 do ca:message(cb.jid, "m" .. i, { id = "m" .. i }); end
		ca:sync();
		assert.equal(3, stream(a.srv, "out", "a.test", "b.test").unacked);
		server.run("kill -KILL " .. b.srv.pid);
		local ids = {};
		for _ = 2, 4 do
			local err = ca:expect({ name = "message", type = "error" }, 10);
			ids[#ids + 1] = err.attr.id;
			assert.equal(cb.jid, err.attr.from);
		end
		assert.same({ "m2", "m3", "m4" }, ids);
		assert.same({}, a:log_errors(0));
	end);

	it("it's sent again when smacks_s2s_resend says so", function ()
		local a, b = pair(start, { config = "smacks_s2s_resend = true" });
		local ca, cb = users(a, b);
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.smacks and s.unacked == 0 end);
		local user = cb.username;
		server.run("kill -STOP " .. b.srv.pid);
		for i = 2, 4 do ca:message(user .. "@b.test", "m" .. i, { id = "m" .. i }); end
		ca:sync();
		-- another one at its place, on a port that takes over at once isn't to be had: a listener that's slow will do
		server.run("kill -KILL " .. b.srv.pid);
		b.srv:launch();
		local got = ca:try({ name = "message", type = "error" }, 3);
		if got then
			-- it was tried again before the server was back: refused then, but not lost
			assert.truthy(got:child("error"));
		else
			local d = b:login { user = user };
			d:presence();
			d:expect({ body = "m4" });
		end
	end);

	-- A client of each, with a stream between them; that of a can be resumed.
	local function acquainted(resend)
		local a, b = pair(start, { config = "smacks_hibernation_time = 60; smacks_s2s_resend = " .. tostring(resend) });
		local ca, cb = a:resumable { available = true }, b:login { available = true };
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.smacks and s.unacked == 0 end);
		ca:ack();
		ca:sync();
		ca:ack();
		return a, b, ca, cb;
	end

	for _, resend in ipairs { false, true } do
		local title = " when this one stops (smacks_s2s_resend = " .. tostring(resend) .. ")";

		it("what another server has not acked comes back as errors, which say that it may be sent again," .. title, function ()
			local a, b, ca, cb = acquainted(resend);
			server.run("kill -STOP " .. b.srv.pid);
			for i = 2, 4 do ca:message(cb.jid, "m" .. i, { id = "m" .. i }); end
			ca:sync();
			assert.is_true(a.srv:terminate(15), "the server didn't stop by itself");
			server.run("kill -CONT " .. b.srv.pid);
			a.srv:launch();
			local back = a:resume(ca);
			for i = 2, 4 do
				local err = back:expect({ name = "message", type = "error" });
				assert.equal("m" .. i, err.attr.id);
				assert.same({ "wait", "remote-server-timeout" }, { err:child("error").attr.type, (t.condition(err:child("error"))) });
			end
			assert.same({}, a:log_errors(0));
		end);

		it("what another server has just been sent does not come back as errors," .. title, function ()
			local a, _, ca, cb = acquainted(resend);
			for i = 2, 6 do cb:message(ca.jid, "n" .. i, { id = "n" .. i }); end
			ca:expect({ body = "n6" });
			for i = 2, 6 do ca:message(cb.jid, "m" .. i, { id = "m" .. i }); end
			ca:sync();
			assert.is_true(a.srv:terminate(15), "the server didn't stop by itself");
			cb:sync();
			assert.same(t.numbered("m", 6), t.bodies(cb.seen));
			a.srv:launch();
			local back = a:resume(ca);
			back:sync();
			for _, c in ipairs { back, cb } do
				assert.same({}, t.only(c.seen, function (el) return el.name == "message" and el.attr.type == "error" end));
			end
			assert.same({}, a:log_errors(0));
		end);
	end

	it("smacks_enabled_s2s = false leaves them alone", function ()
		local a, b = pair(start, { config = "smacks_enabled_s2s = false" });
		local ca, cb = users(a, b);
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		cb:message(ca.jid, "n1");
		ca:expect({ body = "n1" });
		assert.is_false(stream(a.srv, "out", "a.test", "b.test").smacks);
		assert.is_false(stream(b.srv, "out", "b.test", "a.test").smacks);
		-- clients still have it
		assert.equal("enabled", ca:enable { resume = "true" }.name);
	end);

	it("a server without it is talked to without it", function ()
		local a, b = pair(start, { ["b.test smacks"] = false });
		local ca, cb = users(a, b);
		for i = 1, 3 do ca:message(cb.jid, "m" .. i); end
		cb:expect({ body = "m3" });
		for i = 1, 3 do cb:message(ca.jid, "n" .. i); end
		ca:expect({ body = "n3" });
		assert.same(t.numbered("n", 3), t.bodies(ca.seen));
		assert.is_false(stream(a.srv, "out", "a.test", "b.test").smacks);
	end);

	it("reloading keeps the streams going", function ()
		local a, b = pair(start);
		local ca, cb = users(a, b);
		ca:message(cb.jid, "m1");
		cb:expect({ body = "m1" });
		cb:message(ca.jid, "n1");
		ca:expect({ body = "n1" });
		for _, x in ipairs { a, b } do
			assert.is_true(x.srv:eval(([[return require "core.modulemanager".reload(%q, "smacks") and true]]):format(x.srv.host)));
		end
		for i = 2, 10 do ca:message(cb.jid, "m" .. i); cb:message(ca.jid, "n" .. i); end
		cb:expect({ body = "m10" });
		ca:expect({ body = "n10" });
		local out = wait_stream(a.srv, "out", "a.test", "b.test", function (s) return s.unacked == 0 end);
		wait_stream(b.srv, "in", "a.test", "b.test", function (s) return s.h == out.acked end);
		assert.same({}, a:log_errors(0));
		assert.same({}, b:log_errors(0));
	end);

	it("a resumable client's session gets what a remote one sent meanwhile", function ()
		local a, b = pair(start, { config = "smacks_hibernation_time = 60" });
		local ca = a:resumable { available = true };
		local cb = b:login { available = true };
		cb:message(ca.jid, "n1");
		ca:expect({ body = "n1" });
		ca:ack();
		ca:sync();
		a:hibernate(ca);
		for i = 2, 5 do cb:message(ca.jid, "n" .. i); end
		a.srv:wait_for(("return #session(%q).outgoing_stanza_queue == 4"):format(ca.jid));
		local d = a:resume(ca);
		d:expect({ body = "n5" });
		assert.same(t.numbered("n", 5, 2), t.bodies(d.seen));
	end);
end);
