-- What is known to be forgotten: after a table of records was emptied, dated keys from before are unknown
\set VERBOSITY terse
CREATE DATABASE regress_idempotent_reset;
SELECT current_database() AS home \gset
\c regress_idempotent_reset
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE VIEW resets AS
SELECT durability, reset_at IS NULL AS first_use, reset_at <= noticed_at AS noticed_later
FROM idempotent.reset ORDER BY noticed_at;
SELECT name, durability, after_reset FROM idempotent_operation('kept', durability => 'logged');
SELECT name, durability, after_reset FROM idempotent_operation('again', after_reset => 'execute');
SELECT idempotent_new_key() AS before \gset
SELECT idempotent_new_key() AS lost \gset
-- an installation has lost nothing: keys from before it run
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('kept', :'before', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('again', :'before', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('pay', 'undated', '1', 'work(jsonb)');
SELECT * FROM resets;

\set VERBOSITY sqlstate
-- emptied: once it is noticed, there is one warning, and one line in the log
TRUNCATE idempotent.record;
SELECT outcome FROM idempotent_replay('pay', :'before');
SELECT outcome, fence, response FROM idempotent_run('pay', :'before', '1', 'work(jsonb)') \gx
SELECT * FROM resets;
SELECT outcome FROM idempotent_claim('pay', :'lost', '1');
SELECT outcome FROM idempotent_replay('pay', :'lost');
SELECT outcome FROM idempotent_seal('pay', :'lost');
SELECT x ->> 'outcome' AS outcome, x ->> 'because' AS because FROM idempotent_explain('pay', :'lost') AS x;
\set VERBOSITY default
SELECT outcome FROM idempotent_claim('pay', 'sent', strict => true, first_sent => clock_timestamp() - interval '1 hour');
\set VERBOSITY sqlstate
BEGIN;
SELECT outcome FROM idempotent_claim('pay', :'lost', strict => true);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- by first_sent, too
SELECT outcome FROM idempotent_run('pay', 'sent', '1', 'work(jsonb)', first_sent => clock_timestamp() - interval '1 hour');
-- what carries no date runs again, and so does what the operation lets
SELECT outcome FROM idempotent_run('pay', 'undated', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('again', :'before', '1', 'work(jsonb)');
-- the other table has lost nothing
SELECT outcome FROM idempotent_run('kept', :'before', '1', 'work(jsonb)');
-- a key made afterwards runs (in a later millisecond, which is as fine as the dates of keys are)
SELECT outcome FROM idempotent_run('pay', idempotent_new_key(clock_timestamp() + '1 ms'), '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('pay', 'sent now', '1', 'work(jsonb)', first_sent => clock_timestamp());
-- noticed once
\c
\set VERBOSITY sqlstate
SET client_min_messages = warning;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT * FROM resets;

-- an unknown is settled, although nothing is left of it
SELECT outcome, response, failed FROM idempotent_resolve('pay', :'before', 'completed', '{"paid": true}');
-- what was asked is lost, so every request counts as the one
SELECT outcome, response FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT outcome, response FROM idempotent_run('pay', :'before', '2', 'work(jsonb)');
SELECT outcome FROM idempotent_resolve('pay', :'before', 'failed');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_resolve('pay', :'lost', 'absent');
SELECT outcome FROM idempotent_replay('pay', :'lost');
SELECT x ->> 'outcome' AS outcome, x ->> 'because' AS because, x -> 'record' ->> 'state' AS state
FROM idempotent_explain('pay', :'lost') AS x;
SELECT idempotent_complete('pay', :'lost', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_complete('pay', :'lost', '1', fence => 1);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('pay', :'lost', '1');
ROLLBACK;
SELECT outcome, attempt FROM idempotent_run('pay', :'lost', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('pay', :'lost', '1', 'work(jsonb)');
-- settled as absent it can be leased, lost again and settled again
SELECT outcome FROM idempotent_resolve('pay', 'sent', 'absent');
SELECT outcome, attempt FROM idempotent_claim('pay', 'sent', '1', first_sent => clock_timestamp() - interval '1 hour', lease => '1 hour');
SELECT state, count(*) FROM idempotent.record GROUP BY state ORDER BY state;
-- nobody can settle what is known
SELECT outcome FROM idempotent_resolve('kept', 'new', 'completed');
\echo :LAST_ERROR_SQLSTATE

-- released, the settled key may still run
SELECT idempotent_new_key(clock_timestamp() - interval '1 hour') AS third \gset
SELECT outcome FROM idempotent_claim('pay', :'third', '1');
SELECT outcome FROM idempotent_resolve('pay', :'third', 'absent');
SELECT fence AS fence FROM idempotent_claim('pay', :'third', '1', lease => '1 hour') \gset
SELECT idempotent_release('pay', :'third', fence => :fence);
SELECT outcome FROM idempotent_run('pay', :'third', '1', 'work(jsonb)');
-- what was lost goes along when the records move to the other table, as the warning suggests
SELECT idempotent_new_key(clock_timestamp() - interval '1 hour') AS fourth \gset
SELECT outcome FROM idempotent_claim('pay', :'fourth', '1');
SELECT durability FROM idempotent_operation('pay', durability => 'logged');
SELECT outcome FROM idempotent_claim('pay', :'fourth', '1');
SELECT outcome FROM idempotent_run('pay', :'third', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('pay', idempotent_new_key(clock_timestamp() + '1 ms'), '1', 'work(jsonb)');
SELECT durability FROM idempotent_operation('pay', durability => 'unlogged');
SELECT outcome FROM idempotent_claim('pay', :'fourth', '1');

-- the logged table, too
TRUNCATE idempotent.record_logged;
SELECT outcome FROM idempotent_run('kept', :'before', '1', 'work(jsonb)');
SELECT * FROM resets;
-- a reset that a rollback undoes is noticed again
\set VERBOSITY sqlstate
TRUNCATE idempotent.record;
BEGIN;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT count(*) FROM resets;
ROLLBACK;
SELECT count(*) FROM resets;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT count(*) FROM resets;
-- nor is a savepoint's
TRUNCATE idempotent.record;
BEGIN;
SAVEPOINT s;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
ROLLBACK TO s;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
COMMIT;
SELECT count(*) FROM resets;
-- all rows deleted by hand are a loss like any, to sessions that look from now on
DELETE FROM idempotent.record;
\c
\set VERBOSITY sqlstate
SET client_min_messages = warning;
SELECT outcome FROM idempotent_run('pay', :'before', '1', 'work(jsonb)');
SELECT count(*) FROM resets;
-- ... from when they are noticed: also keys that were finished after the file was made
SELECT idempotent_new_key(clock_timestamp() + '1 ms') AS late \gset
SELECT outcome FROM idempotent_run('pay', :'late', '1', 'work(jsonb)');
-- (past the trigger, which notes it otherwise)
ALTER TABLE idempotent.record DISABLE TRIGGER USER;
DELETE FROM idempotent.record;
\c
\set VERBOSITY sqlstate
SET client_min_messages = warning;
SELECT outcome FROM idempotent_run('pay', :'late', '1', 'work(jsonb)');
-- a table that was never used, and gets records from the other one
DROP VIEW resets;
DROP EXTENSION pg_idempotent;
CREATE EXTENSION pg_idempotent;
SELECT name FROM idempotent_operation('moved', durability => 'logged');
SELECT idempotent_new_key() AS moved \gset
SELECT outcome FROM idempotent_run('moved', :'moved', '1', 'work(jsonb)');
SELECT durability FROM idempotent_operation('moved', durability => 'unlogged');
TRUNCATE idempotent.record;
SELECT outcome FROM idempotent_run('moved', :'moved', '1', 'work(jsonb)');
-- the marker is no record: nothing sweeps, moves or forgets it
SELECT idempotent_sweep();
SELECT count(*) FROM idempotent.record WHERE state = 'e';
-- fences leap, as the last ones may have been forgotten too: first those of the table that was not emptied
SELECT name FROM idempotent_operation('kept', durability => 'logged');
SELECT fence FROM idempotent_claim('kept', 'held', lease => '1 hour');
SELECT fence FROM idempotent_claim('pay', 'held', lease => '1 hour');
TRUNCATE idempotent.record;
-- an attempt that is rolled back has leapt all the same, and so does the next one
BEGIN;
SELECT fence FROM idempotent_claim('kept', 'given up', lease => '1 hour');
ROLLBACK;
SELECT fence FROM idempotent_claim('kept', 'given up', lease => '1 hour');
SELECT fence FROM idempotent_claim('pay', 'held', lease => '1 hour');
\c
SELECT fence FROM idempotent_claim('kept', 'more', lease => '1 hour');
-- who held a lease that is there still holds it
SELECT idempotent_complete('kept', 'held', '1', fence => 1);
SELECT count(*) FROM idempotent.record WHERE state = 'e';
\c :home
DROP DATABASE regress_idempotent_reset;
