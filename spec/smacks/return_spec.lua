local t = require "support";
local it = require "busted".it;

-- Who comes back after a restart and who does not, and what an admin sees of it.

local config = "smacks_hibernation_time = 60";

local function write(name, text)
	local f = assert(io.open(name, "wb"));
	f:write(text);
	f:close();
end

local function read(name)
	local f = assert(io.open(name, "rb"));
	local text = f:read("a");
	f:close();
	return text;
end

t.versions("after a restart", function (start)
	it("the log says how many are back, and from when", function ()
		local ctx = start { config = config };
		local c, other = ctx:resumable { available = true }, ctx:resumable();
		c:sync();
		ctx:hibernate(c);
		for i = 1, 4 do other:message(c.jid, "m" .. i); end
		other:sync();
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		local log = ctx.srv:log();
		assert.truthy(log:match("2 sessions wait in the journal, which was last written %d+%-%d+%-%d+T[%d:]+Z %(%d+ seconds ago%)"));
		assert.truthy(log:match("2 sessions are back [^\n]*%d stanzas %(%d+ bytes%)"));
	end);

	it("what is queued for a session whose password was changed is not lost", function ()
		local ctx = start { config = config };
		local c, other = ctx:resumable { available = true }, ctx:resumable();
		c:sync();
		ctx:hibernate(c);
		for i = 1, 4 do other:message(c.jid, "m" .. i); end
		other:sync();
		ctx.srv:kill();
		ctx.srv:adduser(c.username, "another");
		ctx.srv:launch();
		ctx.srv:wait_hibernating(other.jid);
		local d = ctx:connect();
		d:login(c.username, "another");
		d:presence();
		d:expect({ body = "m4" });
		assert.same(t.numbered("m", 4), t.bodies(d.seen));
	end);

	it("what is queued for an account that is gone goes back", function ()
		local ctx = start { config = config };
		local c, other = ctx:resumable { available = true }, ctx:resumable();
		c:sync();
		ctx:hibernate(c);
		for i = 1, 4 do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:sync();
		ctx.srv:kill();
		os.remove(ctx.srv.dir .. "/data/localhost/accounts/" .. c.username .. ".dat");
		ctx.srv:launch();
		ctx.srv:wait_hibernating(other.jid);
		local o = ctx:resume(other);
		for i = 1, 4 do o:expect({ name = "message", type = "error", id = "m" .. i }); end
		assert.is_nil(require "lfs".attributes(ctx.srv.dir .. "/data/localhost/offline/" .. c.username .. ".list"));
		assert.same({}, ctx:log_errors(0));
	end);

	it("what is queued goes to the account if stream management is not enabled any more", function ()
		local ctx = start {
			config = config;
			extra = 'VirtualHost "second"\nVirtualHost "third"';
		};
		ctx.srv:adduser("romeo", "secret", "second");
		ctx.srv:adduser("gone", "secret", "third");
		local other = ctx:resumable();
		for host, user in pairs { second = "romeo", third = "gone" } do
			local c = ctx:connect(nil, { host = host });
			c:login(user, "secret");
			c:enable { resume = "true" };
			c:presence();
			c:sync();
			ctx:hibernate(c);
			for i = 1, 4 do other:message(c.jid, "m" .. i); end
		end
		other:sync();
		ctx.srv:kill();
		ctx.srv:rewrite_config { extra = 'VirtualHost "second"\nmodules_disabled = { "smacks" }' };
		ctx.srv:launch();
		ctx.srv:wait_hibernating(other.jid);
		local d = ctx:connect(nil, { host = "second" });
		d:login("romeo", "secret");
		d:presence();
		d:expect({ body = "m4" });
		assert.same(t.numbered("m", 4), t.bodies(d.seen));
		local log = ctx.srv:log();
		assert.truthy(log:match("gone@third is kept for a day[^\n]*no such host"));
		assert.truthy(log:match("romeo@second does not come back, stream management is not enabled there: 4 stanzas"));
		-- once
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(other.jid);
		assert.is_nil(ctx.srv:log(#log):match("does not come back"));
	end);

	it("a client in a room of this server is told once that it is out", function ()
		local ctx = start { config = config, extra = 'Component "rooms.localhost" "muc"' };
		local c = ctx:resumable { available = true };
		for _, nick in ipairs { "first", "second" } do
			c:send(("<presence to='room@rooms.localhost/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(nick));
			c:expect({ name = "presence", from = "room@rooms.localhost/" .. nick });
		end
		c:send("<presence to='left@rooms.localhost/me'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
		c:expect({ name = "message", from = "left@rooms.localhost" });
		c:send("<presence to='left@rooms.localhost/me' type='unavailable'/>");
		c:expect({ name = "presence", from = "left@rooms.localhost/me", type = "unavailable" });
		c:sync();
		ctx:hibernate(c);
		ctx.srv:kill();
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		ctx.srv:kill(); -- it was told already, though it has not heard it
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		local d = ctx:resume(c);
		d:sync();
		local out = t.only(d.seen, { name = "presence", type = "unavailable" });
		assert.equal(1, #out);
		assert.equal("room@rooms.localhost/second", out[1].attr.from);
		assert.equal(c.jid, out[1].attr.to);
		local codes = {};
		for _, status in ipairs(out[1]:child("x", "http://jabber.org/protocol/muc#user"):children()) do
			if status.name == "status" then codes[status.attr.code] = true; end
		end
		assert.same({ ["110"] = true, ["332"] = true }, codes);
		-- and joins again
		d:send("<presence to='room@rooms.localhost/second'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
		d:expect({ name = "presence", from = "room@rooms.localhost/second" });
		assert.same({}, ctx:log_errors(0));
	end);

	it("a client in a room that remembers its occupants stays in it", function ()
		local ctx = start { config = config, extra = table.concat({
			'Component "rooms.localhost" "muc"'; 'muc_room_default_persistent = true'; 'muc_room_locking = false';
		}, '\n') };
		local c, other = ctx:resumable { available = true }, ctx:resumable { available = true };
		for _, client in ipairs { c, other } do
			client:send(("<presence to='room@rooms.localhost/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(client.username));
			client:expect({ name = "message", from = "room@rooms.localhost" });
			client:sync();
		end
		ctx:hibernate(c);
		for _ = 1, 2 do
			assert.is_true(ctx.srv:terminate());
			ctx.srv:launch();
			ctx.srv:wait_hibernating(c.jid);
		end
		local d, o = ctx:resume(c), ctx:resume(other);
		o:message("room@rooms.localhost", "hello", { type = "groupchat" });
		for _, client in ipairs { d, o } do
			client:expect({ body = "hello" });
			assert.same({}, t.only(client.seen, { name = "presence", type = "unavailable" }));
		end
		assert.same({}, ctx:log_errors(0));
	end);

	it("a journal of another version is left as it is", function ()
		local ctx = start { config = config };
		local c = ctx:resumable { available = true };
		c:sync();
		ctx:hibernate(c);
		ctx.srv:kill();
		-- what a later mod_smacks might write
		local dir = ctx.srv.dir .. "/data/enjamb-journal/";
		local segment;
		for name in require "lfs".dir(dir) do
			if name:match("%.seg$") and require "lfs".attributes(dir .. name, "size") > 0 then segment = dir .. name; end
		end
		local whole = read(segment);
		local header = whole:sub(1, 7) .. "\2" .. whole:sub(9, 12);
		write(segment, header .. string.pack("<I4", (function ()
			local crc = 0xffffffff;
			for i = 1, #header do
				crc = crc ~ header:byte(i);
				for _ = 1, 8 do
					crc = (crc >> 1) ~ (0xedb88320 & -(crc & 1));
				end
			end
			return crc ~ 0xffffffff;
		end)()) .. whole:sub(17));
		local before = read(segment);
		ctx.srv:launch();
		ctx:login():sync(); -- the server is up
		ctx.srv:wait_for("return true");
		assert.truthy(ctx.srv:log():match("journal [^\n]*cannot be opened, sessions will not outlive the server: [^\n]*version"));
		assert.equal("failed", ctx:authenticated(c.username):try_resume(c.token, c.h).name);
		ctx.srv:kill();
		assert.equal(before, read(segment), "nothing was touched");
		-- back with the version that wrote it
		write(segment, whole);
		ctx.srv:launch();
		ctx.srv:wait_hibernating(c.jid);
		ctx:resume(c):sync();
	end);

	it("a second server on the same data is told that there is one", function ()
		local ctx = start { config = config };
		local c = ctx:resumable();
		c:sync();
		local second = start { config = config .. ("\ndata_path = %q"):format(ctx.srv.dir .. "/data"), launch = false };
		second.srv:rewrite_config { host_config = ("data_path = %q"):format(ctx.srv.dir .. "/data") };
		second.srv:launch();
		second.srv:wait_for("return prosody.start_time and true");
		require "socket".sleep(6); -- it waits for the lock for five seconds
		assert.truthy(second.srv:log():match("journal in [^\n]* cannot be opened[^\n]*use"), second.srv:log():sub(-2000));
		c:message(c.jid, "still here");
		c:expect({ body = "still here" });
	end);

	it("a second server waits once for the one that there is, whatever its hosts, and joins no rooms for accounts", function ()
		local rooms = 'Component "rooms.localhost" "muc"\nmuc_room_locking = false\nrestrict_room_creation = false\nVirtualHost "other.localhost"\n';
		local ctx = start { config = config, extra = rooms, minimix = true };
		local c = ctx:resumable { available = true };
		c:send("<presence to='room@rooms.localhost/nick'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
		c:expect({ name = "presence", from = "room@rooms.localhost/nick" });
		c:sync();
		local record = ctx.srv.dir .. "/data/localhost/minimix/" .. c.username .. ".dat";
		local before = read(record);
		local options = ("data_path = %q"):format(ctx.srv.dir .. "/data");
		local second = start { config = config .. "\n" .. options, extra = rooms, minimix = true, launch = false };
		second.srv:rewrite_config { host_config = options };
		second.srv:launch(); -- the ports are open then, the journal is not
		local since = require "socket".gettime();
		second.srv:wait_for("return prosody.start_time and true", 60);
		assert.truthy(require "socket".gettime() - since < 8, "it stood still for longer");
		local log = second.srv:log();
		assert.truthy(log:match("Another server runs on the same data directory"), log:sub(-2000));
		assert.falsy(log:match("are joining the"));
		second.srv:terminate();
		assert.equal(before, read(record));
		c:message("room@rooms.localhost", "still in", { type = "groupchat" });
		c:expect({ body = "still in" });
	end);
end);

t.each("the shell's list of sessions that wait", { config = config, modules = { "admin_socket", "admin_shell" } }, function (ctx, each)
	local function shell(command)
		local code, out = ctx.srv:prosodyctl("shell '" .. command .. "'");
		assert.equal(0, code, out);
		return out;
	end

	each("shows their age and what is queued", function ()
		local away, here, other = ctx:resumable { available = true }, ctx:resumable { available = true }, ctx:login();
		away:ack();
		away:sync();
		here:sync();
		ctx:hibernate(away);
		for i = 1, 3 do other:message(away.jid, "m" .. i); end
		other:sync();
		local bytes = ctx:field(away.jid, "s.outgoing_stanza_queue:count_bytes()");
		local out = shell("smacks:list()");
		local line = out:match(away.jid:gsub("%p", "%%%0") .. "[^\n]*");
		assert.truthy(line, out);
		assert.same({ "3", tostring(bytes) }, { line:match("%d+ s +%d+ s +(%d+) +(%d+)") });
		assert.is_nil(out:find(here.jid, 1, true));
		assert.truthy(out:match("1 sessions wait, with 3 stanzas"), out);
		assert.truthy(shell('smacks:list("nobody@localhost")'):match("0 sessions wait"));
		if ctx.version == "13" then
			local code, plain = ctx.srv:prosodyctl("shell smacks list");
			assert.equal(0, code, plain);
			assert.truthy(plain:find(away.jid, 1, true), plain);
			assert.truthy(shell("help smacks"):match("drop"));
		end
	end);

	each("drops one, with nothing lost", function ()
		local away, other = ctx:resumable { available = true }, ctx:login();
		away:sync();
		ctx:hibernate(away);
		other:message(away.jid, "kept");
		other:sync();
		assert.truthy(shell(('smacks:drop("%s")'):format(away.jid)):match("1 sessions end"));
		ctx.srv:wait_gone(away.jid);
		local d = ctx:login { user = away.username, available = true };
		d:expect({ body = "kept" });
		local _, out = ctx.srv:prosodyctl(("shell 'smacks:drop(\"%s\")'"):format(away.jid));
		assert.truthy(out:match("No session of"), out);
		_, out = ctx.srv:prosodyctl("shell 'smacks:drop()'");
		assert.truthy(out:match("Say which"), out);
	end);
end);
