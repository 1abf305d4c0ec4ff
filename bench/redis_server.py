"""A Redis of our own, next to which `make bench` measures: reachable only through its unix socket, gone when the measuring is.

As fast as it can be: it never writes to disk, so it is the rival that forgets everything with its process. Or as most are told to keep
it: with a log of commands, flushed each second, so that a crash of the machine takes the last second."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import debian
from common import Failure
from server import make_base, server_user

RELEASE = "trixie"
# The program itself is in redis-tools, its name in redis-server.
PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libc6", "libcap2", "libgcc-s1", "libjemalloc2", "liblzf1", "libssl3t64", "libstdc++6",
            "libsystemd0", "libzstd1", "zlib1g")
OTHERWISE = "Name a Redis server yourself: REDIS_SERVER=/path/to/redis-server make bench"
# No port, no snapshots.
SETTINGS = ("--port", "0", "--save", "", "--unixsocketperm", "700", "--daemonize", "no")
IN_MEMORY = ("--appendonly", "no")
LOGGING = ("--appendonly", "yes", "--appendfsync", "everysec")
PATIENCE = 20  # seconds


def redis_server():
    """The path of the program: the one that is named, else the system's, else Debian's."""
    given = os.environ.get("REDIS_SERVER")
    if given and not os.access(given, os.X_OK):
        raise Failure(f"REDIS_SERVER names {given}, which cannot be executed")
    given = given or shutil.which("redis-server")
    return Path(given) if given else debian.program("Redis", RELEASE, "usr/bin/redis-server", PACKAGES, 11, OTHERWISE)


class Redis:
    """`with Redis(program) as redis:`"""

    def __init__(self, program, logging=False):
        self.program, self.settings = program, SETTINGS + (LOGGING if logging else IN_MEMORY)
        self.base = self.process = None

    @property
    def socket(self):
        return self.base / "redis.sock"

    @property
    def log(self):
        return self.base / "redis.log"

    def __enter__(self):
        self.base = make_base()
        try:
            with open(self.log, "w") as log:
                self.process = subprocess.Popen([str(self.program), *self.settings, "--unixsocket", str(self.socket), "--dir", str(self.base)],
                                                cwd=str(self.base), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **server_user())
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception):
        self.stop()

    def wait(self):
        """Until it answers."""
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failure(f"{self.program} does not answer:\n{self.log.read_text(errors='replace')[-3000:]}\n{OTHERWISE}")
            time.sleep(0.05)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self):
        """Ends it and deletes its directory. It has nothing to save."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(str(self.base), ignore_errors=True)
