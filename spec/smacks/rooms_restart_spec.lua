local t = require "support";
local it = require "busted".it;

-- Which rooms of this server a client is told to be out of after a restart: those that it was in, by what the rooms had said,
-- and that are truly gone. So these are not kept here.

local ns_muc = "http://jabber.org/protocol/muc";
local rooms = table.concat({ 'Component "rooms.localhost" "muc"', 'muc_room_locking = false', 'smacks_keep_rooms = false' }, "\n");
local room = "room@rooms.localhost";

local function join(c, to)
	c:send(("<presence to='%s'><x xmlns='%s'><history maxstanzas='0'/></x></presence>"):format(to, ns_muc));
end

local function enter(c, to, as)
	join(c, to);
	c:expect({ name = "presence", from = as or to });
	c:sync();
end

local function refused(c, condition)
	local answer = c:expect({ name = "presence", type = "error" });
	assert.equal(condition, (t.condition(answer:child("error"))));
end

-- Own occupants that it is told are out, with the status codes.
local function out_of(c)
	local told = {};
	for _, p in ipairs(t.only(c.seen, { name = "presence", type = "unavailable" })) do
		local codes = {};
		for _, status in ipairs(p:child("x", ns_muc .. "#user"):children()) do
			if status.name == "status" then codes[#codes+1] = status.attr.code; end
		end
		codes = table.concat(codes, " ");
		if codes:match("110") then told[#told+1] = p.attr.from .. " " .. codes; end
	end
	return told;
end

local function admin(owner, where, item)
	owner:iq("set", ("<query xmlns='%s#admin'><item %s/></query>"):format(ns_muc, item), where);
end

-- What each does, and under which nickname it is in the room then, if it is.
local clients = {
	entered = function (c) enter(c, room .. "/entered"); return "entered"; end;
	refused = function (c)
		join(c, room .. "/owner");
		refused(c, "conflict");
	end;
	kept_out = function (c)
		join(c, "closed@rooms.localhost/kept_out");
		refused(c, "registration-required");
	end;
	old_nick = function (c)
		enter(c, room .. "/old_nick");
		c:send(("<presence to='%s/owner'/>"):format(room));
		refused(c, "conflict");
		return "old_nick";
	end;
	renamed = function (c)
		enter(c, room .. "/before");
		c:send(("<presence to='%s/after'/>"):format(room));
		c:expect({ name = "presence", from = room .. "/after" });
		return "after";
	end;
	by_service = function (c)
		enter(c, room .. "/asked", room .. "/given");
		return "given";
	end;
	kicked = function (c, owner)
		enter(c, room .. "/kicked");
		admin(owner, room, "nick='kicked' role='none'");
		c:expect({ name = "presence", type = "unavailable" });
	end;
	banned = function (c, owner)
		enter(c, room .. "/banned");
		admin(owner, room, ("jid='%s' affiliation='outcast'"):format(c.bare));
		c:expect({ name = "presence", type = "unavailable" });
	end;
	destroyed = function (c, owner)
		enter(owner, "gone@rooms.localhost/owner");
		enter(c, "gone@rooms.localhost/destroyed");
		owner:iq("set", ("<query xmlns='%s#owner'><destroy/></query>"):format(ns_muc), "gone@rooms.localhost");
		c:expect({ name = "presence", type = "unavailable" });
	end;
	left = function (c)
		enter(c, room .. "/left");
		c:send(("<presence to='%s/left' type='unavailable'/>"):format(room));
		c:expect({ name = "presence", type = "unavailable" });
	end;
	never_in = function (c)
		c:send(("<presence to='%s/never_in'/>"):format(room));
		refused(c, "item-not-found");
	end;
};

t.versions("a client that comes back", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("is told of the rooms that it was in and is out of, and of no others (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = rooms };
			ctx.srv:eval([[
				module:context("rooms.localhost"):hook("muc-occupant-pre-join", function (event)
					if event.occupant.nick == a .. "/asked" then event.occupant.nick = a .. "/given"; end
				end);
			]], room);
			local owner = ctx:login { available = true };
			enter(owner, room .. "/owner");
			enter(owner, "closed@rooms.localhost/owner");
			owner:iq("set", ([[<query xmlns='%s#owner'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#roomconfig</value></field>
				<field var='muc#roomconfig_membersonly'><value>1</value></field></x></query>]]):format(ns_muc, ns_muc), "closed@rooms.localhost");
			local all, expected, told = {}, {}, {};
			for name, act in pairs(clients) do
				local c = ctx:resumable { available = true };
				local nick = act(c, owner);
				expected[name] = nick and { room .. "/" .. nick .. " 110 332" } or {};
				all[name] = c;
			end
			local early = ctx:login { available = true };
			enter(early, room .. "/early");
			early:enable { resume = "true" };
			all.early, expected.early = early, { room .. "/early 110 332" };
			for _, c in pairs(all) do c:sync(); c:ask_h(); c:ack(); c:sync(); end
			if how == "SIGTERM" then
				ctx.srv:terminate();
				for name in pairs(expected) do expected[name] = {}; end -- the rooms know them
			else
				ctx.srv:kill();
			end
			ctx.srv:launch();
			for name, c in pairs(all) do
				ctx.srv:wait_hibernating(c.jid);
				local d = ctx:resume(c);
				d:sync();
				told[name] = out_of(d);
			end
			assert.same(expected, told);
			assert.same({}, ctx:log_errors(0));
		end);

		it("is not told that it is out of a room which its account is in (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = rooms };
			local before, with = ctx:resumable { available = true }, ctx:user();
			enter(before, room .. "/before");
			ctx.srv:terminate();
			-- from here on accounts are in rooms, and a session has joined by itself
			ctx.srv:rewrite_config { minimix = true };
			ctx.srv:launch();
			ctx.srv:wait_hibernating(before.jid);
			local b = ctx:resume(before);
			local w = ctx:resumable { user = with, available = true };
			enter(w, room .. "/with");
			enter(b, room .. "/before");
			for _, c in ipairs { b, w } do c:sync(); c:ask_h(); c:ack(); c:sync(); end
			if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
			ctx.srv:launch();
			for _, c in ipairs { b, w } do
				ctx.srv:wait_hibernating(c.jid);
				local d = ctx:resume(c);
				d:sync();
				assert.same({}, out_of(d));
			end
			local d = ctx:login { available = true };
			enter(d, room .. "/third");
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);
