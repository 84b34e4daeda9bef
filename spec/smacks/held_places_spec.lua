local t = require "support";
local muc = require "support.muc";
local it = require "busted".it;

-- Places in rooms of this server that are held for a client that has logged in anew under its resource: for what it sends it is not in
-- the room until it has joined, and the others are told nothing while it may.

local config = 'Component "rooms.localhost" "muc"\nmuc_room_locking = false\nrestrict_room_creation = false\n';
local ping = "<ping xmlns='urn:xmpp:ping'/>";

local function anew(ctx, c)
	local again = ctx:connect():authenticate(c.username, "secret");
	again:bind(c.jid:match("/(.*)"));
	again:presence();
	again:sync();
	return again;
end

local function condition(el)
	assert.equal("error", el.attr.type, tostring(el));
	return (t.condition(el:child("error")));
end

-- What the owner was told of that nickname since then.
local function told_of(owner, from, room, nick)
	muc.settle(owner);
	return muc.got(owner, from, function (e) return e.attr.from == room .. "/" .. nick; end);
end

t.versions("a place that is held for a client", function (start)
	local function begin(minimix)
		local ctx = start { extra = config, minimix = minimix };
		local room, owner, alice = muc.new_room(), ctx:resumable { available = true }, ctx:resumable { available = true };
		muc.enter(owner, room, "owner");
		muc.enter(alice, room, "alice");
		muc.settle(owner, alice);
		return ctx, room, owner, alice, muc.mark(owner);
	end

	for with, minimix in pairs { [""] = false, [", with mod_minimix"] = true } do
		it("is none that it can speak from before it has joined" .. with, function ()
			local ctx, room, owner, alice, mark = begin(minimix);
			local again = anew(ctx, alice);
			assert.equal("not-acceptable", condition(again:iq("get", ping, room .. "/alice")));
			assert.equal("not-acceptable", condition(again:iq("get", ping, room .. "/owner")));
			muc.say(again, room, "too early");
			assert.equal("not-acceptable", condition(again:expect({ name = "message", type = "error" })));
			again:message(room .. "/owner", "whispered", { type = "chat" });
			assert.equal("not-acceptable", condition(again:expect({ name = "message", type = "error" })));
			again:send(("<presence to='%s/alice'><show>away</show></presence>"):format(room));
			assert.equal("item-not-found", condition(again:expect({ name = "presence", type = "error" })));
			assert.same({}, told_of(owner, mark, room, "alice"));
			-- what it is asked it may answer
			owner:send(("<iq type='get' id='asked' to='%s/alice'>%s</iq>"):format(room, ping));
			local asked = again:expect({ name = "iq", type = "get" });
			again:send(("<iq type='result' id='%s' to='%s'/>"):format(asked.attr.id, asked.attr.from));
			assert.equal("result", owner:expect({ name = "iq", id = "asked" }).attr.type);
			local mark_now = muc.mark(owner);
			assert.same({ "owner" }, muc.enter(again, room, "alice").nicks);
			assert.same({}, told_of(owner, mark_now, room, "alice"));
			assert.equal("result", again:iq("get", ping, room .. "/alice").attr.type);
			muc.say(again, room, "in time");
			muc.all_hear({ owner, again }, room, "alice", "in time");
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("has to be asked for with the password that the room has now", function ()
		local ctx, room, owner, alice, mark = begin();
		local again = anew(ctx, alice);
		muc.configure(owner, room, { ["muc#roomconfig_passwordprotectedroom"] = "1", ["muc#roomconfig_roomsecret"] = "word" });
		muc.join(again, room, "alice");
		assert.equal("not-authorized", condition(again:expect({ name = "presence", type = "error" })));
		muc.enter(again, room, "alice", { password = "word" });
		assert.same({}, told_of(owner, mark, room, "alice"));
	end);

	it("is left by one that joins under another nickname, or says that it is gone", function ()
		local ctx, room, owner, alice = begin();
		local again = anew(ctx, alice);
		muc.enter(again, room, "alicia");
		owner:expect(muc.presence_of(room, "alice", "unavailable"));
		owner:expect(muc.presence_of(room, "alicia"));
		muc.in_step(ctx, room, owner);
		again = anew(ctx, again);
		muc.leave(again, room, "alicia");
		owner:expect(muc.presence_of(room, "alicia", "unavailable"));
		-- the last one there, whose room ends with it and is made anew
		again = anew(ctx, owner);
		muc.enter(again, room, "boss");
		muc.in_step(ctx, room, again);
		assert.equal("moderator", muc.truth(ctx.srv, room).boss.role);
		assert.is_nil(muc.truth(ctx.srv, room).owner);
		assert.same({}, ctx:log_errors(0));
	end);

	it("is given up in time when a module is reloaded meanwhile, and at once when the module is unloaded", function ()
		local ctx, room, owner, alice = begin();
		local again = anew(ctx, alice);
		for _, module in ipairs { "muc_enjamb", "muc" } do
			local mark = muc.mark(owner);
			assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.reload('rooms.localhost', a) ~= nil", module));
			assert.equal("not-acceptable", condition(again:iq("get", ping, room .. "/alice")));
			assert.same({}, told_of(owner, mark, room, "alice"));
		end
		owner:expect(muc.presence_of(room, "alice", "unavailable"), 17);
		assert.is_nil(muc.truth(ctx.srv, room).alice);
		muc.enter(again, room, "alice");
		owner:expect(muc.presence_of(room, "alice"));
		again = anew(ctx, again);
		assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.unload('rooms.localhost', 'muc_enjamb') ~= nil"));
		owner:expect(muc.presence_of(room, "alice", "unavailable"));
		assert.is_nil(muc.truth(ctx.srv, room).alice);
		muc.enter(again, room, "alice");
		assert.same({}, ctx:log_errors(0));
	end);
end);
