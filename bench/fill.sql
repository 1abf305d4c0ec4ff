-- :expired records whose time was over in the last hour, and :live ones that have a day to go.
INSERT INTO idempotent.record (record_id, fingerprint, fingerprint_version, slot, finished_at, expires_at, sweep_at, state, evicted,
                               operation, scope, key, response, status)
SELECT md5('live ' || n)::uuid, md5('request ' || n)::uuid, 1, idempotent_slot('tenant-7'), now() - interval '1 hour', now() + interval '1 day',
       now() + interval '1 day', 'c', false, 'charge', 'tenant-7', 'live ' || n, '{"payment": 123456, "state": "accepted"}', 201
  FROM generate_series(1, :live) AS n;
INSERT INTO idempotent.record (record_id, fingerprint, fingerprint_version, slot, finished_at, expires_at, sweep_at, state, evicted,
                               operation, scope, key, response, status)
SELECT md5('expired ' || n)::uuid, md5('request ' || n)::uuid, 1, idempotent_slot('tenant-7'), now() - interval '1 day', at, at, 'c', false, 'charge', 'tenant-7',
       'expired ' || n, '{"payment": 123456, "state": "accepted"}', 201
  FROM generate_series(1, :expired) AS n, LATERAL (SELECT now() - interval '1 hour' * (1 - n / (:expired + 1.0)) AS at) AS due;
VACUUM (ANALYZE) idempotent.record;
CHECKPOINT;
