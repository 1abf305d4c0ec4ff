"""Runs cargo quietly but never silently: a progress line every few seconds, the whole output when it fails."""

import os
import re
import subprocess
import threading
import time

from common import ROOT, Failure, checkout_dir, say, seconds

PROGRESS = re.compile(r"^\s*(?:\x1b\[[0-9;]*m)*\s*(Compiling|Checking|Downloaded|Downloading|Building|Fresh|Updating|Locking|Adding"
                      r"|Blocking|Installing|Finished|Running|Copying|Writing|Discovered|Using|Ignoring)\b")
COUNTED = re.compile(r"\b(?:Compiling|Checking)(?:\x1b\[[0-9;]*m)*\s+(\S+)")
EVERY = 15  # seconds between two progress lines


class Progress:
    """Says every few seconds how far a build is, also while a single crate takes its time."""

    def __init__(self):
        self.began, self.crates, self.latest, self.over = time.monotonic(), 0, "", threading.Event()
        threading.Thread(target=self.speak, daemon=True).start()

    def see(self, line):
        counted = COUNTED.search(line)
        if counted:
            self.crates, self.latest = self.crates + 1, counted.group(1)

    def speak(self):
        while not self.over.wait(EVERY):
            say(f"    {seconds(time.monotonic() - self.began):>12}" + (f": {self.crates} crates so far, at {self.latest}" if self.crates else ""))


def run_cargo(command, env, log_name, cwd=ROOT):
    """Runs a command; its output goes to a log file, progress to the terminal."""
    verbose = os.environ.get("VERBOSE") == "1"
    log_path = checkout_dir() / "logs" / f"{log_name}.log"
    log_path.parent.mkdir(exist_ok=True)
    progress = Progress()
    with open(log_path, "w") as log:
        process = subprocess.Popen([str(c) for c in command], cwd=str(cwd), env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, errors="replace")
        try:
            for line in process.stdout:
                log.write(line)
                progress.see(line)
                if verbose:
                    say(line.rstrip("\n"))
            code = process.wait()
        finally:
            progress.over.set()
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code != 0:
        if not verbose:
            with open(log_path, errors="replace") as log:
                kept = [line.rstrip("\n") for line in log if not PROGRESS.match(line)]
            say("\n".join(kept[-400:]))
        raise Failure(f"{' '.join(map(str, command))}\nfailed with exit code {code} (whole output: {log_path})")
