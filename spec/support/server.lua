-- Starts and stops Prosody servers for the tests.
--
--   local srv = require "support.server".start { version = "13", modules = { "carbons" } }
--   srv.c2s, srv.http, srv.s2s   ports on 127.0.0.1
--   srv.dir, srv.logfile         its own temporary directory
--   srv:eval("return 1 + 1")     runs Lua in the server (see plugins/mod_test_control.lua)
--   srv:stop() srv:kill() srv:restart() srv:log() srv:adduser(name, password)
--
-- Environment: ENJAMB_PROSODY ("0.12", "13" or "both"), ENJAMB_PROSODY13 (where
-- spec/setup-prosody-13.sh unpacked it), ENJAMB_SMACKS ("enjamb" or "builtin"),
-- ENJAMB_GC (the mode of Lua's collector, "generational" or "incremental"; without it Prosody's own),
-- ENJAMB_MINIMIX ("on" or "off": rooms as Prosody alone has them), ENJAMB_TREE (what `make install` made), ENJAMB_KEEP (keep the directories).

local socket = require "socket";
local lfs = require "lfs";
local json = require "dkjson";

local M = {};
local Server = {};
Server.__index = Server;

M.top = lfs.currentdir();
M.smacks = os.getenv("ENJAMB_SMACKS") or "enjamb";
M.gc = os.getenv("ENJAMB_GC");
M.minimix = os.getenv("ENJAMB_MINIMIX") ~= "off";
M.tree = os.getenv("ENJAMB_TREE") or "build/tree";
M.prosody13 = os.getenv("ENJAMB_PROSODY13") or "build/prosody-13/root";
M.running = {};

local function absolute(path)
	if path:sub(1, 1) == "/" then return path; end
	return M.top .. "/" .. path;
end

local function quote(s)
	return "'" .. s:gsub("'", "'\\''") .. "'";
end

local function run(command)
	local p = assert(io.popen(command .. " 2>&1; echo \"=$?\""));
	local out = p:read("a");
	p:close();
	local text, code = out:match("^(.*)=(%d+)\n$");
	return tonumber(code), text;
end
M.run, M.quote = run, quote;

local own_pid = io.open("/proc/self/stat"):read("n");
local root = run("test $(id -u) = 0") == 0;

function M.versions()
	local wanted = os.getenv("ENJAMB_PROSODY") or "both";
	if wanted == "both" then return { "0.12", "13" }; end
	return { wanted };
end

-- Where a version of Prosody is, and how to run its two programs.
function M.installation(version)
	if version == "0.12" then
		return { lib = "/usr/lib/prosody"; prosody = "/usr/bin/prosody"; prosodyctl = "/usr/bin/prosodyctl" };
	end
	local dir = absolute(M.prosody13);
	return { lib = dir .. "/usr/lib/prosody"; prosody = dir .. "/usr/bin/prosody"; prosodyctl = dir .. "/usr/bin/prosodyctl" };
end

-- Specs that run side by side, of this checkout or of others, take ports from ranges of their own, below those that the system
-- gives to outgoing connections: between trying a port and a server's using it nobody else may. Who listens on the first port of
-- a range has it.
local ports_per_range, ranges = 1000, 12;
local range, first_port;
local next_port = own_pid * 13;
local taken = {};
local function take_range()
	for number = 0, ranges - 1 do
		first_port = 20000 + ports_per_range * number;
		range = socket.bind("127.0.0.1", first_port);
		if range then return; end
	end
	error("all ranges of ports are taken");
end

function M.free_port()
	if not range then take_range(); end
	for _ = 1, ports_per_range do
		next_port = next_port + 1;
		local port = first_port + 1 + next_port % (ports_per_range - 1);
		local s = not taken[port] and socket.bind("127.0.0.1", port);
		if s then
			s:close();
			taken[port] = true;
			return port;
		end
	end
	error("no free port");
end

local function write_file(name, text)
	local f = assert(io.open(name, "w"));
	f:write(text);
	f:close();
end

local function read_file(name)
	local f = io.open(name, "rb");
	if not f then return nil; end
	local text = f:read("a");
	f:close();
	return text;
end
M.read_file, M.write_file = read_file, write_file;

-- Prosody's way to make a file name of a host or user.
local function encode(s)
	return (s:gsub("[^%w]", function (c) return ("%%%02x"):format(c:byte()); end));
end

local function list(names)
	local out = {};
	for i, name in ipairs(names) do out[i] = ("%q"):format(name); end
	return "{ " .. table.concat(out, ", ") .. " }";
end

