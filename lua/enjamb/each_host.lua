-- Something for each host and component that is there, and for each that comes: `require "enjamb.each_host"(module, f, priority)`,
-- f(name).

local pairs = pairs;

local hosts = prosody.hosts;

return function (module, f, priority)
	for name in pairs(hosts) do
		f(name);
	end
	module:hook_global("host-activated", f, priority);
end;
