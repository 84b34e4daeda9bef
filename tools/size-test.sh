#!/bin/sh
# What is installed must be small, and what is parted from it must be its own.
# usage: size-test.sh LIBRARY DEBUG-FILE
set -eu
most=2000000
size=$(stat -c %s "$1")
[ "$size" -le $most ] || { echo "$1 has $size bytes, and may have $most" >&2; exit 1; }
build_id() { readelf -n "$1" | sed -n 's/.*Build ID: //p'; }
[ -n "$(build_id "$1")" ] && [ "$(build_id "$1")" = "$(build_id "$2")" ] || { echo "$2 is not of $1" >&2; exit 1; }
# A backtrace says what is in the one by the addresses in the other.
link=$(readelf -p .gnu_debuglink "$1" | grep -c "$(basename "$2")")
[ "$link" = 1 ] || { echo "$1 does not name $2" >&2; exit 1; }
echo "$1 has $size bytes"
