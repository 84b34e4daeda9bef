#!/bin/sh
# The Debian package: apt installs it with Prosody, it is used from the next start, and survives what packages go through.
# usage: deb.sh DEB, beside a chroot that has nothing of it yet
. "$(dirname "$0")/expect.sh"
apt() { chroot "$CHROOT" apt-get -qy -o Dpkg::Options::=--force-confdef "$@" >"$CHROOT/tmp/apt.log" 2>&1 || fail "apt-get $*: $(tail -n 20 "$CHROOT/tmp/apt.log")"; }
told() { grep -qF "$1" "$CHROOT/tmp/apt.log" || fail "apt does not tell '$1', but: $(cat "$CHROOT/tmp/apt.log")"; }
journal=$CHROOT/var/lib/prosody/enjamb-journal

cp "$1" "$CHROOT/tmp/enjamb.deb"
apt update
apt install /tmp/enjamb.deb
told "Restart Prosody ('systemctl restart prosody')"
works

# Upgrades, of it and of Prosody.
dpkg-deb -R "$1" "$CHROOT/tmp/next"
sed -i 's/^Version: .*/&.1/' "$CHROOT/tmp/next/DEBIAN/control"
rm "$CHROOT/tmp/next/usr/lib/prosody/modules/mod_smacks/shell.lib.lua"
dpkg-deb --root-owner-group -Znone --build "$CHROOT/tmp/next" "$CHROOT/tmp/next.deb" >/dev/null
apt install /tmp/next.deb
told "in its new version"
[ -d "$journal" ] || fail "the upgrade took the journal"
[ ! -e "$CHROOT/usr/lib/prosody/modules/mod_smacks/shell.lib.lua" ] || fail "the upgrade left a file"
apt install --allow-downgrades /tmp/enjamb.deb
apt install --reinstall prosody
works

# Removed, it leaves only what is kept of sessions.
apt remove prosody-enjamb
told "stay in /var/lib/prosody/enjamb-journal"
[ -d "$journal" ] || fail "its removal took the journal"
[ -z "$(chroot "$CHROOT" find /usr -name '*enjamb*' -o -name 'mod_minimix*')" ] || fail "something is left"
mv "$journal" "$CHROOT/tmp/journal"
is_out
rm -rf "$journal"
mv "$CHROOT/tmp/journal" "$journal"

# Purged, not even that, but what a server has open.
flock "$journal/lock" chroot "$CHROOT" dpkg --purge prosody-enjamb >"$CHROOT/tmp/apt.log" 2>&1 || fail "dpkg --purge"
told "are not deleted"
[ -d "$journal" ] || fail "what is in use was deleted"
apt install /tmp/enjamb.deb
apt purge prosody-enjamb
[ ! -e "$journal" ] && [ ! -e "$CHROOT/var/lib/prosody/enjamb-rooms" ] || fail "something is left of what was kept"
[ -d "$CHROOT/var/lib/prosody/localhost" ] || fail "accounts are gone"
is_out
echo "the Debian package: 1 passed, 0 failed"
