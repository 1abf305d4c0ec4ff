-- Settings that change forget nothing that earlier ones knew: what was expired stays so, and what was unknown stays unknown.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_settings, regress_idempotent_member;
CREATE ROLE regress_idempotent_settings;
CREATE ROLE regress_idempotent_member IN ROLE regress_idempotent_settings;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.claimed(operation text, key text, first_sent timestamptz = NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    answer := (idempotent_claim(operation, key, first_sent => first_sent)).outcome;
    IF answer = 'claimed' THEN PERFORM idempotent_release(operation, key); END IF;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN sqlstate || ' ' || sqlerrm || ' | ' || hint;
END $$;

-- a longer retention
SELECT retention FROM idempotent_operation('settings_longer', retention => '1 hour');
SELECT idempotent_new_key(now() - interval '2 hours') AS old, idempotent_new_key(now() - interval '50 minutes') AS fresh \gset
SELECT pg_temp.claimed('settings_longer', :'old') AS old, pg_temp.claimed('settings_longer', :'fresh') AS fresh;
SELECT retention FROM idempotent_operation('settings_longer', retention => '3 days');
SELECT pg_temp.claimed('settings_longer', :'old') AS old, pg_temp.claimed('settings_longer', :'fresh') AS fresh, pg_temp.claimed('settings_longer', 'undated', now() - interval '2 hours') AS sent;
SELECT outcome FROM idempotent_replay('settings_longer', :'old');
SELECT e ->> 'outcome' AS outcome FROM idempotent_explain('settings_longer', :'old') AS e;
CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 $$;
SELECT outcome FROM idempotent_run('settings_longer', :'old', '1', 'pg_temp.work(jsonb)');
-- and longer again, and shorter in between
SELECT retention FROM idempotent_operation('settings_longer', retention => '7 days') UNION ALL SELECT retention FROM idempotent_operation('settings_longer', retention => '4 days') UNION ALL SELECT retention FROM idempotent_operation('settings_longer', retention => '9 days');
SELECT pg_temp.claimed('settings_longer', :'old') AS old, pg_temp.claimed('settings_longer', :'fresh') AS fresh;
SELECT kept FROM idempotent.earlier_retention WHERE operation = 'settings_longer' ORDER BY until;
-- not by forgetting everything, nor by removing the settings and making them again
SELECT idempotent_forget_all('settings_longer');
SELECT pg_temp.claimed('settings_longer', :'old') AS old;
SELECT idempotent_operation_drop('settings_longer'), idempotent_operation_drop('settings_longer');
SELECT pg_temp.claimed('settings_longer', :'old') AS old;
SELECT retention FROM idempotent_operation('settings_longer', retention => '9 days');
SELECT pg_temp.claimed('settings_longer', :'old') AS old;
-- rolled back
BEGIN;
SELECT retention FROM idempotent_operation('settings_undone', retention => '1 hour');
COMMIT;
BEGIN;
SELECT retention FROM idempotent_operation('settings_undone', retention => '3 days');
ROLLBACK;
SELECT count(*) FROM idempotent.earlier_retention WHERE operation = 'settings_undone';
-- a record that goes after the change, because it was stored before it
BEGIN;
SELECT retention FROM idempotent_operation('settings_between', retention => '3 seconds');
COMMIT;
SET idempotent.clock_skew = 0;
SELECT idempotent_new_key() AS between \gset
SELECT (idempotent_claim('settings_between', :'between')).outcome, idempotent_complete('settings_between', :'between', '1');
SELECT retention FROM idempotent_operation('settings_between', retention => '3 days');
SELECT outcome FROM idempotent_replay('settings_between', :'between');
DO $$ BEGIN WHILE EXISTS (SELECT FROM idempotent.record WHERE operation = 'settings_between' AND expires_at > clock_timestamp()) LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;
SELECT pg_temp.claimed('settings_between', :'between');
RESET idempotent.clock_skew;
-- a second raise, from less than before, leaves what the first one has noted: a date may be ahead by which a record was kept
SELECT retention FROM idempotent_operation('settings_twice', retention => '1 hour');
SELECT retention FROM idempotent_operation('settings_twice', retention => '3 days');
SELECT retention FROM idempotent_operation('settings_twice', retention => '1 second');
SELECT retention FROM idempotent_operation('settings_twice', retention => '3 days');
SELECT kept - current_setting('idempotent.clock_skew')::interval AS kept FROM idempotent.earlier_retention WHERE operation = 'settings_twice' AND until > clock_timestamp() ORDER BY until;
-- and also within a transaction, whose settings in between end at once
SELECT retention FROM idempotent_operation('settings_twice_at_once', retention => '1 hour');
BEGIN;
SELECT retention FROM idempotent_operation('settings_twice_at_once', retention => '3 days');
SELECT retention FROM idempotent_operation('settings_twice_at_once', retention => '1 second');
SELECT retention FROM idempotent_operation('settings_twice_at_once', retention => '3 days');
SELECT kept - current_setting('idempotent.clock_skew')::interval AS kept, isfinite(until) AS ended FROM idempotent.earlier_retention WHERE operation = 'settings_twice_at_once' ORDER BY until;
COMMIT;
SELECT kept - current_setting('idempotent.clock_skew')::interval AS kept, isfinite(until) AS ended FROM idempotent.earlier_retention WHERE operation = 'settings_twice_at_once' ORDER BY until;
-- until the change commits
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '1 hour');
COMMIT;
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '3 days');
SELECT until AS noted FROM idempotent.earlier_retention WHERE operation = 'settings_commit';
SELECT clock_timestamp() AS before \gset
COMMIT;
-- and as long as a date may have been ahead by which a record was kept
SELECT until - :'before' > '1 hour' AND until - clock_timestamp() < '1 hour 1 minute' AS ends_with_the_transaction FROM idempotent.earlier_retention WHERE operation = 'settings_commit';