-- A certificate authority of our own, made once per run. Servers authenticate
-- each other with certificates: with dialback there are no features, and so
-- no stream management, after authentication.
local ca_dir;
function M.certificate_authority()
	if ca_dir then return ca_dir; end
	local code, out = run("mktemp -d ${TMPDIR:-/tmp}/enjamb-test.XXXXXX");
	assert(code == 0, out);
	ca_dir = out:match("^(%S+)");
	code, out = run(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj '/CN=Enjamb tests' "
		.. "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign "
		.. "-keyout %s/ca.key -out %s/ca.crt"):format(ca_dir, ca_dir));
	assert(code == 0, out);
	return ca_dir;
end

function M.certificate(dir, host)
	local ca = M.certificate_authority();
	write_file(dir .. "/ext", ("subjectAltName=DNS:%s\nkeyUsage=digitalSignature,keyAgreement\nextendedKeyUsage=serverAuth,clientAuth\n"):format(host));
	local code, out = run(("cd %s && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=%s' -keyout %s.key -out csr "
		.. "&& openssl x509 -req -in csr -CA %s/ca.crt -CAkey %s/ca.key -set_serial %d -days 30 -extfile ext -out %s.crt"):format(
		quote(dir), host, host, ca, ca, math.random(1 << 40), host));
	assert(code == 0, out);
	os.remove(dir .. "/csr");
	os.remove(dir .. "/ext");
end

function M.forget_certificates()
	if ca_dir then run("rm -rf " .. quote(ca_dir)); end
	ca_dir = nil;
end

local function config_text(srv)
	local o = srv.opts;
	local modules = { "posix"; "saslauth"; "roster"; "disco"; "ping"; "test_control" };
	if o.smacks ~= false then table.insert(modules, "smacks"); end
	if o.minimix and M.minimix then table.insert(modules, "minimix"); end
	for _, name in ipairs(o.modules or {}) do table.insert(modules, name); end
	for _, name in ipairs(o.community or {}) do table.insert(modules, name); end
	local disabled = {};
	if not o.with_s2s then
		for _, name in ipairs { "s2s", "s2s_auth_certs" } do table.insert(disabled, name); end
	end
	for _, name in ipairs(o.disable or {}) do table.insert(disabled, name); end

	local lines = {};
	local function add(fmt, ...) table.insert(lines, select("#", ...) > 0 and fmt:format(...) or fmt); end
	if root then add("run_as_root = true"); end
	add("pidfile = %q", srv.dir .. "/prosody.pid");
	add("data_path = %q", srv.dir .. "/data");
	add("certificates = %q", srv.dir .. "/certs");
	add("admin_socket = %q", srv.dir .. "/data/prosody.sock");
	add("log = { { levels = { min = \"debug\" }, to = \"file\", filename = %q, timestamps = true } }", srv.logfile);
	local paths = { M.top .. "/spec/plugins" };
	if o.community then
		-- single modules of Debian's prosody-modules; its directory as a whole would shadow those of Prosody 13
		local dir = srv.dir .. "/modules";
		lfs.mkdir(dir);
		for _, name in ipairs(o.community) do
			lfs.link("/usr/lib/prosody/modules/mod_" .. name, dir .. "/mod_" .. name, true);
		end
		table.insert(paths, dir);
	end
	add("plugin_paths = %s", list(paths));
	if M.smacks == "enjamb" then
		add("installer_plugin_path = %q", absolute(M.tree));
	end
	if M.gc and o.gc ~= false then add("gc = { mode = %q }", M.gc); end
	add("interfaces = { %q }", srv.address);
	add("c2s_ports = { %d }", srv.c2s);
	add("c2s_direct_tls_ports = {}");
	add("s2s_ports = { %d }", srv.s2s);
	add("s2s_direct_tls_ports = {}");
	add("http_ports = { %d }", srv.http);
	add("http_interfaces = { %q }", srv.address);
	add("https_ports = {}");
	add("http_default_host = %q", srv.host);
	add("consider_websocket_secure = true");
	add("consider_bosh_secure = true");
	add("c2s_require_encryption = false");
	if o.certificates then
		add("ssl = { cafile = %q }", M.certificate_authority() .. "/ca.crt");
		add("s2s_secure_auth = true");
		table.insert(modules, "tls");
	else
		add("s2s_require_encryption = false");
		add("s2s_secure_auth = false");
	end
	add("allow_unencrypted_plain_auth = true");
	add("authentication = %q", o.authentication or "internal_plain");
	add("storage = %q", o.storage or "internal");
	if o.sql then add("sql = { driver = \"PostgreSQL\", database = %q, username = %q, password = %q, host = \"127.0.0.1\", port = %d }",
		o.sql.database, o.sql.username, o.sql.password, o.sql.port); end
	add("statistics_interval = \"manual\"");
	add("test_control_port = %d", srv.control);
	if o.events then add("test_control_events = true"); end
	add("test_control_parent = %d", own_pid);
	add("limits = {}");
	add("modules_enabled = %s", list(modules));
	add("modules_disabled = %s", list(disabled));
	if o.config then add("%s", o.config); end
	add("VirtualHost %q", srv.host);
	if o.host_config then add("%s", o.host_config); end
	if o.extra then add("%s", o.extra); end
	return table.concat(lines, "\n") .. "\n";
