-- Has mod_muc_enjamb loaded wherever mod_muc is, by whichever of Enjamb's modules comes first: nobody has to enable it.
-- Unloaded with the last of them. Loaded by mod_smacks and mod_minimix, into their environment.

local lfs = require "lfs";
local modulemanager = require "core.modulemanager";

local enjamb = require "enjamb";
local contain = require "enjamb.contain"(module);
local open_journal = require "enjamb.open_journal";

local jn, kept = enjamb.journal, enjamb.muc;
local pairs, tostring = pairs, tostring;

local hosts = prosody.hosts;
local name = "muc_enjamb";
local ours = { "smacks", "minimix" };

-- Whether rooms of that component are to be kept.
local function is_wanted(component)
	return module:context(component):get_option_boolean("smacks_keep_rooms", true);
end

local function look(component)
	local of_host = hosts[component];
	if not of_host or of_host.type ~= "component" or not modulemanager.is_loaded(component, "muc")
	or modulemanager.is_loaded(component, name) or not is_wanted(component) then return; end
	local ok, err = modulemanager.load(component, name);
	if not ok then
		module:log("error", "The rooms of %s will not outlive the server: %s", component, tostring(err));
	end
end

-- Components to which something is hooked already.
local watched = {};
local function watch(component)
	local of_host = hosts[component];
	if not of_host or of_host.type ~= "component" or watched[of_host] then return; end
	watched[of_host] = true;
	module:hook_object_event(of_host.events, "module-loaded", function (event)
		if event.module == "muc" then look(component); end
	end);
	look(component);
end

-- After Prosody has loaded the modules of the host.
require "enjamb.each_host"(module, watch, -10);

local journal = module:shared("/*/smacks/journal");

local function is_without_journal(host)
	return module:context(host):get_option_string("smacks_durability", "process") == "none";
end

local function wants_journal(host)
	return (modulemanager.is_loaded(host, "smacks") or modulemanager.is_loaded(host, name)) and not is_without_journal(host);
end

-- What was kept of rooms that are not to be any more would come back one day, long after it was so.
local function forget_rooms()
	for component in pairs(hosts) do
		local why = not is_wanted(component) and "smacks_keep_rooms is false" or is_without_journal(component) and "smacks_durability is \"none\"";
		local rooms = why and kept.rooms(component) or {};
		for _, jid in pairs(rooms) do
			kept.forget(jid);
		end
		if rooms[1] then
			module:log("info", "%d rooms of %s are not as they were before the restart: %s", #rooms, component, why);
		end
	end
end

-- The same where nobody wants the journal that a former run has left.
local function forget_rooms_left()
	for host in pairs(hosts) do
		if wants_journal(host) then return; end
	end
	if module:context("*"):get_option("smacks_replica") then return; end -- what is copied is not changed without the copy
	if lfs.attributes(prosody.paths.data.."/enjamb-journal", "mode") ~= "directory" then return; end
	if not open_journal(module, "rooms of a former run may come back from it one day") then return; end
	contain.attempt(nil, "forgetting rooms of a former run", forget_rooms);
	contain.attempt(nil, "closing the journal", jn.close); -- which commits
end

-- The journal is open by then (mod_smacks, -10), if anybody wants it.
module:hook_global("server-started", function ()
	if journal.open then
		forget_rooms();
	elseif not journal.left then -- the first that asks does it for all
		journal.left = true;
		forget_rooms_left();
	end
end, -15);

-- Whether one of our modules is loaded, but the one that is being unloaded.
local function is_anybody_left()
	for domain in pairs(hosts) do
		for _, other in pairs(ours) do
			if modulemanager.is_loaded(domain, other) and not (domain == module.host and other == module.name) then return true; end
		end
	end
	return false;
end

return {
	unload = function ()
		if is_anybody_left() then return; end
		for component in pairs(hosts) do
			if modulemanager.is_loaded(component, name) then
				modulemanager.unload(component, name);
			end
		end
	end;
};
