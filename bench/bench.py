"""`make bench`, `bench-sweep`, `bench-scale`, `bench-wal` and `bench-consumer`: a program of bench/ against a fresh server, with the environment that the test suites get."""

import contextlib
import os
import shlex
import subprocess
import sys

from build import check_rust, install, program
from common import MAIN_MAJOR, ROOT, run_main, step
from redis_server import Redis, redis_server
from server import PRELOADED, Server


def shared_buffers(script):
    """Enough for the tables at hand; for one that is larger than that a quarter of the memory, as Postgres' manual advises. For
    one that is to be ten times as large, little."""
    if script == "wal.py":
        return "'24MB'"
    if script != "scale.py":
        return "'512MB'"
    return f"'{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 4 >> 20}MB'"


def main():
    script = ROOT / "bench" / (sys.argv[1] if len(sys.argv) > 1 else "run.py")
    check_rust()
    # Only `make bench` has a rival that is no SQL.
    with_redis = script.name == "run.py"
    redis = redis_server() if with_redis else None
    prefix = install(MAIN_MAJOR)
    rivals = program("rivals") if with_redis else None
    # As durable as a real server: a commit that costs nothing would flatter whatever commits. No checkpoint of its own accord: it
    # would slow whoever has his turn.
    settings = {**PRELOADED, "shared_buffers": shared_buffers(script.name), "max_wal_size": "'16GB'", "checkpoint_timeout": "'1h'"}
    server = Server(prefix, fast=False, settings=settings)
    with step(f"starting a Postgres {MAIN_MAJOR}"):
        server.start()
    try:
        env = server.env()
        with contextlib.ExitStack() as running:
            if with_redis:
                env.update(RIVALS=str(rivals), REDIS_SOCKET=str(running.enter_context(Redis(redis)).socket),
                           REDIS_LOGGING_SOCKET=str(running.enter_context(Redis(redis, logging=True)).socket))
            return subprocess.run([sys.executable, str(script), *shlex.split(os.environ.get("ARGS", ""))], env=env, cwd=str(ROOT)).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    run_main(main)
