-- What the admin set: checked, and told to the library.

local mx = require "enjamb".minimix;

local floor, max = math.floor, math.max;

-- A number of seconds, or of rooms, that is longer than anybody waits for.
local endless = 2^31;

local function get_number(name, default, min)
	local value = module:get_option_number(name, default);
	if value ~= value or value < min or value >= endless then
		module:log("error", "Option '%s' must be a number from %d, using %d", name, min, default);
		return default;
	end
	return floor(value);
end

local function get_period(name, default)
	if module.get_option_period then -- Prosody 13
		local value = module:get_option_period(name, default);
		return value < endless and max(1, floor(value)) or endless;
	end
	return get_number(name, default, 1);
end

local function get_offline()
	local offline = module:get_option_string("minimix_offline", "bookmarked");
	if offline ~= "bookmarked" and offline ~= "stay" and offline ~= "leave" then
		module:log("error", "Option 'minimix_offline' must be \"bookmarked\", \"stay\" or \"leave\", not %q, using \"bookmarked\"", offline);
		return "bookmarked";
	end
	return offline;
end

-- Of the whole server: rooms are shared by the accounts of all hosts.
local function get_bytes(name, default)
	local value = module:context("*"):get_option_number(name, default);
	if value ~= value or value < 2^16 or value >= 2^53 then
		module:log("error", "Option '%s' must be a number of bytes from %d, using %d", name, 2^16, default);
		return default;
	end
	return floor(value);
end

mx.configure(module.host, {
	offline = get_offline();
	max_rooms = get_number("minimix_max_rooms", 200, 1);
	join_timeout = get_period("minimix_join_timeout", 60);
	silence = get_period("minimix_ping_interval", 900);
});
mx.limit({
	room = get_bytes("minimix_max_room_bytes", 2^25);
	account = get_bytes("minimix_max_account_bytes", 2^26);
	server = get_bytes("minimix_max_server_bytes", 2^30);
});

return {
	archive_groupchat = module:get_option_boolean("minimix_archive", false);
	muc2_pam = module:get_option_boolean("minimix_muc2_pam", false);
};
