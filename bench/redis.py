"""Next to what many do instead: the key in Redis (SET NX EX), the work in Postgres, the answer in Redis (SET). One program, bench/rivals,
drives both sides over unix sockets, with as many clients, the same keys and the same insert, and checks what comes back.

One Redis never writes to disk, the other one logs its commands and flushes the log each second. What they are not asked for is what
they cannot do: the payment and its key do not commit together, and nobody sees that a key comes back with another request. Over unix
sockets a round trip costs next to nothing: what is compared is the processors' work, and not how many trips through a network each side
needs (run: 1, block: 5, the rival: 3). bench/network.py compares those.
"""

import os
import socket

from client_calls import NAMES
from driver import drive
from measure import BATCH_SIZE, CLIENTS, FINISHED, QUICK, compare, psql, turns

ROUNDS = 3 if QUICK else 7
SECONDS = 0.5 if QUICK else 1

# Operations by where their records live; each has keys of its own, so that the other measures' tables are as they would be.
OPERATIONS = {"unlogged": "beside_redis", "logged": "beside_redis_logged"}
# Ours, with its records, and the rival.
PAIRS = [("run", "unlogged", "redis-first"), ("run", "unlogged", "redis-first-logging"), ("run", "logged", "redis-first-logging"),
         ("block", "unlogged", "redis-first"), ("replay", "unlogged", "redis-replay"), ("retry", "unlogged", "redis-replay"),
         # The best that a retry can do there: one look-up in memory, and no Postgres.
         ("replay", "unlogged", "redis-ask")]

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
    drive("fill", OPERATIONS["unlogged"])


def measure():
    """Title and rows."""
    prepare()
    samples = tuple(dict.fromkeys(sample for ours, durability, rival in PAIRS for sample in ((durability, ours), ("unlogged", rival))))
    taken = {}
    for round_number in range(ROUNDS):
        for durability, call in turns(round_number, samples):
            rate = float(drive("rate", OPERATIONS[durability], call, CLIENTS, SECONDS))
            taken.setdefault((durability, call), []).append(rate)
    rows = [(NAMES[ours] + ("; logged records" if durability == "logged" else ""), NAMES[rival],
             compare(taken[durability, ours], taken["unlogged", rival], True), None) for ours, durability, rival in PAIRS]
    return (f"Next to Redis {version()}, from {CLIENTS} clients over unix sockets, prepared statements, unlogged records where nothing else is said, "
            f"transactions per second; medians of {ROUNDS} rounds of {SECONDS} s:"), rows
