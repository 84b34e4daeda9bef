local t = require "support";
local it = require "busted".it;
local lfs = require "lfs";
local socket = require "socket";

-- What was said leaves the disk when nobody waits for it any more. How soon in a server that goes on is for the tests of
-- the library, whose clock can be set.

-- The files of the journal in which that text stands.
local function files_with(srv, text)
	local found = {};
	local dir = srv.dir .. "/data/enjamb-journal/";
	for name in lfs.dir(dir) do
		local content = t.server.read_file(dir .. name);
		if content and content:find(text, 1, true) then
			found[#found + 1] = name;
		end
	end
	return found;
end

t.versions("text in the journal", function (start)
	it("that was acknowledged is gone soon after the next start, while nothing happens; what waits is kept", function ()
		local ctx = start { config = "smacks_hibernation_time = 60" };
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:sync();
		other:message(c.jid, "read and done with");
		c:expect({ body = "read and done with" });
		c:ack();
		c:sync();
		ctx:hibernate(c);
		other:message(c.jid, "not read yet");
		other:sync();
		ctx.srv:eval("return module:shared('/*/smacks/journal').open and require 'enjamb'.journal.commit()");
		assert.truthy(files_with(ctx.srv, "read and done with")[1]);
		assert.truthy(files_with(ctx.srv, "not read yet")[1]);
		ctx.srv:kill();
		ctx.srv:launch();
		local deadline = socket.gettime() + 60;
		while files_with(ctx.srv, "read and done with")[1] do
			assert.truthy(socket.gettime() < deadline, "it stays");
			socket.sleep(0.1);
		end
		assert.truthy(files_with(ctx.srv, "not read yet")[1]);
		local d = ctx:resume(c);
		d:expect({ body = "not read yet" });
		assert.same({ "not read yet" }, t.bodies(d.seen));
		assert.same({}, ctx:log_errors(0));
	end);
end);
