local t = require "support";
local socket = require "socket";
local it = require "busted".it;

-- Rooms of this server outlive it: after a restart each is as it was, nobody has left it, and nobody is told anything but what
-- changed.

local ns_muc = "http://jabber.org/protocol/muc";
local ns_user, ns_admin, ns_owner = ns_muc .. "#user", ns_muc .. "#admin", ns_muc .. "#owner";

local function service(options)
	return table.concat({ 'Component "rooms.localhost" "muc"', 'muc_room_locking = false', 'restrict_room_creation = false', options or "" }, "\n");
end

local function jid_of(name)
	return name .. "@rooms.localhost";
end

local function join(c, room, nick, extra)
	c:send(("<presence to='%s/%s'><x xmlns='%s'>%s</x></presence>"):format(room, nick, ns_muc, extra or "<history maxstanzas='0'/>"));
end

local function enter(c, room, nick, extra)
	join(c, room, nick, extra);
	c:expect({ name = "presence", from = room .. "/" .. nick });
	c:expect(function (e) return e.name == "message" and e:child("subject") ~= nil; end);
end

local function say(c, room, body)
	c:message(room, body, { type = "groupchat" });
	c:expect({ body = body });
end

local function set_subject(c, room, subject)
	c:send(("<message to='%s' type='groupchat'><subject>%s</subject></message>"):format(room, subject));
	c:expect(function (e) return e.name == "message" and e:child_text("subject") == subject; end);
end

local function admin(c, room, item)
	assert.equal("result", c:iq("set", ("<query xmlns='%s'><item %s/></query>"):format(ns_admin, item), room).attr.type);
end

