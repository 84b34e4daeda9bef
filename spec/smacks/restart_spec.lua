local t = require "support";
local it = require "busted".it;

local config = "smacks_hibernation_time = 60\nsmacks_max_queue_size = 10000";

-- Two ways for a server to go away.
local ends = {
	SIGTERM = function (srv) assert.is_true(srv:terminate(60), "the server didn't stop by itself"); end;
	["kill -9"] = function (srv) srv:kill(); end;
};

t.versions("sessions outlive the server", function (start)
	it("by a SIGTERM that comes between a stanza's being counted and its being processed", function ()
		local ctx = start { config = config };
		local from, to = ctx:resumable(), ctx:resumable();
		-- Prosody 0.12 runs what a signal leads to wherever it is, if its main thread is executing Lua.
		ctx.srv:eval(([[
			require "util.filters".add_filter(session(%q), "stanzas/in", function (stanza)
				if stanza.name == "message" then
					require "util.signal".raise("SIGTERM");
					for _ = 1, 1000 do local _ = #tostring(stanza); end
				end
				return stanza;
			end);
		]]):format(from.jid));
		from:message(to.jid, "just then");
		ctx.srv:wait_ended(20);
		ctx.srv:launch();
		local back = ctx:resume(from);
		if back.resumed.attr.h == "0" then
			back:message(to.jid, "just then"); -- as a client does with what was not handled
		end
		back:sync();
		local other = ctx:resume(to);
		other:expect({ body = "just then" });
		other:sync();
		assert.same({ "just then" }, t.bodies(other.seen));
	end);

	for how, stop in pairs(ends) do
		it("by " .. how .. ": live and hibernating ones are resumed with their counters and queues", function ()
			local ctx = start { config = config };
			local live, hib, other = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:resumable();
			for i = 1, 3 do
				live:message(other.jid, "from live " .. i);
				other:message(live.jid, "to live " .. i);
			end
			live:expect({ body = "to live 3" });
			other:expect({ body = "from live 3" });
			live:sync();
			hib:sync();
			ctx:hibernate(hib);
			for i = 1, 30 do other:message(i % 2 == 0 and hib.jid or hib.bare, "to hib " .. i, { id = "h" .. i }); end
			other:sync();
			stop(ctx.srv);
			ctx.srv:launch();
			for _, c in ipairs { live, hib, other } do
				assert.is_true(ctx.srv:wait_hibernating(c.jid) ~= false);
			end
			local d = ctx:resume(hib);
			d:expect({ body = "to hib 30" });
			assert.same(t.numbered("to hib ", 30), t.bodies(d.seen));
			for _, m in ipairs(t.only(d.seen, "message")) do assert.truthy(t.delay(m)); end
			assert.equal(hib.acked_h, d.resumed.attr.h);
			local l = ctx:resume(live);
			assert.equal(live.acked_h, l.resumed.attr.h);
			l:sync();
			assert.same({}, t.bodies(l.seen), "it had all");
			local o = ctx:resume(other);
			assert.equal(other.acked_h, o.resumed.attr.h);
			-- and all goes on as before
			o:message(l.jid, "again");
			l:expect({ body = "again" });
			assert.equal(tostring(tonumber(o.resumed.attr.h) + 1), o:ask_h());
			assert.same({}, ctx:log_errors(0));
		end);

		it("by " .. how .. ": they are as they were to others", function ()
			local ctx = start { config = config, modules = { "carbons" } };
			local a, b = ctx:contacts();
			local friend = ctx:resumable { user = b, available = true };
			local c = ctx:login { user = a, resource = "phone", enable = true };
			c:iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>");
			c:iq("get", "<query xmlns='jabber:iq:roster'/>");
			c:presence(nil, "<priority>7</priority><status>here</status>");
			friend:expect({ name = "presence", from = c.jid });
			c:sync();
			friend:sync();
			stop(ctx.srv);
			ctx.srv:launch();
			local f = ctx:resume(friend);
			f:drain(0.5);
			assert.equal(0, #t.only(f.seen, { name = "presence", from = c.jid }), "no flap");
			assert.equal("phone", ctx:field(c.jid, "s.resource"));
			assert.equal(7, ctx:field(c.jid, "s.priority"));
			assert.truthy(ctx:field(c.jid, "s.interested"));
			assert.truthy(ctx:field(c.jid, "s.want_carbons"));
			assert.truthy(ctx:field(c.jid, "tostring(s.presence)"):match("here"));
			-- a contact that comes is told of it, and messages to the account find it
			local late = ctx:login { user = b, available = true };
			late:expect({ name = "presence", from = c.jid });
			late:message(c.bare, "hello");
			local d = ctx:resume(c);
			d:expect({ body = "hello" });
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("and end when nobody comes: stanzas are stored, contacts told", function ()
		local ctx = start { config = "smacks_hibernation_time = 3" };
		local a, b = ctx:contacts();
		local friend = ctx:resumable { user = b, available = true };
		local c = ctx:resumable { user = a, available = true };
		c:sync();
		ctx:hibernate(c);
		friend:message(c.jid, "kept");
		friend:sync();
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		friend = ctx:login { user = b, available = true };
		friend:expect({ name = "presence", from = c.jid });
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" }, 8);
		local d = ctx:login { user = a };
		d:presence();
		d:expect({ body = "kept" });
		-- it is gone from the journal, too
		ctx.srv:kill();
		ctx.srv:launch();
		local e = ctx:authenticated(a);
		local failed = e:try_resume(c.token, c.h);
		assert.equal("failed", failed.name);
		assert.truthy(failed.attr.h);
	end);

	it("unless the account is gone or its password is another", function ()
		local ctx = start { config = config };
		local gone, changed, stays = ctx:resumable(), ctx:resumable(), ctx:resumable();
		for _, c in ipairs { gone, changed, stays } do c:sync(); end
		ctx.srv:kill();
		os.remove(ctx.srv.dir .. "/data/localhost/accounts/" .. gone.username .. ".dat");
		ctx.srv:adduser(changed.username, "another");
		ctx.srv:launch();
		ctx.srv:wait_hibernating(stays.jid);
		assert.is_nil(ctx:field(gone.jid, "true"));
		assert.is_nil(ctx:field(changed.jid, "true"));
		ctx:resume(stays):sync();
	end);

	it("and not with smacks_durability = 'none'", function ()
		local ctx = start { config = config .. "\nsmacks_durability = 'none'" };
		local c = ctx:resumable { available = true };
		c:sync();
		assert.is_true(ctx.srv:terminate());
		ctx.srv:launch();
		local failed = ctx:authenticated(c.username):try_resume(c.token, c.h);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.equal("1", failed.attr.h);
		assert.is_nil(require "lfs".attributes(ctx.srv.dir .. "/data/enjamb-journal"));
	end);

	it("with a full disk nothing more is acknowledged than was kept, and it goes on when there is room", function ()
		local ctx = start { config = config, launch = false };
		local dir = ctx.srv.dir .. "/data/enjamb-journal";
		local function sh(command) return os.execute((command:gsub("DIR", dir))); end
		if not sh("mkdir -p DIR && mount -t tmpfs -o size=2m tmpfs DIR 2>/dev/null") then
			return require "busted".pending("a small file system can only be made by root");
		end
		local ok, err = pcall(function ()
			sh("head -c 1700000 /dev/zero >DIR/ballast");
			ctx.srv:launch();
			local c, other = ctx:resumable { available = true }, ctx:resumable();
			c:sync();
			ctx:hibernate(c);
			local h;
			for i = 1, 150 do
				other:message(c.jid, i .. (" "):rep(3000));
				if i % 10 == 0 then h = tonumber(other:ask_h()); end
			end
			assert.truthy(h > 0 and h < 150, "it has room for some of that");
			local log = ctx.srv:log();
			assert.equal(1, select(2, log:gsub("journal of sessions cannot be written", "")), "said once");
			-- those that are not acknowledged are lost with the server, and only those
			ctx.srv:kill();
			os.remove(dir .. "/ballast");
			ctx.srv:launch();
			ctx.srv:wait_hibernating(c.jid);
			local o = ctx:resume(other);
			assert.truthy(tonumber(o.resumed.attr.h) >= h);
			for i = o.resumed.attr.h + 1, 150 do o:message(c.jid, i .. (" "):rep(3000)); end
			o:message(c.jid, "151");
			assert.equal("151", o:ask_h());
			local d = ctx:resume(c);
			d:expect({ body = "151" });
			-- A write that was cut may have kept a stanza and not that it was handled: that one comes again.
			local last = 0;
			for _, body in ipairs(t.bodies(d.seen)) do
				local n = tonumber(body:match("^%d+"));
				assert.truthy(n <= last + 1, n .. " after " .. last);
				last = math.max(n, last);
			end
			assert.equal(151, last);
		end);
		ctx.srv:kill();
		sh("umount DIR");
		assert(ok, err);
	end);

	it("ended sessions do not come back", function ()
		local ctx = start { config = config };
		local closed, replaced = ctx:resumable { available = true }, ctx:resumable { available = true };
		closed:sync();
		replaced:sync();
		closed:close();
		local again = ctx:login { user = replaced.username, resource = replaced.resource, enable = true };
		again:sync();
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(again.jid);
		assert.is_nil(ctx:field(closed.jid, "true"));
		assert.equal("failed", ctx:authenticated(closed.username):try_resume(closed.token, "0").name);
		ctx:resume(again):sync();
	end);
end);
