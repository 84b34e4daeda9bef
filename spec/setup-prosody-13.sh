#!/bin/sh
# Unpacks Prosody 13 from Debian, of this release or its backports, into a directory, for the tests.
#
#   spec/setup-prosody-13.sh DEST
#
# makes DEST/root (the unpacked package) and rewrites the paths in its prosody
# and prosodyctl scripts, so that they run from there.  Nothing is installed
# and the machine's own apt state isn't touched.  Does nothing when DEST is
# already complete.  The mirror is the one this machine's apt is set up with.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 DEST" >&2
	exit 2
fi

mkdir -p "$1"
dest=$(cd "$1" && pwd)
root=$dest/root

is_good() {
	[ -f "$dest/version" ] || return 1
	case $(cat "$dest/version") in 13.*) ;; *) return 1 ;; esac
	[ -x "$root/usr/bin/prosody" ] || return 1
	[ -f "$root/usr/lib/prosody/core/modulemanager.lua" ] || return 1
	grep -qF "CFG_SOURCEDIR='$root/usr/lib/prosody'" "$root/usr/bin/prosody" || return 1
	grep -qF "CFG_SOURCEDIR='$root/usr/lib/prosody'" "$root/usr/bin/prosodyctl" || return 1
}

if is_good; then
	exit 0
fi

release=$(. /etc/os-release && echo "$VERSION_CODENAME")
case $(apt-cache policy prosody | sed -n 's/^  Candidate: //p') in
	13.*) suite=$release ;;
	*) suite=$release-backports ;;
esac

# The mirror that the machine's own "main" of this release comes from.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
	awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
if [ -z "$mirror" ]; then
	echo "$0: apt has no source for $release main" >&2
	exit 1
fi
signed_by=$(apt-get indextargets --format '$(SIGNED_BY) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
	awk -v release="$release" 'NF == 3 && $2 == release && $3 == "main" && $1 ~ /^\// { print $1; exit }')
if [ -z "$signed_by" ]; then
	signed_by=/usr/share/keyrings/debian-archive-keyring.gpg
fi

work=$(mktemp -d "$dest/apt.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/deb"
cat > "$work/sources/backports.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $signed_by
END

private_apt() {
	apt-get -q \
		-o Dir::Etc::SourceList=/dev/null \
		-o Dir::Etc::SourceParts="$work/sources" \
		-o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work/cache" \
		-o Dir::Cache::pkgcache= \
		-o Dir::Cache::srcpkgcache= \
		-o APT::Sandbox::User="$(id -un)" \
		"$@"
}

private_apt update
(cd "$work/deb" && private_apt download "prosody/$suite")

set -- "$work"/deb/prosody_*.deb
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
	echo "$0: apt downloaded no prosody package" >&2
	exit 1
fi
version=$(dpkg-deb -f "$1" Version)
case $version in
	13.*) ;;
	*) echo "$0: $suite has prosody $version, wanted 13.x" >&2; exit 1 ;;
esac

rm -rf "$root" "$dest/version"
dpkg-deb -x "$1" "$root"
for script in prosody prosodyctl; do
	sed -i \
		-e "s|^CFG_SOURCEDIR=.*|CFG_SOURCEDIR='$root/usr/lib/prosody';|" \
		-e "s|^CFG_CONFIGDIR=.*|CFG_CONFIGDIR='$root/etc/prosody';|" \
		-e "s|^CFG_PLUGINDIR=.*|CFG_PLUGINDIR='$root/usr/lib/prosody/modules/';|" \
		-e "s|^CFG_DATADIR=.*|CFG_DATADIR='$root/var/lib/prosody';|" \
		"$root/usr/bin/$script"
done
echo "$version" > "$dest/version"

if ! is_good; then
	echo "$0: $root doesn't look right" >&2
	exit 1
fi
echo "prosody $version is in $root"
