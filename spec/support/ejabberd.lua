-- Starts an ejabberd for the tests: rooms of another make, across s2s. It runs as this user, from a directory of its own, on
-- loopback, without Erlang's distribution, and asks no DNS.
--
--   local ejabberd = require "support.ejabberd";
--   if ejabberd.installed() then
--     local ej = ejabberd.start { host = "ej.test", service = "rooms.ej.test" }
--     ej.s2s, ej.c2s                       -- ports
--     ej:connect_to(port)                  -- where the other server listens; before launch()
--     ej:launch(); ej:kill(); ej:stop();

local socket = require "socket";
local lfs = require "lfs";
local server = require "support.server";
local quote, run = server.quote, server.run;

local M = { running = {} };
local Ejabberd = {};
Ejabberd.__index = Ejabberd;

-- Where Debian puts it.
local libs;
function M.installed()
	if libs == nil then
		local _, out = run("ls -d /usr/lib/*/ejabberd-*/ebin 2>/dev/null; command -v erl");
		libs = out:match("^(/usr/lib/[^/]+)/ejabberd%-") and out:match("/erl\n") and out:match("^(/usr/lib/[^/\n]+)") or false;
	end
	return libs and true;
end

local config = [[
loglevel: info
hosts:
  - %s
certfiles:
  - %s/%s.pem
  - %s/%s.pem
ca_file: %s/ca.crt
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
outgoing_s2s_families: [ipv4]
s2s_use_starttls: required
listen:
  - port: %d
    ip: "127.0.0.1"
    module: ejabberd_c2s
  - port: %d
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
shaper: {}
modules:
  mod_disco: {}
  mod_ping: {}
  mod_s2s_dialback: {}
  mod_muc:
    host: %s
    access: all
    access_create: all
    history_size: 20
    default_room_options:
      allow_change_subj: false
]];

function M.start(opts)
	local code, out = run("mktemp -d ${TMPDIR:-/tmp}/enjamb-test.XXXXXX");
	assert(code == 0, out);
	local self = setmetatable({
		opts = opts; host = opts.host; service = opts.service; dir = out:match("^(%S+)"); address = "127.0.0.1";
		c2s = server.free_port(); s2s = server.free_port();
	}, Ejabberd);
	assert(lfs.mkdir(self.dir .. "/spool"));
	for _, host in ipairs { self.host, self.service } do
		server.certificate(self.dir, host);
		assert(run(("cd %s && cat %s.crt %s.key >%s.pem"):format(quote(self.dir), host, host, host)) == 0);
	end
	M.running[self] = true;
	return self;
end

function Ejabberd:connect_to(port)
	self.other = port;
	server.write_file(self.dir .. "/ejabberd.yml", config:format(self.host, self.dir, self.host, self.dir, self.service,
		server.certificate_authority(), self.c2s, self.s2s, self.service));
	server.write_file(self.dir .. "/inetrc", '{lookup, [native]}.\n{resolv_conf, "/dev/null"}.\n{hosts_file, "/dev/null"}.\n');
end

-- Answers what ejabberd asks the DNS: every server of XMPP is on this machine, at the other server's port.
local names = [[
{ok, S} = gen_udp:open(0, [binary, {ip, {127,0,0,1}}, {active, false}]), {ok, P} = inet:port(S), inet_db:add_ns({127,0,0,1}, P),
Loop = fun(F) -> {ok, {A, From, <<Id:16, _:80, Q/binary>>}} = gen_udp:recv(S, 0),
	{Z, _} = binary:match(Q, <<0>>), N = Z + 1, <<Name:N/binary, Type:16, _/binary>> = Q,
	Found = case {Type, Name} of
		{33, <<12, "_xmpp-server", _/binary>>} -> <<0:32, %d:16, 9, "localhost", 0>>;
		_ -> none end,
	gen_udp:send(S, A, From, case Found of
		none -> <<Id:16, 16#8183:16, 1:16, 0:48, Name/binary, Type:16, 1:16>>;
		_ -> <<Id:16, 16#8180:16, 1:16, 1:16, 0:32, Name/binary, Type:16, 1:16, 16#c00c:16, Type:16, 1:16, 60:32,
			(byte_size(Found)):16, Found/binary>> end),
	F(F) end,
gen_udp:controlling_process(S, spawn(fun() -> Loop(Loop) end)).]];

local function connectable(port)
	local s = socket.tcp();
	s:settimeout(1);
	local ok = s:connect("127.0.0.1", port);
	s:close();
	return ok;
end

function Ejabberd:alive()
	local stat = self.pid and server.read_file("/proc/" .. self.pid .. "/stat");
	local state = stat and stat:match("^%d+ %(.*%) (%a)");
	return state ~= nil and state ~= "Z" and state ~= "X";
end

function Ejabberd:launch()
	local settings = ("HOME=%s ERL_LIBS=%s ERL_INETRC=%s/inetrc EJABBERD_CONFIG_PATH=%s/ejabberd.yml EJABBERD_LOG_PATH=%s/ejabberd.log"):format(
		self.dir, libs, self.dir, self.dir, self.dir);
	local p = assert(io.popen(("cd %s && exec env %s erl -noinput -start_epmd false -mnesia dir '\"%s/spool\"' -eval %s -s ejabberd "
		.. ">>out 2>&1 </dev/null & echo $!"):format(quote(self.dir), settings, self.dir, quote(names:format(self.other)))));
	self.pid = p:read("n");
	p:close();
	local deadline = socket.gettime() + 240;
	while not (connectable(self.c2s) and connectable(self.s2s)) do
		if not self:alive() or socket.gettime() > deadline then
			self:kill();
			error("ejabberd didn't get ready:\n" .. (server.read_file(self.dir .. "/out") or ""):sub(-2000)
				.. (server.read_file(self.dir .. "/ejabberd.log") or ""):sub(-3000), 2);
		end
		socket.sleep(0.05);
	end
	return self;
end

function Ejabberd:kill()
	if self:alive() then run("kill -KILL " .. self.pid); end
	while self:alive() do socket.sleep(0.02); end
	while connectable(self.c2s) do socket.sleep(0.02); end
end

function Ejabberd:stop()
	self:kill();
	M.running[self] = nil;
	if not os.getenv("ENJAMB_KEEP") and self.dir:match("^/.*/enjamb%-test%.%w+$") then
		run("rm -rf " .. quote(self.dir));
	end
end

function M.stop_all()
	for ej in pairs(M.running) do ej:stop(); end
end

return M;
