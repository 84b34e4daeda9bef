"""The README's figures: of all that is measured, what an admin looks for first."""
from parts import Restart, Sending
from report import number, spread, table, times

BOTH = ("builtin", "enjamb")


def figures(results, servers, about):
    """Markdown."""
    ejabberd = next((s for s in servers if s.make == "ejabberd"), None)
    modes = [s for s in servers if s.make == "prosody"]
    servers = [s for s in modes if not s.generational]
    versions = " / ".join(s.title.split()[-1] for s in servers)

    def summary(server, letter, variant, field, **match):
        return results.summary(letter, server.label, variant, field, **match)

    def of_each(f):
        """One text for each version."""
        found = [f(server) for server in servers]
        return " / ".join(found) if any(found) else ""

    def ratio(server, letter, a, b, field="us", **match):
        a, b = (summary(server, letter, v, field, **match) for v in (a, b))
        return f"{a['median'] / b['median']:.2f}" if a and b and b["median"] else "–"

    def value(letter, variant, field, scale=1, unit="", **match):
        def text(server):
            found = results.summary(letter, server.label, variant, field, scale, **match)
            return number(found["median"]) + unit if found else "–"
        return of_each(text)

    def sending(gc):
        rows = []
        for kind, title in Sending.kinds:
            s = {v: summary(servers[0], "a", v, "us", what="send", kind=kind, gc=gc) for v in ("none", *BOTH)}
            rows.append([title, *(spread(s[v]) for v in s), times(s["builtin"], s["enjamb"]), times(s["none"], s["enjamb"])])
        return table(["Stanza", "no stream management", "Prosody's mod_smacks", "Enjamb", "Prosody's / Enjamb", "none / Enjamb"], rows)

    def whole():
        rows = []
        for title, letter, what, minimix in (("per chat message, burst", "b", "burst", False), ("the same, paced", "b", "paced", False),
                                             ("per copy in a room of 100 accounts x 3 sessions", "c", "copy", True)):
            ours = of_each(lambda s: ratio(s, letter, "enjamb", "none", what=what))
            if minimix:
                ours += "; with mod_minimix " + of_each(lambda s: ratio(s, letter, "minimix", "none", what=what))
            rows.append([title, of_each(lambda s: ratio(s, letter, "builtin", "none", what=what)), ours,
                         ratio(ejabberd, letter, "ejabberd", "ejabberd-none", what=what) if ejabberd else "–"])
        levels = of_each(lambda s: ", ".join(ratio(s, letter, "enjamb", "enjamb-none", what=what)
                                             for letter, what in (("b", "burst"), ("b", "paced"), ("c", "copy"))))
        rows.append(['level `"process"` against `"none"`: burst, paced, groupchat', "", levels, ""])
        return table(["Server CPU", f"Prosody's mod_smacks {versions}", f"Enjamb {versions}", "ejabberd's own"], rows)

    def collectors():
        """What a message costs in each mode of Lua's collector."""
        rows = []
        for server in modes:
            found = [results.summary("b", server.label, v, "us", what="burst") for v in ("none", *BOTH)]
            if all(found):
                rows.append([server.title, *(number(s["median"]) for s in found)])
        return table(["µs of server CPU per chat message, burst", "no stream management", "Prosody's mod_smacks", "Enjamb"], rows)

    def crash(variant, separator, *fields):
        def text(server):
            found = results.samples("crash", server.label, variant, what="kill -9")
            return separator.join(f"{found[0][f]:,}" for f in fields) if found else "–"
        return of_each(text)

    def back(server):
        return "; ".join(ratio(server, "h", "enjamb", "none", field, what="back") for field in ("ms_with_start", "kib"))

    def rest():
        def row(title, *arguments, **more):
            return [title, *(value(arguments[0], v, *arguments[1:], **more) for v in BOTH)]

        rows = [
            row("CPU for a message queued for a disconnected session, µs, queue of 400", "d", "us", what="queue", length=400),
            row("of which beyond reading and routing it", "d", "beyond", what="queue", length=400),
            row("CPU for a message that a client gets by resuming, µs, queue of 400", "d", "us", what="resume", length=400),
            row("CPU for an ack of 10 messages, µs", "f", "us", what="server", step=10),
            row("memory of a 478-byte message queued for a connected session, bytes", "e", "rss", what="live"),
            row("the same for a disconnected session", "e", "rss", what="hibernating"),
            ["killed 10 times under load (`kill -9`): told handled, and lost",
             *(crash(v, " of ", "handled_and_lost", "messages") for v in BOTH)],
            ["sessions resumed after these; lost", *(crash(v, "; ", "resumed", "lost_sessions") for v in BOTH)],
            ["10,000 sessions with 100 messages each, after `kill -9`: back in; memory", "",
             value("g", "enjamb", "seconds", 1, " s", what="recovery") + "; " + value("g", "enjamb", "rss", 2**20, " MiB", what="recovery")],
            [f"300 clients back after a restart, each with {Restart.contacts} contacts and {Restart.rooms} persistent rooms, as a part of "
             "full log-ins: CPU, with the server's start; bytes", "", of_each(back)],
        ]
        return table(["", f"Prosody's mod_smacks {versions}", f"Enjamb {versions}"], rows)

    rounds = results.rounds("a", servers[0].label, "enjamb")
    machine = about["machine"]
    return f"""Measured on {about['when'][:10]}, {machine['cores']} cores of an {machine['cpu']}.

What sending one stanza costs (queue it, journal it, serialise it; the connection's own work is the same for all), {servers[0].title}, in
microseconds of CPU, {rounds} rounds in turns: median [quartiles]; the last two columns are ratios of the medians / of the minima. With
Lua's collector as Prosody sets it:

{sending("on")}

With the collector stopped:

{sending("off")}

Whole servers under load, level `"process"`, as a part of what no stream management costs (medians of {results.rounds("b", servers[0].label, "enjamb")} rounds in turns):

![Server CPU per delivered chat message](docs/performance/b.svg)

{whole()}

What Lua's collector is worth, set by `gc = {{ mode = "generational" }}`:

{collectors()}

{rest()}"""
