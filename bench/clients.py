"""What clients see: transactions per second of pgbench, over a unix socket, with each side's statements in turn.

Commits are asynchronous, so that processors are compared and not disks: with synchronous ones both sides wait for the same
flush.
"""

from client_calls import CALLS, PAIRS, rows, script
from measure import CLIENT_SECONDS, CLIENTS, HERE, QUICK, pgbench, psql, turns

ROUNDS = 3 if QUICK else 7

# Autovacuum comes when it likes and slows whoever has his turn. The rival, who updates what he has inserted, needs it more.
WITHOUT_AUTOVACUUM = """
    ALTER TABLE idempotent.record SET (autovacuum_enabled = off);
    ALTER TABLE idempotent.record_logged SET (autovacuum_enabled = off);
    ALTER TABLE bench.idempotency_key SET (autovacuum_enabled = off);
    ALTER TABLE bench.payment SET (autovacuum_enabled = off);
"""
# Both sides' records move.
MOVE_TO_LOGGED = """
    SELECT idempotent_operation('charge', durability => 'logged');
    ALTER TABLE bench.idempotency_key SET LOGGED;
    VACUUM ANALYZE bench.idempotency_key, idempotent.record_logged;
"""


def rates():
    """{call: [transactions per second]}, all calls in each round."""
    taken = {}
    for round_number in range(ROUNDS):
        for call in turns(round_number, CALLS):
            taken.setdefault(call, []).append(pgbench(HERE / "client" / script(call)))
    return taken


def measure():
    """(durability, title, rows) for each table."""
    for durability in ("unlogged", "logged"):
        if durability == "logged":
            psql(MOVE_TO_LOGGED)
        targets = {pair: rate if durability == "unlogged" else None for pair, (_, _, rate) in PAIRS.items()}
        yield (durability, f"From {CLIENTS} clients, prepared statements, {durability} records, transactions per second; medians of "
               f"{ROUNDS} rounds of {CLIENT_SECONDS} s:", rows(targets, rates(), True))
