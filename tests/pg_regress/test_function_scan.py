"""The regress cases with calls in FROM again, with each of those left to Postgres' function scan: they must print the same as with the plan
node that stands in for that (idempotent.scan_node)."""

import re

import pytest

from build import install
from common import ROOT
from server import PRELOADED, Server
from suites import scheduled

SETTINGS = {**PRELOADED, "idempotent.sweeper_enabled": "off", "idempotent.scan_node": "off"}
# `scan_node` is about the node itself, and `objects` shows the setting.
CALL = re.compile(r"\b(FROM|JOIN|LATERAL|,) idempotent_(claim|replay|run|seal|resolve)\(")
NAMES = [name for name in scheduled("pg_regress")
         if name not in ("scan_node", "objects") and CALL.search((ROOT / "tests" / "pg_regress" / "sql" / f"{name}.sql").read_text())]


@pytest.mark.parametrize("name", NAMES)
def test_regress(regress, name):
    regress.check(name)


FIRST_PLAN = r"""
CREATE EXTENSION pg_idempotent;
\c
PREPARE replayed AS SELECT outcome FROM idempotent_replay('scan', 'k');
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS off) EXECUTE replayed;
EXECUTE replayed;
EXPLAIN (COSTS off) EXECUTE replayed;
EXECUTE replayed;
EXPLAIN (COSTS off) SELECT outcome FROM idempotent_replay('scan', 'k');
SELECT outcome FROM idempotent_replay('scan', 'k');
\c
SET idempotent.scan_node = off;
SELECT outcome FROM idempotent_replay('scan', 'k');
EXPLAIN (COSTS off) SELECT outcome FROM idempotent_replay('scan', 'k');
"""


def test_a_session_without_the_library_begins_with_a_function_scan(major):
    with Server(install(major)) as server:
        said = server.must(FIRST_PLAN).split("\n")
    function_scan, node = ["Function Scan on idempotent_replay"], ["Custom Scan (IdempotentCall)", "  Function Name: idempotent_replay"]
    absent = ["absent"]
    assert [line for line in said if line] == [
        *function_scan, *absent, *function_scan, *absent, *node, *absent,
        *absent, *function_scan]


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
