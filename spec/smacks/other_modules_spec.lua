local t = require "support";
local busted = require "busted";

-- Modules that have a say in what a session sends: each short cut of ours (docs/architecture.md) with those that could mind.

local inactive, active = "<inactive xmlns='urn:xmpp:csi:0'/>", "<active xmlns='urn:xmpp:csi:0'/>";

local function statuses(friend, ...)
	local told = {};
	for _, list in ipairs { ... } do
		for _, p in ipairs(t.only(list, { name = "presence", from = friend.jid })) do
			told[#told + 1] = p:child_text("status") or p.attr.type or "available";
		end
	end
	return told;
end

local function say(friend, status)
	friend:presence(nil, "<status>" .. status .. "</status>");
	friend:sync();
end

local function inactive_with_friend(ctx)
	local a, b = ctx:contacts();
	local c = ctx:resumable { user = a, available = true };
	c:sync();
	c:send(inactive);
	ctx.srv:wait_for(("return session(%q).state == 'inactive'"):format(c.jid));
	local friend = ctx:login { user = b };
	friend:presence();
	friend:sync();
	return c, friend;
end

local function nothing_left(ctx, c)
	c:sync();
	c:ack();
	c:sync();
	assert.falsy(c.closed);
	assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
end

for _, name in ipairs { "throttle_presence", "csi_battery_saver" } do
	t.each("mod_" .. name, { config = "smacks_hibernation_time = 60", modules = { "csi" }, community = { name } }, function (ctx, it)
		it("does not hold back <a/> and <r/>", function ()
			local c, friend = inactive_with_friend(ctx);
			assert.equal("1", c:ask_h());
			say(friend, "held");
			assert.equal("1", c:ask_h());
			c:ack();
			ctx.srv:wait_for(("return not session(%q).awaiting_ack"):format(c.jid));
			assert.equal(true, ctx:field(c.jid, "prosody.hosts[s.host].events.fire_event('c2s-read-timeout', { session = s })"));
			c:expect("r");
			nothing_left(ctx, c);
		end);

		it("what it holds back is in the queue of a client that is gone, also of one that never comes back", function ()
			local c, friend = inactive_with_friend(ctx);
			say(friend, "held");
			local other = ctx:login { user = c.username };
			other:sync();
			ctx:hibernate(c);
			assert.truthy(ctx:field(c.jid, "#s.outgoing_stanza_queue") >= 1);
			say(friend, "while away");
			local d = ctx:resume(c);
			nothing_left(ctx, d);
			local told = statuses(friend, c.seen, d.seen);
			assert.equal("while away", told[#told]);
			assert.equal("held", told[#told - 1]);
		end);

		it("is told that a client which resumes is active, and old news do not come after new ones", function ()
			local c, friend = inactive_with_friend(ctx);
			say(friend, "one");
			-- the old connection is still there
			local d = ctx:resume(c);
			d:sync();
			local told = statuses(friend, c.seen, d.seen);
			assert.equal("one", told[#told]);
			say(friend, "two");
			d:sync();
			told = statuses(friend, d.seen);
			assert.equal("two", told[#told]);
			d:send(active);
			nothing_left(ctx, d);
			told = statuses(friend, d.seen);
			assert.equal("two", told[#told]);
			d:send(inactive);
			ctx.srv:wait_for(("return session(%q).state == 'inactive'"):format(c.jid));
			say(friend, "three");
			d:drain(0.2);
			told = statuses(friend, d.seen);
			assert.equal("two", told[#told]);
			d:send(active);
			nothing_left(ctx, d);
			told = statuses(friend, d.seen);
			assert.equal("three", told[#told]);
		end);
	end);

	t.versions("mod_" .. name .. " and the end of the server", function (start)
		for _, how in ipairs { "terminate", "kill" } do
			busted.it("what was held back is there after a " .. how, function ()
				local ctx = start { config = "smacks_hibernation_time = 60", modules = { "csi" }, community = { name } };
				local c, friend = inactive_with_friend(ctx);
				say(friend, "held");
				if how == "kill" then -- what is held for a client that is connected goes with the process
					ctx:hibernate(c);
					ctx:resumable():sync(); -- acked: all that came before is written
				end
				ctx.srv[how](ctx.srv);
				ctx.srv:launch();
				local d = ctx:resume(c);
				d:sync();
				assert.truthy(table.concat(statuses(friend, c.seen, d.seen), ","):find("held", 1, true));
			end);
		end
	end);
end

t.each("mod_filter_chatstates", {
	config = "smacks_hibernation_time = 60", modules = { "csi" }, community = { "filter_chatstates" },
}, function (ctx, it)
	it("takes out what is then not counted", function ()
		local c, other = ctx:resumable(), ctx:login();
		c:send(inactive);
		c:sync();
		local composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
		other:message(c.jid, nil, nil, composing);
		other:message(c.jid, "text", nil, composing);
		local text = c:expect({ body = "text" });
		assert.is_nil(text:child("composing"));
		c:sync();
		assert.equal(1, c.h);
		nothing_left(ctx, c);
		ctx:hibernate(c);
		other:message(c.jid, "away", nil, composing);
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "away" });
		nothing_left(ctx, d);
	end);
end);

t.each("mod_stanza_debug", { config = "smacks_hibernation_time = 60", modules = { "stanza_debug" } }, function (ctx, it)
	it("sees our elements as well, in both directions", function ()
		local c, other = ctx:resumable(), ctx:login();
		local mark = ctx.srv:log_size();
		other:message(c.jid, "hello");
		c:expect({ body = "hello" });
		c:expect("r");
		c:ack();
		c:sync();
		local log = ctx.srv:log(mark);
		for _, line in ipairs { "SEND: <r ", "RECV: <a ", "RECV: <r ", "SEND: <a " } do
			assert.truthy(log:find(line, 1, true), line);
		end
		nothing_left(ctx, c);
	end);
end);

t.each("mod_limits", {
	config = "smacks_hibernation_time = 60; limits = { c2s = { rate = '20kb/s' } }", modules = { "limits" },
}, function (ctx, it)
	it("slows down what is counted, and acked, all the same", function ()
		local c, other = ctx:resumable(), ctx:resumable();
		for i = 1, 60 do c:message(other.jid, ("x"):rep(400) .. i); end
		assert.equal("60", c:ask_h());
		other:expect({ body = ("x"):rep(400) .. "60" });
		nothing_left(ctx, other);
	end);
end);

t.each("a module that fails when a client gets active", { config = "smacks_hibernation_time = 60", modules = { "csi" } }, function (ctx, it)
	it("does not keep the session from waiting for its client", function ()
		ctx:allow("csi%-client%-active");
		ctx:allow("traceback");
		local c, other = ctx:resumable(), ctx:login();
		ctx.srv:eval("prosody.hosts[a].events.add_handler('csi-client-active', function () error('on purpose') end, 10)", ctx.srv.host);
		c:send(inactive);
		c:sync();
		ctx:hibernate(c);
		other:message(c.jid, "away");
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "away" });
		nothing_left(ctx, d);
	end);
end);
