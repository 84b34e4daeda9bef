-- Finds and loads the native library: enjamb.so, or where there is to be a replica enjamb-replica.so, which is that and as much again.
--
-- Prosody (0.12 and 13) puts share/lua/5.4 of its installer_plugin_path on package.path, but forgets lib/lua/5.4 for
-- package.cpath; 0.11 knows neither. So the library is looked for in the tree that this file is in, and only then where Lua looks.

local refuse = require "enjamb.refusal";

local name = ...;
local path = require "debug".getinfo(1, "S").source:match("^@(.*)$"); -- Lua 5.1 does not say

local function has_replica()
	return rawget(_G, "prosody") and require "core.configmanager".get("*", "smacks_replica") ~= nil;
end

local file_name = has_replica() and "enjamb-replica" or "enjamb";

local function candidates()
	local tree, version = (path or ""):match("^(.*)/share/lua/([%d.]+)/[^/]*$");
	local found = {};
	if tree then
		found[1] = tree.."/lib/lua/"..version.."/"..file_name..".so";
	end
	for template in package.cpath:gmatch("[^;]+") do
		local file = template:gsub("?", file_name);
		local exists = io.open(file);
		if exists then
			exists:close();
			found[#found+1] = file;
		end
	end
	return found;
end

local problems = {};
for _, file in ipairs(candidates()) do
	local open, err = package.loadlib(file, "luaopen_enjamb");
	if open then
		local opened, library = pcall(open, name, file);
		if not opened then
			refuse("Enjamb's library, "..file..", does not work here: "..tostring(library));
		end
		if rawget(_G, "prosody") then -- in a test there is none
			local loggers, init = {}, require "util.logger".init;
			library.log(function (level, crate, message)
				loggers[crate] = loggers[crate] or init("enjamb:"..crate);
				loggers[crate](level, "%s", message);
			end);
		end
		return library;
	end
	problems[#problems+1] = tostring(err);
end
if #problems == 0 then
	problems[1] = "there is no "..file_name..".so in lib/lua/"..(_VERSION:match("[%d.]+")).." beside "..tostring(path).." nor in package.cpath";
end
refuse("Enjamb's library could not be loaded: "..table.concat(problems, "; ")
	..". It must be of the same package as mod_smacks and made for ".._VERSION.." on this system ('prosodyctl mod_smacks check' says more)");
