-- What differs between versions of Prosody, and of Lua, in one place: whoever wants it takes it from here, and has it as Prosody 0.12 and
-- Lua 5.4 have it. The other files need not know that there is a Prosody 0.11, which lacks most of this.
--
-- Knows nothing of what it is used for. What only some versions have, and the shims do without elsewhere (roles, periods), is not here.

local statsmanager = require "core.statsmanager";
local is_prosodys = require "enjamb.is_prosodys";

local pairs, pcall, setmetatable, tostring = pairs, pcall, setmetatable, tostring;
local hosts = prosody.hosts;

local versions = {};

-- Lua ---------------------------------------------------------------------------------------------------------------------

versions.unpack = table.unpack or unpack; -- luacheck: ignore 113/unpack
versions.xpcall = require "util.xpcall".xpcall; -- with arguments, which Lua 5.1's has not

versions.move = table.move or function (from, first, last, at, to)
	to = to or from;
	local forward = to ~= from or at <= first or at > last;
	for i = forward and 0 or last - first, forward and last - first or 0, forward and 1 or -1 do
		to[at + i] = from[first + i];
	end
	return to;
end;

-- Errors and stanzas ------------------------------------------------------------------------------------------------------

local has_errors, errors = pcall(require, "util.error");

-- An error that other modules know; `context` belongs to whoever makes it.
function versions.new_error(err, context)
	if has_errors then return errors.new(err, context); end
	return { type = err.type; condition = err.condition; text = err.text; context = context };
end

-- The child of that name that has the attribute.
function versions.child_with_attr(stanza, name, xmlns, attr, value)
	if stanza.get_child_with_attr then return stanza:get_child_with_attr(name, xmlns, attr, value); end
	for child in stanza:childtags(name, xmlns) do
		if child.attr[attr] == value then return child; end
	end
	return nil;
end

-- Rooms -------------------------------------------------------------------------------------------------------------------

-- Whether that account does not see the others' real JIDs.
function versions.is_anonymous_for(room, account)
	if room.is_anonymous_for then return room:is_anonymous_for(account); end
	if room:get_whois() == "anyone" then return false; end
	local affiliation, occupant = room:get_affiliation(account), room:get_occupant_by_real_jid(account);
	return affiliation ~= "owner" and affiliation ~= "admin" and not (occupant and occupant.role == "moderator");
end

-- Metrics -----------------------------------------------------------------------------------------------------------------

-- Whether there is anybody to tell.
versions.has_metrics = statsmanager.get_metric_registry ~= nil and statsmanager.get_metric_registry() and true or false;

-- A gauge, with set(), or a histogram, with sample(), of a module.
function versions.metric(module, kind, name, unit, description, options)
	if module.metric then
		return module:metric(kind, name, unit, description, {}, options):with_labels();
	end
	local measure = module:measure(name, kind == "gauge" and "amount" or "distribution");
	local function told(_, value) measure(value); end
	return { set = told; sample = told };
end

-- Sessions and connections ------------------------------------------------------------------------------------------------

-- What 0.11 has not got: the second half of send(), without the filters of stanzas.
local function add_rawsend(session)
	-- Found and set from outside, as those of session.send() are.
	session.rawsend = function (t)
		t = session.filter("bytes/out", tostring(t));
		if not t then return true; end
		local conn = session.conn;
		if not conn then return false, "disconnected"; end
		local ok, err = conn:write(t);
		if not ok then
			session.log("debug", "Error writing to connection: %s", tostring(err));
			return false, err;
		end
		return true;
	end;
end

-- A stanza of the session's own, as if it came in: what Prosody gives each session with its connection. mod_presence of 0.11 has a session
-- that ends tell so by it.
function versions.dispatch_stanza(session, stanza)
	session.thread:run(session.filter("stanzas/in", stanza));
end

-- A client's session has all that one of 0.12 has.
function versions.complete(session)
	if session.rawsend or session.type:sub(1, 3) ~= "c2s" or not is_prosodys(session.send) then return; end
	add_rawsend(session);
end

local wrapped = setmetatable({}, { __mode = "k" });

-- An event before a stream is closed.
local function announce_close(session)
	local close = session.close;
	if not close or wrapped[close] then return; end
	local function announced(self, reason)
		local event = { session = self; reason = reason };
		if hosts[self.host] then
			hosts[self.host].events.fire_event("pre-session-close", event);
		end
		return close(self, event.reason);
	end
	wrapped[announced] = true;
	session.close = announced;
end

-- Events when a connection has taken all that it was given.
local function announce_drains(module, kind)
	local service = require "core.portmanager".get_service(kind);
	local listener = service and service.listener;
	if not listener or listener.ondrain then return; end
	local sessions = module:shared("/*/"..kind.."/sessions");
	function listener.ondrain(conn)
		local session = sessions[conn];
		local host = session and hosts[session.host];
		if not host then return; end
		host.events.fire_event(kind.."-pre-ondrain", { session = session });
		host.events.fire_event(kind.."-ondrain", { session = session });
	end
end

-- The events and functions of sessions of 0.12, for a module of an earlier one.
function versions.prepare(module)
	if module.metric then return; end
	local function prepare(session)
		versions.complete(session);
		announce_close(session);
	end
	module:hook("stream-features", function (event) prepare(event.origin); end, 1000);
	for _, session in pairs(prosody.full_sessions) do
		if session.host == module.host then
			prepare(session);
		end
	end
	local function announce()
		announce_drains(module, "c2s");
		announce_drains(module, "s2s");
	end
	if prosody.start_time then
		announce();
	else
		module:hook_global("server-started", announce, 1000);
	end
end

return versions;
