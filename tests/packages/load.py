"""Clients that call a server all the while, as its packages are replaced."""

import contextlib
import subprocess
import threading

from common import EXTENSION

DEADLINE = 120  # seconds, for whatever is waited for


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
