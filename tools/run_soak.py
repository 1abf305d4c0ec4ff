"""`make soak`: the history checker with faults, for MINUTES; ARGS are handed on, e.g. ARGS="--seed 7"."""

import os
import shlex

from build import build_history, install, prepare
from common import MAIN_MAJOR, Failure, run_main, say
from history import run_history


def main():
    minutes = os.environ.get("MINUTES") or "30"
    if not minutes.isdigit() or int(minutes) < 1:
        raise Failure(f"MINUTES={minutes}: a whole number of minutes is needed")
    prepare()
    prefix, program = install(MAIN_MAJOR), build_history()
    say(f"==> {minutes} min of clients and faults on Postgres {MAIN_MAJOR}")
    # Half as long again for what is not in the minutes: closing, checking, showing.
    kept = run_history(prefix, program, ["--seconds", str(int(minutes) * 60), *shlex.split(os.environ.get("ARGS", ""))],
                       timeout=int(minutes) * 90 + 300)
    say("==> every promise was kept" if kept else "==> FAILED")
    return 0 if kept else 1


if __name__ == "__main__":
    run_main(main)
