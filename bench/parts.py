"""What is measured: the parts of the benchmark, one class each.

A part knows which variants it compares, how to take one sample of one of them, how to show the samples, and what Enjamb
is held to.  Samples are dicts of numbers; those with the same `what` are compared.  Knows nothing of rounds or files.
"""
import random
import re
import shutil
import signal
import time

import inprocess
import plots
from load import Load, run
from report import Bar, Row, Side, number, spread, table, table_of
from servers import HOST, VARIANTS, Failed, cpu_seconds, memory

COLOURS = {"none": "#8c8c8c", "builtin": "#d08770", "enjamb": "#3b7dd8", "minimix": "#2a9d6f", "ejabberd-none": "#b5b5b5", "ejabberd": "#8a5cc2"}
PARTS = {}


def part(cls):
    PARTS[cls.letter] = cls
    return cls


def make(letter, bench):
    """A part; if two Enjambs are compared, of those only."""
    made = PARTS[letter](bench)
    if bench.against:
        pairs = [("enjamb", "before"), ("minimix", "minimix-before")]
        made.pairs = [pair for pair in pairs if pair[0] in made.variants]
        made.variants = made.columns = tuple(variant for pair in made.pairs for variant in pair)
        made.seldom, made.charts = (), ()
        made.bars = made.bars_against
    return made


def ratio(title, a, b, limit, field="us", at_least=False, **match):
    """A bar: what `a` takes against what `b` takes."""
    return Bar(title, Side(a, field, match), Side(b, field, match), limit, at_least)


def value(title, field, limit, unit, **match):
    """A bar: what Enjamb takes."""
    return Bar(title, Side("enjamb", field, match), None, limit, unit=unit)


def growth(title, field, limit, small, large, **match):
    """A bar: what Enjamb takes of the larger one against what it takes of the smaller one."""
    return Bar(title, Side("enjamb", field, {**match, **large}), Side("enjamb", field, {**match, **small}), limit)


class Part:
    """`rounds` is of a full run; a quick one takes one.  What is `seldom` is measured in every third."""

    letter = title = ""
    variants = columns = ("none", "builtin", "enjamb")
    seldom = ()
    rounds = 10
    # Of the table: what is shown of a sample, of how much it is, and which variants' ratios.
    field, per, pairs, titles = "us", "", (), None
    # What is drawn as bars: (title, match, field, unit)
    charts = ()

    def __init__(self, bench):
        self.bench = bench

    def scale(self, full, quick):
        return quick if self.bench.quick else full

    def sample(self, server, variant, round_):
        """Yields samples of one server that is installed."""
        raise NotImplementedError

    def rows(self, results, server):
        """Of the table."""
        return ()

    def tables(self, results, server):
        """Yields Markdown."""
        yield table_of(results, self.letter, server, self.columns, self.rows(results, server), self.field, self.per,
                       self.pairs, self.titles)

    def bars(self):
        """What Enjamb is held to."""
        return ()

    def bars_against(self):
        """What it is held to if two Enjambs are compared: nothing is worse by more than three hundredths."""
        for a, b in self.pairs:
            for row in self.rows(None, None):
                yield ratio(f"{row.title}: {VARIANTS[a].title} / {VARIANTS[b].title}", a, b, 1.03, row.field or self.field, **row.match)

    def plots(self, results, servers):
        """Yields (name, SVG)."""
        charts = []
        for title, match, field, unit in self.charts:
            groups = []
            for server in servers:
                found = [((self.titles or {}).get(v) or VARIANTS[v].title, COLOURS[v],
                          results.summary(self.letter, server.label, v, field, **match)) for v in self.columns]
                found = [bar for bar in found if bar[2]]
                if found:
                    groups.append((server.title, found))
            if groups:
                charts.append((title, unit, groups))
        if charts:
            yield self.letter, plots.bars(charts)


