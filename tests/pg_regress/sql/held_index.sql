-- Leases are found by an index of their own, which has no entry for a finished key: what a look at them costs does not depend on how
-- many keys are finished.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\a\t
SELECT durability FROM idempotent_operation('held_logged', durability => 'logged');
SELECT on_lapse FROM idempotent_operation('held', on_lapse => 'unknown');

-- what the index has, and what the table has
CREATE FUNCTION pg_temp.held(seqscan boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM set_config('enable_seqscan', seqscan::text, true), set_config('enable_indexscan', (NOT seqscan)::text, true),
            set_config('enable_bitmapscan', (NOT seqscan)::text, true);
    EXECUTE $q$ SELECT concat_ws(' ', string_agg(key, ',' ORDER BY key COLLATE "C"), min(logged)) FROM (
        SELECT key, claimed_at, '' AS logged FROM idempotent.record WHERE state = 'p' AND operation LIKE 'held%'
        UNION ALL
        SELECT key, claimed_at, 'logged' FROM idempotent.record_logged WHERE state = 'p' AND operation LIKE 'held%') AS r $q$ INTO found;
    RETURN found;
END $$;
CREATE FUNCTION pg_temp.agree() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    by_index text := pg_temp.held(false);
    by_table text := pg_temp.held(true);
BEGIN
    RETURN CASE WHEN by_index IS NOT DISTINCT FROM by_table THEN 'both: ' || by_table ELSE format('index: %s, table: %s', by_index, by_table) END;
END $$;
CREATE FUNCTION pg_temp.fence(of text) RETURNS bigint LANGUAGE sql AS $$ SELECT fence FROM idempotent.in_flight WHERE operation LIKE 'held%' AND key = of $$;

SELECT count(*) FROM generate_series(1, 6) AS n, idempotent_claim('held', 'k' || n, lease => '1 hour');
SELECT count(*) FROM generate_series(7, 9) AS n, idempotent_claim('held_logged', 'k' || n, lease => '1 hour');
SELECT count(*) FROM (SELECT (idempotent_claim('held', 'done ' || n)).outcome, idempotent_complete('held', 'done ' || n, '1') FROM generate_series(1, 9) AS n) AS d;
SELECT pg_temp.agree();
-- finished, given back, extended, with a checkpoint, rolled back to a savepoint, lapsed, taken over, moved
SELECT idempotent_complete('held', 'k1', '1', fence => pg_temp.fence('k1'));
SELECT idempotent_release('held', 'k2', fence => pg_temp.fence('k2'));
SELECT idempotent_extend('held', 'k3', '2 hours', fence => pg_temp.fence('k3')) > now() AS extended;
SELECT FROM idempotent_checkpoint('held', 'k4', '{"at": 1}', fence => pg_temp.fence('k4'));
SELECT FROM idempotent_fail('held_logged', 'k7', '1', fence => pg_temp.fence('k7'));
SELECT pg_temp.agree();
BEGIN;
SAVEPOINT a;
SELECT idempotent_complete('held', 'k5', '1', fence => pg_temp.fence('k5'));
SELECT outcome FROM idempotent_claim('held', 'k10', lease => '1 hour');
ROLLBACK TO a;
SELECT pg_temp.agree();
COMMIT;
SELECT lease_until > now() AS extended FROM idempotent_extend('held_logged', 'k8', '1 microsecond', fence => pg_temp.fence('k8')) AS lease_until;
SELECT attempt FROM idempotent_claim('held_logged', 'k8', lease => '1 hour', wait => '1 minute');
SELECT pg_temp.agree();
SELECT durability FROM idempotent_operation('held_logged', durability => 'unlogged');
SELECT pg_temp.agree();
SELECT durability FROM idempotent_operation('held_logged', durability => 'logged');
SELECT pg_temp.agree();
-- an administrator's index of the same kind is maintained, too; one with another condition is refused
CREATE INDEX held_index_answers ON idempotent.record (key) WHERE state = 'c';
SELECT outcome FROM idempotent_claim('held', 'k11', lease => '1 hour');
SELECT idempotent_complete('held', 'k11', '1', fence => pg_temp.fence('k11'));
SET enable_seqscan = off;
SELECT count(*) FROM idempotent.record WHERE operation = 'held' AND state = 'c' AND key = 'k11';
RESET enable_seqscan;
SELECT pg_temp.agree();
DROP INDEX idempotent.held_index_answers;
CREATE INDEX held_index_evicted ON idempotent.record (key) WHERE evicted;
\set SHOW_CONTEXT never
SELECT outcome FROM idempotent_claim('held', 'k12', lease => '1 hour');
\echo :LAST_ERROR_SQLSTATE
DROP INDEX idempotent.held_index_evicted;

-- what a look costs among many finished keys
INSERT INTO idempotent.record (record_id, slot, finished_at, expires_at, sweep_at, state, evicted, operation, scope, key, response)
SELECT md5('held ' || n)::uuid, idempotent_slot('many ' || n), now(), now() + interval '1 day', now() + interval '1 day', 'c', false, 'held', '', 'many ' || n, '1' FROM generate_series(1, 50000) AS n;
INSERT INTO idempotent.record_logged (record_id, slot, finished_at, expires_at, sweep_at, state, evicted, operation, scope, key, response)
SELECT md5('held ' || n)::uuid, idempotent_slot('many ' || n), now(), now() + interval '1 day', now() + interval '1 day', 'c', false, 'held_logged', '', 'many ' || n, '1' FROM generate_series(1, 50000) AS n;
CREATE FUNCTION pg_temp.buffers(query text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
END $$;
VACUUM idempotent.record, idempotent.record_logged;
SELECT pg_temp.buffers('TABLE idempotent.in_flight') < 100 + leases AS in_flight, pg_temp.buffers('TABLE idempotent.unresolved') < 100 + leases AS unresolved,
       pg_temp.buffers('SELECT count(response) FROM idempotent.record') > 500 + leases AS all_records
  FROM (SELECT count(*) AS leases FROM idempotent.in_flight) AS i;
SELECT count(*) FROM idempotent.in_flight WHERE operation LIKE 'held%';
DELETE FROM idempotent.record WHERE operation LIKE 'held%';
DELETE FROM idempotent.record_logged WHERE operation LIKE 'held%';
