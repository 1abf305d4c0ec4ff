"""The scenarios of clients/conformance against the middleware: in both modes, directly and through PgBouncer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import HERE, Pooler, Served

RUNNER = HERE.parents[1] / "conformance" / "run.py"


def run(dsn: str, mode: str, tries: Path, **env: str) -> None:
    with Served("app:app", HERE / "conformance", DSN=dsn, MODE=mode, TRIES=str(tries), **env) as base:
        done = subprocess.run([sys.executable, str(RUNNER), base, "--mode", mode], capture_output=True, text=True, timeout=200)
    print(done.stdout[-10000:], done.stderr[-3000:])
    assert done.returncode == 0
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 40


@pytest.mark.parametrize("mode", ["transaction", "lease"])
def test_scenarios(mode: str, dsn: str, tmp_path: Path) -> None:
    run(dsn, mode, tmp_path)


@pytest.mark.skipif("PGBOUNCER" not in os.environ, reason="PGBOUNCER names no program")
@pytest.mark.parametrize("prepared", [0, 100])
@pytest.mark.parametrize("mode", ["transaction", "lease"])
def test_scenarios_through_pgbouncer(mode: str, prepared: int, dsn: str, tmp_path: Path) -> None:
    with Pooler(dsn, prepared, tmp_path) as pooled:
        run(pooled, mode, tmp_path, PREPARED=str(prepared))
