"""What is measured: the parts of the benchmark, one class each.

A part knows which variants it compares, how to take one sample of one of them, and how to show the samples.  Samples
are dicts of numbers; those with the same `what` are compared.  Knows nothing of rounds or files.
"""
import random
import re
import shutil
import signal
import time

import inprocess
import plots
from load import Load, run
from report import Row, number, spread, table, table_of
from servers import HOST, VARIANTS, Failed, Server, cpu_seconds, memory

PARTS = {}


def part(cls):
    PARTS[cls.letter] = cls
    return cls


class Part:
    """`rounds` is of a full run; a quick one takes one."""

    letter = title = ""
    variants = ("none", "builtin", "enjamb")
    rounds = 10
    unit = "µs"

    def __init__(self, bench):
        self.bench = bench

    def scale(self, full, quick):
        return quick if self.bench.quick else full

    def sample(self, prosody, variant, round_):
        """Yields samples of one server."""
        raise NotImplementedError

    def tables(self, results, prosody):
        """Yields Markdown."""
        raise NotImplementedError

    def bars(self):
        """What is drawn as bars: (title, what, field, scale, unit)."""
        return ()

    def plots(self, results, prosodies):
        """Yields (name, SVG)."""
        groups = []
        for title, match, field, scale, unit in self.bars():
            for prosody in prosodies:
                found = [(VARIANTS[v].title, results.summary(self.letter, prosody.label, v, field, scale, **match))
                         for v in self.variants]
                found = [(name, s) for name, s in found if s]
                if found:
                    groups.append((f"Prosody {prosody.version}: {title}", unit, found))
        if groups:
            yield self.letter, plots.bars(groups)


def managed(variant):
    return "none" if variant.smacks == "none" else "resume"


@part
class Sending(Part):
    letter = "a"
    title = "Cost of one stanza in the sending path, in the process"
    kinds = (("presence", "presence, 90 B"), ("chat", "chat, 409 B"), ("groupchat", "groupchat, 450 B"),
             ("iq", "iq, 2 KB"), ("large", "message, 30 KB"))

    def sample(self, prosody, variant, round_):
        for record in inprocess.serve(self.bench, prosody, variant, "speed"):
            if "ns" in record and record["what"] != "clock":
                yield {**record, "us": record["ns"] / 1000}

    def tables(self, results, prosody):
        ratios = [("builtin", "enjamb"), ("none", "enjamb")]
        for gc, title in (("on", "With Lua's collector as Prosody sets it"), ("off", "With the collector stopped")):
            rows = [Row(name, dict(what="send", kind=kind, gc=gc)) for kind, name in self.kinds]
            rows.append(Row("all of session.send(), chat", dict(what="session.send", gc=gc)))
            yield f"{title}, {self.unit}:"
            yield table_of(results, self.letter, prosody, self.variants, rows, "us", "stanza", ratios)

    def bars(self):
        return [("chat, 409 B, collector as Prosody sets it", dict(what="send", kind="chat", gc="on"), "us", 1, "µs per stanza"),
                ("presence, 90 B, collector as Prosody sets it", dict(what="send", kind="presence", gc="on"), "us", 1, "µs per stanza")]


@part
class Chat(Part):
    letter = "b"
    title = "Server CPU per delivered chat message"
    kinds = (("burst", "as fast as the server goes"), ("paced", "1,000 messages a second, each sent alone"))
    pairs = 50

    def sample(self, prosody, variant, round_):
        with Server(self.bench, prosody, variant) as server:
            for kind, _ in self.kinds:
                paced = kind == "paced"
                told = run(server, "chat", sm=managed(variant), pairs=self.pairs, rate=1000 if paced else None,
                           messages=self.scale(3000, 1500) if paced else self.scale(10000, 5000),
                           warm_up=500 if paced else 1000)
                yield {"what": kind, "us": told["measured"]["us_each"], **told["measured"]}
            server.check()

    def tables(self, results, prosody):
        rows = [Row(f"{kind}: {how}", dict(what=kind)) for kind, how in self.kinds]
        yield table_of(results, self.letter, prosody, self.variants, rows, "us", "message",
                       [("enjamb", "none"), ("builtin", "none"), ("enjamb", "builtin")])

    def bars(self):
        return [(f"{kind}: {how}", dict(what=kind), "us", 1, "µs per message") for kind, how in self.kinds]


