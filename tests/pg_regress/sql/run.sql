-- idempotent_run: claim, call the handler, store its answer.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE SCHEMA run;
CREATE TABLE run.effect (id integer GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION run.work(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run.effect (what) VALUES (request);
    RETURN jsonb_build_object('did', request);
END $$;

\x on
-- executed, then replayed
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after, expires_at > now() + interval '23 hours' AS kept_a_day
FROM idempotent_run('run', 'k1', '{"n": 1}', 'run.work(jsonb)');
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after, expires_at > now() + interval '23 hours' AS kept_a_day
FROM idempotent_run('run', 'k1', '{"n": 1}', 'run.work(jsonb)');
\x off
-- the same request, spelled otherwise, and another one
SELECT outcome, response FROM idempotent_run('run', 'k1', '{"n": 1.0}', 'run.work(jsonb)');
SELECT outcome, response FROM idempotent_run('run', 'k1', '{"n": 2}', 'run.work(jsonb)');
SELECT outcome, response FROM idempotent_run('run', 'k1', NULL, 'run.work(jsonb)');
SELECT outcome, response FROM idempotent_run('run', 'k1', '{"n": 2}', 'run.work(jsonb)', strict => true);
\echo :LAST_ERROR_SQLSTATE
-- with claim and replay it is one world
SELECT outcome, response FROM idempotent_claim('run', 'k1', '{"n": 1}');
SELECT outcome, response FROM idempotent_replay('run', 'k1');
-- once per row, once per statement, once per column
SELECT (r).outcome, (r).response FROM (SELECT idempotent_run('run', 'k2', '2', 'run.work(jsonb)') AS r FROM generate_series(1, 3)) AS thrice;
SELECT (a).outcome AS first, (b).outcome AS second
FROM (SELECT idempotent_run('run', 'k3', '3', 'run.work(jsonb)') AS a, idempotent_run('run', 'k3', '3', 'run.work(jsonb)') AS b) AS twice;
SELECT (idempotent_run('run', 'k4', '4', 'run.work(jsonb)')).response;
-- under a claim of the caller's own
BEGIN;
SELECT outcome FROM idempotent_claim('run', 'k5', '5');
SELECT outcome FROM idempotent_run('run', 'k5', '6', 'run.work(jsonb)');
SELECT outcome, response FROM idempotent_run('run', 'k5', '5', 'run.work(jsonb)');
COMMIT;
SELECT outcome, response FROM idempotent_replay('run', 'k5');
-- a rollback takes answer and work with it
BEGIN;
SELECT outcome FROM idempotent_run('run', 'k6', '"first try"', 'run.work(jsonb)');
ROLLBACK;
SELECT outcome FROM idempotent_run('run', 'k6', '"second try"', 'run.work(jsonb)');
-- null in, null out
CREATE FUNCTION run.nothing(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT outcome, failed, response, response IS NULL AS is_null FROM idempotent_run('run', 'k7', NULL, 'run.nothing(jsonb)');
SELECT outcome, failed, response, response IS NULL AS is_null FROM idempotent_run('run', 'k7', NULL, 'run.nothing(jsonb)');
SELECT outcome FROM idempotent_run('run', 'k7', 'null', 'run.nothing(jsonb)');
-- scope and date pass through
SELECT outcome FROM idempotent_run('run', 'k1', '{"n": 1}', 'run.work(jsonb)', scope => 'tenant');
SELECT outcome FROM idempotent_run('run', 'k8', '8', 'run.work(jsonb)', first_sent => now() - interval '2 days');
SELECT outcome FROM idempotent_run('run', 'k8', '8', 'run.work(jsonb)', first_sent => now() - interval '2 days', strict => true);
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_run('run', 'k8', '8', 'run.work(jsonb)', first_sent => now() - interval '1 hour');
-- a key that somebody holds with a lease
SELECT fence FROM idempotent_claim('run', 'k9', '9', lease => '1 hour') \gset
SELECT outcome, response FROM idempotent_run('run', 'k9', '9', 'run.work(jsonb)', wait => '0');
SELECT outcome, response FROM idempotent_run('run', 'k9', '9', 'run.work(jsonb)', wait => '0', strict => true);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_extend('run', 'k9', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
SELECT outcome, attempt, fence FROM idempotent_run('run', 'k9', '9', 'run.work(jsonb)', wait => '0');
SELECT outcome, attempt, fence FROM idempotent_run('run', 'k9', '9', 'run.work(jsonb)', wait => '0');
-- an operation that leases by default: run holds its claim in the transaction all the same
SELECT lease FROM idempotent_operation('run_leased', lease => '1 hour');
SELECT outcome, fence, attempt FROM idempotent_run('run_leased', 'k', '10', 'run.work(jsonb)');
SELECT outcome, fence, attempt FROM idempotent_run('run_leased', 'k', '10', 'run.work(jsonb)');
-- what was done: each once
SELECT what, count(*) FROM run.effect GROUP BY what ORDER BY what;
SET client_min_messages = warning;
DROP SCHEMA run CASCADE;
