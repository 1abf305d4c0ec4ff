-- Leases and fences that are not right: each is refused, and nothing is changed by it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
-- The fences in DETAIL change from run to run, so only what comes before it.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;

-- leases that last no time, or for ever
SELECT outcome FROM idempotent_claim('lease_errors', 'length', lease => '-1 s');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('lease_errors', 'length', lease => '0');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('lease_errors', 'length', lease => '102 years');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('lease_errors', 'length', lease => '178000000 years');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('lease_errors', 'length', lease => '1 day -24 hours');
\echo :LAST_ERROR_SQLSTATE
-- 'infinity' is an interval since Postgres 17, and refused on all: by Postgres before, by us since
DO $$
BEGIN
    PERFORM idempotent_claim('lease_errors', 'length', lease => 'infinity');
    RAISE INFO 'accepted';
EXCEPTION WHEN invalid_datetime_format OR invalid_parameter_value THEN
    RAISE INFO 'infinity is refused';
END $$;
DO $$
BEGIN
    PERFORM idempotent_claim('lease_errors', 'length', lease => '-infinity');
    RAISE INFO 'accepted';
EXCEPTION WHEN invalid_datetime_format OR invalid_parameter_value THEN
    RAISE INFO '-infinity is refused';
END $$;
SELECT outcome FROM idempotent_replay('lease_errors', 'length');
-- the shortest and the longest
SELECT outcome FROM idempotent_claim('lease_errors', 'shortest', lease => '1 microsecond');
SELECT outcome, expires_at > now() + interval '98 years' AS in_100_years FROM idempotent_claim('lease_errors', 'longest', lease => '100 years');

