"""What a call costs in the server, next to the same thing written by hand in PL/pgSQL: loops in one backend, no client."""

from measure import BATCH_SIZE, QUICK, REPLAYED, compare, psql, turns

ROUNDS = 7 if QUICK else 15
BATCHES = 40 if QUICK else 100
PASSES = 5 if QUICK else 10
SIDES = ("ours", "rival")

# Name, what is measured, against what, whether each sample needs new keys, and the target.
MEASURES = [
    ("answer", "replay", "the guides' function: insert on conflict, select", False, None),
    ("replay", "replay", "a function of a single SELECT", False, None),
    ("statement", "replay, a statement in PL/pgSQL", "`SELECT` by primary key", False, None),
    ("retry", "claim of a finished key", "the guides' function", False, None),
    ("claim_complete", "claim + complete", "insert on conflict, update", True, None),
    ("many", "claim + complete, 400 keys in a transaction", "ours, 50 keys in a transaction", True, 1.0),
    ("transaction", "claim + complete + COMMIT", "the same + COMMIT", True, None),
    ("run", "run, with a handler of one insert", "a function that does it all", True, None),
]


def samples(rounds=ROUNDS):
    """{(measure, side): [microseconds per call]} and the clock they were taken by."""
    script = []
    for round_number in range(rounds + 1):
        for name, _, _, fresh, _ in MEASURES:
            if fresh:
                script += ["TRUNCATE bench.key;",
                           f"INSERT INTO bench.key SELECT * FROM bench.new_keys({BATCHES}, {BATCH_SIZE});",
                           "ANALYZE bench.key;"]
            for side in turns(round_number, SIDES):
                script += ["SELECT wall, cpu FROM bench.clock() \\gset before_",
                           f"CALL bench.{name}_{side}({BATCHES if fresh else PASSES});",
                           f"SELECT {round_number}, '{name}', '{side}', wall - :before_wall, cpu - :before_cpu FROM bench.clock();"]
    calls = {name: BATCHES * BATCH_SIZE if fresh else PASSES * REPLAYED for name, _, _, fresh, _ in MEASURES}
    taken, clocks = {}, set()
    for line in psql("\n".join(script)).splitlines():
        round_number, name, side, wall, cpu = line.split("|")
        clocks.add("processor time" if cpu else "wall time")
        # Round 0 fills the caches.
        if int(round_number) > 0:
            taken.setdefault((name, side), []).append(float(cpu or wall) / calls[name])
    return taken, " and ".join(sorted(clocks))


def measure():
    """Title and rows for the table."""
    taken, clock = samples()
    rows = [(what, against, compare(taken[name, "ours"], taken[name, "rival"], False), target)
            for name, what, against, _, target in MEASURES]
    return f"In the server, {clock} per call in microseconds; medians of {ROUNDS} rounds:", rows