@part
class Groupchat(Part):
    letter = "c"
    title = "Server CPU per delivered copy in a room of 100 accounts x 3 sessions"
    variants = ("none", "builtin", "enjamb", "minimix")
    accounts, sessions = 100, 3

    def sample(self, prosody, variant, round_):
        with Server(self.bench, prosody, variant, muc="silent") as server:
            told = run(server, "groupchat", sm=managed(variant), muc=server.muc, accounts=self.accounts,
                       sessions=self.sessions, messages=self.scale(50, 20), warm_up=5)
            server.check()
            yield {"what": "copy", "us": told["measured"]["us_each"], **told["measured"]}

    def tables(self, results, prosody):
        yield table_of(results, self.letter, prosody, self.variants, [
            Row("a message to 300 sessions", dict(what="copy"), "us"),
        ], None, "copy", [("enjamb", "none"), ("minimix", "none"), ("builtin", "none"), ("enjamb", "builtin")])

    def bars(self):
        return [("a message to 300 sessions", dict(what="copy"), "us", 1, "µs per copy")]


@part
class Hibernating(Part):
    letter = "d"
    title = "Messages into hibernating queues, and resuming them"
    rounds = 4
    variants = ("builtin", "enjamb")
    lengths = (50, 400)

    def sample(self, prosody, variant, round_):
        for length in self.lengths + ((4000,) if variant.smacks == "enjamb" else ()):
            clients = 20 if length < 1000 else 4
            # what is measured is not where the queue is full
            options = ["smacks_max_queue_size = 5000"] if length > 400 else []
            with Server(self.bench, prosody, variant, options=options) as server:
                told = run(server, "hibernate", sm="resume", clients=clients, messages=length)
                server.check()
            empty = told["resuming_empty"]["us_each"] * clients
            yield {"what": "queue", "length": length, "us": told["queueing"]["us_each"]}
            yield {"what": "resume", "length": length, "with_login_us": told["resuming"]["us_each"],
                   "us": max(0.0, told["resuming"]["server_cpu"] * 1e6 - empty) / (length * clients)}
            yield {"what": "resume-empty", "length": length, "us": told["resuming_empty"]["us_each"]}
        for record in inprocess.serve(self.bench, prosody, variant, "hibernation"):
            yield {**record, "us": record["ns"] / 1000}

    def tables(self, results, prosody):
        rows = [Row(f"message queued, queue of {length}, in the process, collector {gc}", dict(what="hibernating", length=length, gc=gc))
                for gc in ("on", "off") for length in (10, 100, 500)]
        for length in (*self.lengths, 4000):
            rows += [Row(f"whole server: message queued, queue growing to {length:,}", dict(what="queue", length=length)),
                     Row(f"whole server: message resumed, of {length:,}", dict(what="resume", length=length))]
        rows.append(Row("whole server: log-in and resumption of an empty queue", dict(what="resume-empty", length=self.lengths[0])))
        yield table_of(results, self.letter, prosody, self.variants, rows, "us", "", [("enjamb", "builtin")])

    def bars(self):
        return [(title, dict(what=what, length=400), "us", 1, "µs per message") for what, title in (
            ("queue", "queued for a session that hibernates, 400 messages"), ("resume", "resumed, of 400"))]


@part
class Memory(Part):
    letter = "e"
    title = "Memory"
    rounds = 2

    def sample(self, prosody, variant, round_):
        yield from inprocess.serve(self.bench, prosody, variant, "memory", sessions=200,
                                   messages=self.scale(400, 100))

    def tables(self, results, prosody):
        some = [s for v in self.variants for s in results.samples(self.letter, prosody.label, v, what="live")]
        size = some[0]["bytes"] if some else 0
        rows = [
            Row("a session, nothing queued", dict(what="empty"), "rss"),
            Row(f"a message of {size} B queued for a connected session", dict(what="live"), "rss"),
            Row("the same in Lua's heap", dict(what="live"), "lua"),
            Row(f"a message of {size} B queued for a hibernating session", dict(what="hibernating"), "rss"),
            Row("the same in Lua's heap", dict(what="hibernating"), "lua"),
        ]
        yield "Growth of the process, in bytes; 200 sessions."
        yield table_of(results, self.letter, prosody, self.variants, rows, None, "", [("enjamb", "builtin")])

    def bars(self):
        return [("a 478-byte message queued for a hibernating session", dict(what="hibernating"), "rss", 1, "bytes")]


