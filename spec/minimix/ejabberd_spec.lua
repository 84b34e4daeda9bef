-- Rooms of ejabberd's, on another server. Needs Debian's ejabberd to be installed (it isn't run as a service); pending otherwise.

local busted = require "busted";
local it, lazy_teardown, after_each = busted.it, busted.lazy_teardown, busted.after_each;
local t = require "support";
local muc = require "support.muc";
local client = require "support.client";
local ejabberd = require "support.ejabberd";
local server = t.server;
local function eventually(what, check)
	return muc.eventually(what, check, 15);
end


if not ejabberd.installed() then
	busted.describe("rooms of ejabberd's", function ()
		busted.pending("ejabberd isn't installed");
	end);
	return;
end

muc.versions("rooms of ejabberd's", function (start)
	after_each(ejabberd.stop_all);
	lazy_teardown(server.forget_certificates);

	local function two_servers(config)
		local a = start {
			host = "a.test", launch = false, with_s2s = true, config = config, modules = { "test_resolver"; "carbons" },
			certificates = true, minimix = true,
		};
		local ej = ejabberd.start { host = "ej.test", service = "rooms.ej.test" };
		a.srv:rewrite_config { config = ([[test_resolver = { ["ej.test"] = { "127.0.0.1", %d }, ["rooms.ej.test"] = { "127.0.0.1", %d } }
%s]]):format(ej.s2s, ej.s2s, config or "") };
		ej:connect_to(a.srv.s2s);
		a.srv:launch();
		ej:launch();
		muc.check_loaded(a.srv);
		return a, ej;
	end

	local people = 0;
	local function person(ej, resource)
		people = people + 1;
		local c = client.connect(ej):login("person" .. people, "any", resource);
		c:presence();
		c:expect({ name = "presence", from = c.jid });
		function c:sync() -- a server that answers pings only at its own address
			local id = self:ping(ej.host);
			return self:read_until({ name = "iq", id = id });
		end
		return c;
	end

	local function open(ej, config)
		local room, owner = muc.new_room(ej.service), person(ej);
		muc.enter(owner, room, "owner");
		muc.configure(owner, room, config);
		return room, owner;
	end

	local function round_trip(room, ...)
		for _, c in ipairs { ... } do
			c:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room);
		end
		for _, c in ipairs { ... } do c:sync(); end
	end

	-- What the owner, who's on the room's own server, sees is as near to the truth as one can get.
	local function in_step(room, owner, ...)
		round_trip(room, owner, ...);
		round_trip(room, owner, ...);
		local truth = muc.picture(owner, room);
		for i, c in ipairs { ... } do
			assert.same(truth, muc.picture(c, room), ("client %d (%s)"):format(i, c.jid));
		end
		return truth;
	end

	local function party(config, room_config)
		local a, ej = two_servers(config);
		local room, owner = open(ej, room_config);
		local phone = muc.client(a);
		muc.enter(phone, room, "ada", { seconds = 20 });
		local desk = muc.client(a, { user = phone.username });
		desk.entry = muc.enter(desk, room, "lovelace", { seconds = 10 });
		owner:expect(muc.presence_of(room, "ada"));
		return room, owner, phone, desk, a, ej;
	end

	it("are joined, talked in and left", function ()
		local room, owner, phone, desk, a = party();
		assert.equal("ada", desk.entry.nick);
		assert.is_true(muc.has_code(desk.entry.self, "210"));
		in_step(room, owner, phone, desk);
		assert.equal(phone.bare, muc.item(muc.saw(owner, muc.presence_of(room, "ada"))).attr.jid);
		assert.equal(1, (select(2, muc.saw(owner, muc.presence_of(room, "ada")))));
		local id = muc.say(phone, room, "hello");
		for _, c in ipairs { owner, phone, desk } do assert.equal(id, c:expect(muc.groupchat(room, "ada", "hello")).attr.id); end
		for i = 1, 10 do muc.say(owner, room, "m" .. i); end
		for _, c in ipairs { phone, desk } do
			c:expect({ body = "m10" });
			assert.same({ "hello", table.unpack(t.numbered("m", 10)) }, t.bodies(muc.got(c, 1, { type = "groupchat" })));
		end
		muc.left(desk, room, "ada");
		in_step(room, owner, phone);
		muc.left(phone, room, "ada");
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		in_step(room, owner);
		assert.same({}, a:log_errors(0));
	end);

	it("pass private messages and requests", function ()
		local room, owner, phone, desk = party();
		owner:message(room .. "/ada", "psst");
		for _, c in ipairs { phone, desk } do assert.equal(room .. "/owner", c:expect({ body = "psst" }).attr.from); end
		desk:message(room .. "/owner", "yes?");
		assert.equal(room .. "/ada", owner:expect({ body = "yes?" }).attr.from);
		for _, c in ipairs { phone, desk } do
			c:send(("<iq type='get' id='v' to='%s/owner'><query xmlns='jabber:iq:version'/></iq>"):format(room));
			local iq = owner:expect({ name = "iq", type = "get" });
			owner:send(("<iq type='result' id='%s' to='%s'><query xmlns='jabber:iq:version'><name>for %s</name></query></iq>"):format(
				t.escape(iq.attr.id), iq.attr.from, c.resource));
			assert.equal("for " .. c.resource, c:expect({ name = "iq", id = "v" }):child("query"):child_text("name"));
		end
		owner:send(("<iq type='get' id='o' to='%s/ada'><query xmlns='jabber:iq:version'/></iq>"):format(room));
		local asked;
		eventually("a request at one of them", function ()
			for _, c in ipairs { phone, desk } do
				c:sync();
				local list = muc.got(c, 1, { name = "iq", type = "get" });
				if list[1] then asked = { c, list[1] }; end
			end
			assert.truthy(asked);
		end);
		asked[1]:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(asked[2].attr.id), asked[2].attr.from));
		assert.equal("result", owner:expect({ name = "iq", id = "o" }).attr.type);
		for _, c in ipairs { phone, desk } do
			local id = c:ping(room .. "/ada");
			assert.equal("result", c:expect({ name = "iq", id = id }).attr.type);
		end
	end);

	it("change nicks and presence", function ()
		local room, owner, phone, desk = party();
		desk:send(("<presence to='%s/countess'/>"):format(room));
		for _, c in ipairs { phone, desk } do
			assert.is_true(muc.has_code(c:expect(muc.presence_of(room, "ada", "unavailable")), "303"));
			assert.is_true(muc.has_code(c:expect(muc.presence_of(room, "countess")), "110"));
		end
		phone:send(("<presence to='%s/countess'><show>away</show></presence>"):format(room));
		owner:expect(function (el) return muc.presence_of(room, "countess")(el) and el:child_text("show") == "away"; end);
		in_step(room, owner, phone, desk);
		desk:send(("<presence id='c' to='%s/owner'/>"):format(room));
		assert.equal("conflict", (t.condition(desk:expect({ name = "presence", type = "error" }):child("error"))));
		in_step(room, owner, phone, desk);
	end);

	it("throw the account out, and it comes back", function ()
		local room, owner, phone, desk = party();
		muc.admin_ok(owner, room, { role = "none", nick = "ada", reason = "out" });
		for _, c in ipairs { phone, desk } do
			local own = c:expect(muc.presence_of(room, "ada", "unavailable"));
			assert.is_true(muc.has_code(own, "307"));
			-- (ejabberd leaves 110 away here, and a client must know by its nick that it's itself)
			local id = c:ping(room .. "/ada");
			assert.equal("error", c:expect({ name = "iq", id = id }).attr.type);
		end
		local third = muc.enter(desk, room, "ada");
		assert.same({ "owner" }, third.nicks);
		muc.enter(phone, room, "ada");
		in_step(room, owner, desk);
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = phone.bare });
		for _, c in ipairs { phone, desk } do
			assert.is_true(muc.has_code(c:expect(muc.presence_of(room, "ada", "unavailable")), "301"));
			assert.equal("forbidden", (muc.refused(c, room, "ada")));
		end
	end);

	it("refuse for their reasons", function ()
		local a, ej = two_servers();
		local room = open(ej, { ["muc#roomconfig_passwordprotectedroom"] = "1", ["muc#roomconfig_roomsecret"] = "pw" });
		local ada = muc.client(a);
		assert.equal("not-authorized", (muc.refused(ada, room, "ada", { seconds = 20 })));
		assert.equal("conflict", (muc.refused(ada, room, "owner", { password = "pw" })));
		muc.enter(ada, room, "ada", { password = "pw" });
		local other = open(ej, { ["muc#roomconfig_membersonly"] = "1" });
		assert.equal("registration-required", (muc.refused(ada, other, "ada")));
	end);

	it("are made and destroyed by a client of the account", function ()
		local a, ej = two_servers();
		local room = muc.new_room(ej.service);
		local ada = muc.client(a);
		local entry = muc.enter(ada, room, "ada", { seconds = 20 });
		assert.is_true(muc.has_code(entry.self, "201"));
		muc.configure(ada, room);
		local joe = person(ej);
		muc.enter(joe, room, "joe");
		local also = muc.client(a, { user = ada.username });
		assert.same({ "joe" }, muc.enter(also, room, "ada").nicks);
		local answer = ada:iq("set", ("<query xmlns='%s'><destroy jid='next@%s'><reason>over</reason></destroy></query>"):format(
			muc.ns_owner, ej.service), room);
		assert.equal("result", answer.attr.type);
		for c, nick in pairs { [ada] = "ada"; [also] = "ada"; [joe] = "joe" } do
			c:sync();
			round_trip(ej.service, c);
			local own = muc.got(c, 1, muc.presence_of(room, nick, "unavailable"));
			assert.equal(1, #own);
			assert.equal("next@" .. ej.service, own[1]:child("x", muc.ns_user):child("destroy").attr.jid);
		end
	end);

	it("that forgot the account take it in again, or say so", function ()
		local room, _, phone, desk, _, ej = party();
		ej:kill();
		ej:launch();
		local again = person(ej);
		muc.enter(again, room, "new");
		muc.configure(again, room);
		muc.say(phone, room, "anybody?");
		eventually("healed", function ()
			round_trip(room, again, phone, desk);
			local inside = muc.picture(again, room).ada ~= nil;
			for _, c in ipairs { phone, desk } do assert.equal(inside, muc.picture(c, room).ada ~= nil); end
		end);
		for _, c in ipairs { phone, desk } do
			if not muc.picture(c, room).ada then muc.enter(c, room, "ada"); end
		end
		in_step(room, again, phone, desk);
		muc.say(desk, room, "here we are");
		muc.all_hear({ again, phone, desk }, room, "ada", "here we are");
	end);

	it("have history and subject for each client", function ()
		local a, ej = two_servers();
		local room, owner = open(ej);
		muc.say(owner, room, nil, nil, "<subject>A subject</subject>");
		for i = 1, 5 do muc.say(owner, room, "m" .. i); end
		owner:expect({ body = "m5" });
		local phone = muc.client(a);
		local first = muc.enter(phone, room, "ada", { seconds = 20, history = { maxstanzas = 2 } });
		assert.same({ "m4", "m5" }, t.bodies(first.history));
		assert.equal("A subject", first.subject:child_text("subject"));
		local desk = muc.client(a, { user = phone.username });
		local second = muc.enter(desk, room, "ada");
		assert.same(t.numbered("m", 5), t.bodies(second.history));
		assert.equal("A subject", second.subject:child_text("subject"));
		in_step(room, owner, phone, desk);
	end);

	it("see the account stay while its server restarts", function ()
		local a, ej = two_servers("smacks_hibernation_time = 60");
		local room, owner = open(ej);
		local ada = a:resumable { available = true };
		muc.enter(ada, room, "ada", { seconds = 20 });
		ada:ack();
		ada:sync();
		a.srv:kill();
		ada:cut();
		a.srv:launch();
		local back = a:resume(ada);
		muc.say(back, room, "still me");
		owner:expect(muc.groupchat(room, "ada", "still me"), 15);
		assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
	end);
end);
