#!/usr/bin/env python3
"""Enjamb's benchmark: what stream management costs Prosody per stanza.

Starts real Prosody servers one after another, in alternating order: without
mod_smacks, with Prosody's own, and with Enjamb's from build/tree.  What is
measured is in bench/plugins/mod_enjamb_bench.lua.  Writes build/bench.json
(all samples) and build/bench.md (tables), and prints the tables.

    python3 bench/run.py [--rounds N] [--statistics] ...

Environment: ENJAMB_BENCH_ROUNDS (default 10), ENJAMB_BENCH_SECONDS (no new
round that would end later, default 280), ENJAMB_PROSODY12 (default
/usr/bin/prosody), ENJAMB_PROSODY13 (a directory holding usr/bin/prosody,
default build/prosody-13/root), ENJAMB_LUA (default lua5.4).
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parent.parent
PLUGINS = REPO / "bench" / "plugins"
VARIANTS = ("none", "builtin", "enjamb")
TITLES = {"none": "tostring", "builtin": "mod_smacks", "enjamb": "Enjamb"}
KINDS = ("presence", "chat", "groupchat", "iq", "large")
LENGTHS = (10, 100, 500)
SERVER_TIMEOUT = 180


def say(text):
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------- servers


class Prosody:
    """One installed Prosody: the script to run and a name for it."""

    def __init__(self, script, label):
        self.script = str(script)
        self.label = label


def find_prosodies(scratch, wanted):
    found = []
    if "12" in wanted:
        script = pathlib.Path(os.environ.get("ENJAMB_PROSODY12", "/usr/bin/prosody"))
        if script.is_file():
            found.append(Prosody(script, "12"))
        else:
            say(f"skipped: no Prosody 0.12 at {script}")
    if "13" in wanted:
        root = pathlib.Path(
            os.environ.get("ENJAMB_PROSODY13") or REPO / "build" / "prosody-13" / "root"
        ).resolve()
        script = root / "usr" / "bin" / "prosody"
        if script.is_file():
            found.append(Prosody(relocated(root, script, scratch), "13"))
        else:
            say(f"skipped: no Prosody 13 at {root} (spec/setup-prosody-13.sh fetches it)")
    return found


def relocated(root, script, scratch):
    """The script itself if it loads what is beside it, else a copy that does."""
    source = root / "usr" / "lib" / "prosody"
    text = script.read_text()
    named = re.search(r"^CFG_SOURCEDIR\s*=\s*['\"]([^'\"]*)['\"]", text, re.M)
    if named and pathlib.Path(named.group(1)).resolve() == source:
        return script
    for name, value in (
        ("SOURCEDIR", source),
        ("PLUGINDIR", f"{source}/modules/"),
        ("CONFIGDIR", root / "etc" / "prosody"),
        ("DATADIR", scratch),
    ):
        text = re.sub(rf"^CFG_{name}\s*=.*$", lambda _: f"CFG_{name}='{value}';", text, flags=re.M)
    copy = scratch / "prosody-13"
    copy.write_text(text)
    return copy


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def config(options, variant, phase, data, output):
    modules = ["roster", "saslauth", "disco", "ping", "enjamb_bench"]
    if variant != "none":
        modules.append("smacks")
    modules += options.modules
    lines = [
        f'data_path = "{data}"',
        f'pidfile = "{data}/prosody.pid"',
        f'log = {{ info = "{data}/prosody.log" }}',
        f'plugin_paths = {{ "{PLUGINS}" }}',
        'interfaces = { "127.0.0.1" }',
        f"c2s_ports = {{ {free_port()} }}",
        "c2s_direct_tls_ports = { }",
        "legacy_ssl_ports = { }",
        "c2s_require_encryption = false",
        "allow_unencrypted_plain_auth = true",
        'modules_disabled = { "s2s", "s2s_auth_certs", "tls" }',
        "modules_enabled = { %s }" % ", ".join(f'"{m}"' for m in modules),
        'storage = "internal"',
        'authentication = "internal_hashed"',
        f'enjamb_bench_output = "{output}"',
        f'enjamb_bench_variant = "{variant}"',
        f'enjamb_bench_phase = "{phase}"',
        f"enjamb_bench_samples = {options.samples}",
    ]
    if os.geteuid() == 0:
        lines.append("run_as_root = true")
    if variant == "enjamb":
        lines.append(f'installer_plugin_path = "{options.tree}"')
    if options.statistics:
        lines.append('statistics = "internal"')
        lines.append("statistics_interval = 3600")
    lines.append('VirtualHost "b.local"')
    return "\n".join(lines) + "\n"


class Failed(Exception):
    pass


def serve(options, prosody, variant, phase, scratch):
    """Runs one server to its end and returns the records it wrote."""
    data = pathlib.Path(tempfile.mkdtemp(prefix=f"{prosody.label}-{variant}-", dir=scratch))
    output = data / "bench.jsonl"
    cfg = data / "prosody.cfg.lua"
    cfg.write_text(config(options, variant, phase, data, output))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LUA_", "PROSODY_"))}
    with open(data / "console.log", "wb") as console:
        process = subprocess.Popen(
            [options.lua, prosody.script, "-F", "--config", str(cfg)],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd=data, env=environment,
        )
        try:
            process.wait(timeout=SERVER_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed(f"no result after {SERVER_TIMEOUT} s\n{tail(data)}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    records = []
    if output.exists():
        records = [json.loads(line) for line in output.read_text().splitlines()]
    for record in records:
        if record["what"] == "error":
            raise Failed(record["message"])
    if not records or records[-1]["what"] != "done":
        raise Failed(f"the server ended by itself, status {process.returncode}\n{tail(data)}")
    check_module(options, prosody, variant, records[0])
    shutil.rmtree(data, ignore_errors=True)
    return records[:-1]


def tail(data):
    text = ""
    for name in ("console.log", "prosody.log"):
        path = data / name
        if path.exists():
            text += f"--- {name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]) + "\n"
    return text


def check_module(options, prosody, variant, server):
    """Was it the right mod_smacks that ran?"""
    path = server.get("module_path")
    if variant == "none":
        return
    from_tree = path is not None and pathlib.Path(path).resolve().is_relative_to(options.tree)
    if from_tree != (variant == "enjamb"):
        raise Failed(f"{prosody.label}/{variant} ran {path}")


# ---------------------------------------------------------------- statistics


def summary(values):
    values = sorted(values)
    if len(values) > 1:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    else:
        q1 = median = q3 = values[0]
    return {"median": median, "min": values[0], "q1": q1, "q3": q3, "n": len(values)}


def spread(s, scale=1000.0):
    if s is None:
        return "–"
    digits = 2 if s["median"] < 10 * scale else 1 if s["median"] < 100 * scale else 0
    median, q1, q3, least = (f"{s[k] / scale:.{digits}f}" for k in ("median", "q1", "q3", "min"))
    return f"{median} [{q1}–{q3}] min {least}"


def ratio(a, b, which):
    if a is None or b is None:
        return None
    return a[which] / b[which]


def times(a, b):
    if a is None or b is None:
        return "–"
    return f"{ratio(a, b, 'median'):.2f} / {ratio(a, b, 'min'):.2f}"


class Results:
    """All samples, by (prosody label, variant)."""

    def __init__(self):
        self.records = {}
        self.versions = {}

    def add(self, prosody, variant, round_, records):
        for record in records:
            if record["what"] == "server":
                self.versions[prosody.label] = record["prosody"]
            self.records.setdefault((prosody.label, variant), []).append(dict(record, round=round_))

    def samples(self, label, variant, field="ns", **match):
        return [
            r[field] for r in self.records.get((label, variant), [])
            if field in r and all(r.get(k) == v for k, v in match.items())
        ]

    def summary(self, label, variant, field="ns", **match):
        values = self.samples(label, variant, field, **match)
        return summary(values) if values else None


def table(header, rows):
    widths = [max(len(str(r[i])) for r in [header] + rows) for i in range(len(header))]
    def line(cells):
        return "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths)) + " |"
    return "\n".join([line(header), "|" + "|".join("-" * (w + 2) for w in widths) + "|"] + [line(r) for r in rows])


def tables(results, label, about):
    """The tables for one Prosody, and the same as data."""
    out, data = [], {}
    name = "Prosody " + results.versions.get(label, label)
    head = ["tostring", "mod_smacks", "Enjamb", "mod_smacks/Enjamb", "tostring/Enjamb", "mod_smacks/tostring"]

    def row(first, key, **match):
        s = {v: results.summary(label, v, **match) for v in VARIANTS}
        data[key] = {
            **{v: s[v] for v in VARIANTS},
            "builtin/enjamb": {w: ratio(s["builtin"], s["enjamb"], w) for w in ("median", "min")},
            "tostring/enjamb": {w: ratio(s["none"], s["enjamb"], w) for w in ("median", "min")},
            "builtin/tostring": {w: ratio(s["builtin"], s["none"], w) for w in ("median", "min")},
        }
        return first + [spread(s[v]) for v in VARIANTS] + [
            times(s["builtin"], s["enjamb"]), times(s["none"], s["enjamb"]), times(s["builtin"], s["none"])]

    sizes = {r["kind"]: r["bytes"] for v in VARIANTS for r in results.records.get((label, v), [])
             if r["what"] == "output"}
    out.append(f"## {name}\n")
    for gc, title in (("on", "collector as Prosody sets it"), ("off", "collector stopped")):
        rows = [
            row([kind, sizes.get(kind, "")], f"send/{kind}/gc-{gc}", what="send", kind=kind, gc=gc)
            for kind in KINDS
        ]
        out.append(f"### Queueing and serialising one stanza, {title} (µs)\n")
        out.append(table(["stanza", "bytes"] + head, rows) + "\n")

    out.append("### The same with acks in what is timed, and all of session.send (409-byte chat message, µs)\n")
    rows = []
    for gc in ("on", "off"):
        for every in (1, 100):
            rows.append(row(
                [f"an <a/> every {every}" if every > 1 else "an <a/> after each", gc],
                f"send+ack/{every}/gc-{gc}", what="send+ack", every=every, gc=gc))
    # without stream management there is no ack; what the tostring column shows is the sending alone
    for gc in ("on", "off"):
        rows.append(row(["session.send()", gc], f"session.send/gc-{gc}", what="session.send", gc=gc))
    out.append(table(["", "collector"] + head, rows) + "\n")

    rows = []
    for gc in ("on", "off"):
        s = {v: results.summary(label, v, "ack_ns", what="send", kind="chat", gc=gc) for v in VARIANTS}
        data[f"ack-of-50/gc-{gc}"] = {v: s[v] for v in VARIANTS[1:]}
        rows.append(["an <a/> for 50 messages", gc, spread(s["builtin"]), spread(s["enjamb"]), times(s["builtin"], s["enjamb"])])
    for length in LENGTHS:
        for gc in ("on", "off"):
            match = {"what": "hibernating", "length": length, "gc": gc}
            s = {v: results.summary(label, v, **match) for v in VARIANTS}
            data[f"hibernating/{length}/gc-{gc}"] = {v: s[v] for v in VARIANTS[1:]}
            rows.append([f"message into a hibernating session, queue of {length}", gc,
                         spread(s["builtin"]), spread(s["enjamb"]), times(s["builtin"], s["enjamb"])])
    out.append("### Acks, and queueing for a hibernating session (µs)\n")
    out.append(table(["", "collector", "mod_smacks", "Enjamb", "mod_smacks/Enjamb"], rows) + "\n")

    memory = {v: [r for r in results.records.get((label, v), []) if r["what"] == "memory"] for v in VARIANTS[1:]}
    some = memory["builtin"] or memory["enjamb"]
    if some:
        total = some[0]["sessions"] * some[0]["messages"]
        rows = []
        for title, field, scale, digits in (
            ("RSS per message, bytes", "rss", total, 0),
            ("of it in Lua's heap, bytes", "lua", total, 0),
            ("RSS growth in all, MiB", "rss", 1 << 20, 1),
            ("one full collection then, ms", "full_collection_ms", 1, 1),
        ):
            s = {v: summary([r[field] for r in memory[v]]) if memory[v] else None for v in VARIANTS[1:]}
            data[f"memory/{title}"] = {
                v: {k: (x if k == "n" else x / scale) for k, x in s[v].items()} if s[v] else None for v in VARIANTS[1:]}
            cells = [f"{s[v]['median'] / scale:.{digits}f}" if s[v] else "–" for v in VARIANTS[1:]]
            both = s["builtin"] and s["enjamb"] and s["enjamb"]["median"] > 0
            rows.append([title] + cells + [f"{s['builtin']['median'] / s['enjamb']['median']:.2f}" if both else "–"])
        out.append(f"### Memory: {some[0]['sessions']} hibernating sessions with {some[0]['messages']} messages"
                   f" of {some[0]['bytes']} bytes each (medians)\n")
        out.append(table(["", "mod_smacks", "Enjamb", "mod_smacks/Enjamb"], rows) + "\n")
    about.setdefault("tables", {})[name] = data
    return "\n".join(out)


# ---------------------------------------------------------------------- main


def machine():
    model = ""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M).group(1)
    except (OSError, AttributeError):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "load_before": os.getloadavg()}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=int(os.environ.get("ENJAMB_BENCH_ROUNDS") or 10))
    p.add_argument("--seconds", type=float, default=float(os.environ.get("ENJAMB_BENCH_SECONDS") or 280),
                   help="start no further round that would end after this time (default 280)")
    p.add_argument("--memory-rounds", type=int, help="rounds of the memory measurement (default 1)")
    p.add_argument("--samples", type=int, default=1, help="samples of everything in one server (default 1)")
    p.add_argument("--variants", default=",".join(VARIANTS), help="some of none,builtin,enjamb")
    p.add_argument("--prosody", default="12,13", help="12, 13 or both")
    p.add_argument("--tree", default=str(REPO / "build" / "tree"), help="where `make install` put Enjamb")
    p.add_argument("--statistics", action="store_true", help="with Prosody's statistics on")
    p.add_argument("--modules", default="", help="more modules to load on the host, separated by commas")
    p.add_argument("--output", default=str(REPO / "build" / "bench"), help="results go to this + .json and .md")
    p.add_argument("--lua", default=os.environ.get("ENJAMB_LUA", "lua5.4"))
    o = p.parse_args()
    o.tree = pathlib.Path(o.tree).resolve()
    o.variants = [v for v in VARIANTS if v in o.variants.split(",")]
    o.modules = [m for m in o.modules.split(",") if m]
    if o.memory_rounds is None:
        o.memory_rounds = min(1, o.rounds)
    return o


def fingerprint(tree):
    """Of what is installed, so that results say what they are of."""
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and p.suffix in (".lua", ".so")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def have_enjamb(tree):
    share = tree / "share" / "lua" / "5.4"
    if not ((share / "mod_smacks" / "mod_smacks.lua").is_file() or (share / "mod_smacks.lua").is_file()):
        say(f"skipped: Enjamb is not in {tree} (make install TREE=build/tree)")
        return False
    return True


def main():
    options = arguments()
    began = time.time()
    about = {"machine": machine(), "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
             "rounds": options.rounds, "statistics": options.statistics, "modules": options.modules}
    if "enjamb" in options.variants and not have_enjamb(options.tree):
        options.variants.remove("enjamb")
    about["enjamb"] = fingerprint(options.tree) if "enjamb" in options.variants else None
    results, broken = Results(), {}
    with tempfile.TemporaryDirectory(prefix="enjamb-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        prosodies = find_prosodies(scratch, options.prosody.split(","))
        for round_ in range(options.rounds):
            order = options.variants[:]
            order = order[round_ // 2 % len(order):] + order[:round_ // 2 % len(order)]
            if round_ % 2:
                order.reverse()
            phases = ["speed"] + (["memory"] if round_ < options.memory_rounds else [])
            if round_ > options.memory_rounds and (time.time() - began) + (time.time() - turn) > options.seconds:
                say(f"stopped after {round_} rounds for lack of time (--seconds)")
                about["rounds"] = round_
                break
            turn = time.time()
            say(f"round {round_ + 1}/{options.rounds}: " + " ".join(TITLES[v] for v in order))
            for prosody in prosodies if round_ % 2 == 0 else prosodies[::-1]:
                for phase in phases:
                    for variant in order:
                        if (prosody.label, variant, phase) in broken or (phase == "memory" and variant == "none"):
                            continue
                        try:
                            results.add(prosody, variant, round_, serve(options, prosody, variant, phase, scratch))
                        except Failed as e:
                            broken[prosody.label, variant, phase] = str(e)
                            say(f"FAILED: Prosody {prosody.label}, {TITLES[variant]}, {phase}: {e}")
    about["seconds"] = round(time.time() - began, 1)
    if about["enjamb"] and fingerprint(options.tree) != about["enjamb"]:
        broken["both", "enjamb", "all"] = f"{options.tree} was changed while the benchmark ran"
    about["machine"]["load_after"] = os.getloadavg()
    about["failures"] = [{"prosody": k[0], "variant": k[1], "phase": k[2], "message": m} for k, m in broken.items()]

    m = about["machine"]
    text = [
        "# Benchmark\n",
        f"{about['when']}; {m['cpu']}, {m['cores']} cores, {m['system']}; {about['rounds']} rounds of "
        f"{options.samples} sample{'s' if options.samples > 1 else ''}; statistics {'on' if options.statistics else 'off'}"
        + (f"; also loaded: {', '.join(options.modules)}" if options.modules else "") + ".",
        "CPU time per stanza: median [quartiles] and minimum over all samples, a sample being the mean over some hundred "
        "to thousand stanzas. Ratios are of the medians / of the minima; above 1, Enjamb (or the right-hand one) takes less.",
        "“tostring” is a session without stream management; in the rows with acks it is the sending alone.\n",
    ]
    for label in dict.fromkeys(label for label, _ in results.records):
        text.append(tables(results, label, about))
    for failure in about["failures"]:
        first = failure["message"].splitlines()[0]
        text.append(f"Failed: Prosody {failure['prosody']}, {TITLES[failure['variant']]}, {failure['phase']}: {first}\n")
    text.append(f"Took {about['seconds']:.0f} s.")
    text = "\n".join(text) + "\n"

    about["samples"] = [
        dict(record, prosody_series=label, variant=variant)
        for (label, variant), records in results.records.items() for record in records
    ]
    output = pathlib.Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_name(output.name + ".json").write_text(json.dumps(about, indent=1) + "\n")
    output.with_name(output.name + ".md").write_text(text)
    print(text)
    return 1 if broken or not results.records else 0


if __name__ == "__main__":
    sys.exit(main())
