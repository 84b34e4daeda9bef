-- What a room sends goes to clients as bytes, past session.send() and the filters, where nobody has a say in what a session sends.
-- Where somebody has, it goes their way. Nobody can tell one from the other.
local t = require "support";
local muc = require "support.muc";

local function options(more)
	local opts = {
		events = true; modules = { "csi_simple", "websocket" }; with_http = true;
		config = "smacks_hibernation_time = 60; statistics = \"internal\"";
	};
	for k, v in pairs(more or {}) do opts[k] = v; end
	return opts;
end

-- Lets whatever the session sends through a filter that notes its name, like one that logs stanzas.
local function watch(ctx, c)
	ctx.srv:eval(([[
		local s = session(%q);
		kept[%q] = {};
		require "util.filters".add_filter(s, "stanzas/out", function (stanza)
			table.insert(kept[%q], stanza.name);
			return stanza;
		end, 10);
	]]):format(c.jid, c.jid, c.jid));
end

local function watched(ctx, c)
	local n = { presence = 0, message = 0, iq = 0 };
	for _, name in ipairs(ctx.srv:eval(("return kept[%q]"):format(c.jid))) do n[name] = (n[name] or 0) + 1; end
	return n;
end

-- What a client got from the room, whichever of its account's clients it is, and whichever had joined last.
local function heard(c, room, from)
	local list = {};
	local account = muc.bare(c.jid):gsub("%W", "%%%0");
	for _, el in ipairs(muc.got_from(c, from, room)) do
		assert.equal(c.jid, el.attr.to);
		local to, id = el.attr.to, el.attr.id;
		el.attr.to = nil;
		if el.name == "presence" then el.attr.id = nil; end
		list[#list + 1] = (tostring(el):gsub("jid='"..account.."/[^']+'", "jid='own'"));
		el.attr.to, el.attr.id = to, id;
	end
	return list;
end

local function lively(ctx, room, owner)
	muc.guest(ctx, room, "bob", nil, owner);
	muc.configure(owner, room, { ["muc#roomconfig_whois"] = "anyone" });
	muc.say(owner, room, "before <&>'\"");
end

local function life(ctx, room, owner)
	muc.guest(ctx, room, "it's <eve>", nil, owner);
	muc.say(owner, room, "now");
	muc.say(owner, room, "and <now> & 'then'");
	owner:presence(nil, "<status>busy</status>");
	owner:send(("<presence to='%s'><show>away</show></presence>"):format(room .. "/owner"));
	muc.settle(owner);
end

muc.account("copies as bytes", options(), function (ctx, it)
	local function in_room(opts, more)
		local room, owner = muc.open(ctx);
		lively(ctx, room, owner);
		local first = ctx:resumable { available = true };
		muc.enter(first, room, "ada");
		muc.settle(owner, first);
		opts = opts or {};
		opts.user, opts.available, opts.enable = first.username, true, opts.enable == nil or opts.enable;
		local c = ctx:login(opts);
		if more then more(c); end
		return room, owner, first, c;
	end

	it("are what goes through a filter, to a client that joins and one that is in", function ()
		local room, owner, first, plain = in_room();
		local filtered = ctx:resumable { user = first.username, available = true };
		watch(ctx, filtered);
		muc.enter(plain, room, "ada");
		muc.enter(filtered, room, "ada");
		life(ctx, room, owner);
		muc.settle(owner, plain, filtered, first);
		assert.same(heard(plain, room), heard(filtered, room));
		local n = watched(ctx, filtered);
		assert.equal(5, n.presence);
		assert.truthy(n.message >= 4, n.message);
		assert.equal(9, #heard(plain, room));
		for _, c in ipairs { plain, filtered, first } do
			c:ack();
			c:sync();
			assert.falsy(c.closed);
			assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		end
	end);

	it("are the same without stream management, and over WebSocket", function ()
		local room, owner, first, unmanaged = in_room { enable = false };
		local framed = ctx:login { user = first.username, available = true, how = "websocket", enable = true };
		local held = ctx:login { user = first.username, available = true };
		watch(ctx, held);
		for _, c in ipairs { unmanaged, framed, held } do muc.enter(c, room, "ada"); end
		life(ctx, room, owner);
		muc.settle(owner, unmanaged, framed, held);
		assert.same(heard(held, room), heard(unmanaged, room));
		assert.same(heard(held, room), heard(framed, room));
		framed:ack();
		framed:sync();
		assert.equal(0, ctx:field(framed.jid, "#s.outgoing_stanza_queue"));
	end);

	it("go where session.send() is another module's", function ()
		local room, owner, _, c = in_room();
		ctx.srv:eval(([[
			local s = session(%q);
			local send = s.send;
			kept.sent = 0;
			function s.send(stanza) kept.sent = kept.sent + 1; return send(stanza); end
		]]):format(c.jid));
		muc.enter(c, room, "ada");
		local before = ctx.srv:eval("return kept.sent");
		assert.truthy(before >= 4, before);
		muc.say(owner, room, "m1");
		c:expect({ body = "m1" });
		assert.equal(before + 1, ctx.srv:eval("return kept.sent"));
	end);

	it("wait for an inactive client as presence does, and come before what is important", function ()
		local room, owner, _, c = in_room();
		muc.enter(c, room, "ada");
		c:sync();
		c:send("<inactive xmlns='urn:xmpp:csi:0'/>");
		c:send(" ");
		ctx.srv:wait_for(("return session(%q).state == 'inactive'"):format(c.jid));
		local mark = muc.mark(c);
		owner:send(("<presence to='%s'><status>quiet</status></presence>"):format(room .. "/owner"));
		muc.settle(owner);
		c:drain(0.2);
		assert.same({}, muc.got(c, mark, { name = "presence" }));
		muc.say(owner, room, "ada: important");
		c:expect({ body = "ada: important" });
		assert.equal(1, #muc.got(c, mark, { name = "presence" }));
	end);

	it("are queued for a client that is away, and each is told of", function ()
		local room, owner, first, c = in_room();
		muc.enter(c, room, "ada");
		c:ack();
		c:sync();
		ctx:hibernate(c);
		local queued = ctx:field(c.jid, "#s.outgoing_stanza_queue");
		ctx:clear_events();
		muc.say(owner, room, "m1");
		muc.say(owner, room, "m2");
		owner:send(("<presence to='%s'><status>s</status></presence>"):format(room .. "/owner"));
		muc.settle(owner, first);
		local events = ctx:events("smacks-hibernation-stanza-queued", c.jid);
		assert.equal(3, #events);
		assert.equal(queued + 3, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		for i, what in ipairs { "m1", "m2", "<status>s" } do assert.truthy(events[i].stanza:find(what, 1, true), events[i].stanza); end
		local back = ctx:resume(c);
		back:sync();
		assert.same({ "m1", "m2" }, t.bodies(back.seen));
		assert.equal(1, #muc.got(back, 1, muc.presence_of(room, "owner")));
	end);

	it("come, but for the one that a filter fails with", function ()
		local room, _, _, c = in_room();
		ctx:allow("no bobs here");
		ctx.srv:eval(([[
			function kept.fail(stanza)
				if (stanza.attr.from or ""):find("/bob", 1, true) then error("no bobs here"); end
				return stanza;
			end
			require "util.filters".add_filter(session(%q), "stanzas/out", kept.fail, 10);
		]]):format(c.jid));
		local entry = muc.enter(c, room, "ada");
		ctx.srv:eval(('require "util.filters".remove_filter(session(%q), "stanzas/out", kept.fail)'):format(c.jid));
		assert.same({ "owner" }, entry.nicks);
	end);

	it("go out together, and each has its line in the log", function ()
		local room, _, _, c = in_room();
		ctx.srv:eval(([[
			local s = session(%q);
			local rawsend = s.rawsend;
			kept.most = 0;
			function s.rawsend(data)
				local _, n = tostring(data):gsub("</presence>", "");
				kept.most = math.max(kept.most, n);
				return rawsend(data);
			end
		]]):format(c.jid));
		local from = ctx.srv:log_size();
		local id = ctx:field(c.jid, "s.id");
		local entry = muc.enter(c, room, "ada");
		c:sync();
		local lines = 0;
		for line in ctx.srv:log(from):gmatch("[^\n]+") do
			if line:find(id, 1, true) and line:match("Sending%[c2s%]: <%a+ .*>$") and line:find(room, 1, true) then lines = lines + 1; end
		end
		assert.equal(#entry.all, lines);
		assert.equal(#entry.others + 1, ctx.srv:eval("return kept.most"));
	end);
end);
