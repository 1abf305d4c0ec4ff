-- What administrators take back: messages, offsets, and all of an owner's.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_curious;
CREATE ROLE regress_idempotent_curious;
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT clock_timestamp() AS began \gset
SELECT idempotent_grant('regress_idempotent_curious');

-- a message, so that it is processed again
SELECT * FROM idempotent_first_of('forgotten', '{m1,m2}', 't1');
SELECT idempotent_forget_message('forgotten', 'm1', 't1') AS forgotten, idempotent_forget_message('forgotten', 'm1', 't1') AS again, idempotent_forget_message('forgotten', 'm2') AS another_scope;
SELECT * FROM idempotent_first_of('forgotten', '{m1,m2}', 't1');
SELECT idempotent_first('forgotten', 'brief', retention => '1 microsecond');
SELECT idempotent_forget_message('forgotten', 'brief') AS was_known;
BEGIN;
SELECT idempotent_first('forgotten', 'mine'), idempotent_forget_message('forgotten', 'mine'), idempotent_first('forgotten', 'mine') AS again;
ROLLBACK;
SELECT idempotent_forget_message('forgotten', '');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_forget_message(NULL, 'm1');
-- a wait that cannot be
SELECT idempotent_first('forgotten', 'm3', wait => '-1 second');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM idempotent_first_skip_held('forgotten', '{m3,m1,m3}');
SELECT * FROM idempotent_first_skip_held('forgotten', '{}');
SELECT * FROM idempotent_first_skip_held('forgotten', NULL);
SELECT idempotent_first_skip_held('forgotten', '{m4,m3}');

