local t = require "support";
local muc = require "support.muc";
local it = require "busted".it;
local lfs = require "lfs";

-- Who may read what the modules keep: the server's user and nobody else, whatever the umask.

-- Everything that is ours in the data directory, with its permissions.
local function kept(srv)
	local found = {};
	local data = srv.dir .. "/data";
	local function look(path, name)
		found[name] = lfs.attributes(path, "permissions");
	end
	look(data .. "/enjamb-rooms", "enjamb-rooms");
	look(data .. "/enjamb-journal", "enjamb-journal");
	for name in lfs.dir(data .. "/enjamb-journal") do
		if name ~= "." and name ~= ".." then
			look(data .. "/enjamb-journal/" .. name, "enjamb-journal/" .. name);
		end
	end
	return found;
end

local function assert_private(srv)
	local files = 0;
	for name, permissions in pairs(kept(srv)) do
		assert.equal(name == "enjamb-journal" and "rwx------" or "rw-------", permissions, name);
		files = files + 1;
	end
	assert.truthy(files >= 4, "something is missing"); -- rooms, directory, lock, a segment
end

t.versions("with a umask that takes nothing away", function (start)
	it("files are the server's alone, and become it where they were not", function ()
		local ctx = start {
			-- 0.12 sets the one of its configuration, 13 has that of whoever starts it
			umask = "000"; config = "umask = '000'\nsmacks_hibernation_time = 60";
			modules = { "presence" }; minimix = true;
			extra = 'Component "rooms.localhost" "muc"\n\trestrict_room_creation = false';
		};
		local c = ctx:resumable { available = true };
		muc.enter(c, "room@rooms.localhost", "nick");
		c:message(c.jid, "hello");
		c:expect({ body = "hello" });
		c:ask_h();
		assert_private(ctx.srv);

		ctx.srv:kill();
		local data = ctx.srv.dir .. "/data/";
		local code, out = t.server.run(("chmod 755 %senjamb-journal && chmod 644 %senjamb-rooms %senjamb-journal/*"):format(data, data, data));
		assert.equal(0, code, out);
		ctx.srv:launch();
		c = ctx:resume(c);
		c:message(c.jid, "again");
		c:expect({ body = "again" });
		c:ask_h();
		assert_private(ctx.srv);
		assert.same({}, ctx:log_errors(0));
	end);
end);
