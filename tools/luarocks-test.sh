#!/bin/sh
# `luarocks make --tree DIR` must fill DIR as `make install` does.
# usage: luarocks-test.sh BUILD-DIR
set -eu
tree=$1/luarocks-tree
rm -rf "$tree"
luarocks make --tree "$tree" >"$1/luarocks.log" 2>&1 || { cat "$1/luarocks.log"; exit 1; }
for file in $(cd "$1/tree" && find share lib/lua -type f); do
	cmp "$1/tree/$file" "$tree/$file"
done
grep -q mod_smacks "$tree/lib/luarocks/rocks-5.4/manifest"
