-- The shims run in Prosody's module environment.
std = "lua54";
max_line_length = 150;
codes = true;
files["lua/mod_*"] = {
	globals = { "module", "prosody", "do_enable", "do_resume", "as_told" };
};
files["lua/enjamb.lua"] = { };
files["lua/enjamb/*"] = { read_globals = { "prosody" } };
files["spec/**/*_spec.lua"] = { std = "lua54+busted" };
files["spec/support"] = { std = "lua54+busted" };
files["spec/plugins"] = { globals = { "module", "prosody" } };
files["bench/plugins"] = { globals = { "module", "prosody" } };
