-- Two lifetimes: a record's, and its body's. Run with psql in any database where you may create an extension; run it as
-- often as you like. Every claim made here is checked: the script stops, and psql exits with an error, when one does not
-- hold. With the library preloaded the background worker does the sweeping, as here; without, idempotent_sweep() does.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_retention CASCADE;
CREATE SCHEMA demo_retention;
CREATE FUNCTION demo_retention.pay(request jsonb) RETURNS jsonb LANGUAGE sql RETURN '{"paid": true}'::jsonb;
CREATE FUNCTION demo_retention.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;
-- Looks until it is so, for two minutes at most; without the worker it sweeps.
CREATE PROCEDURE demo_retention.watch(query text) LANGUAGE plpgsql AS $$
DECLARE
    holds boolean;
    until timestamptz := clock_timestamp() + interval '2 minutes';
BEGIN
    LOOP
        EXECUTE query INTO holds;
        EXIT WHEN holds OR clock_timestamp() > until;
        IF NOT (SELECT preloaded FROM idempotent.health) THEN
            PERFORM idempotent_sweep();
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;

SELECT idempotent_new_key() AS key \gset

\echo
\echo '== How long an answer is kept =='
\echo
\echo '1. An operation whose records are kept for two seconds. (24 hours, unless you say otherwise.)'
\set ECHO queries
SELECT name, retention FROM idempotent_operation('demo_ping', retention => '2 seconds')
\gset op_
SELECT outcome, expires_at > now() AS kept FROM idempotent_run('demo_ping', 'k' || :'key', '{}', 'demo_retention.pay')
\gset first_
SELECT outcome FROM idempotent_run('demo_ping', 'k' || :'key', '{}', 'demo_retention.pay')
\gset again_
\set ECHO none
\echo '   =>' :first_outcome', then' :again_outcome
SELECT demo_retention.expect('the second call gets the answer of the first', :'first_outcome' = 'executed' AND :'again_outcome' = 'replay');

\echo
\echo '2. Two seconds later the record counts as absent, and the worker has deleted the row. Nobody called anything.'
\set ECHO queries
CALL demo_retention.watch($$SELECT count(*) = 0 FROM idempotent.record WHERE operation = 'demo_ping'$$);
SELECT count(*) AS rows FROM idempotent.record WHERE operation = 'demo_ping'
\gset
SELECT outcome FROM idempotent_replay('demo_ping', 'k' || :'key')
\gset gone_
\set ECHO none
\echo '   =>' :rows 'rows, and the key is' :gone_outcome
SELECT demo_retention.expect('the row is gone', :rows = 0 AND :'gone_outcome' = 'absent');

\echo
\echo '3. What says its own date is not run again after that: a UUIDv7, or first_sent. (Five seconds of grace for clocks.)'
SELECT idempotent_new_key(clock_timestamp() - interval '1 minute') AS old \gset
\set ECHO queries
SELECT outcome FROM idempotent_run('demo_ping', :'old', '{}', 'demo_retention.pay')
\gset old_
\set ECHO none
\echo '   =>' :old_outcome
SELECT demo_retention.expect('a retry that comes too late is refused', :'old_outcome' = 'expired');

\echo
\echo '4. A large answer need not be kept as long as the knowledge that the work was done.'
\set ECHO queries
SELECT response_retention, retention
  FROM idempotent_operation('demo_report', response_retention => '1 second', retention => '7 days')
\gset op_
SELECT outcome FROM idempotent_run('demo_report', :'key', '{}', 'demo_retention.pay')
\gset first_
CALL demo_retention.watch($$SELECT bool_and(evicted) FROM idempotent.record WHERE operation = 'demo_report'$$);
SELECT outcome, response IS NULL AS empty, evicted FROM idempotent_replay('demo_report', :'key')
\gset late_
\set ECHO none
\echo '   =>' :late_outcome', evicted:' :late_evicted
SELECT demo_retention.expect('the body is gone, and the key is still known',
                             :'late_outcome' = 'replay' AND :'late_empty'::boolean AND :'late_evicted'::boolean);
SELECT (idempotent_forget('demo_report', :'key')) IS NOT NULL AS forgotten \gset
\echo
