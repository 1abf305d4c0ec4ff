-- Several nodes: whose data a row is, and which of it is this database's.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;

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
-- a column to filter by; without the old row its end would not arrive
SET client_min_messages = error;
CREATE PUBLICATION nodes_publication FOR TABLE idempotent.record_logged WHERE (slot BETWEEN 0 AND 4095);
SELECT outcome, fence FROM idempotent_claim('nodes logged', 'published', lease => '1 hour') \gset
SELECT idempotent_release('nodes logged', 'published', fence => :fence);
ALTER TABLE idempotent.record_logged REPLICA IDENTITY FULL;
SELECT idempotent_release('nodes logged', 'published', fence => :fence);
ALTER TABLE idempotent.record_logged REPLICA IDENTITY DEFAULT;
DROP PUBLICATION nodes_publication;
RESET client_min_messages;

-- This database answers for the slots of 't1' and 'k', and for no others.
-- What other tests have left leased would be waited for.
SELECT count(idempotent_forget(operation, key, scope, fence)) > 0 AS freed FROM idempotent.record WHERE state = 'p' AND lease_until > now();
SELECT count(idempotent_forget(operation, key, scope, fence)) >= 0 AS freed FROM idempotent.record_logged WHERE state = 'p' AND lease_until > now();
DELETE FROM idempotent.outbox_message WHERE lease_until > now();
SET lock_timeout = '20s';
SELECT idempotent_slot('k', 't1') AS t1, idempotent_slot('k') AS k, idempotent_slot('k', 't2') AS t2 \gset
SELECT idempotent_own(int4multirange(int4range(:t1, :t1 + 1), int4range(:k, :k + 1)));
SELECT own = int4multirange(int4range(:t1, :t1 + 1), int4range(:k, :k + 1)) AS own FROM idempotent.health;
SELECT action, operation, detail = (SELECT own::text FROM idempotent.health) AS slots FROM idempotent.audit WHERE action = 'own';
SELECT outcome FROM idempotent_run('nodes', 'own', '1', 'nodes_handler', 't1');
SELECT outcome FROM idempotent_run('nodes', 'k', '1', 'nodes_handler');
SELECT outcome FROM idempotent_run('nodes', 'k', '1', 'nodes_handler', 't2');
-- every door says the same
CREATE FUNCTION nodes_try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN concat(SQLSTATE, ' ', SQLERRM);
END $$;
CREATE TABLE nodes_door AS
SELECT n, door FROM unnest(ARRAY[
    $$idempotent_claim('nodes', 'own', scope => 'OWNER')$$, $$idempotent_claim('nodes', 'leased 2', lease => '1 hour', scope => 'OWNER')$$,
    $$idempotent_http_claim('nodes', 'own', 'POST', '/', scope => 'OWNER')$$,
    $$idempotent_run('nodes logged', 'own', '1', 'nodes_handler', 'OWNER')$$, $$idempotent_replay('nodes', 'own', 'OWNER')$$,
    $$idempotent_explain('nodes', 'own', 'OWNER')$$, $$idempotent_seal('nodes', 'own', 'OWNER')$$, $$idempotent_resolve('nodes', 'own', 'absent', scope => 'OWNER')$$,
    $$idempotent_complete('nodes', 'own', scope => 'OWNER')$$, $$idempotent_fail('nodes', 'own', scope => 'OWNER', fence => 1)$$,
    $$idempotent_http_complete('nodes', 'own', 200, scope => 'OWNER')$$,
    $$idempotent_release('nodes', 'own', 'OWNER')$$, $$idempotent_extend('nodes', 'own', '1 s', 'OWNER', 1)$$, $$idempotent_checkpoint('nodes', 'own', '1', 'OWNER', 1)$$,
    $$idempotent_extend_all('nodes', '{own}', '{1}', '1 s', 'OWNER')$$, $$idempotent_forget('nodes', 'nothing', 'OWNER')$$,
    $$idempotent_first('nodes', 'm2', 'OWNER')$$, $$idempotent_first_of('nodes', '{m2,m3}', 'OWNER')$$, $$idempotent_advance('nodes', 'p1', 2, 'OWNER')$$,
    $$idempotent_lock('r2', 'k', '1 hour', 'OWNER')$$, $$idempotent_unlock('r2', 'k', 'OWNER', 1)$$, $$idempotent_outbox_put('nodes', '1', scope => 'OWNER')$$,
    $$idempotent_outbox_put('nodes', '1', 'some key', 'a0000000-0000-4000-8000-000000000009', scope => 'OWNER')$$]) WITH ORDINALITY AS d (door, n);
