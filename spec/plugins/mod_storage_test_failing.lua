-- The storage "internal", which fails for as long as there is a file of the name in `test_failing_storage`.

local storagemanager = require "core.storagemanager";

local flag = module:get_option_string("test_failing_storage");
local internal = storagemanager.load_driver(module.host, "internal");

local function fails()
	local f = io.open(flag);
	if f then f:close(); end
	return f ~= nil;
end

local function open(_, ...)
	local store, err = internal:open(...);
	if not store then return nil, err; end
	return setmetatable({}, { __index = function (_, name)
		local method = store[name];
		if type(method) ~= "function" then return method; end
		return function (_, ...)
			if fails() then return nil, "the storage fails on purpose"; end
			return method(store, ...);
		end;
	end });
end

module:provides("storage", { name = "test_failing"; open = open });
