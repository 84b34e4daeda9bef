#!/bin/sh
# Makes the tarballs of a release from what is committed: enjamb-VERSION.tar.gz, the sources with all crates, which builds
# without a network; and enjamb-VERSION-ARCHITECTURE-linux-gnu.tar.gz, what it builds, in the oldest Debian that is supported (its
# glibc is the oldest one that the library then works with), for each Lua that a Prosody there runs on, without a network.
# usage: dist.sh DIR VERSION
set -eu
top=$(pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
version=$2 name=enjamb-$2
oldest=bullseye
luas="5.2 5.3 5.4"

commit=$(git rev-parse --verify HEAD) || { echo "$0: the tarball of sources is made of a git checkout" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || echo "$0: what is not committed is not in the tarballs" >&2
date=$(git log -1 --format=%ct)
pack() { # TARBALL DIRECTORY: the same bytes for the same files
	tar -C "$dir/work" --sort=name --mtime="@$date" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX -cf - "$2" | gzip -9n >"$1.new"
	mv "$1.new" "$1"
}

if [ "$(cat "$dir/commit" 2>/dev/null)" = "$commit" ]; then exit 0; fi
rm -rf "$dir/work" "$dir/commit" "$dir/$name"*
mkdir -p "$dir/work/$name"
git archive "$commit" | tar -x -C "$dir/work/$name"
cd "$dir/work/$name"
mkdir -p .cargo
cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null
printf '[source.crates-io]\nreplace-with = "vendored-sources"\n\n[source.vendored-sources]\ndirectory = "vendor"\n' >.cargo/config.toml
# Crates for other systems are in the lock file and must be there, but nothing of them is read.
for target in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl; do
	cargo tree --quiet --locked --offline --workspace --edges all --target $target --prefix none --no-dedupe --format '{p}'
done | sed 's/^\([^ ]*\) v\([^ ]*\).*/\1-\2/' | sort -u >../used
for crate in vendor/*; do
	if ! grep -qxF "${crate#vendor/}" ../used; then
		find "$crate" -type f ! -name Cargo.toml ! -name .cargo-checksum.json -delete
		find "$crate" -type d -empty -delete
		mkdir -p "$crate/src"
		: >"$crate/src/lib.rs"
		sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
	fi
done
python3 tools/notices.py vendor >NOTICES
echo "$commit" >commit
pack "$dir/$name.tar.gz" "$name"

# What it builds.
cd "$top"
python3 tools/chroots.py --keep build $oldest sh -c 'apt-get update -q && apt-get install -qy gcc libc6-dev binutils make' >"$dir/work/build.log" 2>&1 ||
	{ tail -n 3 "$dir/work/build.log"; exit 1; }
binary=$name-$(uname -m)-linux-gnu
mkdir "$dir/work/out"
python3 tools/chroots.py --layer build --offline --bind "$(rustc --print sysroot):/opt/rust" --bind "$dir:/dist" $oldest sh -euc '
	export PATH=/opt/rust/bin:$PATH CARGO_HOME=/tmp/cargo
	tar -C /tmp -xf /dist/'"$name"'.tar.gz
	cd /tmp/'"$name"'
	export CARGO_NET_OFFLINE=true
	for lua in '"$luas"'; do
		make -s install DEBUG=1 LUA=$lua TREE=/dist/work/out MANIFEST=
	done'
for lua in $luas; do
	mv "$dir/work/out/lib/lua/$lua/enjamb.so.debug" "$dir/$binary.lua$lua.debug"
done
mv "$dir/$binary.lua5.4.debug" "$dir/$binary.debug" # which is Debian's
mv "$dir/work/out/lib/lua/5.4/enjamb-replica.so.debug" "$dir/$binary.replica.debug"
mkdir "$dir/work/$binary"
mv "$dir/work/out" "$dir/work/$binary/tree"
cp tools/install.sh LICENSE "$dir/work/$name/NOTICES" "$dir/work/$binary/"
echo "$version" >"$dir/work/$binary/version"
pack "$dir/$binary.tar.gz" "$binary"
echo "$commit" >"$dir/commit"
ls -l "$dir"/$name*
