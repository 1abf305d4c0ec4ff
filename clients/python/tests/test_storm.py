"""Purchases, each delivered five times, by sixteen processes of which every tenth purchase kills one: to the cent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

PURCHASES, DELIVERIES, WORKERS = 500, 5, 16
# A worker forks the process that delivers, and another one when that is killed. What was answered is a line, and all else is made again.
WORKER = """
import os, random, signal, sys
from datetime import timedelta
from psycopg_pool import ConnectionPool
from pg_idempotent import Idempotent

dsn, tenant, seed = sys.argv[1:4]
chance = random.Random(int(seed))


def deliver(orders, seed):
    chance, ran = random.Random(seed), []
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        idem = Idempotent(pool, wait=timedelta(seconds=60))

        def killed(where):
            if chance.random() < 0.1:      # at two places in a run, of which a purchase has one in five deliveries
                os.write(1, f"killed {where}\\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

        @idem(operation="storm", key_func=lambda number, cents: f"order-{number}", scope=tenant)
        def buy(tx, number, cents):
            ran.append(number)
            insert = "INSERT INTO payment (tenant, order_id, amount) VALUES (%s, %s, %s) RETURNING id"
            (payment,) = tx.execute(insert, (tenant, str(number), cents / 100)).fetchone()
            killed("before COMMIT")
            return payment

        for number in orders:
            payment = buy(number, number * 7 + 1)
            if number in ran:
                killed("before the answer")
            os.write(1, f"{number} {payment}\\n".encode())


def main(orders):
    done = 0
    while done < len(orders):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(into, 1)
            os.close(out)
            deliver(orders[done:], chance.random())
            os._exit(0)
        os.close(into)
        with os.fdopen(out) as lines:
            for line in lines:
                print(line, end="", flush=True)
                done += not line.startswith("killed")
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, status


main([int(order) for order in sys.argv[4].split()])
"""


def test_a_storm_is_right_to_the_cent(dsn: str, tenant: str, admin: Any) -> None:
    # Five deliveries of a purchase are at different workers, and so at the same time.
    orders = [(number, delivery) for delivery in range(DELIVERIES) for number in range(PURCHASES)]
    shares = [[number for number, delivery in orders if (number + delivery) % WORKERS == worker] for worker in range(WORKERS)]
    command = [sys.executable, "-c", WORKER, dsn, tenant]
    workers = [
        subprocess.Popen([*command, str(worker), " ".join(map(str, share))], env=os.environ, stdout=subprocess.PIPE, text=True)
        for worker, share in enumerate(shares)
    ]
    try:
        said = [worker.communicate(timeout=150)[0].splitlines() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * WORKERS
    answers, killed = defaultdict(list), Counter()
    for line in (line for lines in said for line in lines):
        if line.startswith("killed"):
            killed[line] += 1
        else:
            number, payment = line.split()
            answers[int(number)].append(payment)
    print(dict(killed))
    assert sum(killed.values()) >= PURCHASES / 10
    assert len(killed) == 2
    assert {number: len(given) for number, given in answers.items()} == dict.fromkeys(range(PURCHASES), DELIVERIES)
    assert all(len(set(given)) == 1 for given in answers.values())
    counted, total = admin.execute("SELECT count(*), sum(amount) FROM payment WHERE tenant = %s", (tenant,)).fetchone()
    assert (counted, total) == (PURCHASES, sum(Decimal(number * 7 + 1) for number in range(PURCHASES)) / 100)
