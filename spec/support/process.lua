-- Programs that the tests start, other people's clients above all.

local server = require "support.server";
local socket = require "socket";

-- A process whose standard input is ours to write to (its end, which also
-- comes when the tests end in whatever way, makes each of them stop) and whose
-- output is collected in a file.
local Process = {};
Process.__index = Process;
local processes = {};

local M = {};

function M.start(dir, name, command)
	local base = dir .. "/" .. name;
	assert(server.run("mkfifo " .. server.quote(base .. ".in")) == 0);
	server.write_file(base .. ".out", "");
	local p = assert(io.popen(("exec %s <%s >%s 2>%s & echo $!"):format(command, server.quote(base .. ".in"),
		server.quote(base .. ".out"), server.quote(base .. ".err"))));
	local pid = p:read("n");
	p:close();
	local self = setmetatable({
		name = name; pid = pid; base = base; lines = {}; rest = "";
		input = assert(io.open(base .. ".in", "w"));
		output = assert(io.open(base .. ".out", "r"));
	}, Process);
	self.input:setvbuf("line");
	table.insert(processes, self);
	return self;
end

function Process:alive()
	local stat = server.read_file("/proc/" .. self.pid .. "/stat");
	local state = stat and stat:match("^%d+ %(.*%) (%a)");
	return state ~= nil and state ~= "Z" and state ~= "X";
end

-- Takes in what it has printed since.
function Process:poll()
	local text = self.output:read("a");
	if text and text ~= "" then
		self.rest = self.rest .. text;
		for line in self.rest:gmatch("([^\n]*)\n") do table.insert(self.lines, line); end
		self.rest = self.rest:match("[^\n]*$");
	end
end

-- The lines that start with that word, without it.
function Process:said(word)
	self:poll();
	local out = {};
	for _, line in ipairs(self.lines) do
		local first, rest = line:match("^(%S+) ?(.*)$");
		if first == word then table.insert(out, rest); end
	end
	return out;
end

function Process:describe()
	self:poll();
	local lines = table.move(self.lines, math.max(1, #self.lines - 15), #self.lines, 1, {});
	local err = server.read_file(self.base .. ".err") or "";
	return ("-- %s --\n%s\n%s"):format(self.name, table.concat(lines, "\n"), err:sub(-3000));
end

-- Ends it; nil if it had to be killed.
function Process:stop()
	if self.stopped then return true; end
	self.stopped = true;
	self.input:close();
	local deadline = socket.gettime() + 20;
	while self:alive() and socket.gettime() < deadline do socket.sleep(0.02); end
	local alive = self:alive();
	if alive then server.run("kill -KILL " .. self.pid); end
	self.output:close();
	return not alive or nil;
end

function M.stop_all()
	for i = #processes, 1, -1 do processes[i]:stop(); end
	processes = {};
end

return M;