class WholeServer(Part):
    """Messages to sessions that are connected; with ejabberd, and at each level of durability."""

    columns = ("none", "builtin", "enjamb", "minimix", "ejabberd-none", "ejabberd")
    levels = ("enjamb-none", "enjamb", "enjamb-power")
    seldom = ("enjamb-power",)
    variants = ("none", "builtin", "enjamb", "enjamb-none", *seldom, "ejabberd-none", "ejabberd")
    pairs = (("enjamb", "none"), ("minimix", "none"), ("builtin", "none"), ("enjamb", "builtin"), ("ejabberd", "ejabberd-none"))

    def tables(self, results, server):
        yield from super().tables(results, server)
        if results.has(self.letter, server.label, "enjamb-none"):
            yield "What durability costs:"
            yield table_of(results, self.letter, server, self.levels, self.rows(results, server), self.field, self.per,
                           [("enjamb", "enjamb-none"), ("enjamb-power", "enjamb-none")], {"enjamb": "Enjamb, level process"})


def managed(variant):
    return "none" if variant.smacks == "none" else "resume"


@part
class Sending(Part):
    letter = "a"
    title = "Cost of one stanza in the sending path, in the process"
    kinds = (("presence", "presence, 90 B"), ("chat", "chat, 409 B"), ("groupchat", "groupchat, 450 B"),
             ("iq", "iq, 2 KB"), ("large", "message, 30 KB"))
    collectors = (("on", "collector as Prosody sets it"), ("off", "collector stopped"))
    per, pairs = "stanza, µs", (("builtin", "enjamb"), ("none", "enjamb"))
    charts = (("chat, 409 B, collector as Prosody sets it", dict(what="send", kind="chat", gc="on"), "us", "µs per stanza"),
              ("presence, 90 B, collector as Prosody sets it", dict(what="send", kind="presence", gc="on"), "us", "µs per stanza"))

    def sample(self, server, variant, round_):
        for record in inprocess.serve(self.bench, server, variant, "speed"):
            if "ns" in record and record["what"] != "clock":
                yield {**record, "us": record["ns"] / 1000}

    def rows(self, results, server):
        for gc, title in self.collectors:
            yield from (Row(f"{name}, {title}", dict(what="send", kind=kind, gc=gc)) for kind, name in self.kinds)
            yield Row(f"all of session.send(), chat, {title}", dict(what="session.send", gc=gc))

    def bars(self):
        for (gc, title), small, large in zip(self.collectors, (6, 12), (3, 6)):
            for kind, name in self.kinds:
                yield ratio(f"{name}, {title}: Prosody's / Enjamb", "builtin", "enjamb", large if kind in ("iq", "large") else small,
                            at_least=True, what="send", kind=kind, gc=gc)


@part
class Chat(WholeServer):
    letter = "b"
    title = "Server CPU per delivered chat message"
    per = "message, µs"
    kinds = (("burst", "as fast as the server goes"), ("paced", "1,000 messages a second, each sent alone"))
    charts = tuple((f"{kind}: {how}", dict(what=kind), "us", "µs per message") for kind, how in kinds)
    clients = 50

    def sample(self, server, variant, round_):
        with server.server(self.bench, variant) as running:
            for kind, _ in self.kinds:
                paced = kind == "paced"
                told = run(running, "chat", sm=managed(variant), pairs=self.clients, rate=1000 if paced else None,
                           messages=self.scale(1500, 1000) if paced else self.scale(6000, 4000),
                           warm_up=300 if paced else 1000)
                yield {"what": kind, "us": told["measured"]["us_each"], **told["measured"]}
            running.check()

    def rows(self, results, server):
        return [Row(f"{kind}: {how}", dict(what=kind)) for kind, how in self.kinds]

    def bars(self):
        for (kind, _), limit in zip(self.kinds, (0.9, 1.0)):
            yield ratio(f"chat, {kind}: Enjamb / no stream management", "enjamb", "none", limit, what=kind)
        for kind, _ in self.kinds:
            yield ratio(f"chat, {kind}: level process / level none", "enjamb", "enjamb-none", 1.05, what=kind)


