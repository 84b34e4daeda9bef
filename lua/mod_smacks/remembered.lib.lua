-- How much of sessions that are gone had been handled, for clients that come back too late (XEP-0198 §5).

local own_store = module:open_store("smacks_h");
local sm = require "enjamb".smacks;

local floor, tonumber = math.floor, tonumber;
local ipairs, next, pairs, type = ipairs, next, pairs, type;
local os_time = os.time;

-- Given by mod_smacks.lua.
local options;

local function remember(session)
	local username = session.username;
	local sessions, err = own_store:get(username);
	if err then
		module:log("error", "Could not read the counts of %s's earlier sessions: %s", username, err);
	end
	sessions = sessions or {};
	sessions[session.resumption_token] = { h = session.handled_stanza_count; t = os_time() };
	local times = {};
	for id, old in pairs(sessions) do
		times[id] = floor(tonumber(old.t) or 0);
	end
	for _, id in ipairs(sm.forgotten(times, options.max_old_sessions)) do
		sessions[id] = nil;
	end
	local ok;
	ok, err = own_store:set(username, next(sessions) and sessions or nil);
	if not ok then
		module:log("error", "Could not store the counts of %s's earlier sessions: %s", username, err);
	end
end

local function recall(session, id)
	if type(id) ~= "string" or id == "" then return nil; end
	local sessions = own_store:get(session.username);
	local old = sessions and sessions[id];
	return old and old.h;
end

return {
	take = function (parts) options = parts.options; end;
	recall = recall;
	remember = remember;
};
