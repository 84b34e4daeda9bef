-- What account-level MUC takes: for metrics and for the admin shell. The library knows it for the whole server, so one host
-- measures for all.

local is_the_one = require "enjamb.one_host"(module);
local versions = require "enjamb.prosody";

local env = module:shared("/*/admin_shell/env");

local function show(mx)
	local function gauge(name, description)
		return versions.metric(module, "gauge", name, "", description);
	end
	local accounts = gauge("accounts", "accounts that are in rooms");
	local memberships = gauge("memberships", "rooms that they are in, in all");
	local bytes = gauge("kept_bytes", "bytes that are kept of what rooms said");

	module:hook_global("stats-update", function ()
		if not is_the_one() then return; end
		local n_accounts, n_memberships, n_bytes = mx.totals();
		accounts:set(n_accounts);
		memberships:set(n_memberships);
		bytes:set(n_bytes);
	end);

	local commands = {};
	function commands:list()
		local print = self.session.print;
		local names, sizes = {}, mx.rooms();
		for name in pairs(sizes) do names[#names+1] = name; end
		table.sort(names, function (a, b)
			if sizes[a] ~= sizes[b] then return sizes[a] > sizes[b]; end
			return a < b;
		end);
		print(("%-64s %12s"):format("Room", "Bytes"));
		for i = 1, math.min(#names, 50) do
			print(("%-64s %12d"):format(names[i], sizes[names[i]]));
		end
		local n_accounts, n_memberships, n_bytes = mx.totals();
		return true, ("%d accounts are in %d rooms (%d memberships); %d bytes are kept of what those said"):format(n_accounts, #names,
			n_memberships, n_bytes);
	end
	env.minimix = setmetatable(commands, { help = {
		desc = "Rooms that accounts are in (account-level MUC)";
		commands = { list = { desc = "List the largest, with what is kept of their occupants", args = {} } };
	} });
end

return { show = show };
