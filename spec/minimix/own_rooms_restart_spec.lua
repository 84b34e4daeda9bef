local it = require "busted".it;
local t = require "support";
local muc = require "support.muc";

-- Accounts in rooms of their own server, which outlive it: nobody joins again, and clients are told what changed.

-- All that reaches rooms from here on, and who is let in.
local count_joins = [[
	kept.joins = {};
	for _, event in ipairs { "muc-occupant-session-new", "muc-occupant-joined", "muc-occupant-left" } do
		module:context("rooms.localhost"):hook(event, function (e) table.insert(kept.joins, event .. " " .. e.nick); end, 1000);
	end
]];

local function settle(...)
	muc.settle(...);
	for _, c in ipairs { ... } do
		if c.counting then c:ask_h(); c:ack(); c:sync(); end
	end
end

local function back_with(ctx, how, ...)
	if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
	ctx.srv:launch();
	ctx.srv:eval(count_joins);
	local out = {};
	for i, c in ipairs { ... } do
		ctx.srv:wait_hibernating(c.jid);
		out[i] = ctx:resume(c);
	end
	settle(table.unpack(out));
	return table.unpack(out);
end

local function nothing_told(c, room)
	assert.same({}, muc.got_from(c, 1, room));
end

muc.versions("accounts in rooms of their own server", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("are in them as before, and nobody is told anything (" .. how .. ")", function ()
			local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
			local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
			local room = muc.new_room();
			muc.enter(owner, room, "owner");
			muc.configure(owner, room);
			muc.enter(ada, room, "ada");
			local desk = ctx:resumable { user = ada.username, available = true };
			muc.enter(desk, room, "ada");
			for i = 1, 5 do muc.say(owner, room, "m" .. i); end
			-- confirmed just before
			ada:send(("<presence to='%s/lovelace'/>"):format(room));
			desk:expect(muc.presence_of(room, "lovelace"));
			owner:send(("<message type='groupchat' to='%s'><subject>new</subject></message>"):format(room));
			ada:expect(function (el) return el:child_text("subject") == "new"; end);
			-- the last one to show anything
			desk:send(("<presence to='%s/lovelace'><show>away</show></presence>"):format(room));
			desk:expect(muc.presence_of(room, "lovelace"));
			ada:send(("<presence to='%s/lovelace'><show>dnd</show></presence>"):format(room));
			ada:expect(function (el) return muc.presence_of(room, "lovelace")(el) and el:child_text("show") == "dnd"; end);
			-- who did it and why is of that moment
			muc.admin_ok(owner, room, { jid = ada.bare, affiliation = "member", reason = "because" });
			desk:expect(function (el) return muc.item(el) and muc.item(el):child_text("reason") == "because"; end);
			settle(owner, ada, desk);
			local before = muc.truth(ctx.srv, room);
			assert.truthy(before.lovelace);
			owner, ada, desk = back_with(ctx, how, owner, ada, desk);
			nothing_told(owner, room);
			nothing_told(ada, room);
			nothing_told(desk, room);
			assert.same(before, muc.truth(ctx.srv, room));
			assert.same({}, ctx.srv:eval("return kept.joins"));
			muc.say(ada, room, "again");
			muc.all_hear({ owner, ada, desk }, room, "lovelace", "again");
			-- who joins later is told all of it, in order
			local late = muc.client(ctx, { user = ada.username });
			local entry = muc.enter(late, room, "lovelace");
			assert.same({ "owner" }, entry.nicks);
			assert.is_nil(muc.item(entry.self):child("reason"));
			assert.same({ "m1", "m2", "m3", "m4", "m5", "again" }, t.bodies(entry.history));
			assert.equal("new", entry.subject:child_text("subject"));
			muc.leave(late, room, "lovelace");
			muc.leave(desk, room, "lovelace");
			settle(late, desk, owner);
			assert.equal("dnd", muc.truth(ctx.srv, room).lovelace.show);
			assert.same({}, ctx:log_errors(0));
		end);

		it("tell the others nothing if a client logs in anew and joins again (" .. how .. ")", function ()
			local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
			local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
			local room = muc.new_room();
			muc.enter(owner, room, "owner");
			muc.configure(owner, room);
			muc.enter(ada, room, "ada");
			muc.say(owner, room, "before");
			settle(owner, ada);
			local jid = ada.jid;
			owner = back_with(ctx, how, owner);
			ctx.srv:wait_hibernating(jid);
			local again = ctx:connect():authenticate(ada.username, "secret");
			again:bind(jid:match("/(.*)"));
			again:presence();
			muc.say(owner, room, "meanwhile");
			owner:expect({ body = "meanwhile" });
			again:sync();
			assert.same({}, muc.got_from(again, 1, room));
			local entry = muc.enter(again, room, "ada");
			assert.same({ "owner" }, entry.nicks);
			assert.same({ "before", "meanwhile" }, t.bodies(entry.history));
			settle(owner, again);
			assert.same({}, muc.got(owner, 1, function (e) return e.name == "presence" and e.attr.from == room .. "/ada"; end));
			assert.same({}, ctx.srv:eval("return kept.joins"));
			muc.say(owner, room, "after");
			muc.all_hear({ owner, again }, room, "owner", "after");
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("leave the room if a client that logs in anew does not join again", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room, other = muc.new_room(), muc.new_room();
		for _, name in ipairs { room, other } do
			muc.enter(owner, name, "owner");
			muc.configure(owner, name);
			muc.enter(ada, name, "ada");
		end
		settle(owner, ada);
		local again = ctx:connect():authenticate(ada.username, "secret");
		again:bind(ada.jid:match("/(.*)"));
		again:presence();
		muc.enter(again, other, "ada");
		owner:expect(muc.presence_of(room, "ada", "unavailable"));
		settle(owner, again);
		assert.same({}, muc.got(owner, 1, muc.presence_of(other, "ada", "unavailable")));
		assert.truthy(muc.truth(ctx.srv, other).ada);
	end);

	it("are told what changed, if anything did", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
		local guest = ctx:login { available = true };
		local room = muc.new_room();
		muc.enter(owner, room, "owner");
		muc.configure(owner, room);
		muc.enter(ada, room, "ada");
		muc.enter(guest, room, "guest");
		settle(owner, ada, guest);
		-- the account of one is gone, and the room hears of it when the server is there
		owner, ada = back_with(ctx, "kill -9", owner, ada);
		ctx.srv:eval("require 'core.usermanager'.delete_user(a, 'localhost')", guest.username);
		for _, c in ipairs { owner, ada } do
			c:expect(muc.presence_of(room, "guest", "unavailable"), 30);
		end
		assert.is_nil(muc.truth(ctx.srv, room).guest);
	end);

	it("of a room that was destroyed, or that they were thrown out of, are told so once", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
		local gone, kicked = muc.new_room(), muc.new_room();
		for _, name in ipairs { gone, kicked } do
			muc.enter(owner, name, "owner");
			muc.configure(owner, name);
			muc.enter(ada, name, "ada");
		end
		settle(owner, ada);
		owner:iq("set", ("<query xmlns='%s'><destroy/></query>"):format(muc.ns_owner), gone);
		muc.admin_ok(owner, kicked, { nick = "ada", role = "none" });
		ada:expect(muc.presence_of(kicked, "ada", "unavailable"));
		settle(owner, ada);
		owner, ada = back_with(ctx, "kill -9", owner, ada);
		for _, name in ipairs { gone, kicked } do
			nothing_told(owner, name);
			nothing_told(ada, name);
		end
		assert.is_nil(muc.truth(ctx.srv, kicked).ada);
		assert.same({}, ctx:log_errors(0));
	end);

	-- A client that keeps what it sends until that is acknowledged, and sends the rest again when it has resumed.
	local function keeps(c)
		local send, list = c.send, {};
		c.unacked, c.kept = list, 0;
		function c:send(text)
			if text:match("^<[mpi]") then list[#list+1] = text; end
			return send(self, text);
		end
		return c;
	end

	local function resume(ctx, old)
		local new = ctx:authenticated(old.username);
		local answer = new:try_resume(old.token, old.h);
		new.token, new.jid, new.bare, new.resource = old.token, old.jid, old.bare, old.resource;
		assert.equal("resumed", answer.name, tostring(answer));
		new.h = old.h;
		for i = #new.seen, 1, -1 do table.insert(old.seen, new.seen[#new.seen + 1 - i]); end
		new.seen, new.next = old.seen, #old.seen + 1;
		keeps(new);
		local again = {};
		for i = tonumber(answer.attr.h) + 1, #old.unacked do again[#again+1] = old.unacked[i]; end
		for _, text in ipairs(again) do new:send(text); end
		return new;
	end

	for seed = 1, 4 do
		for _, way in ipairs { "with the module", "without" } do
			it(("are what clients were told after a kill -9 in the middle of everything, %s, seed %d"):format(way, seed), function ()
				math.randomseed(seed);
				local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
				if way == "without" then
					ctx.srv:terminate();
					ctx.srv:rewrite_config { minimix = false };
					ctx.srv:launch();
				end
				local room, clients = muc.new_room(), {};
				for i = 1, 5 do
					local c = ctx:login { available = true };
					c:enable { resume = "true" };
					clients[i] = keeps(c);
					muc.enter(c, room, "n" .. i);
					if i == 1 then muc.configure(c, room, { ["muc#roomconfig_historylength"] = "10" }); end
				end
				settle(table.unpack(clients));
				local acts = {
					function (c, i)
						local show = ({ "away", "dnd", "xa" })[math.random(3)];
						c:send(("<presence id='p' to='%s/n%d'><show>%s</show></presence>"):format(room, i, show));
					end;
					function (c) muc.say(c, room, "said " .. math.random(1000)); end;
					function (c, i) muc.leave(c, room, "n" .. i); muc.join(c, room, "n" .. i); end;
					function (_, i)
						clients[1]:send(("<iq type='set' id='k' to='%s'><query xmlns='%s'><item nick='n%d' role='%s'/></query></iq>"):format(
							room, muc.ns_admin, i, ({ "visitor", "participant" })[math.random(2)]));
					end;
					function (c, i)
						clients[1]:send(("<iq type='set' id='a' to='%s'><query xmlns='%s'><item jid='%s' affiliation='%s'/></query></iq>"):format(
							room, muc.ns_admin, c.bare, ({ "member", "none" })[math.random(2)]));
						muc.say(c, room, "by n" .. i);
					end;
				};
				for _ = 1, 60 do
					local i = math.random(2, 5);
					acts[math.random(#acts)](clients[i], i);
					if math.random(4) == 1 then clients[math.random(5)]:sync(); end
				end
				for i = 2, 5 do if math.random(2) == 1 then clients[i]:drain(0.01); end end
				ctx.srv:kill();
				for _, c in ipairs(clients) do c:drain(0.2); end
				ctx.srv:launch();
				for i, c in ipairs(clients) do
					ctx.srv:wait_hibernating(c.jid);
					clients[i] = resume(ctx, c);
				end
				muc.settle(table.unpack(clients));
				muc.in_step(ctx, room, table.unpack(clients));
				assert.same({}, ctx:log_errors(0));
			end);
		end
	end
end);
