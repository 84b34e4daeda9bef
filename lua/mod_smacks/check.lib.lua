-- prosodyctl mod_smacks check: whether Enjamb is installed as it should be, and what to do if not.
--
-- It runs in prosodyctl, as Prosody's user, whether or not a server runs. It changes nothing: the journal is looked at in a
-- copy, since a server may have it open.

local config = require "core.configmanager";
local lfs = require "lfs";

local local_stores = module:require "stores";

local concat, ipairs, pairs, pcall, tostring, type = table.concat, ipairs, pairs, pcall, tostring, type;
local format = string.format;

-- How much of a journal is copied, in bytes.
local largest_copy = 256 * 1024 * 1024;

-- Values that options may have, beside those that are said otherwise.
local function number(least)
	return function (value)
		return type(value) == "number" and value >= least, "a number from "..least;
	end;
end

local function period(value)
	if type(value) == "string" and module.get_option_period then
		return value == "never" or value:match("^%s*%d+%s*%l*%s*$") ~= nil, "a number of seconds, or a text like \"10 minutes\"";
	end
	return type(value) == "number" and value >= 0, "a number of seconds";
end

local function boolean(value)
	local said = tostring(value):lower();
	return said == "true" or said == "false", "true or false";
end

local function one_of(...)
	local allowed, names = {}, {};
	for i, value in ipairs { ... } do
		allowed[value], names[i] = true, format("%q", value);
	end
	return function (value)
		return allowed[value] == true, concat(names, ", ");
	end;
end

local function list(value)
	return type(value) == "table" or type(value) == "string", "a list of names";
end

local function database(value)
	return type(value) == "string" and value:match("^postgres%a*://[^/]+/[^/?]+") ~= nil, "like \"postgresql://user:password@host/database\"";
end

local function cluster(value)
	return type(value) == "string" and value ~= "" and #value <= 200, "a name";
end

local options = {
	minimix_archive = boolean;
	minimix_join_timeout = period;
	minimix_max_account_bytes = number(1);
	minimix_max_room_bytes = number(1);
	minimix_max_rooms = number(1);
	minimix_max_server_bytes = number(1);
	minimix_muc2_pam = boolean;
	minimix_offline = one_of("bookmarked", "stay", "leave");
	minimix_ping_interval = period;
	smacks_durability = one_of("process", "power", "replicated", "none");
	smacks_enabled_s2s = boolean;
	smacks_hibernation_time = period;
	smacks_keep_rooms = boolean;
	smacks_kept_fields = list;
	smacks_max_account_queue_bytes = number(1);
	smacks_max_ack_delay = period;
	smacks_max_hibernated_sessions = number(0);
	smacks_max_inactive_unacked_stanzas = number(0);
	smacks_max_memory_queue_bytes = number(1);
	smacks_max_old_sessions = number(0);
	smacks_max_queue_bytes = number(1);
	smacks_max_queue_size = number(1);
	smacks_max_server_queue_bytes = number(1);
	smacks_max_unacked_stanzas = number(0);
	smacks_replica = database;
	smacks_replica_lease = period;
	smacks_replica_name = cluster;
	smacks_replica_required = boolean;
	smacks_s2s_resend = boolean;
};

-- What is found is said line by line: good, advice (it works, and could work better), or WRONG.
local n_wrong, n_advice;

local function good(...)
	print("good    "..format(...));
end

local function advise(...)
	n_advice = n_advice + 1;
	print("advice  "..format(...));
end

local function wrong(...)
	n_wrong = n_wrong + 1;
	print("WRONG   "..format(...));
end

-- The version that a module of Enjamb says it is of, as it is on disk.
local function version_of(path)
	local file = io.open(path);
	if not file then return nil; end
	local text = file:read("*a");
	file:close();
	return text:match("\nlocal version = \"([^\"]+)\"");
end

local function check_library()
	good("Prosody %s runs in %s", tostring(prosody.version), _VERSION);
	local loads, library = pcall(require, "enjamb");
	if not loads then
		wrong("%s", tostring(library):match("[^\n]*"));
		return nil;
	end
	for _, name in ipairs { "mod_smacks", "mod_minimix", "mod_muc_enjamb" } do
		local path = module.path:gsub("mod_smacks", name);
		local version = version_of(path);
		if version == library.version then
			good("the library loads and is of the same version as %s, %s", path, version);
		elseif version then
			wrong("%s is of version %s, and the library of %s: install both of one package, then restart Prosody", path, version, library.version);
		elseif name ~= "mod_minimix" then
			wrong("%s cannot be read", path);
		end
	end
	return library;
end

