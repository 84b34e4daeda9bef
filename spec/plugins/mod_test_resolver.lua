-- Sends outgoing server-to-server connections to addresses from the
-- configuration instead of asking the DNS:
--
--   test_resolver = { ["other.test"] = { "127.0.0.1", 5269 } }

module:set_global();

local manual = require "net.resolvers.manual";
local targets = module:get_option("test_resolver", {});

local function patch(name)
	local ok, service = pcall(require, name);
	if not ok or type(service) ~= "table" or service.test_resolver then return; end
	service.test_resolver = true;
	local new = service.new;
	service.new = function (host, ...)
		local t = targets[host];
		if t then return manual.new({ { "tcp", t[1], t[2], select(3, ...) or {} } }, "tcp"); end
		return new(host, ...);
	end;
end

patch("net.resolvers.service");
patch("prosody.net.resolvers.service");
