-- The id of a message is a key: the same rules, and the same outcomes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- What a key and a message are answered, side by side.
CREATE FUNCTION key_act(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
CREATE FUNCTION as_key(key text, request jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT r.outcome FROM idempotent_run('same', key, request, 'public.key_act', strict => true) AS r);
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE FUNCTION as_message(key text, request jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT count(*) FROM idempotent.outbox_message);
BEGIN
    PERFORM idempotent_outbox_put('same', request, message_id => key::uuid);
    RETURN CASE WHEN (SELECT count(*) FROM idempotent.outbox_message) > before THEN 'executed' ELSE 'replay' END;
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
-- takes and acknowledges all there is
CREATE FUNCTION deliver() RETURNS bigint LANGUAGE sql AS $$
    SELECT idempotent_outbox_ack('same', array_agg(t.message_id), max(t.fence)) FROM idempotent_outbox_take('same') AS t $$;
CREATE TABLE same (number integer GENERATED ALWAYS AS IDENTITY, asked text, key text, message text);
SELECT name FROM idempotent_operation('same', fingerprint_exclude => '{sent_at}');
SELECT idempotent_new_key() AS fresh \gset
SELECT idempotent_new_key(clock_timestamp() + '1 day') AS ahead \gset
INSERT INTO same (asked, key, message) VALUES
    ('a new key', as_key('00000000-0000-4000-8000-000000000001', '1'), as_message('00000000-0000-4000-8000-000000000001', '1')),
    ('the same key', as_key('00000000-0000-4000-8000-000000000001', '1'), as_message('00000000-0000-4000-8000-000000000001', '1')),
    ('another spelling of a number', as_key('00000000-0000-4000-8000-000000000001', '1.00'), as_message('00000000-0000-4000-8000-000000000001', '1.00')),
    ('another request', as_key('00000000-0000-4000-8000-000000000001', '2'), as_message('00000000-0000-4000-8000-000000000001', '2')),
    ('a member that counts', as_key('00000000-0000-4000-8000-000000000002', '{"a": 1, "sent_at": 1}'), as_message('00000000-0000-4000-8000-000000000002', '{"a": 1, "sent_at": 1}')),
    ('one that is excluded differs', as_key('00000000-0000-4000-8000-000000000002', '{"a": 1, "sent_at": 2}'), as_message('00000000-0000-4000-8000-000000000002', '{"a": 1, "sent_at": 2}')),
    ('one that counts differs', as_key('00000000-0000-4000-8000-000000000002', '{"a": 2, "sent_at": 1}'), as_message('00000000-0000-4000-8000-000000000002', '{"a": 2, "sent_at": 1}')),
    ('a key dated 2023', as_key('018bcfe5-6800-7000-8000-000000000000', '1'), as_message('018bcfe5-6800-7000-8000-000000000000', '1')),
    ('dated tomorrow', as_key(:'ahead', '1'), as_message(:'ahead', '1')),
    ('dated now', as_key(:'fresh', '1'), as_message(:'fresh', '1')),
    ('dated now, again', as_key(:'fresh', '1'), as_message(:'fresh', '1'));
SELECT deliver();
INSERT INTO same (asked, key, message) VALUES
    ('done, the same key', as_key('00000000-0000-4000-8000-000000000001', '1'), as_message('00000000-0000-4000-8000-000000000001', '1')),
    ('done, another request', as_key('00000000-0000-4000-8000-000000000001', '2'), as_message('00000000-0000-4000-8000-000000000001', '2')),
    ('done, dated', as_key(:'fresh', '1'), as_message(:'fresh', '1'));
SELECT count(*) FROM idempotent.outbox_message;
SELECT name FROM idempotent_operation('same', key_dates => 'ignore');
INSERT INTO same (asked, key, message) VALUES
    ('dates that do not count', as_key('018bcfe5-6800-7000-8000-000000000001', '1'), as_message('018bcfe5-6800-7000-8000-000000000001', '1'));
SELECT name FROM idempotent_operation('same', key_dates => 'use', retention => '1 microsecond');
INSERT INTO same (asked, key, message) VALUES
    ('a short retention', as_key('00000000-0000-4000-8000-000000000003', '1'), as_message('00000000-0000-4000-8000-000000000003', '1'));
SELECT deliver();
INSERT INTO same (asked, key, message) VALUES
    ('once that is over', as_key('00000000-0000-4000-8000-000000000003', '1'), as_message('00000000-0000-4000-8000-000000000003', '1'));
SELECT asked, key, message, key = message AS alike FROM same ORDER BY number;

-- what has expired waits for the sweeper, and is counted; what is not acknowledged stays
SELECT deliver();
SELECT idempotent_outbox_put('same', '"stays"', message_id => '00000000-0000-4000-8000-000000000004');
SELECT what, due >= 1 AS due, expired >= 1 AS expired, evictable FROM idempotent.backlog WHERE what = 'outbox';
SELECT idempotent_sweep() >= 1 AS swept;
SELECT what, due, expired, oldest FROM idempotent.backlog WHERE what = 'outbox';
SELECT message_id, expires_at FROM idempotent.outbox_id WHERE expires_at = 'infinity';
-- an id of one topic is none of another, and an id that was made for a message is that message's
SELECT idempotent_outbox_put('other', '"mine"', message_id => '00000000-0000-4000-8000-000000000001');
SELECT idempotent_outbox_put('other', '"made"') AS made \gset
SELECT idempotent_outbox_put('other', '"made"', message_id => :'made') = :'made' AS same;
\set VERBOSITY terse
SELECT idempotent_outbox_put('other', '"else"', message_id => gen_random_uuid()) IS NOT NULL AS put;
SELECT idempotent_outbox_put('other', '"made"') AS made \gset
SELECT idempotent_outbox_put('other', '"else"', message_id => :'made') = :'made' AS same;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'other';
-- ids are compared as they were stored, whatever counts of a payload since
SELECT fingerprint_exclude FROM idempotent_operation('counted', fingerprint_exclude => '{at}');
SELECT idempotent_outbox_put('counted', '{"n": 1, "at": 1}', message_id => '00000000-0000-4000-8000-000000000007');
SELECT fence FROM idempotent_outbox_take('counted', 1) \gset
SELECT idempotent_outbox_ack('counted', '{00000000-0000-4000-8000-000000000007}', :fence);
SELECT fingerprint_exclude FROM idempotent_operation('counted', fingerprint_exclude => '{}');
SELECT idempotent_outbox_put('counted', '{"n": 1, "at": 1}', message_id => '00000000-0000-4000-8000-000000000007');
SELECT fingerprint_exclude FROM idempotent_operation('counted', fingerprint_exclude => '{n}');
SELECT idempotent_outbox_put('counted', '{"n": 1, "at": 1}', message_id => '00000000-0000-4000-8000-000000000007');
\set VERBOSITY terse
SELECT idempotent_outbox_put('counted', '{"n": 2, "at": 2}', message_id => '00000000-0000-4000-8000-000000000007');
\set VERBOSITY default
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'counted';
-- the id of a dead letter is that letter's, too, which goes back to its topic, and which its last relay does not acknowledge any more
SELECT max_attempts FROM idempotent_operation('letters', max_attempts => 1);
SELECT idempotent_outbox_put('letters', '"made"') AS made \gset
SELECT fence FROM idempotent_outbox_take('letters', 1, '1 microsecond') \gset
SELECT count(*) FROM idempotent_outbox_take('letters');
SELECT idempotent_outbox_put('letters', '"made"', message_id => :'made') = :'made' AS same;
\set VERBOSITY terse
SELECT idempotent_outbox_put('letters', '"else"', message_id => :'made');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_ack('letters', ARRAY[:'made']::uuid[], :fence);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
SELECT idempotent_outbox_redrive('letters');
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'letters' AND message_id = :'made';
-- known from then on, also when it is acknowledged
SELECT fence FROM idempotent_outbox_take('letters', 1) \gset
SELECT idempotent_outbox_ack('letters', ARRAY[:'made']::uuid[], :fence);
SELECT idempotent_outbox_put('letters', '"made"', message_id => :'made') = :'made' AS same;
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'letters';
-- the locks of puts are out of reach of the functions that every role has
BEGIN;
SELECT idempotent_outbox_put('other', '1', 'k', '00000000-0000-4000-8000-000000000005');
SELECT objsubid, mode, count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() GROUP BY objsubid, mode ORDER BY objsubid, mode;
ROLLBACK;
-- counted as what they are
SELECT claimed >= 6 AS taken, executed >= 6 AS put, replayed >= 4 AS again, completed >= 6 AS acknowledged, expired >= 1 AS expired, swept >= 1 AS swept
FROM idempotent.stats WHERE operation = 'same';

-- whose a message is tells messages apart, too
SELECT idempotent_outbox_put('owned', '1', 'k', '00000000-0000-4000-8000-000000000006', 'a') IS NOT NULL AS put;
SELECT idempotent_outbox_put('owned', '1', 'k', '00000000-0000-4000-8000-000000000006', 'a') IS NOT NULL AS put;
SELECT idempotent_outbox_put('owned', '1', 'k', '00000000-0000-4000-8000-000000000006', 'b');
\echo :LAST_ERROR_SQLSTATE
-- a length of time is what was checked, and not what the calendar makes of it
SELECT max_lease FROM idempotent_operation('owned', max_lease => '1 day');
SELECT lease_until - clock_timestamp() <= '1 day' AS within, fence FROM idempotent_outbox_take('owned', 1, '120000 months -3599999 days') \gset
\echo :within
SELECT idempotent_outbox_release('owned', '{00000000-0000-4000-8000-000000000006}', :fence, '120000 months -3599999 days');
SELECT lease_until - clock_timestamp() <= '1 day' AS within FROM idempotent.outbox_message WHERE topic = 'owned';
SELECT idempotent_outbox_take('owned', 1, '-120000 months 3600001 days');
SELECT idempotent_outbox_take('owned', 1, NULL);
-- a sequence that was set back: what is put stands behind what is there
SELECT idempotent_outbox_put('behind', to_jsonb(n), 'k') IS NOT NULL AS put FROM generate_series(1, 2) AS n;
SELECT setval('idempotent.outbox_position', 1, false);
SELECT idempotent_outbox_put('behind', to_jsonb(n), 'k') IS NOT NULL AS put FROM generate_series(3, 5) AS n;
SELECT payload FROM idempotent.outbox_message WHERE topic = 'behind' ORDER BY position;
SELECT nextval('idempotent.outbox_position') > max(position) AS above FROM idempotent.outbox_message WHERE topic = 'behind';

-- topics and keys, in bytes of UTF-8
SELECT idempotent_outbox_put(repeat('t', 255), '1', repeat('k', 255)) IS NOT NULL AS put;
\set VERBOSITY terse
SELECT idempotent_outbox_put(repeat('ä', 128), '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_outbox_put('other', '1', repeat('ä', 128));
SELECT idempotent_outbox_put('other', '1', E'a\u0085b');
SELECT idempotent_outbox_take(repeat('t', 256));
SELECT idempotent_outbox_ack(E'a\x01b', '{}', 1);
SELECT idempotent_outbox_release('', '{}', 1);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default

DELETE FROM idempotent.outbox_message;
DELETE FROM idempotent.outbox_id;
SELECT idempotent_forget_all('same') > 0 AS forgotten;
DELETE FROM idempotent.operation WHERE name IN ('same', 'letters', 'counted', 'owned');
DROP TABLE same;
DROP FUNCTION key_act, as_key, as_message, deliver;
