"""Small SVGs from numbers: horizontal bars with their quartiles, and lines on logarithmic axes. Knows nothing of where
the numbers come from."""
import html
import math

from report import number

COLOURS = ("#3b7dd8", "#d08770", "#2a9d6f", "#8a5cc2", "#8c8c8c", "#c24d6a")
FONT = 'font-family="system-ui, sans-serif"'


def _svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'{FONT} font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")


def _text(x, y, text, **attributes):
    more = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{html.escape(text)}</text>'


def _step(most):
    """Between the ticks of an axis that ends at `most`: 1, 2 or 5 of some power of ten, for three to seven of them."""
    power = 10 ** math.floor(math.log10(most))
    return next(step * power for step in (0.2, 0.5, 1, 2) if most / (step * power) <= 7)


def bars(charts):
    """`charts`: (title, unit, [(group, [(name, colour, summary)])]); the groups of a chart share a scale from zero."""
    left, right, width, body, y = 220, 80, 760, [], 8
    for title, unit, groups in charts:
        most = max(s["q3"] for _, values in groups for _, _, s in values) or 1
        step, scale = _step(most), (width - left - right) / most
        body.append(_text(8, y + 14, title, font_size=13, font_weight="600"))
        y += 24
        grid, top = len(body), y
        for group, values in groups:
            body.append(_text(8, y + 13, group, fill="#555"))
            y += 18
            for name, colour, s in values:
                body.append(_text(left - 8, y + 13, name, text_anchor="end"))
                body.append(f'<rect x="{left}" y="{y + 2}" width="{max(1, s["median"] * scale):.1f}" height="14" fill="{colour}"/>')
                body.append(f'<path d="M{left + s["q1"] * scale:.1f} {y + 9}H{left + s["q3"] * scale:.1f}" stroke="#222"/>')
                body.append(_text(left + max(s["median"], s["q3"]) * scale + 6, y + 13, number(s["median"])))
                y += 20
        lines = []
        for i in range(int(most / step + 1e-9) + 1):
            x = left + i * step * scale
            lines.append(f'<path d="M{x:.1f} {top}V{y + 4}" stroke="#ddd"/>')
            body.append(_text(x, y + 18, f"{i * step:,g}", text_anchor="middle", fill="#555"))
        body[grid:grid] = lines
        body.append(_text(left - 8, y + 18, unit, text_anchor="end", fill="#555"))
        y += 36
    return _svg(width, y - 8, body)


def lines(title, x_title, y_title, series):
    """`series`: (name, [(x, y)]); both axes are logarithmic."""
    width, height, left, bottom, top, right = 760, 340, 66, 46, 52, 200
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
            _text(left - 6, top - 12, y_title, text_anchor="end", fill="#555")]
    for e in range(x0, x1 + 1):
        x, y = at(10 ** e, 10 ** y0)
        body.append(f'<path d="M{x:.1f} {top}V{y:.1f}" stroke="#ddd"/>' + _text(x, y + 16, f"{10 ** e:,}", text_anchor="middle", fill="#555"))
    for e in range(y0, y1 + 1):
        x, y = at(10 ** x0, 10 ** e)
        body.append(f'<path d="M{x:.1f} {y:.1f}H{width - right}" stroke="#ddd"/>' + _text(x - 6, y + 4, f"{10.0 ** e:,g}", text_anchor="end", fill="#555"))
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