-- an offset, back and away
SELECT idempotent_advance('forgotten', 'p', 10, 't1');
SELECT idempotent_rewind('forgotten', 'p', 10, 't1') AS same, idempotent_rewind('forgotten', 'p', 11, 't1') AS beyond, idempotent_rewind('forgotten', 'p', 3) AS another_scope;
SELECT idempotent_rewind('forgotten', 'p', 3, 't1') AS before;
SELECT idempotent_advance('forgotten', 'p', 3, 't1') AS third, idempotent_advance('forgotten', 'p', 4, 't1') AS fourth;
SELECT idempotent_forget_offset('forgotten', 'p', 't1') AS before, idempotent_forget_offset('forgotten', 'p', 't1') AS again;
SELECT idempotent_advance('forgotten', 'p', 1, 't1') AS first;
SELECT idempotent_rewind('forgotten', 'p', NULL, 't1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_rewind('forgotten', '', 1, 't1');

-- all of an owner's, of everything that has owners
SELECT on_lapse FROM idempotent_operation('forgotten_logged', durability => 'logged', on_lapse => 'unknown');
CREATE FUNCTION forgotten_step(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF given->'request' = '0' THEN RAISE EXCEPTION 'not now'; END IF; RETURN '1'; END $$;
SELECT name FROM idempotent_saga('forgotten_saga', '[{"name": "a", "handler": "public.forgotten_step(jsonb)"}, {"name": "b", "handler": "public.forgotten_step(jsonb)"}]');
CREATE PROCEDURE forgotten_fill(scope text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_claim('forgotten', 'done', '{"secret": 1}', scope), idempotent_complete('forgotten', 'done', '{"answer": 1}', scope => forgotten_fill.scope);
    PERFORM idempotent_claim('forgotten_logged', 'done', NULL, scope), idempotent_complete('forgotten_logged', 'done', '2', scope => forgotten_fill.scope);
    PERFORM idempotent_claim('forgotten', 'leased', NULL, scope, lease => '1 hour');
    PERFORM idempotent_claim('forgotten_logged', 'lapsed', NULL, scope, lease => '1 microsecond');
    PERFORM idempotent_first('forgotten', 'm', scope), idempotent_advance('forgotten', 'q', 7, scope);
    PERFORM idempotent_lock('held', 'k', '1 hour', scope), idempotent_lock('lapsed', 'k', '1 microsecond', scope);
    PERFORM idempotent_saga_step('forgotten_saga', 'done', '1', scope), idempotent_saga_step('forgotten_saga', 'done', '1', scope), idempotent_saga_step('forgotten_saga', 'stands', '1', scope);
    PERFORM idempotent_outbox_put('forgotten', '{"secret": 3}', scope);
END $$;
CALL forgotten_fill('owner-1');
CALL forgotten_fill('owner-2');
CREATE VIEW forgotten_left AS SELECT scope, count(*), array_agg(DISTINCT what ORDER BY what) AS what FROM (
    SELECT scope, 'record' AS what FROM idempotent.record UNION ALL SELECT scope, 'record_logged' FROM idempotent.record_logged UNION ALL SELECT scope, 'messages' FROM idempotent.messages
    UNION ALL SELECT scope, 'offsets' FROM idempotent.offsets UNION ALL SELECT scope, 'locks' FROM idempotent.locks UNION ALL SELECT scope, 'saga_run' FROM idempotent.saga_run
    UNION ALL SELECT key, 'outbox_message' FROM idempotent.outbox_message) AS all_of_it WHERE scope LIKE 'owner%' GROUP BY scope;
SELECT * FROM forgotten_left ORDER BY scope;
SELECT e->>'table' AS "table", count(*), array_agg(COALESCE(e->'row'->>'key', e->'row'->>'message_id', e->'row'->>'partition', e->'row'->>'resource') ORDER BY COALESCE(e->'row'->>'key', e->'row'->>'message_id', e->'row'->>'partition', e->'row'->>'resource')) FILTER (WHERE e->>'table' NOT LIKE 'outbox%') AS keys
  FROM idempotent_export_scope('owner-1') AS e GROUP BY 1 ORDER BY 1;
SELECT e->'row'->'response' AS response FROM idempotent_export_scope('owner-1') AS e WHERE e->>'table' = 'record' AND e->'row'->>'key' = 'done';
SELECT count(*) FROM idempotent_export_scope('nobody');
BEGIN;
SELECT * FROM idempotent_forget_scope('owner-1');
SELECT * FROM forgotten_left ORDER BY scope;
SELECT outcome FROM idempotent_claim('forgotten', 'done', '{"secret": 2}', 'owner-1');
ROLLBACK;
SELECT * FROM idempotent_forget_scope('owner-1');
SELECT * FROM idempotent_forget_scope('owner-1');
-- what was held, and is no more
SELECT idempotent_release('forgotten', 'leased', 'owner-1', fence => (SELECT fence FROM idempotent.in_flight WHERE operation = 'forgotten' AND scope = 'owner-1'));
SELECT idempotent_saga_forget('forgotten_saga', 'stands', 'owner-1', unfinished => true), idempotent_unlock('held', 'k', 'owner-1', (SELECT fence FROM idempotent.locks WHERE scope = 'owner-1'));
SELECT * FROM forgotten_left ORDER BY scope;
-- no loss: a dated key of another owner's is as it was
SELECT (SELECT count(*) FROM idempotent.reset WHERE operation LIKE 'forgotten%') AS losses;
-- messages of the outbox: what is with a relay is held, and so is its id
SELECT idempotent_outbox_put('forgotten', '1', 'owner-3', '00000000-0000-4000-8000-000000000031'), idempotent_outbox_put('forgotten', '1', 'owner-3', '00000000-0000-4000-8000-000000000032');
SELECT count(*) AS taken FROM idempotent_outbox_take('forgotten', 1000, '1 hour') WHERE key = 'owner-3' AND message_id::text LIKE '%31';
SELECT idempotent_outbox_ack('forgotten', '{00000000-0000-4000-8000-000000000032}', (SELECT max(fence) FROM idempotent.outbox_message WHERE key = 'owner-3')) AS acknowledged;
SELECT * FROM idempotent_forget_scope('owner-3');
SELECT message_id FROM idempotent.outbox_id WHERE key = 'owner-3';
-- a message with a scope is the scope's, whatever its key
SELECT count(idempotent_outbox_put('forgotten', '1', v.key, scope => v.scope)) FROM (VALUES ('lane', 'owner-4'), ('owner-4', 'another')) AS v (key, scope);
SELECT count(*) AS exported FROM idempotent_export_scope('owner-4');
SELECT forgotten, held FROM idempotent_forget_scope('owner-4');
SELECT key, scope FROM idempotent.outbox_message WHERE 'owner-4' IN (key, scope);
-- what is no owner
SELECT idempotent_forget_scope('');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_export_scope('');
SELECT idempotent_forget_scope(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM idempotent_export_scope(NULL);
SELECT idempotent_forget_scope(repeat('s', 256));
BEGIN READ ONLY;
SELECT idempotent_forget_scope('owner-2');
ROLLBACK;

-- administrators' alone
SET ROLE regress_idempotent_curious;
SELECT idempotent_forget_message('forgotten', 'm1');
SELECT idempotent_rewind('forgotten', 'p', 1);
SELECT idempotent_forget_offset('forgotten', 'p');
SELECT idempotent_forget_scope('owner-2');
SELECT idempotent_export_scope('owner-2');
SELECT * FROM idempotent_first_skip_held('forgotten', '{m9}');
RESET ROLE;
SELECT action, operation, scope, key, detail FROM idempotent.audit WHERE at >= :'began' AND action SIMILAR TO 'forget_(message|offset|scope)|rewind|export_scope' ORDER BY at;

SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_curious;
DROP ROLE regress_idempotent_curious;
SELECT count(*) > 0 AS forgotten FROM idempotent_forget_scope('owner-2');
DELETE FROM idempotent.saga_run WHERE saga = 'forgotten_saga';
DELETE FROM idempotent.saga WHERE name = 'forgotten_saga';
DELETE FROM idempotent.outbox_message WHERE topic = 'forgotten';
DELETE FROM idempotent.locks;
DELETE FROM idempotent.messages WHERE consumer = 'forgotten';
DELETE FROM idempotent.offsets WHERE consumer = 'forgotten';
SELECT idempotent_forget_all('forgotten') > 0 AS forgotten, idempotent_forget_all('forgotten_logged') > 0 AS logged, idempotent_operation_drop('forgotten_logged');
DROP VIEW forgotten_left;
DROP FUNCTION forgotten_step;
DROP PROCEDURE forgotten_fill;
