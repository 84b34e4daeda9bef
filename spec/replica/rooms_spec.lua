local t = require "support";
local busted = require "busted";
local it, pending = busted.it, busted.pending;
local pair = require "support.pair";
local postgres = require "support.postgres";
local server = require "support.server";

-- Rooms of the server go with the sessions to the next one.

local ns_muc = "http://jabber.org/protocol/muc";
local service = 'Component "rooms.localhost" "muc"\nmuc_room_locking = false\nrestrict_room_creation = false';

t.versions("rooms of a server that goes", function (start)
	if not postgres.is_installed() then
		pending("PostgreSQL is not installed");
		return;
	end

	local pg;
	busted.lazy_setup(function () pg = postgres.start(); end);
	busted.lazy_teardown(function () pg:remove(); end);

	local function enter(c, room, nick)
		c:send(("<presence to='%s/%s'><x xmlns='%s'><history maxstanzas='0'/></x></presence>"):format(room, nick, ns_muc));
		c:expect({ name = "presence", from = room .. "/" .. nick });
		c:expect(function (e) return e.name == "message" and e:child("subject") ~= nil; end);
	end

	local function say(from, room, body, ...)
		from:message(room, body, { type = "groupchat" });
		for _, c in ipairs { from, ... } do c:expect({ body = body }); end
	end

	local function told(c)
		c:sync();
		local out = {};
		for _, el in ipairs(c.seen) do
			if (el.attr.from or ""):match("@rooms%.localhost") then table.insert(out, tostring(el)); end
		end
		return out;
	end

	for _, minimix in ipairs { false, true } do
		it("are on the next one as they were, and nobody is told anything" .. (minimix and ", with mod_minimix" or ""), function ()
			local one = pair.start(start, pg, { lease = 3; extra = service; minimix = minimix });
			local two = one:standby();
			one:accounts { "ada", "bob" };
			local ada = one:resumable { user = "ada", available = true };
			local bob = one:resumable { user = "bob", available = true };
			local room = "lounge@rooms.localhost";
			enter(ada, room, "ada");
			enter(bob, room, "bob");
			ada:expect({ name = "presence", from = room .. "/bob" });
			say(bob, room, "before", ada);
			local function settle(c)
				repeat
					c:ack();
					c:send("<r xmlns='" .. t.sm3 .. "'/>");
					c:drain(0.3);
					local h;
					for _, el in ipairs(c.seen) do h = el.name == "a" and el.attr.h or h; end
				until tonumber(h) == (c == ada and 2 or 3);
			end
			settle(ada);
			settle(bob);
			one.srv:kill();
			server.run("rm -rf " .. server.quote(one.srv.dir .. "/data"));
			two:wait_ready();
			ada, bob = two:resume(ada), two:resume(bob);
			assert.same({}, told(ada));
			assert.same({}, told(bob));
			say(bob, room, "after", ada);
			say(ada, room, "and so on", bob);
			local function occupants(ctx)
				return ctx.srv:eval([[
					local out = {};
					for nick, occupant in prosody.hosts["rooms.localhost"].modules.muc.get_room_from_jid(a):each_occupant() do
						out[#out+1] = nick .. " " .. occupant.role;
					end
					table.sort(out);
					return out;
				]], room);
			end
			assert.same({ room .. "/ada moderator", room .. "/bob participant" }, occupants(two));
			assert.same({}, two:log_errors(0));
		end);
	end
end);
