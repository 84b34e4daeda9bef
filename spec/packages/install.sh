#!/bin/sh
# The tarball of binaries: install.sh of it puts Enjamb in, again, and out.
# usage: install.sh TARBALL, beside a chroot with Prosody (0.12 or later)
. "$(dirname "$0")/expect.sh"
mkdir "$CHROOT/tmp/enjamb"
tar -C "$CHROOT/tmp/enjamb" --strip-components 1 -xf "$1"
install() { chroot "$CHROOT" sh /tmp/enjamb/install.sh "$@"; }
chroot "$CHROOT" find /usr /var/lib/prosody -type f | sort >"$CHROOT/tmp/before"

# What it refuses leaves all as it was.
refuses "there is no prosodyctl here" install --prosodyctl /nowhere
refuses "'--rmeove' is no option" install --rmeove
refuses "it was not installed by this program" install --remove
refuses "Try as root" chroot --userspec=nobody "$CHROOT" sh /tmp/enjamb/install.sh
library=$CHROOT/tmp/enjamb/tree/lib/lua/5.4/enjamb.so
cp "$library" "$CHROOT/tmp/good.so"
head -c 100000 "$CHROOT/tmp/good.so" >"$library"
refuses "the library does not fit this system" install
cp "$CHROOT/tmp/good.so" "$library"
mv "$CHROOT/tmp/enjamb/tree/lib/lua/5.4" "$CHROOT/tmp/enjamb/tree/lib/lua/5.1"
refuses "this Prosody runs in Lua 5.4, and these files are for Lua 5.1 5.2 5.3" install
mv "$CHROOT/tmp/enjamb/tree/lib/lua/5.1" "$CHROOT/tmp/enjamb/tree/lib/lua/5.4"
for other in /var/lib/prosody/custom_plugins/share/lua/5.4/mod_smacks /usr/local/lib/prosody/modules/mod_smacks; do
	mkdir -p "$CHROOT$other"
	refuses "$other" install
	rmdir "$CHROOT$other"
done
chroot "$CHROOT" find /usr /var/lib/prosody -type f | sort | diff "$CHROOT/tmp/before" -

install
works
# Another version may have fewer files.
old=/usr/local/lib/prosody/modules/mod_smacks/of_old.lib.lua
touch "$CHROOT$old"
echo "$old" >>"$CHROOT/usr/local/lib/prosody/modules/mod_smacks/FILES"
install | grep -q "in place of what was there" || fail "it was there before"
[ ! -e "$CHROOT$old" ] || fail "a file of the version before is left"
install --remove
chroot "$CHROOT" find /usr -type f | sort >"$CHROOT/tmp/after"
grep ^/usr "$CHROOT/tmp/before" | diff - "$CHROOT/tmp/after" || fail "it left something"
[ -d "$CHROOT/var/lib/prosody/enjamb-journal" ] || fail "the journal is gone"
is_out
echo "install.sh: 1 passed, 0 failed"