-- whatever SET CONSTRAINTS says; and PREPARE is not the end
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '4 days');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) FROM idempotent.earlier_retention WHERE operation = 'settings_commit' AND until = 'infinity';
COMMIT;
SELECT count(*) FROM idempotent.earlier_retention WHERE operation = 'settings_commit' AND until = 'infinity';
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '5 days');
PREPARE TRANSACTION 'settings';
\echo :LAST_ERROR_SQLSTATE
-- so there is nothing that the next one would wait for
ROLLBACK PREPARED 'settings';
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '1 day');
PREPARE TRANSACTION 'settings';
ROLLBACK PREPARED 'settings';
-- nor is anything left to do of what is rolled back
BEGIN;
SAVEPOINT s;
SELECT retention FROM idempotent_operation('settings_commit', retention => '6 days');
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT retention FROM idempotent_operation('settings_commit', retention => '6 days');
ROLLBACK;
BEGIN READ ONLY;
COMMIT;
SELECT retention FROM idempotent.operation WHERE name = 'settings_commit';

-- the first settings of an operation that has run with the defaults, and of one that has not
SELECT pg_temp.claimed('settings_first', idempotent_new_key(now() - interval '2 days'));
SELECT retention FROM idempotent_operation('settings_first', retention => '9 days');
SELECT pg_temp.claimed('settings_first', idempotent_new_key(now() - interval '2 days'));
SELECT retention FROM idempotent_operation('settings_new', retention => '9 days');
SELECT pg_temp.claimed('settings_new', idempotent_new_key(now() - interval '2 days'));
-- the defaults in the place of settings
SELECT retention FROM idempotent_operation('settings_short', retention => '1 hour');
SELECT idempotent_operation_drop('settings_short');
SELECT pg_temp.claimed('settings_short', :'old');

