-- Stores that are on this machine only, where another server is to find them: by what is configured, so prosodyctl can ask as well.
--
-- Prosody resolves a store's driver as is done here (core.storagemanager); it is not asked, since that would load drivers.

local config = require "core.configmanager";

local ipairs, type = ipairs, type;

-- What a server that takes over needs, and of which modules; false: always.
local of_accounts = {
	{ "accounts", false }, { "roster", false }, { "smacks_h", false }, { "minimix", "minimix" },
	{ "offline", false }, { "archive", "mam" }, { "pep", "pep" },
};
local of_rooms = { { "persistent", false }, { "config", false } };

local function driver_of(host, store)
	local storage = config.get(host, "storage");
	if type(storage) == "table" then
		storage = storage[store];
	end
	return type(storage) == "string" and storage or config.get(host, "default_storage") or "internal";
end

local function is_file(host)
	local sql = config.get(host, "sql");
	return type(sql) ~= "table" or sql.driver == nil or sql.driver == "SQLite3";
end

-- Names of such stores of a host, and what they are on. `has(module)`: whether that is enabled there; `is_muc`: it has rooms, not accounts.
return function (host, has, is_muc)
	local names, on = {}, nil;
	for _, item in ipairs(is_muc and of_rooms or of_accounts) do
		local store, wants = item[1], item[2];
		local driver = driver_of(host, store);
		local is_local = driver == "internal" or driver == "memory" or driver == "sql" and is_file(host);
		local internal_accounts = store ~= "accounts" or (config.get(host, "authentication") or "internal_hashed"):match("^internal");
		if is_local and internal_accounts and (not wants or has(wants)) then
			names[#names+1], on = store, driver == "sql" and "SQLite3" or driver;
		end
	end
	return names, on;
end;
