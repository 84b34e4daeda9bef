-- Metrics, named as those of Prosody's own mod_smacks. The journal and the replica have their own.

local versions = require "enjamb.prosody";

-- Without statistics they are something that answers to every call: what happens for each ack asks first.
local has_metrics = versions.has_metrics;

local function counter(name)
	return module:measure(name, "counter");
end

local function histogram(name, unit, description, buckets)
	return versions.metric(module, "histogram", name, unit, description, { buckets = buckets });
end

local queued = counter("tx_queued_stanzas");
local dropped = histogram("tx_dropped_stanzas", "", "number of stanzas in a queue which got dropped", { 0, 1, 2, 4, 8, 16, 32 });
local acked = histogram("tx_acked_stanzas", "", "number of items acked per ack received", { 0, 1, 2, 4, 8, 16, 32 });
local resumption_expired = counter("session_resumption_expired");
local resumption_age = histogram("resumption_age", "seconds", "time the session had been hibernating at the time of a resumption",
	{ 0, 1, 12, 60, 360, 900, 1440, 3600, 14400, 86400 });
local session_expired = counter("sessions_expired");
local session_started = counter("sessions_started");

-- Counted here and told when somebody asks: a call per stanza would cost more than queueing it.
local counts = { queued = 0 };

module:hook_global("stats-update", function ()
	if counts.queued > 0 then
		queued(counts.queued);
		counts.queued = 0;
	end
end);

return {
	counts = counts;
	acked = function (n)
		if has_metrics then
			acked:sample(n);
		end
	end;
	-- So many stanzas were not acknowledged when their session ended.
	dropped = function (n) dropped:sample(n); end;
	resumed = function (n_acked, age)
		acked:sample(n_acked);
		resumption_age:sample(age);
	end;
	-- A client came back too late, and was told what had been handled.
	resumption_expired = function () resumption_expired(1); end;
	session_expired = function () session_expired(1); end;
	session_started = function () session_started(1); end;
};
