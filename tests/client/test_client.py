"""Suites on real connections, some of them to servers of their own."""

import os

import pytest

import debian
import demos
import logs
from common import say
from server import PRELOADED
from suites import indent, run_cargo

SETTINGS = PRELOADED


@pytest.mark.reports
def test_client(report, server, major, wanted):
    figures = logs.directory() / f"client-{major}.figures"
    figures.unlink(missing_ok=True)
    env = {**os.environ, **server.env(), **demos.storm(), "PGBOUNCER": str(debian.pgbouncer()), "FIGURES": str(figures),
           "KEEP_LOGS": str(logs.directory() / f"client-{major}-")}
    # One at a time: some of them take the server down.
    env.setdefault("RUST_TEST_THREADS", "1")
    # client/FILE::FUNCTION is one test, client/FILE all of a file.
    names = [name.replace("/", "::") + ("" if "::" in name else "::") for name in wanted]
    run_cargo(["test", "--profile", "quick", "--locked", "-p", "client", "--no-fail-fast", "--", *names], env, report)
    if figures.exists():
        say(indent(figures.read_text()))


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
