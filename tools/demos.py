"""`make demo`: a throw-away server, and the scripts sql/demo/NN_*.sql in order; `make test` runs the same, quietly.

The first five tell of the core, in full. Of the patterns built on it only the headlines are shown, unless VERBOSE=1.
"""

import os
import re
import subprocess

from build import check_rust, install, program
from common import MAIN_MAJOR, ROOT, Failure, run_main, say, step
from fetch import cdnow_path, fetch
from server import PRELOADED, Server

# So that nobody has to watch for ten seconds.
SETTINGS = {**PRELOADED, "idempotent.sweep_interval": "'500ms'"}
CORE = 5  # scripts
# What a script says it is about, and what it has checked.
HEADLINE = re.compile(r"^== (.*) ==$", re.M)
CHECKED = re.compile(r"^ *ok  ", re.M)


def scripts():
    return sorted((ROOT / "sql" / "demo").glob("[0-9][0-9]_*.sql"))


def storm():
    """What the scripts are told of the storm: its program and its data."""
    return {"DEMO_BIN": str(program("client", "storm", "quick")), "CDNOW": str(cdnow_path()), "PAGER": "cat"}


def play(server, script, told, shown):
    """Runs a script through psql in the database `demo`; returns whether all went well, and what it printed if it was not shown."""
    command = [str(server.prefix / "bin" / "psql"), "-X", *([] if shown else ["-q"]), "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-v", "crash=yes",
               "-f", str(script)]
    done = subprocess.run(command, env={**server.env("demo"), **told}, cwd=str(ROOT), stdin=subprocess.DEVNULL, universal_newlines=True,
                          errors="replace", stdout=None if shown else subprocess.PIPE, stderr=None if shown else subprocess.STDOUT)
    return done.returncode == 0, done.stdout or ""


def show(server, told):
    verbose = os.environ.get("VERBOSE") == "1"
    server.must("CREATE DATABASE demo")
    for number, script in enumerate(scripts()):
        shown = number < CORE or verbose
        if number == CORE and not verbose:
            say("The patterns, a line each (in full: make demo VERBOSE=1)\n")
        ok, printed = play(server, script, told, shown)
        if not ok:
            raise Failure(f"{printed}\nsql/demo/{script.name} failed")
        if not shown:
            say(f"== {', '.join(HEADLINE.findall(printed))} == {len(CHECKED.findall(printed))} things checked, all hold")


def main():
    check_rust()
    fetch(f"postgres-{MAIN_MAJOR}", "clang", "cdnow")
    prefix = install(MAIN_MAJOR)
    with step("building the storm of the demo"):
        told = storm()
    with step(f"starting a Postgres {MAIN_MAJOR} with its data in a throw-away directory"):
        server = Server(prefix, SETTINGS).start()
    try:
        say(f"    on port {server.port}, through the unix socket in {server.base}\n")
        show(server, told)
    finally:
        server.stop()
    say("\n==> the demo is over; its server is stopped and its data deleted")


if __name__ == "__main__":
    run_main(main)
