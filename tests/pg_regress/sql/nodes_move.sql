-- Slots move from one database to another: everything of their owners comes along, once, and goes on where it was.
\set SHOW_CONTEXT never
\set home :DBNAME
SET client_min_messages = warning;
-- without the keys of other tests, one of which may have the same slot
DROP EXTENSION IF EXISTS pg_idempotent CASCADE;
CREATE EXTENSION pg_idempotent;
SET lock_timeout = '20s';
-- both nodes alike, but for the numbers of what is excluded
CREATE FUNCTION move_work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('did', request -> 'n') $$;
CREATE FUNCTION move_fail(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'not yet' USING ERRCODE = '40000'; END $$;
SELECT fingerprint_exclude FROM idempotent_operation('move', retention => '2 days', fingerprint_exclude => '{at}');
SELECT durability FROM idempotent_operation('move logged', durability => 'logged');
SELECT count(*) FROM (SELECT idempotent_operation('move longer', retention => r) FROM unnest('{1 hour,2 hours}'::interval[]) AS r) AS o;
SELECT max_attempts FROM idempotent_operation('move mail', max_attempts => 1);
SELECT name FROM idempotent_saga('move saga', '[{"name": "a", "handler": "public.move_work(jsonb)"}, {"name": "b", "handler": "public.move_fail(jsonb)"}]');

-- what there is of one owner
SELECT outcome FROM idempotent_run('move', 'done', '{"n": 1, "at": 5}', 'move_work', 'mover');
SELECT outcome FROM idempotent_run('move logged', 'done', '{"n": 2}', 'move_work', 'mover');
BEGIN;
SELECT run FROM idempotent_http_claim('move', 'bytes', 'POST', '/', 'text/plain', '\x00', 'mover');
SELECT idempotent_http_complete('move', 'bytes', 201, '[["ETag","x"]]', '\x00ff0a5c', 'mover');
COMMIT;
BEGIN;
SELECT outcome FROM idempotent_claim('move', 'failed', '{"n": 3}', 'mover');
SELECT idempotent_fail('move', 'failed', '"declined"', scope => 'mover', retention => '1 day');
COMMIT;
SELECT (idempotent_seal('move', 'sealed', 'mover')).outcome;
SELECT fence FROM idempotent_claim('move', 'lapsed', '{"n": 4}', 'mover', lease => '1 hour') \gset
SELECT idempotent_checkpoint('move', 'lapsed', '{"page": 3}', 'mover', :fence);
SELECT idempotent_extend('move', 'lapsed', '1 millisecond', 'mover', :fence) IS NOT NULL AS extended;
-- leases that lapse, and are followed by something else at the other node
SELECT on_lapse FROM idempotent_operation('move wary', on_lapse => 'unknown');
SELECT fence AS taken FROM idempotent_claim('move', 'taken', '{"n": 8}', 'mover', lease => '1 hour') \gset
SELECT idempotent_extend('move', 'taken', '1 millisecond', 'mover', :taken) IS NOT NULL AS extended;
SELECT fence AS settled FROM idempotent_claim('move wary', 'settled', '{"n": 9}', 'mover', lease => '1 hour') \gset
SELECT idempotent_extend('move wary', 'settled', '1 millisecond', 'mover', :settled) IS NOT NULL AS extended;
SELECT idempotent_first('move', 'm', 'mover'), idempotent_advance('move', 'p', 7, 'mover');
SELECT acquired FROM idempotent_lock('move', 'holder', '1 hour', 'mover');
SELECT more, outcome FROM idempotent_saga_step('move saga', 'k', '{"n": 5}', 'mover');
SELECT count(idempotent_outbox_put('move mail', to_jsonb(n), 'lane', scope => 'mover')) FROM generate_series(1, 3) AS n;
SELECT idempotent_outbox_put('move mail', '"acked"', message_id => 'a0000000-0000-4000-8000-0000000000aa', scope => 'mover');
SELECT payload FROM idempotent_outbox_take('move mail', 1, '1 microsecond');
SELECT payload FROM idempotent_outbox_take('move mail', 2, '1 microsecond') ORDER BY payload::text;
SELECT idempotent_outbox_ack('move mail', ARRAY[message_id], fence) FROM idempotent.outbox_message WHERE topic = 'move mail' AND payload = '"acked"';
SELECT payload, attempt FROM idempotent.outbox_message WHERE topic = 'move mail' ORDER BY position;
SELECT count(*) FROM idempotent.dead_letters WHERE topic = 'move mail';
-- what is null in JSON, and what is not there
BEGIN;
SELECT outcome FROM idempotent_claim('move', 'null', 'null', 'mover');
SELECT idempotent_complete('move', 'null', 'null', scope => 'mover');
SELECT outcome FROM idempotent_claim('move', 'none', 'null', 'mover');
SELECT idempotent_complete('move', 'none', scope => 'mover');
COMMIT;
SELECT idempotent_outbox_put('move null', 'null', scope => 'mover') IS NOT NULL AS put;
-- columns of an administrator's
ALTER TABLE idempotent.record ADD COLUMN here text, ADD COLUMN theirs text;
UPDATE idempotent.record SET here = 'here', theirs = 'theirs' WHERE operation = 'move' AND key = 'done';
-- and of another
SELECT outcome FROM idempotent_run('move', 'stays', '{"n": 6}', 'move_work', 'another');

-- refused while this database answers for them
SELECT int4multirange(int4range(idempotent_slot('k', 'mover'), idempotent_slot('k', 'mover') + 1)) AS slots \gset
SELECT idempotent_export(:'slots');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_export(NULL);
SELECT idempotent_own('{[0,16384)}'::int4multirange - :'slots');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM idempotent_export(:'slots');
ROLLBACK;
SELECT jsonb_agg(e) AS exported, count(*) AS rows FROM idempotent_export(:'slots') AS e \gset
SELECT e ->> 'table' AS what, count(*) FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' NOT IN ('reset', 'earlier_retention') GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM jsonb_array_elements(:'exported') AS e WHERE e -> 'row' ->> 'scope' <> 'mover';
SELECT detail = :'slots' AS audited FROM idempotent.audit WHERE action = 'export' ORDER BY at DESC LIMIT 1;
SELECT last_value AS fence FROM idempotent.fence \gset

-- the other node
CREATE DATABASE regress_idempotent_node;
\c regress_idempotent_node
SET client_min_messages = warning;
SET lock_timeout = '20s';
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION move_work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('did', request -> 'n') $$;
SELECT idempotent_own('{[0,16384)}'::int4multirange - :'slots');
SELECT fingerprint_exclude FROM idempotent_operation('move', retention => '2 days', fingerprint_exclude => '{other}');
SELECT fingerprint_exclude FROM idempotent_operation('move', fingerprint_exclude => '{at}');
SELECT durability FROM idempotent_operation('move logged', durability => 'logged');
SELECT name FROM idempotent_saga('move saga', '[{"name": "a", "handler": "public.move_work(jsonb)"}]');
CREATE FUNCTION public.move_fail(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT request -> 'answers' $$;
ALTER TABLE idempotent.record_logged ADD COLUMN there integer, ADD COLUMN theirs text;
ALTER TABLE idempotent.record ADD COLUMN theirs text, ADD COLUMN there integer;
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' NOT IN ('reset', 'earlier_retention') GROUP BY 1, 2 ORDER BY 1, 2;
-- twice is harmless
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' NOT IN ('reset', 'earlier_retention') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT DISTINCT e ->> 'table' AS what, idempotent_import(e) AS answer FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' = 'earlier_retention';
SELECT DISTINCT e ->> 'table' AS what, idempotent_import(e) AS answer FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' = 'earlier_retention';
SELECT last_value > :fence AS fences_go_on_above FROM idempotent.fence;
-- a fence that is made up would use up all there are
SELECT idempotent_import('{"table": "fence", "row": {"last": 9223372036854775807}}');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_import(jsonb_set(e, '{row,state}', '"q"')) FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' = 'record' LIMIT 1;
\echo :LAST_ERROR_SQLSTATE
-- not yet its own
SELECT idempotent_replay('move', 'done', 'mover');
SELECT idempotent_own(NULL);
SELECT outcome, response FROM idempotent_run('move', 'done', '{"n": 1, "at": 6}', 'move_work', 'mover');
SELECT outcome FROM idempotent_run('move', 'done', '{"n": 7, "at": 5}', 'move_work', 'mover');
SELECT key, outcome, response, response IS NULL AS none FROM unnest('{"null",none}'::text[]) AS key, idempotent_replay('move', key, 'mover');
SELECT payload FROM idempotent_outbox_take('move null');
SELECT idempotent_outbox_ack('move null', array_agg(message_id), max(fence)) FROM idempotent.outbox_message WHERE topic = 'move null';
SELECT theirs, there FROM idempotent.record WHERE operation = 'move' AND key = 'done';
SELECT outcome, response FROM idempotent_run('move logged', 'done', '{"n": 2}', 'move_work', 'mover');
SELECT run, outcome, status, headers, body FROM idempotent_http_claim('move', 'bytes', 'POST', '/', 'text/plain', '\x00', 'mover');
SELECT outcome, failed, response FROM idempotent_run('move', 'failed', '{"n": 3}', 'move_work', 'mover');
SELECT outcome FROM idempotent_run('move', 'sealed', '{"n": 3}', 'move_work', 'mover');
SELECT outcome, attempt, checkpoint, fence > :fence AS above FROM idempotent_claim('move', 'lapsed', '{"n": 4}', 'mover', lease => '1 hour');
SELECT idempotent_complete('move', 'lapsed', '"here"', scope => 'mover', fence => (SELECT fence FROM idempotent.record WHERE key = 'lapsed'));
SELECT outcome, fence, response FROM idempotent_run('move', 'taken', '{"n": 8}', 'move_work', 'mover');
SELECT outcome FROM idempotent_run('move wary', 'settled', '{"n": 9}', 'move_work', 'mover');
SELECT outcome, response FROM idempotent_resolve('move wary', 'settled', 'completed', '"by hand"', 'mover');
SELECT idempotent_first('move', 'm', 'mover'), idempotent_advance('move', 'p', 7, 'mover'), idempotent_advance('move', 'p', 8, 'mover');
SELECT acquired, holder FROM idempotent_lock('move', 'another', '1 hour', 'mover');
SELECT acquired, fence <= :fence AS the_same_fence FROM idempotent_lock('move', 'holder', '1 hour', 'mover');
SELECT outcome, answers FROM idempotent_saga_step('move saga', 'k', '{"n": 5}', 'mover');
SELECT payload FROM idempotent_outbox_take('move mail');
SELECT idempotent_outbox_ack('move mail', array_agg(message_id), max(fence)) FROM idempotent.outbox_message;
SELECT idempotent_outbox_put('move mail', '"acked"', message_id => 'a0000000-0000-4000-8000-0000000000aa', scope => 'mover');
SELECT count(*) AS outbox FROM idempotent.outbox_message;
SELECT count(*) AS dead FROM idempotent.dead_letters;
-- what came after: a third import does nothing to what has gone on
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' NOT IN ('reset', 'earlier_retention') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT outcome, response FROM idempotent_replay('move', 'lapsed', 'mover');
SELECT count(*) AS outbox FROM idempotent.outbox_message;

-- A conflict writes nothing and is told.
SELECT outcome FROM idempotent_run('move', 'both', '{"n": "here"}', 'move_work', 'mover');
SELECT idempotent_import(jsonb_set(e, '{row}', e -> 'row' || jsonb_build_object('key', 'both', 'record_id', idempotent_explain('move', 'both', 'mover') ->> 'record_id'))) AS answer
FROM jsonb_array_elements(:'exported') AS e WHERE e -> 'row' ->> 'key' = 'done' AND e -> 'row' ->> 'operation' = 'move';
SELECT outcome, response FROM idempotent_replay('move', 'both', 'mover');
SELECT action, operation, detail FROM idempotent.audit WHERE action = 'import';
-- fences above what arrives, also of a row that is not taken
SELECT last_value + 1000000 AS far FROM idempotent.fence \gset
SELECT idempotent_import(jsonb_set(e, '{row}', e -> 'row' || jsonb_build_object('fence', :far))) AS answer
FROM jsonb_array_elements(:'exported') AS e WHERE e -> 'row' ->> 'key' = 'lapsed';
SELECT fence > :far AS above FROM idempotent_claim('move', 'next', scope => 'mover', lease => '1 second');
SELECT idempotent_release('move', 'next', 'mover', fence) FROM idempotent.record WHERE key = 'next';
-- what is none
SELECT idempotent_import('{"table": "pg_authid", "row": {}}');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_import('{"table": "record", "row": {"operation": "move"}}');
SELECT idempotent_import('[1]');
SELECT idempotent_import(NULL);

-- And back: what was left behind there gives way to what has happened since.
SELECT idempotent_forget('move logged', 'done', 'mover');
SELECT outcome, response FROM idempotent_run('move logged', 'done', '{"n": 22}', 'move_work', 'mover');
SELECT idempotent_own('{[0,16384)}'::int4multirange - :'slots');
SELECT jsonb_agg(e) AS back FROM idempotent_export(:'slots') AS e \gset
\c :home
SET client_min_messages = warning;
SET lock_timeout = '20s';
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM jsonb_array_elements(:'back') AS e WHERE e ->> 'table' NOT IN ('reset', 'earlier_retention') GROUP BY 1, 2 ORDER BY 1, 2;
-- what came before it left nothing
SELECT idempotent_import(e) AS answer, e -> 'row' ->> 'key' AS key FROM jsonb_array_elements(:'exported') AS e WHERE e -> 'row' ->> 'key' IN ('taken', 'settled') ORDER BY 2;
SELECT idempotent_own(NULL);
SELECT outcome, response FROM idempotent_run('move', 'taken', '{"n": 8}', 'move_work', 'mover');
SELECT outcome, response FROM idempotent_run('move wary', 'settled', '{"n": 9}', 'move_work', 'mover');
SELECT outcome, response FROM idempotent_run('move logged', 'done', '{"n": 22}', 'move_work', 'mover');
SELECT outcome, response FROM idempotent_replay('move', 'lapsed', 'mover');
SELECT outcome, response FROM idempotent_replay('move', 'both', 'mover');
SELECT outcome, response FROM idempotent_replay('move', 'done', 'mover');
SELECT idempotent_advance('move', 'p', 8, 'mover');
SELECT outcome, answers FROM idempotent_saga_step('move saga', 'k', '{"n": 5}', 'mover');
SELECT count(*) AS outbox FROM idempotent.outbox_message WHERE topic = 'move mail';
SELECT outcome, response FROM idempotent_replay('move', 'stays', 'another');
DROP DATABASE regress_idempotent_node WITH (FORCE);

-- A node that does not know all keys: dated ones are unknown, undated ones as after a reset.
SELECT idempotent_new_key(now() - interval '1 hour') AS before, idempotent_new_key(now() + interval '1 second') AS after \gset
SELECT idempotent_ignorant();
SELECT ignorant_before <= now() AS ignorant FROM idempotent.health;
BEGIN;
SELECT outcome FROM idempotent_claim('move', :'before');
SELECT outcome FROM idempotent_claim('move logged', :'before');
SELECT outcome FROM idempotent_claim('move', :'after');
SELECT outcome FROM idempotent_claim('move', 'undated');
SELECT outcome FROM idempotent_replay('move', 'done', 'mover');
ROLLBACK;
SELECT (idempotent_resolve('move', :'before', 'absent')).outcome;
BEGIN;
SELECT outcome FROM idempotent_claim('move', :'before');
ROLLBACK;
SELECT idempotent_ignorant(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_ignorant('infinity');
SELECT idempotent_ignorant('-infinity');
SELECT ignorant_before FROM idempotent.health;
SELECT DISTINCT action FROM idempotent.audit WHERE action IN ('own', 'ignorant') ORDER BY action;
-- no table takes them for a loss of its own
SELECT count(*) FROM idempotent.reset WHERE operation = '';
-- Columns of an administrator's go to the other table of records by their names, and stay behind where they have none there.
ALTER TABLE idempotent.record_logged ADD COLUMN theirs text, ADD COLUMN "two words" integer, ADD COLUMN made text GENERATED ALWAYS AS (key) STORED;
SELECT outcome FROM idempotent_run('move columns', 'k', '1', 'move_work', 'mover');
UPDATE idempotent.record SET here = 'here', theirs = 'theirs' WHERE operation = 'move columns';
SELECT durability FROM idempotent_operation('move columns', durability => 'logged');
SELECT key, theirs, "two words", made FROM idempotent.record_logged WHERE operation = 'move columns';
SELECT durability FROM idempotent_operation('move columns', durability => 'unlogged');
SELECT key, here, theirs FROM idempotent.record WHERE operation = 'move columns';
SELECT outcome FROM idempotent_run('move columns', 'k', '1', 'move_work', 'mover');
SELECT idempotent_forget_all('move columns');
ALTER TABLE idempotent.record DROP COLUMN here, DROP COLUMN theirs;
ALTER TABLE idempotent.record_logged DROP COLUMN theirs, DROP COLUMN "two words", DROP COLUMN made;
DROP FUNCTION move_work(jsonb), move_fail(jsonb);
SELECT count(idempotent_forget_all(o)) FROM unnest('{move,move logged,move wary}'::text[]) AS o;
DELETE FROM idempotent.outbox_message;
DELETE FROM idempotent.outbox_dead;
