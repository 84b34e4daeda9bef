-- What of a session outlives the server beside its stream: what Prosody's modules know of it, as a string, and a session
-- made of that again.
--
-- The library's journal keeps the stream: counters and queue. Other modules add what they need by the events smacks-save-session and
-- smacks-restore-session, whose `state` is a table that is kept.

local hashes = require "util.hashes";
local recalc_resource_map = require "util.presence".recalc_resource_map;
local rostermanager = require "core.rostermanager";
local serialization = require "util.serialization";
local sessionmanager = require "core.sessionmanager";
local parse_xml = require "util.xml".parse;
local user_exists = require "core.usermanager".user_exists;

local bare_sessions, full_sessions, hosts = prosody.bare_sessions, prosody.full_sessions, prosody.hosts;
local host = module.host;
local accounts = module:open_store("accounts");

local serialize = serialization.new { preset = "compact", fatal = false };

-- Of what describe() gives.
local version = 1;

-- Fields that are kept as they are.
local plain_fields = {
	"resource", "priority", "interested", "interested_blocklist", "want_carbons", "mam_requested", "push_identifier", "push_settings",
	"client_id", "ip", "secure", "encrypted", "state",
};

-- Changes with the password. Nothing if the accounts are elsewhere.
local function credentials(username)
	local account = accounts:get(username);
	if not account then return nil; end
	local secret = account.stored_key or account.password;
	return secret and hashes.sha256(host.."\0"..username.."\0"..tostring(account.salt).."\0"..secret, true);
end

-- Read once per session: the store may be a file.
local function credentials_of(session)
	if session.smacks_credentials == nil then
		session.smacks_credentials = credentials(session.username) or false;
	end
	return session.smacks_credentials or nil;
end

module:hook_global("user-password-changed", function (event)
	local user = event.host == host and hosts[host].sessions[event.username];
	for _, session in pairs(user and user.sessions or {}) do
		session.smacks_credentials = nil; -- the session that changed it goes on
		session.smacks_state_changed = true;
	end
end);

-- A string from which the session can be made again.
local function describe(session, timeout)
	local state = {
		version = version; host = host; username = session.username; id = session.resumption_token; timeout = timeout; xmlns = session.smacks;
		credentials = credentials_of(session); role = session.role and session.role.name;
		presence = session.presence and tostring(session.presence);
	};
	for _, field in ipairs(plain_fields) do
		state[field] = session[field];
	end
	if session.directed then
		state.directed = {};
		for jid in pairs(session.directed) do
			state.directed[#state.directed+1] = jid;
		end
		table.sort(state.directed);
	end
	module:fire_event("smacks-save-session", { session = session, state = state });
	return serialize(state);
end

-- What describe() gave, as a table with the text itself; nil and why if it is not for this code.
local function read(text)
	local state = text ~= "" and serialization.deserialize(text);
	if type(state) ~= "table" then
		return nil, "what is known of them cannot be read";
	elseif state.version ~= version then
		return nil, ("they were kept by another version of mod_smacks (format %s, this one reads %d) and are left as they are")
			:format(tostring(state.version), version);
	end
	state.text = text;
	return state;
end

-- Why a session must not come back; nil if it may.
local function objection(state)
	if not user_exists(state.username, host) then
		return "the account is gone";
	elseif state.credentials and state.credentials ~= credentials(state.username) then
		return "the password was changed";
	end
	local user = hosts[host].sessions[state.username];
	if user and user.sessions[state.resource] then
		return "its resource is taken";
	end
end

local disconnected = {};
function disconnected.write()
	return nil, "disconnected";
end

-- Makes the session, without a connection, and puts it where Prosody looks for sessions.
local function revive(state, new_thread)
	local session = sessionmanager.new_session(setmetatable({ ip = function () return state.ip; end }, { __index = disconnected }));
	session.conn = nil;
	session.type = "c2s";
	session.username, session.host = state.username, host;
	-- Before there is a session of it, which Prosody takes for an account.
	session.smacks_account_gone = not user_exists(state.username, host) or nil;
	for _, field in ipairs(plain_fields) do
		session[field] = state[field];
	end
	session.full_jid = state.username.."@"..host.."/"..state.resource;
	local authz = hosts[host].authz;
	if authz and rawget(authz, "get_user_role") then -- Prosody 13
		session.role = state.role and authz.get_role_by_name(state.role) or authz.get_user_role(state.username);
	end
	session.thread = new_thread(session, {
		error = function (_, traceback)
			session.log("error", "Traceback[c2s]: %s", traceback);
		end;
	});

	local user = hosts[host].sessions[state.username];
	if not user then
		user = { sessions = {} };
		hosts[host].sessions[state.username] = user;
		bare_sessions[state.username.."@"..host] = user;
	end
	user.sessions[state.resource] = session;
	full_sessions[session.full_jid] = session;
	-- Only now: it is kept for the account's sessions together, if there are any.
	local err;
	session.roster, err = rostermanager.load_roster(state.username, host);
	if err then
		sessionmanager.destroy_session(session, err);
		return nil, err;
	end
	if state.presence then
		session.presence = parse_xml(state.presence);
		recalc_resource_map(user);
	end
	if state.directed then
		session.directed = {};
		for _, jid in ipairs(state.directed) do
			session.directed[jid] = true;
		end
	end
	module:fire_event("smacks-restore-session", { session = session, state = state });
	return session;
end

return {
	describe = describe;
	objection = objection;
	read = read;
	revive = revive;
};
