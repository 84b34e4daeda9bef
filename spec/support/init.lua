-- What every spec file starts with:
--
--   local t = require "support";
--   t.each("acks", { config = "smacks_hibernation_time = 2" }, function (ctx, it) ... end)
--
-- makes one describe block for each version of Prosody with one server in it.
-- ctx.srv is that server, ctx:user() makes an account, ctx:login() a client
-- that's logged in, ctx:contacts() two accounts that see each other.
-- After each test the connections are cut and the server's log is searched for
-- errors; a test for which some are expected says so with ctx:allow("pattern").

local busted = require "busted";
local server = require "support.server";
local client = require "support.client";

local M = { server = server, client = client };
M.builtin = server.smacks == "builtin";
M.sm3, M.sm2 = client.sm3, client.sm2;
M.ns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
M.ns_delay = "urn:xmpp:delay";

local Ctx = {};
Ctx.__index = Ctx;

local users = 0;

-- A new account; its name.
function Ctx:user(prefix)
	users = users + 1;
	local name = (prefix or "user") .. users;
	self.srv:adduser(name, "secret");
	return name;
end

function Ctx:connect(how, fields)
	return client[how or "connect"](self.srv, fields);
end

-- A client that's logged in (opts: user, resource, how = "connect"/"websocket"/"bosh",
-- enable = attributes of <enable/>, available = send presence).
function Ctx:login(opts)
	opts = opts or {};
	local c = self:connect(opts.how);
	c:login(opts.user or self:user(), "secret", opts.resource);
	if opts.enable then c:enable(opts.enable == true and { resume = "true" } or opts.enable); end
	if opts.available then
		c:presence();
		c:expect({ name = "presence", from = c.jid });
	end
	return c;
end

-- One with stream management that can be resumed.
function Ctx:resumable(opts)
	opts = opts or {};
	opts.enable = opts.enable or { resume = "true" };
	return self:login(opts);
end

-- Cuts a client's connection and waits until the server has noticed.
function Ctx:hibernate(c)
	c:cut();
	self.srv:wait_hibernating(c.jid);
	return c;
end

-- A new connection that's authenticated but not bound.
function Ctx:authenticated(user, how)
	return self:connect(how):authenticate(user, "secret");
end

-- A new connection that takes over the session of `old`.
function Ctx:resume(old, h, how)
	return self:authenticated(old.username or old.jid:match("^[^@]+"), how):resume(old, h);
end

-- Makes two accounts that are subscribed to each other.
function Ctx:contacts()
	local a, b = self:user("a"), self:user("b");
	self:befriend(a, b);
	return a, b;
end

-- A name is one at the server's host; an address stays as it is.
function Ctx:address(name)
	return name:find("@", 1, true) and name or name .. "@" .. self.srv.host;
end

function Ctx:befriend(a, b)
	self.srv:eval([[
		local rm, jid = require "core.rostermanager", require "util.jid";
		local function add(who, contact)
			local user, host = jid.split(who);
			local roster = rm.load_roster(user, host);
			roster[contact] = { subscription = "both", groups = {} };
			rm.save_roster(user, host, roster, contact);
		end
		add(a, b); add(b, a);
	]], self:address(a), self:address(b));
end

function Ctx:allow(pattern)
	table.insert(self.allowed, pattern);
end

function Ctx:events(name, origin)
	local out = {};
	for _, e in ipairs(self.srv:eval("return events")) do
		if (not name or e.name == name) and (not origin or e.origin == origin or e.session == origin) then out[#out + 1] = e; end
	end
	return out;
end

function Ctx:clear_events()
	self.srv:eval("for i = #events, 1, -1 do events[i] = nil end");
end

-- A field (or several, "a.b") of a session.
function Ctx:field(jid, expression)
	return self.srv:eval(("local s = session(%q); if not s then return nil end; return %s"):format(jid, expression));
end

-- Lines of the server's log that tell of errors.
function Ctx:log_errors(from)
	local bad = {};
	for line in self.srv:log(from):gmatch("[^\n]+") do
		local is_bad = line:match("\terror\t") or line:match("^stack traceback:") or line:match("Traceback");
		if is_bad then
			local ok = false;
			for _, p in ipairs(self.allowed) do
				if line:match(p) then ok = true; end
			end
			if not ok then bad[#bad + 1] = line; end
		end
	end
	return bad;
end

local function make_it(ctx)
	return function (name, fn)
		busted.it(name, function ()
			ctx.allowed = {};
			if not ctx.srv:alive() then ctx.srv:launch(); end
			local mark = ctx.srv:log_size();
			local result = table.pack(xpcall(fn, function (e)
				local lines = {};
				for line in debug.traceback("", 2):gmatch("[^\n]+") do
					if line:match("spec/%a+/[%w_]+_spec%.lua") then lines[#lines + 1] = line; end
				end
				local trace = "\n" .. table.concat(lines, "\n");
				if type(e) == "string" then return e .. trace; end
				if type(e) == "table" and type(e.message) == "string" then e.message = e.message .. trace; end
				return e;
			end));
			client.cut_all();
			if os.getenv("ENJAMB_KEEP") and not result[1] then print("log of the failed test: " .. ctx.srv.logfile .. " from byte " .. mark); end
			if not result[1] then error(result[2], 0); end
			local bad = ctx:log_errors(mark);
			if #bad > 0 then
				error("errors in the server's log:\n" .. table.concat(bad, "\n", 1, math.min(#bad, 12)), 0);
			end
			if not ctx.srv:alive() then error("the server has died", 0); end
		end);
	end
end

function M.each(name, opts, fn)
	for _, version in ipairs(server.versions()) do
		busted.describe(("%s (Prosody %s)"):format(name, version), function ()
			local ctx = setmetatable({ version = version, allowed = {} }, Ctx);
			busted.lazy_setup(function ()
				local o = {};
				for k, v in pairs(opts) do o[k] = v; end
				o.version = version;
				ctx.srv = server.start(o);
			end);
			busted.lazy_teardown(function ()
				if ctx.srv then ctx.srv:stop(); end
			server.forget_certificates();
			end);
			fn(ctx, make_it(ctx));
		end);
	end
end

-- For tests that start their own servers.
function M.versions(name, fn)
	for _, version in ipairs(server.versions()) do
		busted.describe(("%s (Prosody %s)"):format(name, version), function ()
			local started = {};
			local function start(opts)
				opts = opts or {};
				opts.version = version;
				local srv = server.start(opts);
				started[#started + 1] = srv;
				return setmetatable({ version = version, srv = srv, allowed = {} }, Ctx);
			end
			busted.after_each(function ()
				client.cut_all();
				for _, srv in ipairs(started) do srv:stop(); end
				started = {};
			end);
			fn(start, version);
		end);
	end
end

M.bodies, M.only, M.escape = client.bodies, client.only, client.escape;

-- { "m1", ..., "mN" }
function M.numbered(prefix, n, first)
	local out = {};
	for i = first or 1, n do out[#out + 1] = prefix .. i; end
	return out;
end

-- The condition of a <failed/> or of an error stanza, and how many there are.
function M.condition(el)
	local found, n = nil, 0;
	for _, c in ipairs(el:children()) do
		if c.ns == M.ns_errors and c.name ~= "text" then found = found or c.name; n = n + 1; end
	end
	return found, n;
end

function M.delay(el)
	return el:child("delay", M.ns_delay);
end

return M;
