"""Random input for a real server: our own programs (tests/fuzz), each with a server of its own, and sqlsmith.

Seconds in `make test`; `make fuzz` gives them MINUTES in all, and SEED repeats a run.
"""

import os
import random

import pytest

import logs
from build import install, program
from common import say
from sqlsmith import run_sqlsmith
from suites import run_program

# Seconds of a `make test`.
PARTS = {"requests": 10, "texts": 8, "statements": 20, "sqlsmith": 25}
# Of the minutes of `make fuzz` the properties of the rules get the rest.
SHARE = 0.85
MINUTES = int(os.environ.get("MINUTES") or 0)
SEED = int(os.environ.get("SEED") or random.randrange(1_000_000_000))


@pytest.mark.parametrize("name", PARTS)
def test_fuzz(major, name):
    length = round(MINUTES * 60 * SHARE * PARTS[name] / sum(PARTS.values())) or PARTS[name]
    say(f"    {length} s, seed {SEED}")
    prefix = install(major)
    if name == "sqlsmith":
        run_sqlsmith(prefix, length, SEED)
    else:
        env = {**os.environ, "PGBIN": str(prefix / "bin"), "KEEP_LOGS": str(logs.directory() / "fuzz-")}
        run_program([program("fuzz", profile="quick"), name, "--seconds", length, "--seed", SEED], env, timeout=length * 2 + 300)


from afterwards import test_server_logs_hold_nothing_harmful  # noqa: E402, F401 (the last)
