-- The key of a saga is a key: the same rules, and the same outcomes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set VERBOSITY terse

CREATE TABLE saga_effect (key text);
-- what has run is told by the sequence, whether it was undone or not
CREATE SEQUENCE saga_ran;
CREATE FUNCTION saga_act(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT nextval('saga_ran'); INSERT INTO saga_effect VALUES (given->>'key') RETURNING '1'::jsonb $$;
CREATE FUNCTION key_act(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT name FROM idempotent_saga('same', '[{"name": "act", "handler": "public.saga_act(jsonb)"}]');

-- What a key and a saga are answered, side by side.
CREATE FUNCTION as_key(key text, request jsonb, scope text = '') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT r.outcome FROM idempotent_run('same', key, request, 'public.key_act', scope => scope) AS r);
EXCEPTION WHEN OTHERS THEN RETURN format('%s %s', SQLSTATE, SQLERRM);
END $$;
-- A saga does not run in a block with EXCEPTION, so an error of its is raised.
CREATE FUNCTION as_saga(key text, request jsonb, scope text = '') RETURNS text LANGUAGE sql AS $$ SELECT s.outcome FROM idempotent_saga_step('same', key, request, scope) AS s $$;

-- a dated key: too old, and nothing is run
SELECT as_key('018bcfe5-6800-7000-8000-000000000000', '1') AS key, as_saga('018bcfe5-6800-7000-8000-000000000000', '1') AS saga;
-- a date without hyphens is none
SELECT as_key('018bcfe5680070008000000000000000', '1') AS key, as_saga('018bcfe5680070008000000000000000', '1') AS saga;
-- a date in the future
SELECT format('%s-%s-7000-8000-000000000000', left(d.hex, 8), substr(d.hex, 9)) AS key
  FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp() + '1 year') * 1000)::bigint), 12, '0') AS hex) AS d \gset
SELECT as_key(:'key', '1') AS key;
SELECT as_saga(:'key', '1') AS saga;
SELECT count(*) AS effects FROM saga_effect;
-- members of the request that do not count
SELECT name FROM idempotent_operation('same', fingerprint_exclude => '{sent_at}');
SELECT as_key('excluded', '{"a": 1, "sent_at": 1}') AS key, as_saga('excluded', '{"a": 1, "sent_at": 1}') AS saga;
SELECT as_key('excluded', '{"a": 1.0, "sent_at": 2}') AS key, as_saga('excluded', '{"a": 1.0, "sent_at": 2}') AS saga;
SELECT as_key('excluded', '{"a": 2, "sent_at": 1}') AS key, as_saga('excluded', '{"a": 2, "sent_at": 1}') AS saga;
SELECT as_key('excluded', NULL) AS key, as_saga('excluded', NULL) AS saga;
-- names, in bytes of UTF-8
SELECT as_key('', '1') AS key;
SELECT as_saga('', '1') AS saga;
SELECT as_key(repeat('k', 256), '1') AS key;
SELECT as_saga(repeat('k', 256), '1') AS saga;
SELECT as_key(E'a\x01b', '1') AS key;
SELECT as_saga(E'a\x01b', '1') AS saga;
SELECT as_key('k', '1', NULL) AS key;
SELECT as_saga('k', '1', NULL) AS saga;
-- the wait of an operation, as long as an operation may have it
SELECT name FROM idempotent_operation('same', wait => '30 days');
SELECT as_key('waits', '1') AS key, as_saga('waits', '1') AS saga;
-- an answer is kept until the date of its key alone refuses it: the retention is over, and it is not run again
SELECT name FROM idempotent_operation('same', retention => '1 second');
SELECT idempotent_new_key() AS key \gset
SELECT as_key(:'key', '1') AS key, as_saga(:'key', '1') AS saga;
SELECT r.expires_at - to_timestamp(('x' || translate(left(:'key', 13), '-', ''))::bit(48)::bigint / 1000.0) > '5 seconds' AS kept FROM idempotent.saga_run AS r WHERE r.key = :'key';
-- and one without a date for the retention alone
SELECT as_saga('undated', '1') AS saga;
SELECT expires_at - changed_at AS kept FROM idempotent.saga_run WHERE key = 'undated';
SELECT name FROM idempotent_operation('same', retention => '1 day');

