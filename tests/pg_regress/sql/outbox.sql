-- The outbox: messages put with the business transaction, taken under a lease in the order of their keys, acknowledged.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- put, take, acknowledge
SELECT idempotent_outbox_put('mail', '{"n": 1}') AS first_id \gset
SELECT substr(:'first_id', 15, 1) AS version, substr(:'first_id', 20, 1) IN ('8', '9', 'a', 'b') AS variant,
       abs(extract(epoch FROM clock_timestamp()) * 1000 - ('x' || translate(left(:'first_id', 13), '-', ''))::bit(48)::bigint) < 60000 AS dated_now;
SELECT topic, messages, waiting, leased, lapsed, keys, attempts, oldest <= now() AS past FROM idempotent.outbox;
SELECT message_id = :'first_id' AS same_id, fence > 0 AS fenced, key, payload, attempt, put_at < clock_timestamp() AS past, lease_until > clock_timestamp() + '59 minutes' AS leased FROM idempotent_outbox_take('mail', lease => '1 hour');
SELECT count(*) AS nothing_more FROM idempotent_outbox_take('mail');
SELECT topic, messages, waiting, leased, lapsed, keys, attempts FROM idempotent.outbox;
SELECT fence AS first_fence FROM idempotent.outbox_message \gset
SELECT idempotent_outbox_ack('mail', ARRAY[:'first_id']::uuid[], :first_fence);
-- acknowledging again, after a lost answer, does no harm
SELECT idempotent_outbox_ack('mail', ARRAY[:'first_id']::uuid[], :first_fence);
SELECT count(*) FROM idempotent.outbox;

