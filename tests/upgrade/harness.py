"""What the tests of upgrades stand on: servers whose library is replaced, that crash and come back, and sessions that stay."""

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

import older
from build import install, installed_files
from common import EXTENSION, checkout_dir, target_dir
from postgres import copy_tree
from server import PRELOADED, Server

OLD = older.VERSION
# What a call is answered when library and schema are of different versions, and what to do if it is the schema that is behind.
REFUSED = "ERROR:  library version does not match the extension's schema"
UPDATE = "HINT:  ALTER EXTENSION pg_idempotent UPDATE;"
RECONNECT = "HINT:  Reconnect. Where the library is preloaded, restart the server."
DEADLINE = 60  # seconds, for whatever is waited for
# But not that the server comes or goes.
COMPLAINT = re.compile(r"\b(?:WARNING|ERROR|FATAL|PANIC):  (?!the database system is |terminating connection )")


class Wrong(Exception):
    """What a test has found."""


class Lost(Wrong):
    """The connection is gone."""


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
def copy_of(source):
    """A prefix for the time of a test, in which files may be replaced."""
    copy = Path(tempfile.mkdtemp(prefix=f"{source.name}-upgrade-", dir=str(checkout_dir())))
    copy.chmod(0o755)
    try:
        copy_tree(source, copy)
        yield copy
    finally:
        shutil.rmtree(str(copy), ignore_errors=True)


@contextlib.contextmanager
def current_prefix(major):
    """One with the current library, and the older version's scripts beside its own."""
    with copy_of(install(major)) as prefix:
        older.add_scripts(prefix)
        yield prefix


@contextlib.contextmanager
def older_prefix(major):
    """One with the older version alone."""
    with copy_of(older.install_older(major, install(major))) as prefix:
        yield prefix


@contextlib.contextmanager
def older_cluster(current, name, preload=True):
    """A running server of the older version, of the major that `current` is of: the prefix to replace its files from."""
    with older_prefix(current.major) as prefix, Cluster(prefix, current.major, f"{name}-{current.major}", preload) as server:
        yield server


class Cluster(Server):
    """A server whose worker is in a hurry."""

    def __init__(self, prefix, major, name, preload=True, settings=None):
        settings = {**(settings or {}), **({**PRELOADED, "idempotent.sweep_interval": "100ms"} if preload else {})}
        super().__init__(prefix, settings, keep_log=target_dir() / "test-logs" / f"upgrade-{name}.log")
        self.major = major
        self.numbers = itertools.count(1)

    def replace_files(self, current):
        """What `make install` and packages do: another file takes the name; processes keep the one that they have loaded."""
        for name in installed_files(current.prefix):
            scratch = self.prefix / f"{name}.new"
            shutil.copy2(str(current.prefix / name), str(scratch))
            scratch.replace(self.prefix / name)

    def restart(self):
        self.shut_down("fast")
        self.launch()

    def database(self, version=None):
        """A new database with the extension, of the current version if none is named, and some work to do."""
        name = f"db{next(self.numbers)}"
        # The worker visits no template. In a database without the extension it would look again after a minute only.
        self.must(f"CREATE DATABASE {name} IS_TEMPLATE true")
        self.must(f"CREATE EXTENSION {EXTENSION}" + (f" VERSION '{version}'" if version else ""), name)
        self.must(f"ALTER DATABASE {name} IS_TEMPLATE false")
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

    def complaints(self, since=0, but=()):
        """What the log holds of warnings and worse, from a position on, except what is to be expected."""
        with open(self.log, errors="replace") as log:
            log.seek(since)
            return [line.rstrip() for line in log if COMPLAINT.search(line) and not any(text in line for text in but)]

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
        try:
            self.process.stdin.write(f"{sql}\n\\warn {self.END}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Lost(f"there was no connection for: {sql}") from None
        output, end = b"", time.monotonic() + DEADLINE
        while not output.endswith(f"{self.END}\n".encode()):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Wrong(f"no answer within {DEADLINE} s to: {sql}")
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                raise Lost(f"the connection was lost by: {sql}\n{output.decode()}")
            output += read
        return output.decode()[:-len(self.END) - 1].strip()

    def expect(self, sql, answer):
        same(sql, answer, self.ask(sql))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
