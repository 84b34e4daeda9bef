-- What is of the whole server one host does, whichever has the module: `require "enjamb.one_host"(module)` is a function that says
-- whether it is this one.

local hosts = prosody.hosts;

return function (module)
	local shared = module:shared("/*/"..module.name.."/one_host");
	return function ()
		local one = hosts[shared.host];
		if not (one and one.modules[module.name]) then
			shared.host = module.host;
		end
		return shared.host == module.host;
	end
end;
