"""The scenarios of clients/conformance against the middleware, in both modes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers import HERE, Served

RUNNER = HERE.parents[1] / "conformance" / "run.py"


@pytest.mark.parametrize("mode", ["transaction", "lease"])
def test_scenarios(mode: str, dsn: str, tmp_path: Path) -> None:
    with Served("app:app", HERE / "conformance", DSN=dsn, MODE=mode, TRIES=str(tmp_path)) as base:
        done = subprocess.run([sys.executable, str(RUNNER), base, "--mode", mode], capture_output=True, text=True, timeout=200)
    print(done.stdout[-10000:], done.stderr[-3000:])
    assert done.returncode == 0
