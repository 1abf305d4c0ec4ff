-- A transaction that claimed and neither completed, failed nor released cannot commit: ID009.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE TABLE commit_guard_work (what text);

-- a statement of its own
SELECT outcome FROM idempotent_claim('commit_guard', 'autocommit', scope => 'tenant-7');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('commit_guard', 'autocommit', scope => 'tenant-7');
INSERT INTO commit_guard_work SELECT outcome FROM idempotent_claim('commit_guard', 'autocommit');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM commit_guard_work;

-- a block
BEGIN;
INSERT INTO commit_guard_work VALUES ('forgotten');
SELECT outcome FROM idempotent_claim('commit_guard', 'block');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM commit_guard_work;
SELECT outcome FROM idempotent_replay('commit_guard', 'block');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- the session is none the worse
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'block');
SELECT idempotent_complete('commit_guard', 'block');
COMMIT;
BEGIN;
COMMIT;

-- each way of finishing satisfies it
BEGIN;
SELECT (idempotent_claim('commit_guard', 'k' || n)).outcome FROM generate_series(1, 3) AS n;
SELECT idempotent_complete('commit_guard', 'k1');
SELECT idempotent_fail('commit_guard', 'k2');
SELECT idempotent_release('commit_guard', 'k3');
COMMIT;
-- so does a rollback
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'rolled back');
ROLLBACK;
-- a claim again after a release is open again
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'again');
SELECT idempotent_release('commit_guard', 'again');
SELECT outcome FROM idempotent_claim('commit_guard', 'again');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
-- what was not given needs no finishing
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'k1');
SELECT outcome FROM idempotent_claim('commit_guard', 'k1', '1');
SELECT outcome FROM idempotent_replay('commit_guard', 'nobody');
COMMIT;
-- a lease is finished whenever its holder likes
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'leased', lease => '1 hour');
COMMIT;
SELECT outcome FROM idempotent_replay('commit_guard', 'leased');

-- two forgotten: one is named, the other counted
\set VERBOSITY terse
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'one');
SELECT outcome FROM idempotent_claim('commit_guard', 'two');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
-- one of two
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'one');
SELECT outcome FROM idempotent_claim('commit_guard', 'two');
SELECT idempotent_complete('commit_guard', 'one');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('commit_guard', 'one');

-- COMMIT AND CHAIN, and what comes after
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'chain');
COMMIT AND CHAIN;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- PREPARE TRANSACTION
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'prepare');
PREPARE TRANSACTION 'commit_guard';
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'commit_guard';
SELECT outcome FROM idempotent_replay('commit_guard', 'prepare');

-- savepoints: what is rolled back is gone, what is released is not
BEGIN;
SAVEPOINT a;
SELECT outcome FROM idempotent_claim('commit_guard', 'savepoint');
ROLLBACK TO a;
COMMIT;
BEGIN;
SAVEPOINT a;
SELECT outcome FROM idempotent_claim('commit_guard', 'savepoint');
RELEASE a;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
-- finished in a savepoint that is rolled back: open again
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'savepoint');
SAVEPOINT a;
SELECT idempotent_complete('commit_guard', 'savepoint');
ROLLBACK TO a;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT outcome FROM idempotent_claim('commit_guard', 'savepoint');
SAVEPOINT a;
SELECT idempotent_release('commit_guard', 'savepoint');
ROLLBACK TO a;
COMMIT;
\echo :LAST_ERROR_SQLSTATE

-- DO blocks
DO $$ BEGIN PERFORM idempotent_claim('commit_guard', 'do'); END $$;
\echo :LAST_ERROR_SQLSTATE
DO $$ BEGIN PERFORM idempotent_claim('commit_guard', 'do'); PERFORM idempotent_complete('commit_guard', 'do', '1'); END $$;
SELECT outcome, response FROM idempotent_claim('commit_guard', 'do');
-- exception blocks: the claim goes with the block
DO $$
BEGIN
    BEGIN
        PERFORM idempotent_claim('commit_guard', 'exception');
        RAISE EXCEPTION 'caught';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