@part
class Groupchat(WholeServer):
    letter = "c"
    title = "Server CPU per delivered copy in a room of 100 accounts x 3 sessions"
    per = "copy, µs"
    variants = (*WholeServer.variants, "minimix")
    charts = (("a message to 300 sessions", dict(what="copy"), "us", "µs per copy"),)
    accounts, sessions = 100, 3

    def sample(self, server, variant, round_):
        with server.server(self.bench, variant, muc="silent") as running:
            told = run(running, "groupchat", sm=managed(variant), muc=running.muc, accounts=self.accounts,
                       sessions=self.sessions, messages=self.scale(50, 20), warm_up=5)
            running.check()
            yield {"what": "copy", "us": told["measured"]["us_each"], **told["measured"]}

    def rows(self, results, server):
        return [Row("a message to 300 sessions", dict(what="copy"))]

    def bars(self):
        for who, title, limit in (("enjamb", "Enjamb", 0.85), ("minimix", "with mod_minimix", 0.6)):
            yield ratio(f"groupchat, per copy: {title} / no stream management", who, "none", limit, what="copy")
        yield ratio("groupchat, per copy: level process / level none", "enjamb", "enjamb-none", 1.05, what="copy")


@part
class Joining(WholeServer):
    """Everybody logs in and joins one room, one after another: each is told of all, and all of each."""

    letter = "k"
    title = "Server CPU for joining a room that gets 100 accounts x 3 sessions, log-ins included"
    per = "session, µs"
    rounds = 3
    columns = variants = ("none", "builtin", "enjamb", "minimix")
    accounts, sessions = 100, 3

    def sample(self, server, variant, round_):
        with server.server(self.bench, variant, muc=True) as running:
            told = run(running, "groupchat", sm=managed(variant), muc=running.muc, accounts=self.scale(self.accounts, 30),
                       sessions=self.sessions, messages=0, warm_up=1)
            running.check()
            joining = told["joining"]
            yield {"what": "join", "us": joining["us_each"], **joining}

    def rows(self, results, server):
        return [Row("log-in and join", dict(what="join"))]


@part
class Hibernating(Part):
    letter = "d"
    title = "Messages into hibernating queues, and resuming them"
    variants = columns = ("builtin", "enjamb", "ejabberd")
    seldom = ("ejabberd",)
    per, pairs = "message, µs", (("enjamb", "builtin"),)
    lengths, longest = (50, 400), 4000
    charts = tuple((title, dict(what=what, length=400), "us", "µs per message") for what, title in (
        ("queue", "queued for a session that hibernates, 400 messages"), ("resume", "resumed, of 400")))

    def sample(self, server, variant, round_):
        ours = variant.smacks == "enjamb"
        # what is measured is not where the queue is full
        more = {"options": ["smacks_max_queue_size = 5000"]} if ours else {}
        if server.make == "prosody":
            more["modules"] = ["enjamb_bench_void"]
        with server.server(self.bench, variant, **more) as running:
            routing = None
            if server.make == "prosody":
                routing = run(running, "route", sm="resume", clients=10, messages=400)["routing"]["us_each"]
                yield {"what": "route", "us": routing}
            for length in (*self.lengths, self.longest) if ours else self.lengths:
                clients = {50: 40, 400: 20, self.longest: 2}[length]
                told = run(running, "hibernate", sm="resume", clients=clients, messages=length)
                empty = told["resuming_empty"]["us_each"]
                queueing = told["queueing"]["us_each"]
                yield {"what": "queue", "length": length, "us": queueing,
                       "beyond": None if routing is None else max(0.0, queueing - routing)}
                yield {"what": "resume", "length": length, "with_login_us": told["resuming"]["us_each"],
                       "us": max(0.0, told["resuming"]["us_each"] - empty / length)}
                yield {"what": "resume-empty", "us": empty}
            running.check()
        if server.make == "prosody":
            for record in inprocess.serve(self.bench, server, variant, "hibernation", sessions=self.scale(50 if ours else 20, 10)):
                yield {**record, "us": record["ns"] / 1000}

    def rows(self, results, server):
        for gc, title in Sending.collectors:
            for length in (10, 100, 500):
                yield Row(f"queued, queue of {length}, in the process, {title}", dict(what="hibernating", length=length, gc=gc))
        yield Row("read and routed, then dropped, whole server", dict(what="route"))
        for length in (*self.lengths, self.longest):
            yield Row(f"queued, queue growing to {length:,}, whole server", dict(what="queue", length=length))
            yield Row("of which beyond reading and routing", dict(what="queue", length=length), "beyond")
            yield Row(f"resumed, of {length:,}, whole server", dict(what="resume", length=length))
        yield Row("log-in and resumption of an empty queue, whole server", dict(what="resume-empty"))

    def bars(self):
        kinds = (("queue", "queued for a session that hibernates"), ("resume", "resumed"))
        for what, title in kinds:
            yield ratio(f"a message {title}, of 400, whole server: Enjamb / Prosody's", "enjamb", "builtin", 0.1, what=what, length=400)
        yield ratio("a message queued, of 400, whole server, beyond reading and routing it: Enjamb / Prosody's", "enjamb", "builtin",
                    0.1, "beyond", what="queue", length=400)
        yield ratio("a message queued, queue of 500, in the process: Enjamb / Prosody's", "enjamb", "builtin", 0.1,
                    what="hibernating", length=500, gc="on")
        for what, title in kinds:
            yield growth(f"a message {title}, of 4,000 / of 400", "us", 1.1, dict(length=400), dict(length=self.longest), what=what)


