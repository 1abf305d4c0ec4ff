"""Random input for a real server: our own programs (tests/fuzz), each with a server of its own, and sqlsmith."""

import os
import random
import time

import logs
from build import build_fuzz, install
from common import MAIN_MAJOR, ROOT, say
from sqlsmith import run_sqlsmith
from suites import indent, report, stream

# What each part gets of a `make test`, in seconds.
PARTS = (("requests", 10), ("texts", 8), ("statements", 20), ("sqlsmith", 25))


def run_fuzz(parts, seed=None):
    """Runs the parts, (name, seconds) each; returns (passed, failed). Whoever calls looks through the logs (logs.check)."""
    prefix, program = install(MAIN_MAJOR), build_fuzz()
    seed = random.randrange(1_000_000_000) if seed is None else seed
    logs.directory().mkdir(parents=True, exist_ok=True)
    logs.clear("fuzz")
    env = {**os.environ, "PGBIN": str(prefix / "bin"), "KEEP_LOGS": str(logs.directory() / "fuzz-")}
    passed = failed = 0
    for name, length in parts:
        began = time.monotonic()
        if name == "sqlsmith":
            ok = run_sqlsmith(prefix, length, seed)
        else:
            command = [str(program), name, "--seconds", str(length), "--seed", str(seed)]
            ok = stream(command, env, lambda line: say(indent(line)), cwd=str(ROOT), timeout=length * 2 + 300) == 0
        report(f"{name}, {length} s", ok, time.monotonic() - began)
        passed, failed = passed + ok, failed + (not ok)
    return passed, failed
