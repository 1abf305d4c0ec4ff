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
# A function of SQL sends no stream, and ends no process.
WITHOUT = ("stream", "restart")


def load(path):
    spec = importlib.util.spec_from_file_location("conformance", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance = load(ROOT / "clients" / "conformance" / "run.py")


@contextmanager
def standin(server, port):
    """The server of HTTP, as soon as it listens."""
    env = {**os.environ, **server.env("http")}
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
def database(server):
    server.must("CREATE DATABASE http")
    server.must((HERE / "application.sql").read_text(), "http")
    return server


@pytest.mark.reports
def test_http(report, database):
    port = free_port()
    with standin(database, port):
        for name, wrong in conformance.outcomes(f"http://127.0.0.1:{port}", without=WITHOUT):
            if wrong != "skipped":
                report(name, wrong is None, said=wrong or "")


def request(case, key, target="/pay"):
    return {"target": target, "key": key, "content_type": "application/json", "text": "{}", "headers": {"X-Case": case}}


def effects(base, case):
    return int(conformance.Connection(base, {"method": "GET", "target": f"/effects?case={case}"}).ask().body)


def test_a_server_killed_between_handler_and_commit_has_done_nothing(database):
    case, key, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
    base = f"http://127.0.0.1:{port}"
    with standin(database, port) as process:
        begun = conformance.Begun(conformance.Connection(base, request(case, key, f"/held?gate={case}")))
        assert conformance.Connection(base, {"method": "GET", "target": f"/gate?gate={case}"}).ask().status == 204
        process.send_signal(signal.SIGKILL)
        assert begun.end() is None
    with standin(database, port):
        assert effects(base, case) == 0
        assert conformance.Connection(base, {"target": f"/gate?gate={case}"}).ask().status == 204
        # The backend of the dead server may not have noticed yet.
        run = conformance.Run(base)
        run.words["{case}"] = case
        run.expect({"retry": [409], "status": 201}, None, request(case, key, f"/held?gate={case}"))
        assert effects(base, case) == 1


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
