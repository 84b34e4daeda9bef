#!/bin/sh
# Writes the luarocks manifest that Prosody looks for in a tree that holds modules. One that luarocks keeps is left alone.
# usage: manifest.sh FILE ROCK-VERSION
set -eu
file=$1 version=$2
if [ -e "$file" ] && ! grep -q '^-- made by enjamb' "$file"; then
	exit 0
fi
mkdir -p "$(dirname "$file")"
cat >"$file" <<EOF
-- made by enjamb's make install
commands = {}
dependencies = { enjamb = { ["$version"] = {} } }
modules = {
   enjamb = { "enjamb/$version" },
   ["enjamb.contain"] = { "enjamb/$version" },
   mod_minimix = { "enjamb/$version" },
   mod_muc_enjamb = { "enjamb/$version" },
   mod_smacks = { "enjamb/$version" },
}
repository = {
   enjamb = { ["$version"] = { { arch = "installed", commands = {}, dependencies = {}, modules = {
      enjamb = "enjamb.lua", ["enjamb.contain"] = "enjamb/contain.lua", mod_minimix = "mod_minimix/mod_minimix.lua",
      mod_muc_enjamb = "mod_muc_enjamb/mod_muc_enjamb.lua", mod_smacks = "mod_smacks/mod_smacks.lua" } } } },
}
EOF
