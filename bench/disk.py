"""Bytes on disk for a record, with its indexes, against a table written by hand."""

from measure import QUICK, compare, psql

RECORDS = 50_000 if QUICK else 200_000
# An answer of 100 bytes as text.
FILL = """
    TRUNCATE bench.key, bench.idempotency_key;
    SELECT idempotent_operation('charge', durability => 'unlogged');
    TRUNCATE idempotent.record;
    INSERT INTO bench.key SELECT batch, key, request, jsonb_build_object('payment', 1000000 + batch, 'state', 'accepted', 'note', repeat('x', 43))
      FROM bench.new_keys({records} / 50, 50);
    DO $$ BEGIN
        FOR number IN 1 .. {records} / 50 LOOP
            PERFORM idempotent_claim('charge', key, request), idempotent_complete('charge', key, response) FROM bench.key WHERE batch = number;
            COMMIT;
        END LOOP;
    END $$;
    -- Written once and for all: what an UPDATE would leave behind is not held against it. The times differ, as they would.
    INSERT INTO bench.idempotency_key (key, request_hash, response, created_at, finished_at, expires_at)
    SELECT key, sha256(convert_to(request::text, 'UTF8')), response, clock_timestamp(), clock_timestamp(),
           clock_timestamp() + interval '24 hours'
      FROM bench.key;
    VACUUM bench.idempotency_key, idempotent.record;
"""


def measure():
    psql("SET client_min_messages = error;" + FILL.format(records=RECORDS))
    per_record = [float(psql(f"SELECT pg_total_relation_size('{table}')::numeric / {RECORDS}"))
                  for table in ("idempotent.record", "bench.idempotency_key")]
    length = psql("SELECT round(avg(length(response::text))) FROM bench.key")
    ours, rival = per_record
    rows = [(f"bytes a record, answer of {length} bytes", "key, hash, answer, three times, two indexes",
             compare([ours], [rival], False), round(1 / 0.85, 2))]
    return f"On disk, {RECORDS:,} records:", rows
