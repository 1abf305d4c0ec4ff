"""Runs the history checker (tests/history): it starts, kills and deletes a server of its own."""

import os

from common import say, target_dir
from suites import indent, stream


def run_history(prefix, program, arguments, timeout):
    """One run; returns whether every promise was kept. What broke one stays below target/test-logs."""
    kept = target_dir() / "test-logs"
    kept.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PGBIN": str(prefix / "bin"), "KEEP_LOGS": str(kept / "history-")}
    command = [str(program), "--directory", str(kept), *arguments]
    return stream(command, env, lambda line: say(indent(line)), cwd=str(kept), timeout=timeout) == 0
