"""The picture in README.md: how long a client waits for one payment, over a network (bench/network.py)."""

from xml.sax.saxutils import escape

from client_calls import NAMES

# Call, what is written beside it, its round trips, and whose it is.
BARS = (
    ("run", "idempotent_run", 1, "ours"),
    ("hand-run", "a PL/pgSQL function by hand", 1, "rival"),
    ("block-pipelined", "claim, insert, complete: pipelined", 2, "ours"),
    ("redis-first", "Redis SET NX, insert in Postgres, SET", 3, "rival"),
    ("hand-block", "the same five statements by hand, one by one", 5, "rival"),
)
WIDTH, LEFT, TOP, STEP, BAR = 860, 390, 82, 38, 24
STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de }
    .ours { fill: #0969da }
    .rival { fill: #afb8c1 }
    .ink { fill: #1f2328 }
    .dim { fill: #59636e }
    .bold { font-weight: 600 }
    .small { font-size: 12.5px }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #3d444d }
      .ours { fill: #4493f8 }
      .rival { fill: #656c76 }
      .ink { fill: #f0f6fc }
      .dim { fill: #9198a1 }
    }
"""


def medians(network):
    """{call: milliseconds} of the table of network.py."""
    names = {name: call for call, name in NAMES.items()}
    found = {}
    for row in network["rows"]:
        if row["what"] not in names:
            continue
        found[names[row["what"]]], found[names[row["against"]]] = row["result"]["ours"], row["result"]["rival"]
    return found


def draw(network):
    taken = medians(network)
    longest = max(taken[call] for call, *_ in BARS)
    height = TOP + STEP * len(BARS) + 14
    text = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, -apple-system, \'Segoe UI\', '
            '\'DejaVu Sans\', sans-serif" font-size="14" role="img" aria-labelledby="title text">',
            '  <title id="title">How long a client waits for one payment with an idempotency key</title>',
            f'  <desc id="text">{escape("; ".join(f"{label}: {taken[call]:.2f} ms" for call, label, *_ in BARS))}.</desc>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            '  <text class="ink bold" x="20" y="34">One payment with an idempotency key, until the client has its answer</text>',
            '  <text class="dim small" x="20" y="56">milliseconds, medians; a round trip through the network takes half a millisecond; commits '
            'are asynchronous, on all sides</text>']
    for number, (call, label, trips, side) in enumerate(BARS):
        y = TOP + STEP * number
        length = (WIDTH - LEFT - 190) * taken[call] / longest
        text += [f'  <text class="ink{" bold" if side == "ours" else ""}" x="{LEFT - 12}" y="{y + 17}" text-anchor="end">{escape(label)}</text>',
                 f'  <rect class="{side}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="4"/>',
                 f'  <text class="ink bold" x="{LEFT + length + 10:.1f}" y="{y + 17}">{taken[call]:.2f} '
                 f'<tspan class="dim small" font-weight="400">{trips} round trip{"s" if trips > 1 else ""}</tspan></text>']
    return "\n".join([*text, "</svg>"]) + "\n"
