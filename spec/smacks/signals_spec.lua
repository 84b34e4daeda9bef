local t = require "support";
local it = require "busted".it;
local lfs = require "lfs";
local socket = require "socket";

-- Prosody's handlers of signals are made for its main thread: they must not run on the one that the library starts.

local function blocked(task)
	local status = t.server.read_file(task .. "/status");
	return status and tonumber(status:match("\nSigBlk:%s*(%x+)"), 16);
end

-- By the names of threads: which signals they leave to others.
local function masks(srv)
	local found = {};
	local tasks = "/proc/" .. srv.pid .. "/task/";
	for id in lfs.dir(tasks) do
		local name = t.server.read_file(tasks .. id .. "/comm");
		if tonumber(id) and name then
			found[tonumber(id) == srv.pid and "main" or name:match("^[^\n]*")] = blocked(tasks .. id);
		end
	end
	return found;
end

local others = { SIGHUP = 1; SIGINT = 2; SIGUSR1 = 10; SIGUSR2 = 12; SIGALRM = 14; SIGTERM = 15; SIGCHLD = 17 };
-- Of these Prosody 13 itself blocks those that it handles, and reads them from a file descriptor.
local left_alone = { SIGALRM = 14; SIGCHLD = 17 };

for _, how in ipairs { "in the foreground", "as a daemon" } do
	t.versions(how, function (start)
		it("the library's thread takes no signals, the main one goes on to, and a burst of them is survived", function ()
			local ctx = start { config = "smacks_hibernation_time = 60", daemonize = how == "as a daemon" };
			local c = ctx:resumable { available = true };
			assert.equal("1", c:ask_h());
			-- A thread names itself, as soon as it runs.
			local found = masks(ctx.srv);
			for _ = 1, 100 do
				if found["enjamb-journal"] then break; end
				socket.sleep(0.05);
				found = masks(ctx.srv);
			end
			assert.truthy(found["enjamb-journal"], "there is no such thread");
			for name, signal in pairs(others) do
				assert.equal(1, found["enjamb-journal"] >> signal - 1 & 1, name);
			end
			for name, signal in pairs(left_alone) do
				assert.equal(0, found.main >> signal - 1 & 1, name .. " on the main thread");
			end
			t.server.run(("for _ in $(seq 200); do kill -HUP %d; done"):format(ctx.srv.pid));
			c:message(c.jid, "still there");
			c:expect({ body = "still there" });
			assert.is_true(ctx.srv:terminate(), "it does not stop by itself");
		end);
	end);
end