local function is_private(path)
	return (lfs.attributes(path, "permissions") or "---------"):sub(4) == "------";
end

local function check_data()
	local data = prosody.paths.data;
	if lfs.attributes(data, "mode") ~= "directory" then
		return wrong("the data path %s is not there: create it, owned by Prosody's user", data);
	end
	local probe = format("%s/enjamb-check.%d", data, os.time());
	local file, err = io.open(probe, "w");
	if not file then
		return wrong("the data path cannot be written, so no session outlives the server: %s. Give it to Prosody's user", err);
	end
	file:close();
	os.remove(probe);
	if lfs.attributes(data, "permissions"):sub(7) ~= "---" then
		advise("others may look into the data path: chmod o= %s", data);
	else
		good("the data path %s can be written, and read by nobody else", data);
	end
	for _, name in ipairs { "enjamb-journal", "enjamb-rooms" } do
		local path = data.."/"..name;
		if lfs.attributes(path) and not is_private(path) then
			wrong("others may read what is queued for clients: chmod -R go= %s", path);
		end
	end
end

local function copy_file(from, to)
	local source, err = io.open(from, "rb");
	if not source then return nil, err; end
	local copy = io.open(to, "wb");
	local ok = copy ~= nil;
	while ok do
		local bytes = source:read(65536);
		if not bytes then break; end
		ok, err = copy:write(bytes);
	end
	source:close();
	if copy then
		ok = copy:close() and ok;
	end
	return ok, err;
end

