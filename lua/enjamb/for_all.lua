-- Something that is done for very many at a start, with Lua's collector standing still: it would run whenever the heap has grown
-- by a part, and nothing of what is made is garbage. Afterwards it is as it was, whatever its mode.
--
-- `require "enjamb.for_all"(module)`. Knows nothing of what is done.

local time_now = require "util.time".now;

local collectgarbage, pcall = collectgarbage, pcall;

-- It stands still until memory has doubled, and grown by so many KiB.
local uncollected = 128 * 1024;
-- After so many seconds, and as many again, the log says how far it is.
local told_every = 2;

-- Lua 5.1 cannot say.
local function is_collecting()
	local is_known, is_running = pcall(collectgarbage, "isrunning");
	return not is_known or is_running;
end

return function (module)
	local attempt = require "enjamb.contain"(module).attempt;

	-- Calls f(each) for all in the list. What goes wrong with one is in the log.
	return function (list, what, f)
		local is_running = is_collecting();
		local before, next_time = collectgarbage("count"), time_now() + told_every;
		collectgarbage("stop");
		for n = 1, #list do
			attempt(nil, what, f, list[n]);
			local now = collectgarbage("count");
			if is_running and now > 2 * before + uncollected then
				collectgarbage();
				before = collectgarbage("count");
			end
			if n % 100 == 0 and time_now() > next_time then
				module:log("info", "%s: %d of %d", what, n, #list);
				next_time = time_now() + told_every;
			end
		end
		if is_running then
			collectgarbage("restart");
		end
	end
end;
