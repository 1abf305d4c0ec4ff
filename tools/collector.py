"""monitoring/pg_idempotent.collector.yml, as sql_exporter reads it: queries, and the metrics that are made of their rows."""

import re
import textwrap
from typing import NamedTuple

from common import ROOT
from promql import Series

KIT = ROOT / "monitoring"


class Metric(NamedTuple):
    query: str
    keys: list
    value_label: str
    values: list

    def series(self, rows):
        """What the rows of its query say."""
        found = Series()
        for row in rows:
            labels = [(key, row[key]) for key in self.keys]
            for value in self.values:
                more = [(self.value_label, value)] if self.value_label else []
                found[frozenset(labels + more)] = float(row[value])
        return found


def text():
    return (KIT / "pg_idempotent.collector.yml").read_text()


def queries():
    """{name: SQL}"""
    found = re.findall(r"^  - query_name: (\w+)\n    query: \|\n((?:      .*\n)+)", text(), re.M)
    return {name: textwrap.dedent(body) for name, body in found}


def metrics():
    """{name: Metric}"""
    found = {}
    for part in text().partition("\nqueries:\n")[0].split("  - metric_name: ")[1:]:
        lists = {name: names.split(", ") for name, names in re.findall(r"^    (key_labels|values): \[(.*)\]$", part, re.M)}
        label = re.search(r"^    value_label: (\w+)$", part, re.M)
        found[part.split("\n")[0]] = Metric(re.search(r"query_ref: (\w+)", part).group(1), lists.get("key_labels", []),
                                            label and label.group(1), lists["values"])
    return found
