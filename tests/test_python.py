"""The client for Python: its types and style, its packages, and its own tests against a server of this layer."""

import os
import re
import subprocess

import pytest

import debian
from common import ROOT
from in_venv import interpreter
from server import PRELOADED
from suites import Stream, run_program

SETTINGS = PRELOADED
CLIENT = ROOT / "clients" / "python"
RESULT = re.compile(r"^(?P<name>\S+\.py::.+?) (?P<result>PASSED|FAILED|ERROR)\b")


@pytest.fixture(scope="module")
def python():
    return interpreter("python")


@pytest.fixture(scope="module")
def env(server):
    return {**os.environ, **server.env(), "PYTHONPATH": str(CLIENT / "src"), "PGBOUNCER": str(debian.pgbouncer())}


def test_types_and_style(python):
    for tool in (["mypy"], ["ruff", "check", "--no-cache", "."], ["ruff", "format", "--no-cache", "--check", "."]):
        run_program([python, "-m", *tool], os.environ, CLIENT)


def test_wheel_and_sdist(python, tmp_path):
    """What a new user installs has the types, and can be imported with psycopg alone."""
    for target in ("wheel", "sdist"):
        run_program([python, "-m", "hatchling", "build", "-t", target, "-d", tmp_path], os.environ, CLIENT)
    wheel, = tmp_path.glob("*.whl")
    inside = subprocess.run([python, "-m", "zipfile", "-l", wheel], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    assert "pg_idempotent/py.typed" in inside and "pg_idempotent/sql.py" in inside
    program = "import sys, pg_idempotent; sys.exit(any(m in sys.modules for m in ('starlette', 'sqlalchemy', 'asyncpg', 'django', 'pytest')))"
    run_program([python, "-c", program], {**os.environ, "PYTHONPATH": str(wheel)}, tmp_path)


@pytest.mark.reports
def test_client(report, python, env, wanted):
    # python/FILE::FUNCTION is one test, python/FILE all of a file.
    names = [f"tests/{name.partition('::')[0]}.py{name[len(name.partition('::')[0]):]}" for name in wanted] or ["tests"]
    with Stream([python, "-m", "pytest", "-v", "-p", "pg_idempotent.testing", "--tb=short", "--durations=5", *names], env, CLIENT, 600) as lines:
        said = []
        for line in lines:
            said.append(line)
            found = RESULT.match(line)
            if found:
                file, _, name = found["name"].partition("::")
                file = file.rpartition("/")[2].replace(".py", "")
                report(f"{file}::{name}", found["result"] == "PASSED", 0.0, "see below")
    if lines.code != 0:
        print("\n".join(said))
    assert lines.code == 0


from afterwards import test_server_logs_hold_nothing_harmful, test_tables_and_indexes_are_intact  # noqa: E402, F401 (the last)
