"""`make bench-scale`: claims in a large table against claims in a small one, in one run on one server, by turns.

A record takes some 300 bytes of disk. MILLIONS=5 takes a smaller table than 50 million. Written to bench/scale.json.
"""

import os
import time

import figures
from measure import DATABASE, HERE, compare, drop, headline, machine, pgbench, prepare, psql, run, turns, write

SMALL = 1
LARGE = int(os.environ.get("MILLIONS", "50"))
ROUNDS = 31
SIDES = {DATABASE: SMALL, f"{DATABASE}_large": LARGE}
# Indexes are built afterwards, as a restore does: to fill them row by row would take an hour.
WITHOUT_INDEXES = """
    ALTER TABLE idempotent.record DROP CONSTRAINT record_pkey;
    DROP INDEX idempotent.record_sweep_at_idx;
    ALTER TABLE idempotent.record SET (autovacuum_enabled = off);
"""
FILL = """
    INSERT INTO idempotent.record (record_id, fingerprint, fingerprint_version, slot, finished_at, expires_at, sweep_at, state, evicted,
                                   operation, scope, key, response, status)
    SELECT md5('live ' || n)::uuid, md5('request ' || n)::uuid, 1, idempotent_slot('tenant-7'), now(), at, at, 'c', false, 'charge', 'tenant-7', 'live ' || n,
           '{{"payment": 123456, "state": "accepted"}}', 201
      FROM generate_series({first}, {last}) AS n, LATERAL (SELECT now() + interval '1 day' * (1 + n / 1e9) AS at) AS due;
"""
WITH_INDEXES = """
    SET maintenance_work_mem = '1GB';
    ALTER TABLE idempotent.record ADD CONSTRAINT record_pkey PRIMARY KEY (record_id);
    CREATE INDEX record_sweep_at_idx ON idempotent.record (sweep_at);
    VACUUM (ANALYZE) idempotent.record;
    CHECKPOINT;
"""
# All of the index of the primary key, as a server has it that did not begin a minute ago.
WARM_UP = "SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; SELECT count(record_id) FROM idempotent.record"


def fill(database, millions):
    psql(WITHOUT_INDEXES, database)
    for million in range(millions):
        psql(FILL.format(first=million * 1_000_000 + 1, last=(million + 1) * 1_000_000), database)
    psql(WITH_INDEXES, database)


def rates():
    """{database: [transactions per second]}: claim, work and complete."""
    taken = {database: [] for database in SIDES}
    for database in SIDES:
        psql(WARM_UP, database)
    for round_number in range(ROUNDS + 1):
        for database in turns(round_number, list(SIDES)):
            rate = pgbench(HERE / "client" / "run.sql", database=database)
            # Round 0 fills what is left of the caches.
            if round_number > 0:
                taken[database].append(rate)
    return taken


def main():
    began = time.monotonic()
    try:
        for database, millions in SIDES.items():
            prepare(database)
            fill(database, millions)
        facts = machine()
        print(headline(facts), flush=True)
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        small, large = rates().values()
    finally:
        os.environ.pop("PGOPTIONS", None)
        for database in SIDES:
            drop(database)
    result = compare(large, small, True)
    written = write("scale.json", {"machine": facts, "large": LARGE, "small": SMALL, "rounds": ROUNDS, "result": result})
    print(figures.scale(), flush=True)
    print(f"Took {time.monotonic() - began:.0f} s. All samples are in {written}.")


if __name__ == "__main__":
    run(main)
