#!/bin/sh
# The rocks: prosodyctl installs them, from a directory and over HTTP, under each name that somebody may try, and removes them.
# usage: rocks.sh DIRECTORY, beside a chroot with Prosody and luarocks
. "$(dirname "$0")/expect.sh"
mkdir "$CHROOT/tmp/rocks"
cp "$1"/* "$CHROOT/tmp/rocks/"
tree=$CHROOT/var/lib/prosody/custom_plugins
prosodyctl() { chroot "$CHROOT" prosodyctl "$@" >"$CHROOT/tmp/prosodyctl.log" 2>&1 || fail "prosodyctl $*: $(cat "$CHROOT/tmp/prosodyctl.log")"; }

is_there() { [ -e "$tree/share/lua/5.4/$1" ] || fail "there is no $1"; }
is_gone() { [ ! -e "$tree/share/lua/5.4/$1" ] || fail "$1 is still there"; }

prosodyctl install --server=/tmp/rocks mod_smacks
is_there mod_smacks/mod_smacks.lua
is_there enjamb.lua
is_there mod_muc_enjamb/mod_muc_enjamb.lua
is_gone mod_minimix/mod_minimix.lua
unzip -p "$1"/enjamb-library-*.linux-*.rock lib/enjamb.so | cmp - "$tree/lib/lua/5.4/enjamb.so" || fail "this is not the binary rock's library"
prosodyctl install --server=/tmp/rocks mod_minimix
works
prosodyctl remove mod_minimix
is_gone mod_minimix/mod_minimix.lua
is_there mod_smacks/mod_smacks.lua
prosodyctl remove mod_smacks
is_gone mod_smacks/mod_smacks.lua
prosodyctl remove mod_muc_enjamb
prosodyctl remove enjamb-library
is_gone enjamb.lua

unshare --net sh -euc '
	python3 -c "import sys; sys.path.insert(0, \"tools\"); import chroots; chroots.bring_up_loopback()"
	python3 -m http.server --bind 127.0.0.1 --directory "$CHROOT/tmp/rocks" 8000 >/dev/null 2>&1 &
	for try in 1 2 3 4 5 6 7 8 9; do python3 -c "import socket; socket.create_connection((\"127.0.0.1\", 8000))" 2>/dev/null && break; sleep 1; done
	status=0
	chroot "$CHROOT" prosodyctl install --server=http://127.0.0.1:8000 enjamb || status=$?
	kill $!
	exit $status'
is_there mod_minimix/mod_minimix.lua
works

# Where there is a Rust toolchain, the source rock, without a network.
if [ -d "$CHROOT/opt/rust/bin" ]; then
	unshare --net chroot "$CHROOT" env PATH="/opt/rust/bin:/usr/bin:/bin" CARGO_HOME=/tmp/cargo CARGO_NET_OFFLINE=true \
		sh -c 'luarocks --lua-version=5.4 install --tree=/tmp/tree /tmp/rocks/enjamb-library-*.src.rock' >"$CHROOT/tmp/luarocks.log" 2>&1 ||
		fail "luarocks install of the source rock: $(tail -n 20 "$CHROOT/tmp/luarocks.log")"
	[ "$(find "$CHROOT/tmp/tree/lib/lua/5.4/enjamb.so" -size -2000k)" ] && [ -e "$CHROOT/tmp/tree/share/lua/5.4/enjamb.lua" ] || fail "the source rock lacks something"
fi
echo "rocks: 1 passed, 0 failed"
