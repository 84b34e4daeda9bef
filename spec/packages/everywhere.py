"""Tries Enjamb in every Prosody that can be had: enable, drop, resume, kill -9, resume, two devices in a room. Ends with a table.

The binaries are those of the tarball (tools/dist.sh), installed by its install.sh. Chroots with Prosody are kept between runs, in
build/chroots; what cannot be had is skipped, with a word why. With --publish the table is written into README.md.

usage: everywhere.py [--trunk CHECKOUT] [--publish] TARBALL [RELEASE...]
"""
import argparse
import json
import os
import subprocess
import sys

from smoke import STEPS

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHROOTS = os.path.join(TOP, "tools", "chroots.py")
README = os.path.join(TOP, "README.md")
BEGIN, END = "<!-- versions -->\n", "<!-- end of versions -->\n"
TRUNK = "trunk"
PLACES = {
    "bullseye": "Debian 11",
    "bookworm": "Debian 12",
    "bookworm-backports": "Debian 12, backports",
    "trixie": "Debian 13",
    "sid": "Debian unstable",
    TRUNK: "from source, on Debian 13",
}


class Skipped(Exception):
    """This Prosody cannot be had here; the text says why."""


def chroots(*arguments):
    return subprocess.run([sys.executable, CHROOTS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP)


def keep(layer, release, command, *options):
    done = chroots("--keep", layer, *options, release, "sh", "-euc", command)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Skipped(said[-1] if said else f"{command} failed")


def install(release):
    suite = "-t bookworm-backports" if release == "bookworm-backports" else ""
    keep("prosody", release, f"apt-get update -q && apt-get install -qy {suite} prosody")


def attempt(release, tarball, trunk):
    """What was found: versions, and for each step true or why not."""
    base, layers = release, ["prosody"]
    if release == TRUNK:
        if not trunk:
            raise Skipped("no checkout of Prosody was given (TRUNK=DIRECTORY)")
        base = "trixie"
        install(base)
        keep("trunk-tools", base, "apt-get update -q && apt-get install -qy gcc make pkg-config liblua5.4-dev libicu-dev libssl-dev",
             "--layer", "prosody")
        layers += ["trunk-tools", "trunk"]
        mark = os.path.join(TOP, "build", "chroots", "trixie.trunk")
        if os.path.isdir(mark):
            subprocess.run(["rm", "-rf", mark], check=True)
        keep("trunk", base, "sh /trunk.sh >&2", "--layer", "prosody", "--layer", "trunk-tools", "--bind", f"{os.path.abspath(trunk)}:/prosody",
             "--bind", f"{TOP}/spec/packages/trunk.sh:/trunk.sh", "--offline")
    else:
        install(release)
    done = chroots(*(word for name in layers for word in ("--layer", name)), "--on-host", base, "sh", "spec/packages/once.sh", tarball)
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found.update(json.loads(line))
    if "loads" not in found:
        raise RuntimeError(f"{release}: {done.stdout}{done.stderr}")
    if not all(found.get(step) is True for step in STEPS):
        sys.stderr.write(done.stderr[-4000:])
    return found


def table(results):
    lines = ["| | Prosody | Lua, glibc | " + " | ".join(STEPS) + " |", "|---|---|---|" + "---|" * len(STEPS)]
    notes = []
    for release, found in results.items():
        if isinstance(found, str):
            notes.append(f"{PLACES[release]}: not tried, {found}.")
            continue
        cells = []
        for step in STEPS:
            value = found.get(step)
            cells.append("yes" if value is True else "no" if value else "")
            if value not in (True, None):
                first = value.splitlines()[0].strip()
                notes.append(f"{PLACES[release]}, {step}: {first}")
        lines.append(f"| {PLACES[release]} | {found['prosody']} | {found['lua']}, {found['glibc']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def publish(text):
    with open(README, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    _, after = rest.split(END)
    with open(README, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + text + END + after)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].strip())
    parser.add_argument("--trunk")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("tarball")
    parser.add_argument("releases", nargs="*", metavar="RELEASE")
    arguments = parser.parse_args()
    results, passed, failed, skipped = {}, 0, 0, 0
    for release in arguments.releases or PLACES:
        try:
            found = results[release] = attempt(release, arguments.tarball, arguments.trunk)
        except Skipped as why:
            results[release] = str(why)
            skipped += 1
            print(f"{PLACES[release]}: skipped, {why}", flush=True)
            continue
        except RuntimeError as error:
            failed += 1
            print(f"FAILED: {error}", flush=True)
            continue
        good = all(found.get(step) is True for step in STEPS)
        passed, failed = passed + good, failed + (not good)
        print(f"{PLACES[release]}: {'as expected' if good else 'FAILED'}: {json.dumps(found)}", flush=True)
    text = table(results)
    print(f"\n{text}")
    if arguments.publish and not failed and not arguments.releases:
        publish(text)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
