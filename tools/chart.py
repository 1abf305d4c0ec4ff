"""The panels of a board as one SVG, for light and for dark pages."""

from html import escape

WIDTH, HEIGHT, GAP = 344, 206, 12
LEFT, TOP, RIGHT, PLOT = 50, 34, 12, 120
COLOURS = (("#0969da", "#4493f8"), ("#1a7f37", "#3fb950"), ("#bc4c00", "#db6d28"), ("#8250df", "#ab7df8"), ("#b3261e", "#ff7b72"), ("#9a6700", "#d29922"),
           ("#bf3989", "#db61a2"), ("#57606a", "#9198a1"))


def style():
    light = "".join(f".c{n} {{ stroke: {colour}; fill: {colour} }} " for n, (colour, _) in enumerate(COLOURS))
    dark = "".join(f".c{n} {{ stroke: {colour}; fill: {colour} }} " for n, (_, colour) in enumerate(COLOURS))
    return (".card { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d0d7de } "
            f"path {{ fill: none !important; stroke-width: 1.6 }} .small {{ font-size: 11px }} .bold {{ font-weight: 600 }} {light}"
            "@media (prefers-color-scheme: dark) { .card { fill: #0d1117; stroke: #3d444d } .ink { fill: #f0f6fc } .dim { fill: #9198a1 } "
            f".grid {{ stroke: #3d444d }} {dark}}}")


def figure(value, unit):
    if unit == "percentunit":
        return f"{100 * value:.0f} %"
    if unit == "bytes":
        return f"{value / 2 ** 20:.1f} MB"
    if unit == "s":
        return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def lines(curves, unit):
    """`curves` is {legend: [value or None, ...]}."""
    top = max([value for values in curves.values() for value in values if value is not None], default=0) or 1
    across, parts = WIDTH - LEFT - RIGHT, []
    for share in (0, 0.5, 1):
        y = TOP + PLOT * (1 - share)
        parts += [f'<line class="grid" x1="{LEFT}" y1="{y:.0f}" x2="{WIDTH - RIGHT}" y2="{y:.0f}"/>',
                  f'<text class="dim small" x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{figure(top * share, unit)}</text>']
    for number, (_, values) in enumerate(curves.items()):
        path, pen = "", "M"
        for place, value in enumerate(values):
            if value is None:
                pen = "M"
                continue
            path += f"{pen}{LEFT + across * place / max(1, len(values) - 1):.1f} {TOP + PLOT * (1 - value / top):.1f}"
            pen = "L"
        parts.append(f'<path class="c{number % len(COLOURS)}" d="{path}"/>')
    x, y = LEFT, TOP + PLOT + 22
    for number, name in enumerate(curves):
        width = 22 + 6.3 * len(name)
        if x + width > WIDTH - RIGHT and x > LEFT:
            x, y = LEFT, y + 17
        parts += [f'<rect class="c{number % len(COLOURS)}" x="{x:.0f}" y="{y - 8}" width="10" height="4"/>',
                  f'<text class="dim small" x="{x + 14:.0f}" y="{y - 2}">{escape(name)}</text>']
        x += width
    return parts


def rows(found):
    return [f'<text class="dim small" x="16" y="{TOP + 22 + 20 * number}">{escape(text)}</text>' for number, text in enumerate(found or ["no finding"])]


def board(title, caption, panels):
    """`panels` are (title, x and y in the board's grid of 8, the parts of its picture)."""
    across, down = max(x for _, x, _, _ in panels) // 8 + 1, max(y for _, _, y, _ in panels) // 8 + 1
    width, height = across * (WIDTH + GAP) + GAP, down * (HEIGHT + GAP) + GAP + 24
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, -apple-system, \'Segoe UI\', \'DejaVu Sans\', sans-serif" '
           'font-size="13" role="img" aria-labelledby="title text">',
           f'<title id="title">{escape(title)}</title>', f'<desc id="text">{escape(caption)}</desc>', f"<style>{style()}</style>"]
    for name, x, y, parts in panels:
        out += [f'<g transform="translate({GAP + x // 8 * (WIDTH + GAP)} {GAP + y // 8 * (HEIGHT + GAP)})">',
                f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
                f'<text class="ink bold" x="14" y="22">{escape(name)}</text>', *parts, "</g>"]
    out += [f'<text class="dim small" x="{GAP}" y="{height - 12}">{escape(caption)}</text>', "</svg>"]
    return "\n".join(out) + "\n"
