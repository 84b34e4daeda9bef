-- Whether an address is at a host of this server that has accounts: no room is there.

local jid_host = require "util.jid".host;

local hosts = prosody.hosts;

return function (address)
	local of_host = hosts[jid_host(address)];
	return of_host ~= nil and of_host.type == "local";
end;
