-- The replica: a copy of the journal in PostgreSQL, and the lease that says which of several servers serves (docs/high-availability.md).
--
-- How both are kept is the library's (crates/replica). This file reads what the admin has set, waits for the lease when Prosody has loaded
-- everything and before it serves anybody, says in the log what happens to it, and gives it up when Prosody stops. Ports meanwhile are
-- standby's, what happens past the deadline fence's.

local config = require "core.configmanager";
local server = require "net.server";
local monotonic = require "util.time".monotonic;

local is_the_one = require "enjamb.one_host"(module);
local metric = require "enjamb.prosody".metric;
local rp = require "enjamb".replica;
local fence = module:require "fence";
local local_stores = module:require "stores";
local sql = module:require "sql";
local standby = module:require "standby";

local ipairs, pairs, pcall, tostring, type, xpcall = ipairs, pairs, pcall, tostring, type, xpcall;
local os_exit, traceback = os.exit, debug.traceback;

-- So long, in seconds, a stop waits for the last bytes to be in the database.
local patience = 10;
-- The lease's bounds, in seconds.
local shortest_lease, longest_lease, default_lease = 3, 3600, 10;

local global = module:context("*");

-- One for all hosts. phase: "wanted" (at the start), "up", "off" (it goes on without one) or nil (none is wanted); problem: why there can be none.
local replica = module:shared("/*/smacks/replica");

-- What the admin has set -------------------------------------------------------------------------------------------------

-- Both servers have to call it the same, so it is not the first in a table that has no order.
local function first_host()
	local first;
	for name, values in pairs(config.getconfig()) do
		if name ~= "*" and values.enabled ~= false and not values.component_module and (not first or name < first) then
			first = name;
		end
	end
	return first;
end

local function lease_seconds()
	local get = global.get_option_period or global.get_option_number;
	local value = get(global, "smacks_replica_lease", default_lease);
	if type(value) ~= "number" or value < shortest_lease or value > longest_lease then
		return nil, ("Option 'smacks_replica_lease' must be a number of seconds from %d to %d, not %s"):format(shortest_lease, longest_lease,
			tostring(value));
	end
	return value;
end

-- What rp.start() wants; or nil and what is wrong; or nothing if there is to be no replica.
local function settings()
	local url = global:get_option("smacks_replica");
	if url == nil then
		if module:get_option("smacks_replica") ~= nil then
			return nil, "Option 'smacks_replica' holds for the whole server: put it above the first VirtualHost";
		elseif module:get_option_string("smacks_durability") == "replicated" then
			return nil, "Option 'smacks_durability' is \"replicated\", and 'smacks_replica' does not say where to";
		end
		return nil;
	end
	if type(url) ~= "string" or not url:match("^postgres%a*://") then
		return nil, "Option 'smacks_replica' must be like \"postgresql://user:password@host/database\"";
	end
	local name = global:get_option("smacks_replica_name", first_host());
	if type(name) ~= "string" or name == "" or #name > 200 then
		return nil, "Option 'smacks_replica_name' must be a name, the same on all servers of which one is to serve";
	end
	local lease, err = lease_seconds();
	if not lease then return nil, err; end
	return { url = url; cluster = name; lease = lease };
end

-- The start -------------------------------------------------------------------------------------------------------------

-- Nobody was served and nothing is open.
local function end_process(code)
	pcall(prosody.events.fire_event, "server-stopped"); -- the file with the process's number goes
	os_exit(code);
end

local function is_required()
	return global:get_option_boolean("smacks_replica_required", true);
end

local function give_up(problem)
	if not is_required() then
		module:log("error", "%s. It goes on without a replica, since smacks_replica_required is false", problem);
		replica.phase = "off";
		if rp then rp.stop(); end
		return;
	end
	module:log("error", "%s. Prosody does not start", problem);
	end_process(1);
end

-- What the admin is told while the lease is waited for, once each.
local function tell(state, told)
	local text;
	if state.role == "connecting" and state.reason then
		text = "The database of smacks_replica is out of reach, nobody is served until it is there: "..state.reason;
	elseif state.role == "waiting" and state.holder then
		text = ("Another server, %s, serves as %q: this one waits, and takes over when that one is gone"):format(state.holder, replica.name);
	end
	if text and told[1] ~= text then
		told[1] = text;
		module:log("warn", "%s. No port is open", text);
		standby.hide_admin_socket();
		standby.notify("STATUS="..text);
	end
