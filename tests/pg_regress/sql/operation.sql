-- An operation's policy: every setting, what is refused, and when it takes effect.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_operation;
CREATE ROLE regress_idempotent_operation;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;

\x on
-- the defaults
SELECT * FROM idempotent_operation('operation');
-- every setting
SELECT * FROM idempotent_operation('operation', '7 days', '1 hour', '1 day', '30 seconds', '5 seconds', 'logged', 'unknown', 2000000, true, '{sent_at,/meta/trace}', '{P0001,23}', 'execute', 'enforce', 'ignore', 'regress_idempotent_operation');
SELECT * FROM idempotent.operation WHERE name = 'operation';
-- null leaves a setting as it is
SELECT * FROM idempotent_operation('operation');
SELECT * FROM idempotent_operation('operation', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- one at a time, back to the defaults; '0' and '-' clear
SELECT * FROM idempotent_operation('operation', retention => '24 hours');
SELECT * FROM idempotent_operation('operation', failure_retention => '5 minutes', response_retention => '0', lease => '0', wait => '0', role => '-');
SELECT * FROM idempotent_operation('operation', durability => 'unlogged', on_lapse => 'retry', max_response_bytes => 1048576, scope_required => false, fingerprint_exclude => '{}', store_failures => '{}', after_reset => 'unknown');
-- words in either case are stored in lower
SELECT durability, on_lapse, after_reset FROM idempotent_operation('operation', durability => 'LOGGED', on_lapse => 'Unknown', after_reset => 'EXECUTE');
\x off
-- asked for a column, a row, a set
SELECT (idempotent_operation('operation', wait => '3 seconds')).wait;
SELECT (idempotent_operation('operation', wait => '4 seconds')).*;

-- what is refused, and leaves everything as it was
SELECT a AS arguments, pg_temp.refusal(format('SELECT idempotent_operation(''operation'', %s)', a)) FROM unnest(ARRAY[
    $$retention => '0'$$, $$retention => '-1 day'$$, $$retention => '200 years'$$, $$failure_retention => '0'$$, $$failure_retention => '-1 s'$$, $$response_retention => '-1 s'$$, $$response_retention => '200 years'$$,
    $$lease => '-1 s'$$, $$lease => '200 years'$$, $$wait => '-1 s'$$, $$wait => '200 years'$$, $$durability => 'wooden'$$, $$durability => ''$$, $$on_lapse => 'panic'$$, $$max_response_bytes => -1$$,
    $$fingerprint_exclude => '{""}'$$, $$fingerprint_exclude => '{/a~2b}'$$, $$fingerprint_exclude => '{/a~}'$$, $$store_failures => '{P}'$$, $$store_failures => '{40001}'$$, $$after_reset => 'pray'$$, $$mode => 'watch'$$, $$mode => ''$$, $$key_dates => 'never'$$]) AS a;
SELECT idempotent_operation('operation', durability => 'wooden');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_operation('operation', max_response_bytes => -1);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_operation('operation', fingerprint_exclude => '{/a~2b}');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_operation('operation', mode => 'watch');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_operation('operation', role => 'regress_idempotent_nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_operation('');
\echo :LAST_ERROR_SQLSTATE
-- one bad argument among good ones
SELECT pg_temp.refusal($$SELECT idempotent_operation('operation', retention => '3 days', on_lapse => 'panic')$$);
SELECT * FROM idempotent.operation WHERE name = 'operation';
-- a name is what its bytes are
SELECT count(*) FROM idempotent_operation('Operation') UNION ALL SELECT count(*) FROM idempotent_operation('operation ');
SELECT name, wait FROM idempotent.operation WHERE lower(trim(name)) = 'operation' ORDER BY name COLLATE "C";

-- a change counts at once in this session ...
SELECT lease FROM idempotent_operation('operation_live', lease => '1 hour');
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k1');
SELECT lease FROM idempotent_operation('operation_live', lease => '0');
BEGIN;
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k2');
-- ... is undone with its transaction ...
SELECT lease FROM idempotent_operation('operation_live', lease => '1 hour');
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k3');
ROLLBACK;
BEGIN;
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k4');
-- ... or savepoint ...
SAVEPOINT a;
SELECT lease FROM idempotent_operation('operation_live', lease => '1 hour');
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k5');
ROLLBACK TO a;
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k6');
ROLLBACK;
-- ... and may be made in the table itself
UPDATE idempotent.operation SET lease = '1 hour' WHERE name = 'operation_live';
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k7');
SELECT idempotent_forget_all('operation_live');
DELETE FROM idempotent.operation WHERE name = 'operation_live';
BEGIN;
SELECT outcome, fence IS NOT NULL AS leased FROM idempotent_claim('operation_live', 'k8');
ROLLBACK;
UPDATE idempotent.operation SET on_lapse = 'panic' WHERE name = 'operation';
\echo :LAST_ERROR_SQLSTATE
-- by hand, too, what the function refuses
SELECT s AS set, pg_temp.refusal(format('UPDATE idempotent.operation SET %s WHERE name = ''operation''', s)) FROM unnest(ARRAY[
    $$retention = '0'$$, $$retention = '-1 day'$$, $$retention = '200 years'$$, $$failure_retention = '0'$$, $$response_retention = '-1 s'$$, $$lease = '-1 s'$$, $$lease = '0'$$, $$wait = '-1 s'$$, $$wait = '0'$$, $$max_lease = '-1 s'$$,
    $$max_retention = '-1 s'$$, $$fingerprint_exclude = '{""}'$$, $$fingerprint_exclude = '{/a~2b}'$$, $$store_failures = '{P}'$$, $$store_failures = '{40001}'$$, $$http_store = '{200=never}'$$, $$http_headers = '{""}'$$]) AS s;
SELECT i AS values, pg_temp.refusal('INSERT INTO idempotent.operation (name, retention) VALUES ' || i) FROM unnest(ARRAY[$$('operation_bad', '-1 day')$$, $$('', '1 day')$$, $$('operation_good', '1 day')$$]) AS i;
UPDATE idempotent.operation SET retention = '-1 day' WHERE name = 'operation';
-- a set that is written past all this disables nothing
INSERT INTO idempotent.exclusion VALUES ('operation_good', 1, '{""}');
SELECT outcome FROM idempotent_replay('operation_good', 'k');
-- also while thousands of operations are looked at
SELECT retention FROM idempotent_operation('operation_many', retention => '1 hour');
SELECT outcome, count(*) FROM generate_series(1, 3000) AS n, idempotent_replay('operation_many_' || n, 'k') GROUP BY outcome;
SELECT outcome FROM idempotent_claim('operation_many', 'k', first_sent => now() - interval '2 hours');

-- retentions
SELECT retention, failure_retention FROM idempotent_operation('operation_retention', retention => '1 mon', failure_retention => '2 days');
BEGIN;
SELECT (idempotent_claim('operation_retention', 'k1')).outcome, (idempotent_claim('operation_retention', 'k2')).outcome;
SELECT idempotent_complete('operation_retention', 'k1'), idempotent_fail('operation_retention', 'k2');
COMMIT;
SELECT key, expires_at > now() + interval '29 days 23 hours' AS a_month, expires_at > now() + interval '47 hours' AND expires_at < now() + interval '49 hours' AS two_days
FROM unnest('{k1,k2}'::text[]) AS key, idempotent_replay('operation_retention', key);

-- durability moves the live records, with all they hold, in the same transaction
BEGIN;
SELECT (idempotent_claim('operation_moved', 'completed', '1')).outcome, (idempotent_claim('operation_moved', 'failed')).outcome, (idempotent_claim('operation_stays', 'completed')).outcome;
SELECT idempotent_complete('operation_moved', 'completed', '{"a": 1}', 200, headers => '{"h": 1}', body => '\x01'), idempotent_fail('operation_moved', 'failed', '"no"'), idempotent_complete('operation_stays', 'completed');
COMMIT;
SELECT fence FROM idempotent_claim('operation_moved', 'leased', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001') \gset
SELECT idempotent_checkpoint('operation_moved', 'leased', '"step 1"', fence => :fence);
CREATE VIEW operation_records AS
    SELECT 'record' AS "table", operation, key, state, status, response, headers, body, checkpoint, attempt_id, fence IS NOT NULL AS leased FROM idempotent.record
    UNION ALL SELECT 'record_logged', operation, key, state, status, response, headers, body, checkpoint, attempt_id, fence IS NOT NULL FROM idempotent.record_logged;
SELECT * FROM operation_records WHERE operation IN ('operation_moved', 'operation_stays') ORDER BY operation COLLATE "C", key COLLATE "C";
SELECT durability FROM idempotent_operation('operation_moved', durability => 'logged');
SELECT * FROM operation_records WHERE operation IN ('operation_moved', 'operation_stays') ORDER BY operation COLLATE "C", key COLLATE "C";
SELECT outcome, status, headers, response, body FROM idempotent_claim('operation_moved', 'completed', '1');
SELECT outcome FROM idempotent_claim('operation_moved', 'completed', '2');
SELECT outcome, failed, response FROM idempotent_replay('operation_moved', 'failed');
SELECT outcome FROM idempotent_claim('operation_moved', 'leased', wait => '0');
SELECT idempotent_complete('operation_moved', 'leased', '"done"', fence => :fence);
BEGIN;
SELECT outcome FROM idempotent_claim('operation_moved', 'new');
SELECT idempotent_complete('operation_moved', 'new');
COMMIT;
SELECT "table", key, state, response FROM operation_records WHERE operation = 'operation_moved' ORDER BY key COLLATE "C";
-- undone
BEGIN;
SELECT durability FROM idempotent_operation('operation_moved', durability => 'unlogged');
SELECT "table", key FROM operation_records WHERE operation = 'operation_moved' ORDER BY key COLLATE "C";
SELECT outcome, response FROM idempotent_replay('operation_moved', 'completed');
ROLLBACK;
SELECT "table", key FROM operation_records WHERE operation = 'operation_moved' ORDER BY key COLLATE "C";
SELECT outcome, response FROM idempotent_replay('operation_moved', 'completed');
-- back, with a claim open that is completed into the other table
BEGIN;
SELECT outcome FROM idempotent_claim('operation_moved', 'open');
SELECT durability FROM idempotent_operation('operation_moved', durability => 'unlogged');
SELECT outcome FROM idempotent_claim('operation_moved', 'open');
SELECT idempotent_complete('operation_moved', 'open', '"moved"');
COMMIT;
SELECT "table", key, state, response FROM operation_records WHERE operation = 'operation_moved' ORDER BY key COLLATE "C";
SELECT outcome, response FROM idempotent_replay('operation_moved', 'open');
-- from the start
SELECT durability FROM idempotent_operation('operation_logged', durability => 'logged');
BEGIN;
SELECT outcome FROM idempotent_claim('operation_logged', 'k');
SELECT idempotent_complete('operation_logged', 'k');
COMMIT;
SELECT "table", key FROM operation_records WHERE operation = 'operation_logged';
-- not from a snapshot that may not show all there is; other settings are no concern of it
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT durability, wait FROM idempotent_operation('operation_logged', durability => 'logged', wait => '1 second');
SELECT durability FROM idempotent_operation('operation_logged', durability => 'unlogged');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT durability FROM idempotent_operation('operation_logged', durability => 'unlogged');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

DROP VIEW operation_records;
DELETE FROM idempotent.operation WHERE role IS NOT NULL;
DROP ROLE regress_idempotent_operation;
