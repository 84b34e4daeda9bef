-- What a session may do once it is back: never more than its account may today, nor than what its new connection was
-- given. In doubt less.
--
-- Prosody 13 gives each session a role. 0.12 has none on the session and looks at the account each time.

local usermanager = require "core.usermanager";

local host, hosts = module.host, prosody.hosts;
local ipairs, pcall, type = ipairs, pcall, type;

local function has_roles()
	return usermanager.get_user_role ~= nil;
end

-- Whether everything that `lesser` may is also in `role`.
local function includes(role, lesser)
	if role.name == lesser.name then return true; end
	for _, inherited in ipairs(role.inherits or {}) do
		if type(inherited) == "table" and includes(inherited, lesser) then return true; end
	end
	return false;
end

-- The role of that name, if there is one: get_role_by_name raises an error for others.
local function role_named(name)
	local authz = hosts[host].authz;
	local ok, role = pcall(authz.get_role_by_name, name);
	return ok and role or nil;
end

-- What is kept of a session's role: its name, or false for none; nil where there are no roles.
local function describe(session)
	if not has_roles() then return nil; end
	return session.role and session.role.name or false;
end

-- The role of a session that comes back, by what describe() gave; nothing if it has none. Nil and why if it cannot be had;
-- and true if that may change by itself.
local function restored(username, name)
	if not has_roles() or name == false then return nil; end
	local ok, role, err = pcall(usermanager.get_user_role, username, host);
	if not ok then
		return nil, role, true;
	elseif not role then
		if err == "unknown-role" then
			return nil, "its account's role is not known here";
		end
		return nil, err or "its account has no role", err ~= nil;
	elseif name == nil or role.name == name then -- kept by a Prosody without roles, or nothing has changed
		return role;
	end
	local former = role_named(name);
	if not former then
		return nil, "there is no role '"..name.."' any more";
	elseif includes(role, former) then
		return former;
	elseif includes(former, role) then
		return role;
	end
	local asked, may = pcall(usermanager.user_can_assume_role, username, host, name);
	if asked and may then
		return former;
	end
	return nil, "its account may not have the role '"..name.."' any more";
end

-- What `session` may once it has the connection of `from`: the lesser of both roles. Of two that cannot be compared that of
-- the connection, which it could have had for a session of its own.
local function resumed(session, from)
	session.auth_scope = session.auth_scope or from.auth_scope;
	local role, other = session.role, from.role;
	if not role or not has_roles() then return role; end
	if other and includes(other, role) then return role; end
	return other;
end

return {
	describe = describe;
	restored = restored;
	resumed = resumed;
};
