-- What a heartbeat costs when nothing of the ones before can go, as beside an old snapshot: here they are those of the same transaction.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
SELECT idempotent_sweep() >= 0 AS swept;
SELECT outcome, fence FROM idempotent_claim('lease_cost', 'k', lease => '1 minute') \gset lease_
SELECT (pg_relation_size('idempotent.record_pkey') + pg_relation_size('idempotent.record_sweep_at_idx') + pg_relation_size('idempotent.record_held_idx')) AS before \gset
BEGIN;
SELECT count(idempotent_extend('lease_cost', 'k', '1 minute', fence => :lease_fence)) AS heartbeats FROM generate_series(1, 2000);
-- Each looks for the newest version by the index, in which a page of versions has one entry.
SELECT pg_stat_get_xact_tuples_returned('idempotent.record_pkey'::regclass) < 100000 AS few_entries_looked_at,
       pg_stat_get_xact_tuples_hot_updated('idempotent.record'::regclass) > 1800 AS in_place;
SELECT idempotent_checkpoint('lease_cost', 'k', to_jsonb(n), fence => :lease_fence) IS NOT NULL AS left FROM generate_series(1, 3) AS n;
SELECT outcome, checkpoint, expires_at > now() AS lasts FROM idempotent_replay('lease_cost', 'k');
COMMIT;
SELECT (pg_relation_size('idempotent.record_pkey') + pg_relation_size('idempotent.record_sweep_at_idx') + pg_relation_size('idempotent.record_held_idx')) - :before < 65536 AS indexes_stay_small;
-- the sweeper is told of the new end once that is much later; too early a look finds nothing, and is no backlog
SELECT sweep_at < expires_at AS as_granted FROM idempotent.record WHERE operation = 'lease_cost';
SELECT idempotent_extend('lease_cost', 'k', '10 days', fence => :lease_fence) > now() AS lasts;
SELECT sweep_at = expires_at AS moved FROM idempotent.record WHERE operation = 'lease_cost';
UPDATE idempotent.record SET sweep_at = now() - interval '1 hour' WHERE operation = 'lease_cost';
SELECT due FROM idempotent.backlog WHERE what = 'records' AND durability = 'unlogged';
SELECT idempotent_sweep();
SELECT outcome FROM idempotent_replay('lease_cost', 'k');
-- another version behind a savepoint that is rolled back, and one that is completed
BEGIN;
SAVEPOINT s;
SELECT idempotent_checkpoint('lease_cost', 'k', '"gone"', fence => :lease_fence);
ROLLBACK TO s;
SELECT checkpoint FROM idempotent_replay('lease_cost', 'k');
SELECT idempotent_complete('lease_cost', 'k', '1', fence => :lease_fence);
COMMIT;
SELECT outcome, response FROM idempotent_replay('lease_cost', 'k');
SELECT count(*) FROM idempotent.record WHERE operation = 'lease_cost';
SELECT idempotent_forget_all('lease_cost');
