"""The public face: pg_regress compares what psql prints with tests/pg_regress/expected."""

import pytest

from server import PRELOADED
from suites import scheduled

# Nobody sweeps behind the back of what counts rows.
SETTINGS = {**PRELOADED, "idempotent.sweeper_enabled": "off"}


@pytest.mark.parametrize("name", scheduled("pg_regress"))
def test_regress(regress, name):
    regress.check(name)


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
