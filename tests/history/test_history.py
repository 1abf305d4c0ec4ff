"""The history checker: clients and faults, and the proof that no promise was broken. It starts, kills and deletes a server of its own.

`make soak` is one run of MINUTES, on NODES; ARGS are handed on.
"""

import os
import shlex

import pytest

import logs
from build import install, program
from suites import SUITE_TIMEOUT, run_cargo, run_program

# Name: seconds, faults, mix, nodes.
RUNS = {"everything": (60, "all", "everything", 1), "calm": (20, "none", "everything", 1), "leases": (20, "all", "leases", 1),
        "nodes": (20, "all", "everything", 3)}
NODES = os.environ.get("NODES") or "1"
MINUTES = int(os.environ.get("MINUTES") or 0)
# A soak is long enough to be worth it.
PROFILE = "release" if MINUTES else "quick"


@pytest.mark.reports
@pytest.mark.skipif(MINUTES > 0, reason="make soak")
def test_planted(report, major, wanted):
    """That the checker finds what is planted in histories."""
    if wanted:
        pytest.skip("one run is wanted")
    run_cargo(["test", "--profile", "quick", "--locked", "-p", "history"], dict(os.environ), report)


@pytest.mark.parametrize("name", ["soak"] if MINUTES else RUNS)
def test_history(major, name):
    if name == "soak":
        # Half as long again for what is not in the minutes: closing, checking, showing.
        arguments, timeout = ["--seconds", str(MINUTES * 60), "--nodes", NODES, *shlex.split(os.environ.get("ARGS", ""))], MINUTES * 90 + 300
    else:
        seconds, faults, mix, nodes = RUNS[name]
        arguments = ["--seconds", str(seconds), "--faults", faults, "--mix", mix, "--nodes", str(nodes), *shlex.split(os.environ.get("ARGS", ""))]
        timeout = SUITE_TIMEOUT
    env = {**os.environ, "PGBIN": str(install(major) / "bin"), "KEEP_LOGS": str(logs.directory() / "history-")}
    run_program([program("history", profile=PROFILE), "--directory", logs.directory(), *arguments], env, logs.directory(), timeout)


from afterwards import test_server_logs_hold_nothing_harmful  # noqa: E402, F401 (the last)