end

function M.start(opts)
	local where = M.installation(opts.version);
	if not read_file(where.prosody) then
		error(("Prosody %s isn't at %s (see spec/setup-prosody-13.sh)"):format(opts.version, where.prosody));
	end
	local code, out = run("mktemp -d ${TMPDIR:-/tmp}/enjamb-test.XXXXXX");
	assert(code == 0, out);
	local dir = out:match("^(%S+)");
	local srv = setmetatable({
		opts = opts;
		version = opts.version;
		where = where;
		host = opts.host or "localhost";
		address = opts.address or "127.0.0.1";
		dir = dir;
		logfile = dir .. "/prosody.log";
		config = dir .. "/prosody.cfg.lua";
		c2s = M.free_port(); s2s = M.free_port(); http = M.free_port(); control = M.free_port();
	}, Server);
	for _, d in ipairs { "data", "certs" } do assert(lfs.mkdir(dir .. "/" .. d)); end
	if opts.certificates then M.certificate(srv.dir .. "/certs", srv.host); end
	if type(opts.config) == "function" then srv.opts = setmetatable({ config = opts.config(srv) }, { __index = opts }); end
	write_file(srv.config, config_text(srv));
	for name, password in pairs(opts.users or {}) do srv:adduser(name, password); end
	M.running[srv] = true;
	if opts.launch ~= false then srv:launch(); end
	return srv;
end

function Server:rewrite_config(changes)
	local o = self.opts;
	self.opts = setmetatable(changes, { __index = o });
	write_file(self.config, config_text(self));
end

function Server:adduser(name, password, host)
	host = host or self.host;
	local base = self.dir .. "/data/" .. encode(host);
	lfs.mkdir(base);
	lfs.mkdir(base .. "/accounts");
	write_file(base .. "/accounts/" .. encode(name) .. ".dat", ("return {\n\t[\"password\"] = %q;\n};\n"):format(password or "secret"));
end

local function process_state(pid)
	local stat = read_file("/proc/" .. pid .. "/stat");
	if not stat then return nil; end
	return stat:match("^%d+ %(.*%) (%a)");
end

function Server:alive()
	if not self.pid then return false; end
	local state = process_state(self.pid);
	return state ~= nil and state ~= "Z" and state ~= "X";
end

function Server:connectable(port)
	local s = socket.tcp();
	s:settimeout(1);
	local ok = s:connect(self.address, port);
	s:close();
	return ok;
end

local function fail_with_log(self, message)
	local out = read_file(self.dir .. "/out") or "";
	local log = read_file(self.logfile) or "";
	error(("%s\n-- output --\n%s\n-- end of log --\n%s"):format(message, out:sub(-2000), log:sub(-3000)), 0);
end

-- Starts the process and does not wait for it.
function Server:spawn()
	local o = self.opts;
	self.control_conn = nil;
	self.log_mark = #(read_file(self.logfile) or "");
	os.remove(self.dir .. "/prosody.pid");
	local flag = o.daemonize and "-D" or "-F";
	local umask = o.umask and "umask " .. o.umask .. "; " or "";
	local command = umask .. ("cd %s && exec lua5.4 %s --config %s %s >>%s/out 2>&1 </dev/null & echo $!"):format(
		quote(self.dir), quote(self.where.prosody), quote(self.config), flag, quote(self.dir));
	local pid;
	if o.daemonize then
		-- it must have a parent other than init, or believes that it's a daemon already
		os.execute((command:gsub(" & echo %$!$", "")));
	else
		local p = assert(io.popen(command));
		pid = p:read("n");
		p:close();
	end
	self.pid = pid;
	return self;
end

local function hang_up(self)
	if self.control_conn then self.control_conn:close(); self.control_conn = nil; end
end

function Server:launch()
	return self:spawn():wait_ready();
end

