-- What savepoints and exception blocks undo: claims, locks, rows, answers.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.locks() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() $$;

-- a claim goes with its savepoint, and so does its lock
BEGIN;
SAVEPOINT a;
SELECT outcome FROM idempotent_claim('savepoints', 'k1', '1');
SELECT pg_temp.locks();
ROLLBACK TO a;
SELECT pg_temp.locks();
SELECT outcome FROM idempotent_replay('savepoints', 'k1');
-- and the key is free for another request
SELECT outcome FROM idempotent_claim('savepoints', 'k1', '2');
SELECT idempotent_complete('savepoints', 'k1', '"second"');
COMMIT;
SELECT outcome, response FROM idempotent_claim('savepoints', 'k1', '2');

-- a claim of before stays, whatever happens in a savepoint
BEGIN;
SELECT outcome FROM idempotent_claim('savepoints', 'k2');
SAVEPOINT a;
SELECT outcome FROM idempotent_claim('savepoints', 'k2');
SELECT idempotent_complete('savepoints', 'k2', '"undone"');
SELECT outcome, response FROM idempotent_replay('savepoints', 'k2');
ROLLBACK TO a;
SELECT pg_temp.locks();
SELECT outcome, response FROM idempotent_replay('savepoints', 'k2');
SELECT outcome FROM idempotent_claim('savepoints', 'k2');
SELECT idempotent_release('savepoints', 'k2');
ROLLBACK TO a;
SELECT outcome FROM idempotent_replay('savepoints', 'k2');
SELECT idempotent_fail('savepoints', 'k2', '"kept"');
COMMIT;
SELECT outcome, failed, response FROM idempotent_replay('savepoints', 'k2');

-- nested: released into the parent, which is rolled back
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT outcome FROM idempotent_claim('savepoints', 'k3');
SAVEPOINT c;
SELECT idempotent_complete('savepoints', 'k3', '3');
RELEASE c;
RELEASE b;
SELECT outcome FROM idempotent_replay('savepoints', 'k3');
ROLLBACK TO a;
SELECT outcome FROM idempotent_replay('savepoints', 'k3');
SELECT pg_temp.locks();
SELECT idempotent_complete('savepoints', 'k3', '3');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- released all the way
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT outcome FROM idempotent_claim('savepoints', 'k3');
RELEASE b;
SAVEPOINT d;
SELECT outcome FROM idempotent_claim('savepoints', 'k4');
ROLLBACK TO d;
SELECT idempotent_complete('savepoints', 'k3', '3');
RELEASE a;
COMMIT;
SELECT outcome, response FROM idempotent_replay('savepoints', 'k3');
SELECT outcome FROM idempotent_replay('savepoints', 'k4');

-- claim, release and claim again on different levels
BEGIN;
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '1');
SELECT idempotent_release('savepoints', 'k5');
SAVEPOINT a;
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '2');
ROLLBACK TO a;
SELECT outcome FROM idempotent_replay('savepoints', 'k5');
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '3');
SAVEPOINT b;
SELECT idempotent_release('savepoints', 'k5');
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '4');
ROLLBACK TO b;
-- the claim of before, with the request of before
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '4');
SELECT outcome FROM idempotent_claim('savepoints', 'k5', '3');
SELECT idempotent_complete('savepoints', 'k5', '5');
COMMIT;
SELECT outcome, response FROM idempotent_claim('savepoints', 'k5', '3');

-- exception blocks, nested
DO $$
BEGIN
    PERFORM idempotent_claim('savepoints', 'k6');
    BEGIN
        PERFORM idempotent_claim('savepoints', 'k7');
        BEGIN
            PERFORM idempotent_complete('savepoints', 'k6', '"inner"');
            PERFORM idempotent_complete('savepoints', 'k7', '"inner"');
            RAISE EXCEPTION 'caught';
        EXCEPTION WHEN raise_exception THEN
            PERFORM idempotent_complete('savepoints', 'k6', '"outer"');
        END;
        RAISE EXCEPTION 'caught';
    EXCEPTION WHEN raise_exception THEN
        RAISE INFO 'k6 %, k7 %', (SELECT outcome FROM idempotent_replay('savepoints', 'k6')), (SELECT outcome FROM idempotent_replay('savepoints', 'k7'));
        PERFORM idempotent_complete('savepoints', 'k6', '"at last"');
    END;
END $$;
SELECT outcome, response FROM idempotent_replay('savepoints', 'k6');

