-- What a room sends, for a while, goes another way: its own methods say what there is to say, and only the way out is another one.

local xpcall = require "enjamb.prosody".xpcall;
local error, rawget = error, rawget;
local traceback = debug.traceback;

-- Calls f(...), during which each stanza of the room is given to route(stanza, send, room), where send(room, stanza) is the way that it
-- would have gone.
return function (room, route, f, ...)
	local own, send = rawget(room, "route_stanza"), room.route_stanza;
	room.route_stanza = function (self, stanza) return route(stanza, send, self); end
	local ok, result = xpcall(f, traceback, ...);
	room.route_stanza = own;
	if not ok then error(result, 0); end
	return result;
end;
