-- Several servers of which one serves: each with a data path of its own, Prosody's storage and the replica in one PostgreSQL.
--
--   local one = pair.start(start, pg, { lease = 60 })       -- serves; `start` is what support.versions gives
--   local two = one:standby()                                -- waits
--   one:accounts { "a", "b" }
--
-- Both are contexts as support has them: one:resumable { user = "a" }, two:resume(client), one.srv.

local server = require "support.server";
local postgres = require "support.postgres";
local socket = require "socket";

local M = {};

local function config_of(pg, opts)
	local text = {
		("smacks_replica = %q"):format(opts.url or pg:url(opts.database)),
		("smacks_replica_lease = %d"):format(opts.lease or 60),
		("smacks_durability = %q"):format(opts.durability or "replicated"),
		"smacks_hibernation_time = 300",
		opts.config or "",
	};
	return table.concat(text, "\n");
end

local methods = {};

local function new(start, pg, opts)
	local all = {
		launch = false; storage = "sql"; config = config_of(pg, opts);
		modules = opts.modules; extra = opts.extra; minimix = opts.minimix; daemonize = opts.daemonize;
		sql = { database = opts.database, username = "enjamb", password = postgres.password, port = pg.port };
	};
	local ctx = start(all);
	for name, method in pairs(methods) do ctx[name] = method; end
	ctx.pair = { start = start, pg = pg, opts = opts };
	ctx.srv.adduser = function (srv, name, password)
		srv:eval("return require 'core.usermanager'.create_user(a, b, c)", name, password, srv.host);
	end;
	return ctx;
end

-- One that is not started. opts: lease, durability, database, url, config, modules.
function M.new(start, pg, opts)
	opts = opts or {};
	opts.database = opts.database or pg:database();
	return new(start, pg, opts);
end

-- One that serves.
function M.start(start, pg, opts)
	local ctx = M.new(start, pg, opts);
	ctx:launch();
	return ctx;
end

-- Waits until it serves. That a port is open does not say so: one that is opened before mod_smacks is loaded is closed once more.
function methods.wait_ready(self)
	self:wait_log("the ports are open", 60, self.srv.log_mark);
	self.srv:wait_ready();
	return self;
end

function methods.launch(self)
	self.srv:spawn();
	return self:wait_ready();
end

-- Waits until its log has that, from byte `from` on.
function methods.wait_log(self, pattern, seconds, from)
	local deadline = socket.gettime() + (seconds or 30);
	while not self.srv:log(from):find(pattern) do
		if not self.srv:alive() then error("the server ended:\n" .. self.srv:log(from):sub(-3000), 2); end
		if socket.gettime() > deadline then error("the log never says " .. pattern .. ":\n" .. self.srv:log(from):sub(-3000), 2); end
		socket.sleep(0.02);
	end
end

-- Another server beside this one, which is to wait.
function methods.standby(self)
	local other = new(self.pair.start, self.pair.pg, self.pair.opts);
	other.srv:spawn();
	other:wait_log("this one waits");
	return other;
end

-- A daemon's number.
function methods.wait_pid(self)
	local deadline = socket.gettime() + 30;
	repeat
		socket.sleep(0.05);
		local text = server.read_file(self.srv.dir .. "/prosody.pid");
		self.srv.pid = text and tonumber(text:match("%d+"));
	until self.srv.pid or socket.gettime() > deadline;
end

function methods.accounts(self, names)
	for _, name in ipairs(names) do self.srv:adduser(name, "secret"); end
end

function methods.is_open(self)
	return self.srv:connectable(self.srv.c2s) or self.srv:connectable(self.srv.s2s) or self.srv:connectable(self.srv.http);
end

function methods.signal(self, name)
	server.run(("kill -%s %d"):format(name, self.srv.pid));
end

return M;
