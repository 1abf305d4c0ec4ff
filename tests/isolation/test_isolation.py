"""Races between sessions: Postgres' isolationtester tries the orders of their steps. Without preload, as an installation may."""

import pytest

from suites import scheduled


@pytest.mark.parametrize("name", scheduled("isolation"))
def test_isolation(regress, name):
    regress.check(name)


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
