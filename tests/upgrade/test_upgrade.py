"""Tests of what comes between two versions, of the extension and of Postgres.

There is one version so far. What an update starts from is a version that never was: older.py makes it of today's.

On the main major: libraries and schemas that do not match, updates of busy servers, dumps, templates,
logical replication. On every major: whether an
updated schema is like a new one. pg_upgrade from 15 to 17 and from 17 to 18.
"""

import pytest

import copies
import moving
import pg_upgrade
import schema
import update
from common import MAIN_MAJOR
from harness import Cluster, Wrong, current_prefix

ON_A_SERVER = {f"{module.__name__}::{test.__name__}": test for module in (schema, update, copies, moving) for test in module.TESTS}
BETWEEN_MAJORS = {f"pg_upgrade::{test.__name__}": test for major in pg_upgrade.FROM for test in pg_upgrade.tests(major)}


@pytest.fixture(scope="module")
def server(request, major):
    with current_prefix(major) as prefix, Cluster(prefix, major, major) as running:
        request.config.servers.append(running)
        yield running
        request.config.servers.remove(running)


def check(test, *arguments):
    try:
        test(*arguments)
    except Wrong as found:
        pytest.fail(str(found), pytrace=False)


def is_for(name, major):
    """Which tests run on which majors."""
    if name in BETWEEN_MAJORS:
        return BETWEEN_MAJORS[name] in pg_upgrade.tests(major) if major in pg_upgrade.FROM else False
    return major == MAIN_MAJOR or ON_A_SERVER[name] in schema.TESTS


@pytest.mark.parametrize("name", ON_A_SERVER)
def test_upgrade(server, name):
    check(ON_A_SERVER[name], server)
    check(server.clear)


@pytest.mark.parametrize("name", BETWEEN_MAJORS)
def test_pg_upgrade(major, name):
    check(BETWEEN_MAJORS[name], major)


from afterwards import test_server_logs_hold_nothing_harmful  # noqa: E402, F401 (the last)
