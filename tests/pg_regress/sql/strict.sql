-- strict => true: what is not to be done comes as an exception, each outcome with its SQLSTATE.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- claimed and replay are no exceptions
BEGIN;
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"secret": "request"}', strict => true);
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"secret": "request"}', strict => true);
SELECT idempotent_complete('strict', 'k1', '{"secret": "response"}');
COMMIT;
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"secret": "request"}', strict => true);
BEGIN;
SELECT outcome FROM idempotent_claim('strict', 'k2', strict => true);
SELECT idempotent_fail('strict', 'k2');
COMMIT;
SELECT outcome, failed FROM idempotent_claim('strict', 'k2', strict => true);

-- mismatch: of a finished key, of a lease, of one's own claim
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"another": "request"}', strict => true);
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('strict', 'leased', '1', scope => 't', lease => '1 hour', strict => true);
SELECT outcome FROM idempotent_claim('strict', 'leased', '2', scope => 't', lease => '1 hour', strict => true);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT outcome FROM idempotent_claim('strict', 'own', '1', strict => true);
SELECT outcome FROM idempotent_claim('strict', 'own', '2', strict => true);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- in progress; the hint depends on the time that is left
\set VERBOSITY terse
SELECT outcome FROM idempotent_claim('strict', 'leased', '1', scope => 't', wait => '0', strict => true);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
-- expired
SELECT outcome FROM idempotent_claim('strict', 'old', first_sent => now() - interval '2 days', strict => true);
\echo :LAST_ERROR_SQLSTATE
-- unknown
SELECT on_lapse FROM idempotent_operation('strict_unknown', on_lapse => 'unknown');
SELECT outcome FROM idempotent_claim('strict_unknown', 'k', scope => 'o''clock', lease => '1 microsecond', strict => true);
SELECT outcome FROM idempotent_claim('strict_unknown', 'k', scope => 'o''clock', strict => true);
\echo :LAST_ERROR_SQLSTATE
-- but a mismatch comes first
SELECT outcome FROM idempotent_claim('strict_unknown', 'k', '1', scope => 'o''clock', strict => true);
\echo :LAST_ERROR_SQLSTATE

-- without strict they are rows, and the transaction goes on
BEGIN;
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"another": "request"}');
SELECT outcome FROM idempotent_claim('strict', 'leased', '1', scope => 't', wait => '0');
SELECT outcome FROM idempotent_claim('strict', 'old', first_sent => now() - interval '2 days');
SELECT outcome FROM idempotent_claim('strict_unknown', 'k', scope => 'o''clock');
SELECT outcome FROM idempotent_claim('strict', 'k1', '{"another": "request"}', strict => NULL);
COMMIT;

-- the same by run
CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION pg_temp.refusal(operation text, key text, request jsonb, scope text, first_sent timestamptz = NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT outcome FROM idempotent_run(operation, key, request, 'pg_temp.work(jsonb)', scope, wait => '0', first_sent => first_sent, strict => true));
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT pg_temp.refusal('strict', 'k1', '{"another": "request"}', '');
SELECT pg_temp.refusal('strict', 'leased', '2', 't');
SELECT pg_temp.refusal('strict', 'leased', '1', 't');
SELECT pg_temp.refusal('strict', 'old', '1', '', now() - interval '2 days');
SELECT pg_temp.refusal('strict_unknown', 'k', NULL, 'o''clock');
SELECT pg_temp.refusal('strict', 'k1', '{"secret": "request"}', '');
SELECT pg_temp.refusal('strict', 'run', '1', '');

-- sealed: nothing makes one yet but the record itself says it
BEGIN;
SELECT outcome FROM idempotent_claim('strict', 'sealed');
SELECT idempotent_complete('strict', 'sealed');
COMMIT;
UPDATE idempotent.record SET state = 's' WHERE operation = 'strict' AND key = 'sealed';
SELECT outcome, failed, response FROM idempotent_claim('strict', 'sealed');
SELECT outcome FROM idempotent_claim('strict', 'sealed', '"whatever was asked"');
SELECT outcome FROM idempotent_replay('strict', 'sealed');
SELECT outcome FROM idempotent_claim('strict', 'sealed', strict => true);
\echo :LAST_ERROR_SQLSTATE
SELECT pg_temp.refusal('strict', 'sealed', NULL, '');