end

-- What lies beside the journal's directory of an earlier life, in which this server had the lease, is as old as what was set aside.
local function set_logs_aside(state)
	if not state.set_aside and not state.restored then return; end
	for _, name in ipairs { "enjamb-rooms", "enjamb-contacts" } do
		local path = prosody.paths.data.."/"..name;
		os.rename(path, path..".set-aside"); -- what is not there need not go
	end
end

-- Blocks until this server has the lease, and its directory what is in the database. Returns whether it has; or ends the process.
local function wait_for_lease()
	local told, since, signals, state = {}, monotonic(), standby.heed_signals(fence.stop_signals), rp.state();
	while state.role ~= "holder" and state.role ~= "failed" do
		tell(state, told);
		if signals.asked() then
			module:log("info", "Asked to stop while waiting");
			rp.stop();
			end_process(0);
		end
		state = rp.wait(0.25);
	end
	signals.close();
	if state.role == "failed" then
		give_up(state.reason or "The replica failed");
		return;
	end
	replica.phase = "up";
	set_logs_aside(state);
	if told[1] then
		module:log("warn", "This server serves now, after %.1f seconds", monotonic() - since);
		standby.notify("STATUS=");
		sql.end_idle_transactions(math.floor(replica.settings.lease / 2));
		-- Certificates may have been renewed since the start.
		prosody.reload_config();
	end
	return true;
end

-- What another server would not find.
local function warn_of_storage()
	for name, of_host in pairs(prosody.hosts) do
		local is_muc = of_host.type == "component" and of_host.modules.muc ~= nil;
		if of_host.type == "local" or is_muc then
			local stores, on = local_stores(name, function (wanted) return of_host.modules[wanted] ~= nil; end, is_muc);
			if stores[1] then
				module:log("warn", "What %s keeps in %s is on this machine only (%s): the other server does not find it. Put it on the database too "
					.."(docs/high-availability.md)", name, table.concat(stores, ", "), on);
			end
		end
	end
end

-- While it serves -------------------------------------------------------------------------------------------------------

-- Says what has changed. Through the shared table, since a reload replaces it.
function replica.look()
	local state = rp.state();
	local is_away = state.connected == false;
	if state.role == "failed" and not is_required() then
		module:log("error", "%s. It goes on without a replica, since smacks_replica_required is false", state.reason or "The replica failed");
		replica.phase = "off";
		fence.take_down();
		return;
	end
	if is_away and not replica.away_since then
		replica.away_since = monotonic();
		module:log("error", "The replica's database is out of reach: at level \"replicated\" nothing more is acknowledged%s%s",
			is_required() and (", and if it stays so for %.0f seconds nothing is done at all until it is back"):format(state.left or 0) or "",
			state.reason and ": "..state.reason or "");
	elseif not is_away and replica.away_since then
		module:log("info", "The replica's database is back after %.1f seconds, it lacks %d bytes", monotonic() - replica.away_since, state.lag or 0);
		replica.away_since = nil;
	end
	return state;
end

local function watch(journal)
	replica.watcher = server.watchfd(rp.watch(), function ()
		if rp.woken() then
			replica.look();
		end
		journal.disk_has_more();
	end);
end

local function start()
	local problem = replica.problem;
	if not problem and not rp then
		problem = "This build of Enjamb's library has no replica: use one that has";
	elseif not problem and not standby.is_supported() then
		problem = "smacks_replica wants Prosody's network_backend to be \"epoll\", which is the default";
	end
	if not problem then
		local wanted = replica.settings;
		replica.name = wanted.cluster;
		wanted.directory, wanted.version = prosody.paths.data.."/enjamb-journal", "Prosody "..tostring(prosody.version);
		local ok, err = rp.start(wanted);
		problem = not ok and tostring(err) or nil;
	end
	if problem then return give_up(problem); end
	if wait_for_lease() then
		watch(module:shared("/*/smacks/journal"));
		fence.put_up(replica.watcher, sql.guard_commits, not is_required());
		warn_of_storage();
	end
