local t = require "support";
local socket = require "socket";
local it = require "busted".it;

-- A client that logs in anew under its resource: to its contacts it was there all the time.

local function of(c, from, jid)
	local out = {};
	for i = from, #c.seen do
		local e = c.seen[i];
		if e.name == "presence" and e.attr.from == jid then out[#out+1] = e.attr.type or "available"; end
	end
	return out;
end

local function gone(jid)
	return { name = "presence", from = jid, type = "unavailable" };
end

t.versions("a client that logs in anew under its resource", function (start)
	for _, management in ipairs { "with", "without" } do
		it("is there all the time, to its contacts (" .. management .. " stream management)", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", modules = { "offline" } };
			local alice, bob = ctx:contacts();
			local enable = management == "with" and { resume = "true" } or nil;
			local old = ctx:login { user = alice, resource = "phone", enable = enable, available = true };
			local contact = ctx:resumable { user = bob, available = true };
			contact:sync();
			local mark = #contact.seen + 1;
			if management == "with" then ctx:hibernate(old); end
			local new = ctx:login { user = alice, resource = "phone", enable = enable };
			-- in between nothing is for a session that is not there any more
			contact:message(alice .. "@localhost", "in between");
			contact:sync();
			new:presence();
			new:expect({ body = "in between" });
			contact:sync();
			assert.same({ "available" }, of(contact, mark, new.jid));
			-- and it ends as ever
			new:close();
			contact:expect(gone(new.jid));
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("is gone, to its contacts, if it does not say that it is there", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local alice, bob = ctx:contacts();
		local contact = ctx:login { user = bob, available = true };
		ctx:resumable { user = alice, resource = "phone", available = true };
		local new = ctx:login { user = alice, resource = "phone" };
		contact:expect(gone(new.jid), 25);
		assert.same({}, ctx:log_errors(0));
	end);

	for what, now in pairs {
		["has no stream management"] = {},
		["has stream management"] = { enable = { resume = "true" } },
		["has stream management, and the server is stopped"] = { enable = { resume = "true" }, stops = true },
		["is gone itself by then"] = { enable = { resume = "true" }, closes = true },
	} do
		it("is gone, to its contacts, if the server is killed before it says that it is there: it " .. what, function ()
			local ctx = start { config = "smacks_hibernation_time = 60" };
			local alice, bob = ctx:contacts();
			local contact = ctx:resumable { user = bob, available = true };
			ctx:login { user = alice, resource = "phone", enable = now.enable, available = true };
			local new = ctx:login { user = alice, resource = "phone", enable = now.enable };
			if now.closes then new:close(); end
			contact:sync(); contact:ask_h(); contact:ack(); contact:sync();
			if now.stops then ctx.srv:terminate(); else ctx.srv:kill(); end
			ctx.srv:launch();
			local resumed = ctx:resume(contact);
			resumed:expect(gone(new.jid));
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("is there, to its contacts, and gone if it is when the server is killed a while after", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local alice, bob = ctx:contacts();
		local contact = ctx:resumable { user = bob, available = true };
		ctx:login { user = alice, resource = "phone", enable = { resume = "true" }, available = true };
		local new = ctx:login { user = alice, resource = "phone", available = true };
		socket.sleep(16);
		contact:sync(); contact:ask_h(); contact:ack(); contact:sync();
		ctx.srv:kill();
		ctx.srv:launch();
		ctx:resume(contact):expect(gone(new.jid));
		assert.same({}, ctx:log_errors(0));
	end);
end);
