-- Errors of a handler that are final answers: its writes are undone, the failure is kept.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE SCHEMA store_failures;
CREATE TABLE store_failures.effect (what text PRIMARY KEY);
CREATE FUNCTION store_failures.work(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO store_failures.effect VALUES ('work ' || (request ->> 'n'));
    IF request ? 'sqlstate' THEN
        RAISE EXCEPTION 'refused "ä" for %', request ->> 'n' USING ERRCODE = request ->> 'sqlstate', DETAIL = 'a secret';
    END IF;
    IF request ? 'twice' THEN
        INSERT INTO store_failures.effect VALUES ('work ' || (request ->> 'n'));
    END IF;
    RETURN '"fine"';
END $$;

-- without the setting an error is an error
SELECT outcome FROM idempotent_run('store_failures_none', 'k1', '{"n": 0, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('store_failures_none', 'k1');

SELECT store_failures FROM idempotent_operation('store_failures', store_failures => '{P0001,23}');
-- by its SQLSTATE
\x on
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after,
       expires_at > clock_timestamp() + interval '4 minutes' AND expires_at < clock_timestamp() + interval '6 minutes' AS expires_in_five_minutes
FROM idempotent_run('store_failures', 'k1', '{"n": 1, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after,
       expires_at > clock_timestamp() + interval '4 minutes' AND expires_at < clock_timestamp() + interval '6 minutes' AS expires_in_five_minutes
FROM idempotent_run('store_failures', 'k1', '{"n": 1, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
\x off
SELECT outcome, failed, response FROM idempotent_replay('store_failures', 'k1');
SELECT outcome FROM idempotent_run('store_failures', 'k1', '{"n": 2, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
-- by its class
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'k2', '{"n": 2, "twice": true}', 'store_failures.work(jsonb)');
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'k2', '{"n": 2, "twice": true}', 'store_failures.work(jsonb)');
SELECT outcome, failed, response ->> 'sqlstate' AS sqlstate FROM idempotent_run('store_failures', 'k3', '{"n": 3, "sqlstate": "23999"}', 'store_failures.work(jsonb)');
-- another SQLSTATE of the same class as a code that was named is not meant
SELECT outcome FROM idempotent_run('store_failures', 'k4', '{"n": 4, "sqlstate": "P0002"}', 'store_failures.work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_run('store_failures', 'k4', '{"n": 4, "sqlstate": "22023"}', 'store_failures.work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('store_failures', 'k4');
-- no error: as ever
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'k5', '{"n": 5}', 'store_failures.work(jsonb)');
-- the work of failures is undone, that of the others kept
SELECT what FROM store_failures.effect ORDER BY what;

-- within a transaction only the handler's part is undone
BEGIN;
INSERT INTO store_failures.effect VALUES ('before');
SELECT outcome, failed FROM idempotent_run('store_failures', 'k6', '{"n": 6, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
INSERT INTO store_failures.effect VALUES ('after');
SELECT outcome, failed FROM idempotent_run('store_failures', 'k7', '{"n": 7}', 'store_failures.work(jsonb)');
COMMIT;
SELECT what FROM store_failures.effect ORDER BY what;
-- and a rollback takes the failure with it
BEGIN;
SELECT outcome, failed FROM idempotent_run('store_failures', 'k8', '{"n": 8, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
ROLLBACK;
SELECT outcome FROM idempotent_replay('store_failures', 'k8');

-- claims that the handler made are gone with its writes; so is an answer that it stored
CREATE FUNCTION store_failures.claims(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_claim('store_failures', 'inner');
    PERFORM idempotent_complete('store_failures', 'k9', '"success"');
    RAISE EXCEPTION 'after all not';
END $$;
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'k9', '9', 'store_failures.claims(jsonb)');
SELECT outcome, failed, response FROM idempotent_replay('store_failures', 'k9');
SELECT outcome FROM idempotent_replay('store_failures', 'inner');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- likewise a release
CREATE FUNCTION store_failures.releases(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_release('store_failures', 'k10');
    RAISE EXCEPTION 'after all not';
END $$;
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'k10', '10', 'store_failures.releases(jsonb)');
SELECT outcome, failed, response FROM idempotent_replay('store_failures', 'k10');

-- nested: the inner failure is stored, unless the outer handler fails, too
CREATE FUNCTION store_failures.nests(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    inner_answer idempotent_result;
BEGIN
    inner_answer := idempotent_run('store_failures', request ->> 'inner', '{"n": 20, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
    IF request ? 'fail' THEN
        RAISE EXCEPTION 'outer failure';
    END IF;
    RETURN inner_answer.response;
END $$;
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'outer 1', '{"inner": "inner 1"}', 'store_failures.nests(jsonb)');
SELECT outcome, failed, response FROM idempotent_replay('store_failures', 'inner 1');
SELECT outcome, failed, response FROM idempotent_run('store_failures', 'outer 2', '{"inner": "inner 2", "fail": true}', 'store_failures.nests(jsonb)');
SELECT outcome, failed, response FROM idempotent_replay('store_failures', 'inner 2');

-- what says "try again" or "broken" is never stored, and cannot be asked for
SELECT store_failures FROM idempotent_operation('store_failures_55', store_failures => '{55}');
SELECT outcome FROM idempotent_run('store_failures_55', 'k1', '{"n": 11, "sqlstate": "55P03"}', 'store_failures.work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, failed FROM idempotent_run('store_failures_55', 'k2', '{"n": 12, "sqlstate": "55000"}', 'store_failures.work(jsonb)');
CREATE FUNCTION pg_temp.refusal(entry text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
    PERFORM idempotent_operation('store_failures_bad', store_failures => ARRAY[entry]);
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN sqlstate || ' ' || sqlerrm || ': ' || detail;
END $$;
SELECT e, pg_temp.refusal(e) FROM unnest('{40,40001,08,08006,53,53100,57,57014,58,58030,55P03,55006,XX,XX000,ID,ID002,00,00000,"",P,P00,P0001x,P0_01,"P000 ",Ä001,p0001}'::text[]) AS e;
SELECT outcome FROM idempotent_run('store_failures', 'k13', '{"n": 13, "sqlstate": "40001"}', 'store_failures.work(jsonb)');
\echo :LAST_ERROR_SQLSTATE

-- a call that goes wrong before the handler is called is no failure of its
SELECT store_failures FROM idempotent_operation('store_failures_all', store_failures => '{P0,22,23,42,55}');
SELECT outcome, failed, response FROM idempotent_run('store_failures_all', 'missing', '1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('store_failures_all', 'missing');

-- the operation's failure_retention
SELECT failure_retention FROM idempotent_operation('store_failures', failure_retention => '2 hours');
SELECT failed, expires_at > clock_timestamp() + interval '119 minutes' AS kept_two_hours
FROM idempotent_run('store_failures', 'k14', '{"n": 14, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');

-- a failure is tried again once it has expired
SELECT failure_retention FROM idempotent_operation('store_failures', failure_retention => '1 microsecond');
SELECT outcome, failed FROM idempotent_run('store_failures', 'k15', '{"n": 15, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
SELECT outcome, failed FROM idempotent_run('store_failures', 'k15', '{"n": 15, "sqlstate": "P0001"}', 'store_failures.work(jsonb)');
SET client_min_messages = warning;
DROP SCHEMA store_failures CASCADE;

-- A deferred constraint is judged before the answer is stored: its error is final where store_failures says so, and no COMMIT fails of it.
SELECT name FROM idempotent_operation('deferred', store_failures => '{23}');
CREATE TABLE failures_paid (customer text UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO failures_paid VALUES ('Ada');
CREATE FUNCTION failures_pay(jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO failures_paid VALUES ('Ada') RETURNING '1'::jsonb $$;
SELECT outcome, failed, response->>'sqlstate' AS sqlstate FROM idempotent_run('deferred', 'k', '1', 'failures_pay');
SELECT outcome, failed, response->>'sqlstate' AS sqlstate FROM idempotent_run('deferred', 'k', '1', 'failures_pay');
SELECT count(*) FROM failures_paid;
-- What the transaction did before the call is not the handler's failure: its error is raised, and nothing is stored.
CREATE TABLE failures_parent (id integer PRIMARY KEY);
CREATE TABLE failures_child (parent integer REFERENCES failures_parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION failures_nothing(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
CREATE FUNCTION failures_immediate(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'full' USING ERRCODE = '23514'; END $$;
CREATE FUNCTION failures_adopt(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO failures_child VALUES (request::integer) RETURNING '1'::jsonb $$;
BEGIN;
INSERT INTO failures_child VALUES (1);
SELECT outcome, failed FROM idempotent_run('deferred', 'innocent', '1', 'failures_nothing');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT outcome FROM idempotent_replay('deferred', 'innocent');
-- A failure of its own is stored, whatever the transaction did before.
BEGIN;
INSERT INTO failures_child VALUES (1);
SELECT outcome, failed FROM idempotent_run('deferred', 'guilty', '1', 'failures_immediate');
INSERT INTO failures_parent VALUES (1);
COMMIT;
-- Constraints stay deferred for the rest of the transaction, and are checked when it ends.
BEGIN;
SELECT outcome, failed FROM idempotent_run('deferred', 'before', '1', 'failures_nothing');
INSERT INTO failures_child VALUES (2);
INSERT INTO failures_parent VALUES (2);
COMMIT;
BEGIN;
SELECT outcome, failed FROM idempotent_run('deferred', 'broken', '2', 'failures_adopt');
DELETE FROM failures_parent WHERE id = 2;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('deferred', 'broken');
DROP TABLE failures_child, failures_parent;
DROP FUNCTION failures_nothing, failures_immediate, failures_adopt;
SELECT idempotent_forget_all('deferred');
DELETE FROM idempotent.operation WHERE name = 'deferred';
DROP TABLE failures_paid;
DROP FUNCTION failures_pay;
