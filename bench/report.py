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


def times(a, b):
    if not a or not b or not b["median"] or not b["min"]:
        return "–"
    return f"{a['median'] / b['median']:.2f} / {a['min'] / b['min']:.2f}"


def table(header, rows):
    def line(cells):
        return "| " + " | ".join(str(c) for c in cells) + " |"
    return "\n".join([line(header), "|" + "---|" * len(header)] + [line(r) for r in rows])


@dataclasses.dataclass
class Row:
    title: str
    match: dict
    field: str = ""


def table_of(results, letter, prosody, variants, rows, field, per, ratios, titles=None):
    """One line per row, one column per variant, then the ratios: of the medians / of the minima."""
    names = [v for v in variants if results.has(letter, prosody.label, v)]
    ratios = [(a, b) for a, b in ratios if a in names and b in names]
    def title(name):
        return (titles or {}).get(name) or VARIANTS[name].title
    header = [f"per {per}" if per else ""] + [title(v) for v in names] + [f"{title(a)} / {title(b)}" for a, b in ratios]
    lines = []
    for row in rows:
        s = {v: results.summary(letter, prosody.label, v, row.field or field, **row.match) for v in names}
        if any(s.values()):
            lines.append([row.title] + [spread(s[v]) for v in names] + [times(s[a], s[b]) for a, b in ratios])
    return table(header, lines)


class Results:
    """All samples, by part, Prosody and variant."""

    def __init__(self):
        self.all = []

    def add(self, letter, prosody, variant, round_, sample):
        self.all.append({"part": letter, "prosody": prosody.label, "variant": variant.name, "round": round_, **sample})

    def samples(self, letter, label, variant, **match):
        wanted = {"part": letter, "prosody": label, "variant": variant, **match}
        return [s for s in self.all if all(s.get(k) == v for k, v in wanted.items())]

    def has(self, letter, label, variant):
        return bool(self.samples(letter, label, variant))

    def summary(self, letter, label, variant, field, scale=1, **match):
        values = [s[field] / scale for s in self.samples(letter, label, variant, **match) if s.get(field) is not None]
        return summary(values) if values else None
