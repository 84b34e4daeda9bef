-- A session made again of what is known of it: without a connection, and where Prosody looks for sessions. Nobody is told
-- anything, since nothing has changed.

local recalc_resource_map = require "util.presence".recalc_resource_map;
local sessionmanager = require "core.sessionmanager";

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local waiting = module:require "waiting";

local ipairs, next = ipairs, next;

local bare_sessions, full_sessions, hosts = prosody.bare_sessions, prosody.full_sessions, prosody.hosts;
local host = module.host;

-- Fields that are as they were.
local plain_fields = { "resource", "priority", "interested", "client_id", "ip", "secure", "encrypted", "state", "auth_scope" };

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

-- Makes the session. Its account is yet to be looked at, unless `judged`, { role, ending, account_gone }: the role that it has today, and
-- whether it is there only for as long as it takes to end it. Nil and why, and whether that may change by itself, if it cannot be done now; then
-- it is as if nothing had been tried.
local function revive(state, judged)
	local session = waiting.new(state.ip);
	local own = own_of(session);
	session.username, session.host = state.username, host;
	for i = 1, #plain_fields do
		local field = plain_fields[i];
		session[field] = state[field];
	end
	session.full_jid = state.username.."@"..host.."/"..state.resource;
	own.credentials = state.credentials or false;
	own.former_role, own.lacks_roster = state.role, true;
	if judged then
		session.role, own.account_gone = judged.role, judged.account_gone;
	else
		own.unverified = true;
	end

	local user = hosts[host].sessions[state.username];
	if not user then
		user = waiting.new_account();
		hosts[host].sessions[state.username] = user;
		bare_sessions[state.username.."@"..host] = user;
	end
	user.sessions[state.resource] = session;
	full_sessions[session.full_jid] = session;

	local function complete()
		-- Only now: it is kept for the account's sessions together, if there are any.
		local err = judged and waiting.want_roster(session);
		if err then
			return "the roster cannot be read: "..err, true;
		end
		if state.presence then
			own.kept_presence = state.presence;
			session.priority = session.priority or 0; -- it may have been noted while that presence was processed
			-- Prosody looks whether there is one, not what is in it.
			session.presence = true;
			recalc_resource_map(user);
			session.presence = nil;
		end
		if state.directed then
			session.directed = {};
			for _, jid in ipairs(state.directed) do
				session.directed[jid] = true;
			end
		end
		local _, failed = contain.fire("smacks-restore-session", session, { session = session, state = state });
		return failed > 0 and not (judged and judged.ending) and "another module failed with it" or nil;
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