@part
class Memory(Part):
    letter = "e"
    title = "Memory"
    seldom = ("builtin",)
    per, field, pairs = "piece, bytes", "rss", (("enjamb", "builtin"),)
    charts = tuple((title, dict(what=what), "rss", "bytes") for what, title in (
        ("empty", "stream management of a session, nothing queued"), ("live", "a 478-byte message queued for a connected session"),
        ("hibernating", "a 478-byte message queued for a hibernating session")))

    def sample(self, server, variant, round_):
        # the built-in copies each queue again and again
        sessions = 50 if variant.smacks == "builtin" else 200
        for record in inprocess.serve(self.bench, server, variant, "memory", sessions=sessions, messages=self.scale(400, 100)):
            yield {**record, "of_wire": record["rss"] / record["bytes"]} if record["what"] == "live" else record

    def rows(self, results, server):
        for what, title in (("session", "a session without stream management"), ("empty", "its stream management, nothing queued"),
                            ("live", "a message of 478 B queued for a connected session"),
                            ("hibernating", "a message of 478 B queued for a hibernating session")):
            yield Row(title, dict(what=what))
            yield Row("the same in Lua's heap", dict(what=what), "lua")

    def bars(self):
        yield value("a message queued for a connected session, of its bytes on the wire", "of_wire", 1.2, "x", what="live")
        yield value("a message queued for a hibernating session", "rss", 50, " B", what="hibernating")
        yield value("all of a session's stream management, its queue empty: nothing reserved for that", "rss", None, " B", what="empty")


@part
class Acks(Part):
    letter = "f"
    title = "Acks"
    variants = columns = ("builtin", "enjamb")
    per, pairs = "ack, µs", (("builtin", "enjamb"),)
    places = (("ack", "in the process, collector stopped", (1, 10, 100, 500)), ("server", "whole server", (1, 10)))
    charts = tuple((f"an ack of {step}, {place}", dict(what=what, step=step), "us", "µs per ack")
                   for step in (1, 10) for what, place in (("ack", "in the process"), ("server", "whole server")))

    def sample(self, server, variant, round_):
        for record in inprocess.serve(self.bench, server, variant, "acks"):
            us = record["ns"] / 1000
            yield {**record, "us": us, "us_message": us / record["step"]}
        with server.server(self.bench, variant) as running:
            for step, clients in ((1, 10), (10, 20)):
                told = run(running, "acks", sm="resume", clients=clients, messages=400, step=step)
                acks, pings = told["acknowledging"], told["pinging"]
                us = max(0.0, acks["server_cpu"] - pings["server_cpu"]) * 1e6 / acks["count"]
                yield {"what": "server", "step": step, "us": us, "us_message": us / step}
            running.check()

    def rows(self, results, server):
        for what, title, steps in self.places:
            for step in steps:
                match = dict(what=what, step=step)
                yield Row(f"of {step}, {title}", match)
                if step > 1:
                    yield Row("the same per message", match, "us_message")
                if what == "ack":
                    yield Row("garbage that it makes, bytes", match, "garbage")

    def bars(self):
        for what, title, steps in self.places:
            for step in steps:
                yield ratio(f"an ack of {step}, {title}: Prosody's / Enjamb", "builtin", "enjamb", 50, at_least=True, what=what, step=step)


