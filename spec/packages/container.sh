#!/bin/sh
# The steps of Containerfile, and what it says is then run.
# usage: container.sh DEB, beside a chroot of the release that it is made of
. "$(dirname "$0")/expect.sh"
grep -qx "FROM debian:$(. "$CHROOT/etc/os-release" && echo "$VERSION_CODENAME")-slim" Containerfile || fail "it is made of another release"
steps=$(sed -n 's/^RUN //p' Containerfile)
case $steps in *container.sh*) ;; *) fail "its steps are others" ;; esac
grep -qx 'ENTRYPOINT \["/usr/bin/prosody", "-F"\]' Containerfile || fail "it runs something else"
mkdir "$CHROOT/tmp/enjamb"
cp tools/container.sh "$1" "$CHROOT/tmp/enjamb/"
chroot "$CHROOT" sh -c "$steps" >"$CHROOT/tmp/log" 2>&1 ||
	fail "container.sh: $(tail -n 20 "$CHROOT/tmp/log")"
works
echo "$checked" | grep -q "collector is generational" || fail "its collector is another"
echo "container: 1 passed, 0 failed"