END $$;
SELECT outcome FROM idempotent_replay('commit_guard', 'exception');
DO $$
BEGIN
    BEGIN
        PERFORM idempotent_claim('commit_guard', 'exception');
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
END $$;
\echo :LAST_ERROR_SQLSTATE
-- COMMIT within a DO block or procedure is guarded too
DO $$
BEGIN
    PERFORM idempotent_claim('commit_guard', 'commit in do');
    COMMIT;
END $$;
\echo :LAST_ERROR_SQLSTATE
CREATE PROCEDURE commit_guard_procedure() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..3 LOOP
        PERFORM idempotent_claim('commit_guard', 'procedure ' || i);
        PERFORM idempotent_complete('commit_guard', 'procedure ' || i, to_jsonb(i));
        COMMIT;
    END LOOP;
    PERFORM idempotent_claim('commit_guard', 'procedure 4');
    ROLLBACK;
    PERFORM idempotent_claim('commit_guard', 'procedure 5');
    COMMIT;
END $$;
CALL commit_guard_procedure();
\echo :LAST_ERROR_SQLSTATE
SELECT n, (idempotent_replay('commit_guard', 'procedure ' || n)).outcome FROM generate_series(1, 5) AS n;

-- triggers: the claim belongs to the statement's transaction
CREATE FUNCTION commit_guard_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_claim('commit_guard', 'trigger ' || NEW.what);
    IF NEW.what LIKE 'complete%' THEN
        PERFORM idempotent_complete('commit_guard', 'trigger ' || NEW.what);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER claims BEFORE INSERT ON commit_guard_work FOR EACH ROW EXECUTE FUNCTION commit_guard_trigger();
INSERT INTO commit_guard_work VALUES ('forget');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO commit_guard_work VALUES ('complete 1'), ('complete 2');
SELECT what, (idempotent_replay('commit_guard', 'trigger ' || what)).outcome FROM commit_guard_work;
-- also one that fires at COMMIT
DROP TRIGGER claims ON commit_guard_work;
CREATE CONSTRAINT TRIGGER claims AFTER INSERT ON commit_guard_work DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commit_guard_trigger();
BEGIN;
INSERT INTO commit_guard_work VALUES ('forget, deferred');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
BEGIN;
INSERT INTO commit_guard_work VALUES ('complete, deferred');
SELECT outcome FROM idempotent_replay('commit_guard', 'trigger complete, deferred');
COMMIT;
SELECT outcome FROM idempotent_replay('commit_guard', 'trigger complete, deferred');
-- nor does a cursor that is run at COMMIT slip through
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT outcome FROM idempotent_claim('commit_guard', 'cursor');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('commit_guard', 'cursor');

-- the message quotes what would break the line
SELECT outcome FROM idempotent_claim('commit "guard"', 'kéy " \ ');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE commit_guard_work;
DROP FUNCTION commit_guard_trigger();
DROP PROCEDURE commit_guard_procedure();

-- what it would say, asked before COMMIT: at the end of a unit of work, and in tests that never commit
SELECT idempotent_check();
BEGIN;
SELECT idempotent_check();
SELECT outcome FROM idempotent_claim('commit_guard', 'checked');
SAVEPOINT s;
SELECT idempotent_check();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT idempotent_complete('commit_guard', 'checked');
SELECT idempotent_check();
SAVEPOINT s;
SELECT outcome FROM idempotent_claim('commit_guard', 'undone');
ROLLBACK TO s;
SELECT idempotent_check();
SELECT fence IS NOT NULL AS leased FROM idempotent_claim('commit_guard', 'outlives', lease => '1 hour');
SELECT idempotent_check();
COMMIT;
BEGIN READ ONLY;
SELECT idempotent_check();
COMMIT;
