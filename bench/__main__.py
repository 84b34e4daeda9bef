"""Enjamb's benchmark: what stream management costs a whole server.

    python3 bench [--quick] [--parts b,c] [--prosody 12,13] [--rounds N] [--publish]

Starts real Prosody servers on loopback, the variants in turns, and loads them with crates/load.  Writes
build/bench/samples.json, tables.md and plots, and prints the tables.  --publish also writes docs/performance.md's
tables and docs/performance/*.svg.  What the parts are: bench/parts.py.

Environment: ENJAMB_PROSODY12 (default /usr/bin/prosody), ENJAMB_PROSODY13 (a directory that holds usr/bin/prosody,
default build/prosody-13/root), ENJAMB_LUA (default lua5.4), CARGO_TARGET_DIR.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from parts import PARTS  # noqa: E402
from report import Results  # noqa: E402
from servers import REPO, VARIANTS, Failed, Missing, find_prosodies, say  # noqa: E402


def machine():
    model = ""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1)
    except (OSError, AttributeError):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "load_before": os.getloadavg()}


def arguments():
    p = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--parts", default=os.environ.get("PARTS", ""), help="letters, by commas or spaces (default: all)")
    p.add_argument("--quick", action="store_true", help="one round of less: for a look, not for figures")
    p.add_argument("--rounds", type=int, help="of every part, instead of its own number")
    p.add_argument("--prosody", default="12,13", help="12, 13 or both")
    p.add_argument("--variants", default="", help="only these of " + ", ".join(VARIANTS))
    p.add_argument("--tree", default=str(REPO / "build" / "tree"), help="where `make install` put Enjamb")
    p.add_argument("--output", default=str(REPO / "build" / "bench"), help="the directory for results")
    p.add_argument("--option", action="append", default=[], dest="options", metavar="LINE", help="a line for Prosody's configuration")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--keep", action="store_true", help="keep the servers' directories")
    p.add_argument("--publish", action="store_true", help="write docs/performance.md's tables and plots")
    o = p.parse_args()
    o.parts = re.split(r"[ ,]+", o.parts.strip()) if o.parts.strip() else list(PARTS)
    unknown = [name for name in o.parts if name not in PARTS]
    if unknown:
        p.error(f"no such part: {' '.join(unknown)}; there are {' '.join(PARTS)}")
    o.tree = pathlib.Path(o.tree).resolve()
    o.load = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").resolve() / "release" / "enjamb-load"
    o.output = pathlib.Path(o.output)
    return o


def fingerprint(tree):
    """Of what is installed, so that results say what they are of."""
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and p.suffix in (".lua", ".so")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def in_turns(variants, round_):
    """Every variant comes first, and before and after every other one, in some round."""
    turn = round_ // 2 % len(variants)
    order = variants[turn:] + variants[:turn]
    return order[::-1] if round_ % 2 else order


def measure(bench, part, prosodies, results, broken):
    only = [name for name in bench.variants.split(",") if name]
    variants = [VARIANTS[name] for name in part.variants if not only or name in only]
    rounds = bench.rounds or (1 if bench.quick else part.rounds)
    missing = set()
    for round_ in range(rounds):
        began = time.monotonic()
        for prosody in prosodies if round_ % 2 == 0 else prosodies[::-1]:
            for variant in in_turns(variants, round_):
                key = (part.letter, prosody.label, variant.name)
                if key in broken or key in missing:
                    continue
                try:
                    # all or nothing: what fails at its end may have been wrong from the start
                    for sample in list(part.sample(prosody, variant, round_)):
                        results.add(part.letter, prosody, variant, round_, sample)
                except Missing as e:
                    missing.add(key)
                    say(f"skipped: ({part.letter}) Prosody {prosody.label}: {e}")
                except Failed as e:
                    broken[key] = str(e)
                    say(f"FAILED: ({part.letter}) Prosody {prosody.label}, {variant.title}: {e}")
        say(f"({part.letter}) round {round_ + 1} of {rounds}: {time.monotonic() - began:.0f} s")


def write_down(bench, about, head, text, drawn):
    plots = bench.output / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    (bench.output / "samples.json").write_text(json.dumps(about, indent=1) + "\n")
    (bench.output / "tables.md").write_text("\n".join([head, *text.values()]))
    for name, svg in drawn.items():
        (plots / f"{name}.svg").write_text(svg)


def publish(head, text, drawn):
    """Puts each part's tables between its markers in docs/performance.md, and the plots beside it."""
    page = REPO / "docs" / "performance.md"
    directory = REPO / "docs" / "performance"
    directory.mkdir(exist_ok=True)
    content = page.read_text()
    for letter, section in text.items():
        begin, end = f"<!-- bench {letter} -->", f"<!-- end of {letter} -->"
        found = re.search(re.escape(begin) + ".*?" + re.escape(end), content, re.S)
        if not found:
            say(f"docs/performance.md has no place for ({letter}): {begin} ... {end}")
            continue
        # the page has its own titles
        body = section.split("\n", 1)[1].strip()
        content = content.replace(found.group(0), f"{begin}\n{head}\n{body}\n{end}")
    page.write_text(content)
    for name, svg in drawn.items():
        (directory / f"{name}.svg").write_text(svg)


