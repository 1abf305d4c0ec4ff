"""Paths, messages and child processes: what every other tool stands on."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAJORS = ("15", "16", "17", "18")
MAIN_MAJOR = "17"
EXTENSION = "pg_idempotent"

# Settings of the caller's other builds must not leak into ours: another target moves the programs, and make's job server is not passed on.
CALLER_RUSTFLAGS = os.environ.get("RUSTFLAGS", "")
for _name in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)

# Other users read what is made here: the server of a root run belongs to `nobody`.
os.umask(0o022)


class Failure(Exception):
    """An expected way to fail: shown as a message, without a traceback."""


def say(text=""):
    print(text, flush=True)


def cache_dir():
    """Where downloads and the private servers' programs live."""
    given = os.environ.get("PG_IDEMPOTENT_CACHE")
    if given:
        path = Path(given).expanduser().absolute()
    elif os.geteuid() == 0:
        # Not below /root: the server runs as `nobody`, who may not look in there.
        path = Path("/var/cache/pg_idempotent")
    else:
        path = Path.home() / ".cache" / "pg_idempotent"
    path.mkdir(parents=True, exist_ok=True)
    return path


def checkout_dir(root=ROOT):
    """The part of the cache that belongs to this checkout: two clones do not disturb each other."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    path = cache_dir() / "checkouts" / name
    if not path.is_dir():
        path.mkdir(parents=True)
        (path / "CHECKOUT").write_text(f"{root}\n")
    return path


def target_dir():
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()


def need(program, what, command):
    """The path of a program, or a failure that names the command which installs it."""
    path = shutil.which(program)
    if path is None:
        raise Failure(f"{program} is missing ({what}). Install it with:\n    {command}")
    return path


def run(command, **kwargs):
    """Runs a command that must succeed; its output, such as cargo's progress, goes where ours goes."""
    command = [str(word) for word in command]
    sys.stdout.flush()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, **{"cwd": str(ROOT), **kwargs}).returncode
    if code != 0:
        raise Failure(f"{' '.join(command)}\nfailed with exit code {code}")


def output_of(command, **kwargs):
    """Standard output of a command that must succeed."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, universal_newlines=True, **kwargs)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


@contextlib.contextmanager
def step(title):
    """Announces a step and says how long it took."""
    say(f"==> {title}")
    began = time.monotonic()
    yield
    say(f"    done in {seconds(time.monotonic() - began)}")


def seconds(duration):
    minutes, rest = divmod(int(duration), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{duration:.1f} s"


HELD = set()  # directories that this process has locked


@contextlib.contextmanager
def locked(directory):
    """One process at a time in a directory; says so when it has to wait. A process that is in already does not wait for itself."""
    if directory in HELD:
        yield
        return
    with open(directory / "lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"    waiting for another make that is using {directory}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        HELD.add(directory)
        try:
            yield
        finally:
            HELD.discard(directory)


def hash_inputs(paths, *more):
    """One hash over files (directories are walked) and strings."""
    digest = hashlib.sha256(repr(more).encode())
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    for file in sorted(files):
        digest.update(f"{file.relative_to(ROOT)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def unwind_on_signals():
    """Signals unwind like ctrl-C, so that servers stop."""
    def interrupt(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def run_main(function):
    """Entry of every tool: a failure becomes one message and exit code 1."""
    unwind_on_signals()
    try:
        code = function()
    except Failure as failure:
        sys.stdout.flush()
        print(f"\nerror: {failure}", file=sys.stderr, flush=True)
        code = 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr, flush=True)
        code = 130
    sys.exit(code or 0)
