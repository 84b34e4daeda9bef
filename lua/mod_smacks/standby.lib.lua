-- While another server has the lease: this one has loaded everything, and has no port open and runs no timer.
--
-- Ports are held back from the first load of mod_smacks on: whoever wants one gets something in place of it, which becomes the port when all
-- sessions are back. The main loop has not begun, so no timer runs and nothing is read. Why here, and what it relies on: docs/architecture.md
-- ("Short cuts"). Knows nothing of the lease.

local modulemanager = require "core.modulemanager";
local portmanager = require "core.portmanager";
local server = require "net.server";
local signal = require "util.signal";

local getmetatable, ipairs, os, pairs, pcall, setmetatable = getmetatable, ipairs, os, pairs, pcall, setmetatable;
local tostring, type = tostring, type;

local standby = module:shared("/*/smacks/standby");

-- What stands for a port until it is opened, and passes everything on afterwards.
local function stand_in(addr, port, listeners, config)
	local real, closed;
	local held = { hosts = config.sni_hosts, tls_ctx = config.tls_ctx };
	local own = {};

	function own.sslctx(self) return self.tls_ctx; end
	function own.set_sslctx(self, tls_ctx) self.tls_ctx = tls_ctx; end
	function own.close() closed = true; end

	setmetatable(held, { __index = function (_, name)
		if not real then return own[name]; end
		local value = real[name];
		if type(value) ~= "function" then return value; end
		return function (_, ...) return value(real, ...); end;
	end });

	local function open(listen)
		if closed then return; end
		config.tls_ctx = held.tls_ctx;
		local err;
		real, err = listen(addr, port, listeners, config);
		if real then
			held.hosts, held.tls_ctx = nil, nil;
			return;
		end
		module:log("error", "Port %s on %s cannot be opened: %s", port, addr, err);
	end
	return held, open;
end

-- From now on no port is opened; those that are, since other modules were loaded before, are closed.
local function hold_ports()
	if standby.listen then return; end
	local listen, addserver = server.listen, server.addserver;
	local opened = {};
	standby.listen, standby.opened = listen, opened;

	function server.listen(addr, port, listeners, config)
		local held, open = stand_in(addr, port, listeners, config or {});
		opened[#opened+1] = open;
		return held;
	end
	function server.addserver(addr, port, listeners, read_size, tls_ctx)
		return server.listen(addr, port, listeners, { read_size = read_size; tls_ctx = tls_ctx; tls_direct = tls_ctx and true or false });
	end
	standby.give_back = function ()
		server.listen, server.addserver = listen, addserver;
	end;

	for _, _, _, _, active in portmanager.get_active_services():iter(nil, nil, nil, nil) do
		local real = active.server;
		active.server = server.listen(real.sockname, real.sockport, real.listeners, {
			read_size = real.read_size; tls_ctx = real.tls_ctx; tls_direct = real.tls_direct; sni_hosts = real.hosts;
		});
		real:close();
	end
end

-- The admin's shell is told that nobody is there, rather than left without an answer.
local function hide_admin_socket()
	if standby.is_hidden or not modulemanager.is_loaded("*", "admin_socket") then return; end
	standby.is_hidden = true;
	os.remove(module:context("*"):get_option_path("admin_socket", "prosody.sock", "data"));
end

local function show_admin_socket()
	if not standby.is_hidden then return; end
	standby.is_hidden = nil;
	local ok, err = modulemanager.reload("*", "admin_socket");
	if not ok then
		module:log("warn", "The admin's socket is not there again: %s", tostring(err));
	end
end

-- Opens what was held back.
local function open_ports()
	if not standby.opened then return; end
	standby.give_back();
	for _, open in ipairs(standby.opened) do
		open(standby.listen);
	end
	standby.opened, standby.give_back = nil, nil;
	show_admin_socket();
	module:log("info", "All is back, the ports are open");
end

-- While nothing else heeds signals, on 0.12 since the main loop has not begun, on 13 since it looks for them: whether somebody wants the process to
-- end. On 0.12 SIGHUP would end it.
local function heed_signals(of_main_loop)
	if signal.signalfd then return of_main_loop(); end
	local asked = false;
	local handlers = {
		SIGTERM = function () asked = true; end;
		SIGINT = function () asked = true; end;
		SIGHUP = function () end;
	};
	for name, handler in pairs(handlers) do
		signal.signal(name, handler);
	end
	return {
		asked = function () return asked; end;
		close = function ()
			for name in pairs(handlers) do signal.signal(name); end -- mod_posix has its own in the first turn of the main loop
		end;
	};
end

-- Tells systemd, if it wants to be told.
local function notify(text)
	if prosody.notify_socket then
		pcall(prosody.notify_socket.send, prosody.notify_socket, text);
	end
end

return {
	heed_signals = heed_signals;
	hide_admin_socket = hide_admin_socket;
	hold_ports = hold_ports;
	notify = notify;
	open_ports = open_ports;
	-- Whether Prosody's connections are those that the fence knows.
	is_supported = function () return server.get_backend() == "epoll" and getmetatable(require "util.poll".new()) ~= nil; end;
};