-- an error of ours that is caught leaves the claim as it was
DO $$
BEGIN
    PERFORM idempotent_claim('savepoints', 'k8', '1');
    BEGIN
        PERFORM idempotent_claim('savepoints', 'k8', '2', strict => true);
    EXCEPTION WHEN SQLSTATE 'ID002' THEN
        RAISE INFO '%', sqlerrm;
    END;
    BEGIN
        PERFORM idempotent_complete('savepoints', 'k8', fence => 1);
    EXCEPTION WHEN SQLSTATE 'ID003' THEN
        RAISE INFO '%', sqlerrm;
    END;
    PERFORM idempotent_complete('savepoints', 'k8', '8');
END $$;
SELECT outcome, response FROM idempotent_claim('savepoints', 'k8', '1');

-- leases
BEGIN;
SELECT fence AS outer_fence FROM idempotent_claim('savepoints', 'k9', lease => '1 hour') \gset
SAVEPOINT a;
SELECT fence AS inner_fence FROM idempotent_claim('savepoints', 'k10', lease => '1 hour') \gset
SELECT idempotent_checkpoint('savepoints', 'k9', '1', fence => :outer_fence);
SELECT idempotent_complete('savepoints', 'k9', '9', fence => :outer_fence);
ROLLBACK TO a;
SELECT outcome FROM idempotent_replay('savepoints', 'k10');
SELECT outcome, fence = :outer_fence AS same_fence, checkpoint FROM idempotent_claim('savepoints', 'k9', lease => '1 hour');
SELECT idempotent_complete('savepoints', 'k9', '9', fence => :outer_fence);
COMMIT;
SELECT outcome, response FROM idempotent_replay('savepoints', 'k9');

-- a takeover that is rolled back leaves the lapsed lease as it was
SELECT fence FROM idempotent_claim('savepoints', 'k11', lease => '1 hour') \gset
SELECT idempotent_checkpoint('savepoints', 'k11', '"left"', fence => :fence);
SELECT idempotent_extend('savepoints', 'k11', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
BEGIN;
SAVEPOINT a;
SELECT outcome, attempt, checkpoint FROM idempotent_claim('savepoints', 'k11');
ROLLBACK TO a;
SELECT outcome, attempt, checkpoint FROM idempotent_claim('savepoints', 'k11', lease => '1 hour');
ROLLBACK TO a;
SELECT outcome, attempt, checkpoint FROM idempotent_claim('savepoints', 'k11');
SELECT idempotent_complete('savepoints', 'k11', '11');
COMMIT;
SELECT outcome, attempt, response FROM idempotent_replay('savepoints', 'k11');

-- idempotent_run in a savepoint that is rolled back
CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
BEGIN;
SAVEPOINT a;
SELECT outcome FROM idempotent_run('savepoints', 'k12', '"first"', 'pg_temp.work(jsonb)');
ROLLBACK TO a;
SELECT outcome FROM idempotent_run('savepoints', 'k12', '"second"', 'pg_temp.work(jsonb)');
COMMIT;
SELECT outcome, response FROM idempotent_replay('savepoints', 'k12');

-- a cursor opened before the savepoint and read within it
BEGIN;
DECLARE c CURSOR FOR SELECT (idempotent_claim('savepoints', 'cursor ' || n)).outcome FROM generate_series(1, 4) AS n;
FETCH c;
SAVEPOINT a;
FETCH 2 FROM c;
SELECT pg_temp.locks();
ROLLBACK TO a;
SELECT pg_temp.locks();
SELECT n, (idempotent_replay('savepoints', 'cursor ' || n)).outcome FROM generate_series(1, 4) AS n;
SELECT idempotent_release('savepoints', 'cursor 1');
COMMIT;

-- savepoints that were rolled back are forgotten: many of them do not use up the locks of the session
DO $$
BEGIN
    FOR i IN 1..300 LOOP
        BEGIN
            PERFORM idempotent_claim('savepoints', 'leak ' || i);
            PERFORM idempotent_release('savepoints', 'leak ' || i);
            PERFORM idempotent_claim('savepoints', 'leak ' || i);
            RAISE EXCEPTION 'caught';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
BEGIN;
SELECT count((idempotent_claim('savepoints', 'after ' || n)).outcome) FROM generate_series(1, 10) AS n;
SELECT pg_temp.locks();
ROLLBACK;
