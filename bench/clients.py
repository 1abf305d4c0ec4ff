"""What clients see: transactions per second of pgbench, over a unix socket, with each side's statements in turn.

Commits are asynchronous, so that processors are compared and not disks: with synchronous ones both sides wait for the same
flush.
"""

from measure import CLIENT_SECONDS, CLIENTS, HERE, QUICK, compare, pgbench, psql, turns

ROUNDS = 3 if QUICK else 11
# Unprepared: parsed and planned anew each time, with its parameters beside it, as drivers send it.
MODES = ("prepared",) if QUICK else ("prepared", "extended")

# Script, what it does, and its rivals: (script, what that does, target for prepared statements).
MEASURES = [
    ("replay", "replay", [("select", "`SELECT` by primary key", 1.2), ("constant", "`SELECT` of a constant", 0.8)]),
    ("run", "run, with a handler of one insert", [("hand_run", "the PL/pgSQL function", 1.4), ("handler", "the bare handler", 0.85)]),
    ("block", "BEGIN, claim, insert, complete, COMMIT", [("hand_block", "BEGIN, insert on conflict, insert, update, COMMIT", 1.3)]),
]
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


def rates(mode):
    """{script: [transactions per second]}, all scripts in each round."""
    scripts = [script for ours, _, rivals in MEASURES for script in (ours, *(rival for rival, *_ in rivals))]
    taken = {}
    for round_number in range(ROUNDS):
        for script in turns(round_number, scripts):
            taken.setdefault(script, []).append(pgbench(HERE / "client" / f"{script}.sql", mode=mode))
    return taken


def measure():
    """(title, rows) for each table."""
    psql(WITHOUT_AUTOVACUUM)
    for durability in ("unlogged", "logged"):
        if durability == "logged":
            psql(MOVE_TO_LOGGED)
        for mode in MODES:
            taken = rates(mode)
            rows = [(what, against, compare(taken[ours], taken[rival], True), target if mode == "prepared" else None)
                    for ours, what, rivals in MEASURES for rival, against, target in rivals]
            kind = "prepared" if mode == "prepared" else "unprepared"
            yield (f"From {CLIENTS} clients, {kind} statements, {durability} records, transactions per second; medians of "
                   f"{ROUNDS} rounds of {CLIENT_SECONDS} s:"), rows