@part
class Acks(Part):
    letter = "f"
    title = "Acks"
    variants = ("builtin", "enjamb")
    rounds = 3

    def sample(self, prosody, variant, round_):
        for record in inprocess.serve(self.bench, prosody, variant, "acks"):
            yield {**record, "us": record["ns"] / 1000}
        for step in (1, 100):
            with Server(self.bench, prosody, variant) as server:
                told = run(server, "acks", sm="resume", clients=20, messages=400, step=step)
                yield {"what": "server", "step": step, "us": told["measured"]["us_each"]}

    def tables(self, results, prosody):
        rows = [Row(f"an ack of {step}, in the process, collector {gc}", dict(what="ack", step=step, gc=gc))
                for gc in ("on", "off") for step in (1, 10, 100)]
        rows += [Row(f"an ack of {step}, whole server", dict(what="server", step=step)) for step in (1, 100)]
        yield table_of(results, self.letter, prosody, self.variants, rows, "us", "ack", [("builtin", "enjamb")])


@part
class Recovery(Part):
    letter = "g"
    title = "Start, and recovery of 10,000 sessions with 100 queued messages each"
    rounds = 2

    def sample(self, prosody, variant, round_):
        with Server(self.bench, prosody, variant) as server:
            rss, peak = memory(server.pid)
            yield {"what": "start", "cpu": cpu_seconds(server.pid), "rss": rss}
        if variant.smacks != "enjamb":
            return
        sessions, messages = self.scale(10000, 1000), 100
        with inprocess.filled(self.bench, prosody, variant, sessions=sessions, messages=messages) as server:
            inprocess.wait_until_filled(server)
            made, _ = memory(server.pid)
            server.end(signal.SIGKILL)
            disk = sum(f.stat().st_size for f in server.data.rglob("enjamb-journal/*"))
            server.config.write_text(server.config.read_text().replace('"enjamb_bench", ', "").replace(', "enjamb_bench"', ""))
            server.wait = True
            seconds = server.start()
            rss, peak = memory(server.pid)
            back = re.search(r"(\d+) sessions are back", server.log())
            if not back or int(back.group(1)) != sessions:
                raise Failed(f"of {sessions} sessions came back: {back and back.group(0)}\n{server.tail()}")
            yield {"what": "recovery", "sessions": sessions, "messages": messages, "seconds": seconds,
                   "cpu": cpu_seconds(server.pid), "rss": rss, "peak": peak, "before": made, "disk": disk}

    def tables(self, results, prosody):
        yield table_of(results, self.letter, prosody, self.variants, [
            Row("start with nothing to bring back, CPU s", dict(what="start"), "cpu")], None, "", [("enjamb", "none")])
        for s in results.samples(self.letter, prosody.label, "enjamb", what="recovery")[:1]:
            rows = []
            for title, field, scale in (("seconds until it answers", "seconds", 1), ("CPU, s", "cpu", 1),
                                        ("memory then, MiB", "rss", 2**20), ("its peak, MiB", "peak", 2**20),
                                        ("memory before the kill, MiB", "before", 2**20), ("journal, MiB", "disk", 2**20)):
                rows.append([title, spread(results.summary(self.letter, prosody.label, "enjamb", field, scale, what="recovery"))])
            yield table([f"{s['sessions']:,} sessions x {s['messages']} messages", "Enjamb"], rows)


