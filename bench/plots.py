"""Small SVGs from numbers: groups of horizontal bars with their quartiles, and lines on logarithmic axes. Knows nothing
of where the numbers come from."""
import html
import math

from report import number

COLOURS = ("#8c8c8c", "#d08770", "#3b7dd8", "#2a9d6f", "#8a5cc2", "#c24d6a")
FONT = 'font-family="system-ui, sans-serif"'


def _svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'{FONT} font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")


def _text(x, y, text, **attributes):
    more = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{html.escape(text)}</text>'


def bars(groups):
    """`groups`: (title, unit, [(name, summary)]); each group has its own scale from zero."""
    left, right, width, body, y = 230, 110, 760, [], 8
    names = list(dict.fromkeys(name for _, _, values in groups for name, _ in values))
    for title, unit, values in groups:
        body.append(_text(8, y + 14, f"{title}, {unit}", font_weight="600"))
        y += 24
        most = max(s["q3"] for _, s in values) or 1
        for name, s in values:
            scale = (width - left - right) / most
            colour = COLOURS[names.index(name) % len(COLOURS)]
            body.append(_text(left - 8, y + 13, name, text_anchor="end"))
            body.append(f'<rect x="{left}" y="{y + 2}" width="{max(1, s["median"] * scale):.1f}" height="14" fill="{colour}"/>')
            body.append(f'<path d="M{left + s["q1"] * scale:.1f} {y + 9}H{left + s["q3"] * scale:.1f}" stroke="#222"/>')
            body.append(_text(left + s["q3"] * scale + 6, y + 13, number(s["median"])))
            y += 20
        y += 10
    return _svg(width, y, body)


def lines(title, x_title, y_title, series):
    """`series`: (name, [(x, y)]); both axes are logarithmic."""
    width, height, left, bottom, top, right = 760, 320, 60, 46, 34, 200
    points = [(x, y) for _, line in series for x, y in line if x > 0 and y > 0]
    if not points:
        return None
    spans = []
    for values in zip(*points):
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        spans.append((low, max(high, low + 1)))
    (x0, x1), (y0, y1) = spans
    def at(x, y):
        return (left + (math.log10(x) - x0) / (x1 - x0) * (width - left - right),
                height - bottom - (math.log10(y) - y0) / (y1 - y0) * (height - bottom - top))
    body = [_text(8, 20, title, font_weight="600"), _text((left + width - right) / 2, height - 8, x_title, text_anchor="middle"),
            _text(8, top, y_title, fill="#555")]
    for e in range(x0, x1 + 1):
        x, y = at(10 ** e, 10 ** y0)
        body.append(f'<path d="M{x:.1f} {top}V{y:.1f}" stroke="#ddd"/>' + _text(x, y + 16, f"{10 ** e:,}", text_anchor="middle", fill="#555"))
    for e in range(y0, y1 + 1):
        x, y = at(10 ** x0, 10 ** e)
        body.append(f'<path d="M{x:.1f} {y:.1f}H{width - right}" stroke="#ddd"/>' + _text(x - 6, y + 4, f"{10.0 ** e:g}", text_anchor="end", fill="#555"))
    for i, (name, line) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        places = [at(x, y) for x, y in line if x > 0 and y > 0]
        if not places:
            continue
        body.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        body.append(f'<rect x="{width - right + 14}" y="{top + 18 * i}" width="10" height="10" fill="{colour}"/>'
                    + _text(width - right + 30, top + 9 + 18 * i, name))
    return _svg(width, height, body)
