-- What the admin has set, read and made valid once.
--
-- README.md says what each means; what follows from it is the library's.

local sm = require "enjamb".smacks;

local floor, min, type = math.floor, math.min, type;

-- "never" is infinite.
local function whole_number(name, default, least, most, value)
	if value ~= value or type(value) ~= "number" or value < least then
		module:log("error", "Option '%s' must be a number from %d, using %d", name, least, default);
		return default;
	end
	return floor(min(value, most));
end

local function get_number(name, default, least)
	return whole_number(name, default, least, 2^53, module:get_option_number(name, default));
end

local function get_period(name, default)
	local get = module.get_option_period or module.get_option_number; -- Prosody 13 has the first
	return whole_number(name, default, 0, 0x7fffffff, get(module, name, default));
end

local hibernation_time = get_period("smacks_hibernation_time", 600);
local ack_delay = get_period("smacks_max_ack_delay", 30);

return {
	s2s = module:get_option_boolean("smacks_enabled_s2s", true);
	s2s_resend = module:get_option_boolean("smacks_s2s_resend", false);
	max_old_sessions = get_number("smacks_max_old_sessions", 10, 0);
	hibernation_time = hibernation_time;
	ack_delay = ack_delay;
	limits = sm.limits {
		hibernation_time = hibernation_time;
		ack_delay = ack_delay;
		queue_stanzas = get_number("smacks_max_queue_size", 500, 1);
		queue_bytes = get_number("smacks_max_queue_bytes", 64 * 1024 * 1024, 1);
		account_bytes = get_number("smacks_max_account_queue_bytes", 256 * 1024 * 1024, 1);
		server_bytes = get_number("smacks_max_server_queue_bytes", 8 * 1024 * 1024 * 1024, 1);
		memory_bytes = get_number("smacks_max_memory_queue_bytes", 256 * 1024 * 1024, 1);
		unacked = get_number("smacks_max_unacked_stanzas", 0, 0);
		inactive_unacked = get_number("smacks_max_inactive_unacked_stanzas", 256, 0);
		hibernated = get_number("smacks_max_hibernated_sessions", 10, 0);
	};
};
