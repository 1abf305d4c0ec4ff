"""What idempotent_first costs by the batch: next to INSERT ... SELECT unnest ... ON CONFLICT DO NOTHING, and to calls one by one.

One server, one run, everything by turns, a batch of new ids each and then the same ids again. The rivals are the table
that one would write by hand (an index less than ours), and the same with an index by which old messages can be deleted. The ratio is the median
of the rounds' ratios. Written to bench/consumer.json. Exits with 1 if a batch is not five times faster than as many calls one
by one in a transaction, or new ids take longer than with INSERT ... ON CONFLICT into the plain table.

Environment: as for run.py. QUICK=1 takes fewer rounds.
"""

import statistics

from measure import DATABASE, HERE, QUICK, Failure, drop, machine, psql, run, write

SIZE = 10_000
ROUNDS = 7 if QUICK else 21
SIDES = ("ours", "plain", "swept")
NAMES = {"plain": "INSERT ... ON CONFLICT, primary key alone", "swept": "the same with an index on seen_at", "single": "one by one, prepared, in one transaction"}
IDS = ("random", "growing")
PROMISED = {"plain": 1.0, "single": 5.0}


def measured(call, kind):
    return ["SELECT wall, cpu FROM bench.clock() \\gset before_", call,
            f"SELECT '{kind}', wall - :before_wall, cpu - :before_cpu FROM bench.clock();"]


def batches():
    """{(ids, new or seen, side): [(wall, cpu) in microseconds per id]}"""
    script = []
    for number in range(ROUNDS + 1):
        for ids in IDS:
            for state in ("new", "seen"):
                for turn in range(len(SIDES)):
                    side = SIDES[(turn + number) % len(SIDES)]
                    script += measured(f"SELECT bench.first_{side}({ids}) AS new FROM bench.batch WHERE round = {number} \\gset",
                                       f"{number},{ids},{state},{side}")
                    script.append(f"SELECT 1 / (:new = {SIZE if state == 'new' else 0})::int AS as_expected \\gset")
    samples = {}
    for line in psql("\n".join(script)).splitlines():
        kind, wall, cpu = line.split("|")
        number, *key = kind.split(",")
        if int(number) > 0:
            samples.setdefault(tuple(key), []).append((float(wall) / SIZE, float(cpu or wall) / SIZE))
    return samples


def one_by_one():
    """[(wall time in microseconds per id in one call, and of a client that asks for each)]: one connection, one transaction, by turns."""
    samples = []
    for number in range(1, 4 if QUICK else 8):
        ids = psql(f"SELECT unnest(random) FROM bench.batch WHERE round = {number}").splitlines()
        calls = "\n".join(f"EXECUTE single('{id}');" for id in ids)
        out = psql("PREPARE single AS SELECT idempotent_first('single', $1);\nBEGIN;\n"
                   "SELECT wall FROM bench.clock() \\gset before_\n"
                   f"SELECT count(*) FROM idempotent_first_of('batch', (SELECT random FROM bench.batch WHERE round = {number})) \\gset\n"
                   "SELECT wall FROM bench.clock() \\gset between_\n\\o /dev/null\n" + calls +
                   "\n\\o\nSELECT :between_wall - :before_wall, wall - :between_wall FROM bench.clock();\nCOMMIT;")
        batch, single = out.split("|")
        samples.append((float(batch) / SIZE, float(single) / SIZE))
    return samples


def main():
    psql(f"DROP DATABASE IF EXISTS {DATABASE}", "postgres")
    psql(f"CREATE DATABASE {DATABASE}", "postgres")
    psql((HERE / "consumer.sql").read_text(), rounds=ROUNDS, size=SIZE)
    samples, single = batches(), one_by_one()
    results, missed = {}, []
    print(f"{SIZE} ids in one call, microseconds of processor time per id; medians of {ROUNDS} rounds, and of the rounds' ratios:\n")
    print("| ids | | pg_idempotent | rival | times cheaper | lowest to highest | against |")
    print("|---|---|---:|---:|---:|---:|---|")
    for ids in IDS:
        for state in ("new", "seen"):
            ours = [cpu for _, cpu in samples[ids, state, "ours"]]
            for side in SIDES[1:]:
                rival = [cpu for _, cpu in samples[ids, state, side]]
                ratios = [b / a for a, b in zip(ours, rival)]
                ratio = statistics.median(ratios)
                results[f"{ids} {state} {side}"] = {"ours": statistics.median(ours), "rival": statistics.median(rival), "ratio": ratio}
                print(f"| {ids} | {state} | {statistics.median(ours):.2f} | {statistics.median(rival):.2f} | {ratio:.2f} "
                      f"| {min(ratios):.2f} to {max(ratios):.2f} | {NAMES[side]} |")
                if state == "new" and ratio < PROMISED.get(side, 0):
                    missed.append(f"{ids}, {state}, against {NAMES[side]}: {ratio:.2f}")
    batch, alone = (statistics.median(side) for side in zip(*single))
    ratios = [b / a for a, b in single]
    ratio = statistics.median(ratios)
    results["single"] = {"batch": batch, "single": alone, "ratio": ratio}
    print(f"\nIn time that passes: {batch:.2f} microseconds per id in one call, {alone:.1f} {NAMES['single']}: {ratio:.1f} times "
          f"({min(ratios):.1f} to {max(ratios):.1f}).")
    if ratio < PROMISED["single"]:
        missed.append(f"against {NAMES['single']}: {ratio:.2f}")
    facts = machine()
    write("consumer.json", {"machine": facts, "results": results})
    drop()
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    if missed:
        raise Failure("not reached: " + "; ".join(missed))


if __name__ == "__main__":
    run(main)