@part
class Recovery(Part):
    letter = "g"
    title = "Start, and recovery of 10,000 sessions with 100 queued messages each"
    rounds = 2
    field, pairs = "cpu", (("enjamb", "none"),)

    def sample(self, server, variant, round_):
        with server.server(self.bench, variant) as running:
            rss, _ = memory(running.pid)
            yield {"what": "start", "cpu": cpu_seconds(running.pid), "rss": rss}
        if variant.smacks != "enjamb":
            return
        sessions, messages = self.scale(10000, 1000), 100
        with inprocess.filled(self.bench, server, variant, sessions=sessions, messages=messages) as running:
            inprocess.wait_until_filled(running)
            made, _ = memory(running.pid)
            running.end(signal.SIGKILL)
            disk = sum(f.stat().st_size for f in running.data.rglob("enjamb-journal/*"))
            running.config.write_text(running.config.read_text().replace('"enjamb_bench", ', "").replace(', "enjamb_bench"', ""))
            running.wait = True
            seconds = running.start()
            rss, peak = memory(running.pid)
            back = re.search(r"(\d+) sessions are back", running.log())
            if not back or int(back.group(1)) != sessions:
                raise Failed(f"of {sessions} sessions came back: {back and back.group(0)}\n{running.tail()}")
            yield {"what": "recovery", "sessions": sessions, "messages": messages, "seconds": seconds,
                   "cpu": cpu_seconds(running.pid), "rss": rss, "peak": peak, "before": made, "disk": disk}

    def rows(self, results, server):
        return [Row("start with nothing to bring back, CPU s", dict(what="start"))]

    def tables(self, results, server):
        yield from super().tables(results, server)
        for s in results.samples(self.letter, server.label, "enjamb", what="recovery")[:1]:
            rows = []
            for title, field, scale in (("seconds until it answers", "seconds", 1), ("CPU, s", "cpu", 1),
                                        ("memory then, MiB", "rss", 2**20), ("its peak, MiB", "peak", 2**20),
                                        ("memory before the kill, MiB", "before", 2**20), ("journal, MiB", "disk", 2**20)):
                rows.append([title, spread(results.summary(self.letter, server.label, "enjamb", field, scale, what="recovery"))])
            yield table([f"{s['sessions']:,} sessions x {s['messages']} messages", "Enjamb"], rows)