-- two leases
SELECT fence AS k1 FROM idempotent_claim('lease_errors', 'k1', lease => '1 hour') \gset
SELECT fence AS k2 FROM idempotent_claim('lease_errors', 'k2', lease => '1 hour') \gset
-- fence missing, of another record, made up, null; and for every function that wants one
SELECT idempotent_complete('lease_errors', 'k1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT what, f, pg_temp.refusal(format('SELECT %s(''lease_errors'', ''k1'' %s, fence => %s)', f, rest, fence)) AS refusal
FROM (VALUES (1, 'no fence', 'NULL'), (2, 'of another record', :'k2'), (3, 'made up', '9223372036854775807'), (4, 'made up', '0'), (5, 'made up', '-1')) AS fences (n, what, fence),
     (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY n, m;
-- the lease is none the worse
SELECT outcome, checkpoint FROM idempotent_claim('lease_errors', 'k1', wait => '0');
SELECT idempotent_checkpoint('lease_errors', 'k1', '"fine"', fence => :k1);

-- a key that nobody ever claimed, or under another scope or operation
SELECT f, pg_temp.refusal(format('SELECT %s(''lease_errors'', ''nobody'' %s, fence => %s)', f, rest, :'k1')) AS with_a_fence,
          pg_temp.refusal(format('SELECT %s(''lease_errors'', ''nobody'' %s)', f, rest)) AS without,
          pg_temp.refusal(format('SELECT %s(''lease_errors'', ''k1'' %s, scope => ''s'', fence => %s)', f, rest, :'k1')) AS other_scope
FROM (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY m;

-- heartbeats of no length
SELECT pg_temp.refusal(format('SELECT idempotent_extend(''lease_errors'', ''k1'', %L, fence => %s)', lease, :'k1')) FROM unnest('{0,-1 s,102 years}'::text[]) AS lease;

-- a lease that has lapsed: its holder is refused on every path, taken over or not
SELECT fence AS lapsed FROM idempotent_claim('lease_errors', 'k3', lease => '1 hour') \gset
SELECT idempotent_checkpoint('lease_errors', 'k3', '"left"', fence => :lapsed);
SELECT idempotent_extend('lease_errors', 'k3', '1 microsecond', fence => :lapsed) IS NOT NULL AS about_to_lapse;
SELECT f, pg_temp.refusal(format('SELECT %s(''lease_errors'', ''k3'' %s, fence => %s)', f, rest, :'lapsed')) AS lapsed
FROM (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY m;
SELECT outcome, attempt, checkpoint, fence AS taker FROM idempotent_claim('lease_errors', 'k3', lease => '1 hour') \gset
\echo :outcome :attempt :checkpoint
SELECT f, pg_temp.refusal(format('SELECT %s(''lease_errors'', ''k3'' %s, fence => %s)', f, rest, :'lapsed')) AS taken_over
FROM (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY m;
-- the taker's lease is none the worse, and its answer is the one that stays
SELECT idempotent_complete('lease_errors', 'k3', '"of the taker"', fence => :taker);
SELECT f, pg_temp.refusal(format('SELECT %s(''lease_errors'', ''k3'' %s, fence => %s)', f, rest, :'lapsed')) AS finished_by_another
FROM (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY m;
-- complete again, in another transaction: even with the same answer it is refused, as the rows that a retry of the whole
-- transaction brings along would be there twice
SELECT idempotent_complete('lease_errors', 'k3', '"of the taker"', fence => :taker);
-- in the same transaction the same answer is harmless, and anything else is not
BEGIN;
SELECT fence AS twice FROM idempotent_claim('lease_errors', 'twice', lease => '1 hour') \gset
SELECT idempotent_complete('lease_errors', 'twice', '1', fence => :twice);
SELECT idempotent_complete('lease_errors', 'twice', '1.0', fence => :twice);
SELECT idempotent_complete('lease_errors', 'twice', '2', fence => :twice);
ROLLBACK;
SELECT what, pg_temp.refusal(statement) FROM (VALUES
    (1, 'another answer', format('SELECT idempotent_complete(''lease_errors'', ''k3'', ''"another"'', fence => %s)', :'taker')),
    (2, 'another status', format('SELECT idempotent_complete(''lease_errors'', ''k3'', ''"of the taker"'', 200, fence => %s)', :'taker')),
    (3, 'a failure', format('SELECT idempotent_fail(''lease_errors'', ''k3'', ''"of the taker"'', fence => %s)', :'taker')),
    (4, 'a heartbeat', format('SELECT idempotent_extend(''lease_errors'', ''k3'', ''1 hour'', fence => %s)', :'taker')),
    (5, 'a checkpoint', format('SELECT idempotent_checkpoint(''lease_errors'', ''k3'', ''1'', fence => %s)', :'taker')),
    (6, 'no fence', 'SELECT idempotent_complete(''lease_errors'', ''k3'', ''"of the taker"'')')) AS calls (n, what, statement) ORDER BY n;
SELECT idempotent_release('lease_errors', 'k3', fence => :taker) AS released;
SELECT outcome, failed, attempt, response FROM idempotent_replay('lease_errors', 'k3');
-- released twice
SELECT idempotent_release('lease_errors', 'k1', fence => :k1) AS released;
SELECT pg_temp.refusal(format('SELECT idempotent_release(''lease_errors'', ''k1'', fence => %s)', :'k1'));

-- on_lapse => unknown: nobody takes over, and the holder is refused too
SELECT on_lapse FROM idempotent_operation('lease_errors_unknown', on_lapse => 'unknown');
SELECT fence AS unknown FROM idempotent_claim('lease_errors_unknown', 'k1', '1', lease => '1 microsecond') \gset
SELECT outcome, fence, attempt, checkpoint, response, retry_after FROM idempotent_claim('lease_errors_unknown', 'k1', '1', lease => '1 hour');
SELECT outcome FROM idempotent_claim('lease_errors_unknown', 'k1', '1');
SELECT outcome FROM idempotent_claim('lease_errors_unknown', 'k1', '2');
SELECT outcome FROM idempotent_replay('lease_errors_unknown', 'k1');
SELECT f, pg_temp.refusal(format('SELECT %s(''lease_errors_unknown'', ''k1'' %s, fence => %s)', f, rest, :'unknown')) AS refusal
FROM (VALUES (1, 'idempotent_complete', ', ''1'''), (2, 'idempotent_fail', ', ''1'''), (3, 'idempotent_release', ''), (4, 'idempotent_extend', ', ''1 hour'''), (5, 'idempotent_checkpoint', ', ''1''')) AS functions (m, f, rest)
ORDER BY m;
-- while the lease lasts it is as any other, also for one that names its attempt
SELECT fence AS own FROM idempotent_claim('lease_errors_unknown', 'k2', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001') \gset
SELECT outcome, fence = :own AS same_fence FROM idempotent_claim('lease_errors_unknown', 'k2', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
SELECT idempotent_complete('lease_errors_unknown', 'k2', '2', fence => :own);
SELECT fence AS own FROM idempotent_claim('lease_errors_unknown', 'k3', lease => '1 microsecond', attempt_id => '00000000-0000-0000-0000-000000000001') \gset
SELECT outcome FROM idempotent_claim('lease_errors_unknown', 'k3', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
-- what the lease was granted under counts, whatever the operation says since
SELECT on_lapse FROM idempotent_operation('lease_errors_unknown', on_lapse => 'retry');
SELECT outcome, attempt FROM idempotent_claim('lease_errors_unknown', 'k1', '1', lease => '1 hour');

-- a checkpoint that is too large
SELECT max_response_bytes FROM idempotent_operation('lease_errors_small', max_response_bytes => 100);
SELECT fence AS small FROM idempotent_claim('lease_errors_small', 'k', lease => '1 hour') \gset
SELECT idempotent_checkpoint('lease_errors_small', 'k', to_jsonb(repeat('x', 1000)), fence => :small);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_checkpoint('lease_errors_small', 'k', '"fits"', fence => :small);
