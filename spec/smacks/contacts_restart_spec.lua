local t = require "support";
local it = require "busted".it;

-- After a restart a client is told of its contacts what it does not know, and nothing else (RFC 6121 §4.3).

local function stop(ctx, how)
	if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
end

-- What presences said, without those of the client itself.
local function told(c)
	local out = {};
	for _, p in ipairs(t.only(c.seen, "presence")) do
		if p.attr.from ~= c.jid then
			out[#out+1] = ("%s %s"):format(p.attr.from, p.attr.type or p:child_text("show") or "available");
		end
	end
	table.sort(out);
	return out;
end

local function befriend(ctx, pairs_of_contacts)
	ctx.srv:eval(([[
		local rm, jid = require "core.rostermanager", require "util.jid";
		local function set(who, contact, subscription)
			local user, host = jid.split(who);
			if not host:match("^[lo]") then return; end
			local roster = rm.load_roster(user, host);
			roster[contact] = { subscription = subscription, groups = {} };
			rm.save_roster(user, host, roster, contact);
		end
		for _, pair in ipairs { %s } do
			set(pair[1], pair[2], "both"); set(pair[2], pair[1], "both");
		end
	]]):format(pairs_of_contacts));
end

local function settled(ctx, clients)
	for _, c in ipairs(clients) do
		c:sync();
		c:drain(0.1);
		c:ask_h();
		c:ack();
		c:sync();
		ctx.known = (ctx.known or 0) + #c.seen;
	end
end

local function no_more_work(ctx)
	-- what is looked at after a start is done a little at a time
	ctx.srv:wait_for("return prosody.start_time and os.time() - prosody.start_time >= 2");
end

t.versions("contacts of this server", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("that do not come back are gone for those who do (" .. how .. ")", function ()
			local ctx = start {
				config = "smacks_hibernation_time = 60";
				users = { alice = "secret", eve = "secret", stays = "secret", gone = "secret", hides = "secret", apart = "secret", away = "secret",
					fresh = "secret" };
				extra = 'VirtualHost "other.localhost"';
			};
			ctx.srv:adduser("carol", "secret", "other.localhost");
			befriend(ctx, [[{ "alice@localhost", "eve@localhost" }, { "alice@localhost", "stays@localhost" }, { "alice@localhost", "gone@localhost" },
				{ "alice@localhost", "hides@localhost" }, { "alice@localhost", "carol@other.localhost" }, { "alice@localhost", "apart@localhost" },
				{ "alice@localhost", "away@localhost" }]]);
			local alice = ctx:resumable { user = "alice", resource = "phone", available = true };
			local carol = ctx:connect(nil, { host = "other.localhost" });
			carol:login("carol", "secret", "one");
			carol:presence();
			-- of the same account, and a contact with two resources, one of which is not available any more
			ctx:login { user = "alice", resource = "desk", available = true };
			ctx:login { user = "eve", resource = "one", available = true };
			ctx:login { user = "eve", resource = "two", available = true, enable = {} };
			local over = ctx:login { user = "eve", resource = "over", available = true };
			over:presence("unavailable");
			over:sync();
			local late = ctx:login { user = "stays", resource = "late", available = true };
			late:enable { resume = "true" };
			local stays, gone, hides = ctx:resumable { user = "stays", resource = "one", available = true },
				ctx:resumable { user = "gone", resource = "one", available = true }, ctx:resumable { user = "hides", resource = "one", available = true };
			local apart, fresh = ctx:resumable { user = "apart", resource = "one", available = true },
				ctx:resumable { user = "fresh", resource = "one", available = true };
			ctx:login { user = "away", resource = "one", available = true };
			settled(ctx, { alice, stays, gone, hides, late, apart, fresh });
			stop(ctx, how);
			local data = ctx.srv.dir .. "/data/localhost/";
			os.remove(data .. "accounts/gone.dat");
			os.remove(data .. "roster/gone.dat");
			os.remove(data .. "roster/hides.dat"); -- it does not let alice see it any more
			-- Of two neither has the other any more, and two are contacts now.
			os.remove(data .. "roster/apart.dat");
			os.remove(data .. "roster/away.dat");
			local function roster(user, contacts)
				local items = {};
				for i, contact in ipairs(contacts) do items[i] = ("[%q] = { subscription = 'both'; groups = {} };"):format(contact); end
				t.server.write_file(data .. "roster/" .. user .. ".dat", "return { [false] = { version = 9 }; " .. table.concat(items, " ") .. " };");
			end
			roster("alice", { "eve@localhost", "stays@localhost", "gone@localhost", "hides@localhost", "carol@other.localhost", "fresh@localhost" });
			roster("fresh", { "alice@localhost" });
			ctx.srv:launch();
			for _, c in ipairs { alice, stays, hides } do ctx.srv:wait_hibernating(c.jid); end
			no_more_work(ctx);
			local a, s = ctx:resume(alice), ctx:resume(stays);
			a:sync();
			s:sync();
			assert.same({
				"alice@localhost/desk unavailable", "apart@localhost/one unavailable", "away@localhost/one unavailable",
				"carol@other.localhost/one unavailable", "eve@localhost/one unavailable",
				"eve@localhost/two unavailable", "fresh@localhost/one available", "gone@localhost/one unavailable", "hides@localhost/one unavailable",
			}, told(a));
			assert.same({ "alice@localhost/desk unavailable" }, told(s));
			-- once
			settled(ctx, { a, s });
			stop(ctx, how);
			os.remove(data .. "accounts/hides.dat");
			ctx.srv:launch();
			for _, c in ipairs { a, s } do ctx.srv:wait_hibernating(c.jid); end
			no_more_work(ctx);
			a = ctx:resume(a);
			a:sync();
			for _, line in ipairs(told(a)) do assert.equal("hides@localhost/one unavailable", line); end
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);

t.versions("contacts of other servers and gateways", function (start)
	local function line(from, inside, kind)
		return ("<presence from='%s'%s>%s</presence>"):format(from, kind and " type='" .. kind .. "'" or "", inside or "");
	end

	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("are asked once for each account, and a client is told what has changed (" .. how .. ")", function ()
			local ctx = start {
				config = "smacks_hibernation_time = 60"; modules = { "pep" }; users = { alice = "secret", bob = "secret" }; launch = false;
			};
			local file = ctx.srv.dir .. "/gateway";
			ctx.srv:rewrite_config { extra = ('Component "gw.localhost" "test_contacts"\n\ttest_contacts_file = %q'):format(file) };
			local function contacts_are(...)
				t.server.write_file(file, table.concat({ ... }, "\n") .. "\n");
			end
			ctx.srv:launch();
			befriend(ctx, [[{ "alice@localhost", "same@gw.localhost" }, { "alice@localhost", "away@gw.localhost" }, { "alice@localhost", "gone@gw.localhost" },
				{ "alice@localhost", "two@gw.localhost" }, { "alice@localhost", "new@gw.localhost" }, { "alice@localhost", "gw.localhost" },
				{ "bob@localhost", "same@gw.localhost" }]]);
			contacts_are(line("same@gw.localhost/x", "<show>dnd</show><c xmlns='http://jabber.org/protocol/caps' ver='v' node='n' hash='h'/>"),
				line("away@gw.localhost/x"), line("gone@gw.localhost/x"), line("gone@gw.localhost/y"),
				line("two@gw.localhost/stays"), line("two@gw.localhost/gone"), line("gw.localhost"));
			local phone = ctx:resumable { user = "alice", resource = "phone", available = true };
			local desk = ctx:resumable { user = "alice", resource = "desk", available = true };
			local bob = ctx:resumable { user = "bob", available = true };
			settled(ctx, { phone, desk, bob });
			local before = #t.only(phone.seen, "presence");
			assert.truthy(before > 7);
			stop(ctx, how);
			contacts_are("error",
				line("same@gw.localhost/x", "<show>dnd</show><c node='n' hash='h' xmlns='http://jabber.org/protocol/caps' ver='v'/>"
					.. "<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>"),
				line("away@gw.localhost/x", "<show>away</show>"), line("two@gw.localhost/stays"), line("two@gw.localhost/new"),
				line("new@gw.localhost/x"), line("gw.localhost"));
			ctx.srv:launch();
			local changes = {
				"away@gw.localhost/x away", "gone@gw.localhost/x unavailable", "gone@gw.localhost/y unavailable", "new@gw.localhost/x available",
				"two@gw.localhost/gone unavailable", "two@gw.localhost/new available",
			};
			local p = ctx:resume(phone);
			p:expect({ name = "presence", from = "gone@gw.localhost/y", type = "unavailable" });
			p:expect({ name = "presence", from = "two@gw.localhost/gone", type = "unavailable" });
			local d, b = ctx:resume(desk), ctx:resume(bob);
			for _, c in ipairs { p, d, b } do c:sync(); end
			assert.same(changes, told(p));
			assert.same(changes, told(d));
			assert.same({}, told(b));
			local probes = ctx.srv:eval("return prosody.hosts['gw.localhost'].modules.test_contacts.probes");
			table.sort(probes);
			-- The first was not answered; when others come is not fixed.
			local times = {};
			for _, probe in ipairs(probes) do times[probe] = (times[probe] or 0) + 1; end
			local again = 0;
			for _, n in pairs(times) do again = again + n - 1; end
			assert.equal(1, again);
			assert.truthy(times["alice@localhost same@gw.localhost"] and times["bob@localhost same@gw.localhost"]);
			-- Who is gone may come again as before, and go.
			for _, kind in ipairs { "available", "unavailable" } do
				ctx.srv:eval(([[
					local kind = %q;
					prosody.core_route_stanza(prosody.hosts["gw.localhost"], require "util.stanza".presence {
						from = "gone@gw.localhost/x"; to = "alice@localhost"; type = kind == "unavailable" and kind or nil;
					});
				]]):format(kind));
				p:expect(function (el)
					return el.name == "presence" and el.attr.from == "gone@gw.localhost/x" and (el.attr.type or "available") == kind;
				end);
			end
			-- Nothing is news any more.
			settled(ctx, { p, d, b });
			local seen = #told(p);
			stop(ctx, how);
			ctx.srv:launch();
			ctx.srv:wait_hibernating(p.jid);
			ctx.srv:wait_for("return #prosody.hosts['gw.localhost'].modules.test_contacts.probes >= 8");
			p = ctx:resume(p);
			p:sync();
			assert.truthy(seen > 0);
			assert.same({}, told(p));
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);

t.versions("a component that is a module of this server", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("knows who is there, as before (" .. how .. ")", function ()
			local ctx = start {
				config = "smacks_hibernation_time = 60";
				extra = 'Component "proxy.localhost" "test_proxy"\ntest_proxy_target = "focus@localhost"';
				users = { focus = "secret", guest = "secret" };
			};
			befriend(ctx, [[{ "focus@localhost", "proxy.localhost" }]]);
			local focus = ctx:resumable { user = "focus", available = true };
			local guest = ctx:login { user = "guest" };
			local function answer(c)
				return c:iq("get", "<conference xmlns='test'/>", "proxy.localhost").attr.type;
			end
			assert.equal("result", answer(guest));
			settled(ctx, { focus });
			stop(ctx, how);
			ctx.srv:launch();
			ctx:resume(focus);
			guest = ctx:login { user = "guest" };
			no_more_work(ctx);
			assert.equal("result", answer(guest));
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);
