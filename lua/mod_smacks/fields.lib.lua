-- What other modules put on a session, and whether it outlives the server: docs/for-modules.md.
--
-- Fields that are known or named are kept. Others may have been set by a module when the connection was made; a session that
-- comes back takes them over from the first connection that it gets.

local new_set = require "util.set".new;

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";

local getmetatable, ipairs, pairs, tostring, type = getmetatable, ipairs, pairs, tostring, type;
local find, math_huge = string.find, math.huge;

local hosts = prosody.hosts;
local host = module.host;

-- Of modules that come with Prosody or are widely used. Not all are loaded; then nobody sets them.
local known = {
	"want_carbons"; -- mod_carbons
	"mam_requested"; -- mod_mam
	"interested_blocklist"; -- mod_blocklist
	"push_identifier", "push_settings"; -- mod_cloud_notify
	"push_registration_id", "push_registration", "last_activity"; -- mod_push2
	"rooms_joined"; -- mod_track_muc_joins
	"activePrivacyList"; -- mod_privacy_lists
};

-- What Prosody itself has on a session: it belongs to the connection, or is kept as it ought to be.
local own = new_set {
	"type", "id", "log", "ip", "conn", "conntime", "since", "send", "rawsend", "close", "filter", "filters", "data", "dispatch_stanza", "stream",
	"streamid", "notopen", "open_stream", "reset_stream", "thread", "version", "host", "username", "resource", "full_jid", "roster", "presence",
	"priority", "directed", "interested", "role", "auth_scope", "sasl_handler", "sasl_resource", "secure", "encrypted", "compressed", "starttls",
	"ssl_cfg", "ssl_ctx", "stanza_size_limit", "throttle", "state", "websocket_request", "direction", "incoming", "outgoing", "external_auth",
	"external_auth_failure_reason", "hibernating", "hibernating_watchdog", "destroyed", "destruction_reason", "resumption_counter",
	"resumption_token", "handled_stanza_count", "outgoing_stanza_queue", "awaiting_ack", "ack_requested_at", "delayed_ack_timer", "sid", "rid",
	"requests", "replybuffer", "previd",
};
local own_prefixes = { "^smacks", "^enjamb", "^bosh_", "^sasl2", "^fast_", "^csi_", "^websocket_" };

local function is_own(name)
	if own:contains(name) then return true; end
	for _, prefix in ipairs(own_prefixes) do
		if find(name, prefix) then return true; end
	end
	return false;
end

-- Whether it is text, a number, true or false, or a table of such, and not large: something that is bound to no connection.
local function is_plain(value, depth, budget)
	budget.left = budget.left - 1;
	local kind = type(value);
	if kind == "string" or kind == "boolean" then return budget.left > 0; end
	if kind == "number" then return value == value and value ~= math_huge and value ~= -math_huge; end
	if kind ~= "table" or depth > 8 or getmetatable(value) ~= nil then return false; end
	for k, v in pairs(value) do
		if budget.left <= 0 or type(k) ~= "string" and type(k) ~= "number" or not is_plain(v, depth + 1, budget) then return false; end
	end
	return true;
end

local function is_data(value)
	return value ~= nil and is_plain(value, 0, { left = 1000 });
end

-- Named by the admin, and by modules.
local named = {};

local function name_field(name, by)
	if type(name) ~= "string" or is_own(name) then
		module:log("error", "A field of sessions that %s wants to be kept is none that can be: %s", by, tostring(name));
		return;
	end
	named[name] = (named[name] or 0) + 1;
end

for _, name in ipairs(module:get_option_array("smacks_kept_fields", {})) do
	name_field(name, "the option 'smacks_kept_fields'");
end

module:handle_items("smacks-kept-field", function (event)
	name_field(event.item, event.source and event.source.name and "mod_"..event.source.name or "a module");
end, function (event)
	local n = named[event.item];
	named[event.item] = n and n > 1 and n - 1 or nil;
end, true);

local function save(event)
	local session, state = event.session, event.state;
	for _, name in ipairs(known) do
		if is_data(session[name]) then
			state[name] = session[name];
		end
	end
	for name in pairs(named) do
		if is_data(session[name]) then
			state.fields = state.fields or {};
			state.fields[name] = session[name];
		end
	end
end

module:hook("smacks-save-session", save, 100);

-- What modules read when a resource is bound, and have for all sessions of the account; one of them writes it when one ends.
local of_account = {
	firewall = function (user, username, session)
		user.firewall_marks = user.firewall_marks or module:open_store("firewall_marks"):get(username) or {};
		session.firewall_marks = user.firewall_marks;
	end;
	privacy_lists = function (user, username)
		user.privacy_lists = user.privacy_lists or module:open_store("privacy"):get(username) or { lists = {} };
	end;
};

module:hook("smacks-restore-session", function (event)
	local session, state = event.session, event.state;
	for _, name in ipairs(known) do
		session[name] = state[name];
	end
	for name, value in pairs(type(state.fields) == "table" and state.fields or {}) do
		if not is_own(name) then
			session[name] = value;
		end
	end
	own_of(session).lacks_fields = true;
	for name, restore in pairs(of_account) do
		if hosts[host].modules[name] then
			restore(hosts[host].sessions[session.username], session.username, session);
		end
	end
end, 100);

-- A module has changed what is kept, and not because of a stanza that the client has sent.
local touched = module:shared("/*/smacks/touched");
module:hook("smacks-session-changed", function (event)
	local session = event.session;
	if own_of(session).stream then
		own_of(session).state_changed = true;
		touched[session] = true;
	end
end);

local function copy_missing(session, from)
	for name, value in pairs(from) do
		if session[name] == nil and type(name) == "string" and not is_own(name) and is_data(value) then
			session[name] = value;
		end
	end
end

return {
	-- At its first resumption a session that came back takes over what it has not from that of the connection.
	take_over = function (session, from)
		if not own_of(session).lacks_fields then return; end
		own_of(session).lacks_fields = nil;
		contain.attempt(session, "taking over fields of the new connection", copy_missing, session, from);
	end;
};
