-- The library, for a module of that version. One of another version is in memory if Enjamb was installed anew and the module reloaded:
-- a reload loads the module's files, but never the library.

local enjamb = require "enjamb";
local refuse = require "enjamb.refusal";

return function (name, version)
	if enjamb.version ~= version then
		refuse(name.." is of Enjamb "..version..", the library in memory of "..tostring(enjamb.version)
			..": restart Prosody after installing another version");
	end
	return enjamb;
end;
