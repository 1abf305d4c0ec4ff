"""The kit of monitoring/: queries that a monitor may ask, and alerts and panels that name what those give."""

import json
import re

import collector
import promql

METRIC = re.compile(r"\bpg_idempotent_\w+")
RUNBOOK = re.compile(r"runbook: (docs/operating\.md)#([a-z-]+)")


def what_is_wrong(target, known):
    """Of an expression of the board, computed from a series with each label of each metric; or of the labels its legend names."""
    def at(name, ago):
        metric = known[name]
        rows = [{**{key: "1" for key in metric.keys}, **{value: 2 - ago / 3600 for value in metric.values}}]
        return metric.series(rows)
    try:
        found = promql.parse(target["expr"])(at)
    except (ValueError, KeyError) as error:
        return f"{target['expr']}: {error!r}"
    labels = {label for series in found for label, _ in series}
    legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"instance"}
    return "" if found and legend <= labels else f"{target['expr']}: computes {found}, and the legend names {sorted(legend)}"


def check_kit(root, ask):
    """`ask` runs SQL as a monitor, and returns the names of the columns, or fails."""
    kit = root / "monitoring"
    alerts, board = ((kit / name).read_text() for name in ("alerts.yml", "grafana.json"))
    known, asked, results = collector.metrics(), collector.queries(), []
    for name, sql in asked.items():
        columns, error = ask(sql)
        missing = [] if error else [column for metric in known.values() if metric.query == name for column in metric.keys + metric.values if column not in columns]
        results.append((not error and not missing, "answers a monitor", f"monitoring: {name}", [error] + missing))
    for name, metric in known.items():
        results.append((metric.query in asked, "has a query", f"monitoring: {name}", [metric.query]))
    for panel in json.loads(board)["panels"]:
        for target in panel["targets"]:
            wrong = what_is_wrong(target, known)
            results.append((not wrong, "computes what there is", f"monitoring: {panel['title']}", [wrong]))
    for file, text in (("alerts.yml", alerts), ("grafana.json", json.dumps([panel["targets"] for panel in json.loads(board)["panels"]]))):
        named = set(METRIC.findall(text))
        results.append((bool(named) and named <= set(known), "names metrics that there are", f"monitoring: {file}", sorted(named - set(known))))
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", (root / "docs" / "operating.md").read_text(), re.M)}
    books = RUNBOOK.findall(alerts)
    gone = [anchor for _, anchor in books if anchor not in headings]
    results.append((len(books) == len(re.findall(r"- alert: ", alerts)) and not gone, "says what to do for each alert", "monitoring: alerts.yml", gone))
    return results
