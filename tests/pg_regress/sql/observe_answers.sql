-- An operation in observation: whose answer a call gets, whose is stored, and what is counted twice.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION observe_echo(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('answer', request) $$;
CREATE VIEW observe_counts AS SELECT calls, first, duplicates, mismatches, concurrent, missing_keys, unfinished FROM idempotent.observed WHERE operation = 'watched';
SELECT idempotent_stats_reset();
SELECT (idempotent_operation('watched', mode => 'observe')).mode;

-- run: whatever was finished before in the same transaction, each call gets its own answer
BEGIN;
SELECT outcome, response FROM idempotent_run('watched', 'r1', '1', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '2', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '3', 'observe_echo(jsonb)');
COMMIT;
SELECT request, outcome, response FROM (VALUES ('1'::jsonb), ('2'), ('3')) AS r (request), LATERAL idempotent_run('watched', 'r2', request, 'observe_echo(jsonb)');
-- a duplicate of another transaction's, and again
BEGIN;
SELECT outcome, response FROM idempotent_run('watched', 'r1', '4', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '4', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '5', 'observe_echo(jsonb)');
COMMIT;
SELECT response FROM idempotent_replay('watched', 'r1');
SELECT response FROM idempotent_replay('watched', 'r2');
SELECT * FROM observe_counts;
-- a handler that stores an answer of its own: it is the one for who holds the key, and for who does not its own
CREATE FUNCTION observe_completes(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_complete('watched', 'r3', '"stored"');
    RETURN request;
END $$;
SELECT outcome, response FROM idempotent_run('watched', 'r3', '1', 'observe_completes(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r3', '2', 'observe_completes(jsonb)');
SELECT response FROM idempotent_replay('watched', 'r3');

-- two requests with one key in one transaction: whose answer comes nobody can tell, so none is stored
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'c1', '1');
SELECT outcome, response FROM idempotent_run('watched', 'c1', '2', 'observe_echo(jsonb)');
SELECT idempotent_complete('watched', 'c1', '"of 1"');
COMMIT;
SELECT outcome, response FROM idempotent_replay('watched', 'c1');
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'c2', '1');
SELECT outcome FROM idempotent_claim('watched', 'c2', '2');
SELECT idempotent_complete('watched', 'c2', '"of 2"'), idempotent_complete('watched', 'c2', '"of 1"');
SELECT outcome FROM idempotent_claim('watched', 'c2', '3');
SELECT idempotent_fail('watched', 'c2', '"of 3"'), idempotent_release('watched', 'c2');
COMMIT;
SELECT outcome, response FROM idempotent_replay('watched', 'c2');
-- in a savepoint that is rolled back it was not so
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'c3', '1');
SAVEPOINT s;
SELECT outcome FROM idempotent_claim('watched', 'c3', '2');
ROLLBACK TO s;
SELECT idempotent_complete('watched', 'c3', '"of 1"');
COMMIT;
SELECT outcome, response FROM idempotent_replay('watched', 'c3');
-- with a lease the fence tells
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'c4', '1');
SELECT fence AS passing FROM idempotent_claim('watched', 'c4', '2', lease => '1 hour') \gset
SELECT idempotent_complete('watched', 'c4', '"of 2"', fence => :passing), idempotent_complete('watched', 'c4', '"of 1"');
COMMIT;
SELECT outcome, response FROM idempotent_replay('watched', 'c4');
-- it is no forgotten claim
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'c5', '1');
SELECT outcome FROM idempotent_claim('watched', 'c5', '2');
COMMIT;
SELECT * FROM observe_counts;

