"""Over a network whose round trip takes half a millisecond, as between two machines of one data centre: how long a client waits.

All sides go through the same proxy (bench/rivals/src/delay.rs), which hands on everything a quarter of a millisecond later. One client
each, by turns. Commits are asynchronous, as a flush takes all sides the same time, and on some machines several round trips; some are
measured again with commits that wait for the disk.
"""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from client_calls import rows
from driver import drive, turns
from measure import QUICK, Failure

DELAY = 250  # microseconds, each way
ROUNDS = 7 if QUICK else 31
SIZE = 20 if QUICK else 50
PAIRS = {
    ("run", "hand-run"): None,
    ("run", "redis-first"): 2.2,
    ("run", "redis-first-logging"): None,
    ("replay", "select"): None,
    ("replay", "redis-replay"): None,
    ("block", "hand-block"): None,
    ("block-pipelined", "hand-block"): None,
    ("block-pipelined", "hand-block-pipelined"): None,
}
# Those that are measured with both.
FLUSHED = (("run", "hand-run"), ("run", "redis-first"), ("run", "redis-first-logging"))
# What the round trip takes in truth, with a statement that does nothing.
TRIP = "constant"
CALLS = (*dict.fromkeys(call for pair in PAIRS for call in pair), TRIP)
SOCKETS = ("REDIS_SOCKET", "REDIS_LOGGING_SOCKET")


@contextlib.contextmanager
def delayed():
    """The environment of a program whose connections take their time."""
    with tempfile.TemporaryDirectory() as directory:
        there = Path(directory)
        postgres = f".s.PGSQL.{os.environ['PGPORT']}"
        ways = [(there / postgres, Path(os.environ["PGHOST"]) / postgres)] + [(there / name, Path(os.environ[name])) for name in SOCKETS]
        # It ends with its standard input.
        with subprocess.Popen([os.environ["RIVALS"], "delay", str(DELAY), *(str(socket) for way in ways for socket in way)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, universal_newlines=True) as proxy:
            if proxy.stdout.readline() != "ready\n":
                raise Failure("the proxy of bench/rivals does not start")
            yield {"PGHOST": directory, **{name: str(there / name) for name in SOCKETS}}
            proxy.stdin.close()


def milliseconds(calls, environment, synchronous_commit):
    """{call: [milliseconds until the answer]}"""
    taken = turns("charge", calls, ROUNDS, SIZE, **environment, PGOPTIONS=f"-c synchronous_commit={synchronous_commit}")
    return {call: [passed / 1000 for _, passed in samples] for call, samples in taken.items()}


def measure():
    # Keys that are finished on our sides already (bench/preload.sql).
    drive("fill", "charge")
    with delayed() as environment:
        taken = milliseconds(CALLS, environment, "off")
        flushed = milliseconds(tuple(dict.fromkeys(call for pair in FLUSHED for call in pair)), environment, "on")
    compared = rows(PAIRS, taken, False)
    compared += [(f"{what}; commits wait for the disk", *rest) for what, *rest in rows(dict.fromkeys(FLUSHED), flushed, False)]
    trip = sorted(taken[TRIP])[len(taken[TRIP]) // 2]
    return (f"One client, a round trip of {2 * DELAY / 1000} ms ({trip:.2f} ms with a `SELECT` of a constant), unlogged records, milliseconds until "
            f"the answer; medians of {ROUNDS} turns of {SIZE} calls:", compared)