-- dates that count again
SELECT key_dates FROM idempotent_operation('settings_dates', key_dates => 'ignore', retention => '1 hour');
SELECT pg_temp.claimed('settings_dates', :'old');
SELECT key_dates, retention FROM idempotent_operation('settings_dates', key_dates => 'use', retention => '3 days');
SELECT pg_temp.claimed('settings_dates', :'old'), pg_temp.claimed('settings_dates', idempotent_new_key());
-- spellings that are dates from now on
SELECT key_form FROM idempotent_operation('settings_form', retention => '1 hour');
SELECT idempotent_new_key(now() - interval '1 hour' + current_setting('idempotent.clock_skew')::interval / 2) AS skewed \gset
SELECT pg_temp.claimed('settings_form', replace(:'skewed', '-', '')) AS undated, pg_temp.claimed('settings_form', :'skewed') AS dated;
SELECT key_form FROM idempotent_operation('settings_form', key_form => 'uuid');
SELECT pg_temp.claimed('settings_form', replace(:'skewed', '-', '')) AS spelt, pg_temp.claimed('settings_form', :'skewed') AS skewed, pg_temp.claimed('settings_form', idempotent_new_key()) AS fresh;
-- which does not matter where dates do not count
SELECT key_form FROM idempotent_operation('settings_dateless', key_dates => 'ignore', retention => '1 hour');
SELECT key_form FROM idempotent_operation('settings_dateless', key_form => 'uuid');
SELECT count(*) FROM idempotent.earlier_retention WHERE operation = 'settings_dateless';
-- the place of the records
SELECT retention FROM idempotent_operation('settings_moved', retention => '1 hour');
SELECT durability, retention FROM idempotent_operation('settings_moved', durability => 'logged', retention => '3 days');
SELECT pg_temp.claimed('settings_moved', :'old');
SELECT durability FROM idempotent_operation('settings_moved', durability => 'unlogged');
SELECT pg_temp.claimed('settings_moved', :'old');
-- messages, in the same way
SELECT retention FROM idempotent_operation('settings_messages', retention => '1 hour');
SELECT idempotent_first('settings_messages', :'old') AS old;
SELECT retention FROM idempotent_operation('settings_messages', retention => '3 days');
SELECT idempotent_first('settings_messages', :'old') AS old, idempotent_first('settings_messages', :'fresh') AS fresh;
SELECT * FROM idempotent_first_of('settings_messages', ARRAY[:'old', 'undated']);

-- what a lapsed lease leads to is a fact of the lease
SELECT on_lapse FROM idempotent_operation('settings_lapse', on_lapse => 'unknown');
SELECT outcome, fence AS extended FROM idempotent_claim('settings_lapse', 'extended', lease => '1 hour') \gset
SELECT outcome FROM idempotent_claim('settings_lapse', 'lapsed', lease => '1 microsecond');
SELECT on_lapse FROM idempotent_operation('settings_lapse', on_lapse => 'retry');
SELECT outcome FROM idempotent_claim('settings_lapse', 'lapsed');
SELECT outcome FROM idempotent_seal('settings_lapse', 'lapsed');
SELECT outcome FROM idempotent_replay('settings_lapse', 'lapsed');
SELECT e ->> 'outcome' AS outcome FROM idempotent_explain('settings_lapse', 'lapsed') AS e;
SELECT idempotent_sweep() >= 0 AS swept;
SELECT outcome FROM idempotent_claim('settings_lapse', 'lapsed');
SELECT idempotent_extend('settings_lapse', 'extended', '1 microsecond', fence => :extended) IS NOT NULL AS extended;
SELECT outcome FROM idempotent_claim('settings_lapse', 'extended');
SELECT outcome FROM idempotent_resolve('settings_lapse', 'extended', 'absent');
SELECT outcome, attempt FROM idempotent_claim('settings_lapse', 'extended', lease => '1 microsecond');
SELECT outcome, attempt FROM idempotent_claim('settings_lapse', 'extended', lease => '1 microsecond');

-- also by hand, of an operation that is configured and of one that is not
SELECT on_lapse FROM idempotent_operation('settings_lapse_hand');
SELECT operation, (idempotent_claim(operation, 'lapsed', lease => '1 microsecond')).outcome, (idempotent_claim(operation, 'leased', lease => '1 hour')).outcome
FROM unnest('{settings_lapse_hand,settings_lapse_new}'::text[]) AS operation;
UPDATE idempotent.operation SET on_lapse = 'unknown' WHERE name = 'settings_lapse_hand';
INSERT INTO idempotent.operation (name, on_lapse) VALUES ('settings_lapse_new', 'unknown');
SELECT operation, pg_temp.claimed(operation, 'lapsed') FROM unnest('{settings_lapse_hand,settings_lapse_new}'::text[]) AS operation;
SELECT operation, key, state, isfinite(expires_at) AS expires FROM idempotent.record WHERE operation LIKE 'settings\_lapse\_%' ORDER BY 1, 2;
-- what is unknown is no loss
SELECT count(*) FROM idempotent.reset WHERE operation LIKE 'settings\_lapse\_%';
-- not from a snapshot that may not show every lease
SELECT on_lapse FROM idempotent_operation('settings_lapse_frozen');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT s AS statement, pg_temp.refusal(s) FROM unnest(ARRAY[
    $$SELECT idempotent_operation('settings_lapse_frozen', on_lapse => 'unknown')$$,
    $$UPDATE idempotent.operation SET on_lapse = 'unknown' WHERE name = 'settings_lapse_frozen'$$,
    $$SELECT idempotent_operation('settings_lapse_hand', on_lapse => 'unknown')$$,
    $$SELECT idempotent_operation('settings_lapse_hand', on_lapse => 'retry')$$]) AS s;
