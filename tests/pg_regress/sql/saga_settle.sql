-- Sagas that do not end by themselves, and steps within the caller's transaction.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_steward;
CREATE ROLE regress_idempotent_steward;
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT clock_timestamp() AS began \gset

CREATE TABLE settle_effect (number bigint GENERATED ALWAYS AS IDENTITY, what text);
GRANT INSERT ON settle_effect TO regress_idempotent_steward;
CREATE FUNCTION settle_note(what text, given jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO settle_effect (what) VALUES (what || ' ' || (given->>'step')); SELECT to_jsonb(what) $$;
CREATE FUNCTION settle_do(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF given->'request'->>'fails' = given->>'step' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END IF;
    IF given->'request'->>'hangs' = given->>'step' THEN RAISE EXCEPTION 'not now' USING ERRCODE = '55P03'; END IF;
    RETURN settle_note('do', given);
END $$;
CREATE FUNCTION settle_undo(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF given->'request'->>'sticks' = given->>'step' THEN RAISE EXCEPTION 'cannot be undone'; END IF;
    RETURN settle_note('undo', given);
END $$;
SELECT jsonb_array_length(steps) AS steps FROM idempotent_saga('settle', '[
    {"name": "a", "handler": "public.settle_do(jsonb)", "compensation": "public.settle_undo(jsonb)"},
    {"name": "b", "handler": "public.settle_do(jsonb)", "compensation": "public.settle_undo(jsonb)"},
    {"name": "c", "handler": "public.settle_do(jsonb)", "final": ["23"]}]');
CREATE VIEW settle_seen AS SELECT r.key, e.state, e.number, e.step, e.step_state, e.answer, e.failure FROM idempotent.saga_run AS r, idempotent_saga_explain(r.saga, r.key, r.scope) AS e WHERE r.saga = 'settle';
CREATE FUNCTION settle_effects() RETURNS text LANGUAGE sql AS $$ WITH gone AS (DELETE FROM settle_effect RETURNING *) SELECT string_agg(what, ', ' ORDER BY number) FROM gone $$;

-- one step at a time, in the caller's transaction: what it says is what is next
BEGIN;
SELECT * FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
SELECT * FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
SELECT * FROM settle_seen WHERE key = 'steps';
ROLLBACK;
SELECT count(*) FROM settle_seen WHERE key = 'steps';
BEGIN;
SELECT more, state, next_step FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
SAVEPOINT second;
SELECT more, state, next_step FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
ROLLBACK TO second;
SELECT more, state, next_step FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
COMMIT;
SELECT * FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
SELECT * FROM idempotent_saga_step('settle', 'steps', '{"n": 1}');
SELECT settle_effects();
SELECT outcome, state, next_step FROM idempotent_saga_step('settle', 'steps', '{"n": 2}');
-- a failure that is final, and its compensations, in one transaction of PL/pgSQL, and in a block with EXCEPTION
DO $$
DECLARE
    s record;
BEGIN
    LOOP
        BEGIN
            SELECT * INTO s FROM idempotent_saga_step('settle', 'loop', '{"fails": "c"}');
        EXCEPTION WHEN check_violation THEN
            RAISE NOTICE 'it came through';
        END;
        RAISE NOTICE '% % % %', s.more, s.outcome, s.state, s.next_step;
        EXIT WHEN NOT s.more;
    END LOOP;
END $$;
SELECT settle_effects();
-- a handler cannot step its own saga
CREATE FUNCTION settle_own(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('settle_deep') < 3 THEN PERFORM idempotent_saga_step('own', given->>'key'); END IF;
    RETURN settle_note('own', given);
END $$;
CREATE SEQUENCE settle_deep;
SELECT name FROM idempotent_saga('own', '[{"name": "a", "handler": "public.settle_own(jsonb)"}]');
SELECT * FROM idempotent_saga_step('own', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT settle_effects(), (SELECT count(*) FROM idempotent.saga_run WHERE saga = 'own') AS sagas;

-- a wrong request: mismatch for the right one, for ever
CALL idempotent_saga_run('settle', 'wrong', '{"hangs": "b"}');
CALL idempotent_saga_run('settle', 'wrong', '{"n": 1}');
SELECT number, state, step, step_state, answer, failure, handler, compensation, request FROM idempotent_saga_explain('settle', 'wrong');
SELECT * FROM idempotent_saga_abandon('settle', 'wrong');
SELECT number, state, step_state, answer, failure FROM settle_seen WHERE key = 'wrong';
-- not again, and not without knowing what became of it
SELECT idempotent_saga_abandon('settle', 'wrong');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga_forget('settle', 'wrong');
\echo :LAST_ERROR_SQLSTATE
-- undone, without its request
SELECT * FROM idempotent_saga_resume('settle', 'wrong');
SELECT * FROM idempotent_saga_resume('settle', 'wrong');
SELECT settle_effects();
SELECT number, state, step_state, answer, failure FROM settle_seen WHERE key = 'wrong';
SELECT idempotent_saga_forget('settle', 'wrong'), idempotent_saga_forget('settle', 'wrong') AS again;
CALL idempotent_saga_run('settle', 'wrong', '{"n": 1}');
SELECT settle_effects();

-- a compensation that fails: compensating for ever
CALL idempotent_saga_run('settle', 'stuck', '{"fails": "c", "sticks": "b"}');
SELECT * FROM idempotent_saga_resume('settle', 'stuck');
SELECT number, state, step_state, answer, failure FROM settle_seen WHERE key = 'stuck';
-- only what is next is settled, and only by what it can be
SELECT idempotent_saga_settle('settle', 'stuck', 'a', 'compensated');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga_settle('settle', 'stuck', 'b', 'completed', '1');
SELECT idempotent_saga_settle('settle', 'stuck', 'b', 'compensated', '1');
SELECT idempotent_saga_settle('settle', 'stuck', 'b', 'undone');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga_settle('settle', 'stuck', 'b', NULL);
SELECT idempotent_saga_settle('settle', 'stuck', NULL, 'compensated');
SELECT idempotent_saga_settle('settle', 'stuck', '', 'compensated');
SELECT * FROM idempotent_saga_settle('settle', 'stuck', 'b', 'uncompensated');
CALL idempotent_saga_run('settle', 'stuck', '{"fails": "c", "sticks": "b"}');
SELECT settle_effects();
SELECT number, state, step_state, answer, failure FROM settle_seen WHERE key = 'stuck';
SELECT idempotent_saga_settle('settle', 'stuck', 'a', 'compensated');
CALL idempotent_saga_run('settle', 'undone', '{"fails": "c", "sticks": "b"}');
SELECT * FROM idempotent_saga_settle('settle', 'undone', 'b', 'compensated');
SELECT * FROM idempotent_saga_settle('settle', 'undone', 'a', 'uncompensated');
CALL idempotent_saga_run('settle', 'undone', '{"fails": "c", "sticks": "b"}');
SELECT expires_at - changed_at AS kept FROM idempotent.sagas WHERE key = 'undone';
SELECT settle_effects();

-- a step that was done by other means, or never will be
CALL idempotent_saga_run('settle', 'by_hand', '{"hangs": "b"}', 'tenant-7');
SELECT * FROM idempotent_saga_settle('settle', 'by_hand', 'b', 'completed', '{"receipt": 7}', 'tenant-7');
CALL idempotent_saga_run('settle', 'by_hand', '{"hangs": "b"}', 'tenant-7');
CALL idempotent_saga_run('settle', 'never', '{"hangs": "b"}');
SELECT * FROM idempotent_saga_settle('settle', 'never', 'b', 'failed');
CALL idempotent_saga_run('settle', 'never', '{"hangs": "b"}');
-- the last step
CALL idempotent_saga_run('settle', 'last', '{"hangs": "c"}');
SELECT * FROM idempotent_saga_settle('settle', 'last', 'c', 'completed');
CALL idempotent_saga_run('settle', 'last', '{"hangs": "c"}');
-- nothing to undo
CALL idempotent_saga_run('settle', 'first', '{"hangs": "a"}');
SELECT count(*) FROM idempotent.saga_run WHERE key = 'first';
SELECT idempotent_saga_abandon('settle', 'first');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga_resume('settle', 'first');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent_saga_explain('settle', 'first');
-- forgotten in the middle
CALL idempotent_saga_run('settle', 'middle', '{"hangs": "b"}');
SELECT idempotent_saga_forget('settle', 'middle', unfinished => true);
SELECT settle_effects();
-- what has expired counts as absent
UPDATE idempotent.saga_run SET expires_at = clock_timestamp() WHERE key = 'last';
SELECT idempotent_saga_resume('settle', 'last');
SELECT count(*) FROM idempotent_saga_explain('settle', 'last');
SELECT idempotent_saga_forget('settle', 'last');

-- administrators' alone; a steward may go on with sagas that stand still, with his own rights
SELECT idempotent_grant('regress_idempotent_steward');
SET ROLE regress_idempotent_steward;
SELECT idempotent_saga_explain('settle', 'never');
SELECT idempotent_saga_resume('settle', 'never');
SELECT idempotent_saga_abandon('settle', 'never');
SELECT idempotent_saga_settle('settle', 'never', 'a', 'compensated');
SELECT idempotent_saga_forget('settle', 'never');
RESET ROLE;
GRANT EXECUTE ON FUNCTION idempotent_saga_resume(text, text, text, interval), idempotent_saga_explain(text, text, text) TO regress_idempotent_steward;
CALL idempotent_saga_run('settle', 'steward', '{"hangs": "b"}');
SET ROLE regress_idempotent_steward;
SELECT * FROM idempotent_saga_resume('settle', 'steward');
SELECT count(*) FROM idempotent_saga_explain('settle', 'steward');
RESET ROLE;
SELECT name FROM idempotent_operation('settle', role => 'pg_monitor');
SET ROLE regress_idempotent_steward;
SELECT * FROM idempotent_saga_resume('settle', 'steward');
SELECT count(*) FROM idempotent_saga_explain('settle', 'steward');
RESET ROLE;
SELECT name FROM idempotent_operation('settle', role => '-');
BEGIN READ ONLY;
SELECT count(*) FROM idempotent_saga_explain('settle', 'never');
SELECT idempotent_saga_settle('settle', 'never', 'a', 'compensated');
ROLLBACK;
-- each with its line, in its transaction
BEGIN;
SELECT * FROM idempotent_saga_settle('settle', 'steward', 'b', 'completed');
ROLLBACK;
SELECT action, operation, scope, key, detail FROM idempotent.audit WHERE at >= :'began' AND action LIKE 'saga%' ORDER BY at;

REVOKE ALL ON FUNCTION idempotent_saga_resume(text, text, text, interval), idempotent_saga_explain(text, text, text) FROM regress_idempotent_steward;
SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_steward;
DROP ROLE regress_idempotent_steward;
DELETE FROM idempotent.saga_run WHERE saga IN ('settle', 'own');
DELETE FROM idempotent.saga WHERE name IN ('settle', 'own');
SELECT idempotent_operation_drop('settle');
DROP VIEW settle_seen;
DROP TABLE settle_effect;
DROP SEQUENCE settle_deep;
DROP FUNCTION settle_note, settle_do, settle_undo, settle_own, settle_effects;