@part
class Restart(Part):
    """Contacts on a circle, rooms of 30, and a restart by SIGTERM."""

    letter = "h"
    title = "300 clients come back after a restart: resuming, against logging in fully"
    rounds = 2
    seldom = ("builtin",)
    pairs = (("enjamb", "none"), ("enjamb", "builtin"))
    titles = {"none": "full log-in", "builtin": "full log-in, Prosody's mod_smacks", "enjamb": "resuming with Enjamb"}
    charts = (("CPU per client that comes back", dict(what="back"), "ms_with_start", "ms"),)
    contacts, rooms = 20, 5

    @property
    def clients(self):
        return self.scale(300, 60)

    def rosters(self, running):
        directory = running.data / HOST.replace(".", "%2e") / "roster"
        directory.mkdir(parents=True)
        n, half = self.clients, self.contacts // 2
        for i in range(n):
            items = "".join(
                f'\t["c{j}@{HOST}"] = {{ ["subscription"] = "both"; ["groups"] = {{ ["Friends"] = true; }};'
                f' ["name"] = "Friend {j}"; }};\n'
                for j in ((i + d) % n for d in range(-half, half + 1) if d != 0))
            (directory / f"c{i}.dat").write_text(
                f'return {{\n\t[false] = {{ ["version"] = 1; }};\n{items}}};\n')

    def sample(self, server, variant, round_):
        back = "resume" if variant.smacks == "enjamb" else "login"
        with server.server(self.bench, variant, muc=True) as running:
            bare = cpu_seconds(running.pid)
            running.end()
            self.rosters(running)
            running.start()
            with Load(running, "restart", sm=managed(variant), back=back, clients=self.clients, rooms=self.rooms,
                      muc=running.muc) as load:
                load.wait_for("online")
                running.end(signal.SIGTERM)
                seconds = running.start()
                started = cpu_seconds(running.pid)
                load.say("back", running.pid)
                told = load.result()
            if told["errors"] or back == "resume" and told["resumed"] != self.clients:
                raise Failed(f"{told['resumed']} of {self.clients} resumed; {told['errors'][:3]}")
            running.check()
            measured = told["back"]
            yield {
                "what": "back", "way": back, "start_seconds": seconds, "ms": measured["server_cpu"] / self.clients * 1e3,
                # with what bringing the sessions back cost while the server started
                "ms_with_start": (measured["server_cpu"] + max(0, started - bare)) / self.clients * 1e3,
                "kib": (measured["bytes_in"] + measured["bytes_out"]) / self.clients / 1024,
                "evicted": told["evicted"], "first_ms": told["first"]["server_cpu"] / self.clients * 1e3,
            }

    def rows(self, results, server):
        return [Row("CPU per client, ms", dict(what="back"), "ms"),
                Row("the same, with the server's start", dict(what="back"), "ms_with_start"),
                Row("bytes per client, KiB", dict(what="back"), "kib")]

    def bars(self):
        for field, title in (("ms_with_start", "CPU with the server's start"), ("kib", "bytes")):
            yield ratio(f"300 clients back after a restart, {title}: resuming / full log-in", "enjamb", "none", 0.2, field, what="back")


@part
class Growth(Part):
    letter = "j"
    title = "How it grows"
    variants = columns = ("builtin", "enjamb")
    rounds = 2
    lengths = tuple(10 ** e for e in range(6))
    # what, field, title
    by_sessions = (("grow/first", "ns", "first message queued"), ("grow/push", "ns", "message queued"), ("grow/ack", "ns", "ack of 10 messages"),
                   ("grow/resume", "ns", "resumption, 10 messages"), ("grow/enable", "ns", "<enable/>"))
    by_length = (("length", "push_ns", "message queued"), ("length", "ack_ns", "ack of one"), ("length", "resume_ns", "resumed, each"),
                 ("length", "ack_rest_ns", "acked all at once, each"))

    @property
    def sizes(self):
        return (10, 1000, self.scale(100000, 5000))

    def sample(self, server, variant, round_):
        ours = variant.smacks == "enjamb"
        for sessions in self.sizes:
            if not ours and sessions > 10000:
                continue  # which takes 16 KB for each
            longest = (100000 if ours else 100) if sessions == 10 else 0
            options = ["smacks_max_queue_size = 1000000"] if ours and longest else []
            yield from inprocess.serve(self.bench, server, variant, "growth", options, sessions=sessions, longest=longest)

    def grown(self, results, server, steps, key, values):
        """By one of the two: (title, variant, [(size, summary)])."""
        for what, field, title in steps:
            for name in self.columns:
                yield title, name, [(n, results.summary(self.letter, server.label, name, field, 1000, what=what, **{key: n})) for n in values]

    def tables(self, results, server):
        for title, steps, key, values in (("By the number of hibernating sessions", self.by_sessions, "sessions", self.sizes),
                                          ("By the length of the queue", self.by_length, "length", self.lengths)):
            yield f"{title}, µs (collector stopped):"
            yield table(["", ""] + [f"{n:,}" for n in values], [
                [step, VARIANTS[name].title] + [number(s["median"]) if s else "–" for _, s in found]
                for step, name, found in self.grown(results, server, steps, key, values)])
        yield "Memory of a hibernating session with nothing queued, bytes:"
        yield table([""] + [f"{n:,}" for n in self.sizes], [
            [VARIANTS[name].title] + [spread(results.summary(self.letter, server.label, name, "rss", what="grow/memory", sessions=n))
                                      for n in self.sizes] for name in self.columns])

    def bars(self):
        for what, field, title in self.by_sessions:
            yield growth(f"{title}: of {self.sizes[-1]:,} sessions / of 1,000", field, 2, dict(sessions=1000),
                         dict(sessions=self.sizes[-1]), what=what)
        for what, field, title in self.by_length:
            yield growth(f"{title}: queue of 100,000 / of 100", field, 2, dict(length=100), dict(length=100000), what=what)

    def plots(self, results, servers):
        for server in servers[:1]:
            for name, title, x_title, steps, key, values in (
                    ("j-sessions", "by the number of sessions", "hibernating sessions", self.by_sessions, "sessions", self.sizes),
                    ("j-length", "by the length of the queue", "messages in the queue", self.by_length, "length", self.lengths)):
                yield name, plots.lines(f"Enjamb on {server.title}, {title}", x_title, "µs", [
                    (step, [(n, s["median"]) for n, s in found if s])
                    for step, variant, found in self.grown(results, server, steps, key, values) if variant == "enjamb"])


