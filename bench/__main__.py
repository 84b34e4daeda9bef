"""Enjamb's benchmark: what stream management costs a whole server.

    python3 bench [--quick] [--parts b,c] [--servers 12,13,ejabberd] [--collectors incremental] [--rounds N] [--continue] [--tables] [--publish]

Starts real servers on loopback, Prosody and ejabberd, the variants in turns, and loads them with crates/load.  Writes
build/bench/samples.json, tables.md and plots, and prints the tables.  --publish also writes docs/performance.md's
tables, docs/performance/*.svg, and the README's figures if everything was measured.  What the parts are: bench/parts.py.

A run that is interrupted keeps the rounds that it has: --continue goes on with it, --tables makes the tables of it.

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
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from ejabberd import find_ejabberd  # noqa: E402
from parts import PARTS, make  # noqa: E402
from readme import figures  # noqa: E402
from report import PAIRS, Results, table_of_bars  # noqa: E402
from servers import REPO, VARIANTS, Failed, Installed, Missing, find_prosody, in_modes, say  # noqa: E402

SELDOM = 3


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
    p.add_argument("--against", metavar="TREE", help="compare with another Enjamb, installed there, and with nothing else")
    p.add_argument("--quick", action="store_true", help="one round of less: for a look, not for figures")
    p.add_argument("--rounds", type=int, help="of every part, instead of its own number")
    p.add_argument("--servers", default="12,13,ejabberd", help="Prosody 12, Prosody 13, ejabberd: those that are installed")
    p.add_argument("--collectors", default=os.environ.get("COLLECTORS") or "incremental,generational",
                   help="modes of Lua's collector, by commas or spaces: each Prosody is measured in each (default: both)")
    p.add_argument("--variants", default="", help="only these of " + ", ".join(VARIANTS))
    p.add_argument("--tree", default=str(REPO / "build" / "tree"), help="where `make install` put Enjamb")
    p.add_argument("--output", default=str(REPO / "build" / "bench"), help="the directory for results")
    p.add_argument("--option", action="append", default=[], dest="options", metavar="LINE", help="a line for Prosody's configuration")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--keep", action="store_true", help="keep the servers' directories")
    p.add_argument("--continue", action="store_true", dest="go_on", help="go on with what is in the results' directory")
    p.add_argument("--tables", action="store_true", help="measure nothing, make tables of what is there")
    p.add_argument("--publish", action="store_true", help="write docs/performance.md's tables and plots")
    o = p.parse_args()
    o.parts = re.split(r"[ ,]+", o.parts.strip()) if o.parts.strip() else list(PARTS)
    o.collectors = re.split(r"[ ,]+", o.collectors.strip())
    if not set(o.collectors) <= {"incremental", "generational"}:
        p.error("a collector is incremental or generational")
    unknown = [name for name in o.parts if name not in PARTS]
    if unknown:
        p.error(f"no such part: {' '.join(unknown)}; there are {' '.join(PARTS)}")
    o.tree = pathlib.Path(o.tree).resolve()
    o.against = o.against and pathlib.Path(o.against).resolve()
    if o.against and o.publish:
        p.error("a comparison with another Enjamb is not for publishing")
    if o.publish and "incremental" not in o.collectors:
        p.error("the figures that are published are of the collector as Prosody sets it, too")
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


class Run:
    """What has been measured, and under what circumstances; kept in samples.json after every round."""

    def __init__(self, bench):
        self.bench, self.file = bench, bench.output / "samples.json"
        self.broken, self.began = {}, time.monotonic()
        self.about = {"when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": machine(),
                      "enjamb": fingerprint(bench.tree), "against": bench.against and fingerprint(bench.against), "quick": bench.quick, "seed": bench.seed, "options": bench.options,
                      "servers": {}, "seconds": {}}
        self.results = Results()
        if bench.go_on or bench.tables:
            self.recall()

    def recall(self):
        about = json.loads(self.file.read_text())
        other = [key for key in ("enjamb", "against", "quick", "seed", "options") if about.get(key) != self.about[key]]
        if other and not self.bench.tables:
            raise Failed(f"{self.file} is not of this {', '.join(other)}: it cannot be gone on with")
        self.bench.quick = about["quick"]
        self.results = Results(about.pop("samples"))
        failures = about.pop("failures")
        if self.bench.tables:  # else they are tried again
            self.broken = {(f["part"], f["server"], f["variant"]): f["message"] for f in failures}
        self.about = about

    def servers(self):
        return [Installed(label, title) for label, title in self.about["servers"].items()]

    def keep(self):
        self.about["machine"]["load_after"] = os.getloadavg()
        failures = [{"part": k[0], "server": k[1], "variant": k[2], "message": m} for k, m in self.broken.items()]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({**self.about, "failures": failures, "samples": self.results.all}, indent=1) + "\n")
        new.replace(self.file)

    def tell(self, text):
        seconds = time.monotonic() - self.began
        say(f"[{seconds // 60:3.0f}:{seconds % 60:02.0f}] {text}")

    def fail(self, key, message):
        self.broken[key] = message
        self.tell(f"FAILED: ({key[0]}) {key[1]}, {VARIANTS[key[2]].title}: {message}")

    def measure(self, part, servers):
        only = [name for name in self.bench.variants.split(",") if name]
        rounds = self.bench.rounds or (1 if self.bench.quick else part.rounds)
        done, missing, began, taken = self.results.keys(), set(), time.monotonic(), 0
        for round_ in range(rounds):
            measured = False
            for server in servers if round_ % 2 == 0 else servers[::-1]:
                variants = [VARIANTS[name] for name in part.variants if (not only or name in only)
                            and VARIANTS[name].make == server.make and (round_ % SELDOM == 0 or name not in part.seldom)]
                for variant in in_turns(variants, round_) if variants else ():
                    key = (part.letter, server.label, variant.name)
                    if key in self.broken or key in missing or (*key, round_) in done:
                        continue
                    measured = True
                    try:
                        # all or nothing: what fails at its end may have been wrong from the start
                        for sample in list(part.sample(server, variant, round_)):
                            self.results.add(part.letter, server, variant, round_, sample)
                    except Missing as e:
                        missing.add(key)
                        self.tell(f"left out: ({part.letter}) {server.title}: {e}")
                    except Failed as e:
                        self.fail(key, str(e))
            if measured:
                taken, seconds = taken + 1, time.monotonic() - began
                self.about["seconds"][part.letter] = round(seconds, 1)
                self.keep()
                left = seconds / taken * (rounds - round_ - 1)
                self.tell(f"({part.letter}) {part.title}: round {round_ + 1} of {rounds}, {seconds:.0f} s"
                          + (f", about {left:.0f} s to go" if left else ""))

    def section(self, part):
        """A part's tables, and its plots by their names."""
        servers, drawn = self.servers(), {}
        section = [f"## ({part.letter}) {part.title}\n"]
        for server in servers:
            shown = [text for text in part.tables(self.results, server) if text]
            if any(self.results.has(part.letter, server.label, v) for v in part.variants):
                section.append(f"{server.title}:\n\n" + "\n\n".join(shown) + "\n")
        for (letter, label, variant), message in self.broken.items():
            if letter == part.letter:
                section.append(f"Failed: {self.about['servers'][label]}, {VARIANTS[variant].title}: {message.splitlines()[0]}\n")
        for name, svg in part.plots(self.results, servers):
            if svg:
                drawn[name] = svg
                section.append(f"![{part.title}](performance/{name}.svg)\n")
        return "\n".join(section), drawn

    def bars(self):
        bars = [(letter, bar) for letter in PARTS for bar in make(letter, self.bench).bars()]
        shown = []
        for generational, title in ((False, "Lua's collector as Prosody sets it:"), (True, "Generational:")):
            made = table_of_bars(self.results, bars, [s for s in self.servers() if s.make == "prosody" and s.generational == generational])
            if made:
                shown += [title, made]
        if not shown:
            return ""
        shown = "\n\n".join(shown)
        return (f"## What it is held to\n\nRatios of the medians / of the minima of what was measured in the same rounds; in "
                f"parentheses where there are fewer than {PAIRS} pairs.\n\n{shown}\n")


