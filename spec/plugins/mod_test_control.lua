-- Lets the tests look and reach into the server: runs the Lua that comes in on
-- a loopback port and answers with JSON, records the events of mod_smacks (with
-- test_control_events = true), and stops the server when the tests are gone.

module:set_global();

local server = require "net.server";
local json = require "util.json";
local st = require "util.stanza";
local async = require "util.async";

local port = module:get_option_number("test_control_port");
local parent = module:get_option_number("test_control_parent");

local control = module:shared("/*/test_control/state");
control.events = control.events or {};

local env = setmetatable({
	module = module;
	prosody = prosody;
	st = st;
	events = control.events;
	kept = {}; -- for the tests to keep things in
}, { __index = _G });

function env.session(jid)
	return prosody.full_sessions[jid];
end

function env.host_module(host, name)
	return require "core.modulemanager".get_module(host, name);
end

local function plain(v, depth)
	local t = type(v);
	if t == "string" or t == "boolean" then return v; end
	if t == "number" then
		if v ~= v or v == math.huge or v == -math.huge then return tostring(v); end
		return v;
	end
	if t == "table" and (depth or 0) < 8 then
		if st.is_stanza(v) then return tostring(v); end
		local out = {};
		for k, x in pairs(v) do
			out[type(k) == "number" and k or tostring(k)] = plain(x, (depth or 0) + 1);
		end
		return out;
	end
	if v == nil then return nil; end
	return tostring(v);
end

local function answer(code)
	local f, err = load(code, "=test", "t", env);
	if not f then return { error = err }; end
	local ok, value = xpcall(f, debug.traceback);
	if not ok then return { error = tostring(value) }; end
	return { value = plain(value) };
end

local buffers = {};
local listener = {};
function listener.onconnect(conn) buffers[conn] = ""; end
function listener.onincoming(conn, data)
	local buffer = (buffers[conn] or "") .. data;
	while true do
		local len, pos = buffer:match("^(%d+)\n()");
		if not len or #buffer < pos + len - 1 then break; end
		local code = buffer:sub(pos, pos + len - 1);
		buffer = buffer:sub(pos + len);
		local text = json.encode(answer(code));
		conn:write(("%d\n%s"):format(#text, text));
	end
	buffers[conn] = buffer;
end
function listener.ondisconnect(conn) buffers[conn] = nil; end
function listener.onreadtimeout() return true; end

local handle;
function module.load()
	handle = assert(server.listen("127.0.0.1", port, listener, {}));
end
function module.unload()
	if handle then handle:close(); end
end

module:add_timer(5, function ()
	local f = io.open("/proc/" .. parent .. "/stat");
	if f then f:close(); return 5; end
	os.exit(1); -- whoever started this is gone
end);

local function queue_info(q)
	if type(q) ~= "table" then return nil; end
	local out = {};
	for i = 1, #q do out[i] = st.is_stanza(q[i]) and tostring(q[i]) or type(q[i]); end
	return out;
end

local function session_name(s)
	return s and (s.full_jid or s.id or s.type);
end

function module.add_host(module)
	local recorded = {
		"smacks-hibernation-start"; "smacks-hibernation-end"; "smacks-hibernation-stanza-queued"; "smacks-ack-delayed";
		"delivery/success"; "delivery/failure";
	};
	if not module:get_option_boolean("test_control_events", false) then recorded = {}; end
	for _, name in ipairs(recorded) do
		module:hook(name, function (event)
			local keys = {};
			for k in pairs(event) do keys[#keys + 1] = tostring(k); end
			table.sort(keys);
			table.insert(control.events, {
				name = name; host = module.host; keys = keys;
				origin = session_name(event.origin); resumed = session_name(event.resumed); session = session_name(event.session);
				stanza = event.stanza and tostring(event.stanza);
				stanza_id = event.stanza and event.stanza.attr.id;
				identity = event.stanza and ("%p"):format(event.stanza);
				queue = queue_info(event.queue);
				queue_type = type(event.queue);
				queue_metatable = type(event.queue) == "table" and getmetatable(event.queue) ~= nil;
				first = event.queue and type(event.queue) == "table" and event.queue[1] and ("%p"):format(event.queue[1]) or nil;
				hibernating = (event.origin or event.session) and (event.origin or event.session).hibernating and true or false;
				watchdog = event.origin and event.origin.hibernating_watchdog and true or false;
			});
		end, 1000);
	end

	-- A message with the body "wait N" takes N seconds to be processed.
	local function slow(event)
		local body = event.stanza:get_child_text("body");
		local seconds = body and body:match("^wait ([%d.]+)$");
		if not seconds then return; end
		local wait, done = async.waiter();
		module:add_timer(tonumber(seconds), function () done(); end);
		wait();
	end
	module:hook("pre-message/full", slow, 1000);
	module:hook("pre-message/bare", slow, 1000);
	module:hook("pre-message/host", slow, 1000);

	-- One with the body "fail" makes its handler raise an error.
	local function bad(event)
		if event.stanza:get_child_text("body") == "fail on purpose" then error("failed on purpose"); end
	end
	module:hook("pre-message/full", bad, 1000);
	module:hook("pre-message/bare", bad, 1000);
end
