"""`make bench-scale`: claims in a large table against claims in a small one, in one run on one server.

A record takes some 330 bytes of disk. MILLIONS=5 takes a smaller table than 50 million. Written to bench/scale.json.
"""

import os
import time

from common import HERE, clean_up, compare, headline, machine, pgbench, prepare, psql, run, table, write

SMALL = 1
LARGE = int(os.environ.get("MILLIONS", "50"))
ROUNDS = 9
FILL = """
    INSERT INTO idempotent.record (record_id, fingerprint, fingerprint_version, finished_at, expires_at, sweep_at, state, evicted,
                                   operation, scope, key, response, status)
    SELECT md5('live ' || n)::uuid, md5('request ' || n)::uuid, 1, now(), at, at, 'c', false, 'charge', 'tenant-7', 'live ' || n,
           '{{"payment": 123456, "state": "accepted"}}', 201
      FROM generate_series({first}, {last}) AS n, LATERAL (SELECT now() + interval '1 day' * (1 + n / 1e9) AS at) AS due;
"""


def fill(first, last):
    for million in range(first, last):
        psql(FILL.format(first=million * 1_000_000 + 1, last=(million + 1) * 1_000_000))
    psql("VACUUM (ANALYZE) idempotent.record")
    psql("CHECKPOINT")


def rates():
    """Transactions per second: claim, work and complete."""
    pgbench(HERE / "client" / "run.sql")
    return [pgbench(HERE / "client" / "run.sql") for _ in range(ROUNDS)]


def main():
    began = time.monotonic()
    prepare()
    try:
        facts = machine()
        print(headline(facts), flush=True)
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        fill(0, SMALL)
        small = rates()
        fill(SMALL, LARGE)
        large = rates()
    finally:
        os.environ.pop("PGOPTIONS", None)
        clean_up()
    result = compare(large, small, True)
    table(f"A large table; medians of {ROUNDS} samples each, transactions per second:",
          [(f"run at {LARGE} million live records", f"at {SMALL} million", result, 0.8)])
    written = write("scale.json", {"machine": facts, "result": result})
    print(f"Took {time.monotonic() - began:.0f} s. All samples are in {written}.")


if __name__ == "__main__":
    run(main)
