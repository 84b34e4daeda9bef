-- Rooms of this server, of which the server is killed in the middle of everything that goes on in them: talk, joins, kicks, bans,
-- other nicknames, roles and configurations. Clients do as clients do: they resume, and send again what was not acknowledged. In
-- the end each room is what its clients were told, and no message that was said is missing to who stayed, or came twice but
-- for its having been sent twice.

local socket = require "socket";
local muc = require "support.muc";
local t = require "support";

local steps = tonumber(os.getenv("ENJAMB_STRESS")) or 400;
local kills = tonumber(os.getenv("ENJAMB_KILLS")) or 10;
local seed = tonumber(os.getenv("ENJAMB_SEED")) or os.time();

-- Somebody with a client, over all its connections.
local Person = {};
Person.__index = Person;

-- Counts and keeps what is sent, to send it again.
local function watch(p)
	local c = p.c;
	local send = c.send;
	c.send = function (self, text)
		if text:match("^<[ipm][qre]") then p.sent[#p.sent+1] = text; end
		return send(self, text);
	end;
end

local function person(ctx, nick, user)
	local p = setmetatable({ nick = nick, sent = {}, seen = {}, from = 1, again = {}, refused = {}, ctx = ctx }, Person);
	p.user = user or ctx:user();
	p.c = ctx:login { user = p.user };
	p.c:enable { resume = "true" };
	watch(p);
	p.c:presence();
	return p;
end

function Person:look()
	for i = self.from, #self.c.seen do
		local el = self.c.seen[i];
		self.seen[#self.seen+1] = el;
		if el.name == "message" and el.attr.type == "error" and el.attr.id then self.refused[el.attr.id] = true; end
	end
	self.from = #self.c.seen + 1;
end

local t0 = socket.gettime();
local function note(p, fmt, ...) table.insert(p.seen, setmetatable({ name = ("%.3f "):format(socket.gettime() - t0)..fmt:format(...), attr = {}, is_stanza = function () return false end }, { __tostring = function (x) return "---- " .. x.name end })); end
local function dump(p, room)
	local f = io.open("/tmp/crash-dump.txt", "w");
	f:write(p.c.jid, " ", p.nick, "\n");
	for i, el in ipairs(p.seen) do f:write(i, " ", tostring(el), "\n"); end
	f:write("SENT\n");
	for i, x in ipairs(p.sent) do f:write(i, " ", x, "\n"); end
	f:close();
end

-- What a kill left in the sockets counts.
function Person:lose()
	self.c:drain(0.02);
	self:look();
	self.c:cut();
	note(self, "lost at h %d", self.c.h);
end

function Person:come_back()
	local old = self.c;
	self.c = self.ctx:authenticated(self.user);
	self.from = #self.c.seen + 1;
	self.c:resume(old);
	watch(self);
	note(self, "back, I had h %s, it has %s of %d", old.h, self.c.resumed.attr.h, #self.sent);
	local send = getmetatable(self.c).__index.send;
	for i = tonumber(self.c.resumed.attr.h) + 1, #self.sent do
		local id = self.sent[i]:match("^<message[^>]* id='([^']*)'");
		if id then self.again[id] = (self.again[id] or 0) + 1; end
		send(self.c, self.sent[i]);
	end
end

function Person:picture(room)
	self:look();
	return muc.picture(self, room);
end

-- Under which nickname somebody of that name is there, as this one sees it.
function Person:sees(room, nick)
	for other in pairs(self:picture(room)) do
		if other:match("^%a+") == nick then return other; end
	end
end

local function run(ctx)
	math.randomseed(seed);
	local rooms = { muc.new_room(), muc.new_room() };
	local owner = person(ctx, "owner");
	-- Those who stay, one with two devices; and those who come, go and are thrown out.
	local stayers = { owner, person(ctx, "anna"), person(ctx, "ben") };
	stayers[4] = muc.minimix and ctx.srv.opts.minimix and person(ctx, "ben", stayers[3].user) or nil;
	local movers = { person(ctx, "xenia"), person(ctx, "yann"), person(ctx, "zoe") };
	local all = {};
	for _, p in ipairs(stayers) do all[#all+1] = p; end
	for _, p in ipairs(movers) do all[#all+1] = p; end
	for i, room in ipairs(rooms) do
		muc.enter(owner.c, room, "owner");
		muc.configure(owner.c, room, { ["muc#roomconfig_persistentroom"] = i == 1 and "1" or "0" });
		for _, p in ipairs(stayers) do
			if p ~= owner then muc.enter(p.c, room, p.nick); end
		end
	end

	local said = {};
	local names = { "", "2", "3" };
	local affiliations, roles = { "none", "member", "admin" }, { "visitor", "participant" };

	local function any(list) return list[math.random(#list)]; end
	local function admin(room, item)
		owner.c:send(("<iq type='set' id='%s' to='%s'><query xmlns='%s'><item %s/></query></iq>"):format(t.client.id(), room, muc.ns_admin, item));
	end

	local function step(n)
		local room, dice = any(rooms), math.random(100);
		if dice <= 45 then
			local p = any(all);
			local id = "m" .. n;
			said[#said+1] = { id = id, by = p, room = room };
			muc.say(p.c, room, id, { id = id });
		elseif dice <= 58 then
			local p = any(movers);
			muc.join(p.c, room, p.nick .. any(names), { history = { maxstanzas = "0" } });
		elseif dice <= 66 then
			local p = any(movers);
			p.c:send(("<presence type='unavailable' to='%s/%s'/>"):format(room, p.nick));
		elseif dice <= 74 then
			local p = any(stayers);
			p.c:send(("<presence to='%s/%s%s'><status>%d</status></presence>"):format(room, p.nick, any(names), n));
		elseif dice <= 80 then
			local nick = owner:sees(room, any(movers).nick);
			if nick then admin(room, ("nick='%s' role='none'"):format(nick)); end
		elseif dice <= 84 then
			admin(room, ("jid='%s' affiliation='%s'"):format(any(movers).c.bare, any { "outcast", "none" }));
		elseif dice <= 88 then
			local p = any(all);
			if p ~= owner then admin(room, ("jid='%s' affiliation='%s'"):format(p.c.bare, any(affiliations))); end
		elseif dice <= 92 then
			local nick = owner:sees(room, any(all).nick);
			if nick and not nick:match("^owner") then admin(room, ("nick='%s' role='%s'"):format(nick, any(roles))); end
		elseif dice <= 96 then
			owner.c:send(("<message type='groupchat' id='s%d' to='%s'><subject>s%d</subject></message>"):format(n, room, n));
		else
			owner.c:send(([[<iq type='set' id='%s' to='%s'><query xmlns='%s'><x xmlns='jabber:x:data' type='submit'>
				<field var='FORM_TYPE'><value>%s</value></field><field var='muc#roomconfig_roomname'><value>n%d</value></field>
				<field var='muc#roomconfig_moderatedroom'><value>%d</value></field></x></query></iq>]]):format(t.client.id(), room, muc.ns_owner,
				muc.ns_config, n, math.random(0, 1)));
		end
	end

	local function kill()
		-- now and then in the ordinary way
		if math.random(4) == 1 then ctx.srv:terminate(); else ctx.srv:kill(); end
		for _, p in ipairs(all) do p:lose(); end
		ctx.srv:launch();
		for _, p in ipairs(all) do p:come_back(); end
	end

	for n = 1, steps do
		step(n);
		local dice = math.random(10);
		if dice == 1 then any(all).c:sync();
		elseif dice == 2 then
			local p = any(all);
			p.c:drain(0);
			p.c:ack();
		end
		if n % (steps // kills) == 0 then kill(); end
	end
	local function settle()
		for _ = 1, 3 do
			for _, p in ipairs(all) do p.c:sync(30); p:look(); end
		end
	end
	settle();
	local how = "seed " .. seed;
	for _, room in ipairs(rooms) do
		local truth = muc.truth(ctx.srv, room);
		local inside = {};
		for _, real in ipairs(muc.sessions(ctx.srv, room)) do inside[muc.bare(real)] = true; end
		local subject = ctx.srv:eval([[
			local _, text = host_module("rooms.localhost", "muc").get_room_from_jid(a):get_subject();
			return text or "";
		]], room);
		for _, p in ipairs(all) do
			local who = ("%s in %s\n%s"):format(p.c.jid, room, how);
			local picture = p:picture(room);
			if not pcall(assert.same, inside[p.c.bare] and truth or {}, picture) then dump(p, room); end
			assert.same(inside[p.c.bare] and truth or {}, picture, who);
		end
		for _, p in ipairs(stayers) do
			local heard, last = {}, "";
			for _, el in ipairs(p.seen) do
				if el.name == "message" and el.attr.type == "groupchat" and muc.bare(el.attr.from) == room then
					local body = el:body();
					if body then heard[body] = (heard[body] or 0) + 1; end
					if el:child("subject") and not body then last = el:child_text("subject") or ""; end
				end
			end
			if subject ~= last then dump(p, room); end
			assert.equal(subject, last, p.c.jid .. how);
			for _, one in ipairs(said) do
				local is_stayer = one.by.nick:match("^[aob]");
				if one.room == room then
					local times = heard[one.id] or 0;
					local who = ("%s of %s to %s\n%s"):format(one.id, one.by.c.jid, p.c.jid, how);
					assert.is_true(times <= 1 + (one.by.again[one.id] or 0), times .. " times: " .. who);
					-- one who is not in it, or has no voice, was told so
					if not one.by.refused[one.id] and (is_stayer or not one.by.again[one.id]) then
						assert.is_true(times >= 1, "missing: " .. who);
					end
				end
			end
		end
	end
end

for _, with in ipairs { true, false } do
	local config = "smacks_hibernation_time = 300\nsmacks_max_queue_size = 10000";
	t.versions("rooms of this server, killed " .. kills .. " times" .. (with and ", of accounts" or ""), function (start)
		require "busted".it("are what their clients were told", function ()
			if with and not muc.minimix then return; end
			local options = muc.options { config = config };
			options.minimix = with;
			local ctx = start(options);
			run(ctx);
			assert.same({}, ctx:log_errors(0));
		end);
	end);
end
