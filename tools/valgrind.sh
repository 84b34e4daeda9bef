#!/bin/sh
# Runs busted under valgrind: the unsafe walk must not touch memory that is not its own.
# usage: [ENJAMB_LUA=PROGRAM] valgrind.sh SPEC...
set -eu
exec valgrind --quiet --error-exitcode=9 --errors-for-leak-kinds=none "${ENJAMB_LUA:-lua5.4}" /usr/bin/busted --ignore-lua "$@"
