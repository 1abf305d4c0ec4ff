"""The kit of monitoring/: queries that a monitor may ask, and alerts and panels that name what those give."""

import json
import re
import textwrap

METRIC = re.compile(r"\bpg_idempotent_\w+")
RUNBOOK = re.compile(r"runbook: (docs/operating\.md)#([a-z-]+)")


def queries(text):
    """{name: SQL} of a collector of sql_exporter."""
    found = re.findall(r"^  - query_name: (\w+)\n    query: \|\n((?:      .*\n)+)", text, re.M)
    return {name: textwrap.dedent(body) for name, body in found}


def metrics(text):
    """{name: (query, columns)}: what each metric takes from its query."""
    found = {}
    for part in text.partition("\nqueries:\n")[0].split("  - metric_name: ")[1:]:
        lists = dict(re.findall(r"^    (key_labels|values): \[(.*)\]$", part, re.M))
        columns = [name for names in lists.values() for name in names.split(", ")]
        found[part.split("\n")[0]] = (re.search(r"query_ref: (\w+)", part).group(1), columns)
    return found


def check_kit(root, ask):
    """`ask` runs SQL as a monitor, and returns the names of the columns, or fails."""
    kit = root / "monitoring"
    collector, alerts, board = ((kit / name).read_text() for name in ("pg_idempotent.collector.yml", "alerts.yml", "grafana.json"))
    known, asked, results = metrics(collector), queries(collector), []
    for name, sql in asked.items():
        columns, error = ask(sql)
        missing = [] if error else [column for _, (query, wanted) in known.items() if query == name for column in wanted if column not in columns]
        results.append((not error and not missing, "answers a monitor", f"monitoring: {name}", [error] + missing))
    for metric, (query, _) in known.items():
        results.append((query in asked, "has a query", f"monitoring: {metric}", [query]))
    for file, text in (("alerts.yml", alerts), ("grafana.json", json.dumps([panel["targets"] for panel in json.loads(board)["panels"]]))):
        named = set(METRIC.findall(text))
        results.append((bool(named) and named <= set(known), "names metrics that there are", f"monitoring: {file}", sorted(named - set(known))))
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", (root / "docs" / "operating.md").read_text(), re.M)}
    books = RUNBOOK.findall(alerts)
    gone = [anchor for _, anchor in books if anchor not in headings]
    results.append((len(books) == len(re.findall(r"- alert: ", alerts)) and not gone, "says what to do for each alert", "monitoring: alerts.yml", gone))
    return results