-- Waits until its ports are open.
function Server:wait_ready()
	local o = self.opts;
	local deadline = socket.gettime() + 60;
	if o.daemonize then -- the one that was started goes away, the pid file names the one that stays
		repeat
			socket.sleep(0.05);
			local text = read_file(self.dir .. "/prosody.pid");
			self.pid = text and tonumber(text:match("%d+"));
		until self.pid or socket.gettime() > deadline;
		if not self.pid then fail_with_log(self, "the daemon wrote no pid file"); end
	end
	local ports = { self.control, self.c2s };
	if o.with_http then table.insert(ports, self.http); end
	if o.with_s2s then table.insert(ports, self.s2s); end
	while #ports > 0 do
		if self:connectable(ports[#ports]) then
			table.remove(ports);
		elseif not self:alive() then
			fail_with_log(self, "Prosody " .. self.version .. " ended instead of starting");
		elseif socket.gettime() > deadline then
			self:kill();
			fail_with_log(self, "Prosody " .. self.version .. " didn't get ready in time");
		else
			socket.sleep(0.03);
		end
	end
	hang_up(self);
	return self;
end

local function wait_gone(self, seconds)
	local deadline = socket.gettime() + seconds;
	while self:alive() do
		if socket.gettime() > deadline then return false; end
		socket.sleep(0.02);
	end
	return true;
end

-- Waits for a server that ends by itself.
function Server:wait_ended(seconds)
	hang_up(self);
	assert(wait_gone(self, seconds), "the server goes on");
end

-- Asks the server to stop and waits for it; true if it did so by itself.
function Server:terminate(seconds)
	hang_up(self);
	if not self:alive() then return true; end
	run("kill -TERM " .. self.pid);
	if wait_gone(self, seconds or 30) then return true; end
	run("kill -KILL " .. self.pid);
	wait_gone(self, 5);
	return false;
end

function Server:kill()
	hang_up(self);
	if self:alive() then
		run("kill -KILL " .. self.pid);
		wait_gone(self, 5);
		-- a thread in a system call outlives the process a little, and keeps its sockets open
		while self:connectable(self.control) do socket.sleep(0.01); end
	end
end

-- Stops the server for good and removes its directory.
function Server:stop()
	local gracefully = self:terminate();
	M.running[self] = nil;
	if not os.getenv("ENJAMB_KEEP") and self.dir:match("^/.*/enjamb%-test%.%w+$") then
		run("rm -rf " .. quote(self.dir));
	end
	return gracefully;
end

function Server:restart()
	self:terminate();
	return self:launch();
end

function Server:log(from)
	return (read_file(self.logfile) or ""):sub((from or 0) + 1);
end

function Server:log_size()
	return lfs.attributes(self.logfile, "size") or 0;
end

-- Runs a piece of Lua in the server and returns what it returns (through JSON).
function Server:eval(code, ...)
	if select("#", ...) > 0 then
		local args = {};
		for i = 1, select("#", ...) do
			local v = select(i, ...);
			args[i] = type(v) == "string" and ("%q"):format(v):gsub("\\\n", "\\n") or tostring(v);
		end
		code = "local a, b, c, d = " .. table.concat(args, ", ") .. "\n" .. code;
	end
	local conn = self.control_conn;
	if not conn then
		conn = socket.tcp();
		conn:settimeout(30);
		assert(conn:connect(self.address, self.control));
		self.control_conn = conn;
	end
	assert(conn:send(("%d\n%s"):format(#code, code)));
	local len, err = conn:receive("*l");
	if not len then
		self.control_conn = nil;
		error("no answer from the server's control port: " .. tostring(err), 2);
	end
	local text = assert(conn:receive(tonumber(len)));
	local answer = assert(json.decode(text));
	if answer.error then error("in the server: " .. answer.error, 2); end
	return answer.value;
end

-- Evaluates `code` until it returns something true: for `seconds`, or longer, for machines that do much else.
function Server:wait_for(code, seconds, what)
	local deadline = socket.gettime() + math.max(seconds or 0, 20);
	while true do
		local value = self:eval(code);
		if value then return value; end
		if socket.gettime() > deadline then
			error("the server never got to: " .. (what or code), 2);
		end
		socket.sleep(0.02);
	end
end

function Server:wait_hibernating(jid, seconds)
	return self:wait_for(("local s = session(%q); return s and s.hibernating and true"):format(jid), seconds, jid .. " hibernating");
end

function Server:wait_gone(jid, seconds)
	return self:wait_for(("return session(%q) == nil"):format(jid), seconds, jid .. " gone");
end

function Server:prosodyctl(args)
	return run(("cd %s && lua5.4 %s --config %s %s </dev/null"):format(quote(self.dir), quote(self.where.prosodyctl), quote(self.config), args));
end

function M.stop_all()
	for srv in pairs(M.running) do srv:stop(); end
end

return M;
