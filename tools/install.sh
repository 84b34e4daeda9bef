#!/bin/sh
# Puts Enjamb where the Prosody of this machine looks for modules, or takes it out again.
# usage: install.sh [--remove] [--prosodyctl PROGRAM]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=$(cat "$here/version")
remove= prosodyctl=

say() { printf '%s\n' "$*"; }
refuse() {
	printf 'Enjamb was not %s: %s\n' "${remove:+removed}${remove:-installed}" "$*" | sed 's/removed1/removed/' >&2
	exit 1
}

while [ $# -gt 0 ]; do
	case $1 in
	--remove) remove=1 ;;
	--prosodyctl) [ $# -gt 1 ] || refuse "--prosodyctl wants a program"; shift; prosodyctl=$1 ;;
	-h | --help) sed -n 's/^# //p' "$0" | head -n 2; exit 0 ;;
	*) refuse "'$1' is no option; there are --remove and --prosodyctl PROGRAM" ;;
	esac
	shift
done

# Prosody says itself where it looks, and what it runs in.
if [ -z "$prosodyctl" ]; then
	for prosodyctl in "$(command -v prosodyctl || true)" /usr/bin/prosodyctl /usr/local/bin/prosodyctl /opt/prosody/bin/prosodyctl; do
		[ ! -x "$prosodyctl" ] || break
	done
fi
[ -x "$prosodyctl" ] || refuse "there is no prosodyctl here. Is Prosody installed? If it is in an unusual place, say --prosodyctl PROGRAM."
about=$("$prosodyctl" about 2>&1) ||
	refuse "'$prosodyctl about' failed: $(say "$about" | grep -v '^[ *]*$' | tail -n 1)$([ "$(id -u)" = 0 ] || echo ' Try as root.')"
prosody=$(say "$about" | sed -n 's/^Prosody \([^ ].*\)/\1/p' | grep -v '^was unable' | head -n 1)
lua=$(say "$about" | sed -n 's/^Lua version:[^0-9]*\([0-9.]*\).*/\1/p')
lines_of() { say "$about" | sed -n "/^$1:/,/^\$/ { s/^  //p; }" | sed 's/ - .*//; s/\/*$//; s/^ *$//; /^$/d'; }

case $prosody in
0.[0-9] | 0.[0-9].* | 0.10 | 0.10.*) refuse "it is for Prosody 0.11 and later, and '$prosodyctl' is of $prosody." ;;
'') refuse "'$prosodyctl about' does not say which Prosody it is of." ;;
esac
[ -d "$here/tree/lib/lua/$lua" ] ||
	refuse "this Prosody runs in Lua ${lua:-of an unknown version}, and these files are for Lua $(ls "$here/tree/lib/lua" | paste -sd ' ' -). On Debian that is what 'update-alternatives' and the first line of /usr/bin/prosody decide."

# The first directory that is not the one that luarocks keeps: on Debian /usr/local/lib/prosody/modules, which is for this.
installer=$(say "$about" | sed -n 's/^  \(.*\)\/share\/lua\/[0-9.]*\/?\.lua$/\1/p' | tail -n 1)
plugins=
before=
for directory in $(lines_of "Plugin directories"); do
	if [ "$directory" = "$installer" ] || [ "${directory##*/}" = custom_plugins ]; then
		before="$before $directory"
	elif [ -z "$plugins" ]; then
		plugins=$directory
	fi
done
case $plugins in /*) ;; *) refuse "'$prosodyctl about' names no directory for modules." ;; esac
share=$(lines_of "Lua module search paths" | sed -n "s|^\(/.*/share/lua/$lua\)/?\.lua\$|\1|p" | grep -v "^${installer:-/nowhere}/share" | head -n 1)
lib=$(lines_of "Lua C module search paths" | sed -n "s|^\(/.*/lua/$lua\)/?\.so\$|\1|p" | head -n 1)
[ -n "$share" ] && [ -n "$lib" ] || refuse "Prosody's Lua looks in no directory of the usual kind (.../share/lua/$lua and .../lua/$lua)."
files=$plugins/mod_smacks/FILES

# Takes away what an installation brought, but what is in the list that is given.
take_out() {
	while read -r file; do
		grep -qxF "$file" "$1" || rm -f "$file"
	done <"$files"
	rmdir "$plugins/mod_smacks" "$plugins/mod_minimix" "$plugins/mod_muc_enjamb" "$share/enjamb" 2>/dev/null || true
}

