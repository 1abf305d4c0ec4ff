"""Throw-away roots in which dpkg installs packages, with a Postgres in Debian's place, and clients that call it all the while."""

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from common import EXTENSION, Failure, checkout_dir, need
from debian import libraries, postgres_root, write_database
from postgres import copy_tree, main_prefix
from server import Server

# Debian 12's own Postgres; of the other major the pinned build takes its place.
RELEASE, DEBIANS_OWN = "bookworm", "15"
DEADLINE = 120  # seconds, for whatever is waited for
PINNED = """Package: {name}
Status: install ok installed
Priority: optional
Section: database
Maintainer: nobody <nobody@localhost>
Architecture: {architecture}
Version: {version}
Description: stands in
"""


class Root:
    """`with Root(major) as root:`; the same for both."""

    def __init__(self, major):
        self.major = major
        self.loader = None

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="root-", dir=str(checkout_dir())))
        self.path.chmod(0o755)
        if self.major == DEBIANS_OWN:
            copy_tree(postgres_root(RELEASE, self.major), self.path)
            self.loader = libraries(self.path)
        else:
            self.lay_pinned()
        return self

    def __exit__(self, *exception):
        shutil.rmtree(str(self.path), ignore_errors=True)

    @property
    def prefix(self):
        return self.path / "usr" / "lib" / "postgresql" / self.major

    @property
    def scripts(self):
        return self.path / "usr" / "share" / "postgresql" / self.major / "extension"

    @property
    def library(self):
        return self.prefix / "lib" / f"{EXTENSION}.so"

    def lay_pinned(self):
        """The pinned build, without our own files that its private prefix may hold."""
        copy_tree(main_prefix(self.major), self.prefix)
        for directory in ("lib", "share/extension"):
            for left in (self.prefix / directory).glob(f"{EXTENSION}*"):
                left.unlink()
        # It has its share/ beside lib/, and Debian elsewhere.
        share = self.path / "usr" / "share" / "postgresql"
        share.mkdir(parents=True)
        (share / self.major).symlink_to(self.prefix / "share")
        architecture = subprocess.run([need("dpkg", "it installs the packages", "apt-get install dpkg"), "--print-architecture"],
                                      stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout.strip()
        installed = ((f"postgresql-{self.major}", "1"), ("libc6", platform.libc_ver()[1]), ("libgcc-s1", "12"))
        write_database(self.path, "\n".join(PINNED.format(name=name, version=version, architecture=architecture) for name, version in installed))

    def dpkg(self, *arguments):
        """Root or not; no package of ours has scripts, which would be run outside of the root."""
        env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"}
        done = subprocess.run(["dpkg", f"--root={self.path}", "--force-not-root", "--no-pager", *map(str, arguments)], env=env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if done.returncode != 0:
            raise Failure(f"dpkg {' '.join(map(str, arguments))} failed:\n{done.stdout}")
        return done.stdout

    def files(self):
        """Everything in the root but dpkg's own notes."""
        found = subprocess.run(["find", ".", "-path", "./var", "-prune", "-o", "-print"], cwd=str(self.path), stdout=subprocess.PIPE,
                               universal_newlines=True, check=True).stdout
        return set(found.splitlines())

    def server(self, settings, log):
        return Server(self.prefix, settings, keep_log=log, backtrace=True, libraries=self.loader)


class Load:
    """Clients that call without a pause, and what came of it: `with Load(server) as load:`. With `reconnect` each call has a connection of its
    own, so that new backends look for the library."""

    SCRIPT = "\\set n random(1, 1000000000)\nSELECT outcome FROM idempotent_run('load', 'key-' || :n, '{}', 'work');\n"

    def __init__(self, server, reconnect):
        self.server = server
        self.script = server.base / "load.sql"
        self.command = [str(server.prefix / "bin" / "pgbench"), "-n", "-c", "2", "-j", "2", "-t", "10" if reconnect else "100", "-f", str(self.script)]
        self.command += ["-C"] if reconnect else []
        self.rounds, self.said = 0, None
        self.ended = False
        self.changed = threading.Condition()

    def __enter__(self):
        self.script.write_text(self.SCRIPT)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ended = True
        self.thread.join()

    def run(self):
        while not self.ended and self.said is None:
            done = subprocess.run(self.command, env=self.server.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  universal_newlines=True)
            with self.changed:
                if done.returncode != 0 or "ERROR" in done.stdout:
                    self.said = done.stdout
                self.rounds += 1
                self.changed.notify_all()

    def goes_on(self):
        """Waits for a whole round that begins after now, and fails if a call has."""
        with self.changed:
            until = self.rounds + 2
            assert self.changed.wait_for(lambda: self.said is not None or self.rounds >= until, DEADLINE), "the clients stand still"
        assert self.said is None, f"a call failed:\n{self.said}"


@contextlib.contextmanager
def running(root, settings, log):
    """A server with the extension in its database postgres, and something for clients to call."""
    with root.server(settings, log) as server:
        server.must(f"CREATE EXTENSION {EXTENSION};"
                    "CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '{\"done\": true}'; END $$")
        yield server
