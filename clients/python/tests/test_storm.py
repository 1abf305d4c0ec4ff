"""Purchases, each delivered several times, by processes that are killed: to the cent."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

PURCHASES, DELIVERIES, WORKERS = 500, 5, 16
WORKER = """
import sys
from psycopg_pool import ConnectionPool
from pg_idempotent import Idempotent, IdempotencyError

dsn, tenant, victim = sys.argv[1:4]
with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
    idem = Idempotent(pool)

    @idem(operation="storm", key_func=lambda number, cents: f"order-{number}", scope=tenant)
    def buy(tx, number, cents):
        tx.execute("INSERT INTO payment (tenant, order_id, amount) VALUES (%s, %s, %s)", (tenant, str(number), cents / 100))
        if number == int(victim):
            print("victim", flush=True)
            sys.stdin.buffer.raw.read()     # until this process is killed, between the handler and COMMIT
        return cents

    for line in sys.argv[4].split():
        number = int(line)
        assert buy(number, number * 7 + 1) == number * 7 + 1
"""


def start(dsn: str, tenant: str, orders: list[int], victim: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, dsn, tenant, str(victim), " ".join(map(str, orders))]
    return subprocess.Popen(command, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_storm_is_right_to_the_cent(dsn: str, tenant: str, admin: Any) -> None:
    orders = [number for number in range(PURCHASES) for _ in range(DELIVERIES)]
    random.Random(7).shuffle(orders)
    shares = [orders[worker::WORKERS] for worker in range(WORKERS)]
    # Some are killed within a purchase that nobody else has begun, and others do all of their share.
    victims = {0: PURCHASES, 8: PURCHASES + 1}
    for worker, number in victims.items():
        shares[worker].insert(len(shares[worker]) // 2, number)
    running = [start(dsn, tenant, share, victims.get(worker, -1)) for worker, share in enumerate(shares)]
    for worker in victims:
        process = running[worker]
        assert process.stdout is not None
        assert process.stdout.readline() == b"victim\n"
        process.kill()
        process.wait(60)
        running[worker] = start(dsn, tenant, shares[worker], -1)
    until = time.monotonic() + 100
    for process in running:
        assert process.wait(until - time.monotonic()) == 0
    counted, total = admin.execute("SELECT count(*), sum(amount) FROM payment WHERE tenant = %s", (tenant,)).fetchone()
    bought = range(PURCHASES + len(victims))
    assert counted == len(bought)
    assert total == sum(Decimal(number * 7 + 1) for number in bought) / 100
