-- The internal storage, as long as the file "faults" in the data path does not say otherwise. It has lines of a method and what
-- becomes of it, "error" (it returns nil and why) or "throw":
--
--   get error
--   users throw

local datamanager = require "core.storagemanager".olddm;

local host = module.host;

local function fault(method)
	local f = io.open(prosody.paths.data.."/faults");
	if not f then return nil; end
	local text = f:read("a");
	f:close();
	local what = text:match(method.." (%a+)");
	if what then prosody.test_faults = (prosody.test_faults or 0) + 1; end
	if what == "throw" then error("the disk is on fire", 0); end
	return what and "the disk is not there";
end

local keyval = {};

function keyval:get(username)
	local err = fault("get");
	if err then return nil, err; end
	return datamanager.load(username, host, self.store);
end

function keyval:set(username, data)
	local err = fault("set");
	if err then return nil, err; end
	return datamanager.store(username, host, self.store, data);
end

function keyval:users()
	local err = fault("users");
	if err then return nil, err; end
	return datamanager.users(host, self.store, "keyval");
end

local driver = {};

function driver:open(store, kind) -- luacheck: ignore 212/self
	if kind and kind ~= "keyval" then return nil, "unsupported-store"; end
	return setmetatable({ store = store }, { __index = keyval });
end

module:provides("storage", driver);