def write_down(bench, head, text, drawn):
    plots = bench.output / "performance"
    plots.mkdir(parents=True, exist_ok=True)
    (bench.output / "tables.md").write_text("\n".join([head, *text.values()]))
    for name, svg in drawn.items():
        (plots / f"{name}.svg").write_text(svg)


def put(page, sections):
    """Puts each between its markers in a page of the repository."""
    content = (REPO / page).read_text()
    for name, section in sections.items():
        begin, end = f"<!-- bench {name} -->", f"<!-- end of {name} -->"
        found = re.search(re.escape(begin) + ".*?" + re.escape(end), content, re.S)
        if found:
            content = content.replace(found.group(0), f"{begin}\n{section}\n{end}")
        else:
            say(f"{page} has no place for ({name}): {begin} ... {end}")
    (REPO / page).write_text(content)


def publish(head, text, drawn, readme):
    """The tables and plots of docs/performance.md, and if everything was measured the README's."""
    # the page has its own titles
    put("docs/performance.md", {name: f"{head}\n{section.split(chr(10), 1)[1].strip()}" for name, section in text.items()})
    if readme:
        put("README.md", {"figures": readme})
    directory = REPO / "docs" / "performance"
    directory.mkdir(exist_ok=True)
    for name, svg in drawn.items():
        (directory / f"{name}.svg").write_text(svg)


