#!/bin/sh
# Enjamb in another Lua than the one that Prosody runs on here: whether it can read the modules; the library's specs, with generated
# stanzas held against tostring; the same under valgrind; and its size.
# usage: lua-test.sh LUA LIBRARY-TREE DEBUG-FILE
set -eu
lua=$1 tree=$2 debug=$3
program=/usr/bin/lua$lua
echo "Lua $lua: $("$program" -v 2>&1 | head -n 1)"
for file in lua/*.lua lua/*/*.lua; do
	"$program" -e "assert(loadfile('$file'))"
done
export ENJAMB_TREE="$tree"
busted --lua="$program" spec/library
ENJAMB_LUA=$program ENJAMB_ROUNDS=100 sh tools/valgrind.sh spec/library
sh tools/size-test.sh "$(echo "$tree"/lib/lua/*/enjamb.so)" "$debug"