@part
class Restart(Part):
    """Contacts on a circle, rooms of 30, and a restart by SIGTERM."""

    letter = "h"
    title = "300 clients come back after a restart: resuming, against logging in fully"
    variants = ("none", "builtin", "enjamb")
    rounds = 2
    contacts, rooms = 20, 5

    @property
    def clients(self):
        return self.scale(300, 60)

    def rosters(self, server):
        directory = server.data / HOST.replace(".", "%2e") / "roster"
        directory.mkdir(parents=True)
        n, half = self.clients, self.contacts // 2
        for i in range(n):
            items = "".join(
                f'\t["c{j}@{HOST}"] = {{ ["subscription"] = "both"; ["groups"] = {{ ["Friends"] = true; }};'
                f' ["name"] = "Friend {j}"; }};\n'
                for j in ((i + d) % n for d in range(-half, half + 1) if d != 0))
            (directory / f"c{i}.dat").write_text(
                f'return {{\n\t[false] = {{ ["version"] = 1; }};\n{items}}};\n')

    def sample(self, prosody, variant, round_):
        back = "resume" if variant.smacks == "enjamb" else "login"
        with Server(self.bench, prosody, variant, muc=True) as server:
            bare = cpu_seconds(server.pid)
            server.end()
            self.rosters(server)
            server.start()
            with Load(server, "restart", sm=managed(variant), back=back, clients=self.clients, rooms=self.rooms,
                      muc=server.muc) as load:
                load.wait_for("online")
                server.end(signal.SIGTERM)
                seconds = server.start()
                started = cpu_seconds(server.pid)
                load.say("back", server.pid)
                told = load.result()
            if told["errors"] or back == "resume" and told["resumed"] != self.clients:
                raise Failed(f"{told['resumed']} of {self.clients} resumed; {told['errors'][:3]}")
            server.check()
            measured = told["back"]
            yield {
                "what": "back", "way": back, "start_seconds": seconds, "ms": measured["server_cpu"] / self.clients * 1e3,
                # with what bringing the sessions back cost while the server started
                "ms_with_start": (measured["server_cpu"] + max(0, started - bare)) / self.clients * 1e3,
                "kib": (measured["bytes_in"] + measured["bytes_out"]) / self.clients / 1024,
                "evicted": told["evicted"], "first_ms": told["first"]["server_cpu"] / self.clients * 1e3,
            }

    def tables(self, results, prosody):
        ratios = [("enjamb", "none"), ("enjamb", "builtin")]
        rows = [Row("CPU per client, ms", dict(what="back"), field="ms"),
                Row("the same, with the server's start", dict(what="back"), field="ms_with_start"),
                Row("bytes per client, KiB", dict(what="back"), field="kib")]
        titles = {"none": "full log-in", "builtin": "full log-in, Prosody's mod_smacks", "enjamb": "resuming with Enjamb"}
        yield table_of(results, self.letter, prosody, self.variants, rows, None, "", ratios, titles)

    def bars(self):
        return [("CPU per client", dict(what="back"), "ms_with_start", 1, "ms")]


@part
class Durability(Part):
    letter = "i"
    title = "What durability costs: server CPU per delivered message"
    rounds = 3
    variants = ("enjamb-none", "enjamb-process", "enjamb-power")

    def sample(self, prosody, variant, round_):
        yield from Chat(self.bench).sample(prosody, variant, round_)
        yield from Groupchat(self.bench).sample(prosody, variant, round_)

    def tables(self, results, prosody):
        rows = [Row("chat, burst", dict(what="burst")), Row("chat, paced", dict(what="paced")),
                Row("groupchat, per copy", dict(what="copy"))]
        yield table_of(results, self.letter, prosody, self.variants, rows, "us", "message", [
            ("enjamb-process", "enjamb-none"), ("enjamb-power", "enjamb-none")])

    def bars(self):
        return [("chat, burst", dict(what="burst"), "us", 1, "µs per message"),
                ("a message to 300 sessions", dict(what="copy"), "us", 1, "µs per copy")]


