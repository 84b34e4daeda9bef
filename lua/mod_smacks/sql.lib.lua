-- Prosody's own storage in a database that several servers share, which knows of no lease.
--
-- A server that is stopped in the middle of a transaction keeps its locks, for as long as the database believes in its connection: hours if
-- its machine is gone. The one that takes over ends such transactions. And one that goes on after it was stopped commits nothing before it
-- knows that it has the lease. Relies on util.sql's engines being shared under this name, and on LuaDBI's connections (docs/architecture.md).

local getmetatable, pairs, pcall, tostring = getmetatable, pairs, pcall, tostring;

-- By address: what mod_storage_sql has opened, or will when it wants something.
local engines = module:shared("/*/sql/connections");

-- Those whose locks are some server's, not some file's.
local function each_engine()
	local found = {};
	for address, engine in pairs(engines) do
		local driver = engine.params and engine.params.driver;
		if driver == "PostgreSQL" or driver == "MySQL" then
			found[address] = engine;
		end
	end
	return pairs(found);
end

local idle_transactions = [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()
	AND state LIKE 'idle in transaction%%' AND state_change < now() - interval '%d seconds']];

local function ask(params, text)
	local connection = assert(require "DBI".Connect(params.driver, params.database, params.username, params.password, params.host, params.port));
	connection:autocommit(true);
	local statement = assert(connection:prepare(text));
	assert(statement:execute());
	local n = statement:rowcount();
	connection:close();
	return n;
end

-- Ends transactions in which nothing was done for so many seconds: before anything is wanted of the storage.
local function end_idle_transactions(seconds)
	for _, engine in each_engine() do
		if engine.params.driver == "PostgreSQL" then
			local ok, n = pcall(ask, engine.params, idle_transactions:format(seconds));
			if not ok then
				module:log("warn", "Whether a server that is gone has left a transaction open in Prosody's storage cannot be asked: %s", tostring(n));
			elseif n > 0 then
				module:log("info", "The server before has left %d transactions open in Prosody's storage, they are ended", n);
			end
		end
	end
end

-- Has ask_first() called before anything is committed. For good: it is to know itself when there is nothing to be asked.
local function guard_commits(ask_first)
	local guarded = {};
	local function guard(connection)
		local methods = getmetatable(connection).__index;
		if guarded[methods] then return; end
		guarded[methods] = true;
		local commit = methods.commit;
		function methods.commit(...)
			ask_first();
			return commit(...);
		end
	end
	for _, engine in each_engine() do
		local class = getmetatable(engine).__index;
		if engine.conn then
			guard(engine.conn);
		end
		if not guarded[class] then
			guarded[class] = true;
			local connect = class.connect;
			function class.connect(self)
				local was = self.conn;
				local ok, err = connect(self);
				if self.conn and self.conn ~= was then
					guard(self.conn);
				end
				return ok, err;
			end
		end
	end
end

return {
	end_idle_transactions = end_idle_transactions;
	guard_commits = guard_commits;
};
