"""What the tests of upgrades stand on: servers that know the previous version, that crash and come back, and sessions that stay."""

import contextlib
import itertools
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from build import install
from common import EXTENSION, checkout_dir, target_dir
from prefix import link_or_copy
from server import PRELOADED, Server

HERE = Path(__file__).resolve().parent
OLD = "0.1.0"
DEADLINE = 60  # seconds, for whatever is waited for
# But not that the server comes or goes.
COMPLAINT = re.compile(r"\b(?:WARNING|ERROR|FATAL|PANIC):  (?!the database system is |terminating connection )")


class Wrong(Exception):
    """What a test has found."""


def same(what, expected, got):
    if got != expected:
        raise Wrong(f"{what}\nexpected: {expected}\ngot:      {got}")


def wait_until(what, condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise Wrong(f"waited {DEADLINE} s in vain until {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def prefix_of_both(major):
    """A copy of the private prefix, for the time of the tests, with the previous version's script in it."""
    source = install(major)
    copy = Path(tempfile.mkdtemp(prefix=f"{source.name}-upgrade-", dir=str(checkout_dir())))
    copy.chmod(0o755)
    try:
        shutil.copytree(str(source), str(copy), symlinks=True, copy_function=link_or_copy, dirs_exist_ok=True)
        shutil.copy(str(HERE / f"{EXTENSION}--{OLD}.sql"), str(copy / "share" / "extension"))
        yield copy
    finally:
        shutil.rmtree(str(copy), ignore_errors=True)


class Cluster(Server):
    """A server whose worker is in a hurry."""

    def __init__(self, prefix, name):
        super().__init__(prefix, {**PRELOADED, "idempotent.sweep_interval": "100ms"},
                         keep_log=target_dir() / "test-logs" / f"upgrade-{name}.log")
        self.numbers = itertools.count(1)

    def database(self, version=None):
        """A new database with the extension, of the current version if none is named, and some work to do."""
        name = f"db{next(self.numbers)}"
        self.must(f"CREATE DATABASE {name}")
        self.must(f"CREATE EXTENSION {EXTENSION}" + (f" VERSION '{version}'" if version else ""), name)
        self.must("CREATE TABLE effect (request jsonb);"
                  "CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS "
                  "'INSERT INTO effect VALUES (request); SELECT ''{\"done\": true}''::jsonb'", name)
        return name

    def update(self, database):
        """Must end while claims are open; one that waited for them would never."""
        self.must(f"SET statement_timeout = '{DEADLINE}s'; ALTER EXTENSION {EXTENSION} UPDATE", database)

    def value(self, sql, database):
        return self.must(sql, database).strip()

    def crash(self):
        self.shut_down("immediate")
        self.launch()

    def client(self, program, *arguments):
        """One of Postgres' programs, connected to this server."""
        self.run(program, "-h", self.base, "-p", self.port, "-U", "postgres", *arguments)

    def position(self):
        return self.log.stat().st_size

    def complaints(self, since=0):
        """What the log holds of warnings and worse, from a position on."""
        with open(self.log, errors="replace") as log:
            log.seek(since)
            return [line.rstrip() for line in log if COMPLAINT.search(line)]

    def clear(self):
        """Drops what a test has made, so that the next one is alone."""
        for name in self.must("SELECT datname FROM pg_database WHERE datname LIKE 'db%'").split():
            self.must(f"DROP DATABASE {name} WITH (FORCE)")
        # Or recovery from the next crash drops them again, and warns that they are gone.
        self.must("CHECKPOINT")


class Session:
    """A connection that stays, through psql. What it says includes warnings and errors."""

    END = "-- that was all --"

    def __init__(self, server, database):
        command = [str(server.prefix / "bin" / "psql"), "-X", "-q", "-A", "-t"]
        self.process = subprocess.Popen(command, env=server.env(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)

    def ask(self, sql):
        """Runs SQL, and returns what psql prints."""
        self.process.stdin.write(f"{sql}\n\\warn {self.END}\n".encode())
        self.process.stdin.flush()
        output, end = b"", time.monotonic() + DEADLINE
        while not output.endswith(f"{self.END}\n".encode()):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Wrong(f"no answer within {DEADLINE} s to: {sql}")
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                raise Wrong(f"the connection was lost by: {sql}\n{output.decode()}")
            output += read
        return output.decode()[:-len(self.END) - 1].strip()

    def expect(self, sql, answer):
        same(sql, answer, self.ask(sql))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
