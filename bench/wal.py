"""`make bench-wal`: what logged claims write right after a checkpoint, in a table ten times as large as shared_buffers.

Keys that are UUIDv7 have ids in the order of time; all other keys have random ones, as UUIDv7 would have without that. Two databases
with the same records but for that, by turns: CHECKPOINT, then claims with an answer and nothing else. Told are the bytes of WAL and
the images of whole pages that it has of each claim, the pages of the index that were read for it, its processor time, and the claims a
second. Written to bench/wal.json. MILLIONS=3 takes a larger table than a million records, which is ten times shared_buffers.
"""

import os
import statistics
import time

import figures
from measure import DATABASE, QUICK, drop, headline, machine, prepare, psql, run, turns, write

MILLIONS = float(os.environ.get("MILLIONS", "1"))
ROUNDS = 3 if QUICK else 7
CLAIMS = 2_000
SIDES = {"dated": DATABASE, "random": f"{DATABASE}_random"}
# 48 bits of milliseconds, and the rest of a digest: as the library makes them of UUIDv7 of the last 24 hours.
IDS = {"dated": "overlay(md5(n::text) placing lpad(to_hex(floor(extract(epoch FROM sent) * 1000)::bigint), 12, '0') from 1 for 12)::uuid",
       "random": "md5(n::text)::uuid"}
KEYS = {"dated": "idempotent_new_key()", "random": "gen_random_uuid()::text"}
FILL = """
    SELECT idempotent_operation('logged', durability => 'logged');
    ALTER TABLE idempotent.record_logged DROP CONSTRAINT record_logged_pkey;
    DROP INDEX idempotent.record_logged_sweep_at_idx;
    ALTER TABLE idempotent.record_logged SET (autovacuum_enabled = off);
    INSERT INTO idempotent.record_logged (record_id, fingerprint, fingerprint_version, slot, finished_at, expires_at, sweep_at, state, evicted,
                                          operation, scope, key, response, status)
    SELECT {id}, md5('request ' || n)::uuid, 1, n % 16384, sent, sent + interval '1 day', sent + interval '1 day', 'c', false, 'logged', '',
           gen_random_uuid()::text, '{{"payment": 123456, "state": "accepted"}}', 201
      FROM generate_series(1, {rows}) AS n, LATERAL (SELECT now() - interval '1 day' * (1 - n / ({rows} + 1.0)) AS sent) AS age;
    SET maintenance_work_mem = '1GB';
    ALTER TABLE idempotent.record_logged ADD CONSTRAINT record_logged_pkey PRIMARY KEY (record_id);
    CREATE INDEX record_logged_sweep_at_idx ON idempotent.record_logged (sweep_at);
    VACUUM (ANALYZE) idempotent.record_logged;
    CREATE FUNCTION bench.nothing(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN request; END $$;
    -- A transaction each; microseconds that pass, and of processor time.
    CREATE PROCEDURE bench.claims(number integer, INOUT wall numeric, INOUT cpu numeric) LANGUAGE plpgsql AS $$
    DECLARE
        before record;
    BEGIN
        SELECT * INTO before FROM bench.clock();
        FOR n IN 1..number LOOP
            PERFORM outcome FROM idempotent_run('logged', {key}, '{{"amount": 25}}', 'bench.nothing');
            COMMIT;
        END LOOP;
        SELECT (now.wall - before.wall) / number, (now.cpu - before.cpu) / number INTO wall, cpu FROM bench.clock() AS now;
    END $$;
"""
COUNTED = """
    SELECT pg_current_wal_insert_lsn() - '0/0', (SELECT wal_fpi FROM pg_stat_wal),
           (SELECT idx_blks_read FROM pg_statio_all_indexes WHERE indexrelname = 'record_logged_pkey')
"""


def counted(database):
    return [float(number) for number in psql(COUNTED, database).split("|")]


def claims(database):
    """What one claim took, right after a checkpoint."""
    psql("CHECKPOINT", database)
    before = counted(database)
    passed, processor = map(float, psql(f"CALL bench.claims({CLAIMS}, NULL, NULL)", database).split("|"))
    # The statistics of a session that has ended are there when it is gone.
    after = counted(database)
    wal, images, read = (round((b - a) / CLAIMS, 3) for a, b in zip(before, after))
    return {"wal": wal, "images": images, "read": read, "processor": round(processor, 1), "rate": 1e6 / passed}


def main():
    began = time.monotonic()
    try:
        for side, database in SIDES.items():
            prepare(database)
            psql(FILL.format(id=IDS[side], key=KEYS[side], rows=int(MILLIONS * 1e6)), database)
        facts = machine()
        print(headline(facts), flush=True)
        shared = int(psql("SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers'", SIDES["random"])) >> 20
        size = int(psql("SELECT pg_total_relation_size('idempotent.record_logged')", SIDES["random"])) >> 20
        samples = {side: [] for side in SIDES}
        for round_number in range(ROUNDS):
            for side in turns(round_number, list(SIDES)):
                samples[side].append(claims(SIDES[side]))
    finally:
        for database in SIDES.values():
            drop(database)
    median = {side: {what: statistics.median(sample[what] for sample in taken) for what in taken[0]} for side, taken in samples.items()}
    written = write("wal.json", {"machine": facts, "claims": CLAIMS, "rounds": ROUNDS, "millions": MILLIONS, "megabytes": size, "shared_megabytes": shared,
                                 "median": median, "samples": samples})
    print(figures.wal())
    print(f"Took {time.monotonic() - began:.0f} s. All samples are in {written}.")


if __name__ == "__main__":
    run(main)
