-- Sessions that are in rooms by themselves when mod_minimix is switched on: they are in once, as their account.

local it = require "busted".it;
local muc = require "support.muc";
local t = require "support";
local eventually = muc.eventually;

local function count(list, what)
	return #t.only(list, what);
end

muc.versions("rooms when mod_minimix is switched on", function (start)
	-- All of them have to be acked before the server ends.
	local function restart(ctx, how, minimix, ...)
		for _, c in ipairs { ... } do c:ack(); end
		muc.settle(...);
		ctx.srv[how](ctx.srv, 60);
		for _, c in ipairs { ... } do c:cut(); end
		ctx.srv:rewrite_config { minimix = minimix };
		ctx.srv:launch();
		local back = {};
		for i, c in ipairs { ... } do back[i] = ctx:resume(c); end
		muc.settle(table.unpack(back));
		return table.unpack(back);
	end

	local function is_in_once(ctx, room, owner, ada, text)
		local mark = muc.mark(ada);
		muc.say(owner, room, text);
		muc.settle(owner, ada, owner, ada);
		assert.equal(1, count(muc.got(ada, mark), muc.groupchat(room, "owner", text)));
		assert.same({ ada.bare }, t.only(muc.sessions(ctx.srv, room), function (jid) return jid:find(ada.bare, 1, true) == 1; end));
		mark = muc.mark(ada);
		muc.say(ada, room, text .. " too");
		owner:expect(muc.groupchat(room, "ada", text .. " too"));
		muc.settle(owner, ada);
		assert.equal(1, count(muc.got(ada, mark), muc.groupchat(room, "ada", text .. " too")));
	end

	local function is_out_when_it_leaves(ctx, room, owner, ada)
		muc.left(ada, room, "ada");
		muc.saw(owner, muc.presence_of(room, "ada", "unavailable"));
		assert.is_nil(muc.truth(ctx.srv, room).ada);
	end

	-- Two clients in a room by themselves, and then mod_minimix is there.
	local function in_by_themselves(how)
		local o = muc.options { config = "smacks_hibernation_time = 60" };
		o.minimix = false;
		local ctx = start(o);
		local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room = muc.open(ctx, { owner = owner });
		muc.enter(ada, room, "ada");
		return ctx, room, restart(ctx, how, true, owner, ada);
	end

	for _, how in ipairs { "kill", "terminate" } do
		it("a client that joins again is in once, by " .. how, function ()
			local ctx, room, owner, ada = in_by_themselves(how);
			local mark, seen = muc.mark(ada), muc.mark(owner);
			muc.enter(ada, room, "ada");
			muc.settle(owner, ada);
			-- The second is of the place that it has given up, which the room told all as a change.
			assert.is_true(count(muc.got(ada, mark), function (el) return el.name == "presence" and muc.has_code(el, "110"); end) <= 2);
			assert.equal(0, count(muc.got(ada, mark), muc.presence_of(room, "ada", "unavailable")));
			assert.equal(0, count(muc.got(owner, seen), muc.presence_of(room, "ada", "unavailable")));
			is_in_once(ctx, room, owner, ada, "hello");
			owner, ada = restart(ctx, how, true, owner, ada);
			is_in_once(ctx, room, owner, ada, "again");
			is_out_when_it_leaves(ctx, room, owner, ada);
		end);

		it("a client whose account is refused stays where it is, by " .. how, function ()
			local ctx, room, owner, ada = in_by_themselves(how);
			assert.equal("conflict", (muc.refused(ada, room, "owner")));
			muc.say(owner, room, "hello");
			ada:expect(muc.groupchat(room, "owner", "hello"));
			assert.truthy(muc.truth(ctx.srv, room).ada);
		end);

		it("a client that joined by itself while it was off is in once, by " .. how, function ()
			local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
			local owner, ada = ctx:resumable { available = true }, ctx:resumable { available = true };
			local room = muc.open(ctx, { owner = owner, config = { ["muc#roomconfig_persistentroom"] = "1" } });
			muc.enter(ada, room, "ada");
			owner, ada = restart(ctx, how, false, owner, ada);
			eventually("out", function () ada:sync(); muc.saw(ada, muc.presence_of(room, "ada", "unavailable")); end, 30);
			eventually("in by itself", function () owner:sync(); assert.is_nil(muc.truth(ctx.srv, room).ada); end);
			if not muc.truth(ctx.srv, room).owner then muc.enter(owner, room, "owner"); end
			muc.enter(ada, room, "ada");
			owner, ada = restart(ctx, how, true, owner, ada);
			eventually("the account is in", function ()
				assert.same({ ada.bare }, t.only(muc.sessions(ctx.srv, room), function (jid) return jid:find(ada.bare, 1, true) == 1; end));
			end);
			assert.equal(0, count(muc.got(ada, 1), muc.presence_of(room, "ada", "unavailable")));
			is_in_once(ctx, room, owner, ada, "hello");
			is_out_when_it_leaves(ctx, room, owner, ada);
		end);
	end
end);