-- what is final, and what can never be
SELECT idempotent_saga('final', '[{"name": "a", "handler": "public.saga_act(jsonb)", "final": ["42883", null]}]');
SELECT idempotent_saga('final', '[{"name": "a", "handler": "public.saga_act(jsonb)", "final": ["57014"]}]');
CREATE FUNCTION saga_gone(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT name FROM idempotent_saga('final', '[{"name": "a", "handler": "public.saga_gone(jsonb)", "final": ["42"]}]');
ALTER FUNCTION saga_gone(jsonb) RENAME TO saga_elsewhere;
CALL idempotent_saga_run('final', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent.sagas WHERE saga = 'final';
-- but the handler's own is
CREATE FUNCTION saga_gone(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM saga_never_was(); RETURN NULL; END $$;
CALL idempotent_saga_run('final', 'k');

-- a deferred constraint is judged in the step that breaks it
CREATE TABLE saga_parent (id integer PRIMARY KEY);
CREATE TABLE saga_child (parent integer REFERENCES saga_parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION saga_orphan(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO saga_child VALUES (1) RETURNING '1'::jsonb $$;
SELECT name FROM idempotent_saga('deferred', '[{"name": "a", "handler": "public.saga_orphan(jsonb)", "final": ["23503"]}]');
CALL idempotent_saga_run('deferred', 'k');
SELECT count(*) FROM saga_child;
-- but not what the transaction did before the step, which is no failure of the step's
CREATE FUNCTION saga_innocent(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT name FROM idempotent_saga('innocent', '[{"name": "a", "handler": "public.saga_innocent(jsonb)", "final": ["23503"]}]');
BEGIN;
INSERT INTO saga_child VALUES (1);
SELECT outcome, failed FROM idempotent_saga_step('innocent', 'k');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT outcome, failed FROM idempotent_saga_step('innocent', 'k');

-- a saga does not run where it cannot commit, and no handler of it does
ALTER SEQUENCE saga_ran RESTART;
DO $$ DECLARE o text; f boolean; a jsonb; e jsonb; BEGIN CALL idempotent_saga_run('same', 'inside', NULL, '', NULL, o, f, a, e); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION saga_within() RETURNS void LANGUAGE plpgsql AS $$ DECLARE o text; f boolean; a jsonb; e jsonb; BEGIN CALL idempotent_saga_run('same', 'inside', NULL, '', NULL, o, f, a, e); END $$;
SELECT saga_within();
\echo :LAST_ERROR_SQLSTATE
BEGIN;
CALL idempotent_saga_run('same', 'inside');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- nor does a handler run a step of its own saga
CREATE FUNCTION saga_itself(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM idempotent_saga_step('itself', given->>'key'); RETURN NULL; END $$;
SELECT name FROM idempotent_saga('itself', '[{"name": "a", "handler": "public.saga_itself(jsonb)"}]');
CALL idempotent_saga_run('itself', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT is_called AS ran FROM saga_ran;

-- its lock is out of the reach of pg_advisory_lock, also of its own numbers
DO $$ BEGIN PERFORM pg_advisory_lock(hashtextextended(concat('pg_idempotent saga', E'\n', 'same', E'\n', '', E'\n', 'locked'), 0)); END $$;
SELECT as_saga('locked', '1') AS saga;
SELECT pg_advisory_unlock_all();
CREATE FUNCTION saga_locks(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(array_agg(DISTINCT objsubid)) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() $$;
SELECT name FROM idempotent_saga('locks', '[{"name": "a", "handler": "public.saga_locks(jsonb)"}]');
CALL idempotent_saga_run('locks', 'k');

-- begun before its operation demanded a scope: it goes on and is seen without one, and none begins
SELECT name FROM idempotent_saga('scoped', '[{"name": "a", "handler": "public.key_act(jsonb)"}, {"name": "b", "handler": "public.key_act(jsonb)"}]');
SELECT more, next_step FROM idempotent_saga_step('scoped', 'k');
SELECT scope_required FROM idempotent_operation('scoped', scope_required => true);
SELECT state, number, step, step_state FROM idempotent_saga_explain('scoped', 'k');
CALL idempotent_saga_run('scoped', 'k');
CALL idempotent_saga_run('scoped', 'k');
SELECT idempotent_saga_forget('scoped', 'k');
CALL idempotent_saga_run('scoped', 'k');
\echo :LAST_ERROR_SQLSTATE
CALL idempotent_saga_run('scoped', 'k', scope => 't');

-- what has expired waits for the sweeper, and is swept
DELETE FROM idempotent.saga_run WHERE saga <> 'same' OR key IN ('undated', :'key');
SELECT idempotent_sweep() IS NOT NULL AS swept;
SELECT count(*) > 2 AS some FROM idempotent.saga_run;
UPDATE idempotent.saga_run SET expires_at = clock_timestamp() WHERE key = 'excluded';
SELECT what, durability, due, expired, evictable FROM idempotent.backlog WHERE what = 'sagas';
SELECT idempotent_sweep();
SELECT what, durability, due FROM idempotent.backlog WHERE what = 'sagas';
SELECT count(*) FROM idempotent.saga_run WHERE key = 'excluded';

SET client_min_messages = warning;
DELETE FROM idempotent.saga_run;
DELETE FROM idempotent.saga;
DELETE FROM idempotent.record WHERE operation = 'same';
DELETE FROM idempotent.operation WHERE name IN ('same', 'scoped');
DROP TABLE saga_effect, saga_child, saga_parent;
DROP FUNCTION saga_act, key_act, as_key, as_saga, saga_gone, saga_elsewhere, saga_orphan, saga_itself, saga_within, saga_locks;
DROP SEQUENCE saga_ran;
