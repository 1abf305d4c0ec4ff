-- What a crash forgets, and what is known of that. It kills a process of the server that it runs on, so that all of them
-- are started anew: only for a server that nobody else uses, as `make demo` starts one, or
--     psql -v crash=yes -f sql/demo/05_crash.sql
-- Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
\if :{?crash}
\else
\echo 'This demo crashes the server. If that is what you want: psql -v crash=yes -f sql/demo/05_crash.sql'
\quit
\endif
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_crash CASCADE;
CREATE SCHEMA demo_crash;
CREATE TABLE demo_crash.payment (operation text, key text);
CREATE FUNCTION demo_crash.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;
-- The work, under a key: a payment.
CREATE FUNCTION demo_crash.pay(operation text, key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text := (idempotent_claim(operation, key, '{"amount": 25}')).outcome;
BEGIN
    IF said = 'claimed' THEN
        INSERT INTO demo_crash.payment VALUES (operation, key);
        PERFORM idempotent_complete(operation, key, '{"paid": 25}');
    END IF;
    RETURN said;
END $$;

SELECT idempotent_new_key() AS dated, 'order-' || floor(random() * 1e9) AS undated \gset

\echo
\echo '== A crash =='
\echo
\echo '1. Two operations, one unlogged (the default) and one logged. Each is paid under a key that says its own date, a'
\echo '   UUIDv7, and under one that does not.'
\set ECHO queries
SELECT durability FROM idempotent_operation('demo_fast', durability => 'unlogged')
\gset
SELECT durability FROM idempotent_operation('demo_safe', durability => 'logged')
\gset
SELECT demo_crash.pay(operation, key) AS outcome, operation, key
  FROM unnest('{demo_fast,demo_safe}'::text[]) AS operation, unnest(ARRAY[:'dated', :'undated']) AS key;
\set ECHO none
SELECT demo_crash.expect('four payments', count(*) = 4) FROM demo_crash.payment;
-- So that the payments themselves are safe; the demo's server does not sync.
CHECKPOINT;

\echo
\echo '2. A process of the server is killed: kill -9. Postgres starts all of them anew, and empties its unlogged tables.'
SELECT pid AS victim FROM pg_stat_activity WHERE backend_type = 'checkpointer' \gset
\set kill 'kill -9 ' :victim
\setenv DEMO_KILL :kill
\! psql -X -q -c "COPY (SELECT WHERE false) TO PROGRAM '$DEMO_KILL'" >/dev/null 2>&1
\! for i in $(seq 600); do psql -X -q -c 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.1; done
\connect -
SET client_min_messages = warning;

\echo
\echo '3. The clients have heard nothing, and retry. Whoever notices the loss first is warned, as is the server log.'
\set ECHO queries
SELECT demo_crash.pay('demo_safe', :'dated') AS dated, demo_crash.pay('demo_safe', :'undated') AS undated
\gset safe_
SELECT demo_crash.pay('demo_fast', :'dated') AS dated
\gset fast_
SELECT demo_crash.pay('demo_fast', :'undated') AS undated
\gset fast_
\set ECHO none
\echo '   => logged:   dated' :safe_dated', undated' :safe_undated
\echo '   => unlogged: dated' :fast_dated', undated' :fast_undated
SELECT demo_crash.expect('what is logged has survived', :'safe_dated' = 'replay' AND :'safe_undated' = 'replay');
SELECT demo_crash.expect('a key from before the crash is not run again: whether it was done is unknown', :'fast_dated' = 'unknown');
SELECT demo_crash.expect('a key without a date is run again, and pays twice: this is what logged is for',
                         :'fast_undated' = 'claimed' AND count(*) = 2)
  FROM demo_crash.payment WHERE operation = 'demo_fast' AND key = :'undated';

\echo
\echo '4. The payment is in our own table, so it was made. Say so, and retries get an answer again.'
\set ECHO queries
SELECT outcome FROM idempotent_resolve('demo_fast', :'dated', 'completed', '{"paid": 25}')
\gset
SELECT demo_crash.pay('demo_fast', :'dated') AS settled
\gset
\set ECHO none
\echo '   =>' :settled
SELECT demo_crash.expect('settled', :'settled' = 'replay');
SELECT demo_crash.expect('it was paid once', count(*) = 1)
  FROM demo_crash.payment WHERE operation = 'demo_fast' AND key = :'dated';

\echo
\echo '5. A key made after the crash is as good as any.'
\set ECHO queries
SELECT demo_crash.pay('demo_fast', idempotent_new_key()) AS new
\gset
SELECT last_reset > now() - interval '10 minutes' AS noticed FROM idempotent.health
\gset
\set ECHO none
\echo '   =>' :new
SELECT demo_crash.expect('it runs', :'new' = 'claimed');
SELECT demo_crash.expect('idempotent.health knows when the records were lost', :'noticed'::boolean);
\echo
