#!/bin/sh
# Runs the specs against real servers, some side by side (they mostly wait), each file once per version of Prosody: 13, and the
# 0.12 of Debian 12 where that is installed.
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
			echo "$file $version"
		done
	done
}

# shellcheck disable=SC2016
each_job "$@" | xargs -P "${ENJAMB_JOBS:-4}" --process-slot-var=ENJAMB_SLOT -L 1 sh -c '
	log=$0/$(basename "$1" _spec.lua)-$2.log
	if ENJAMB_PROSODY=$2 timeout 900 busted --lua=/usr/bin/lua5.4 -o plainTerminal "$1" >"$log" 2>&1; then
		echo "$1, Prosody $2: $(grep -E "^[0-9]+ success" "$log")"
	else
		touch "$log.failed"
		echo "FAILED: $1, Prosody $2"
		cat "$log"
		grep -qE "^[0-9]+ success" "$log" || echo "1 error: it did not end"
	fi' "$logs"

! ls "$logs"/*.failed >/dev/null 2>&1