ROLLBACK;

-- by hand: what only the function can do is refused, and the rest is noticed
SELECT retention FROM idempotent_operation('settings_by_hand', retention => '1 hour');
UPDATE idempotent.operation SET retention = '3 days' WHERE name = 'settings_by_hand';
SELECT pg_temp.claimed('settings_by_hand', :'old');
SELECT (idempotent_claim('settings_by_hand', 'k')).outcome, idempotent_complete('settings_by_hand', 'k', '1');
SELECT s AS statement, pg_temp.refusal(s) FROM unnest(ARRAY[
    $$UPDATE idempotent.operation SET durability = 'logged' WHERE name = 'settings_by_hand'$$,
    $$UPDATE idempotent.operation SET name = 'settings_renamed' WHERE name = 'settings_by_hand'$$,
    $$DELETE FROM idempotent.operation WHERE name = 'settings_by_hand'$$,
    $$SELECT idempotent_operation_drop('settings_by_hand')$$,
    $$SELECT idempotent_operation_drop('')$$,
    $$TRUNCATE idempotent.operation$$]) AS s;
SELECT pg_temp.claimed('settings_undeclared', 'k');
SELECT (idempotent_claim('settings_undeclared', 'k')).outcome, idempotent_complete('settings_undeclared', 'k', '1');
SELECT pg_temp.refusal($$INSERT INTO idempotent.operation (name, durability) VALUES ('settings_undeclared', 'logged')$$);
INSERT INTO idempotent.operation (name, durability) VALUES ('settings_inserted', 'logged');
SELECT outcome, response FROM idempotent_claim('settings_by_hand', 'k');
SELECT idempotent_forget_all('settings_by_hand');
DELETE FROM idempotent.operation WHERE name = 'settings_by_hand';
SELECT pg_temp.claimed('settings_by_hand', :'old');
-- as logical replication applies it, which fires no trigger of a statement and only those that are always to fire
SET session_replication_role = replica;
INSERT INTO idempotent.operation (name, lease) VALUES ('settings_replica', '1 hour');
SELECT lease IS NOT NULL AS known, (idempotent_claim('settings_replica', 'k1')).fence IS NOT NULL AS leased FROM idempotent.operation WHERE name = 'settings_replica';
UPDATE idempotent.operation SET lease = NULL, retention = '1 hour' WHERE name = 'settings_replica';
SELECT pg_temp.claimed('settings_replica', :'old');
UPDATE idempotent.operation SET retention = '3 days' WHERE name = 'settings_replica';
SELECT pg_temp.claimed('settings_replica', :'old');
SELECT pg_temp.refusal($$UPDATE idempotent.operation SET durability = 'logged' WHERE name = 'settings_replica'$$);
-- and settings that come before the numbers of their exclusions
INSERT INTO idempotent.operation (name, fingerprint_exclude) VALUES ('settings_published', '{b}');
SELECT pg_temp.refusal($$INSERT INTO idempotent.exclusion VALUES ('settings_published', 1, '{a}'), ('settings_published', 2, '{b}')$$);
SELECT number, members FROM idempotent.exclusion WHERE operation = 'settings_published' ORDER BY number;
RESET session_replication_role;
SELECT count(*) FILTER (WHERE isfinite(until)) AS ended, count(*) AS lines FROM idempotent.earlier_retention WHERE operation = 'settings_replica';
-- a line that is restored, or comes from another node, says when its settings ended
INSERT INTO idempotent.earlier_retention VALUES ('settings_restored', '2999-01-01 00:00+00', '1 hour');
SELECT until = '2999-01-01 00:00+00' AS as_it_was FROM idempotent.earlier_retention WHERE operation = 'settings_restored';
DELETE FROM idempotent.earlier_retention WHERE operation = 'settings_restored';