@part
class Crash(Part):
    """Not a measurement but an account: nothing that was told to be handled may be missing."""

    letter = "crash"
    title = "Killed under load: every message accounted for"
    variants = columns = ("builtin", "enjamb")
    rounds = 1
    fields = ("messages", "handled_and_lost", "handled_and_returned", "duplicated", "reordered", "resumed", "lost_sessions")

    def sample(self, server, variant, round_):
        yield {"what": "kill -9", **self.ordeal(server, variant, round_, signal.SIGKILL)}
        if variant.smacks == "enjamb":
            yield {"what": "SIGTERM", **self.ordeal(server, variant, round_, signal.SIGTERM)}

    def ordeal(self, server, variant, round_, number):
        draw = random.Random(f"{self.bench.seed} {round_} {number}")
        kills = self.scale(10, 2)
        with server.server(self.bench, variant, modules=["offline"]) as running:
            with Load(running, "crash", sm="resume", ask=3, clients=100, rate=500) as load:
                load.wait_for("online")
                for n in range(kills):
                    time.sleep(draw.uniform(0.5, 2.5))
                    running.end(number)
                    if number == signal.SIGKILL and n % 3 == 2:
                        # once more, while it starts or brings the sessions back
                        running.wait = False
                        running.start()
                        running.wait = True
                        time.sleep(draw.uniform(0.05, 0.8))
                        running.end(number)
                    running.start()
                time.sleep(1)
                load.say("stop")
                told = load.wait_for("result")
            if self.bench.keep:
                shutil.copy(running.data / "prosody.log", self.bench.scratch)
        if variant.smacks == "enjamb":
            wrong = {f: told[f] for f in ("handled_and_lost", "reordered", "lost_sessions", "not_handled") if told[f]}
            if wrong or told["errors"] or not told["complete"]:
                raise Failed(f"complete: {told['complete']}, {wrong}, {told['errors'][:3]}")
        return {"kills": kills, **{f: told[f] for f in self.fields}}

    def bars(self):
        yield value("killed ten times under load: handled and lost", "handled_and_lost", 0, "", what="kill -9")

    def tables(self, results, server):
        rows = []
        for what in ("kill -9", "SIGTERM"):
            for name in self.variants:
                for s in results.samples(self.letter, server.label, name, what=what):
                    rows.append([f"{what}, {s['kills']} times", VARIANTS[name].title] + [f"{s[f]:,}" for f in self.fields])
        yield table(["", ""] + [f.replace("_", " ") for f in self.fields], rows)
