-- The extension comes and goes under a session that goes on.
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_idempotent_lifecycle;
CREATE DATABASE regress_idempotent_lifecycle TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\set home :DBNAME
\c regress_idempotent_lifecycle
\set SHOW_CONTEXT never
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';

-- dropped and created again between two calls
BEGIN;
SELECT outcome FROM idempotent_claim('lifecycle', 'k1', '1');
SELECT idempotent_complete('lifecycle', 'k1', '"before"');
COMMIT;
SELECT lease FROM idempotent_operation('lifecycle', lease => '1 hour', durability => 'logged');
SELECT outcome, response FROM idempotent_claim('lifecycle', 'k1', '1');
PREPARE replay AS SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
EXECUTE replay;
DROP EXTENSION pg_idempotent;
SELECT outcome FROM idempotent_claim('lifecycle', 'k1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM pg_namespace WHERE nspname = 'idempotent';
SELECT count(*) FROM pg_class WHERE relname LIKE '%idempotent%' OR relname IN ('record', 'record_logged');
CREATE EXTENSION pg_idempotent;
SELECT outcome FROM idempotent_replay('lifecycle', 'k1');
SELECT count(*) FROM idempotent.operation;
BEGIN;
SELECT outcome, fence FROM idempotent_claim('lifecycle', 'k1', '2');
SELECT idempotent_complete('lifecycle', 'k1', '"after"');
COMMIT;
SELECT outcome, response FROM idempotent_claim('lifecycle', 'k1', '2');
EXECUTE replay;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k2', '2', 'work(jsonb)');
SELECT fence IS NOT NULL AS leased FROM idempotent_claim('lifecycle', 'k3', lease => '1 hour');

-- in one transaction, rolled back: all is as it was
BEGIN;
DROP EXTENSION pg_idempotent;
CREATE EXTENSION pg_idempotent;
SELECT outcome FROM idempotent_replay('lifecycle', 'k1');
SELECT outcome FROM idempotent_claim('lifecycle', 'k1');
SELECT idempotent_complete('lifecycle', 'k1', '"never"');
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
ROLLBACK;
SELECT outcome, response FROM idempotent_claim('lifecycle', 'k1', '2');
BEGIN;
SAVEPOINT a;
DROP EXTENSION pg_idempotent;
ROLLBACK TO a;
SELECT outcome, response FROM idempotent_claim('lifecycle', 'k1', '2');
COMMIT;

-- dropped under an open claim: what was claimed cannot be finished, so it cannot be committed
BEGIN;
SELECT outcome FROM idempotent_claim('lifecycle', 'k4');
DROP EXTENSION pg_idempotent;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('lifecycle', 'k4');
BEGIN;
SELECT outcome FROM idempotent_claim('lifecycle', 'k4');
SELECT idempotent_complete('lifecycle', 'k4');
SELECT outcome, fence AS f FROM idempotent_claim('lifecycle', 'k5', lease => '1 hour') \gset
DROP EXTENSION pg_idempotent;
CREATE EXTENSION pg_idempotent;
SELECT outcome FROM idempotent_replay('lifecycle', 'k4');
\set VERBOSITY sqlstate
SAVEPOINT a;
SELECT idempotent_complete('lifecycle', 'k4');
ROLLBACK TO a;
SELECT idempotent_complete('lifecycle', 'k5', fence => :f);
ROLLBACK TO a;
\set VERBOSITY default
COMMIT;
SELECT outcome FROM idempotent_replay('lifecycle', 'k5');

-- in another schema, which need not be in the search_path
DROP EXTENSION pg_idempotent;
CREATE SCHEMA "else Where";
CREATE EXTENSION pg_idempotent SCHEMA "else Where";
SELECT outcome FROM idempotent_replay('lifecycle', 'k1');
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT outcome FROM "else Where".idempotent_claim('lifecycle', 'k1', '1');
SELECT "else Where".idempotent_complete('lifecycle', 'k1', '"elsewhere"');
COMMIT;
SELECT * FROM "else Where".idempotent_operation('lifecycle', durability => 'logged');
SELECT outcome, response FROM "else Where".idempotent_claim('lifecycle', 'k1', '1');
SELECT outcome, response FROM "else Where".idempotent_run('lifecycle', 'k2', '1', 'work(jsonb)');
SELECT pg_typeof("else Where".idempotent_replay('lifecycle', 'k1'));
SELECT "else Where".idempotent_explain('lifecycle', 'k1') ->> 'outcome';
CREATE ROLE regress_idempotent_elsewhere;
SELECT "else Where".idempotent_grant('regress_idempotent_elsewhere');
SET ROLE regress_idempotent_elsewhere;
SELECT outcome, response FROM "else Where".idempotent_claim('lifecycle', 'k1', '1');
RESET ROLE;
SELECT "else Where".idempotent_revoke('regress_idempotent_elsewhere');
DROP OWNED BY regress_idempotent_elsewhere;
DROP ROLE regress_idempotent_elsewhere;
ALTER EXTENSION pg_idempotent SET SCHEMA public;
\echo :LAST_ERROR_SQLSTATE
ALTER SCHEMA "else Where" RENAME TO elsewhere;
SELECT outcome, response FROM elsewhere.idempotent_claim('lifecycle', 'k1', '1');

-- what depends on it is not dropped silently
CREATE VIEW depends AS SELECT outcome FROM elsewhere.idempotent_replay('lifecycle', 'k1');
DROP EXTENSION pg_idempotent;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM depends;
DROP EXTENSION pg_idempotent CASCADE;
SELECT count(*) FROM pg_class WHERE relname = 'depends';
-- a table that is missing is said to be
CREATE EXTENSION pg_idempotent;
ALTER EXTENSION pg_idempotent DROP SEQUENCE idempotent.fence;
DROP SEQUENCE idempotent.fence;
SELECT outcome FROM idempotent_replay('lifecycle', 'k1');
\echo :LAST_ERROR_SQLSTATE
DROP EXTENSION pg_idempotent;
-- nor can it be taken apart
CREATE EXTENSION pg_idempotent;
DROP SCHEMA idempotent CASCADE;
\echo :LAST_ERROR_SQLSTATE
DROP TABLE idempotent.record;
\echo :LAST_ERROR_SQLSTATE
DROP EXTENSION pg_idempotent;
-- administrators' hands: rows deleted, tables emptied, rewritten and indexed anew under a session
CREATE EXTENSION pg_idempotent;
BEGIN;
SELECT count((idempotent_claim('lifecycle', 'k' || n)).outcome) FROM generate_series(1, 3) AS n;
SELECT count(*) FROM generate_series(1, 3) AS n, idempotent_complete('lifecycle', 'k' || n, to_jsonb(n));
COMMIT;
VACUUM FULL idempotent.record;
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
REINDEX TABLE idempotent.record;
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
REINDEX TABLE CONCURRENTLY idempotent.record;
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
REINDEX TABLE CONCURRENTLY idempotent.operation;
SELECT lease FROM idempotent_operation('lifecycle', lease => '1 hour');
CLUSTER idempotent.record USING record_pkey;
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k1');
DELETE FROM idempotent.record WHERE key = 'k1';
SELECT outcome FROM idempotent_replay('lifecycle', 'k1');
-- what it warns of then: regress/reset
SET client_min_messages = error;
TRUNCATE idempotent.record;
SELECT outcome FROM idempotent_replay('lifecycle', 'k2');
BEGIN;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k2', '2', 'work(jsonb)');
TRUNCATE idempotent.record;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k2', '3', 'work(jsonb)');
COMMIT;
RESET client_min_messages;
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k2');
-- indexes and columns of an administrator's own: kept up, or refused
CREATE UNIQUE INDEX theirs ON idempotent.record (operation, scope, key);
SELECT outcome, response FROM idempotent_run('lifecycle', 'k10', '1', 'work(jsonb)');
SET enable_seqscan = off;
SELECT count(*) FROM idempotent.record WHERE operation = 'lifecycle' AND scope = '' AND key = 'k10';
RESET enable_seqscan;
DROP INDEX idempotent.theirs;
CREATE INDEX theirs ON idempotent.record ((response ->> 'x'));
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
DROP INDEX idempotent.theirs;
CREATE INDEX theirs ON idempotent.record (claimed_at) WHERE lease_until IS NOT NULL;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, response FROM idempotent_replay('lifecycle', 'k10');
DROP INDEX idempotent.theirs;
-- which would not hear of a lease that is extended in place
CREATE INDEX theirs ON idempotent.record USING brin (lease_until);
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
DROP INDEX idempotent.theirs;
ALTER TABLE idempotent.record ADD COLUMN theirs integer;
ALTER TABLE idempotent.operation ADD COLUMN theirs integer;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k10', '1', 'work(jsonb)');
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
SELECT name, theirs FROM idempotent_operation('lifecycle', wait => '1 second');
ALTER TABLE idempotent.record DROP COLUMN theirs;
ALTER TABLE idempotent.operation DROP COLUMN theirs;
-- but ours are there, and of their types: what is written as a number would be read as a pointer
CREATE FUNCTION lifecycle_altered(alteration text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'ALTER TABLE idempotent.' || alteration;
    PERFORM idempotent_run('lifecycle', 'k13', '1', 'work(jsonb)');
    PERFORM idempotent_first('lifecycle', 'm'), idempotent_advance('lifecycle', 'p', 1), idempotent_lock('lifecycle', 'k', '1 minute');
    RAISE 'nothing was refused';
EXCEPTION WHEN OTHERS THEN
    RETURN concat_ws(': ', SQLSTATE, SQLERRM);
END $$;
SELECT alteration, lifecycle_altered(alteration) FROM unnest('{
    record ALTER finished_at TYPE text, record ALTER fingerprint TYPE text, record ALTER status TYPE bigint, record ALTER response TYPE text, record DROP checkpoint,
    messages ALTER seen_at TYPE date, offsets ALTER slot TYPE bigint, locks ALTER acquired_at TYPE text, own ALTER changed_at TYPE text,
    exclusion ALTER number TYPE integer, operation ALTER wait TYPE text}'::text[]) AS alteration;
DROP FUNCTION lifecycle_altered;
SELECT outcome, response FROM idempotent_run('lifecycle', 'k11', '1', 'work(jsonb)');
SELECT outcome, response FROM idempotent_run('lifecycle', 'k12', '1', 'work(jsonb)');
SELECT name FROM idempotent_operation('lifecycle', wait => '1 second');
SELECT idempotent_forget_all('lifecycle') > 0 AS forgotten, idempotent_operation_drop('lifecycle') AS dropped;
BEGIN;
SELECT outcome, fence FROM idempotent_claim('lifecycle', 'k4');
ROLLBACK;
\c :home
DROP DATABASE regress_idempotent_lifecycle;