local function configure(c, room, fields)
	local text = { ("<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#roomconfig</value></field>"):format(
		ns_owner, ns_muc) };
	for name, value in pairs(fields) do
		text[#text+1] = ("<field var='muc#roomconfig_%s'><value>%s</value></field>"):format(name, value);
	end
	assert.equal("result", c:iq("set", table.concat(text) .. "</x></query>", room).attr.type);
end

local function destroy(c, room)
	assert.equal("result", c:iq("set", ("<query xmlns='%s'><destroy/></query>"):format(ns_owner), room).attr.type);
end

-- All that a room is, as text; nil if there is none.
local function room_is(ctx, name)
	return ctx.srv:eval([[
		local room = prosody.hosts["rooms.localhost"].modules.muc.get_room_from_jid(a);
		if not room then return nil; end
		local lines = {};
		local function add(...) lines[#lines+1] = table.concat({ ... }, " "); end
		for nick, occupant in room:each_occupant() do
			add("occupant", nick, occupant.role, occupant.bare_jid, occupant.jid);
			for jid, presence in occupant:each_session() do
				local attr = {};
				for k, v in pairs(presence.attr) do attr[#attr+1] = k.."="..v; end
				table.sort(attr);
				local id = presence:get_child("occupant-id", "urn:xmpp:occupant-id:0");
				add("session", nick, jid, table.concat(attr, " "), #presence, tostring(presence:get_child("show")), tostring(presence:get_child("status")),
					id and id.attr.id or "");
			end
		end
		for jid, affiliation in room:each_affiliation() do add("affiliation", jid, affiliation); end
		for k, v in pairs(room._data) do add("data", k, tostring(v)); end
		for i, entry in ipairs(room._history or {}) do
			add("history", ("%03d"):format(i), entry.stanza.attr.from, tostring(entry.stanza:get_child_text("body")), tostring(entry.timestamp));
		end
		table.sort(lines);
		return table.concat(lines, "\n");
	]], jid_of(name));
end

local function stop(ctx, how)
	if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
end

-- Edits what mod_muc has stored of a room, of a server that does not run.
local function edit_stored(ctx, name, edit)
	local path = ("%s/data/rooms%%2elocalhost/config/%s.dat"):format(ctx.srv.dir, name);
	local file = assert(io.open(path));
	local text = file:read("a");
	file:close();
	local edited = edit(text);
	assert(edited ~= text, text);
	file = assert(io.open(path, "w"));
	file:write(edited);
	file:close();
end

-- All that was sent has come in, and is acknowledged, both ways.
local function settle(...)
	for _ = 1, 2 do
		for _, c in ipairs { ... } do
			c:sync();
			if c.counting then c:ask_h(); c:ack(); c:sync(); end
		end
	end
end

-- Presences and messages that a client has seen, as text.
local function told(c, from)
	local out = {};
	for i = from or 1, #c.seen do
		local e = c.seen[i];
		if e.name == "presence" or e.name == "message" then
			out[#out+1] = ("%s %s %s %s"):format(e.name, e.attr.from or "", e.attr.type or "", e:body() or "");
		end
	end
	return out;
end

local function codes_of(presence)
	local codes = {};
	for _, status in ipairs(presence:child("x", ns_user):children()) do
		if status.name == "status" then codes[#codes+1] = status.attr.code; end
	end
	table.sort(codes);
	return table.concat(codes, " ");
end

local function resume_all(ctx, clients)
	local out = {};
	for name, c in pairs(clients) do
		ctx.srv:wait_hibernating(c.jid);
		out[name] = ctx:resume(c);
	end
	for _, c in pairs(out) do c:sync(); c:drain(0.1); end
	return out;
end

t.versions("rooms of this server", function (start)
	for _, storage in ipairs { "internal", "memory" } do
		for _, how in ipairs { "SIGTERM", "kill -9" } do
			it(("are as they were, and nobody is told anything (%s, storage %s)"):format(how, storage), function ()
				local ctx = start { config = "smacks_hibernation_time = 60", extra = service(('storage = %q'):format(storage)) };
				local owner, alice, bob = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:resumable { available = true };
				local out = ctx:resumable { available = true };
				local carol1 = ctx:resumable { available = true };
				local carol2 = ctx:resumable { user = carol1.username, available = true };
				local clients = { owner = owner, alice = alice, bob = bob, out = out, carol1 = carol1, carol2 = carol2 };
				local names = { "talk", "lasting", "secret", "closed", "gone", "empty" };
				for _, name in ipairs(names) do
					enter(owner, jid_of(name), "owner");
				end
				local talk = jid_of "talk";
				for i = 1, 25 do say(owner, talk, "m" .. i); end
				configure(owner, jid_of "lasting", { persistentroom = 1, roomname = "Lasting" });
				configure(owner, jid_of "secret", { roomsecret = "word", passwordprotectedroom = 1, publicroom = 0 });
				configure(owner, jid_of "closed", { membersonly = 1 });
				admin(owner, jid_of "closed", ("jid='%s' affiliation='member'"):format(alice.bare));
				for _, name in ipairs { "talk", "lasting", "closed" } do enter(alice, jid_of(name), "alice"); end
				for _, name in ipairs { "talk", "lasting" } do enter(bob, jid_of(name), "bob"); end
				enter(bob, jid_of "secret", "bob", "<password>word</password>");
				enter(carol1, talk, "carol");
				enter(carol2, talk, "carol");
				alice:send(("<presence to='%s/alice'><show>away</show><status>a &lt; b</status></presence>"):format(talk));
				enter(out, jid_of "lasting", "out");
				enter(out, jid_of "secret", "kicked", "<password>word</password>");
				enter(owner, jid_of "left", "owner");
				configure(owner, jid_of "left", { persistentroom = 1 });
				owner:send(("<presence to='%s/owner' type='unavailable'/>"):format(jid_of "left"));
				settle(owner, alice, bob, carol1, carol2, out);
				-- just before: what is acknowledged is never forgotten
				bob:send(("<presence to='%s/robert'/>"):format(talk));
				bob:expect({ name = "presence", from = talk .. "/robert" });
				set_subject(owner, talk, "the subject");
				admin(owner, jid_of "lasting", ("jid='%s' affiliation='outcast'"):format(out.bare));
				admin(owner, jid_of "secret", "nick='kicked' role='none'");
				admin(owner, jid_of "lasting", ("jid='%s' affiliation='admin'"):format(bob.bare));
				admin(owner, talk, "nick='alice' role='visitor'");
				configure(owner, talk, { moderatedroom = 1, historylength = 30 });
				destroy(owner, jid_of "gone");
				owner:send(("<presence to='%s/owner' type='unavailable'/>"):format(jid_of "empty"));
				say(owner, talk, "last words");
				settle(owner, alice, bob, carol1, carol2, out);
				local before = {};
				for _, name in ipairs(names) do before[name] = room_is(ctx, name); end
				assert.is_nil(before.gone);
				assert.is_nil(before.empty);
				before.left = storage == "internal" and room_is(ctx, "left") or nil;
				stop(ctx, how);
				ctx.srv:launch();
				local resumed = resume_all(ctx, clients);
				for name, c in pairs(resumed) do assert.same({}, told(c), name); end
				for _, name in ipairs(names) do assert.equal(before[name], room_is(ctx, name)); end
				assert.is_not_nil(room_is(ctx, "left"));
				-- and they go on
				say(resumed.owner, talk, "again");
				for _, c in pairs { resumed.alice, resumed.bob, resumed.carol1, resumed.carol2 } do c:expect({ body = "again" }); end
				resumed.alice:message(talk, "as a visitor", { type = "groupchat" });
				assert.equal("forbidden", (t.condition(resumed.alice:expect({ type = "error" }):child("error"))));
				resumed.bob:message(talk, "here", { type = "groupchat" });
				assert.equal(talk .. "/robert", resumed.alice:expect({ body = "here" }).attr.from);
				local late = ctx:login { available = true };
				enter(late, talk, "late", "");
				assert.equal(20, #t.bodies(late.seen));
				join(late, jid_of "secret", "late");
				assert.equal("not-authorized", (t.condition(late:expect({ type = "error" }):child("error"))));
				assert.same({}, ctx:log_errors(0));
			end);
		end
	end

	it("are as they were after one restart upon another", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(alice, room, "alice");
		for i, how in ipairs { "kill -9", "SIGTERM", "kill -9", "kill -9", "SIGTERM" } do
			set_subject(owner, room, "subject " .. i);
			say(owner, room, "m" .. i);
			settle(owner, alice);
			local before = room_is(ctx, "room");
			stop(ctx, how);
			ctx.srv:launch();
			local resumed = resume_all(ctx, { owner = owner, alice = alice });
			owner, alice = resumed.owner, resumed.alice;
			assert.same({}, told(owner));
			assert.same({}, told(alice));
			assert.equal(before, room_is(ctx, "room"));
		end
		assert.same({}, ctx:log_errors(0));
	end);

	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("have nobody back whom what is stored of them does not let in any more (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
			local owner, alice, bob, carol = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:resumable { available = true },
				ctx:resumable { available = true };
			local open, closed, members = jid_of "open", jid_of "closed", jid_of "members";
			for _, room in ipairs { open, closed, members } do
				enter(owner, room, "owner");
				configure(owner, room, { persistentroom = 1, membersonly = room == members and 1 or 0 });
				for _, c in ipairs { alice, bob, carol } do
					if room == members then admin(owner, room, ("jid='%s' affiliation='member'"):format(c.bare)); end
					enter(c, room, c == alice and "alice" or c == bob and "bob" or "carol");
				end
			end
			admin(owner, closed, ("jid='%s' affiliation='member'"):format(bob.bare));
			admin(owner, open, "nick='carol' role='visitor'");
			settle(owner, alice, bob, carol);
			stop(ctx, how);
			edit_stored(ctx, "open", function (text)
				return (text:gsub('%["_jid"%]', ('["%s"] = "outcast"; ["%s"] = "admin"; ["_jid"]'):format(alice.bare, bob.bare), 1));
			end);
			edit_stored(ctx, "closed", function (text) return (text:gsub('%["_data"%] = {', '%0 ["members_only"] = true;', 1)); end);
			edit_stored(ctx, "members", function (text) return (text:gsub('%["' .. alice.bare .. '"%] = "member";', "", 1)); end);
			ctx.srv:launch();
			local resumed = resume_all(ctx, { owner = owner, alice = alice, bob = bob, carol = carol });
			local function changes(c)
				local list = {};
				for _, p in ipairs(t.only(c.seen, "presence")) do
					list[#list+1] = ("%s %s %s"):format(p.attr.from, p.attr.type or p:child("x", ns_user):child("item").attr.role, codes_of(p));
				end
				table.sort(list);
				return list;
			end
			assert.same({ closed .. "/alice unavailable 322", closed .. "/carol unavailable 322", members .. "/alice unavailable 321",
				open .. "/alice unavailable 301", open .. "/bob moderator " }, changes(resumed.owner));
			assert.same({ closed .. "/alice unavailable 110 322", members .. "/alice unavailable 110 321", open .. "/alice unavailable 110 301" },
				changes(resumed.alice));
			for _, room in ipairs { open, closed, members } do
				resumed.alice:message(room, "hello", { type = "groupchat" });
				assert.equal("not-acceptable", (t.condition(resumed.alice:expect({ type = "error" }):child("error"))));
			end
			-- a role that somebody was given by a moderator is as it was
			assert.matches("occupant open@rooms.localhost/carol visitor", room_is(ctx, "open"), 1, true);
			say(resumed.bob, open, "still here");
			resumed.carol:expect({ body = "still here" });
			-- and once only
			settle(table.unpack { resumed.owner, resumed.bob });
			stop(ctx, how);
			ctx.srv:launch();
			for name, c in pairs(resume_all(ctx, resumed)) do assert.same({}, told(c), name); end
			assert.same({}, ctx:log_errors(0));
		end);
	end

	for _, tombstones in ipairs { "true", "false" } do
		it("that were destroyed in a run without Enjamb stay so, and their clients are told (muc_tombstones = " .. tombstones .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = service("muc_tombstones = " .. tombstones) };
			local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
			local gone, stays, passing = jid_of "gone", jid_of "stays", jid_of "passing";
			for _, room in ipairs { gone, stays, passing } do
				enter(owner, room, "owner");
				if room ~= passing then configure(owner, room, { persistentroom = 1 }); end
				enter(alice, room, "alice");
			end
			settle(owner, alice);
			ctx.srv:kill();
			ctx.srv:rewrite_config { smacks = false };
			ctx.srv:launch();
			local again = ctx:login { user = owner.username, available = true };
			enter(again, gone, "owner");
			destroy(again, gone);
			ctx.srv:terminate();
			ctx.srv:rewrite_config { smacks = true };
			local clients = { owner = owner, alice = alice };
			for time = 1, 2 do
				ctx.srv:launch();
				local resumed = resume_all(ctx, clients);
				clients = resumed;
				for name, c in pairs(resumed) do
					local out = {};
					for i, p in ipairs(t.only(c.seen, "presence")) do out[i] = p.attr.from .. " " .. codes_of(p); end
					assert.same(time == 1 and { gone .. "/" .. name .. " 110 332" } or {}, out);
				end
				assert.equal(2, select(2, room_is(ctx, "stays"):gsub("occupant ", "")));
				assert.equal(2, select(2, room_is(ctx, "passing"):gsub("occupant ", "")));
				assert.equal(tombstones == "false", room_is(ctx, "gone") == nil);
				resumed.alice:message(gone, "anybody?", { type = "groupchat" });
				assert.equal(tombstones == "true" and "gone" or "item-not-found", (t.condition(resumed.alice:expect({ type = "error" }):child("error"))));
				settle(resumed.owner, resumed.alice);
				ctx.srv:kill();
			end
			assert.same({}, ctx:log_errors(0));
		end);
	end

	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("that were not there for a run do not have those for occupants who were told that they are out (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
			local owner, alice, bob = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:resumable { available = true };
			local clients, room = { owner = owner, alice = alice, bob = bob }, jid_of "room";
			enter(owner, room, "owner");
			configure(owner, room, { persistentroom = 1 });
			enter(alice, room, "alice");
			enter(bob, room, "bob");
			settle(owner, alice, bob);
			stop(ctx, how);
			ctx.srv:rewrite_config { extra = "" };
			ctx.srv:launch();
			local resumed = resume_all(ctx, { owner = owner, alice = alice }); -- bob is not back yet
			for name, c in pairs(resumed) do
				local seen = t.only(c.seen, "presence");
				assert.same({ room .. "/" .. name .. " 110 332" }, { seen[1].attr.from .. " " .. codes_of(seen[1]), seen[2] });
				settle(c);
				clients[name] = c;
			end
			stop(ctx, how);
			ctx.srv:rewrite_config { extra = service() };
			ctx.srv:launch();
			resumed = resume_all(ctx, clients);
			assert.same({}, told(resumed.owner));
			assert.same({}, told(resumed.alice));
			assert.same({ ("presence %s/bob unavailable "):format(room) }, told(resumed.bob));
			assert.is_nil(room_is(ctx, "room"):match("occupant "));
			-- who joins again is in it again, and after the next restart as well
			enter(resumed.alice, room, "alice");
			settle(resumed.alice);
			stop(ctx, how);
			ctx.srv:launch();
			alice = resume_all(ctx, { alice = resumed.alice }).alice;
			assert.same({}, told(alice));
			say(alice, room, "here");
			assert.same({}, ctx:log_errors(0));
		end);
	end

	-- A room with an owner who has resumed after a kill, and two whose sessions went with the server.
	local function owner_is_back(nick)
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner, plain, other = ctx:resumable { available = true }, ctx:login { available = true }, ctx:login { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(plain, room, "plain");
		enter(other, room, nick);
		settle(owner, plain, other);
		ctx.srv:kill();
		ctx.srv:launch();
		return ctx, room, resume_all(ctx, { owner = owner }).owner, other;
	end

	it("have those leave who do not come back, and tell the others", function ()
		local ctx, room, owner, other = owner_is_back("other");
		-- one logs in again, but does not join
		local again = ctx:connect():authenticate(other.username, "secret");
		again:bind(other.jid:match("/(.*)"));
		again:presence();
		local gone = {};
		for _ = 1, 2 do
			local p = owner:expect({ name = "presence", type = "unavailable" }, 30);
			gone[#gone+1] = p.attr.from .. " " .. codes_of(p);
		end
		table.sort(gone);
		assert.same({ room .. "/other 333", room .. "/plain 333" }, gone);
		assert.equal(1, select(2, room_is(ctx, "room"):gsub("occupant ", "")));
		assert.same({}, ctx:log_errors(0));
	end);

	it("have a client that expires leave, as ever", function ()
		local ctx = start { config = "smacks_hibernation_time = 4", extra = service() };
		local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(alice, room, "alice");
		settle(owner, alice);
		ctx.srv:kill();
		ctx.srv:launch();
		owner = resume_all(ctx, { owner = owner }).owner;
		assert.equal(room .. "/alice", owner:expect({ name = "presence", type = "unavailable" }).attr.from);
	end);

	for _, how in ipairs { "SIGTERM", "kill -9", "no restart" } do
		it("tell the others nothing of one that logs in anew and joins again as it was (" .. how .. ")", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
			local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
			local room = jid_of "room";
			enter(owner, room, "owner");
			set_subject(owner, room, "the subject");
			for i = 1, 3 do say(owner, room, "m" .. i); end
			enter(alice, room, "alice");
			settle(owner, alice);
			-- something is queued for it, which is returned when its session ends
			if how == "no restart" then
				ctx:hibernate(alice);
				say(owner, room, "m4");
			else
				stop(ctx, how);
				ctx.srv:launch();
				owner = resume_all(ctx, { owner = owner }).owner;
				ctx.srv:wait_hibernating(alice.jid);
				say(owner, room, "m4");
			end
			local seen = #owner.seen;
			local again = ctx:connect():authenticate(alice.username, "secret");
			again:bind(alice.jid:match("/(.*)"));
			again:presence();
			again:sync();
			enter(again, room, "alice", "");
			assert.same(t.numbered("m", 4), t.bodies(again.seen));
			local from = {};
			for _, p in ipairs(t.only(again.seen, "presence")) do
				if p.attr.from:match("^room") then from[#from+1] = p.attr.from .. " " .. codes_of(p); end
			end
			assert.same({ room .. "/owner ", room .. "/alice 110" }, from);
			owner:sync();
			assert.same({}, told(owner, seen + 1));
			-- what is another presence is news
			again:send(("<presence to='%s/alice'><show>dnd</show><x xmlns='%s'/></presence>"):format(room, ns_muc));
			assert.equal("dnd", owner:expect({ name = "presence", from = room .. "/alice" }):child_text("show"));
			assert.same({}, ctx:log_errors(0));
		end);
	end

	it("let one go that logs in anew and does not join again", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(alice, room, "alice");
		settle(owner, alice);
		local again = ctx:connect():authenticate(alice.username, "secret");
		again:bind(alice.jid:match("/(.*)"));
		again:presence();
		say(owner, room, "not for one that is not in yet");
		again:sync();
		assert.same({}, t.bodies(again.seen));
		assert.equal(room .. "/alice", owner:expect({ name = "presence", type = "unavailable" }).attr.from);
	end);

	it("have their history from the archive, where there is one", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service('modules_enabled = { "muc_mam" }') };
		local owner = ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		for i = 1, 5 do say(owner, room, "m" .. i); end
		settle(owner);
		ctx.srv:kill();
		ctx.srv:launch();
		owner = resume_all(ctx, { owner = owner }).owner;
		assert.same({}, told(owner));
		local late = ctx:login { available = true };
		enter(late, room, "late", "");
		assert.same(t.numbered("m", 5), t.bodies(late.seen));
		assert.same({}, ctx:log_errors(0));
	end);

	it("are kept at level \"power\" too, and more of them than mod_muc has in memory", function ()
		local ctx = start { config = "smacks_hibernation_time = 60\nsmacks_durability = 'power'", extra = service("muc_room_cache_size = 3") };
		local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
		local names = {};
		for i = 1, 8 do
			names[i] = "room" .. i;
			enter(owner, jid_of(names[i]), "owner");
			enter(alice, jid_of(names[i]), "alice");
			for n = 1, 3 do say(owner, jid_of(names[i]), "m" .. n); end
		end
		settle(owner, alice);
		local before = {};
		for _, name in ipairs(names) do before[name] = room_is(ctx, name); end
		for _, how in ipairs { "kill -9", "SIGTERM" } do
			stop(ctx, how);
			ctx.srv:launch();
			local resumed = resume_all(ctx, { owner = owner, alice = alice });
			owner, alice = resumed.owner, resumed.alice;
			assert.same({}, told(owner));
			assert.same({}, told(alice));
			for _, name in ipairs(names) do assert.equal(before[name], room_is(ctx, name)); end
			settle(owner, alice);
		end
		say(owner, jid_of "room1", "again");
		alice:expect({ body = "again" });
		assert.same({}, ctx:log_errors(0));
	end);

	it("are left in time by who is not back, if modules are reloaded meanwhile", function ()
		local ctx, room, owner, other = owner_is_back("anew");
		local anew = ctx:login { user = other.username, resource = other.jid:match("/(.*)"), available = true };
		for _, module in ipairs { "muc_enjamb", "muc" } do
			assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.reload('rooms.localhost', a) ~= nil", module));
		end
		settle(owner, anew);
		assert.same({}, told(owner));
		local gone = {};
		for i = 1, 2 do
			gone[i] = owner:expect({ name = "presence", type = "unavailable" }, 12).attr.from;
		end
		table.sort(gone);
		assert.same({ room .. "/anew", room .. "/plain" }, gone);
		assert.same({ room .. "/owner" }, ctx.srv:eval([[
			local nicks = {};
			for nick in prosody.hosts["rooms.localhost"].modules.muc.get_room_from_jid(a):each_occupant() do nicks[#nicks+1] = nick; end
			return nicks;
		]], room));
		assert.same({}, ctx:log_errors(0));
	end);

	it("survive a reload of each module, and are followed after it", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner, alice = ctx:resumable { available = true }, ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(alice, room, "alice");
		for i, module in ipairs { "muc_enjamb", "muc", "muc_enjamb" } do
			assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.reload('rooms.localhost', a) ~= nil", module));
			set_subject(owner, room, "subject " .. i);
			say(owner, room, "m" .. i);
			settle(owner, alice);
			local before = room_is(ctx, "room");
			ctx.srv:kill();
			ctx.srv:launch();
			local resumed = resume_all(ctx, { owner = owner, alice = alice });
			owner, alice = resumed.owner, resumed.alice;
			assert.same({}, told(owner));
			assert.same({}, told(alice));
			assert.equal(before, room_is(ctx, "room"));
		end
		assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.reload('localhost', 'smacks') ~= nil"));
		assert.is_true(ctx.srv:eval("return prosody.hosts['rooms.localhost'].modules.muc_enjamb ~= nil"));
		-- without Enjamb they are mod_muc's alone (Prosody loads mod_smacks on components too)
		for _, host in ipairs { "localhost", "rooms.localhost" } do
			assert.is_true(ctx.srv:eval("return require 'core.modulemanager'.unload(a, 'smacks')", host));
		end
		assert.is_true(ctx.srv:eval("return prosody.hosts['rooms.localhost'].modules.muc_enjamb == nil"));
		ctx.srv:kill();
		ctx.srv:launch();
		assert.is_nil((room_is(ctx, "room") or ""):match("occupant ")); -- mod_muc stored it, with nobody in it, when it was reloaded
		assert.same({}, ctx:log_errors(0));
	end);

	it("are forgotten as ever with smacks_keep_rooms = false, also what was kept before", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner = ctx:resumable { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		settle(owner);
		ctx.srv:kill();
		ctx.srv:rewrite_config { extra = service("smacks_keep_rooms = false") };
		for _ = 1, 2 do
			ctx.srv:launch();
			assert.is_nil(room_is(ctx, "room"));
			ctx.srv:kill();
			ctx.srv:rewrite_config { extra = service() };
		end
	end);

	it("that cannot be restored are their own trouble", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner = ctx:resumable { available = true };
		enter(owner, jid_of "good", "owner");
		enter(owner, jid_of "bad", "owner");
		settle(owner);
		ctx.srv:eval([[
			local enjamb = require "enjamb";
			enjamb.muc.configure(a, "return {");
			enjamb.muc.enter(b, "strange");
			enjamb.journal.commit();
		]], jid_of "bad", jid_of "lost");
		ctx.srv:kill();
		ctx.srv:launch();
		owner = resume_all(ctx, { owner = owner }).owner;
		assert.is_not_nil(room_is(ctx, "good"));
		assert.is_nil(room_is(ctx, "bad"));
		-- and of that one alone it is told that it is out
		local seen = t.only(owner.seen, "presence");
		assert.equal(1, #seen);
		assert.equal(jid_of "bad" .. "/owner 110 332", seen[1].attr.from .. " " .. codes_of(seen[1]));
		local bad = ctx:log_errors(0);
		assert.equal(1, #bad);
		assert.matches("bad@rooms.localhost is not as it was", bad[1], 1, true);
	end);

	it("are noted before anything is acknowledged", function ()
		local ctx = start { config = "smacks_hibernation_time = 60", extra = service() };
		local owner = ctx:resumable { available = true };
		local room = jid_of "room";
		owner:ask_h();
		ctx.srv:eval([[
			local muc = require "enjamb".muc;
			kept.enter = muc.enter;
			muc.enter = function () return nil, "the disk is full", false; end
		]]);
		join(owner, room, "owner");
		owner:expect({ name = "presence", from = room .. "/owner" });
		local acks = #t.only(owner.seen, "a");
		owner:send("<r xmlns='urn:xmpp:sm:3'/>");
		owner:drain(1);
		assert.equal(acks, #t.only(owner.seen, "a"));
		ctx.srv:eval([[ require "enjamb".muc.enter = kept.enter; ]]);
		assert.is_true(tonumber(owner:ask_h()) > 0);
		ctx.srv:kill();
		ctx.srv:launch();
		assert.matches("occupant room@rooms.localhost/owner moderator", room_is(ctx, "room"), 1, true);
	end);

	it("are forgotten by a run with smacks_durability = \"none\" in between", function ()
		local configuration = "smacks_hibernation_time = 60\n";
		local ctx = start { config = configuration, extra = service() };
		local owner = ctx:resumable { available = true };
		enter(owner, jid_of "room", "owner");
		settle(owner);
		ctx.srv:kill();
		ctx.srv:rewrite_config { config = configuration .. "smacks_durability = 'none'" };
		ctx.srv:launch();
		assert.is_nil(room_is(ctx, "room"));
		assert.truthy(ctx.srv:log():match("1 rooms of rooms.localhost are not as they were before the restart: smacks_durability is \"none\""));
		local other = ctx:resumable { available = true };
		enter(other, jid_of "another", "other");
		settle(other);
		ctx.srv:kill();
		ctx.srv:rewrite_config { config = configuration };
		ctx.srv:launch();
		assert.is_nil(room_is(ctx, "room"));
		assert.is_nil(room_is(ctx, "another"));
		enter(ctx:resumable { available = true }, jid_of "room", "new");
		assert.same({}, ctx:log_errors(0));
	end);

	it("keep occupants of other servers, until what is sent to them comes back", function ()
		local function one(host, extra)
			return start { host = host, launch = false, with_s2s = true, modules = { "test_resolver" }, certificates = true, extra = extra };
		end
		local a, b = one("localhost", service()), one("b.test");
		local way = ("test_resolver = { localhost = { '127.0.0.1', %d }, ['rooms.localhost'] = { '127.0.0.1', %d }, ['b.test'] = { '127.0.0.1', %d } }\n")
			:format(a.srv.s2s, a.srv.s2s, b.srv.s2s);
		t.server.certificate(a.srv.dir .. "/certs", "rooms.localhost");
		a.srv:rewrite_config { config = way .. "smacks_hibernation_time = 60" };
		b.srv:rewrite_config { config = way .. "smacks_hibernation_time = 60" };
		a.srv:launch();
		b.srv:launch();
		local owner, far, gone = a:resumable { available = true }, b:login { available = true }, b:login { available = true };
		local room = jid_of "room";
		enter(owner, room, "owner");
		enter(far, room, "far");
		enter(gone, room, "gone");
		settle(owner, far, gone);
		a.srv:kill();
		b.srv:eval("prosody.full_sessions[a].presence = nil; prosody.full_sessions[a].directed = nil;", gone.jid);
		gone:cut();
		a.srv:launch();
		owner = resume_all(a, { owner = owner }).owner;
		socket.sleep(11);
		owner:sync();
		assert.same({}, told(owner));
		far:message(room, "hello", { type = "groupchat" });
		owner:expect({ body = "hello" });
		far:expect({ body = "hello" });
		local p = owner:expect({ name = "presence", type = "unavailable" }, 30);
		assert.equal(room .. "/gone 333", p.attr.from .. " " .. codes_of(p));
	end);
end);