def main():
    bench = arguments()
    for path in (bench.tree / "share/lua/5.4/mod_smacks/mod_smacks.lua", bench.load):
        if not path.is_file():
            say(f"{path} is missing: `make bench` builds it")
            return 2
    began, mark = time.time(), fingerprint(bench.tree)
    results, broken, text, drawn = Results(), {}, {}, {}
    about = {"when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": machine(),
             "enjamb": mark, "quick": bench.quick, "seed": bench.seed, "options": bench.options, "parts": {}}
    with tempfile.TemporaryDirectory(prefix="enjamb-bench-", delete=not bench.keep) if sys.version_info >= (3, 12) \
            else tempfile.TemporaryDirectory(prefix="enjamb-bench-") as scratch:
        bench.scratch = pathlib.Path(scratch)
        prosodies = find_prosodies(bench.scratch, bench.prosody.split(","))
        for letter in bench.parts:
            part, start = PARTS[letter](bench), time.time()
            measure(bench, part, prosodies, results, broken)
            about["parts"][letter] = {"title": part.title, "seconds": round(time.time() - start, 1)}
            section = [f"## ({letter}) {part.title}\n"]
            for prosody in prosodies:
                shown = list(part.tables(results, prosody))
                section.append(f"Prosody {prosody.version}:\n\n" + "\n\n".join(shown) + "\n")
            for (failed, label, variant), message in broken.items():
                if failed == letter:
                    section.append(f"Failed: Prosody {label}, {VARIANTS[variant].title}: {message.splitlines()[0]}\n")
            for name, svg in part.plots(results, prosodies):
                if svg:
                    drawn[name] = svg
                    section.append(f"![{part.title}](performance/{name}.svg)\n")
            print("\n".join(section), flush=True)
            text[letter] = "\n".join(section)
    if fingerprint(bench.tree) != mark:
        broken["all", "both", "enjamb"] = f"{bench.tree} was changed while the benchmark ran"
        say("FAILED: " + broken["all", "both", "enjamb"])
    about["machine"]["load_after"] = os.getloadavg()
    about["seconds"] = round(time.time() - began, 1)
    about["failures"] = [{"part": k[0], "prosody": k[1], "variant": k[2], "message": m} for k, m in broken.items()]
    about["samples"] = results.all
    m = about["machine"]
    head = (f"{about['when'][:10]}; {m['cpu']}, {m['cores']} cores. Medians [quartiles]; ratios of the medians / of the "
            "minima, below 1 the first named takes less.\n")
    write_down(bench, about, head, text, drawn)
    if bench.publish and broken:
        say("not published: not everything was measured")
    elif bench.publish:
        publish(head, text, drawn)
    say(f"{head}Took {about['seconds']:.0f} s; samples and tables are in {bench.output}")
    return 1 if broken or not results.all else 0


if __name__ == "__main__":
    sys.exit(main())
