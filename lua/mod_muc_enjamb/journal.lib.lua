-- The journal, which is the process's: mod_smacks opens, commits and closes it. Without mod_smacks somebody has to.

local jn = require "enjamb".journal;
local open_journal = require "enjamb.open_journal";

local pairs, pcall, tostring = pairs, pcall, tostring;

-- By host of mod_smacks: open(), hand_over().
local by_host = module:shared("/*/smacks/keeping");
local journal = module:shared("/*/smacks/journal");

local level = module:get_option_string("smacks_durability", "process");

local function of_smacks(method)
	for _, of_host in pairs(by_host) do
		if of_host[method] then return of_host[method]; end
	end
end

-- Says whether it is open.
local function open()
	if level == "none" then return false; end
	local open_there = of_smacks("open");
	if journal.open or open_there and open_there() then return true; end
	journal.open = open_journal(module, "rooms will not outlive the server") ~= nil;
	return journal.open;
end

-- Hands to the operating system what was noted.
local function commit()
	if not journal.open then return; end
	local hand_over = of_smacks("hand_over");
	if hand_over then return hand_over(); end
	local err = jn.commit();
	if err and not journal.failing then
		module:log("error", "The journal cannot be written, what changes of rooms may not outlive the server until it can be: %s", err);
	end
	journal.failing = err and true or nil;
end

-- A commit tells it the time too, by which what was said leaves the disk. mod_smacks does it by itself.
module:add_timer(1, function ()
	if not of_smacks("hand_over") then commit(); end
	return 1;
end);

-- Unless mod_smacks is there, which closes it (-20).
module:hook_global("server-stopped", function ()
	if not journal.open or of_smacks("open") then return; end
	commit();
	journal.open = false;
	local ok, err = pcall(jn.close);
	if not ok then
		module:log("error", "The journal could not be closed well: %s", tostring(err));
	end
end, -10);

return {
	open = open;
	commit = commit;
	is_open = function () return journal.open == true; end;
};
