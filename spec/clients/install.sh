#!/bin/sh
# Installs the clients that the specs here drive, but for those that Debian has, into BUILD_DIR:
#
#   spec/clients/install.sh BUILD_DIR
#
# It needs python3 with venv (Debian: python3-venv), node 18 or later and npm
# (Debian: nodejs npm) and cargo, and package registries that pip, npm and
# cargo can reach. Run again, it only brings up to date what has changed.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 BUILD_DIR" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
build=$(cd "$1" && pwd)

slixmpp=1.17.0

# slixmpp, in a virtual environment.
if ! "$build/venv/bin/python3" -c "
import importlib.metadata as m
assert m.version('slixmpp') == '$slixmpp'" 2>/dev/null; then
	python3 -m venv --clear "$build/venv"
	"$build/venv/bin/pip" install --quiet --disable-pip-version-check "slixmpp==$slixmpp"
fi

# @xmpp/client, stanza.js and strophe.js. The first says that it wants node 20.10: with the two globals that
# client.mjs supplies, node 18 does.
mkdir -p "$build/node"
if ! [ -e "$build/node/installed" ] ||
	! cmp -s "$here/xmpp-js/package.json" "$build/node/package.json"; then
	rm -f "$build/node/installed"
	cp "$here/xmpp-js/package.json" "$build/node/package.json"
	(cd "$build/node" && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
	touch "$build/node/installed"
fi

# tokio-xmpp. The sources are copied so that no Cargo.lock gets into the tree.
mkdir -p "$build/tokio-xmpp/package"
cp -R -p "$here/tokio-xmpp/Cargo.toml" "$here/tokio-xmpp/src" "$build/tokio-xmpp/package/"
cargo build --quiet --manifest-path "$build/tokio-xmpp/package/Cargo.toml" \
	--target-dir "$build/tokio-xmpp"

echo "clients installed in $build"
