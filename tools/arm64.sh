#!/bin/sh
# Makes enjamb-VERSION-aarch64-linux-gnu.tar.gz of the tarball of sources, with what Debian has for it: its Rust of unstable,
# whose standard library is there for ARM too, and the glibc of the Debian that is the oldest with a Prosody that Enjamb runs in.
# usage: arm64.sh DIST-DIR VERSION
set -eu
dir=$(cd "$1" && pwd)
version=$2 triplet=aarch64-linux-gnu
name=enjamb-$version-$triplet
work=$dir/arm64
glibc=bookworm

rm -rf "$work" "$dir/$name"*
mkdir -p "$work/$name"
python3 tools/chroots.py --keep arm64 sid sh -euc '
	dpkg --add-architecture arm64
	archive=$(sed -n "s/^deb \([^ ]*\) sid main.*/\1/p" /etc/apt/sources.list)
	echo "deb $archive '$glibc' main" >/etc/apt/sources.list.d/glibc.list
	apt-get update -q
	apt-get install -qy -t sid cargo libstd-rust-dev:arm64 gcc-'$triplet' libc6-dev-arm64-cross binutils make
	cd /tmp
	apt-get download -q libc6-dev-arm64-cross/'$glibc' libc6-arm64-cross/'$glibc'
	for package in *cross*.deb; do dpkg-deb -x "$package" /; rm "$package"; done' >"$work/tools.log" 2>&1 ||
	{ tail -n 3 "$work/tools.log"; exit 1; }
python3 tools/chroots.py --layer arm64 --offline --bind "$dir:/dist" sid sh -euc '
	mkdir /tmp/build
	tar -C /tmp/build --strip-components 1 -xf "/dist/enjamb-'"$version"'.tar.gz"
	cd /tmp/build
	export CARGO_HOME=/tmp/cargo CARGO_NET_OFFLINE=true CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu CROSS='$triplet'-
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER='$triplet'-gcc
	make -s install DEBUG=1 TREE=/dist/arm64/tree MANIFEST= TARGET_DIR=target/aarch64-unknown-linux-gnu'
mv "$work/tree/lib/lua/5.4/enjamb.so.debug" "$dir/$name.debug"
mv "$work/tree" "$work/$name/tree"
tar -C "$work" --strip-components 1 -xf "$dir/enjamb-$version.tar.gz" "enjamb-$version/NOTICES" "enjamb-$version/LICENSE"
mv "$work/NOTICES" "$work/LICENSE" "$work/$name/"
cp tools/install.sh "$work/$name/"
echo "$version" >"$work/$name/version"
tar -C "$work" --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX -cf - "$name" | gzip -9n >"$dir/$name.tar.gz"
rm -rf "$work"
ls -l "$dir/$name.tar.gz"
