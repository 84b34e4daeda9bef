# For the scripts beside it, which tools/chroots.py runs beside a chroot, $CHROOT. They end at the first thing that is not so.
set -eu
top=$(pwd)

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# What a command says, which has to fail with a sentence that has TEXT in it, and no traceback.
refuses() { # TEXT COMMAND...
	text=$1
	shift
	if said=$("$@" 2>&1); then fail "this should have been refused: $*"; fi
	case $said in
	*traceback* | *Traceback*) fail "a traceback of $*: $said" ;;
	*"$text"*) ;;
	*) fail "$* does not say '$text', but: $said" ;;
	esac
}

# All that Enjamb does for a person, in the Prosody of the chroot.
works() {
	unshare --net python3 "$top/spec/packages/smoke.py" --loopback --configure "$CHROOT" || fail "Enjamb does not work"
	checked=$(chroot "$CHROOT" prosodyctl mod_smacks check 2>&1) || fail "prosodyctl mod_smacks check: $checked"
}

# Prosody's own mod_smacks is used.
is_out() {
	refuses "this is another mod_smacks" unshare --net python3 "$top/spec/packages/smoke.py" --loopback --configure --steps loads --fresh "$CHROOT"
}
