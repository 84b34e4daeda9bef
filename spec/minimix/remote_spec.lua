local it, lazy_teardown = require "busted".it, require "busted".lazy_teardown;
local socket = require "socket";
local t = require "support";
local muc = require "support.muc";
local server = t.server;
local eventually, round_trip = muc.eventually, muc.round_trip;

-- Of a server whose rooms go with it.
local forgetful = "smacks_keep_rooms = false";

muc.versions("rooms on another server", function (start)
	lazy_teardown(server.forget_certificates);

	-- A room with an owner and another on its own server, and two clients of one account elsewhere.
	local function party(opts)
		local a, b = muc.two_servers(start, opts);
		local room, owner = muc.open(b, { service = "rooms.b.test", config = opts and opts.room });
		local phone = muc.client(a, opts and opts.client and opts.client());
		muc.enter(phone, room, "ada", { seconds = 10 });
		local desk = muc.client(a, { user = phone.username });
		muc.enter(desk, room, "ada", { seconds = 10 });
		owner:expect(muc.presence_of(room, "ada"));
		round_trip(room, phone, desk);
		return room, owner, phone, desk, a, b;
	end

	local function in_step(b, room, ...)
		round_trip(room, ...);
		local truth = muc.truth(b.srv, room);
		for i, c in ipairs { ... } do assert.same(truth, muc.picture(c, room), "client " .. i); end
		return truth;
	end

	it("are joined, talked in and left as those at home", function ()
		local room, owner, phone, desk, a, b = party();
		in_step(b, room, owner, phone, desk);
		assert.equal(phone.bare, muc.item(muc.saw(owner, muc.presence_of(room, "ada"))).attr.jid);
		local id = muc.say(phone, room, "hello");
		for _, c in ipairs { owner, phone, desk } do assert.equal(id, c:expect(muc.groupchat(room, "ada", "hello")).attr.id); end
		muc.say(owner, room, "welcome");
		muc.all_hear({ phone, desk }, room, "owner", "welcome");
		muc.left(phone, room, "ada");
		in_step(b, room, owner, desk);
		muc.left(desk, room, "ada");
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		in_step(b, room, owner);
		assert.same({}, a:log_errors(0));
		assert.same({}, b:log_errors(0));
	end);

	it("send one copy, whatever the number of clients", function ()
		local room, owner, phone, desk, a = party();
		a.srv:eval([[
			kept.n = 0;
			require "util.filters".add_filter_hook(function () end);
			host_module("a.test", "minimix").module:hook("message/bare", function (event)
				if event.stanza:get_child_text("body") then kept.n = kept.n + 1; end
			end, 1000);
			host_module("a.test", "minimix").module:hook("message/full", function (event)
				if event.stanza:get_child_text("body") then kept.n = kept.n + 1; end
			end, 1000);
		]]);
		for i = 1, 10 do muc.say(owner, room, "m" .. i); end
		for _, c in ipairs { phone, desk } do
			c:expect({ body = "m10" });
			assert.same(t.numbered("m", 10), t.bodies(muc.got(c, 1, { type = "groupchat" })));
		end
		assert.equal(10, a.srv:eval("return kept.n"));
	end);

	it("answer requests and private messages, to the client that asked", function ()
		local room, owner, phone, desk = party();
		owner:message(room .. "/ada", "psst");
		for _, c in ipairs { phone, desk } do assert.equal(room .. "/owner", c:expect({ body = "psst" }).attr.from); end
		desk:message(room .. "/owner", "yes?");
		owner:expect({ body = "yes?" });
		for _, c in ipairs { phone, desk } do
			c:send(("<iq type='get' id='v' to='%s/owner'><query xmlns='jabber:iq:version'/></iq>"):format(room));
			local iq = owner:expect({ name = "iq", type = "get" });
			owner:send(("<iq type='result' id='%s' to='%s'><query xmlns='jabber:iq:version'><name>for %s</name></query></iq>"):format(
				t.escape(iq.attr.id), iq.attr.from, c.resource));
			assert.equal("for " .. c.resource, c:expect({ name = "iq", id = "v" }):child("query"):child_text("name"));
		end
		round_trip(room, phone, desk);
		assert.equal(1, #muc.got(phone, 1, { name = "iq", id = "v" }));
	end);

	it("serve two clients that join while the answer is on its way", function ()
		local a, b = muc.two_servers(start);
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		muc.say(owner, room, "before");
		owner:expect({ body = "before" });
		local phone = muc.client(a);
		local desk = muc.client(a, { user = phone.username });
		server.run("kill -STOP " .. b.srv.pid);
		muc.join(phone, room, "ada");
		phone:sync();
		muc.join(desk, room, "lovelace", { history = { maxstanzas = 0 } });
		desk:sync();
		server.run("kill -CONT " .. b.srv.pid);
		local one, two = muc.entered(phone, room, 10), muc.entered(desk, room, 10);
		assert.equal("ada", one.nick);
		assert.equal("ada", two.nick);
		assert.equal("110 210", muc.codes(two.self));
		assert.same({ "before" }, t.bodies(one.history));
		assert.same({}, two.history);
		in_step(b, room, owner, phone, desk);
		assert.equal(1, #muc.got(owner, 1, muc.presence_of(room, "ada")));
	end);

	it("are left before the answer comes", function ()
		local a, b = muc.two_servers(start);
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		local ada = muc.client(a);
		server.run("kill -STOP " .. b.srv.pid);
		muc.join(ada, room, "ada");
		muc.leave(ada, room, "ada");
		ada:sync();
		server.run("kill -CONT " .. b.srv.pid);
		round_trip(room, ada);
		eventually("left", function () assert.is_nil(muc.truth(b.srv, room).ada); end);
		assert.same({}, muc.picture(ada, room));
		in_step(b, room, owner);
		muc.enter(ada, room, "ada");
		in_step(b, room, owner, ada);
	end);

	it("are left and joined again before the answers come", function ()
		local room, owner, phone, desk, _, b = party();
		server.run("kill -STOP " .. b.srv.pid);
		for _ = 1, 3 do
			for _, c in ipairs { phone, desk } do muc.leave(c, room, "ada"); c:sync(); end
			for _, c in ipairs { desk, phone } do muc.join(c, room, "ada"); c:sync(); end
		end
		server.run("kill -CONT " .. b.srv.pid);
		eventually("in step", function () in_step(b, room, owner, phone, desk); end);
		muc.say(owner, room, "hello");
		for _, c in ipairs { phone, desk } do
			c:expect({ body = "hello" });
			round_trip(room, c);
			assert.equal(1, #muc.got(c, 1, { body = "hello" }));
		end
	end);

	it("may change two nicks at the same time", function ()
		local room, owner, phone, desk, _, b = party();
		server.run("kill -STOP " .. b.srv.pid);
		for i = 1, 3 do
			phone:send(("<presence to='%s/p%d'/>"):format(room, i));
			desk:send(("<presence to='%s/d%d'/>"):format(room, i));
		end
		phone:sync();
		desk:sync();
		server.run("kill -CONT " .. b.srv.pid);
		eventually("in step", function () in_step(b, room, owner, phone, desk); end);
	end);

	it("throw one out while one speaks and leaves", function ()
		local room, owner, phone, desk, _, b = party();
		server.run("kill -STOP " .. b.srv.pid);
		muc.say(phone, room, "what?");
		muc.leave(desk, room, "ada");
		phone:sync();
		desk:sync();
		owner:send(("<iq type='set' id='k' to='%s'><query xmlns='%s'><item nick='ada' role='none'/></query></iq>"):format(room, muc.ns_admin));
		server.run("kill -CONT " .. b.srv.pid);
		owner:expect({ name = "iq", id = "k" });
		phone:expect(muc.presence_of(room, "ada", "unavailable", "110"));
		assert.same({}, muc.picture(phone, room));
		eventually("desk is out", function () desk:sync(); assert.same({}, muc.picture(desk, room)); end);
		muc.enter(phone, room, "ada");
		muc.enter(desk, room, "ada");
		in_step(b, room, owner, phone, desk);
	end);

	it("refuse for their reasons", function ()
		local a, b = muc.two_servers(start);
		local room = muc.open(b, { service = "rooms.b.test", config = { ["muc#roomconfig_roomsecret"] = "pw" } });
		local ada = muc.client(a);
		assert.equal("not-authorized", (muc.refused(ada, room, "ada")));
		assert.equal("conflict", (muc.refused(ada, room, "owner", { password = "pw" })));
		muc.enter(ada, room, "ada", { password = "pw" });
		local id = ada:ping(room .. "/ada");
		assert.equal("result", ada:expect({ name = "iq", id = id }).attr.type);
	end);

	it("that aren't there are an error to the client that asked", function ()
		local a = muc.two_servers(start);
		local ada = muc.client(a);
		local condition, _, el = muc.refused(ada, "room@rooms.nowhere.invalid", "ada", { seconds = 20 });
		assert.truthy(condition == "remote-server-not-found" or condition == "remote-server-timeout", condition);
		assert.equal("room@rooms.nowhere.invalid/ada", el.attr.from);
	end);

	it("whose server is down are an error, and can be joined when it's back", function ()
		local a, b = muc.two_servers(start);
		b.srv:kill();
		local ada = muc.client(a);
		local condition = muc.refused(ada, "room1@rooms.b.test", "ada", { seconds = 20 });
		assert.truthy(condition == "remote-server-not-found" or condition == "remote-server-timeout", condition);
		b.srv:launch();
		local room = muc.open(b, { service = "rooms.b.test" });
		muc.enter(ada, room, "ada", { seconds = 10 });
	end);

	it("that forgot the account take it in again, or say so to the clients", function ()
		local room, owner, phone, desk, _, b = party({ config_b = forgetful, room = { ["muc#roomconfig_persistentroom"] = "1" } });
		owner:cut();
		b.srv:kill();
		b.srv:launch();
		assert.same({}, muc.truth(b.srv, room));
		-- it's noticed at the latest when a client says something
		muc.say(phone, room, "anybody?");
		eventually("healed", function ()
			phone:sync();
			desk:sync();
			local inside = muc.truth(b.srv, room).ada ~= nil;
			for _, c in ipairs { phone, desk } do assert.equal(inside, muc.picture(c, room).ada ~= nil); end
		end);
		for _, c in ipairs { phone, desk } do
			if not muc.picture(c, room).ada then muc.enter(c, room, "ada"); end
		end
		muc.say(desk, room, "here we are");
		muc.all_hear({ phone, desk }, room, "ada", "here we are");
		in_step(b, room, phone, desk);
	end);

	it("that forgot the account aren't served from what was", function ()
		local room, owner, phone, _, a, b = party({ config_b = forgetful, room = { ["muc#roomconfig_persistentroom"] = "1" } });
		owner:cut();
		b.srv:kill();
		b.srv:launch();
		local again = muc.client(b);
		muc.enter(again, room, "new");
		muc.say(phone, room, "anybody?");
		local third = muc.client(a, { user = phone.username });
		eventually("in", function ()
			third:sync();
			if not muc.picture(third, room).ada then muc.join(third, room, "ada"); end
			in_step(b, room, again, third);
			assert.truthy(muc.truth(b.srv, room).ada);
		end);
	end);

	it("serve two accounts of a server, each its own", function ()
		local room, owner, phone, desk, a, b = party();
		local bob = muc.client(a);
		muc.enter(bob, room, "bob");
		in_step(b, room, owner, phone, desk, bob);
		muc.admin_ok(owner, room, { affiliation = "admin", jid = bob.bare });
		round_trip(room, bob, phone, desk);
		local bob2 = muc.client(a, { user = bob.username });
		for _, el in ipairs(muc.enter(bob2, room, "bob").others) do assert.truthy(muc.item(el).attr.jid, tostring(el)); end
		local phone2 = muc.client(a, { user = phone.username });
		for _, el in ipairs(muc.enter(phone2, room, "ada").others) do assert.is_nil(muc.item(el).attr.jid, tostring(el)); end
		muc.left(bob, room, "bob");
		muc.left(bob2, room, "bob");
		in_step(b, room, owner, phone, desk, phone2);
	end);

	it("that don't answer are an error in the end, and nothing is half joined", function ()
		local a, b = muc.two_servers(start, { config = "minimix_join_timeout = 5" });
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		local first, ada = muc.client(a), muc.client(a);
		muc.enter(first, room, "first", { seconds = 10 }); -- the way is open
		server.run("kill -STOP " .. b.srv.pid);
		local condition, kind, el = muc.refused(ada, room, "ada", { seconds = 15 });
		assert.equal("remote-server-timeout", condition);
		assert.equal("wait", kind);
		assert.equal(room .. "/ada", el.attr.from);
		server.run("kill -CONT " .. b.srv.pid);
		eventually("out", function ()
			round_trip(room, ada, first);
			assert.is_nil(muc.truth(b.srv, room).ada);
		end);
		assert.same({}, muc.picture(ada, room));
		muc.enter(ada, room, "ada");
		in_step(b, room, owner, first, ada);
	end);

	it("that forgot the account are noticed though nobody says anything", function ()
		local room, owner, phone, desk, _, b = party({
			config = "minimix_ping_interval = 1", config_b = forgetful, room = { ["muc#roomconfig_persistentroom"] = "1" },
		});
		owner:cut();
		b.srv:kill();
		b.srv:launch();
		assert.same({}, muc.truth(b.srv, room));
		eventually("noticed", function ()
			phone:sync();
			desk:sync();
			local inside = muc.truth(b.srv, room).ada ~= nil;
			assert.truthy(inside or not muc.picture(phone, room).ada);
			for _, c in ipairs { phone, desk } do assert.equal(inside, muc.picture(c, room).ada ~= nil); end
		end);
	end);

	it("that are gone for good are said to be", function ()
		local room, owner, phone, desk, a, b = party({ config = "minimix_ping_interval = 1; minimix_join_timeout = 2" });
		owner:cut();
		b.srv:kill();
		for _, c in ipairs { phone, desk } do
			local own = c:expect(function (el)
				return el.name == "presence" and el.attr.type == "unavailable" and el.attr.from == room .. "/ada" and muc.has_code(el, "110");
			end, 30);
			assert.truthy(muc.has_code(own, "332") or muc.has_code(own, "333"), tostring(own));
			local ping = c:ping(room .. "/ada");
			assert.equal("error", c:expect({ name = "iq", id = ping }, 10).attr.type);
		end
		assert.same({}, a:log_errors(0));
	end);

	it("that are slow aren't taken for gone", function ()
		local room, owner, phone, desk, _, b = party({ config = "minimix_ping_interval = 1; minimix_join_timeout = 30" });
		server.run("kill -STOP " .. b.srv.pid);
		socket.sleep(2.5); -- more than one ping is due
		server.run("kill -CONT " .. b.srv.pid);
		in_step(b, room, owner, phone, desk);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
	end);

	-- Whatever happens in whatever order, each client's picture is the room's in the end.
	for seed = 1, 4 do
		it("stay in step with clients that come, go and change while the way is slow, seed " .. seed, function ()
			local a, b = muc.two_servers(start);
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local all = {};
			for i = 1, 3 do
				local user = a:user();
				for _ = 1, 2 do
					all[#all + 1] = { c = muc.client(a, { user = user }), nick = "n" .. i, account = i };
				end
			end
			muc.enter(all[1].c, room, all[1].nick, { seconds = 10 });
			all[1].inside = true;
			math.randomseed(seed);
			local stopped = false;
			for step = 1, 120 do
				local who = all[math.random(#all)];
				local what = math.random(12);
				if what == 1 then
					stopped = not stopped;
					server.run(("kill -%s %d"):format(stopped and "STOP" or "CONT", b.srv.pid));
				elseif what == 2 and not stopped then
					muc.admin(owner, room, { role = "none", nick = "n" .. math.random(3) });
				elseif what <= 4 and who.inside then
					muc.leave(who.c, room, who.nick);
					who.inside = false;
				elseif what <= 6 and who.inside then
					who.c:send(("<presence to='%s/%s%s'/>"):format(room, who.nick, ("x"):rep(math.random(0, 2))));
				elseif what <= 8 and who.inside then
					who.c:send(("<presence to='%s/%s'><status>%d</status></presence>"):format(room, who.nick, step));
				elseif what <= 9 then
					muc.say(who.c, room, "m" .. step);
				elseif not who.inside then
					muc.join(who.c, room, who.nick);
					who.inside = true;
				end
				if math.random(3) == 1 then who.c:sync(); end
			end
			server.run("kill -CONT " .. b.srv.pid);
			eventually("in step", function ()
				local clients = { owner };
				for _, who in ipairs(all) do clients[#clients + 1] = who.c; end
				round_trip(room, table.unpack(clients));
				local truth = muc.truth(b.srv, room);
				local sessions = {};
				for _, real in ipairs(muc.sessions(b.srv, room)) do sessions[muc.bare(real)] = true; end
				for i, who in ipairs(all) do
					local picture = muc.picture(who.c, room);
					if next(picture) then
						assert.truthy(sessions[who.c.bare], "client " .. i .. " believes to be in the room");
						assert.same(truth, picture, "client " .. i);
					end
					-- nobody who joined and didn't leave is forgotten, unless he was thrown out
					local answer = who.c:ping(room .. "/" .. who.nick);
					who.c:expect({ name = "iq", id = answer });
				end
				-- what they heard they heard once and in the room's order
				local place = {};
				for n, el in ipairs(muc.got(owner, 1, { name = "message", type = "groupchat" })) do
					if el:body() then place[el.attr.id] = n; end
				end
				for _, who in ipairs(all) do
					local last = 0;
					for _, el in ipairs(muc.got(who.c, 1, { name = "message", type = "groupchat" })) do
						if el:body() and not t.delay(el) then
							assert.truthy(place[el.attr.id] > last, tostring(el));
							last = place[el.attr.id];
						end
					end
				end
				for account = 1, 3 do
					local one, two = all[2 * account - 1], all[2 * account];
					local believed = next(muc.picture(one.c, room)) or next(muc.picture(two.c, room));
					assert.equal(sessions[one.c.bare] or false, believed ~= nil, "account " .. account);
				end
			end);
			assert.same({}, a:log_errors(0));
			assert.same({}, b:log_errors(0));
		end);
	end
end);
