"""`make start` and `make stop`: a private server to play with, whose data lives until the stop. `make clean` deletes what was built, too."""

import json
import shutil
import sys
from pathlib import Path

import cluster
from build import check_rust, install
from common import EXTENSION, MAIN_MAJOR, cache_dir, checkout_dir, run_main, say, step, target_dir
from fetch import fetch
from server import PRELOADED, Server


def state_file():
    return checkout_dir() / "play.json"


def running():
    """The server that `make start` has left, if it is still up."""
    if not state_file().exists():
        return None
    kept = json.loads(state_file().read_text())
    server = Server(Path(kept["prefix"]))
    server.base, server.port = Path(kept["base"]), kept["port"]
    if server.base.is_dir() and server.psql("SELECT 1")[0] == 0:
        return server
    server.stop()
    state_file().unlink()
    return None


def start():
    check_rust()
    fetch(f"postgres-{MAIN_MAJOR}", "clang")
    prefix = install(MAIN_MAJOR)
    server = running()
    if server is None:
        with step(f"starting a Postgres {MAIN_MAJOR}"):
            server = Server(prefix, PRELOADED).start()
            server.must(f"CREATE EXTENSION {EXTENSION}")
            state_file().write_text(json.dumps({"prefix": str(prefix), "base": str(server.base), "port": server.port}))
    say(f"Postgres {MAIN_MAJOR} is running on port {server.port}, through the unix socket in {server.base}. To reach it:\n\n"
        f"    {prefix / 'bin' / 'psql'} -h {server.base} -p {server.port} -U postgres\n\n"
        f"The extension is in the database postgres. make stop ends it and deletes its data.")


def stop():
    server = running()
    if server is None:
        say("no server is running")
        return
    server.stop()
    state_file().unlink()
    say("stopped, and its data deleted")


def clean():
    server = running()
    if server:
        stop()
    if cluster.state_file().exists():
        cluster.stop()
    # `make faults` works in a copy below target/, which is a checkout to the tools.
    for directory in (checkout_dir((target_dir() / "faults" / "tree").resolve()), target_dir(), checkout_dir()):
        shutil.rmtree(str(directory), ignore_errors=True)
    say(f"clean. Downloads and cargo-pgrx, which other checkouts share, stay in {cache_dir()}: delete that directory to be rid of them too.")


if __name__ == "__main__":
    run_main({"start": start, "stop": stop, "clean": clean}[sys.argv[1]])
