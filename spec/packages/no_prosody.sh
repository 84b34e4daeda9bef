#!/bin/sh
# Where the tarball of binaries does not fit: a system without Prosody.
# usage: no_prosody.sh TARBALL TEXT, beside such a chroot
. "$(dirname "$0")/expect.sh"
mkdir "$CHROOT/tmp/enjamb"
tar -C "$CHROOT/tmp/enjamb" --strip-components 1 -xf "$1"
refuses "$2" chroot "$CHROOT" sh /tmp/enjamb/install.sh
echo "install.sh refuses: 1 passed, 0 failed"
