-- The storage "internal", which fails for as long as there is a file of the name in `test_failing_storage`; if a name is in it, for that
-- account only.

local storagemanager = require "core.storagemanager";

local flag = module:get_option_string("test_failing_storage");
local internal = storagemanager.load_driver(module.host, "internal");

local function fails(username)
	local f = io.open(flag);
	if not f then return false; end
	local whose = f:read("a");
	f:close();
	return whose == "" or whose == username;
end

local function open(_, ...)
	local store, err = internal:open(...);
	if not store then return nil, err; end
	return setmetatable({}, { __index = function (_, name)
		local method = store[name];
		if type(method) ~= "function" then return method; end
		return function (_, username, ...)
			if fails(username) then return nil, "the storage fails on purpose"; end
			return method(store, username, ...);
		end;
	end });
end

module:provides("storage", { name = "test_failing"; open = open });