-- a role that is missing: nobody
SELECT role FROM idempotent_operation('settings_role', role => 'regress_idempotent_settings');
SELECT take_role FROM idempotent_operation('settings_topic', take_role => 'regress_idempotent_settings');
SELECT idempotent_grant('regress_idempotent_member');
SET ROLE regress_idempotent_member;
SELECT outcome FROM idempotent_replay('settings_role', 'k');
RESET ROLE;
SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_settings;
RESET client_min_messages;
DROP ROLE regress_idempotent_settings;
\set VERBOSITY default
SELECT outcome FROM idempotent_replay('settings_role', 'k');
\set VERBOSITY terse
\echo :LAST_ERROR_SQLSTATE
SET ROLE regress_idempotent_member;
SELECT outcome FROM idempotent_replay('settings_role', 'k');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT count(*) FROM idempotent_outbox_take('settings_topic');
SELECT missing_roles FROM idempotent.health;
SELECT take_role FROM idempotent_operation('settings_topic', role => 'pg_monitor');
SELECT count(*) FROM idempotent_outbox_take('settings_topic');
SELECT role FROM idempotent_operation('settings_role', role => '-');
SELECT missing_roles FROM idempotent.health;
SELECT take_role FROM idempotent_operation('settings_topic', take_role => '-');
SELECT count(*) FROM idempotent_outbox_take('settings_topic');
SELECT idempotent_operation('settings_role', role => '987654321');
SELECT idempotent_operation('settings_role', take_role => '987654321');
SELECT missing_roles FROM idempotent.health;
SELECT idempotent_revoke('regress_idempotent_member');
DROP OWNED BY regress_idempotent_member;
DROP ROLE regress_idempotent_member;

-- the most that a caller may ask for
SELECT max_lease, max_retention FROM idempotent_operation('settings_most', max_lease => '1 hour', max_retention => '7 days');
SELECT max_lease, max_retention FROM idempotent_operation('settings_most');
SELECT outcome, fence AS most FROM idempotent_claim('settings_most', 'leased', lease => '1 hour') \gset
SELECT regexp_replace(s, '\d{6,}|(fence => |\{)\d+', '\1N') AS statement, pg_temp.refusal(s) FROM unnest(ARRAY[
    $$SELECT idempotent_claim('settings_most', 'k', lease => '100 years')$$,
    format($$SELECT idempotent_extend('settings_most', 'leased', '61 minutes', fence => %s)$$, :most),
    format($$SELECT * FROM idempotent_extend_all('settings_most', '{leased}', '{%s}', '61 minutes')$$, :most),
    format($$SELECT idempotent_complete('settings_most', 'leased', retention => '8 days', fence => %s)$$, :most),
    format($$SELECT idempotent_fail('settings_most', 'leased', retention => '8 days', fence => %s)$$, :most),
    $$SELECT idempotent_first('settings_most', 'm', retention => '8 days')$$,
    $$SELECT * FROM idempotent_first_of('settings_most', '{m}', retention => '8 days')$$,
    format($$SELECT idempotent_extend('settings_most', 'leased', '1 hour', fence => %s)$$, :most),
    format($$SELECT idempotent_complete('settings_most', 'leased', retention => '7 days', fence => %s)$$, :most)]) AS s;
\set VERBOSITY default
SELECT idempotent_claim('settings_most', 'k', lease => '100 years');
\set VERBOSITY terse
SELECT max_lease, max_retention FROM idempotent_operation('settings_most', max_lease => '0', max_retention => '0');
SELECT outcome FROM idempotent_claim('settings_most', 'k', lease => '1 year');

