"""Samples into medians, ratios and Markdown tables.  Knows nothing of servers."""
import dataclasses
import statistics

from servers import VARIANTS


def summary(values):
    values = sorted(values)
    if len(values) > 1:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    else:
        q1 = median = q3 = values[0]
    return {"median": median, "min": values[0], "q1": q1, "q3": q3, "n": len(values)}


def number(value):
    """Three figures that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(s):
    return "–" if s is None else f"{number(s['median'])} [{number(s['q1'])}–{number(s['q3'])}]"


def ratios(a, b):
    """Of the medians and of the minima, if there are both."""
    if a and b and b["median"] > 0 and b["min"] > 0:
        return a["median"] / b["median"], a["min"] / b["min"]
    return None


def times(a, b):
    both = ratios(a, b)
    return "{:.2f} / {:.2f}".format(*both) if both else "–"


def table(header, rows):
    def line(cells):
        return "| " + " | ".join(str(c) for c in cells) + " |"
    return "\n".join([line(header), "|" + "---|" * len(header)] + [line(r) for r in rows])


@dataclasses.dataclass
class Row:
    title: str
    match: dict
    field: str = ""


def table_of(results, letter, server, variants, rows, field, per, pairs, titles=None):
    """One line per row, one column per variant with how many rounds it had, then the ratios: of the medians / of the minima."""
    names = [v for v in variants if results.has(letter, server.label, v)]
    pairs = [(a, b) for a, b in pairs if a in names and b in names]
    def title(name):
        return (titles or {}).get(name) or VARIANTS[name].title
    header = [f"per {per}" if per else ""] + [f"{title(v)} ({results.rounds(letter, server.label, v)})" for v in names] + [f"{title(a)} / {title(b)}" for a, b in pairs]
    lines = []
    for row in rows:
        s = {v: results.summary(letter, server.label, v, row.field or field, **row.match) for v in names}
        if any(s.values()):
            lines.append([row.title] + [spread(s[v]) for v in names] + [times(s[a], s[b]) for a, b in pairs])
    return table(header, lines) if lines else ""


# Of fewer a verdict is not final.
PAIRS = 10


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side of a bar is of."""

    variant: str
    field: str
    match: dict


@dataclasses.dataclass(frozen=True)
class Bar:
    """What Enjamb is held to: a ratio of two things that were measured in the same rounds, or one thing by itself (`b`
    is None).  Without a limit it is for the reader to judge."""

    title: str
    a: Side
    b: Side | None
    limit: float | None
    at_least: bool = False
    unit: str = "x"

    def limit_text(self):
        if self.limit is None:
            return "–"
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def measured(self, results, letter, label):
        """The value by the medians, that by the minima, and how many rounds have both; None if there are none."""
        sides = [results.by_round(letter, label, s.variant, s.field, s.match) for s in (self.a, self.b) if s]
        rounds = sorted(set.intersection(*(set(side) for side in sides)))
        if not rounds:
            return None
        found = [summary([value for r in rounds for value in side[r]]) for side in sides]
        both = ratios(*found) if self.b else (found[0]["median"], found[0]["min"])
        return both and (*both, len(rounds))

    def verdict(self, value, pairs):
        if self.limit is None:
            return "–"
        verdict = "yes" if (value >= self.limit if self.at_least else value <= self.limit) else "**no**"
        return verdict if pairs >= PAIRS else f"({verdict})"


def table_of_bars(results, bars, servers):
    """`bars`: (letter, Bar).  Told as met only of as many pairs as there have to be."""
    header = ["", "held to"]
    for server in servers:
        header += [server.title, "pairs", "met"]
    lines = []
    for letter, bar in bars:
        cells = []
        for server in servers:
            measured = bar.measured(results, letter, server.label)
            if not measured:
                cells += ["–", "–", "–"]
                continue
            median, least, pairs = measured
            unit = "" if bar.unit == "x" else bar.unit
            cells += [f"{number(median)}{unit} / {number(least)}{unit}", pairs, bar.verdict(median, pairs)]
        if any(cell != "–" for cell in cells):
            lines.append([f"({letter}) {bar.title}", bar.limit_text(), *cells])
    return table(header, lines) if lines else ""


class Results:
    """All samples, by part, server and variant."""

    def __init__(self, samples=()):
        self.all = list(samples)

    def add(self, letter, server, variant, round_, sample):
        self.all.append({"part": letter, "server": server.label, "variant": variant.name, "round": round_, **sample})

    def keys(self):
        """What need not be measured again."""
        return {(s["part"], s["server"], s["variant"], s["round"]) for s in self.all}

    def samples(self, letter, label, variant, **match):
        wanted = {"part": letter, "server": label, "variant": variant, **match}
        return [s for s in self.all if all(s.get(k) == v for k, v in wanted.items())]

    def has(self, letter, label, variant):
        return bool(self.samples(letter, label, variant))

    def rounds(self, letter, label, variant):
        return len({s["round"] for s in self.samples(letter, label, variant)})

    def summary(self, letter, label, variant, field, scale=1, **match):
        values = [s[field] / scale for s in self.samples(letter, label, variant, **match) if s.get(field) is not None]
        return summary(values) if values else None

    def by_round(self, letter, label, variant, field, match):
        found = {}
        for s in self.samples(letter, label, variant, **match):
            if s.get(field) is not None:
                found.setdefault(s["round"], []).append(s[field])
        return found
