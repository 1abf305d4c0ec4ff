-- Adding idempotency to a running API: first watch, then enforce. Run with psql in any database where you may create an extension; run it as often as
-- you like. Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_observe CASCADE;
CREATE SCHEMA demo_observe;
CREATE FUNCTION demo_observe.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

CREATE TABLE demo_observe.payment (id bigint GENERATED ALWAYS AS IDENTITY, amount numeric(12,2) NOT NULL);
CREATE FUNCTION demo_observe.pay(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO demo_observe.payment (amount) VALUES ((request->>'amount')::numeric) RETURNING jsonb_build_object('payment', id)
$$;
SELECT 'demo ' || idempotent_new_key() AS operation \gset

\echo
\echo '== Adding idempotency to a running API =='
\echo
\echo '1. Watch: every call goes through. Here a payment, its retry, its key with another amount, and one without a key.'
\set ECHO queries
SELECT mode FROM idempotent_operation(:'operation', mode => 'observe')
\gset
SELECT outcome FROM idempotent_run(:'operation', 'order-1', '{"amount": 25}', 'demo_observe.pay')
\gset a_
SELECT outcome FROM idempotent_run(:'operation', 'order-1', '{"amount": 25}', 'demo_observe.pay')
\gset b_
SELECT outcome FROM idempotent_run(:'operation', 'order-1', '{"amount": 99}', 'demo_observe.pay')
\gset c_
SELECT outcome FROM idempotent_run(:'operation', NULL, '{"amount": 10}', 'demo_observe.pay')
\gset d_
\set ECHO none
\echo '   => ':a_outcome',' :b_outcome',' :c_outcome',' :d_outcome
SELECT demo_observe.expect('all four were executed, as before',
                           count(*) = 4 AND :'a_outcome' = 'executed' AND :'b_outcome' = 'executed'
                           AND :'c_outcome' = 'executed' AND :'d_outcome' = 'executed') FROM demo_observe.payment;

\echo
\echo '2. Look: what would have been answered.'
\set ECHO queries
SELECT calls, first, duplicates, mismatches, missing_keys, samples->'mismatch'->0->>'key' AS mismatch
  FROM idempotent.observed WHERE operation = :'operation'
\gset seen_
\set ECHO none
SELECT preloaded FROM idempotent.health \gset
\if :preloaded
\echo '   => of' :seen_calls 'calls' :seen_first 'new,' :seen_duplicates 'duplicate,' :seen_mismatches 'mismatch (':seen_mismatch'),' :seen_missing_keys 'without a key'
SELECT demo_observe.expect('each was recognised', :'seen_calls' = '4' AND :'seen_first' = '1' AND :'seen_duplicates' = '1'
                           AND :'seen_mismatches' = '1' AND :'seen_missing_keys' = '1' AND :'seen_mismatch' = 'order-1');
\else
\echo '   (the library is not preloaded, so nothing is counted)'
\endif

\echo
\echo '3. Enforce: the first answer was kept, and a retry gets it from now on. A call without a key is refused.'
\set ECHO queries
SELECT mode FROM idempotent_operation(:'operation', mode => 'enforce')
\gset
SELECT outcome, response FROM idempotent_run(:'operation', 'order-1', '{"amount": 25}', 'demo_observe.pay')
\gset a_
SELECT outcome FROM idempotent_run(:'operation', 'order-1', '{"amount": 99}', 'demo_observe.pay')
\gset c_
\set ON_ERROR_STOP off
SELECT outcome FROM idempotent_run(:'operation', NULL, '{"amount": 10}', 'demo_observe.pay');
\set refused_with :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo '   => ':a_outcome :a_response',' :c_outcome', and refused with' :refused_with
SELECT demo_observe.expect('replay, mismatch, ID006', :'a_outcome' = 'replay' AND :'c_outcome' = 'mismatch' AND :'refused_with' = 'ID006');
SELECT idempotent_forget_all(:'operation'), idempotent_operation_drop(:'operation');
SELECT demo_observe.expect('no payment was added', count(*) = 4) FROM demo_observe.payment;
\echo