-- an operation is not removed while a saga or a message of its name is there: they would be open to every caller
CREATE FUNCTION settings_step(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '1'; END $$;
SELECT name FROM idempotent_saga('settings_in_use', '[{"name": "a", "handler": "public.settings_step(jsonb)"}, {"name": "b", "handler": "public.settings_step(jsonb)"}]');
SELECT name FROM idempotent_operation('settings_in_use');
SELECT outcome, more FROM idempotent_saga_step('settings_in_use', 'k');
SELECT pg_temp.refusal($$SELECT idempotent_operation_drop('settings_in_use')$$);
SELECT idempotent_saga_forget('settings_in_use', 'k', unfinished => true);
SELECT idempotent_outbox_put('settings_in_use', '1') IS NOT NULL AS put;
SELECT pg_temp.refusal($$SELECT idempotent_operation_drop('settings_in_use')$$);
DELETE FROM idempotent.outbox_message WHERE topic = 'settings_in_use';
SELECT idempotent_first('settings_in_use', 'm');
SELECT pg_temp.refusal($$SELECT idempotent_operation_drop('settings_in_use')$$);
SELECT idempotent_forget_message('settings_in_use', 'm');
SELECT idempotent_advance('settings_in_use', 'p', 1);
SELECT pg_temp.refusal($$SELECT idempotent_operation_drop('settings_in_use')$$);
SELECT idempotent_forget_offset('settings_in_use', 'p');
SELECT acquired, fence AS locked FROM idempotent_lock('settings_in_use', 'k', '1 hour') \gset
-- nor by hand
SELECT statement, pg_temp.refusal(statement) FROM unnest(ARRAY[
    $$SELECT idempotent_operation_drop('settings_in_use')$$,
    $$DELETE FROM idempotent.operation WHERE name = 'settings_in_use'$$]) AS statement;
SELECT idempotent_unlock('settings_in_use', 'k', fence => :locked), idempotent_operation_drop('settings_in_use');
DELETE FROM idempotent.saga WHERE name = 'settings_in_use';
DROP FUNCTION settings_step;

-- operations that are not configured
SET idempotent.undeclared_operations = warn;
SELECT pg_temp.claimed('settings_Misspelt', 'k'), pg_temp.claimed('settings_most', 'new');
SET idempotent.undeclared_operations = refuse;
\set VERBOSITY default
SELECT outcome FROM idempotent_claim('settings_Misspelt', 'k');
\set VERBOSITY terse
\echo :LAST_ERROR_SQLSTATE
SELECT s AS statement, pg_temp.refusal(s) FROM unnest(ARRAY[
    $$SELECT idempotent_first('settings_Misspelt', 'm')$$, $$SELECT idempotent_replay('settings_Misspelt', 'k')$$,
    $$SELECT idempotent_complete('settings_Misspelt', 'k')$$, $$SELECT idempotent_operation('settings_Misspelt')$$, $$SELECT idempotent_replay('settings_Misspelt', 'k')$$]) AS s;
RESET idempotent.undeclared_operations;

-- where an operation begins is stored when it is configured for the first time, so that sessions with different settings agree on
-- where a key is
SET idempotent.default_durability = logged;
SELECT durability FROM idempotent_operation('settings_default', retention => '1 day');
SELECT durability FROM idempotent_operation('settings_default_said', durability => 'unlogged');
SELECT (idempotent_claim('settings_default_none', 'k')).outcome, idempotent_complete('settings_default_none', 'k', '1');
SELECT (idempotent_claim('settings_default', 'k')).outcome, idempotent_complete('settings_default', 'k', '1');
SET idempotent.default_durability = unlogged;
SELECT durability FROM idempotent_operation('settings_default', retention => '2 days');
SELECT operation, key FROM idempotent.record_logged WHERE operation LIKE 'settings_default%' ORDER BY 1;
SELECT name, r.outcome FROM unnest('{settings_default,settings_default_none}'::text[]) AS name, idempotent_replay(name, 'k') AS r;
-- what ran under the defaults comes along
SET idempotent.default_durability = logged;
SELECT durability FROM idempotent_operation('settings_default_none');
SELECT operation, key FROM idempotent.record_logged WHERE operation LIKE 'settings_default%' ORDER BY 1;
SELECT outcome FROM idempotent_replay('settings_default_none', 'k');
-- by hand it is what the row says
INSERT INTO idempotent.operation (name) VALUES ('settings_default_hand');
SELECT durability FROM idempotent.operation WHERE name = 'settings_default_hand';
-- a transaction whose snapshot may not show every record
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.refusal($$SELECT idempotent_operation('settings_default_frozen')$$);
ROLLBACK;
SET idempotent.default_durability = always;
RESET idempotent.default_durability;
SELECT durability FROM idempotent_operation('settings_default_frozen');
