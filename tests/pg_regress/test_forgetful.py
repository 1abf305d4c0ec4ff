"""Regress cases on a server that forgets what it has cached as often as it could have to: what is used afterwards all the same, or was
freed, shows. It takes a hundred times as long, and a Postgres with assertions (`make test-cassert`): so these look at everything once."""

import pytest

from server import PRELOADED

SETTINGS = {**PRELOADED, "idempotent.sweeper_enabled": "off", "debug_discard_caches": "1"}
NAMES = ("claim_transaction", "claim_lease", "complete_fail_release", "run_handlers", "commit_guard", "settle", "reset")


@pytest.mark.parametrize("name", NAMES)
def test_regress(regress, name):
    regress.check(name)


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
