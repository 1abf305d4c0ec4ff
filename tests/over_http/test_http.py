"""The conformance cases of clients/conformance over HTTP, served by a server that knows nothing but SQL."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from common import ROOT
from server import PRELOADED, free_port

SETTINGS = PRELOADED
HERE = Path(__file__).resolve().parent
# A function of SQL sends no stream and ends no process; the application in SQL has no /deferred.
WITHOUT = ("stream", "restart", "deferred")
SCRIPTS = {"transaction": ["application.sql"], "lease": ["application.sql", "lease.sql"]}


def load(path):
    spec = importlib.util.spec_from_file_location("conformance", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance = load(ROOT / "clients" / "conformance" / "run.py")


@contextmanager
def standin(server, port, database):
    """The server of HTTP, as soon as it listens."""
    env = {**os.environ, **server.env(database)}
    process = subprocess.Popen([sys.executable, str(HERE / "standin.py"), str(port)], env=env, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "the server of HTTP did not start"
                time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def databases(server):
    """{mode: its database}"""
    for mode, scripts in SCRIPTS.items():
        server.must(f"CREATE DATABASE http_{mode}")
        for script in scripts:
            server.must((HERE / script).read_text(), f"http_{mode}")
    return {mode: f"http_{mode}" for mode in SCRIPTS}


@pytest.mark.reports
@pytest.mark.parametrize("mode", SCRIPTS)
def test_http(report, server, databases, mode):
    port = free_port()
    with standin(server, port, databases[mode]):
        for name, wrong in conformance.outcomes(f"http://127.0.0.1:{port}", mode, WITHOUT):
            if wrong != "skipped":
                report(f"{mode}: {name}", wrong is None, said=wrong or "")


def request(case, key, target="/pay"):
    return {"target": target, "key": key, "content_type": "application/json", "text": "{}", "headers": {"X-Case": case}}


def effects(base, case):
    return int(conformance.Connection(base, {"method": "GET", "target": f"/effects?case={case}"}).ask().body)


def test_a_server_killed_between_handler_and_commit_has_done_nothing(server, databases):
    database = databases["transaction"]
    case, key, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
    base = f"http://127.0.0.1:{port}"
    with standin(server, port, database) as process:
        begun = conformance.Begun(conformance.Connection(base, request(case, key, f"/held?gate={case}")))
        assert conformance.Connection(base, {"method": "GET", "target": f"/gate?gate={case}"}).ask().status == 204
        process.send_signal(signal.SIGKILL)
        assert begun.end() is None
    with standin(server, port, database):
        assert effects(base, case) == 0
        assert conformance.Connection(base, {"target": f"/gate?gate={case}"}).ask().status == 204
        # The backend of the dead server may not have noticed yet.
        ask_until_done(base, case, key)
        assert effects(base, case) == 1


def ask_until_done(base, case, key):
    run = conformance.Run(base)
    run.words["{case}"] = case
    run.expect({"retry": [409], "status": 201, "headers": {"Idempotent-Replayed": None}}, None, request(case, key, f"/held?gate={case}"))


def test_work_that_ends_before_its_answer_is_taken_over_when_the_lease_has_lapsed(server, databases):
    database, case, key, port = databases["lease"], str(uuid.uuid4()), str(uuid.uuid4()), free_port()
    server.must("SELECT name FROM idempotent_operation('conformance', lease => '1 second')", database)
    base = f"http://127.0.0.1:{port}"
    with standin(server, port, database):
        begun = conformance.Begun(conformance.Connection(base, request(case, key, f"/held?gate={case}")))
        assert conformance.Connection(base, {"method": "GET", "target": f"/gate?gate={case}"}).ask().status == 204
        ended = server.must("SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.query LIKE 'CALL %'", database)
        assert ended.strip() == "1"
        assert begun.end().status == 500
        assert conformance.Connection(base, {"target": f"/gate?gate={case}"}).ask().status == 204
        ask_until_done(base, case, key)
        # The work was under way when it ended, and nobody can tell how far: it was done again.
        assert effects(base, case) == 2


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
