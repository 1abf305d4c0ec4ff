"""What a server's log must never hold, whichever suite ran: leaks, broken assertions, crashes that no test caused."""

import re

from common import target_dir

# Postgres warns of what was left open when a transaction or a statement ends (resowner.c, snapmgr.c, lock.c, mcxt.c, xact.c).
LEFT_OPEN = (r"leak|not closed|still referenced|still active|own a lock|lock table corrupted|locallock table corrupted|problem in alloc"
             r"|detected write past|while in \w+ state|active snapshot|out of shared memory during release|refcount|unpinned|not pinned")
HARMFUL = re.compile(
    rf"WARNING:  .*(?:{LEFT_OPEN})"
    # Tests kill with signal 9; every other signal is a crash.
    r"|(?:process|worker) .*was terminated by signal (?!9\b)"
    r"|TRAP:|PANIC:  |panicked at|memory allocation of|stack overflow"
    # What unwinds for a reason that nobody foresaw (src/pg/error.rs), and what Postgres calls impossible.
    r"|internal error in pg_idempotent|XX000")
# Where a test leaves no room for the write-ahead log Postgres gives up, and aborts; nobody else may.
GAVE_UP = re.compile(r"\[(\d+)\].* PANIC:  could not \w+ .*No space left on device")
ABORTED = re.compile(r"\(PID (\d+)\) was terminated by signal 6\b")


def directory():
    return target_dir() / "test-logs"


def clear(name):
    """Deletes what earlier runs of a suite have left of the logs of its own servers."""
    for path in directory().glob(f"{name}-pgi-*.log"):
        path.unlink()


def harmful(lines):
    gave_up = set()
    for line in lines:
        panic, aborted = GAVE_UP.search(line), ABORTED.search(line)
        if panic:
            gave_up.add(panic.group(1))
        elif HARMFUL.search(line) and not (aborted and aborted.group(1) in gave_up):
            yield line


def findings(since):
    """How many logs were written since a moment, and the harmful lines in them."""
    found, looked = [], 0
    for path in sorted(directory().glob("*.log")):
        if path.stat().st_mtime >= since:
            looked += 1
            with open(path, errors="replace") as log:
                found += [f"{path.name}: {line}" for line in harmful(log.read().splitlines())]
    return looked, found