-- asking again answers the same, and is not counted, with and without a lease
SELECT idempotent_stats_reset();
SELECT fence AS holder FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT count(DISTINCT fence) AS fences, count(DISTINCT expires_at) AS ends FROM (SELECT (idempotent_claim('watched', 'l1', '1', lease => '1 hour')).* OFFSET 0) AS columns;
BEGIN;
SELECT fence AS passing, expires_at AS ends FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT fence = :passing AS same_fence, expires_at = :'ends' AS same_end FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour');
SELECT * FROM observe_counts;
-- another request is another call, and so is one after the first has come to its end
SELECT fence > :passing AS fence_of_its_own FROM idempotent_claim('watched', 'l1', '2', lease => '1 hour');
SELECT fence AS passing FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT idempotent_complete('watched', 'l1', '"passing"', fence => :passing);
SELECT fence > :passing AS fence_of_its_own FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour');
SAVEPOINT s;
SELECT fence AS passing FROM idempotent_claim('watched', 'l1', '3', lease => '1 hour') \gset
ROLLBACK TO s;
SELECT fence > :passing AS fence_of_its_own FROM idempotent_claim('watched', 'l1', '3', lease => '1 hour');
SAVEPOINT s;
SELECT fence AS passing FROM idempotent_claim('watched', 'l1', '4', lease => '1 hour') \gset
RELEASE s;
SELECT fence = :passing AS same_fence FROM idempotent_claim('watched', 'l1', '4', lease => '1 hour');
COMMIT;
SELECT * FROM observe_counts;
-- the next transaction asks anew
SELECT fence > :passing AS fence_of_its_own FROM idempotent_claim('watched', 'l1', '4', lease => '1 hour');
-- without a lease, and then with one
BEGIN;
SELECT outcome, fence FROM idempotent_claim('watched', 'l1', '1');
SELECT fence AS passing FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT outcome, fence = :passing AS same_fence FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour');
SELECT idempotent_complete('watched', 'l1', '"passing"', fence => :passing);
COMMIT;
SELECT outcome FROM idempotent_replay('watched', 'l1');
SELECT * FROM observe_counts;
-- of a key that is finished already
SELECT idempotent_complete('watched', 'l1', '"holder"', fence => :holder);
BEGIN;
SELECT (idempotent_claim('watched', 'l1', '1')).*;
COMMIT;
SELECT * FROM observe_counts;
-- a call without a key is counted as often as it is made: once per column
SELECT (idempotent_claim('watched', NULL)).outcome, (idempotent_claim('watched', NULL)).attempt;
SELECT * FROM observe_counts;

-- a lease that has lapsed: who is late is let through, and the record stays
SELECT fence AS lapsed FROM idempotent_claim('watched', 'l2', '1', lease => '1 microsecond') \gset
SELECT idempotent_complete('watched', 'l2', '"late"', fence => :lapsed), idempotent_release('watched', 'l2', fence => :lapsed);
SELECT state, fence = :lapsed AS of_the_lapsed FROM idempotent.record WHERE operation = 'watched' AND key = 'l2';

-- examples of keys that are too long end with a whole letter, also where the server writes them otherwise
SELECT idempotent_stats_reset();
SELECT outcome FROM idempotent_claim('watched', repeat(U&'\00E9', 200));
SELECT length(samples->'bad_key'->0->>'key') AS letters, samples->'bad_key'->0->>'key' = repeat(U&'\00E9', 127) AS whole FROM idempotent.observed WHERE operation = 'watched';

-- enforced, nothing of another request is replayed
SELECT (idempotent_operation('watched', mode => 'enforce')).mode;
SELECT outcome, response FROM idempotent_run('watched', 'r1', '1', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'c1', '1', 'observe_echo(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'c2', '1', 'observe_echo(jsonb)');
SELECT (idempotent_operation('watched', mode => 'observe')).mode;
-- a row that the unique constraint refuses is no race of ours, and is an error, or it would stay behind without its place in the indexes
DELETE FROM idempotent.record WHERE state <> 'e';
CREATE UNIQUE INDEX observe_unique ON idempotent.record (key, attempt);
SELECT outcome FROM idempotent_claim('watched', 'u1', '1', scope => 's1', lease => '1 hour');
SELECT outcome FROM idempotent_claim('watched', 'u1', '1', scope => 's2', lease => '1 hour');
\echo :LAST_ERROR_SQLSTATE
DROP INDEX idempotent.observe_unique;
SELECT scope FROM idempotent.record WHERE operation = 'watched' AND key = 'u1';
SELECT idempotent_forget_all('watched') > 0 AS forgotten, idempotent_operation_drop('watched') AS dropped;
DELETE FROM idempotent.record WHERE operation = 'watched';
DROP VIEW observe_counts;
DROP FUNCTION observe_echo(jsonb), observe_completes(jsonb);
SELECT idempotent_stats_reset();
