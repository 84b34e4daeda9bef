#!/bin/sh
# Runs `make test` in another Debian, where of this machine there is nothing but its Rust toolchain, the crates that it has fetched, and what
# cargo has built for tests: the library is built there. Nothing that is written there stays.
# usage: whole.sh RELEASE
set -eu
release=$1 checkout=$(pwd) copy=$(pwd)/build/whole/$1 cargo=${CARGO_HOME:-$HOME/.cargo}
chroots() {
	status=0
	python3 tools/chroots.py "$@" || status=$?
	# It has said why.
	[ $status != 3 ] || { echo "Debian $release: skipped"; exit 0; }
	return $status
}

# All with their times and at their places: by both cargo knows what it has built of them.
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z | xargs -0 cp -p --parents -t "$copy"

chroots --keep toolchain "$release" sh -euc "apt-get update -qq && apt-get install -qqy make gcc libc6-dev ca-certificates"
set -- --layer toolchain --bind "$(rustc --print sysroot):/opt/rust" --bind "$copy:$checkout" --bind /etc/ssl/certs:/etc/ssl/certs
for directory in "$cargo/registry" "$checkout/target/debug" "$checkout/build/clients/tokio-xmpp"; do
	[ ! -d "$directory" ] || set -- "$@" --over "$directory:$directory"
done
chroots "$@" "$release" env -u CARGO_TARGET_DIR CARGO_HOME="$cargo" HOME=/root sh -c '
	cd "$1"
	export PATH="/opt/rust/bin:$PATH"
	exec make test' sh "$checkout"
