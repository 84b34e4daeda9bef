#!/bin/sh
# Tries what `make dist deb rocks` have made, each from scratch in the Debians that it is for.
# usage: run.sh DIST-DIR TARBALL-NAME VERSION ROCKS-DIR [RELEASE...]
set -u
dist=$1 binaries=$1/$2.tar.gz deb=$1/prosody-enjamb_$3-1_$(dpkg --print-architecture).deb rocks=$4
shift 4
[ $# -gt 0 ] || set -- bookworm trixie
passed=0 failed=0
log=$dist/test.log

chroots() { python3 tools/chroots.py "$@"; }
layer() { # RELEASE NAME PACKAGES [BELOW...]
	release=$1 name=$2 packages=$3
	shift 3
	chroots --keep "$name" "$@" "$release" sh -c "apt-get update -q && apt-get install -qy $packages" >"$log" 2>&1 || { cat "$log"; exit 1; }
}
check() { # WHAT, and how to call chroots.py
	what=$1
	shift
	if chroots "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
		echo "$what: good"
	else
		failed=$((failed + 1))
		echo "FAILED: $what"
		tail -n 40 "$log"
	fi
}

for release; do
	layer "$release" prosody prosody
	layer "$release" luarocks luarocks --layer prosody
	check "$release: install.sh" --layer prosody --on-host "$release" sh spec/packages/install.sh "$binaries"
	check "$release: install.sh without Prosody" --on-host "$release" sh spec/packages/no_prosody.sh "$binaries" "there is no prosodyctl here"
	check "$release: Debian package" --on-host "$release" sh spec/packages/deb.sh "$deb"
	check "$release: rocks" --layer prosody --layer luarocks --on-host "$release" sh spec/packages/rocks.sh "$rocks"
done
check "trixie: the steps of Containerfile" --on-host trixie sh spec/packages/container.sh "$deb"
layer trixie luarocks-source "liblua5.4-dev gcc libc6-dev make binutils" --layer prosody --layer luarocks
check "trixie: the source rock" --layer prosody --layer luarocks --layer luarocks-source --bind "$(rustc --print sysroot):/opt/rust" --on-host \
	trixie sh spec/packages/rocks.sh "$rocks"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
