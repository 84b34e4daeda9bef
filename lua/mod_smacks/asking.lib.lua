-- Asking for acks, and noticing that nobody answers. When is the library's to say (crates/stream-management, asking).

local time_now = require "util.time".now;
local timer = require "util.timer";

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local queue_of = module:require "queue";
local sm = require "enjamb".smacks;

local sm_wants_ack = sm.wants_ack;
local floor = math.floor;
local ipairs, next, pairs = ipairs, next, pairs;

local callbacks = module:shared("callbacks");
-- Sessions that are to be asked a little later.
callbacks.to_ask = callbacks.to_ask or {};

-- Given by mod_smacks.lua.
local send_element, options;

local request_of = {};
for _, xmlns in ipairs(sm.namespaces) do
	request_of[xmlns] = "<r xmlns='"..xmlns.."'/>";
end

-- The library's clock: whole milliseconds.
local function milliseconds()
	return floor(time_now() * 1000);
end

function callbacks.ack_delayed(session, key)
	if session.destroyed or own_of(session).stream ~= key then return; end
	local late = sm.lateness(key, milliseconds());
	if late ~= true then return late and late / 1000; end
	session.log("debug", "No answer to an ack request for %d seconds", options.ack_delay);
	queue_of.fire("smacks-ack-delayed", session, { origin = session });
end

-- Asks, if there is something to ask for. `force`: even if it is little, and at once.
local function request(session, force)
	local own = session.enjamb;
	local key = own and own.stream;
	-- The library would say no, but this is asked whenever something was sent.
	if not key or session.awaiting_ack or session.destroyed then return; end
	local now = floor(time_now() * 1000);
	local wanted = sm_wants_ack(key, session.state == "inactive", force or false, now);
	if wanted == false then
		return;
	elseif wanted ~= true then
		if next(callbacks.to_ask) == nil then
			timer.add_task(wanted / 1000, function () callbacks.ask_late(); end);
		end
		callbacks.to_ask[session] = true;
		return;
	end
	local look_in = sm.requested(key, now);
	session.awaiting_ack = true;
	if look_in then
		timer.add_task(look_in / 1000, function () return callbacks.ack_delayed(session, key); end);
	end
	send_element(session, request_of[session.smacks]);
end

callbacks.ask = request;

function callbacks.ask_late()
	local sessions = callbacks.to_ask;
	callbacks.to_ask = {};
	for session in pairs(sessions) do
		contain.attempt(session, "asking for an ack", request, session);
	end
end

-- Nothing has come in for long. True: its connection may still be alive; false: it is not; nil: nobody here knows.
local function is_alive(session)
	local key = own_of(session).stream;
	if not key then return nil; end
	local follows = sm.silence(key, milliseconds());
	if follows == "ask" then
		request(session, true);
	end
	return follows ~= "dead";
end

return {
	take = function (parts) send_element, options = parts.filters.send_element, parts.options; end;
	is_alive = is_alive;
	request = request;
};
