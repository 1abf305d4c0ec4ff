-- A lock that outlives its transaction and its connection. Run with psql in any database where you may create an extension; run it as often as
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

DROP SCHEMA IF EXISTS demo_lock CASCADE;
CREATE SCHEMA demo_lock;
CREATE FUNCTION demo_lock.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

-- Stands for what the job writes elsewhere, and knows how to refuse who comes too late.
CREATE TABLE demo_lock.report (line text NOT NULL, fence bigint NOT NULL);
CREATE FUNCTION demo_lock.write(line text, fence bigint) RETURNS boolean LANGUAGE sql AS $$
    WITH written AS (
        INSERT INTO demo_lock.report
        SELECT line, fence WHERE fence >= coalesce((SELECT max(r.fence) FROM demo_lock.report AS r), 0) RETURNING true)
    SELECT count(*) = 1 FROM written
$$;
SELECT 'report ' || idempotent_new_key() AS resource \gset

\echo
\echo '== A lock with a key =='
\echo
\echo '1. Worker A takes the report for a minute. Its answer gets lost, so it asks again, on another connection.'
\set ECHO queries
SELECT acquired, fence FROM idempotent_lock(:'resource', 'worker-A', ttl => '1 minute')
\gset a_
\connect -
SELECT acquired, fence FROM idempotent_lock(:'resource', 'worker-A', ttl => '1 minute')
\gset again_
SELECT acquired, holder FROM idempotent_lock(:'resource', 'worker-B', ttl => '1 minute')
\gset b_
\set ECHO none
\echo '   => A: fence' :a_fence', again:' :again_fence', B: refused, held by' :b_holder
SELECT demo_lock.expect('the same key has the same fence', :a_fence = :again_fence);
SELECT demo_lock.expect('B is told who has it', :'b_acquired' = 'f' AND :'b_holder' = 'worker-A');
SELECT demo_lock.expect('A writes', demo_lock.write('by A', :a_fence));

\echo
\echo '2. A falls asleep. Its time runs out (here by hand, so that nobody has to wait), and B gets it, with a higher fence.'
UPDATE idempotent.locks SET expires_at = clock_timestamp() WHERE resource = :'resource';
\set ECHO queries
SELECT acquired, fence FROM idempotent_lock(:'resource', 'worker-B', ttl => '1 minute')
\gset b_
\set ECHO none
\echo '   => B: fence' :b_fence
SELECT demo_lock.expect('B has it, with a higher fence', :'b_acquired' = 't' AND :b_fence > :a_fence);
SELECT demo_lock.expect('B writes', demo_lock.write('by B', :b_fence));

\echo
\echo '3. A wakes up and goes on where it was. Its fence gives it away, here and at the report.'
\set ECHO queries
SELECT idempotent_unlock(:'resource', 'worker-A', fence => :a_fence) AS unlocked
\gset
SELECT demo_lock.write('by A, late', :a_fence) AS written
\gset
\set ECHO none
\echo '   => unlocked:' :unlocked', written:' :written
SELECT demo_lock.expect('A gives back nothing of B''s, and writes nothing', :'unlocked' = 'f' AND :'written' = 'f');
SELECT demo_lock.expect('B gives it back', idempotent_unlock(:'resource', 'worker-B', fence => :b_fence));
\echo
