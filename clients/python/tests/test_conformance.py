"""The scenarios of clients/conformance against Starlette's middleware and Django's decorator, directly and through PgBouncer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import HERE, Pooler, Served, asgi

RUNNER = HERE.parents[1] / "conformance" / "run.py"
APPLICATIONS = {
    "starlette": asgi("app:app", HERE / "conformance"),
    "django": lambda port: [sys.executable, str(HERE / "conformance" / "django_app.py"), str(port)],
}


def run(dsn: str, framework: str, mode: str, tries: Path, **env: str) -> None:
    with Served(APPLICATIONS[framework], DSN=dsn, MODE=mode, TRIES=str(tries), **env) as base:
        done = subprocess.run([sys.executable, str(RUNNER), base, "--mode", mode], capture_output=True, text=True, timeout=200)
    print(done.stdout[-10000:], done.stderr[-3000:])
    assert done.returncode == 0
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 50


@pytest.mark.parametrize("mode", ["transaction", "lease"])
@pytest.mark.parametrize("framework", APPLICATIONS)
def test_scenarios(framework: str, mode: str, dsn: str, tmp_path: Path) -> None:
    run(dsn, framework, mode, tmp_path)


# Django prepares no statements.
@pytest.mark.skipif("PGBOUNCER" not in os.environ, reason="PGBOUNCER names no program")
@pytest.mark.parametrize(
    ("framework", "prepared", "mode"),
    [*(("starlette", prepared, mode) for prepared in (0, 100) for mode in ("transaction", "lease")), ("django", 0, "transaction")],
)
def test_scenarios_through_pgbouncer(framework: str, prepared: int, mode: str, dsn: str, tmp_path: Path) -> None:
    with Pooler(dsn, prepared, tmp_path) as pooled:
        run(pooled, framework, mode, tmp_path, PREPARED=str(prepared))