def stop(_number, _frame):
    raise KeyboardInterrupt


def main():
    bench = arguments()
    trees = [tree / "share/lua/5.4/mod_smacks/mod_smacks.lua" for tree in (bench.tree, bench.against) if tree]
    for path in (*trees, bench.load):
        if not path.is_file():
            say(f"{path} is missing: `make bench` builds it")
            return 2
    try:
        run = Run(bench)
    except (OSError, Failed) as e:
        say(f"nothing to go on with: {e}")
        return 2
    signal.signal(signal.SIGTERM, stop)
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="enjamb-bench-", delete=not bench.keep) if sys.version_info >= (3, 12) \
            else tempfile.TemporaryDirectory(prefix="enjamb-bench-") as scratch:
        bench.scratch = pathlib.Path(scratch)
        if not bench.tables:
            found = (find_ejabberd() if label == "ejabberd" else find_prosody(label, bench.scratch) for label in bench.servers.split(","))
            servers = [mode for server in found if server for mode in in_modes(server, bench.collectors)]
            run.about["servers"].update({server.label: server.title for server in servers})
            try:
                for letter in bench.parts:
                    part = make(letter, bench)
                    run.measure(part, servers)
                    print(run.section(part)[0], flush=True)
            except KeyboardInterrupt:
                interrupted = True
                run.tell("interrupted; --continue goes on")
            if fingerprint(bench.tree) != run.about["enjamb"]:
                run.broken["all", "both", "enjamb"] = f"{bench.tree} was changed while the benchmark ran"
                say("FAILED: " + run.broken["all", "both", "enjamb"])
            run.keep()
    text, drawn = {"bars": run.bars()}, {}
    measured = {s["part"] for s in run.results.all}
    for letter in PARTS:
        if letter in measured:
            text[letter], plots = run.section(make(letter, bench))
            drawn.update(plots)
    print(text["bars"], flush=True)
    m = run.about["machine"]
    head = (f"{run.about['when'][:10]}; {m['cpu']}, {m['cores']} cores. Medians [quartiles]; ratios of the medians / of the "
            "minima, below 1 the first named takes less.\n")
    write_down(bench, head, text, drawn)
    if bench.publish and (run.broken or interrupted):
        say("not published: not everything was measured")
    elif bench.publish:
        complete = measured == set(PARTS)
        if not complete:
            del text["bars"]  # some of them would be missing
        publish(head, text, drawn, figures(run.results, run.servers(), run.about) if complete else None)
    run.tell(f"{head}Samples and tables are in {bench.output}")
    return 1 if run.broken or interrupted or not run.results.all else 0


if __name__ == "__main__":
    sys.exit(main())
