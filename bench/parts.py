"""What is measured: the parts of the benchmark, one class each.

A part knows which variants it compares, how to take one sample of one of them, and how to show the samples.  Samples
are dicts of numbers; those with the same `what` are compared.  Knows nothing of rounds or files.
"""
import random
import shutil
import signal
import time

from load import Load, run
from report import Row, table_of
from servers import HOST, VARIANTS, Failed, Server, cpu_seconds

PARTS = {}


def part(cls):
    PARTS[cls.letter] = cls
    return cls


class Part:
    """`rounds` is of a full run; a quick one takes two."""

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
        """What is drawn: (title, what, field, scale, unit)."""
        return ()


def managed(variant):
    return "none" if variant.smacks == "none" else "resume"


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
class Restart(Part):
    """Contacts on a circle, rooms of 30, and a restart by SIGTERM."""

    letter = "h"
    title = "300 clients come back after a restart: resuming, against logging in fully"
    variants = ("none", "builtin", "enjamb")
    rounds = 5
    clients, contacts, rooms = 300, 20, 5

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
        kills = self.scale(10, 3)
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
        from report import table
        yield table(["", ""] + [f.replace("_", " ") for f in self.fields], rows)
