-- A client that logs in anew with the resource of a session that it has: its places in rooms are held until it has joined again, or for
-- half a minute. While one is held it is sent nothing from there; what is said meanwhile it gets as history when it joins.

local jid_bare = require "util.jid".bare;

local next, setmetatable, type = next, setmetatable, type;

local bare_sessions = prosody.bare_sessions;
local host = module.host;

local hold_time = 30;

-- Sessions that end since another one has their resource.
local replaced = setmetatable({}, { __mode = "k" });
-- By account and resource: the rooms that it has joined again, and the `turn` of the library at which it was replaced.
local held = {};
local mx, perform;

module:hook("pre-session-close", function (event)
	local reason = event.reason;
	if type(reason) == "table" and reason.condition == "conflict" then
		replaced[event.session] = true;
	end
end, 10);

-- `only`: if it is still that one.
local function let_go(account, resource, only)
	local of_account = held[account];
	local hold = of_account and of_account[resource];
	if not hold or only and hold ~= only then return; end
	of_account[resource] = nil;
	if next(of_account) == nil then held[account] = nil; end
	local user = bare_sessions[account];
	local decisions = mx.not_back(account, resource, user ~= nil and next(user.sessions) ~= nil, hold.turn);
	if decisions[1] then
		perform(decisions, account);
	end
end

-- Holds the places of a session that has ended. Says whether it does.
local function hold(session)
	local account, resource = session.username.."@"..host, session.resource;
	if not replaced[session] then
		-- One that had replaced another, and has not joined everything again.
		let_go(account, resource);
		return false;
	end
	local decisions, turn = mx.replaced(account, resource);
	local one = { turn = turn, joined = {} };
	held[account] = held[account] or {};
	held[account][resource] = one;
	module:add_timer(hold_time, function () let_go(account, resource, one); end);
	if decisions[1] then
		perform(decisions, account);
	end
	return true;
end

return {
	hold = hold;
	is_replaced = function (session) return replaced[session] ~= nil; end;
	-- Whether a client is sent nothing from there.
	is_held = function (account, resource, from)
		if next(held) == nil then return false; end
		local of_account = held[account];
		local one = of_account and of_account[resource];
		return one and from and not one.joined[jid_bare(from)];
	end;
	joined = function (account, resource, room)
		local of_account = held[account];
		local one = of_account and of_account[resource];
		if one then one.joined[room] = true; end
	end;
	watch = function (library, perform_decisions)
		mx, perform = library, perform_decisions;
	end;
};
