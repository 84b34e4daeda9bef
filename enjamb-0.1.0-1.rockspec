rockspec_format = "3.0"
package = "enjamb"
version = "0.1.0-1"
source = {
	-- luarocks make builds the tree that it is called in
	url = "git+file://.",
}
description = {
	summary = "Stream management for Prosody that loses nothing",
	detailed = "mod_smacks (XEP-0198), mod_minimix (account-level MUC) and rooms that outlive the server, for Prosody 0.12 and 13: thin Lua over a Rust library.",
	license = "MIT",
	labels = { "prosody", "xmpp" },
}
supported_platforms = { "linux" }
dependencies = { "lua ~> 5.4" }
external_dependencies = {}
build = {
	type = "make",
	build_target = "build",
	install_target = "install",
	-- luarocks writes the manifest itself
	install_variables = { LUADIR = "$(LUADIR)", LIBDIR = "$(LIBDIR)", MANIFEST = "" },
}
