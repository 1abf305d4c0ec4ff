-- How long a claim waits. Races are the isolation specs' concern; here is what one session can see.
-- What must not wait is given ten minutes to do so, and less than one to answer.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT outcome FROM idempotent_replay('waits', 'k1');
SHOW idempotent.default_wait;
SET idempotent.default_wait = '10min';
SHOW idempotent.default_wait;
SET statement_timeout = '50s';
CREATE FUNCTION pg_temp.claim(key text, wait interval = NULL, operation text = 'waits') RETURNS TABLE (outcome text, took interval) LANGUAGE plpgsql AS $$
DECLARE began timestamptz = clock_timestamp();
BEGIN
    outcome := (idempotent_claim(operation, key, lease => '1 hour', wait => wait)).outcome;
    took := clock_timestamp() - began;
    RETURN NEXT;
END $$;

-- a lease that lasts: waited for until the wait is over
SELECT outcome FROM idempotent_claim('waits', 'k1', lease => '1 hour');
SELECT outcome FROM pg_temp.claim('k1', '0');
SELECT outcome, took >= '100 ms' AS waited FROM pg_temp.claim('k1', '100 ms');
SELECT outcome, took >= '1 ms' AS waited FROM pg_temp.claim('k1', '1 ms');
-- one that lapses meanwhile: taken over, or not, as soon as it has
SELECT outcome FROM idempotent_claim('waits', 'k2', lease => '100 ms');
SELECT outcome FROM pg_temp.claim('k2', '10 minutes');
SELECT on_lapse FROM idempotent_operation('waits_unknown', on_lapse => 'unknown');
SELECT outcome FROM idempotent_claim('waits_unknown', 'k2', lease => '100 ms');
SELECT outcome FROM pg_temp.claim('k2', '10 minutes', 'waits_unknown');
-- one's own claim and what is finished are never waited for
BEGIN;
SELECT outcome FROM idempotent_claim('waits', 'k3');
SELECT outcome FROM pg_temp.claim('k3', '10 minutes');
SELECT idempotent_complete('waits', 'k3');
COMMIT;
SELECT outcome FROM pg_temp.claim('k3', '10 minutes');
-- nor is a mismatch
SELECT outcome FROM idempotent_claim('waits', 'k1', '"another"', wait => '10 minutes');

-- where the wait comes from: the call, else the operation, else the setting
SELECT wait FROM idempotent_operation('waits_operation', wait => '100 ms');
SELECT outcome FROM idempotent_claim('waits_operation', 'k1', lease => '1 hour');
SELECT outcome, took >= '100 ms' AS waited FROM pg_temp.claim('k1', NULL, 'waits_operation');
SELECT outcome, took >= '200 ms' AS waited FROM pg_temp.claim('k1', '200 ms', 'waits_operation');
SELECT wait FROM idempotent_operation('waits_operation', wait => '0');
SELECT outcome FROM pg_temp.claim('k1', NULL, 'waits_operation');
SELECT wait FROM idempotent_operation('waits_operation', wait => '10 minutes');
SELECT outcome FROM pg_temp.claim('k1', '0', 'waits_operation');
SET idempotent.default_wait = '150ms';
SELECT outcome, took >= '150 ms' AS waited FROM pg_temp.claim('k1');
SET idempotent.default_wait = 0;
SELECT outcome FROM pg_temp.claim('k1');

-- statement_timeout ends a wait, and leaves nothing behind
SET statement_timeout = '100ms';
SELECT outcome FROM idempotent_claim('waits', 'k1', wait => '10 minutes');
\echo :LAST_ERROR_SQLSTATE
SET statement_timeout = '50s';
SELECT outcome FROM pg_temp.claim('k1', '0');

-- waits that are none
SELECT outcome FROM idempotent_claim('waits', 'k4', wait => '-1 s');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_claim('waits', 'k4', wait => '200 years');
\echo :LAST_ERROR_SQLSTATE
SELECT wait FROM idempotent_operation('waits_operation', wait => '-1 s');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY sqlstate
SET idempotent.default_wait = -1;
SET idempotent.default_wait = 'soon';
SET idempotent.unheard_of = 1;
\set VERBOSITY default

-- a change of durability says for whom it waits; what moves nothing waits for nobody
BEGIN;
SELECT (idempotent_claim('waits_other', 'k')).outcome, idempotent_complete('waits_other', 'k', '1');
PREPARE TRANSACTION 'waits';
SET lock_timeout = '50ms';
SELECT name FROM idempotent_operation('waits_moved', durability => 'logged');
\echo :LAST_ERROR_SQLSTATE
SELECT name, durability FROM idempotent_operation('waits_moved', retention => '2 days');
SELECT idempotent_operation_drop('waits_moved');
INSERT INTO idempotent.operation (name, durability) VALUES ('waits_by_hand', 'logged');
SET lock_timeout = '1100ms';
SELECT name FROM idempotent_operation('waits_moved', durability => 'logged');
RESET lock_timeout;
COMMIT PREPARED 'waits';
SELECT name, durability FROM idempotent_operation('waits_moved', durability => 'logged');
SELECT idempotent_operation_drop('waits_moved');
-- the transaction that changes it is in nobody's way but its own operation's
BEGIN;
SELECT durability FROM idempotent_operation('waits_other', durability => 'logged');
SELECT (idempotent_claim('waits_other', 'k2')).outcome, idempotent_complete('waits_other', 'k2', '2');
SELECT outcome, response FROM idempotent_replay('waits_other', 'k');
PREPARE TRANSACTION 'waits';
SELECT outcome FROM idempotent_claim('waits_other', 'k', wait => '0');
SELECT outcome FROM pg_temp.claim('third', '0', 'waits_third');
SELECT outcome, response FROM idempotent_replay('waits_other', 'k');
SELECT outcome, response FROM idempotent_replay('waits_other', 'k2');
SELECT outcome FROM idempotent_claim('waits_other', 'k', wait => '0', strict => true);
\echo :LAST_ERROR_SQLSTATE
COMMIT PREPARED 'waits';
SELECT outcome, response FROM idempotent_claim('waits_other', 'k', wait => '0');
SELECT outcome, response FROM idempotent_claim('waits_other', 'k2', wait => '0');
-- What a handler waits for is its own affair: it has the session's lock_timeout, not what is left of the call's wait.
CREATE FUNCTION waits_limit(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN to_jsonb(current_setting('lock_timeout'));
END $$;
SELECT outcome, response FROM idempotent_run('waits', 'its own', '{}', 'waits_limit', wait => '0');
SET lock_timeout = '7s';
SELECT outcome, response FROM idempotent_run('waits', 'the session''s', '{}', 'waits_limit', wait => '3 seconds');
SELECT (idempotent_saga('waits', jsonb_build_array(jsonb_build_object('name', 'a', 'handler', format('%I.waits_limit(jsonb)', current_schema))))).name;
SELECT outcome, answers FROM idempotent_saga_step('waits', 'its own', '{}', wait => '0');
SHOW lock_timeout;
RESET lock_timeout;
DELETE FROM idempotent.saga_run WHERE saga = 'waits';
DELETE FROM idempotent.saga WHERE name = 'waits';
DROP FUNCTION waits_limit;
