"""`make demo`: builds, starts a throw-away server and runs sql/demo/NN_*.sql in order; `make test` runs the same, quietly.

The first five tell of the core, in full. Of the patterns built on it, the others, only the headlines are shown, unless VERBOSE=1.
"""

import os
import re
import subprocess
import time

from build import build_client, install, prepare
from common import MAIN_MAJOR, ROOT, Failure, run_main, say, step
from fetch import cdnow_path
from server import PRELOADED, Server
from suites import indent, report

# So that nobody has to watch for ten seconds.
SETTINGS = {**PRELOADED, "idempotent.sweep_interval": "'500ms'"}
CORE = 5  # scripts
# What a script says it is about, and what it has checked.
HEADLINE = re.compile(r"^== (.*) ==$", re.M)
CHECKED = re.compile(r"^ *ok  ", re.M)


def scripts():
    return sorted((ROOT / "sql" / "demo").glob("[0-9][0-9]_*.sql"))


def run_scripts(server, programs, verbose):
    """Runs every script through psql in one database; returns (passed, failed). Stops at the first failure: the story builds on itself."""
    found = scripts()
    if not found:
        raise Failure("there is no demo: sql/demo/NN_name.sql")
    server.must("CREATE DATABASE demo")
    env = server.env("demo")
    env.update(DEMO_BIN=str(programs), CDNOW=str(cdnow_path()), PAGER="cat")
    for number, script in enumerate(found):
        began = time.monotonic()
        shown = verbose and (number < CORE or os.environ.get("VERBOSE") == "1")
        if verbose and not shown and number == CORE:
            say("The patterns, a line each (in full: make demo VERBOSE=1)\n")
        command = [str(server.prefix / "bin" / "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-v", "crash=yes", "-f", str(script)]
        if not shown:
            command.insert(2, "-q")
        done = subprocess.run(command, env=env, cwd=str(ROOT), stdin=subprocess.DEVNULL, universal_newlines=True, errors="replace",
                              stdout=None if shown else subprocess.PIPE, stderr=None if shown else subprocess.STDOUT)
        ok = done.returncode == 0
        if not verbose:
            report(script.name, ok, time.monotonic() - began)
        elif ok and not shown:
            say(f"== {', '.join(HEADLINE.findall(done.stdout))} == {len(CHECKED.findall(done.stdout))} things checked, all hold")
        if not ok:
            if verbose:
                if not shown:
                    say(indent(done.stdout))
                raise Failure(f"sql/demo/{script.name} failed: psql ended with exit code {done.returncode}")
            say(indent(done.stdout))
            return number, 1
    return len(found), 0


def main():
    prepare()
    prefix = install(MAIN_MAJOR)
    programs = build_client()
    with step(f"starting a Postgres {MAIN_MAJOR} with its data in a throw-away directory"):
        server = Server(prefix, SETTINGS).start()
    try:
        say(f"    on port {server.port}, through the unix socket in {server.base}\n")
        run_scripts(server, programs, verbose=True)
    finally:
        server.stop()
    say("\n==> the demo is over; its server is stopped and its data deleted")


if __name__ == "__main__":
    run_main(main)
