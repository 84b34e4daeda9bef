#!/bin/sh
# Makes Debian packages of the tarball of binaries (tools/dist.sh): one for every release whose Prosody runs in Lua 5.4, and
# one with what debuggers and backtraces want.
# usage: deb.sh DIST-DIR TARBALL-NAME VERSION [ARCHITECTURE TRIPLET]
set -eu
dir=$(cd "$1" && pwd)
name=$2 version=$3-1 architecture=${4:-$(dpkg --print-architecture)} triplet=${5:-$(uname -m)-linux-gnu}
package=prosody-enjamb
work=$dir/deb
date=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH="$date"
rm -rf "$work"
mkdir -p "$work/from"
tar -C "$work/from" --strip-components 1 -xf "$dir/$name.tar.gz"

# A directory mod_smacks is found before the file mod_smacks.lua of Prosody, in the same place: nothing of Prosody's is
# touched or diverted, and no configuration is needed. It is where Debian's prosody-modules has its modules.
root=$work/$package
modules=$root/usr/lib/prosody/modules share=$root/usr/share/lua/5.4 lib=$root/usr/lib/$triplet/lua/5.4 doc=$root/usr/share/doc/$package
mkdir -p "$root/DEBIAN" "$modules" "$share" "$lib" "$doc"
tree=$work/from/tree
cp "$tree"/lib/lua/5.4/enjamb*.so "$lib/"
chmod 644 "$lib"/enjamb*.so
for path in "$tree"/share/lua/5.4/*; do
	case ${path##*/} in
	mod_*) cp -r "$path" "$modules/" ;;
	*) cp -r "$path" "$share/" ;;
	esac
done

# The newest version of each of glibc's symbols that it uses.
glibc=$(readelf --dyn-syms --wide "$lib/enjamb.so" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
installed=$(du -sk --apparent-size "$root/usr" | cut -f 1)
maintainer=$(git log -1 --format='%an <%ae>')
cat >"$root/DEBIAN/control" <<END
Package: $package
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $installed
Depends: prosody (>= 0.12), prosody (<< 14), lua5.4, libc6 (>= $glibc), libgcc-s1 (>= 4.2)
Conflicts: prosody-modules (<< 0.0~hg2022)
Section: net
Priority: optional
Description: stream management for Prosody that loses nothing
 mod_smacks (XEP-0198) in place of Prosody's own, with the same options, and
 mod_minimix, which makes group chat an affair of the account. Sessions outlive
 the server: after a restart or a crash each waits for its client again, with
 its queue, and nothing that a sender was told is handled is lost; and rooms of
 the server are as they were.
 .
 Once installed, mod_smacks is used from the next start of Prosody, where
 "smacks" is in modules_enabled; mod_minimix where "minimix" is.
END
cat >"$root/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
	echo "Restart Prosody ('systemctl restart prosody') to use the mod_smacks of prosody-enjamb${2:+ in its new version}."
fi
END
cat >"$root/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
data=/var/lib/prosody
case $1 in
remove)
	echo "Restart Prosody ('systemctl restart prosody') to use its own mod_smacks."
	if [ -d "$data/enjamb-journal" ]; then
		echo "Sessions that wait for their clients, and what is queued for them, stay in $data/enjamb-journal: they are"
		echo "there again if prosody-enjamb is installed again in time, and deleted when it is purged."
	fi
	;;
purge)
	# A server that has not been restarted since the removal still writes there.
	if [ -e "$data/enjamb-journal/lock" ] && ! flock --nonblock "$data/enjamb-journal/lock" true; then
		echo "$data/enjamb-journal and enjamb-rooms are not deleted: a Prosody that runs uses them. Restart it, and delete them."
	else
		rm -rf "$data/enjamb-journal" "$data/enjamb-rooms"
	fi
	;;
esac
END
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/postrm"

cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Enjamb

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE)
License: Expat
$(sed '1,4d; s/^$/./; s/^/ /' LICENSE)
Comment: The licences of what is linked into the library are in NOTICES.gz.
END
gzip -9n <"$work/from/NOTICES" >"$doc/NOTICES.gz"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
printf '%s (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$package" "$version" "$maintainer" "$(LC_ALL=C date -uRd "@$date")" |
	gzip -9n >"$doc/changelog.Debian.gz"

debug=$work/$package-dbgsym
id=$(readelf -n "$lib/enjamb.so" | sed -n 's/.*Build ID: //p')
mkdir -p "$debug/DEBIAN" "$debug/usr/lib/debug/.build-id/$(echo "$id" | cut -c 1-2)" "$debug/usr/share/doc"
cp "$dir/$name.debug" "$debug/usr/lib/debug/.build-id/$(echo "$id" | cut -c 1-2)/$(echo "$id" | cut -c 3-).debug"
ln -s "$package" "$debug/usr/share/doc/$package-dbgsym"
cat >"$debug/DEBIAN/control" <<END
Package: $package-dbgsym
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$debug/usr" | cut -f 1)
Depends: $package (= $version)
Section: debug
Priority: optional
Auto-Built-Package: debug-symbols
Build-Ids: $id
Description: debug symbols for $package
END

for root in "$root" "$debug"; do
	chmod -R u=rwX,go=rX "$root/usr"
	(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
	dpkg-deb --root-owner-group -Zxz --build "$root" "$dir" >/dev/null
done
ls -l "$dir"/*_"${version}_$architecture.deb"
