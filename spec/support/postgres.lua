-- A PostgreSQL of the tests' own, on loopback, in a directory of its own, run by another user than root.
--
--   local pg = require "support.postgres".start()      -- nil if it is not installed
--   pg:url("database")                                  -- postgresql://...
--   pg:sql("SELECT 1", "database")                      -- what psql says, or an error
--   pg:stop() pg:launch() pg:kill() pg:remove()         -- kill: SIGKILL to all of it

local socket = require "socket";

local server = require "support.server";
local run, quote = server.run, server.quote;

local M = { password = "let me in" };
local own_pid = io.open("/proc/self/stat"):read("n");
local Postgres = {};
Postgres.__index = Postgres;

local function programs()
	local _, out = run("ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1");
	local dir = out:match("^(/%S+)");
	return dir and run("test -x " .. dir .. "/postgres") == 0 and dir or nil;
end

function M.is_installed()
	return programs() ~= nil;
end

-- PostgreSQL refuses to run as root.
local function as_somebody()
	if run("test $(id -u) = 0") ~= 0 then return "", nil; end
	local user = run("id postgres") == 0 and "postgres" or "nobody";
	local _, group = run("id -g " .. user);
	return ("setpriv --reuid=%s --regid=%s --clear-groups -- "):format(user, group:match("%d+")), user;
end

local function must(command)
	local code, out = run(command);
	if code ~= 0 then error(command .. "\n" .. out, 3); end
	return out;
end

function M.start()
	local bin = programs();
	if not bin then return nil; end
	local as, user = as_somebody();
	local dir = must("mktemp -d ${TMPDIR:-/tmp}/enjamb-test.XXXXXX"):match("^(%S+)");
	local self = setmetatable({ bin = bin, as = as, dir = dir, port = server.free_port() }, Postgres);
	server.write_file(dir .. "/password", M.password);
	must(("chmod 755 %s && mkdir %s/cluster"):format(dir, dir));
	if user then must(("chown -R %s %s"):format(user, dir)); end
	must(("cd %s && %s%s/initdb --no-sync -D %s/cluster -U enjamb -E UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 "
		.. "--pwfile=%s/password"):format(dir, as, bin, dir, dir));
	local file = assert(io.open(dir .. "/cluster/postgresql.conf", "a"));
	file:write(([[

port = %d
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
shared_buffers = 16MB
max_connections = 40
max_wal_size = 128MB
]]):format(self.port, dir));
	file:close();
	self:launch();
	return self;
end

function Postgres:launch()
	-- Of one that was killed. PostgreSQL believes it if a process with that number is there, even one that nobody has waited for.
	run(("rm -f %s/cluster/postmaster.pid %s/.s.PGSQL.*.lock"):format(self.dir, self.dir));
	local command = ("cd %s && exec %s%s/postgres -D %s/cluster >>%s/log 2>&1 </dev/null & echo $!"):format(
		self.dir, self.as, self.bin, self.dir, self.dir);
	local p = assert(io.popen(command));
	self.pid = p:read("n");
	p:close();
	-- It ends with the tests, in whatever way they do.
	os.execute(("(while kill -0 %d && kill -0 %d; do sleep 2; done; kill -INT %d) >/dev/null 2>&1 </dev/null &"):format(own_pid, self.pid, self.pid));
	local deadline = socket.gettime() + 60;
	while run(("%s/pg_isready -q -h %s -p %d -U enjamb -d postgres"):format(self.bin, self.dir, self.port)) ~= 0 do
		if socket.gettime() > deadline then error("PostgreSQL does not start:\n" .. (server.read_file(self.dir .. "/log") or "")); end
		socket.sleep(0.05);
	end
	return self;
end

local function is_there(pid)
	local stat = server.read_file("/proc/" .. pid .. "/stat");
	local state = stat and stat:match("^%d+ %(.*%) (%a)");
	return state ~= nil and state ~= "Z" and state ~= "X";
end

-- The server and those that serve its clients.
function Postgres:processes()
	local _, out = run("ps -o pid= --ppid " .. self.pid);
	local all = { self.pid };
	for pid in out:gmatch("%d+") do all[#all + 1] = tonumber(pid); end
	return all;
end

local function wait_gone(pids)
	local deadline = socket.gettime() + 30;
	for _, pid in ipairs(pids) do
		while is_there(pid) do
			if socket.gettime() > deadline then error("PostgreSQL does not end"); end
			socket.sleep(0.02);
		end
	end
end

-- Ends it as an admin does; its clients' connections are cut.
function Postgres:stop()
	if not self.pid then return; end
	local pids = self:processes();
	run("kill -INT " .. self.pid);
	wait_gone(pids);
	self.pid = nil;
end

function Postgres:kill()
	local pids = self:processes();
	run("kill -KILL " .. table.concat(pids, " "));
	wait_gone(pids);
	self.pid = nil;
end

function Postgres:remove()
	self:stop();
	if not os.getenv("ENJAMB_KEEP") and self.dir:match("^/.*/enjamb%-test%.%w+$") then run("rm -rf " .. quote(self.dir)); end
end

function Postgres:sql(text, database)
	local code, out = run(("%s/psql -X -q -At -v ON_ERROR_STOP=1 -h %s -p %d -U enjamb -d %s -c %s"):format(self.bin, self.dir, self.port,
		database or "postgres", quote(text)));
	if code ~= 0 then error(text .. "\n" .. out, 2); end
	return (out:gsub("\n$", ""));
end

function Postgres:url(database, user, password)
	return ("postgresql://%s:%s@127.0.0.1:%d/%s"):format(user or "enjamb", (password or M.password):gsub(" ", "%%20"), self.port, database);
end

-- A new, empty database; its name.
local n_databases = 0;
function Postgres:database()
	n_databases = n_databases + 1;
	local name = "enjamb" .. n_databases;
	self:sql("CREATE DATABASE " .. name);
	return name;
end

return M;
