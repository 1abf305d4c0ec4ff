"""The program of bench/rivals: clients of all sides, driven alike, whose answers it checks."""

import os
import subprocess

from measure import DATABASE, FINISHED, Failure


def drive(action, operation, *arguments, **environment):
    """What it prints."""
    program = os.environ.get("RIVALS")
    if not program or not os.environ.get("REDIS_SOCKET"):
        raise Failure("RIVALS must name the program of bench/rivals, and REDIS_SOCKET a Redis server's socket: `make bench` sees to both")
    command = [program, action, operation, *map(str, (FINISHED, *arguments))]
    done = subprocess.run(command, env={**os.environ, "PGDATABASE": DATABASE, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def turns(operation, calls, rounds, size, **environment):
    """{call: [(microseconds of the backend's processor time or None, microseconds until the answer)]}: a client each, by turns of `size` calls."""
    taken = {}
    for line in drive("turns", operation, rounds, size, *calls, **environment).splitlines():
        call, processor, passed = line.split()
        taken.setdefault(call, []).append((None if processor == "-" else float(processor), float(passed)))
    return taken
