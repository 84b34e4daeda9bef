#!/bin/sh
# Installs the tarball of binaries and says what works: a line of JSON, with the versions.
# usage: once.sh TARBALL, beside a chroot with some Prosody
. "$(dirname "$0")/expect.sh"
mkdir "$CHROOT/tmp/enjamb"
tar -C "$CHROOT/tmp/enjamb" --strip-components 1 -xf "$1"
about=$(chroot "$CHROOT" prosodyctl about 2>/dev/null)
version=$(echo "$about" | sed -n '/was unable/d; s/^Prosody \([^ ].*\)/\1/p' | head -n 1)
lua=$(echo "$about" | sed -n 's/^Lua version:[^0-9]*//p')
glibc=$(chroot "$CHROOT" getconf GNU_LIBC_VERSION)
printf '{"prosody": "%s", "lua": "%s", "glibc": "%s"}\n' "$version" "$lua" "${glibc#glibc }"
if ! said=$(chroot "$CHROOT" sh /tmp/enjamb/install.sh 2>&1); then
	printf '%s' "$said" | python3 -c 'import json, sys; print(json.dumps({"loads": sys.stdin.read()}))'
	exit 0
fi
exec unshare --net python3 "$top/spec/packages/smoke.py" --loopback --configure --prosody "$(chroot "$CHROOT" sh -c 'command -v prosody')" "$CHROOT"
