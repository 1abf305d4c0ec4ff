"""`make checkout`: the shop of examples/checkout on the server of `make start`, until ctrl-C. `make checkout-picture` takes its screenshot.

The shop is killed by its own page: whatever ends it, it is started again on the same socket, so that a browser waits instead of being refused.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import play
from common import ROOT, Failure, run, run_main, say
from in_venv import interpreter

SHOP = ROOT / "examples" / "checkout"
PICTURE = ROOT / "docs" / "checkout.png"
PORT = 8025
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_TIMEOUT = 60  # seconds


class Shop:
    """`with Shop(server, database) as base:`"""

    def __init__(self, server, database="postgres", port=0):
        self.dsn = f"host={server.base} port={server.port} user=postgres dbname={database}"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(f"port {port} of 127.0.0.1 cannot be had ({error.strerror}). Choose another one: make checkout PORT=8026") from None
        self.socket.listen(64)
        self.base = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.is_open, self.starts = True, 0

    def keep(self):
        """Runs the shop, again and again."""
        # A browser repeats by itself a POST on a kept connection that breaks: a duplicate that nobody pressed. Here each mishap is to happen once.
        command = [interpreter("checkout"), "-m", "uvicorn", "app:app", "--fd", self.socket.fileno(), "--header", "Connection:close",
                   "--log-level", "warning"]
        env = {**os.environ, "DSN": self.dsn, "PYTHONPATH": os.pathsep.join(map(str, (SHOP, ROOT / "clients" / "python" / "src")))}
        while self.is_open:
            self.starts += 1
            self.process = subprocess.Popen([str(word) for word in command], env=env, cwd=str(SHOP), stdin=subprocess.DEVNULL,
                                            pass_fds=[self.socket.fileno()])
            self.process.wait()

    def __enter__(self):
        self.process = None
        interpreter("checkout")
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                urllib.request.urlopen(f"{self.base}/tally", timeout=5).close()
                return self.base
            except (urllib.error.URLError, OSError):
                # Nobody has killed it yet.
                if self.starts > 1 or time.monotonic() > deadline:
                    self.__exit__()
                    raise Failure("the shop does not start; what it says is above") from None

    def __exit__(self, *exception):
        self.is_open = False
        if self.process is not None:
            self.process.kill()
        self.keeper.join(10)
        self.socket.close()


def browser():
    """The path of a Chromium, or None. It is the system's own: a private one would be a hundred megabytes for one page. CHROMIUM names one, or says
    that one is `required`."""
    given = os.environ.get("CHROMIUM", "required")
    return given if given != "required" else next((path for path in map(shutil.which, BROWSERS) if path), None)


def browse(base, *arguments):
    """The command that plays the page's stories in Chromium."""
    return [interpreter("browser"), SHOP / "browser.py", base, browser(), *arguments]


def checkout():
    play.start()
    with Shop(play.running(), port=int(os.environ.get("PORT") or PORT)) as base:
        say(f"\nThe shop is open: {base}\nctrl-C closes it; make stop ends the Postgres, too.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("closed")


def picture():
    if browser() is None:
        raise Failure("no Chromium is here. Install it with:\n    apt-get install chromium")
    play.start()
    server = play.running()
    server.must("DROP DATABASE IF EXISTS checkout_picture WITH (FORCE)")
    server.must("CREATE DATABASE checkout_picture")
    server.must("CREATE EXTENSION pg_idempotent", "checkout_picture")
    with Shop(server, "checkout_picture") as base:
        run(browse(base, "--picture", PICTURE))
    server.must("DROP DATABASE checkout_picture WITH (FORCE)")
    say(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KB")


if __name__ == "__main__":
    run_main({"open": checkout, "picture": picture}[sys.argv[1]])
