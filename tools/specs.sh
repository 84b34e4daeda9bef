#!/bin/sh
# Runs the specs against real servers, some side by side (they mostly wait), each file once per version of Prosody: 13, and the
# 0.12 of Debian 12 where that is installed. With 13 Lua's collector is generational, as the README has it, with 0.12 as Prosody sets it: so each
# runs in both modes. Where there is no 0.12, those of stress, crashes and rooms run a second time. ENJAMB_GC says one mode for all.
# usage: specs.sh LOG-DIR SPEC-FILE...; ENJAMB_JOBS side by side
set -u
logs=$1
shift
rm -rf "$logs"
mkdir -p "$logs"

case $(dpkg-query -W -f '${Version}' prosody 2>/dev/null) in
0.12*) versions="0.12 13" ;;
*) versions=13 && echo "this Debian has no Prosody 0.12, so it is 13 only" ;;
esac

each_job() {
	for file; do
		for version in $versions; do
			[ "$version" = 13 ] && mode=generational || mode=incremental
			echo "$file $version ${ENJAMB_GC:-$mode}"
		done
		case "$versions $file" in
		"13 "*stress* | "13 "*restart* | "13 "*muc* | "13 "*minimix*) [ -n "${ENJAMB_GC:-}" ] || echo "$file 13 incremental" ;;
		esac
	done
}

# shellcheck disable=SC2016
each_job "$@" | xargs -P "${ENJAMB_JOBS:-4}" -L 1 sh -c '
	log=$0/$(basename "$1" _spec.lua)-$2-$3.log
	if ENJAMB_PROSODY=$2 ENJAMB_GC=$3 timeout 900 busted --lua=/usr/bin/lua5.4 -o plainTerminal "$1" >"$log" 2>&1; then
		echo "$1, Prosody $2, $3: $(grep -E "^[0-9]+ success" "$log")"
	else
		touch "$log.failed"
		echo "FAILED: $1, Prosody $2, $3"
		cat "$log"
		grep -qE "^[0-9]+ success" "$log" || echo "1 error: it did not end"
	fi' "$logs"

! ls "$logs"/*.failed >/dev/null 2>&1
