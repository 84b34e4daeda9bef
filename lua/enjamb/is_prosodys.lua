-- Whether a function is Prosody's own session.send(), which logs, runs filters and writes; and not one that a module has put in its
-- place. Of both modules: what they leave out of it they may leave out of no other.

local debug_info = require "debug".getinfo;
local setmetatable, type = setmetatable, type;
local find = string.find;

local known = setmetatable({}, { __mode = "k" });

return function (send)
	if type(send) ~= "function" then return false; end
	local is = known[send];
	if is == nil then
		is = find(debug_info(send, "S").source, "sessionmanager.lua", 1, true) ~= nil;
		known[send] = is;
	end
	return is;
end;
