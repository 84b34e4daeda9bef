-- A session made again of what is known of it: without a connection, and where Prosody looks for sessions. Nobody is told
-- anything, since nothing has changed.

local recalc_resource_map = require "util.presence".recalc_resource_map;
local rostermanager = require "core.rostermanager";
local sessionmanager = require "core.sessionmanager";
local parse_xml = require "util.xml".parse;

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";

local ipairs, next, setmetatable, tostring = ipairs, next, setmetatable, tostring;

local bare_sessions, full_sessions, hosts = prosody.bare_sessions, prosody.full_sessions, prosody.hosts;
local host = module.host;

-- Fields that are as they were.
local plain_fields = { "resource", "priority", "interested", "client_id", "ip", "secure", "encrypted", "state", "auth_scope" };

local disconnected = {};
function disconnected.write()
	return nil, "disconnected";
end

-- Takes a session back out of where Prosody looks for sessions, without telling anybody: it was never there.
local function withdraw(session)
	local user = hosts[host].sessions[session.username];
	if user and user.sessions[session.resource] == session then
		user.sessions[session.resource] = nil;
		if next(user.sessions) == nil then
			hosts[host].sessions[session.username] = nil;
			bare_sessions[session.username.."@"..host] = nil;
		else
			recalc_resource_map(user);
		end
	end
	if full_sessions[session.full_jid] == session then
		full_sessions[session.full_jid] = nil;
	end
	sessionmanager.retire_session(session);
end

-- Makes the session, with the role that it has today. `ending`: only for as long as it takes to end it. Nil and why, and
-- whether that may change by itself, if it cannot be done now; then it is as if nothing had been tried.
local function revive(state, role, new_thread, ending, account_gone)
	local conn = setmetatable({ ip = function () return state.ip; end }, { __index = disconnected });
	local session = sessionmanager.new_session(conn);
	session.conn = nil;
	session.type = "c2s";
	session.username, session.host = state.username, host;
	own_of(session).account_gone = account_gone or nil;
	for _, field in ipairs(plain_fields) do
		session[field] = state[field];
	end
	session.full_jid = state.username.."@"..host.."/"..state.resource;
	session.role = role;
	own_of(session).credentials = state.credentials or false;
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

	local function complete()
		-- Only now: it is kept for the account's sessions together, if there are any.
		local err;
		session.roster, err = rostermanager.load_roster(state.username, host);
		if err then
			return "the roster cannot be read: "..tostring(err), true;
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
		local _, failed = contain.fire("smacks-restore-session", session, { session = session, state = state });
		return failed > 0 and not ending and "another module failed with it" or nil;
	end
	local ok, reason, may_change = contain.attempt(session, "bringing back a session", complete);
	if not ok or reason then
		withdraw(session);
		return nil, ok and reason or "an error was raised", ok and may_change;
	end
	return session;
end

return {
	revive = revive;
	withdraw = withdraw;
};