-- The journal's files, oldest first, and their bytes.
local function files_of(directory)
	local names, size = {}, 0;
	for name in lfs.dir(directory) do
		if name:match("%.seg$") then
			names[#names+1] = name;
			size = size + (lfs.attributes(directory.."/"..name, "size") or 0);
		end
	end
	table.sort(names);
	return names, size;
end

local function copy_journal(directory, to)
	for _, name in ipairs((files_of(directory))) do
		local ok, err = copy_file(directory.."/"..name, to.."/"..name);
		if not ok then return nil, err; end
	end
	return true;
end

local function remove(directory)
	for name in lfs.dir(directory) do
		os.remove(directory.."/"..name);
	end
	lfs.rmdir(directory);
end

local function read_journal(journal, copy)
	local found, err = journal.open(copy);
	if not found then
		return wrong("the journal cannot be read: %s", err);
	end
	journal.close();
	local damaged, incomplete = found.damaged or 0, found.incomplete or 0;
	if damaged == 0 and incomplete == 0 then
		return good("the journal is whole, with %d sessions", found.sessions or 0);
	elseif damaged == 0 then
		return advise("the journal has no new damage, but %d sessions still miss something that was lost earlier, until they end", incomplete);
	end
	wrong("the journal is damaged in %d places, %d sessions miss something: what is whole is used. Look after the disk", damaged, incomplete);
end

local function check_journal(journal)
	local directory = prosody.paths.data.."/enjamb-journal";
	if lfs.attributes(directory, "mode") ~= "directory" then
		return good("there is no journal yet: it is made when Prosody starts with mod_smacks");
	end
	local _, size = files_of(directory);
	if size > largest_copy then
		return advise("the journal has %d MiB and was not read: Prosody's log says at each start whether it is whole", math.floor(size / 1048576));
	end
	local copy = format("%s/enjamb-check.%d.%d", prosody.paths.data, os.time(), math.random(2^30));
	if not lfs.mkdir(copy) then return; end -- that is said above
	local ok, err;
	for _ = 1, 3 do -- a server that runs may remove a file meanwhile
		ok, err = copy_journal(directory, copy);
		if ok then break; end
	end
	if ok then
		read_journal(journal, copy);
	else
		wrong("the journal cannot be read: %s", err);
	end
	remove(copy);
end

-- host, name, value of all options that are ours by name
local function each_option()
	return coroutine.wrap(function ()
		for host, values in pairs(config.getconfig()) do
			for name, value in pairs(values) do
				if type(name) == "string" and (name:match("^smacks_") or name:match("^minimix_")) then
					coroutine.yield(host, name, value);
				end
			end
		end
	end);
end

local function check_options()
	local n = 0;
	for host, name, value in each_option() do
		n = n + 1;
		local where = host == "*" and "" or " (of "..host..")";
		local check = options[name];
		if not check then
			wrong("there is no option %s%s: README.md has them all", name, where);
		else
			local fits, wanted = check(value);
			if not fits then
				wrong("the option %s%s must be %s", name, where, wanted);
			elseif host ~= "*" and (name:match("^minimix_max_.*_bytes$") or name:match("^smacks_replica")) then
				wrong("the option %s%s holds for the whole server: put it above the first VirtualHost", name, where);
			end
		end
	end
	good("%d options of Enjamb are set", n);
end

local function check_collector()
	if _VERSION < "Lua 5.4" then return; end -- 5.2 has such a mode, but as an experiment
	local gc = config.get("*", "gc");
	if type(gc) == "table" and gc.mode == "generational" then
		return good("Lua's collector is generational");
	end
	advise("put gc = { mode = \"generational\" } above the first VirtualHost: a chat message then costs two thirds of the CPU (78 µs, from 124, "
		.."measured on Prosody 0.12.3)");
end

local function is_enabled(host, name)
	local function has(option, of)
		local names = config.get(of, option);
		if type(names) == "string" then return names == name; end
		for _, other in ipairs(type(names) == "table" and names or {}) do
			if other == name then return true; end
		end
		return false;
	end
	if has("modules_disabled", host) or has("modules_disabled", "*") then return false; end
	return has("modules_enabled", host) or has("modules_enabled", "*");
end

local function is_off(host, name)
	local function has(of)
		for _, other in ipairs(config.get(of, "modules_disabled") or {}) do
			if other == name then return true; end
		end
	end
	return has(host) or has("*") or false;
end

-- The copy in a database, and what has to be in one as well for another server to take over.
local function check_replica()
	local url, n_replicated = config.get("*", "smacks_replica"), 0;
	for host, values in pairs(config.getconfig()) do
		if values.smacks_durability == "replicated" then
			n_replicated = n_replicated + 1;
			if url == nil then
				wrong("smacks_durability%s is \"replicated\", and smacks_replica does not say where to: Prosody does not start",
					host == "*" and "" or " of "..host);
			end
		end
	end
	if url == nil then return; end
	if n_replicated == 0 then
		advise("smacks_durability is \"replicated\" nowhere: what was acknowledged in the last moments is lost with the machine");
	end
	local backend = config.get("*", "network_backend") or "epoll";
	if backend ~= "epoll" or config.get("*", "use_libevent") then
		wrong("smacks_replica wants network_backend to be \"epoll\", which is the default: remove network_backend and use_libevent");
	end
	for host in pairs(config.getconfig()) do
		local component = config.get(host, "component_module");
		local is_muc = component == "muc";
		local names, on = {}, nil;
		if host ~= "*" and config.get(host, "defined") ~= false and (is_muc or not component) then
			names, on = local_stores(host, function (module_name) return is_enabled(host, module_name); end, is_muc);
		end
		if names[1] then
			advise("%s: %s are on this machine only (%s), another server does not find them: docs/high-availability.md", host, concat(names, ", "), on);
		end
	end
end

local function check_host(host)
	if not is_enabled(host, "smacks") then
		return wrong("%s: put \"smacks\" into modules_enabled, nothing is managed without", host);
	end
	good("%s: mod_smacks is enabled%s", host, is_enabled(host, "minimix") and ", and mod_minimix" or "");
	if not is_enabled(host, "csi_simple") and not is_enabled(host, "csi_battery_saver") then
		advise("%s: put \"csi_simple\" into modules_enabled, so that phones need not wake for what can wait", host);
	end
	if is_off(host, "offline") then
		advise("%s: mod_offline is disabled, so what is queued for a session that ends is returned to the senders if it is the account's last", host);
	end
	if not is_enabled(host, "mam") then
		advise("%s: put \"mam\" into modules_enabled: a client whose session has ended then finds in the archive what it has missed", host);
	end
end

local function check_hosts()
	local n = 0;
	for host in pairs(config.getconfig()) do
		if host ~= "*" and config.get(host, "defined") ~= false and not config.get(host, "component_module") then
			n = n + 1;
			check_host(host);
		end
	end
	if n == 0 then
		wrong("no VirtualHost is configured");
	end
end

local function command(arg)
	if arg[1] ~= "check" or arg[2] then
		print("usage: prosodyctl mod_smacks check");
		print("Says whether Enjamb is installed as it should be, and what to do if not. Changes nothing, and may be called while Prosody runs.");
		return arg[1] and arg[1] ~= "--help" and 1 or 0;
	end
	-- For the copy of the journal: what is queued is nobody else's.
	require "util.pposix".umask("077");
	n_wrong, n_advice = 0, 0;
	local library = check_library();
	check_data();
	if library then
		check_journal(library.journal);
	end
	check_options();
	check_replica();
	check_collector();
	check_hosts();
	print(format("%d wrong, %d to be advised of", n_wrong, n_advice));
	return n_wrong == 0 and 0 or 1;
end

return { command = command; options = options; };
