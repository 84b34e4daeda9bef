-- A process that takes a second of CPU time whenever somebody looks how much it has taken.

module:set_global();

local os = os;
local clock, n = os.clock, 0;

function os.clock() -- luacheck: ignore 122
	n = n + 1;
	return clock() + n;
end
