-- Calls of what may fail, so that it does not take along what comes after it: one process serves everybody.

local pcall, xpcall = pcall, xpcall;
local traceback = debug.traceback;

-- Calls f(...). Returns true and what it gives; false and the error with where it came from.
local function attempt(f, ...)
	return xpcall(f, traceback, ...);
end

return {
	attempt = attempt;
	-- The same for a storage, or for one thing among many, whose error is an answer: just the error.
	ask = pcall;
};
