-- For benchmarks on loopback only: every account exists and has one password, which costs next to nothing to check.

local new_sasl = require "util.sasl".new;

local the_password = module:get_option_string("enjamb_bench_password", "secret");

local provider = {};

function provider.test_password(_, password)
	return password == the_password;
end

function provider.user_exists()
	return true;
end

function provider.get_sasl_handler()
	return new_sasl(module.host, {
		plain_test = function (_, _, password)
			return password == the_password, true;
		end;
	});
end

for _, name in ipairs { "get_password", "set_password", "create_user", "delete_user" } do
	provider[name] = function () return nil, "These accounts cannot be changed"; end;
end

module:provides("auth", provider);
