"""`make board-picture`: the board of monitoring/grafana.json as docs/board.svg, from real figures. A server of our own is given a load for a minute and a
half, the collector's queries are asked every second, and the board's expressions are computed from what they say."""

import csv
import io
import json
import re
import subprocess
import time

import chart
import collector
import promql
from build import install
from common import MAIN_MAJOR, ROOT, run_main, say
from server import PRELOADED, Server

PICTURE = ROOT / "docs" / "board.svg"
# A board looks at hours, and its rates at five minutes.
SECONDS, SHORTER = 90, 60
SETTINGS = {**PRELOADED, "idempotent.sweep_interval": "'2s'", "idempotent.audit_retention": "'1h'"}
SCHEMA = """
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION charge(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN '{"paid": true}'; END $$;
SELECT FROM idempotent_operation('charge', retention => '40 seconds', durability => 'logged');
SELECT FROM idempotent_operation('card', retention => '1 minute', durability => 'logged');
SELECT FROM idempotent_operation('seat', durability => 'logged');
SELECT FROM idempotent_operation('webhook', durability => 'logged', mode => 'observe');
"""
# What callers do: new purchases, retries, callers of one seat, workers that die, and a client that uses a key again for something else.
CALLS = {
    "pay": "\\set n random(1, 1000000000)\nSELECT outcome FROM idempotent_run('charge', 'order-' || :n, '{\"amount\": 5}', 'charge');\n",
    "again": "\\set n random(1, 60)\nSELECT outcome FROM idempotent_run('charge', 'order-' || :n, '{\"amount\": 5}', 'charge');\n",
    "seat": ("\\set n random(1, 2)\nBEGIN;\nSELECT outcome FROM idempotent_claim('seat', 'seat-' || :n, wait => '10 s');\nSELECT pg_sleep(0.03);\n"
             "SELECT idempotent_release('seat', 'seat-' || :n);\nCOMMIT;\n"),
    "die": "\\set n random(1, 15)\nSELECT outcome FROM idempotent_claim('card', 'card-' || :n, lease => '2 seconds', wait => '0');\n",
    "mix_up": "\\set n random(1, 60)\nSELECT outcome FROM idempotent_run('charge', 'order-' || :n, '{\"amount\": 7}', 'charge');\n",
}
# (from, to, what, clients, calls a second)
PLAN = ((0, 90, "pay", 2, 40), (0, 90, "again", 2, 12), (0, 90, "die", 1, 4), (25, 55, "again", 4, 60), (45, 75, "seat", 6, 30), (60, 70, "mix_up", 1, 3))


def ask(server, sql):
    return list(csv.DictReader(io.StringIO(server.must(f"\\pset format csv\n\\pset tuples_only off\n{sql}"))))


def sample(server, asked, known):
    """{metric: series} now."""
    rows = {name: ask(server, sql) for name, sql in asked.items()}
    return {name: metric.series(rows[metric.query]) for name, metric in known.items()}


def load(server, what, clients, rate, seconds):
    script = server.base / f"{what}.sql"
    script.write_text(CALLS[what])
    command = [server.prefix / "bin" / "pgbench", "-n", "-c", clients, "-j", 1, "-R", rate, "-T", seconds, "-f", script]
    return subprocess.Popen([str(word) for word in command], env=server.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def history(server):
    """A sample for each second of the plan."""
    asked, known, samples, programs = collector.queries(), collector.metrics(), [], []
    began = time.monotonic()
    waiting = sorted(PLAN)
    while len(samples) < SECONDS:
        while waiting and waiting[0][0] <= len(samples):
            since, until, *call = waiting.pop(0)
            programs.append(load(server, *call, until - since))
        samples.append(sample(server, asked, known))
        time.sleep(max(0, began + len(samples) - time.monotonic()))
    for program in programs:
        program.wait()
    return samples


def panel_picture(panel, samples):
    def at_time(place):
        return lambda metric, ago: samples[max(0, place - round(ago))].get(metric, {})
    if panel["type"] == "table":
        found = promql.parse(panel["targets"][0]["expr"])(at_time(len(samples) - 1))
        return chart.rows(sorted(f"{dict(labels)['severity']}: {dict(labels)['problem']}, {value:.0f}" for labels, value in found.items()))
    curves = {}
    for target in panel["targets"]:
        expression = promql.parse(target["expr"], SHORTER)
        for place in range(len(samples)):
            for labels, value in expression(at_time(place)).items():
                name = re.sub(r"\{\{(\w+)\}\}", lambda label: dict(labels).get(label.group(1), ""), target["legendFormat"]).strip(" ,") or "this server"
                curves.setdefault(name, [None] * len(samples))[place] = value
    shown = {name: values for name, values in sorted(curves.items()) if any(values)}
    return chart.lines(shown, panel["fieldConfig"]["defaults"]["unit"])


def picture():
    panels = json.loads((collector.KIT / "grafana.json").read_text())["panels"]
    with Server(install(MAIN_MAJOR), SETTINGS) as server:
        server.must(SCHEMA)
        samples = history(server)
    parts = [(panel["title"], panel["gridPos"]["x"], panel["gridPos"]["y"], panel_picture(panel, samples)) for panel in panels]
    PICTURE.write_text(chart.board("The board of monitoring/grafana.json", f"Figures of {SECONDS} seconds on a server with a scripted load (make board-picture); "
                                   "a rate is over five seconds, where the board takes five minutes.", parts))
    say(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    run_main(picture)
