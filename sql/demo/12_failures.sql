-- Which failures are kept as answers, for how long, and which never. Run it in any database where you may create an extension, as
-- often as you like. Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_failures CASCADE;
CREATE SCHEMA demo_failures;
CREATE FUNCTION demo_failures.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

-- A sequence counts the tries, also those that are rolled back.
CREATE SEQUENCE demo_failures.tries MINVALUE 0 START 0;
SELECT setval('demo_failures.tries', 0) \gset
CREATE FUNCTION demo_failures.tries() RETURNS bigint LANGUAGE sql AS 'SELECT last_value FROM demo_failures.tries';
CREATE TABLE demo_failures.network (up boolean);
INSERT INTO demo_failures.network VALUES (false);

\echo
\echo '== Failures, by kind =='
\echo
\echo '1. A payment: a declined card is final for now (P0001), and kept for 15 minutes. A timeout (57014) never is.'
\set ECHO queries
CREATE FUNCTION demo_failures.charge(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('demo_failures.tries');
  IF request->>'card' = 'empty' THEN RAISE EXCEPTION 'card declined' USING ERRCODE = 'P0001'; END IF;
  IF NOT (SELECT up FROM demo_failures.network) THEN RAISE EXCEPTION 'no answer in time' USING ERRCODE = '57014'; END IF;
  RETURN '{"charged": true}';
END $$;
SELECT failure_retention AS kept FROM idempotent_operation('demo_charge', store_failures => '{P0001}', failure_retention => '15 minutes')
\gset
\set ECHO none
SELECT idempotent_new_key() AS key_1, idempotent_new_key() AS key_2, idempotent_new_key() AS key_3 \gset

\echo
\echo '2. Declined, and asked again at once: the same answer, and the card is not tried again.'
\set ECHO queries
SELECT outcome, failed, response->>'message' AS message FROM idempotent_run('demo_charge', :'key_1', '{"card": "empty"}', 'demo_failures.charge')
\gset first_
SELECT outcome, failed, response->>'message' AS message, expires_at - now() > '14 minutes' AS minutes
  FROM idempotent_run('demo_charge', :'key_1', '{"card": "empty"}', 'demo_failures.charge')
\gset again_
\set ECHO none
\echo '   =>' :first_outcome', failed:' :first_failed', and then' :again_outcome', failed:' :again_failed
SELECT demo_failures.expect('the failure is the answer', :'first_failed'::boolean AND :'again_outcome' = 'replay' AND :'again_failed'::boolean AND :'again_message' = 'card declined');
SELECT demo_failures.expect('for minutes', :'again_minutes'::boolean);
SELECT demo_failures.expect('one try', demo_failures.tries() = 1);

\echo
\echo '3. A bad request is refused before any work, and kept for seconds: a client that loops does no harm, one that sends a'
\echo '   corrected request sends a new key.'
\set ECHO queries
BEGIN;
SELECT outcome FROM idempotent_claim('demo_charge', :'key_2', '{"card": null}')
\gset
SELECT idempotent_fail('demo_charge', :'key_2', '{"error": "card is missing"}', status => 400, retention => '1 second') IS NOT NULL AS stored
\gset
COMMIT;
SELECT outcome, failed, status FROM idempotent_replay('demo_charge', :'key_2')
\gset bad_
SELECT pg_sleep(1.1)
\gset
SELECT outcome FROM idempotent_replay('demo_charge', :'key_2')
\gset later_
\set ECHO none
\echo '   =>' :bad_outcome 'with status' :bad_status', a second later' :later_outcome
SELECT demo_failures.expect('kept, briefly', :'bad_outcome' = 'replay' AND :'bad_failed'::boolean AND :'bad_status' = '400' AND :'later_outcome' = 'absent');
SELECT demo_failures.expect('no try', demo_failures.tries() = 1);

\echo
\echo '4. A timeout is no answer. The ERROR is meant to come; nothing is stored, and the retry is tried.'
\set ECHO queries
\set ON_ERROR_STOP off
SELECT outcome FROM idempotent_run('demo_charge', :'key_3', '{"card": "full"}', 'demo_failures.charge');
\set timeout :SQLSTATE
\set ON_ERROR_STOP on
UPDATE demo_failures.network SET up = true;
SELECT outcome, failed, response FROM idempotent_run('demo_charge', :'key_3', '{"card": "full"}', 'demo_failures.charge')
\gset retry_
\set ECHO none
\echo '   =>' :timeout', then' :retry_outcome :retry_response
SELECT demo_failures.expect('the retry was tried, and succeeded', :'timeout' = '57014' AND :'retry_outcome' = 'executed' AND NOT :'retry_failed'::boolean);
SELECT demo_failures.expect('three tries in all', demo_failures.tries() = 3);

\echo
\echo '5. Nor can it be made one. The ERROR is meant to come.'
\set ECHO queries
\set ON_ERROR_STOP off
SELECT idempotent_operation('demo_charge', store_failures => '{57014}');
\set refused :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
SELECT demo_failures.expect('refused with 22023', :'refused' = '22023');
\echo
