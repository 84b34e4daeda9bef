#!/bin/sh
# Parts a library from what only a debugger and backtraces want of it. The small one knows the other by name, and finds it
# when it lies beside it, in .debug/ there, or under /usr/lib/debug.
# usage: strip.sh LIBRARY SMALL: makes SMALL and SMALL.debug, if LIBRARY is newer
set -eu
library=$1 small=$2
[ "$small" -nt "$library" ] && [ -e "$small.debug" ] && exit 0

# A cross compiler's come with its prefix; llvm's understand every machine.
objcopy=${OBJCOPY:-${CROSS:-}objcopy} strip=${STRIP:-${CROSS:-}strip}
for tool in "$objcopy" "$strip"; do
	command -v "$tool" >/dev/null || { echo "$0: there is no '$tool' to make the library small with; it is in Debian's binutils" >&2; exit 1; }
done
"$objcopy" --only-keep-debug --compress-debug-sections "$library" "$small.debug"
chmod 644 "$small.debug"
"$strip" --strip-unneeded -o "$small.new" "$library"
# The link holds a name without a directory.
(cd "$(dirname "$small")" && "$objcopy" --add-gnu-debuglink="$(basename "$small").debug" "$(basename "$small").new")
mv -f "$small.new" "$small"
