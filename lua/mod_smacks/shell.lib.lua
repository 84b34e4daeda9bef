-- The admin shell's `smacks` section: sessions that wait for their clients, and the replica.

local jid = require "util.jid";

local own_of = module:require "session";

local ipairs, next, pairs, setmetatable, tostring, type = ipairs, next, pairs, setmetatable, tostring, type;
local os_time = os.time;

local host = module.host;

local env = module:shared("/*/admin_shell/env");
-- By host: what each has to tell.
local by_host = module:shared("/*/smacks/shell");

local commands = {};

local function sessions(match)
	local found = {};
	for _, of_host in pairs(by_host) do
		for _, session in ipairs(of_host.sessions()) do
			if session.hibernating and (not match or session.full_jid == match or jid.bare(session.full_jid) == match or session.host == match) then
				found[#found+1] = session;
			end
		end
	end
	table.sort(found, function (a, b)
		if a.hibernating ~= b.hibernating then return a.hibernating < b.hibernating; end
		return a.full_jid < b.full_jid;
	end);
	return found;
end

local function line(print, ...)
	print(("%-48s %10s %10s %12s %12s"):format(...));
end

function commands:list(match)
	local print = self.session.print;
	line(print, "Session", "Away for", "Ends in", "Stanzas", "Bytes");
	local now, stanzas, bytes = os_time(), 0, 0;
	local found = sessions(match);
	for _, session in ipairs(found) do
		local queue = session.outgoing_stanza_queue;
		local n_stanzas, n_bytes = queue:count_unacked(), queue:count_bytes();
		stanzas, bytes = stanzas + n_stanzas, bytes + n_bytes;
		local age = now - session.hibernating;
		local timeout = own_of(session).timeout;
		local left = timeout and timeout - age;
		line(print, session.full_jid, age.." s", left and left.." s" or "?", n_stanzas, n_bytes);
	end
	return true, ("%d sessions wait, with %d stanzas (%d bytes)"):format(#found, stanzas, bytes);
end

function commands:drop(match) -- luacheck: ignore 212/self
	if type(match) ~= "string" or match == "" then
		return false, "Say which: a full JID, a bare JID or a host";
	end
	local found = sessions(match);
	for _, session in ipairs(found) do
		by_host[session.host].drop(session);
	end
	if #found == 0 then
		return false, "No session of "..match.." waits";
	end
	return true, ("%d sessions end; what is queued for them is stored or returned"):format(#found);
end

local function ago(seconds)
	return seconds and ("%.1f s"):format(seconds) or "-";
end

function commands:replica()
	local _, of_host = next(by_host);
	local state, name, phase = of_host.replica();
	if not state or phase == "off" then
		return true, "There is no replica (smacks_replica)";
	end
	local print = self.session.print;
	for _, item in ipairs {
		{ "Name", name };
		{ "Role", state.role };
		{ "Reason", state.reason };
		{ "Holder", state.holder };
		{ "Epoch", state.epoch };
		{ "Lease left", ago(state.left) };
		{ "Database", state.connected and "connected" or "out of reach" };
		{ "Lag", ("%d bytes"):format(state.lag or 0) };
		{ "Behind for", state.behind_since and ago(state.behind_since) };
		{ "Commit takes", state.latency and ("%.1f ms"):format(state.latency * 1000) };
	} do
		if item[2] ~= nil then
			print(("%-14s %s"):format(item[1], tostring(item[2])));
		end
	end
	return true, state.role == "holder" and "This server serves" or "This server does not serve";
end

function commands:handover() -- luacheck: ignore 212/self
	local _, of_host = next(by_host);
	return of_host.hand_over();
end

-- Prosody 13 shows this in its help.
local help = {
	desc = "Sessions that have lost their connection and wait for their clients; the replica";
	commands = {
		replica = { desc = "Show who serves, and how far behind the database is"; args = {} };
		handover = { desc = "Give the lease to the server that waits, and end this one; clients lose a connection, no more"; args = {} };
		list = { desc = "List them, with their age and what is queued; of all, a host or a JID"; args = { { name = "jid" } } };
		drop = { desc = "End those of a JID or host; what is queued is stored or returned"; args = { { name = "jid" } } };
	};
};

-- `host_tells` has sessions(), the managed sessions of this host, drop(session), and what replica.lib.lua has of replica() and hand_over().
local function show(host_tells)
	by_host[host] = host_tells;
	env.smacks = setmetatable(commands, { help = help });
end

local function unload()
	by_host[host] = nil;
	if next(by_host) == nil then
		env.smacks = nil;
	end
end

return {
	show = show;
	unload = unload;
};