if [ -n "$remove" ]; then
	if [ ! -e "$files" ]; then
		package=$(dpkg-query -W -f '${Package}' prosody-enjamb 2>/dev/null) && refuse "it is here as a package. 'apt remove $package' takes it out."
		refuse "there is no $files, so it was not installed by this program."
	fi
	[ -w "$plugins/mod_smacks" ] || refuse "$plugins cannot be written. Try as root."
	take_out /dev/null
	rm -f "$files"
	rmdir "$plugins/mod_smacks" 2>/dev/null || true
	data=$(say "$about" | sed -n 's/^Data directory: *//p')
	say "Enjamb is removed from $plugins, $share and $lib."
	say "A Prosody that runs keeps it until it is restarted; then it uses its own mod_smacks."
	say "Sessions that wait, and what is queued for them, stay in $data/enjamb-journal and $data/enjamb-rooms: they are there again"
	say "if Enjamb is installed again in time. Delete these directories if it is not to be."
	exit 0
fi

for directory in $before; do
	for found in "$directory/mod_smacks" "$directory/mod_smacks.lua" "$directory/share/lua/$lua/mod_smacks" "$directory/share/lua/$lua/mod_smacks.lua"; do
		[ ! -e "$found" ] || refuse "Prosody would find $found first. Remove that (with 'prosodyctl remove' if that has brought it), then try again."
	done
done
[ -e "$files" ] || [ ! -e "$plugins/mod_smacks" ] || refuse "there is another $plugins/mod_smacks, not of this program. Remove it, then try again."

# Whether the library fits is tried with the Lua that Prosody runs in, before anything is changed.
interpreter=$(sed -n '1s/^#! *\([^ ]*env \)\{0,1\} *//p' "$prosodyctl")
case $interpreter in *lua*) ;; *) interpreter=lua$lua ;; esac
command -v "${interpreter%% *}" >/dev/null || refuse "there is no '$interpreter' to try the library with."
try_out() {
	# shellcheck disable=SC2086
	$interpreter - "$here/tree/lib/lua/$lua/enjamb.so" "$version" 2>&1 <<"END"
local open, err = package.loadlib(arg[1], "luaopen_enjamb");
local ok, library = pcall(open or error, open and "enjamb" or err, arg[1]);
if ok and library.version == arg[2] then return; end
print(ok and "it is of version "..tostring(library.version) or library);
os.exit(1);
END
}
problem=$(try_out) ||
	refuse "the library does not fit this system: $problem"

install -d "$plugins/mod_smacks" "$plugins/mod_minimix" "$plugins/mod_muc_enjamb" "$share" "$lib" 2>/dev/null && [ -w "$plugins/mod_smacks" ] && [ -w "$share" ] && [ -w "$lib" ] ||
	refuse "$plugins, $share or $lib cannot be written. Try as root."
was=
[ ! -e "$files" ] || was=" in place of what was there"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
put() { # FILE DIRECTORY MODE: never half a file, nor one that is in use written over
	install -d "$2"
	install -m "$3" "$1" "$2/${1##*/}.new"
	mv -f "$2/${1##*/}.new" "$2/${1##*/}"
	echo "$2/${1##*/}" >>"$list"
}
from=$here/tree/share/lua/$lua
for file in "$here/tree/lib/lua/$lua"/enjamb*.so; do put "$file" "$lib" 755; done
put "$from/enjamb.lua" "$share" 644
for file in "$from"/enjamb/*.lua; do [ ! -e "$file" ] || put "$file" "$share/enjamb" 644; done
for module in mod_smacks mod_minimix mod_muc_enjamb; do
	for file in "$from/$module"/*; do put "$file" "$plugins/$module" 644; done
done
[ ! -e "$files" ] || take_out "$list"
install -m 644 "$list" "$files"

say "Enjamb $version is installed$was, for Prosody $prosody in Lua $lua:"
say "  $plugins/mod_smacks, mod_minimix and mod_muc_enjamb, which the other two load by themselves"
say "  $share/enjamb.lua and $lib/enjamb.so"
say "Restart Prosody to use it. \"smacks\" must be in modules_enabled, and \"minimix\" where group chat is to be the account's affair."
say "'$prosodyctl mod_smacks check' looks whether all is as it should be; '$0 --remove' takes it out again."
