-- Opens the journal, which is the process's, for the module that is the first to want it: what was found, or nothing. `cost`: what it
-- costs if that fails, for the log.

local jn = require "enjamb".journal;

local directory = prosody.paths.data.."/enjamb-journal";

return function (module, cost)
	local found, err, in_use = jn.open(directory);
	module:shared("/*/smacks/journal").in_use = in_use; -- by another server: mod_minimix heeds that
	if not found then
		module:log("error", "The journal in %s cannot be opened, %s: %s", directory, cost, err);
	end
	return found;
end;