@part
class Growth(Part):
    letter = "j"
    title = "How it grows"
    variants = ("builtin", "enjamb")
    rounds = 2
    steps = (("grow/push", "message queued"), ("grow/ack", "ack"), ("grow/resume", "resumption, a few messages"),
             ("grow/enable", "<enable/>"))
    fields = (("push_ns", "message queued"), ("ack_ns", "ack of one"), ("resume_ns", "resumed, each"), ("ack_rest_ns", "acked all at once, each"))

    def sizes(self):
        return (10, 1000, self.scale(100000, 5000))

    def sample(self, prosody, variant, round_):
        for sessions in self.sizes():
            if variant.smacks == "builtin" and sessions > 10000:
                continue  # which takes 16 KB for each, and minutes
            ours = variant.smacks == "enjamb"
            longest = (100000 if ours else 100) if sessions == 10 else 0
            options = ["smacks_max_queue_size = 1000000"] if ours and longest else []
            for record in inprocess.serve(self.bench, prosody, variant, "growth", options, sessions=sessions, longest=longest):
                yield record

    def tables(self, results, prosody):
        def cells(variant, pairs):
            return [number(v / 1000) if v is not None else "–" for v in pairs]
        rows = []
        for what, title in self.steps:
            for name in self.variants:
                found = [results.summary(self.letter, prosody.label, name, "ns", what=what, sessions=n) for n in self.sizes()]
                rows.append([title, VARIANTS[name].title] + cells(name, [s and s["median"] for s in found]))
        yield "By the number of hibernating sessions, µs (collector stopped):"
        yield table(["", ""] + [f"{n:,}" for n in self.sizes()], rows)
        rows, lengths = [], (1, 10, 100, 1000, 10000, 100000)
        for field, title in self.fields:
            for name in self.variants:
                found = [results.summary(self.letter, prosody.label, name, field, what="length", length=n) for n in lengths]
                rows.append([title, VARIANTS[name].title] + cells(name, [s and s["median"] for s in found]))
        yield "By the length of the queue, µs (collector stopped):"
        yield table(["", ""] + [f"{n:,}" for n in lengths], rows)

    def plots(self, results, prosodies):
        for prosody in prosodies[:1]:
            def line(field, key, values, **match):
                found = ((n, results.summary(self.letter, prosody.label, "enjamb", field, 1000, **match, **{key: n})) for n in values)
                return [(n, s["median"]) for n, s in found if s]
            yield "j-sessions", plots.lines(
                f"Enjamb on Prosody {prosody.version}, by the number of sessions", "hibernating sessions", "µs",
                [(title, line("ns", "sessions", self.sizes(), what=what)) for what, title in self.steps])
            yield "j-length", plots.lines(
                f"Enjamb on Prosody {prosody.version}, by the length of the queue", "messages in the queue", "µs",
                [(title, line(field, "length", [10 ** e for e in range(6)], what="length")) for field, title in self.fields])


@part
class Crash(Part):
    """Not a measurement but an account: nothing that was told to be handled may be missing."""

    letter = "crash"
    title = "Killed under load: every message accounted for"
    variants = ("builtin", "enjamb")
    rounds = 1
    fields = ("messages", "handled_and_lost", "handled_and_returned", "duplicated", "reordered", "resumed", "lost_sessions")

    def sample(self, prosody, variant, round_):
        for what, number in (("kill -9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
            yield {"what": what, **self.ordeal(prosody, variant, round_, number)}

    def ordeal(self, prosody, variant, round_, number):
        draw = random.Random(f"{self.bench.seed} {round_} {number}")
        kills = self.scale(10, 2)
        with Server(self.bench, prosody, variant, modules=["offline"]) as server:
            with Load(server, "crash", sm="resume", ask=3, clients=100, rate=500) as load:
                load.wait_for("online")
                for n in range(kills):
                    time.sleep(draw.uniform(0.5, 2.5))
                    server.end(number)
                    if number == signal.SIGKILL and n % 3 == 2:
                        # once more, while it starts or brings the sessions back
                        server.wait = False
                        server.start()
                        server.wait = True
                        time.sleep(draw.uniform(0.05, 0.8))
                        server.end(number)
                    server.start()
                time.sleep(1)
                load.say("stop")
                told = load.wait_for("result")
            if self.bench.keep:
                shutil.copy(server.data / "prosody.log", self.bench.scratch)
        if variant.smacks == "enjamb":
            wrong = {f: told[f] for f in ("handled_and_lost", "reordered", "lost_sessions", "not_handled") if told[f]}
            if wrong or told["errors"] or not told["complete"]:
                raise Failed(f"complete: {told['complete']}, {wrong}, {told['errors'][:3]}")
        return {"kills": kills, **{f: told[f] for f in self.fields}}

    def tables(self, results, prosody):
        rows = []
        for what in ("kill -9", "SIGTERM"):
            for name in self.variants:
                for s in results.samples(self.letter, prosody.label, name, what=what):
                    rows.append([f"{what}, {s['kills']} times", VARIANTS[name].title] + [f"{s[f]:,}" for f in self.fields])
        yield table(["", ""] + [f.replace("_", " ") for f in self.fields], rows)