end

-- Once for all hosts, before anything is restored. Whatever goes wrong, nobody is served without the lease.
local function begin()
	if replica.phase ~= "wanted" then return; end
	local ok, err = xpcall(start, traceback);
	if not ok then
		module:log("error", "The start with a replica failed: %s", tostring(err));
		end_process(1);
	end
end

if replica.phase == nil and prosody.process_type == "prosody" then
	replica.settings, replica.problem = settings();
	if replica.settings or replica.problem then
		if prosody.start_time then
			module:log("error", "%s", replica.problem or "smacks_replica is heeded when Prosody starts, not while it runs: restart it");
		else
			replica.phase = "wanted";
			standby.hold_ports();
		end
	end
end

-- After the fork of 0.12's -D (0), before anything of the journal or of rooms is opened (-5 and later); and when all is back.
module:hook_global("server-started", begin, -2);
module:hook_global("server-started", standby.open_ports, -50);

module:add_timer(1, function ()
	if replica.phase == "up" and is_the_one() then
		replica.look();
	end
	return 1;
end);

-- Metrics: of the whole process, so one host tells them.

local gauges = {};
for name, description in pairs(replica.phase and {
	replica_is_holder = "1 if this server has the lease and may serve, else 0";
	replica_epoch = "how often the lease has been taken, by whichever server, until this one had it";
	replica_lease_seconds = "how long this server may go on if it cannot renew its lease";
	replica_is_connected = "1 if the database is within reach, else 0";
	replica_lag_bytes = "bytes of the journal that the database has not got yet";
	replica_commit_seconds = "how long the database took for the last batch";
} or {}) do
	gauges[name] = metric(module, "gauge", name, "", description);
end

module:hook_global("stats-update", function ()
	if replica.phase ~= "up" or not is_the_one() or not gauges.replica_epoch then return; end
	local state = rp.state();
	gauges.replica_is_holder:set(state.role == "holder" and 1 or 0);
	gauges.replica_epoch:set(state.epoch or 0);
	gauges.replica_lease_seconds:set(state.left or 0);
	gauges.replica_is_connected:set(state.connected and 1 or 0);
	gauges.replica_lag_bytes:set(state.lag or 0);
	gauges.replica_commit_seconds:set(state.latency or 0);
end);

-- The stop --------------------------------------------------------------------------------------------------------------

module:hook_global("server-stopping", fence.check, 10000);

-- Everything is in the journal, and nothing will be any more.
local function release()
	if replica.phase ~= "up" then return; end
	replica.phase = "released";
	fence.take_down();
	local since = monotonic();
	if rp.release(patience) then
		module:log("info", "The lease is given up, another server may go on (%.2f seconds)", monotonic() - since);
	else
		module:log("error", "The lease could not be given up in %d seconds: another server takes over when it has run out, and may miss "
			.."what was not acknowledged", patience);
	end
end

-- Storage has had everything by now.
module:hook_global("server-stopped", function ()
	if replica.phase ~= "released" then return; end
	rp.stop();
	fence.farewell_begins();
end, -1000);

-- For the shell: the other server is to serve.
local function hand_over()
	if replica.phase ~= "up" then
		return false, "This server has no replica (smacks_replica)";
	end
	module:log("warn", "An admin gives the lease to the other server");
	module:add_timer(0.1, function ()
		prosody.main_thread:run(function ()
			prosody.unlock_globals();
			prosody.shutdown("The lease was given to another server");
			prosody.lock_globals();
		end);
	end);
	return true, "Everything is written, then the lease is given up and this server ends. If it is started again, it waits";
end

return {
	-- The journal is open: from now on the database has a copy of it.
	attach = function ()
		if replica.phase ~= "up" then return; end
		local ok, err = rp.attach();
		if not ok then
			give_up(tostring(err));
		end
	end;
	hand_over = hand_over;
	-- Whether the journal may be opened: not without the lease.
	may_open = function () return replica.phase ~= "wanted"; end;
	-- Whether there is one to acknowledge by, or will be.
	is_wanted = function () return replica.phase ~= nil and replica.phase ~= "off"; end;
	release = release;
	state = function () return replica.phase ~= nil and rp and rp.state() or nil, replica.name, replica.phase; end;
};
