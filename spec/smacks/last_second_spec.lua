local t = require "support";
local it = require "busted".it;

-- What a server that is killed did just before. A client that resumes asks neither an archive nor for its roster: whatever others
-- can see of that has to be in its queue.

local function only_messages(c)
	return t.bodies(t.only(c.seen, "message"));
end

-- A client whose connection is cut, with all that it has counted.
local function away(ctx, options)
	local c = ctx:resumable(options);
	c:sync();
	c:ack();
	c:sync();
	c:cut();
	ctx.srv:wait_hibernating(c.jid);
	return c;
end

t.versions("a server that is killed in the next moment", function (start)
	local function started(more)
		local options = { config = "smacks_hibernation_time = 60"; users = { alice = "secret", bob = "secret" } };
		for k, v in pairs(more or {}) do options[k] = v; end
		return start(options);
	end

	local function come_back(ctx, c)
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		local back = ctx:resume(c);
		back:sync();
		return back;
	end

	it("has what somebody without stream management sent to a client that is away", function ()
		local ctx = started { modules = { "mam" } };
		local phone = away(ctx, { user = "alice", resource = "phone", available = true });
		local bob = ctx:login { user = "bob", available = true };
		bob:message(phone.jid, "one");
		bob:message("alice@localhost", "two");
		bob:sync();
		assert.same({ "one", "two" }, only_messages(come_back(ctx, phone)));
	end);

	it("has what another client did to the roster", function ()
		local ctx = started();
		local phone = ctx:resumable { user = "alice", resource = "phone", available = true };
		phone:iq("get", "<query xmlns='jabber:iq:roster'/>");
		phone:sync();
		phone:ack();
		phone:sync();
		phone:cut();
		ctx.srv:wait_hibernating(phone.jid);
		local desk = ctx:login { user = "alice", resource = "desk" };
		desk:iq("set", "<query xmlns='jabber:iq:roster'><item jid='carol@localhost'/></query>");
		desk:sync();
		local pushes = t.only(come_back(ctx, phone).seen, function (el)
			return el.name == "iq" and el.attr.type == "set" and el:child("query", "jabber:iq:roster") ~= nil;
		end);
		assert.equal(1, #pushes);
	end);

	it("has the offline messages that it gave out and deleted", function ()
		local ctx = started { modules = { "offline" } };
		local bob = ctx:login { user = "bob", available = true };
		for n = 1, 5 do bob:message("alice@localhost", "offline " .. n); end
		bob:sync();
		local phone = ctx:login { user = "alice", resource = "phone" };
		phone:enable { resume = "true" };
		phone:presence();
		phone:expect({ name = "message", body = "offline 1" });
		phone.h = 0; -- what it was sent it has lost
		assert.same({ "offline 1", "offline 2", "offline 3", "offline 4", "offline 5" }, only_messages(come_back(ctx, phone)));
	end);

	it("tells that a contact has gone whose session was one to resume", function ()
		local ctx = started();
		ctx:befriend("alice", "bob");
		local phone = ctx:resumable { user = "alice", resource = "phone", available = true };
		local tablet = ctx:login { user = "alice", resource = "tablet", available = true };
		local bob = ctx:resumable { user = "bob", resource = "desk", available = true };
		bob:sync();
		phone:expect({ name = "presence", from = bob.jid });
		phone:sync();
		phone:ack();
		phone:sync();
		phone:cut();
		ctx.srv:wait_hibernating(phone.jid);
		bob:close();
		-- What somebody has been told outlives the server; what only the server knows need not.
		tablet:expect({ name = "presence", type = "unavailable", from = bob.jid });
		local told = t.only(come_back(ctx, phone).seen, function (el) return el.name == "presence" and el.attr.from == bob.jid; end);
		assert.equal(1, #told);
		assert.equal("unavailable", told[1].attr.type);
	end);

	it("tells who got presence directly that its sender has gone", function ()
		local ctx = started { users = { alice = "secret", bob = "secret", carol = "secret" } };
		local phone = ctx:resumable { user = "alice", resource = "phone", available = true };
		local bob = ctx:login { user = "bob", resource = "desk", available = true };
		local carol = ctx:login { user = "carol", resource = "desk" };
		bob:send("<presence to='" .. phone.jid .. "'/>");
		bob:sync();
		carol:send("<presence to='" .. phone.jid .. "'/>");
		carol:send("<presence to='" .. phone.jid .. "' type='unavailable'/>");
		carol:sync();
		phone:sync();
		phone:ack();
		phone:sync();
		local back = come_back(ctx, phone);
		back:expect({ name = "presence", from = bob.jid, type = "unavailable" });
		back:sync();
		assert.same({}, t.only(back.seen, function (el) return el.name == "presence" and el.attr.from == carol.jid; end));
		-- once
		back:ack();
		back:sync();
		local again = come_back(ctx, back);
		again:drain(0.5);
		assert.same({}, t.only(again.seen, function (el) return el.name == "presence" and el.attr.from == bob.jid; end));
		assert.same({}, ctx:log_errors(0));
	end);
end);