BEGIN;
SELECT n, split_part(door, '(', 1) AS door, nodes_try('SELECT ' || replace(door, 'OWNER', 't2')) AS other, left(nodes_try('SELECT ' || replace(door, 'OWNER', 't1')), 5) AS own FROM nodes_door ORDER BY n;
-- without a scope it is the key
SELECT nodes_try($$SELECT idempotent_claim('nodes', 'another key')$$), nodes_try($$SELECT idempotent_first_of('nodes', '{k,another id}')$$),
       nodes_try($$SELECT idempotent_outbox_put('nodes', '1', 'another key')$$), nodes_try($$SELECT idempotent_outbox_put('nodes', '1', 'k')$$);
-- what has no owner is put anywhere
SELECT nodes_try($$SELECT idempotent_outbox_put('nodes', '1')$$);
ROLLBACK;
SELECT idempotent_saga_step('nodes saga', 'k2', scope => 't2');
-- what an administrator decides of a saga that went on elsewhere would be lost, and a step would run twice
SELECT nodes_try($$SELECT idempotent_saga_resume('nodes saga', 'k2', 't2')$$), nodes_try($$SELECT idempotent_saga_abandon('nodes saga', 'k2', 't2')$$),
       nodes_try($$SELECT idempotent_saga_settle('nodes saga', 'k2', 'a', 'completed', scope => 't2')$$),
       nodes_try($$SELECT idempotent_saga_forget('nodes saga', 'k2', 't2')$$);
-- what it is asked first
SELECT role IS NOT NULL AS has_role FROM idempotent_operation('nodes strangers', role => 'pg_monitor');
CREATE ROLE regress_nodes;
SELECT idempotent_grant('regress_nodes');
GRANT EXECUTE ON FUNCTION nodes_try(text) TO regress_nodes;
SET ROLE regress_nodes;
SELECT nodes_try($$SELECT idempotent_claim('nodes strangers', 'k', scope => 't2')$$);
SELECT nodes_try($$SELECT idempotent_claim('nodes', 'k', scope => 't2')$$);
SELECT nodes_try('SELECT idempotent_own(NULL)'), nodes_try('SELECT idempotent_ignorant()'), nodes_try($$SELECT idempotent_export('{[0,1)}')$$), nodes_try($$SELECT idempotent_import('{}')$$);
RESET ROLE;

-- A relay sends what is this database's.
SELECT idempotent_own(NULL);
DELETE FROM idempotent.outbox_message;
SELECT count(idempotent_outbox_put('nodes relay', to_jsonb(owner), scope => owner)) FROM unnest('{t1,t2,t3}'::text[]) AS owner;
SELECT idempotent_own(int4multirange(int4range(:t1, :t1 + 1)));
SELECT payload FROM idempotent_outbox_take('nodes relay', lease => '1 microsecond');
SELECT idempotent_own('{}');
SELECT outcome FROM idempotent_run('nodes', 'own', '1', 'nodes_handler', 't1');
-- A late acknowledgement would be lost with what is left behind, and the message sent again.
SELECT nodes_try(format('SELECT idempotent_outbox_%s(%L, %L, %s)', call, 'nodes relay', ARRAY[message_id], fence))
  FROM idempotent.outbox_message, unnest('{ack,release}'::text[]) AS call WHERE fence IS NOT NULL ORDER BY call;
SELECT payload FROM idempotent.outbox_message WHERE topic = 'nodes relay' AND fence IS NOT NULL;

-- Bad values, and by hand.
SELECT idempotent_own('{[-1,5),[9,20000)}');
\echo :LAST_ERROR_SQLSTATE
UPDATE idempotent.own SET slots = '{[0,1)}';
\echo :LAST_ERROR_SQLSTATE
DELETE FROM idempotent.own;
TRUNCATE idempotent.own;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
SELECT idempotent_own('{[0,5)}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- what is rolled back never was
SELECT idempotent_own(NULL);
BEGIN;
SELECT idempotent_own('{}');
SELECT nodes_try($$SELECT idempotent_claim('nodes', 'rolled back')$$);
ROLLBACK;
SELECT nodes_try($$SELECT idempotent_replay('nodes', 'rolled back')$$);
SELECT own FROM idempotent.health;

-- A lease of a slot that goes is waited for; its holder may finish it. (tests/isolation has the transactions.)
SELECT fence FROM idempotent_claim('nodes', 'waited for', scope => 't1', lease => '1 hour') \gset
SET lock_timeout = '200ms';
SELECT nodes_try('SELECT idempotent_own(''{}'')') AS refused;
SET lock_timeout = '20s';
SELECT idempotent_complete('nodes', 'waited for', '"done"', scope => 't1', fence => :fence);
RESET lock_timeout;
SELECT count(idempotent_forget_all(o)) FROM unnest('{nodes,nodes logged}'::text[]) AS o;
SELECT idempotent_revoke('regress_nodes');
DROP OWNED BY regress_nodes;
DROP ROLE regress_nodes;
DROP TABLE nodes_door;
DROP VIEW nodes_row;
DROP FUNCTION nodes_try(text), nodes_handler(jsonb);
DELETE FROM idempotent.outbox_message;