-- it goes with the transaction, and with the savepoint
BEGIN;
SELECT idempotent_outbox_put('mail', '1') IS NOT NULL AS put;
SAVEPOINT s;
SELECT idempotent_outbox_put('mail', '2') IS NOT NULL AS put;
ROLLBACK TO s;
SELECT idempotent_outbox_put('mail', '3', 'k') IS NOT NULL AS put;
COMMIT;
BEGIN;
SELECT idempotent_outbox_put('mail', '4') IS NOT NULL AS put;
ROLLBACK;
SELECT payload FROM idempotent_outbox_take('mail');
DELETE FROM idempotent.outbox_message;
-- a replay puts nothing: the handler does not run again
CREATE FUNCTION outbox_order(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(idempotent_outbox_put('mail', request) IS NOT NULL) $$;
SELECT outcome, response FROM idempotent_run('outbox', 'order-1', '{"order": 1}', 'outbox_order(jsonb)');
SELECT outcome, response FROM idempotent_run('outbox', 'order-1', '{"order": 1}', 'outbox_order(jsonb)');
SELECT payload FROM idempotent.outbox_message;
DELETE FROM idempotent.outbox_message;
-- a message that its sender names is one message, however often it is put
SELECT idempotent_outbox_put('mail', '{"a": 1, "b": 2}', 'k', '00000000-0000-4000-8000-000000000001');
SELECT idempotent_outbox_put('mail', '{"b": 2, "a": 1.0}', 'k', '00000000-0000-4000-8000-000000000001');
SELECT messages FROM idempotent.outbox;
SELECT idempotent_outbox_put('mail', '{"a": 2}', 'k', '00000000-0000-4000-8000-000000000001');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_put('mail', '{"a": 1, "b": 2}', NULL, '00000000-0000-4000-8000-000000000001');
SELECT idempotent_outbox_put('post', '{"a": 1, "b": 2}', 'k', '00000000-0000-4000-8000-000000000001');
DELETE FROM idempotent.outbox_message;

-- the order of a key is kept: what comes after a message that somebody has is not given away
SELECT count(idempotent_outbox_put('mail', to_jsonb(k || n), NULLIF(k, 'none'))) FROM unnest('{a,b,none}'::text[]) AS k, generate_series(1, 3) AS n;
SELECT key, payload FROM idempotent_outbox_take('mail', 2, '1 hour');
SELECT fence AS ours, array_agg(message_id ORDER BY position) AS ids FROM idempotent.outbox_message WHERE fence IS NOT NULL GROUP BY fence \gset
SELECT key, payload FROM idempotent_outbox_take('mail', 4, '1 hour');
-- nothing of a and b, which we have; and then nothing at all
SELECT key, payload FROM idempotent_outbox_take('mail', 100, '1 hour');
SELECT key, payload FROM idempotent_outbox_take('mail', 100, '1 hour');
-- acknowledged, a goes on; of other topics nobody hears
SELECT idempotent_outbox_put('post', '"another topic"', 'a') IS NOT NULL AS put;
SELECT idempotent_outbox_ack('mail', :'ids', :ours);
SELECT key, payload FROM idempotent_outbox_take('mail', 100, '1 hour');
DELETE FROM idempotent.outbox_message;
-- a lease that lapses: another takes it, in order, with a higher fence, and the first one is refused
SELECT count(idempotent_outbox_put('mail', to_jsonb(n), 'k')) FROM generate_series(1, 3) AS n;
SELECT payload, attempt FROM idempotent_outbox_take('mail', 2, '1 microsecond');
SELECT fence AS late, array_agg(message_id ORDER BY position) AS ids FROM idempotent.outbox_message WHERE fence IS NOT NULL GROUP BY fence \gset
SELECT messages, waiting, leased, lapsed, attempts FROM idempotent.outbox;
SELECT payload, attempt, fence > :late AS higher FROM idempotent_outbox_take('mail', 1, '1 hour');
\set VERBOSITY terse
SELECT idempotent_outbox_ack('mail', :'ids', :late);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
SELECT idempotent_outbox_release('mail', :'ids', :late);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT messages FROM idempotent.outbox;
-- nobody took the second one meanwhile: it is still the late one's to acknowledge
SELECT idempotent_outbox_ack('mail', ARRAY[(:'ids'::uuid[])[2]], :late);
-- given back: taken again at once, or after a delay, during which its key rests
SELECT fence AS held, message_id AS id FROM idempotent.outbox_message WHERE fence IS NOT NULL \gset
SELECT idempotent_outbox_release('mail', ARRAY[:'id']::uuid[], :held);
\set VERBOSITY terse
SELECT idempotent_outbox_release('mail', ARRAY[:'id']::uuid[], :held);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT messages, waiting, leased, lapsed, attempts FROM idempotent.outbox;
SELECT payload, attempt FROM idempotent_outbox_take('mail', 1, '1 hour');
SELECT fence AS held FROM idempotent.outbox_message WHERE fence IS NOT NULL \gset
SELECT idempotent_outbox_release('mail', ARRAY[:'id']::uuid[], :held, '1 hour');
SELECT payload, attempt FROM idempotent_outbox_take('mail');
SELECT messages, waiting, leased, lapsed FROM idempotent.outbox;
DELETE FROM idempotent.outbox_message;

-- more keys in one transaction than the lock table has room for
BEGIN;
SELECT count(idempotent_outbox_put('bulk', to_jsonb(n), 'key ' || n)) FROM generate_series(1, 20000) AS n;
SELECT count(*) < 2000 AS few_locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
ROLLBACK;
-- many puts of one key are one lock
BEGIN;
SELECT count(idempotent_outbox_put('bulk', to_jsonb(n), 'key')) FROM generate_series(1, 5000) AS n;
SELECT count(*) AS locks, count(*) FILTER (WHERE mode = 'ExclusiveLock') AS exclusive FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
SELECT count(*), array_agg(payload::integer ORDER BY n) = array_agg(payload::integer ORDER BY payload::integer) AS in_order
FROM idempotent_outbox_take('bulk', 1000) WITH ORDINALITY AS t (message_id, fence, key, payload, attempt, put_at, lease_until, n);
DELETE FROM idempotent.outbox_message;

-- a backlog of one key, of which no statistics tell: a batch comes to an end (outbox_cost counts what it costs)
INSERT INTO idempotent.outbox_message (position, message_id, put_at, attempt, topic, key, payload)
SELECT nextval('idempotent.outbox_position'), gen_random_uuid(), now(), 0, 'backlog', 'key', to_jsonb(n) FROM generate_series(1, 50000) AS n;
SET statement_timeout = '5min';
SELECT count(*) FROM idempotent_outbox_take('backlog', 100, '1 hour');
RESET statement_timeout;
DELETE FROM idempotent.outbox_message;
-- given back are the first and the third of a key, and somebody still has the second: the third has to wait for it
SELECT count(idempotent_outbox_put('mail', to_jsonb(k || n), k)) FROM unnest('{a}'::text[]) AS k, generate_series(1, 3) AS n;
SELECT count(*) FROM idempotent_outbox_take('mail', 3, '1 hour');
SELECT count(idempotent_outbox_put('mail', to_jsonb('b' || n), 'b')) FROM generate_series(1, 3) AS n;
SELECT idempotent_outbox_release('mail', array_agg(message_id), max(fence)) FROM idempotent.outbox_message WHERE payload IN ('"a1"', '"a3"');
SELECT payload FROM idempotent_outbox_take('mail', 2, '1 hour');
SELECT payload FROM idempotent_outbox_take('mail', 100, '1 hour');
DELETE FROM idempotent.outbox_message;

-- what was taken as often as it may be is a dead letter, and its key goes on without it
SELECT max_attempts FROM idempotent_operation('mail', max_attempts => 2);
SELECT count(idempotent_outbox_put('mail', to_jsonb(k || n), NULLIF(k, 'none'))) FROM unnest('{a,none}'::text[]) AS k, generate_series(1, 2) AS n;
SELECT idempotent_outbox_put('mail', '"named"', 'b', '00000000-0000-4000-8000-000000000001');
SELECT payload, attempt FROM idempotent_outbox_take('mail', 3, '1 microsecond');
SELECT payload, attempt FROM idempotent_outbox_take('mail', 100, '1 microsecond');
SELECT payload, attempt FROM idempotent_outbox_take('mail', 100, '1 microsecond');
SELECT payload, attempt FROM idempotent_outbox_take('mail', 100, '1 microsecond');
SELECT payload, attempt FROM idempotent_outbox_take('mail', 100, '1 microsecond');
SELECT topic, key, attempt, dead_at > put_at AS later FROM idempotent.dead_letters ORDER BY key, put_at;
SELECT count(*) FROM idempotent.outbox;
-- a dead letter is known: put again, it is the same message
SELECT idempotent_outbox_put('mail', '"named"', 'b', '00000000-0000-4000-8000-000000000001');
SELECT count(*) FROM idempotent.outbox;
-- one by name, then the rest; they begin anew, each key in its order
SELECT idempotent_outbox_redrive('mail', '{00000000-0000-4000-8000-000000000001}');
SELECT payload, attempt FROM idempotent_outbox_take('mail');
SELECT idempotent_outbox_redrive('mail'), idempotent_outbox_redrive('post');
SELECT count(*) FROM idempotent.dead_letters;
SELECT payload, attempt FROM idempotent_outbox_take('mail') WHERE key IS NOT NULL;
SELECT max_attempts FROM idempotent_operation('mail', max_attempts => 0);
SELECT idempotent_operation('mail', max_attempts => -1);
DELETE FROM idempotent.outbox_message;
DELETE FROM idempotent.operation WHERE name = 'mail';
-- deleted by hand, the first of a key lets the next one go on
SELECT count(idempotent_outbox_put('mail', to_jsonb(n), 'k')) FROM generate_series(1, 3) AS n;
DELETE FROM idempotent.outbox_message WHERE payload = '1';
SELECT payload FROM idempotent_outbox_take('mail', 1, '1 hour');
DELETE FROM idempotent.outbox_message WHERE payload = '2';
SELECT payload FROM idempotent_outbox_take('mail', 1, '1 hour');
DELETE FROM idempotent.outbox_message;
-- put in a savepoint that is rolled back, and again: nothing waits for what is not there
BEGIN;
SAVEPOINT s;
SELECT idempotent_outbox_put('mail', '1', 'k') IS NOT NULL AS put;
ROLLBACK TO s;
SELECT idempotent_outbox_put('mail', '2', 'k') IS NOT NULL AS put;
SAVEPOINT s;
SELECT idempotent_outbox_put('mail', '3', 'k') IS NOT NULL AS put;
RELEASE s;
COMMIT;
SELECT payload FROM idempotent_outbox_take('mail', 1, '1 hour');
SELECT idempotent_outbox_ack('mail', array_agg(message_id), max(fence)) FROM idempotent.outbox_message WHERE fence IS NOT NULL;
SELECT payload FROM idempotent_outbox_take('mail', 1, '1 hour');
DELETE FROM idempotent.outbox_message;

-- arguments from columns with collations of their own
CREATE TABLE outbox_collated (topic text COLLATE "POSIX", key text COLLATE "ucs_basic");
INSERT INTO outbox_collated VALUES ('mail', 'k');
SELECT idempotent_outbox_put('mail', '1', key, '00000000-0000-4000-8000-000000000001') FROM outbox_collated;
SELECT idempotent_outbox_put('mail', '1', key, '00000000-0000-4000-8000-000000000001') FROM outbox_collated;
SELECT count(idempotent_outbox_put(topic, '2', key)) FROM outbox_collated;
SELECT t.key, payload, attempt FROM outbox_collated AS c, idempotent_outbox_take(c.topic, 1, '1 hour') AS t;
SELECT idempotent_outbox_release(c.topic, ARRAY[message_id], fence) FROM outbox_collated AS c, idempotent.outbox_message WHERE fence IS NOT NULL;
SELECT t.key, payload, attempt FROM outbox_collated AS c, idempotent_outbox_take(c.topic, lease => '1 hour') AS t;
SELECT idempotent_outbox_ack(c.topic, array_agg(message_id), max(fence)) FROM outbox_collated AS c, idempotent.outbox_message GROUP BY c.topic;
DROP TABLE outbox_collated;

-- what a relay was given is flushed, also where commits need not be
BEGIN;
SET LOCAL synchronous_commit = off;
SELECT idempotent_outbox_put('mail', '1') IS NOT NULL AS put;
SELECT count(*) FROM idempotent_outbox_take('post');
SHOW synchronous_commit;
SELECT count(*) FROM idempotent_outbox_take('mail');
SHOW synchronous_commit;
ROLLBACK;

-- what breaks the rules: nothing happens
SELECT idempotent_outbox_put(NULL, '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_put('', '1');
SELECT idempotent_outbox_put(repeat('t', 256), '1');
SELECT idempotent_outbox_put(E'a\nb', '1');
SELECT idempotent_outbox_put('mail', NULL);
SELECT idempotent_outbox_put('mail', '1', '');
SELECT idempotent_outbox_put('mail', '1', repeat('k', 256));
SELECT idempotent_outbox_put('mail', '1', E'\x7f');
SELECT idempotent_outbox_take(NULL);
SELECT idempotent_outbox_take('mail', 0);
SELECT idempotent_outbox_take('mail', 1001);
SELECT idempotent_outbox_take('mail', NULL);
SELECT idempotent_outbox_take('mail', 1, '0');
SELECT idempotent_outbox_take('mail', 1, NULL);
SELECT idempotent_outbox_take('mail', 1, '2 years');
SELECT idempotent_outbox_ack('mail', NULL, 1);
SELECT idempotent_outbox_ack('mail', '{}', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_ack('mail', '{}', 1);
SELECT idempotent_outbox_release('mail', '{}', 1, '-1 second');
BEGIN READ ONLY;
SELECT idempotent_outbox_put('mail', '1');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY; SELECT idempotent_outbox_take('mail'); ROLLBACK;
BEGIN READ ONLY; SELECT idempotent_outbox_ack('mail', '{00000000-0000-0000-0000-000000000001}', 1); ROLLBACK;
BEGIN READ ONLY; SELECT idempotent_outbox_release('mail', '{00000000-0000-0000-0000-000000000001}', 1); ROLLBACK;
BEGIN READ ONLY; SELECT idempotent_outbox_redrive('mail'); ROLLBACK;
SELECT count(*) FROM idempotent.outbox;
-- the right to put comes with idempotent_grant, and the relay's has to be granted
CREATE ROLE regress_idempotent_sender;
SELECT idempotent_grant('regress_idempotent_sender');
SET ROLE regress_idempotent_sender;
SELECT idempotent_outbox_put('mail', '1', 'k') IS NOT NULL AS put;
SELECT idempotent_outbox_take('mail');
SELECT count(*) FROM idempotent.outbox_message;
RESET ROLE;
GRANT EXECUTE ON FUNCTION idempotent_outbox_take, idempotent_outbox_ack, idempotent_outbox_release TO regress_idempotent_sender;
SET ROLE regress_idempotent_sender;
SELECT message_id AS id, fence FROM idempotent_outbox_take('mail') \gset
SELECT idempotent_outbox_ack('mail', ARRAY[:'id']::uuid[], :fence);
RESET ROLE;
-- pg_monitor sees how many, and no payload
SET ROLE pg_monitor;
SELECT count(*) FROM idempotent.outbox;
SELECT count(*) FROM idempotent.outbox_message;
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_sender');
DROP OWNED BY regress_idempotent_sender;
DROP ROLE regress_idempotent_sender;
SELECT idempotent_forget('outbox', 'order-1');
DROP FUNCTION outbox_order;
