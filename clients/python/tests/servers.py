"""Servers that tests start: an application in a process of its own, started again when it ends by itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asgi(app: str, directory: Path) -> Callable[[int], list[str]]:
    where = ["--app-dir", str(directory), "--log-level", "critical"]
    return lambda port: [sys.executable, "-m", "uvicorn", app, *where, "--port", str(port)]


class Served:
    """`with Served(asgi("module:app", directory), DSN=...) as base:`. The command is told a port."""

    def __init__(self, command: Callable[[int], list[str]], **env: str) -> None:
        self.port = free_port()
        self.command = command(self.port)
        self.env = {**os.environ, **env}
        self.process: subprocess.Popen[bytes] | None = None
        self.is_wanted = True
        self.starts = 0

    def __enter__(self) -> str:
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeper.start()
        base = f"http://127.0.0.1:{self.port}"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{base}/", timeout=5)
                return base
            except urllib.error.HTTPError:
                return base
            except OSError:
                time.sleep(0.05)
        raise TimeoutError(f"{self.command} does not answer")

    def _keep(self) -> None:
        while self.is_wanted:
            self.starts += 1
            self.process = subprocess.Popen(self.command, env=self.env)
            self.process.wait()

    def kill(self) -> None:
        """As a crash does; it is started again."""
        if self.process is not None:
            self.process.kill()

    def __exit__(self, *exception: object) -> None:
        self.is_wanted = False
        if self.process is not None:
            self.process.terminate()
        self.keeper.join(20)


class Door:
    """`with Door(dsn) as door:`. A way to the server by TCP, which can swallow what comes over some connections without a word."""

    def __init__(self, dsn: str) -> None:
        parts = dict(part.split("=") for part in dsn.split())
        self.server, self.database = f"{parts['host']}/.s.PGSQL.{parts['port']}", parts["dbname"]
        self.connections = 0
        self.swallowed = range(0)
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Door:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.dsn = f"host=127.0.0.1 port={self.port} user=postgres dbname={self.database}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def swallow(self, from_number: int) -> None:
        """Those that there are now, but for the first ones."""
        self.swallowed = range(from_number, self.connections)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.server)
                self.sockets += [client, server]
                for source, to in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(self.connections, source, to), daemon=True).start()
                self.connections += 1

    def _pass(self, number: int, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if number not in self.swallowed:
                    to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def __exit__(self, *exception: object) -> None:
        self.listener.close()
        for one in self.sockets:
            one.close()


class Pooler:
    """A PgBouncer in transaction mode, run by the user of the server; its value is where to connect. PGBOUNCER names the program."""

    def __init__(self, dsn: str, prepared: int, directory: Path) -> None:
        self.parts = dict(part.split("=") for part in dsn.split())
        self.port, self.directory = free_port(), directory / "pgbouncer"
        self.directory.mkdir()
        (self.directory / "pgbouncer.ini").write_text(f"""[databases]
* = host={self.parts["host"]} port={self.parts["port"]} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = transaction
default_pool_size = 10
max_prepared_statements = {prepared}
""")

    def __enter__(self) -> str:
        owner = os.stat(self.parts["host"])
        user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        # The file is read by a user who cannot enter the directories of pytest.
        with open(self.directory / "pgbouncer.ini") as settings, open(self.directory / "log", "w") as log:
            command, streams = [os.environ["PGBOUNCER"], "-q", "/dev/stdin"], {"stdin": settings, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(command, cwd="/", **streams, **user)  # type: ignore[call-overload]
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return f"host=127.0.0.1 port={self.port} user=postgres dbname={self.parts['dbname']}"
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        self.process.wait(20)
