-- Several nodes: whose data a row is, which of it is this database's, and how it moves.

-- What clients compute, too: the bytes of slots, shards and ids, as data that another implementation has made.
\set vectors `cat "$PG_ABS_SRCDIR/../../clients/conformance/vectors/identity.json"`
CREATE TABLE nodes_vector AS
SELECT v.* FROM jsonb_to_recordset(:'vectors'::jsonb) AS v (operation text, scope text, key text, slot integer, shards jsonb, record_id uuid, lock jsonb, derived jsonb);
SELECT count(*) >= 20 AS are_there,
       bool_and(idempotent_slot(key, scope) = slot) AS slots,
       bool_and((SELECT bool_and(idempotent_shard(key, n::integer, scope) = shard::integer) FROM jsonb_each_text(shards) AS s (n, shard))) AS shards,
       bool_and((idempotent_explain(operation, key, scope) ->> 'record_id')::uuid = record_id) AS record_ids,
       bool_and(idempotent_derive_key(operation, key, 'card', scope)::text = derived ->> 'card') AS derived
FROM nodes_vector;
-- the advisory lock of each, as the library takes it
BEGIN;
SELECT count(idempotent_operation(operation, key_dates => 'ignore')) FROM (SELECT DISTINCT operation FROM nodes_vector) AS v;
SELECT DISTINCT outcome
FROM nodes_vector, LATERAL (SELECT (idempotent_claim(operation, key, scope => scope, wait => '0')).outcome) AS c;
SELECT count(*) AS locks, count(*) FILTER (WHERE lock = jsonb_build_array(l.classid::text::bigint, l.objid::text::bigint)) AS as_computed
FROM pg_locks AS l LEFT JOIN nodes_vector AS v ON v.lock = jsonb_build_array(l.classid::text::bigint, l.objid::text::bigint)
WHERE l.locktype = 'advisory' AND l.objsubid = 478 AND l.pid = pg_backend_pid();
ROLLBACK;
DROP TABLE nodes_vector;

-- Ids of dated keys lie in the order of time, whatever the operation.
SELECT bool_and(id > before) AS in_order
FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before
      FROM generate_series(1, 1000) AS n, LATERAL (SELECT (idempotent_explain('op ' || n % 7, idempotent_new_key('2026-01-01'::timestamptz + n * interval '1 ms')) ->> 'record_id')::uuid AS id) AS i) AS ids;

-- The slot of the owner stands in every row, whatever writes it.
CREATE FUNCTION nodes_handler(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE VIEW nodes_row AS
SELECT 'record' AS what, slot, scope, key AS owner FROM idempotent.record WHERE state <> 'e'
UNION ALL SELECT 'record_logged', slot, scope, key FROM idempotent.record_logged WHERE state <> 'e'
UNION ALL SELECT 'messages', slot, scope, message_id FROM idempotent.messages
UNION ALL SELECT 'offsets', slot, scope, partition FROM idempotent.offsets
UNION ALL SELECT 'locks', slot, scope, resource FROM idempotent.locks
UNION ALL SELECT 'saga_run', slot, scope, key FROM idempotent.saga_run
UNION ALL SELECT 'outbox_message', slot, scope, COALESCE(key, message_id::text) FROM idempotent.outbox_message
UNION ALL SELECT 'outbox_id', slot, scope, COALESCE(key, message_id::text) FROM idempotent.outbox_id
UNION ALL SELECT 'outbox_dead', slot, scope, COALESCE(key, message_id::text) FROM idempotent.outbox_dead;
SELECT durability FROM idempotent_operation('nodes logged', durability => 'logged');
SELECT max_attempts FROM idempotent_operation('nodes mail', max_attempts => 1);
SELECT name FROM idempotent_saga('nodes saga', '[{"name": "a", "handler": "public.nodes_handler(jsonb)"}]');
SELECT count((idempotent_run(operation, operation || scope, '1', 'nodes_handler', scope)).outcome) FROM unnest('{nodes,nodes logged}'::text[]) AS operation, unnest('{"",t1}'::text[]) AS scope;
SELECT outcome FROM idempotent_claim('nodes', 'leased', scope => 't1', lease => '1 hour');
SELECT (idempotent_seal('nodes', 'sealed', 't2')).outcome;
SELECT idempotent_first('nodes', 'm1'), idempotent_first('nodes', 'm1', 't1');
SELECT idempotent_advance('nodes', 'p1', 1), idempotent_advance('nodes', 'p1', 1, 't1');
SELECT (idempotent_lock('r1', 'k', '1 hour')).acquired, (idempotent_lock('r1', 'k', '1 hour', 't1')).acquired;
CALL idempotent_saga_run('nodes saga', 'k');
CALL idempotent_saga_run('nodes saga', 'k', scope => 't1');
SELECT count(idempotent_outbox_put('nodes mail', '1', key, id, scope))
FROM (VALUES ('k', NULL, ''), ('k', NULL, 't1'), (NULL, 'a0000000-0000-4000-8000-000000000001'::uuid, ''), ('k', 'a0000000-0000-4000-8000-000000000002', 't1'), (NULL, NULL, 't1')) AS m (key, id, scope);
SELECT count(*) FROM idempotent_outbox_take('nodes mail', 3, '1 microsecond');
SELECT count(*) FROM idempotent_outbox_take('nodes mail', 3, '1 microsecond');
SELECT what, bool_and(slot = idempotent_slot(owner, scope)) AS of_the_owner, count(*) FILTER (WHERE scope <> '') > 0 AS some_have_a_scope FROM nodes_row GROUP BY what ORDER BY what;
-- a message without scope, key or id has no owner
SELECT idempotent_outbox_put('nodes', '1') IS NOT NULL AS put;
SELECT slot FROM idempotent.outbox_message WHERE topic = 'nodes';
-- and rows that are no records have no slot
SELECT DISTINCT slot FROM idempotent.record WHERE state = 'e';
-- a column to filter by
SET client_min_messages = error;
CREATE PUBLICATION nodes_publication FOR TABLE idempotent.record_logged WHERE (slot BETWEEN 0 AND 4095);
DROP PUBLICATION nodes_publication;
RESET client_min_messages;
