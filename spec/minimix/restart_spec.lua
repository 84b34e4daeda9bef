local it, lazy_teardown = require "busted".it, require "busted".lazy_teardown;
local t = require "support";
local muc = require "support.muc";
local server = t.server;
local eventually, round_trip = muc.eventually, muc.round_trip;

local ends = {
	SIGTERM = function (srv) assert.is_true(srv:terminate(60), "the server didn't stop by itself"); end;
	["kill -9"] = function (srv) srv:kill(); end;
};

-- What a killed server has not acknowledged comes back to the room as an error, and the room throws out whom it was for.
local all_acked = [[
	local function busy(session)
		local queue = session.outgoing_stanza_queue;
		return queue and #queue > 0;
	end
	for session in pairs(prosody.incoming_s2s) do
		if busy(session) then return false; end
	end
	for _, host in pairs(prosody.hosts) do
		for _, session in pairs(host.s2sout or {}) do
			if busy(session) then return false; end
		end
	end
	return true;
]];

local function is_subject(el)
	return el.name == "message" and el:child_text("subject") == "of ada's";
end

muc.versions("the account's server goes away and comes back", function (start)
	lazy_teardown(server.forget_certificates);

	for how, stop in pairs(ends) do
		it("by " .. how .. ": neither the room nor a client that resumes sees the account leave", function ()
			local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60" });
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local ada = a:resumable { available = true };
			muc.enter(ada, room, "ada", { seconds = 10 });
			muc.say(owner, room, "before");
			ada:expect({ body = "before" });
			ada:ack();
			ada:sync();
			b.srv:wait_for(all_acked);
			stop(a.srv);
			ada:cut();
			a.srv:launch();
			-- once the account is known to be in the room again, the room may speak
			eventually("still in", function () assert.truthy(muc.truth(b.srv, room).ada); end);
			local back = a:resume(ada);
			local id = back:ping(room .. "/ada");
			assert.equal("result", back:expect({ name = "iq", id = id }).attr.type);
			muc.say(owner, room, "after");
			assert.equal(room .. "/owner", back:expect({ body = "after" }).attr.from);
			muc.say(back, room, "me too");
			owner:expect(muc.groupchat(room, "ada", "me too"));
			back:expect(muc.groupchat(room, "ada", "me too"));
			round_trip(room, back, owner);
			assert.same({ "after", "me too" }, t.bodies(muc.got(back, 1, { type = "groupchat" })));
			assert.same({}, muc.got(owner, 1, { name = "presence", type = "unavailable" }));
			assert.same({}, muc.got(back, 1, { name = "presence", type = "unavailable" }));
			-- leaving works, and is seen
			muc.left(back, room, "ada");
			owner:expect(muc.presence_of(room, "ada", "unavailable"));
		end);

		it("by " .. how .. ": a client that resumes is told what changed meanwhile", function ()
			local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60", config_b = "s2s_timeout = 1" });
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local bob = muc.guest(b, room, "bob", nil, owner);
			local ada = a:resumable { available = true };
			muc.enter(ada, room, "ada", { seconds = 10 });
			ada:ack();
			ada:sync();
			b.srv:wait_for(all_acked);
			stop(a.srv);
			ada:cut();
			-- what the room says now it says to a server that isn't there, and may throw the account out for it
			muc.left(bob, room, "bob");
			local eve = muc.guest(b, room, "eve", nil, owner);
			a.srv:launch();
			local back = a:resume(ada);
			local picture = function ()
				ada.seen = table.move(back.seen, 1, #back.seen, #ada.seen + 1, ada.seen);
				back.seen, back.next = {}, 1;
				return muc.picture(ada, room);
			end
			eventually("the same picture", function ()
				round_trip(room, back, owner, eve);
				local truth = muc.truth(b.srv, room);
				assert.truthy(truth.ada, "the account is out");
				assert.same(truth, picture());
			end);
		end);

		it("by " .. how .. ": an account that stays without a device is in the room again", function ()
			local a, b = muc.two_servers(start, { config = 'minimix_offline = "stay"' });
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local ada = muc.client(a);
			muc.enter(ada, room, "ada", { seconds = 10 });
			ada:close();
			a.srv:wait_gone(ada.jid);
			b.srv:wait_for(all_acked);
			stop(a.srv);
			a.srv:launch();
			muc.say(owner, room, "hello");
			owner:expect({ body = "hello" });
			eventually("still in", function () assert.truthy(muc.truth(b.srv, room).ada); end);
			local back = muc.client(a, { user = ada.username });
			assert.same({ "owner" }, muc.enter(back, room, "ada").nicks);
			round_trip(room, back, owner);
			assert.same(muc.truth(b.srv, room), muc.picture(back, room));
		end);

		it("by " .. how .. ": a client without stream management that logs in again joins again", function ()
			local a, b = muc.two_servers(start);
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local ada = muc.client(a);
			muc.enter(ada, room, "ada", { seconds = 10 });
			muc.say(owner, room, "before");
			ada:expect({ body = "before" });
			b.srv:wait_for(all_acked);
			stop(a.srv);
			ada:cut();
			a.srv:launch();
			local back = muc.client(a, { user = ada.username });
			local entry = muc.enter(back, room, "ada", { seconds = 10 });
			assert.same({ "owner" }, entry.nicks);
			assert.same({ "before" }, t.bodies(entry.history));
			round_trip(room, back, owner);
			assert.same(muc.truth(b.srv, room), muc.picture(back, room));
			muc.left(back, room, "ada");
			round_trip(room, back, owner);
			assert.is_nil(muc.truth(b.srv, room).ada);
		end);
	end

	it("by kill -9 at once: what was said to a client that is away is there for it, once", function ()
		local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60" });
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		local ada = a:resumable { available = true };
		muc.enter(ada, room, "ada", { seconds = 10 });
		ada:ack();
		ada:sync();
		b.srv:wait_for(all_acked);
		ada:cut();
		a.srv:wait_hibernating(ada.jid);
		local queued = ("local q = session(%q).outgoing_stanza_queue; return #q"):format(ada.jid);
		local before = a.srv:eval(queued);
		muc.say(owner, room, "did you hear?");
		a.srv:wait_for(queued .. " > " .. before);
		a.srv:kill();
		a.srv:launch();
		eventually("in the room", function () assert.truthy(muc.truth(b.srv, room).ada); end);
		local back = a:resume(ada);
		back:expect({ body = "did you hear?" });
		round_trip(room, back, owner);
		assert.same({ "did you hear?" }, t.bodies(muc.got(back, 1, { type = "groupchat" })));
	end);

	-- A room that does not answer until the account's server has been killed; the clients have been told that theirs is handled.
	local function unanswered(before, act)
		local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60; minimix_offline = 'stay'" });
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		muc.say(owner, room, "m1");
		muc.say(owner, room, "m2");
		local neighbour = muc.client(a);
		muc.enter(neighbour, room, "neighbour", { seconds = 10 });
		local clients = before(a, room);
		b.srv:wait_for(all_acked);
		server.run("kill -STOP " .. b.srv.pid);
		act(room, table.unpack(clients));
		for _, c in ipairs(clients) do c:sync(); end
		a.srv:kill();
		for _, c in ipairs(clients) do c:cut(); end
		neighbour:cut();
		server.run("kill -CONT " .. b.srv.pid);
		a.srv:launch();
		return room, owner, a, b, clients;
	end

	local function resumable(a) return { a:resumable { available = true } }; end

	it("a client that waited for its join is answered", function ()
		local id;
		local room, owner, a, b, clients = unanswered(resumable, function (room, ada)
			id = muc.join(ada, room, "ada", { history = { maxstanzas = 1 } });
		end);
		local back = a:resume(clients[1]);
		local entry = muc.entered(back, room, 20);
		assert.equal("ada", entry.nick);
		assert.equal(id, entry.self.attr.id);
		assert.same({ "m2" }, t.bodies(entry.history));
		muc.say(back, room, "in");
		owner:expect(muc.groupchat(room, "ada", "in"));
		back:expect(muc.groupchat(room, "ada", "in"));
		eventually("the same picture", function ()
			round_trip(room, back, owner);
			assert.same(muc.truth(b.srv, room), muc.picture(back, room));
		end);
	end);

	it("a client that waited for its join is told why not", function ()
		local id;
		local room, _, a, _, clients = unanswered(resumable, function (room, ada)
			id = muc.join(ada, room, "owner");
		end);
		local back = a:resume(clients[1]);
		local refusal = back:expect({ name = "presence", type = "error", id = id }, 20);
		assert.equal(room .. "/owner", refusal.attr.from);
		assert.equal("conflict", (t.condition(refusal:child("error"))));
	end);

	it("a client that waited for its leave is answered", function ()
		local room, owner, a, _, clients = unanswered(function (a, room)
			local clients = resumable(a);
			muc.enter(clients[1], room, "ada", { seconds = 10 });
			clients[1]:ack();
			clients[1]:sync();
			return clients;
		end, function (room, ada)
			ada:send(("<presence type='unavailable' id='bye' to='%s/ada'/>"):format(room));
		end);
		local back = a:resume(clients[1]);
		local bye = back:expect(muc.presence_of(room, "ada", "unavailable", "110"), 20);
		assert.equal("bye", bye.attr.id);
		muc.saw(owner, muc.presence_of(room, "ada", "unavailable"));
	end);

	for how, stop in pairs(ends) do
		it("by " .. how .. ": nickname, what is shown and subject are those of the last moment", function ()
			local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60" });
			local room, owner = muc.open(b, { service = "rooms.b.test", config = { ["muc#roomconfig_changesubject"] = "1" } });
			local ada = a:resumable { available = true };
			muc.enter(ada, room, "ada", { seconds = 10 });
			ada:send(("<message type='groupchat' to='%s'><subject>of ada's</subject></message>"):format(room));
			owner:expect(is_subject);
			ada:send(("<presence to='%s/lovelace'/>"):format(room));
			ada:expect(muc.presence_of(room, "lovelace"));
			ada:send(("<presence to='%s/lovelace'><show>dnd</show></presence>"):format(room));
			ada:expect(function (e) return muc.presence_of(room, "lovelace")(e) and e:child_text("show") == "dnd"; end);
			ada:ack();
			ada:sync();
			muc.settle(owner);
			b.srv:wait_for(all_acked);
			local mark = muc.mark(owner);
			stop(a.srv);
			ada:cut();
			a.srv:launch();
			local back = a:resume(ada);
			eventually("still in", function () assert.truthy(muc.truth(b.srv, room).lovelace); end);
			back:sync();
			round_trip(room, back, owner);
			assert.equal("dnd", muc.truth(b.srv, room).lovelace.show);
			for _, el in ipairs(muc.got(owner, mark, { name = "presence" })) do
				assert.is_nil(el.attr.type, tostring(el));
				assert.equal("dnd", el:child_text("show"), tostring(el));
			end
			assert.equal("of ada's", muc.enter(muc.client(a, { user = ada.username }), room, "lovelace").subject:child_text("subject"));
			assert.same({}, muc.got(back, 1, is_subject), "it was told twice");
		end);
	end

	it("a client that waited for its join and does not come back has not joined", function ()
		local room, owner, a, b = unanswered(function (a) return { muc.client(a) }; end, function (room, ada)
			muc.join(ada, room, "ada");
		end);
		eventually("the neighbour is in again", function () assert.truthy(muc.truth(b.srv, room).neighbour); end);
		local other = muc.client(a);
		muc.enter(other, room, "other", { seconds = 10 });
		round_trip(room, owner, other);
		assert.is_nil(muc.truth(b.srv, room).ada);
		assert.same(muc.truth(b.srv, room), muc.picture(other, room));
	end);

	for seed = 1, 2 do
		it("by kill -9 while people talk: what a client hears it hears once and in order, seed " .. seed, function ()
			local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60" });
			local room, owner = muc.open(b, { service = "rooms.b.test", config = { ["muc#roomconfig_historylength"] = "100" } });
			local user = a:user();
			local clients = {};
			for i = 1, 2 do
				clients[i] = a:resumable { user = user, available = true };
				muc.enter(clients[i], room, "ada", { seconds = 10 });
			end
			math.randomseed(seed);
			local last = 60;
			local dies, back = math.random(10, 30), math.random(31, 50);
			local heard = { {}, {} };
			local function hear()
				for i, c in ipairs(clients) do
					c:drain(0.01);
					for _, el in ipairs(muc.got(c, c.heard_to or 1, { name = "message", type = "groupchat" })) do
						if el:body() then table.insert(heard[i], tonumber(el:body():match("%d+"))); end
					end
					c.heard_to = #c.seen + 1;
				end
			end
			for n = 1, last do
				muc.say(owner, room, "m" .. n);
				if n == dies then a.srv:kill(); end
				if n < dies then hear(); end
				if n == back then
					hear();
					a.srv:launch();
					for i, c in ipairs(clients) do
						c:cut();
						clients[i] = a:resume(c);
					end
					eventually("in again", function () assert.truthy(muc.truth(b.srv, room).ada); end);
					-- (Prosody itself mixes up what's sent to a server while it's still connecting)
					for _, c in ipairs(clients) do
						local id = t.client.id();
						c:send(("<iq type='get' id='%s' to='%s'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"):format(id, room));
						local from = c.next;
						c:expect({ name = "iq", id = id }, 10);
						c.next = from;
					end
				end
				owner:sync();
			end
			eventually("the last message", function ()
				hear();
				for i = 1, 2 do assert.equal(last, heard[i][#heard[i]]); end
			end);
			for i = 1, 2 do
				for n = 2, #heard[i] do
					assert.truthy(heard[i][n] > heard[i][n - 1], ("client %d, killed after m%d, back after m%d: %s"):format(i, dies, back,
						table.concat(heard[i], " ")));
				end
				-- what was said when the server was there isn't lost
				local had = {};
				for _, n in ipairs(heard[i]) do had[n] = true; end
				for n = 1, last do
					if n < dies or n > back then assert.is_true(had[n], ("client %d, killed after m%d, back after m%d: m%d is missing: %s"):format(
						i, dies, back, n, table.concat(heard[i], " "))); end
				end
			end
		end);
	end

	it("by kill -9 after it had written down what it sent, and before to whom: nothing is heard twice", function ()
		local a, b = muc.two_servers(start, { config = "smacks_hibernation_time = 60" });
		local room, owner = muc.open(b, { service = "rooms.b.test", config = { ["muc#roomconfig_historylength"] = "100" } });
		local ada = a:resumable { available = true };
		muc.enter(ada, room, "ada", { seconds = 10 });
		for _, body in ipairs { "one", "two" } do
			muc.say(owner, room, body);
			ada:expect { body = body };
		end
		ada:ack();
		ada:sync();
		a.srv:kill();
		ada:cut();
		local path = a.srv.dir .. "/data/enjamb-rooms";
		local lines = server.read_file(path);
		local last = assert(lines:match("(s\t[^\n]*\n)$"), lines);
		server.write_file(path, lines:sub(1, -#last // 2)); -- half of it was written, even
		a.srv:launch();
		local back = a:resume(ada);
		eventually("in again", function () assert.truthy(muc.truth(b.srv, room).ada); end);
		muc.say(owner, room, "three");
		back:expect { body = "three" };
		assert.same({ "three" }, t.bodies(muc.got(back, 1, { name = "message", type = "groupchat" })));
	end);

	it("what is damaged of files beside the journal is told once, and not what was not written to its end", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local room = muc.open(ctx);
		local ada = ctx:resumable { available = true };
		muc.enter(ada, room, "ada");
		local names = { ["enjamb-rooms"] = "Who is in which room", ["enjamb-contacts"] = "What clients know of their contacts" };
		for _, damage in ipairs { "", "a line\n\255\t\t\t\n", "" } do
			ctx.srv:kill();
			for name in pairs(names) do
				local path = ctx.srv.dir .. "/data/" .. name;
				server.write_file(path, damage .. server.read_file(path) .. "+\tnot to");
			end
			local mark = ctx.srv:log_size();
			ctx.srv:launch();
			require "socket".sleep(1.5); -- the library's lines come with the next commit
			for name, what in pairs(names) do
				ctx:allow(what .. " is not known in full");
				local _, n = ctx.srv:log(mark):gsub(what .. " is not known in full, since 2 lines of [^\n]*/" .. name:gsub("%-", "%%-") .. " make no sense", "");
				assert.equal(damage ~= "" and 1 or 0, n, name);
			end
		end
	end);

	it("a room on the same server takes the account in again", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		local ada = ctx:resumable { available = true };
		muc.enter(ada, room, "ada");
		ada:ack();
		ada:sync();
		ctx.srv:kill();
		ada:cut();
		owner:cut();
		ctx.srv:launch();
		local back = ctx:resume(ada);
		eventually("in", function () back:sync(); assert.truthy(muc.truth(ctx.srv, room).ada); end);
		muc.say(back, room, "hello");
		back:expect(muc.groupchat(room, "ada", "hello"));
		assert.same({}, muc.got(back, 1, muc.presence_of(room, "ada", "unavailable")));
	end);

	it("and under its own nickname, after one that the room refused", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_persistentroom"] = "1" } });
		local ada = ctx:resumable { available = true };
		muc.enter(ada, room, "ada");
		ada:send(("<presence id='nick' to='%s/owner'/>"):format(room));
		assert.equal("conflict", (t.condition(ada:expect({ name = "presence", type = "error", id = "nick" }):child("error"))));
		ada:ack();
		ada:sync();
		ctx.srv:kill();
		ada:cut();
		owner:cut();
		ctx.srv:launch();
		local back = ctx:resume(ada);
		eventually("in", function () back:sync(); assert.truthy(muc.truth(ctx.srv, room).ada); end);
		muc.say(back, room, "hello");
		back:expect(muc.groupchat(room, "ada", "hello"));
		for _, el in ipairs(muc.got(back, 1, { name = "presence", type = "unavailable" })) do
			assert.equal("", muc.codes(el), tostring(el));
		end
	end);

	it("a room that lost the account while the module was unloaded has it again", function ()
		local ctx = muc.start(start);
		local room = muc.open(ctx);
		local ada, bob = muc.client(ctx), muc.client(ctx, { host = "plain.localhost" });
		muc.enter(bob, room, "bob");
		muc.enter(ada, room, "ada");
		bob:expect(muc.presence_of(room, "ada"));
		assert.is_true(ctx.srv:eval([[return require "core.modulemanager".unload("localhost", "minimix") and true]]));
		muc.say(bob, room, "nobody follows");
		bob:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.is_true(ctx.srv:eval([[return require "core.modulemanager".load("localhost", "minimix") and true]]));
		bob:expect(muc.presence_of(room, "ada"));
		muc.say(bob, room, "hello");
		ada:expect(muc.groupchat(room, "bob", "hello"));
	end);

	it("a reload of the module changes nothing", function ()
		local ctx = muc.start(start);
		local room, owner = muc.open(ctx);
		local phone = muc.guest(ctx, room, "ada", nil, owner);
		local desk = muc.client(ctx, { user = phone.username });
		muc.enter(desk, room, "ada");
		local id = t.client.id();
		phone:send(("<iq type='get' id='%s' to='%s/owner'><query xmlns='jabber:iq:version'/></iq>"):format(id, room));
		local iq = owner:expect({ name = "iq", type = "get" });
		for _ = 1, 3 do
			assert.is_true(ctx.srv:eval([[return require "core.modulemanager".reload("localhost", "minimix") and true]]));
		end
		owner:send(("<iq type='result' id='%s' to='%s'/>"):format(t.escape(iq.attr.id), iq.attr.from));
		assert.equal("result", phone:expect({ name = "iq", id = id }).attr.type);
		muc.say(owner, room, "m1");
		muc.say(desk, room, "m2");
		muc.settle(owner, desk, phone);
		for _, c in ipairs { phone, desk } do
			local bodies = t.bodies(muc.got(c, 1, { type = "groupchat" }));
			table.sort(bodies);
			assert.same({ "m1", "m2" }, bodies);
		end
		muc.in_step(ctx, room, owner, phone, desk);
		local third = muc.client(ctx, { user = phone.username });
		assert.same({ "owner" }, muc.enter(third, room, "ada").nicks);
		for _, c in ipairs { phone, desk, third } do muc.left(c, room, "ada"); end
		muc.in_step(ctx, room, owner);
		assert.same({}, muc.got(owner, 1, function (el) return el.type == "error"; end));
		assert.same({}, ctx:log_errors(0));
	end);
end);
