-- Read-only transactions: what writes is refused with 25006, what reads works.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_read_only;
CREATE ROLE regress_idempotent_read_only;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION read_only_handler(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
BEGIN;
SELECT outcome FROM idempotent_claim('read_only', 'done');
SELECT idempotent_complete('read_only', 'done', '"done"');
COMMIT;
SELECT fence FROM idempotent_claim('read_only', 'leased', lease => '1 hour') \gset

BEGIN READ ONLY;
SELECT outcome FROM idempotent_claim('read_only', 'k');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT s AS statement, pg_temp.refusal('SELECT ' || replace(s, 'FENCE', :'fence')) FROM unnest(ARRAY[
    $$idempotent_claim('read_only', 'k')$$, $$idempotent_claim('read_only', 'done')$$, $$idempotent_claim('read_only', 'k', lease => '1 hour')$$,
    $$idempotent_complete('read_only', 'leased', fence => FENCE)$$, $$idempotent_fail('read_only', 'leased', fence => FENCE)$$, $$idempotent_release('read_only', 'leased', fence => FENCE)$$,
    $$idempotent_extend('read_only', 'leased', '1 hour', fence => FENCE)$$, $$idempotent_checkpoint('read_only', 'leased', '1', fence => FENCE)$$,
    $$idempotent_run('read_only', 'k', '1', 'read_only_handler(jsonb)')$$, $$idempotent_run('read_only', 'done', NULL, 'read_only_handler(jsonb)')$$,
    $$idempotent_operation('read_only', retention => '1 day')$$, $$idempotent_grant('regress_idempotent_read_only')$$, $$idempotent_revoke('regress_idempotent_read_only')$$]) AS s;
-- a bad argument is not worth more than the transaction's word
SELECT pg_temp.refusal($$SELECT idempotent_claim('', '')$$);
-- what reads
SELECT outcome, response FROM idempotent_replay('read_only', 'done');
SELECT outcome FROM idempotent_replay('read_only', 'leased');
SELECT outcome FROM idempotent_replay('read_only', 'k');
SELECT idempotent_explain('read_only', 'done') ->> 'outcome';
SELECT length(idempotent_new_key()), length(idempotent_request_key('1')), idempotent_derive_key('charge', 'k1', 'card'), idempotent_slot('k1'), idempotent_shard('k1', 7);
COMMIT;
-- set in the middle: what is held by then can neither be finished nor committed
BEGIN;
SELECT outcome FROM idempotent_claim('read_only', 'k');
SET TRANSACTION READ ONLY;
SAVEPOINT a;
SELECT idempotent_complete('read_only', 'k');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO a;
SELECT outcome FROM idempotent_replay('read_only', 'k');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
-- by default
SET default_transaction_read_only = on;
SELECT outcome FROM idempotent_claim('read_only', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('read_only', 'done');
RESET default_transaction_read_only;
SELECT outcome FROM idempotent_replay('read_only', 'k');
-- the lease is untouched
SELECT outcome FROM idempotent_replay('read_only', 'leased');
SELECT idempotent_release('read_only', 'leased', fence => :fence);
DROP FUNCTION read_only_handler(jsonb);
DROP ROLE regress_idempotent_read_only;
