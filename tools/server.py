"""A Postgres server of our own: data in a throw-away directory, reachable only through its unix socket, run by `nobody` when we are root."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from common import EXTENSION, Failure

# Durability is of no use to a cluster that is deleted in a minute.
FAST = {"fsync": "off", "full_page_writes": "off"}
SETTINGS = {"max_connections": "150", "max_prepared_transactions": "20", "listen_addresses": "''",
            "log_line_prefix": "'%m [%p] %q%a '", "max_wal_size": "'2GB'"}
# For what needs the server's memory or workers.
PRELOADED = {"shared_preload_libraries": f"'{EXTENSION}'"}
SOCKET_LIMIT = 100  # bytes; the kernel allows 107 for the whole name


def server_user():
    """Arguments for subprocess: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_base():
    """A directory of the server's user, with a path short enough for a socket."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if os.path.isdir(parent) and len(os.fsencode(parent)) + len("/pgi-12345678/.s.PGSQL.12345") < SOCKET_LIMIT:
            base = Path(tempfile.mkdtemp(prefix="pgi-", dir=parent))
            user = server_user()
            if user:
                os.chown(str(base), user["user"], user["group"])
            return base
    raise Failure("no temporary directory with a path short enough for a unix socket: set TMPDIR to one")


def client_env(prefix, base, port, database="postgres"):
    """What psql, the suites and the demos get; nothing of the caller's PG* variables survives."""
    env = {k: v for k, v in os.environ.items() if not re.fullmatch(r"PG[A-Z]+", k)}
    env.update(PGHOST=str(base), PGPORT=str(port), PGUSER="postgres", PGDATABASE=database, PGBIN=str(prefix / "bin"),
               PGAPPNAME="pg_idempotent", PATH=f"{prefix / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}")
    return env


class Server:
    """`with Server(prefix) as server:` or start() and stop()."""

    def __init__(self, prefix, settings=None, fast=True, keep_log=None, backtrace=False, libraries=None):
        self.prefix = prefix
        # Where the loader looks first, for a Postgres that brings its libraries along.
        self.loader = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        self.backtrace = "1" if backtrace else "0"
        self.settings = {**SETTINGS, **(FAST if fast else {}), **(settings or {})}
        self.keep_log = keep_log
        self.base = None
        self.port = None

    @property
    def data(self):
        return self.base / "data"

    @property
    def log(self):
        return self.base / "server.log"

    def run(self, program, *arguments, check=True):
        """Runs one of Postgres' programs as the server's user."""
        env = {k: v for k, v in os.environ.items() if not re.fullmatch(r"PG[A-Z]+", k) and not k.startswith("LC_")}
        env.update(HOME=str(self.base), LANG="C", LC_ALL="C", RUST_BACKTRACE=self.backtrace, **self.loader)
        # Not a pipe: the postmaster inherits it, and we would wait for its end.
        with tempfile.TemporaryFile("w+") as out:
            code = subprocess.run([str(self.prefix / "bin" / program), *map(str, arguments)], cwd=str(self.base), env=env,
                                  stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **server_user()).returncode
            out.seek(0)
            text = out.read()
        if check and code != 0:
            tail = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
            raise Failure(f"{program} failed with exit code {code}:\n{text}{tail}")
        return code

    def start(self):
        self.create()
        try:
            self.launch()
        except BaseException:
            self.stop()
            raise
        return self

    def create(self, *initdb_options, like=None):
        """Makes the cluster and configures it; nothing runs yet. `like` is the data of one that initdb has made."""
        self.check_reachable()
        self.base = make_base()
        try:
            if like:
                subprocess.run(["cp", "-a", str(like), str(self.data)], check=True)
            else:
                self.run("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", *initdb_options)
            self.port = free_port()
            lines = [f"{name} = {value}" for name, value in self.settings.items()]
            lines += [f"port = {self.port}", f"unix_socket_directories = '{self.base}'", "unix_socket_permissions = 0700"]
            with open(self.data / "postgresql.conf", "a") as conf:
                conf.write("\n".join(lines) + "\n")
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self):
        self.run("pg_ctl", "start", "-w", "-t", "60", "-D", self.data, "-l", self.log)

    def shut_down(self, mode="fast"):
        """Stops the server and keeps its data; `immediate` is what a crash does."""
        self.run("pg_ctl", "stop", "-w", "-t", "60", "-m", mode, "-D", self.data)

    def check_reachable(self):
        """As root the binaries are run by `nobody`: say so here if that user cannot get at them."""
        user = server_user()
        program = str(self.prefix / "bin" / "postgres")
        if user and subprocess.run(["/bin/sh", "-c", f'test -x "{program}"'], cwd="/", **user).returncode != 0:
            raise Failure(f"the user nobody, who runs the server for root, cannot execute {program}.\n"
                          "Set PG_IDEMPOTENT_CACHE to a directory that everybody may enter.")

    def stop(self):
        """Stops the server and deletes its directory; a second ctrl-C does not get in between."""
        if self.base is None:
            return
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if (self.data / "postmaster.pid").exists():
                if self.run("pg_ctl", "stop", "-w", "-t", "20", "-m", "fast", "-D", self.data, check=False) != 0:
                    self.run("pg_ctl", "stop", "-w", "-t", "20", "-m", "immediate", "-D", self.data, check=False)
            if self.keep_log and self.log.exists():
                self.keep_log.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(self.log), str(self.keep_log))
            shutil.rmtree(str(self.base), ignore_errors=True)
        finally:
            self.base = None
            signal.signal(signal.SIGINT, before)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()

    def env(self, database="postgres"):
        return {**client_env(self.prefix, self.base, self.port, database), **self.loader}

    def flaws(self):
        """What amcheck finds wrong in all databases, indexes against their tables included; "" when nothing is."""
        command = [str(self.prefix / "bin" / "pg_amcheck"), "--all", "--install-missing", "--heapallindexed", "--jobs=2"]
        # Not as forgetfully as a suite may have set the server: it looks at all of the catalogs.
        env = {**self.env(), "PGOPTIONS": "-c debug_discard_caches=0"}
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, errors="replace")
        return done.stdout if done.returncode else ""

    def psql(self, sql, database="postgres"):
        """Runs SQL and returns (exit code, standard output, standard error). The text goes in on stdin."""
        done = subprocess.run([str(self.prefix / "bin" / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"],
                              input=sql, env=self.env(database), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, errors="replace")
        return done.returncode, done.stdout, done.stderr

    def must(self, sql, database="postgres"):
        code, out, err = self.psql(sql, database)
        if code != 0:
            raise Failure(f"psql failed on {sql!r}:\n{err}")
        return out
