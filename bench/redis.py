"""Next to what many do instead: the key in Redis (SET NX EX), the work in Postgres, the answer in Redis (SET). One program, bench/rivals,
drives both sides over unix sockets, with as many clients, the same keys and the same insert, and checks what comes back.

Redis here never writes to disk. What it is not asked for is what it cannot do: the payment and its key do not commit together, and
nobody sees that a key comes back with another request. Over unix sockets a round trip costs next to nothing: what is compared is
the processors' work, and not how many trips through a network each side needs (run: 1, block: 5, the rival: 3).
"""

import os
import socket
import subprocess

from measure import BATCH_SIZE, CLIENTS, DATABASE, FINISHED, QUICK, Failure, compare, psql, turns

ROUNDS = 3 if QUICK else 9
SECONDS = 0.5 if QUICK else 1
TARGET = 2

# Operations by where their records live; each has keys of its own, so that the other measures' tables are as they would be.
OPERATIONS = {"unlogged": "beside_redis", "logged": "beside_redis_logged"}
# Scenarios of bench/rivals, and what they do.
OURS = {"run": "run, with a handler of one insert", "block": "BEGIN, claim, insert, complete, COMMIT", "replay": "replay",
        "retry": "run of a finished key"}
RIVALS = {"redis-first": "`SET NX EX`, insert in Postgres, `SET`", "redis-replay": "`SET NX EX` refused, `GET`",
          "redis-ask": "`SET NX EX GET`, one command"}
PAIRS = [("run", "redis-first", TARGET), ("block", "redis-first", TARGET), ("replay", "redis-replay", TARGET), ("retry", "redis-replay", TARGET),
         # The best that a retry can do there: one look-up in memory, and no Postgres. Shown, and nothing is promised.
         ("replay", "redis-ask", None)]

# The same keys, finished with the same answer, as bench/preload.sql does it.
FINISH = """
    DO $$
    BEGIN
        PERFORM idempotent_operation('{operation}', durability => '{durability}');
        FOR batch IN 0 .. {finished} / {size} - 1 LOOP
            PERFORM idempotent_claim('{operation}', key, '{{"customer": "Ada", "amount": 25.00}}'),
                    idempotent_complete('{operation}', key, '{{"payment": 1, "state": "paid"}}')
               FROM (SELECT (batch * {size} + n)::text AS key FROM generate_series(1, {size}) AS n) AS keys;
            COMMIT;
        END LOOP;
    END $$;
"""


def rivals(operation, *arguments):
    program = os.environ.get("RIVALS")
    if not program or not os.environ.get("REDIS_SOCKET"):
        raise Failure("RIVALS must name the program of bench/rivals, and REDIS_SOCKET a Redis server's socket: `make bench` sees to both")
    command = [program, operation, *map(str, (FINISHED, *arguments))]
    done = subprocess.run(command, env={**os.environ, "PGDATABASE": DATABASE}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


def version():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["REDIS_SOCKET"])
        connection.sendall(b"INFO server\r\n")
        told = connection.recv(65536).decode()
    return told.split("redis_version:")[1].split()[0]


def prepare():
    for durability, operation in OPERATIONS.items():
        psql(FINISH.format(operation=operation, durability=durability, finished=FINISHED, size=BATCH_SIZE))
    psql("VACUUM ANALYZE idempotent.record, idempotent.record_logged")
    rivals(OPERATIONS["unlogged"], "fill")


def measure():
    """(title, rows) for each table; the rival's samples are the same in both."""
    prepare()
    samples = [(operation, scenario) for operation in OPERATIONS.values() for scenario in OURS]
    samples += [(OPERATIONS["unlogged"], scenario) for scenario in RIVALS]
    taken = {}
    for round_number in range(ROUNDS):
        for operation, scenario in turns(round_number, samples):
            taken.setdefault((operation, scenario), []).append(float(rivals(operation, scenario, CLIENTS, SECONDS)))
    for durability, operation in OPERATIONS.items():
        rows = [(OURS[ours], RIVALS[rival], compare(taken[operation, ours], taken[OPERATIONS["unlogged"], rival], True), target)
                for ours, rival, target in PAIRS]
        yield (f"Next to Redis {version()}, from {CLIENTS} clients, prepared statements, {durability} records, transactions per second; medians "
               f"of {ROUNDS} rounds of {SECONDS} s:"), rows
