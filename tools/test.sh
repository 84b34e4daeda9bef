#!/bin/bash
# Runs everything that `make test` runs, in an order that fails early, and ends with the count of it all.
# usage: test.sh BUILD-DIR (with the tree installed in BUILD-DIR/tree)
set -u
build=$1
passed=0 failed=0 skipped=0
log=$build/test.log
mkdir -p "$build"

# Property tests try the same cases each time here. Longer runs, with other seeds, are for who looks for more (CONTRIBUTING):
# PROPTEST_RNG_SEED and PROPTEST_CASES say so.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-198}

heading() { printf '\n== %s (after %d s)\n' "$*" $SECONDS; }

# A step that counts as one.
check() {
	heading "$1"; shift
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $*"; fi
}

sum() { grep -oE "$1" "$log" | grep -oE '[0-9]+' | paste -sd+ - | sed 's/^$/0/' | bc; }

# A step whose runner says how many tests it ran. No test at all is a failure.
count() {
	heading "$1"; shift
	"$@" 2>&1 | tee "$log"
	local status=${PIPESTATUS[0]} ok bad
	ok=$(sum '[0-9]+ (passed|successes|success)\b')
	bad=$(sum '[0-9]+ (failed|failures|failure|errors|error)\b')
	skipped=$((skipped + $(sum '[0-9]+ (ignored|pending)\b')))
	if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
	if [ "$ok" = 0 ] && [ "$bad" = 0 ]; then bad=1; echo "FAILED: no tests ran"; fi
	passed=$((passed + ok)) failed=$((failed + bad))
}

busted="busted --lua=/usr/bin/lua5.4"
prosody13=$build/prosody-13/root/usr/lib/prosody
export ENJAMB_TREE=$build/tree ENJAMB_PROSODY13=$build/prosody-13/root

check "formatting" cargo fmt --check
check "clippy" cargo clippy --locked --quiet --all-targets -- -D warnings
check "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --no-deps --document-private-items
check "licences of what is linked" python3 tools/licences.py
check "luacheck" luacheck -q lua spec bench
count "engines: unit, property and model tests" cargo test --locked --quiet
count "the library in Lua, with the util libraries of Prosody 0.12" $busted spec/library
count "the library in Lua, with the util libraries of Prosody 13" env ENJAMB_PROSODY_LIB="$prosody13" $busted spec/library
count "the library in Lua, under valgrind" env ENJAMB_ROUNDS=200 sh tools/valgrind.sh spec/library
check "the library's size" sh tools/size-test.sh "$build/tree/lib/lua/5.4/enjamb.so" "${CARGO_TARGET_DIR:-target}/release/enjamb.so.debug"
check "luarocks make" sh tools/luarocks-test.sh "$build"
count "the library in other Luas" env CARGO_TERM_QUIET=true make -s test-lua BUILD="$build"
count "mod_smacks in real servers" sh tools/specs.sh "$build/specs" spec/smacks/*_spec.lua
count "mod_minimix in real servers" sh tools/specs.sh "$build/specs-minimix" spec/minimix/*_spec.lua
# Each starts a PostgreSQL, and its leases are short.
if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
	count "sessions that outlive the machine" env ENJAMB_JOBS=2 sh tools/specs.sh "$build/specs-replica" spec/replica/*_spec.lua
else
	heading "sessions that outlive the machine"
	echo "skipped: PostgreSQL is not installed (Debian's package postgresql)"
	skipped=$((skipped + 1))
fi
count "clients that other people wrote" env ENJAMB_CLIENTS="$build/clients" sh tools/specs.sh "$build/specs-clients" spec/clients/*_spec.lua

heading "all"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
