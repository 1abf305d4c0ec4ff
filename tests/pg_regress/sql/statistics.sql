-- Counters and views: what is counted when, who may look, and what in_flight, backlog and health show.
SET client_encoding = 'UTF8';
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SELECT current_database() AS home \gset
CREATE DATABASE regress_idempotent_statistics;
\c regress_idempotent_statistics
SET client_encoding = 'UTF8';
SET intervalstyle = 'postgres';
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION refuse(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'P0042', MESSAGE = 'no'; END $$;
-- what has been counted since last time, without the zeros; how long it took is nobody's to foretell
CREATE FUNCTION counted() RETURNS TABLE (operation text, counted text) LANGUAGE sql AS $$
    SELECT s.operation, string_agg(c.key || ' ' || c.value, ', ' ORDER BY c.key COLLATE "C") FILTER (WHERE c.value <> '0')
    FROM idempotent.stats AS s, jsonb_each_text(to_jsonb(s) - 'operation' - 'wait_time') AS c GROUP BY s.operation ORDER BY s.operation COLLATE "C";
$$;
SELECT * FROM counted();

-- the claim counts at once, what it comes to with the commit
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'k1', '1');
SELECT idempotent_complete('stats', 'k1', '"a"');
SELECT * FROM counted();
COMMIT;
SELECT * FROM counted();
-- answers
SELECT outcome FROM idempotent_claim('stats', 'k1', '1');
SELECT outcome FROM idempotent_claim('stats', 'k1', '2');
SELECT outcome FROM idempotent_replay('stats', 'k1');
SELECT outcome FROM idempotent_replay('stats', 'never heard of');
SELECT outcome FROM idempotent_claim('stats', 'k2', first_sent => '2001-01-01');
SELECT outcome FROM idempotent_seal('stats', 'k3');
SELECT outcome FROM idempotent_claim('stats', 'k3');
SELECT * FROM counted();
SELECT idempotent_stats_reset();
-- as exceptions, too; a call that is refused for its arguments is not answered
SELECT outcome FROM idempotent_claim('stats', 'k1', '2', strict => true);
SELECT outcome FROM idempotent_claim('stats', '');
SELECT * FROM counted();

-- what is rolled back has not happened; that it was claimed was said
SELECT idempotent_stats_reset();
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'k4');
SELECT idempotent_complete('stats', 'k4');
ROLLBACK;
SELECT * FROM counted();
-- nor what is rolled back to a savepoint
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'k5');
SAVEPOINT a;
SELECT idempotent_complete('stats', 'k5', '1');
ROLLBACK TO a;
SELECT idempotent_fail('stats', 'k5', '2');
SAVEPOINT b;
SELECT outcome FROM idempotent_claim('stats', 'k6');
SELECT idempotent_release('stats', 'k6');
RELEASE b;
COMMIT;
SELECT * FROM counted();
-- released into a savepoint that is rolled back itself
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT outcome FROM idempotent_claim('stats', 'k7');
SELECT idempotent_complete('stats', 'k7');
RELEASE b;
ROLLBACK TO a;
COMMIT;
-- an exception that is caught, between two that are not
DO $$
BEGIN
    PERFORM idempotent_claim('stats', 'k8');
    PERFORM idempotent_complete('stats', 'k8');
    BEGIN
        PERFORM idempotent_claim('stats', 'k9');
        PERFORM idempotent_complete('stats', 'k9');
        RAISE EXCEPTION USING ERRCODE = 'P0042';
    EXCEPTION WHEN SQLSTATE 'P0042' THEN NULL;
    END;
    PERFORM idempotent_claim('stats', 'k10');
    PERFORM idempotent_complete('stats', 'k10');
END $$;
SELECT * FROM counted();
-- many, of several operations, each in a subtransaction of its own
SELECT idempotent_stats_reset();
DO $$
BEGIN
    FOR n IN 1..300 LOOP
        BEGIN
            PERFORM idempotent_claim('stats ' || n % 3, 'many ' || n);
            PERFORM idempotent_complete('stats ' || n % 3, 'many ' || n);
            IF n % 10 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$;
SELECT * FROM counted();
-- prepared counts as committed: who prepares never learns of the end
SELECT idempotent_stats_reset();
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'k11');
SELECT idempotent_complete('stats', 'k11');
PREPARE TRANSACTION 'statistics';
SELECT * FROM counted();
SELECT held_by, pid, waiters FROM idempotent.in_flight;
ROLLBACK PREPARED 'statistics';
SELECT * FROM counted();

-- run: what the handler did
SELECT idempotent_stats_reset();
SELECT outcome FROM idempotent_run('stats', 'r1', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('stats', 'r1', '1', 'work(jsonb)');
SELECT outcome FROM idempotent_run('stats', 'r1', '2', 'work(jsonb)');
SELECT outcome FROM idempotent_run('stats', 'r2', '1', 'refuse(jsonb)');
BEGIN;
SELECT outcome FROM idempotent_run('stats', 'r3', '1', 'work(jsonb)');
ROLLBACK;
SELECT store_failures FROM idempotent_operation('stats', store_failures => '{P0042}');
SELECT outcome, failed FROM idempotent_run('stats', 'r2', '1', 'refuse(jsonb)');
SELECT * FROM counted();

-- leases
SELECT idempotent_stats_reset();
SELECT fence AS first FROM idempotent_claim('stats', 'l1', lease => '1 hour') \gset
SELECT outcome FROM idempotent_claim('stats', 'l1', wait => '0');
SELECT outcome FROM idempotent_replay('stats', 'l1');
SELECT * FROM counted();
SELECT outcome FROM idempotent_claim('stats', 'l1', wait => '5 ms');
SELECT waits, wait_time > '0' AS waited FROM idempotent.stats;
SELECT idempotent_complete('stats', 'l1', fence => :first);
-- an answer that was stored already
SELECT idempotent_complete('stats', 'l1', fence => :first);
SELECT fence AS second FROM idempotent_claim('stats', 'l2', lease => '1 hour') \gset
SELECT idempotent_release('stats', 'l2', fence => :second);
-- nothing is left of it
SELECT idempotent_release('stats', 'l2', fence => :second);
SELECT * FROM counted();
-- a lease that lapsed is taken over; where that is not wanted, it is unknown
SELECT idempotent_stats_reset();
SELECT outcome FROM idempotent_claim('stats', 'l3', lease => '1 microsecond');
SELECT outcome, attempt FROM idempotent_claim('stats', 'l3', lease => '1 microsecond');
SELECT outcome, attempt FROM idempotent_run('stats', 'l3', NULL, 'work(jsonb)');
SELECT on_lapse FROM idempotent_operation('stats', on_lapse => 'unknown');
SELECT outcome FROM idempotent_claim('stats', 'l4', lease => '1 microsecond');
SELECT outcome FROM idempotent_claim('stats', 'l4');
SELECT * FROM counted();
-- one's own claim, asked for again, is one claim
SELECT idempotent_stats_reset();
BEGIN;
SELECT (idempotent_claim('stats', 'k12')).*;
SELECT idempotent_release('stats', 'k12');
COMMIT;
SELECT outcome FROM idempotent_claim('stats', 'l5', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001');
SELECT outcome FROM idempotent_claim('stats', 'l5', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001');
SELECT * FROM counted();

-- the guard: once per operation and commit
SELECT idempotent_stats_reset();
BEGIN;
SELECT count(idempotent_claim('stats', 'g' || n)) FROM generate_series(1, 3) AS n;
SELECT outcome FROM idempotent_claim('stats too', 'g');
COMMIT;
BEGIN;
SELECT outcome FROM idempotent_claim('stats too', 'g');
PREPARE TRANSACTION 'statistics';
SELECT * FROM counted();

-- names: of any kind, also that of the row for those without room
SELECT idempotent_stats_reset();
SELECT outcome, count(*) FROM (VALUES ('(other)'), ('Größe'), ('x'), ('POST /v1/accounts/{account}/payment_intents/{payment_intent}/capture'), (repeat('x', 255)), (repeat('x', 254)), (repeat('ü', 127)), ('"quoted" \')) AS v (name),
    idempotent_claim(name, 'k', lease => '1 hour') GROUP BY outcome;
SELECT * FROM counted();

-- many calls in a transaction
SELECT idempotent_stats_reset();
BEGIN;
SELECT count(idempotent_claim('stats', 'many ' || n)) FROM generate_series(1, 1000) AS n;
SELECT count(idempotent_complete('stats', 'many ' || n)) FROM generate_series(1, 1000) AS n;
COMMIT;
SELECT * FROM counted();
-- a reset in between: what the transaction did counts anew
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'k13');
SELECT idempotent_complete('stats', 'k13');
SELECT idempotent_stats_reset();
COMMIT;
SELECT * FROM counted();
SELECT outcome FROM idempotent_replay('stats', 'k13');
SELECT * FROM counted();

-- in flight
SELECT operation, scope, key, held_by, pid, fence > 0 AS fenced, attempt, lease_until - claimed_at AS lease, lapsed, waiters FROM idempotent.in_flight WHERE operation LIKE 'stats%' ORDER BY key;
DELETE FROM idempotent.record WHERE operation <> '';
SELECT durability FROM idempotent_operation('stats logged', durability => 'logged');
SELECT outcome FROM idempotent_claim('stats logged', 'k', scope => 'tenant', lease => '1 hour');
BEGIN;
SELECT outcome FROM idempotent_claim('stats', 'open');
SELECT operation, scope, key, held_by, pid = pg_backend_pid() AS mine, attempt, lapsed, waiters FROM idempotent.in_flight ORDER BY held_by;
ROLLBACK;
-- locks of an application's own are none of ours
BEGIN;
SELECT pg_advisory_xact_lock(1), pg_advisory_xact_lock(1, 478);
SELECT held_by FROM idempotent.in_flight;
ROLLBACK;

-- the backlog: what is due, and nothing that the sweeper leaves
SELECT * FROM idempotent.backlog ORDER BY what, durability;
SELECT response_retention FROM idempotent_operation('stats', response_retention => '1 microsecond');
CREATE FUNCTION finish(operation text, key text, retention interval = NULL) RETURNS void LANGUAGE sql AS $$
    SELECT idempotent_claim(operation, key), idempotent_complete(operation, key, '1', retention => retention);
$$;
SELECT finish('stats', 'body'), finish('stats logged', 'lives'), finish('stats logged', 'expired', '1 microsecond');
SELECT finish('stats', 'expired ' || n, '1 microsecond') FROM generate_series(1, 3) AS n;
SELECT outcome FROM idempotent_seal('stats', 'sealed');
SELECT outcome FROM idempotent_claim('stats', 'lapsed', lease => '1 microsecond');
-- too large to be kept in the first place, an answer has no body to lose
SELECT max_response_bytes FROM idempotent_operation('stats large', max_response_bytes => 0, response_retention => '1 microsecond');
SELECT finish('stats large', 'large');
SELECT * FROM idempotent_first_of('stats', ARRAY['seen 1', 'seen 2'], retention => '1 microsecond');
SELECT idempotent_first('stats', 'lasts');
SELECT l.acquired FROM idempotent_lock('stats', 'lapsed', '1 microsecond') AS l UNION ALL SELECT l.acquired FROM idempotent_lock('stats 2', 'lasts', '1 hour') AS l;
SELECT what, durability, due, expired, evictable, oldest = (SELECT min(sweep_at) FROM idempotent.record) AS oldest_unlogged FROM idempotent.backlog ORDER BY what, durability;
SELECT idempotent_sweep();
SELECT * FROM idempotent.backlog ORDER BY what, durability;

-- health; records are an estimate, which takes for one of them what fences leave behind
ANALYZE idempotent.record, idempotent.record_logged, idempotent.messages, idempotent.locks;
SELECT count(*) FROM (SELECT operation FROM idempotent.record UNION ALL SELECT operation FROM idempotent.record_logged) AS r WHERE operation <> '';
SELECT version = schema_version AS fits, preloaded, last_reset, records, messages = (SELECT count(*) FROM idempotent.messages) AS messages, locks = (SELECT count(*) FROM idempotent.locks) AS locks,
    bytes = (SELECT sum(pg_total_relation_size(t)) FROM unnest('{idempotent.record,idempotent.record_logged,idempotent.messages,idempotent.offsets,idempotent.locks}'::regclass[]) AS t) AS bytes FROM idempotent.health;

-- who may look: pg_monitor, at numbers and not at answers
CREATE ROLE regress_idempotent_monitor IN ROLE pg_monitor;
CREATE ROLE regress_idempotent_nobody;
CREATE FUNCTION looks() RETURNS TABLE (statement text, answer text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH statement IN ARRAY ARRAY['SELECT count(*) FROM idempotent.stats', 'SELECT count(*) FROM idempotent.in_flight', 'SELECT count(*) FROM idempotent.backlog', 'SELECT count(*) FROM idempotent.health',
        'SELECT idempotent.counters()', 'SELECT idempotent.library()', 'SELECT idempotent_stats_reset()',
        'TABLE idempotent.record', 'TABLE idempotent.record_logged', 'TABLE idempotent.operation', 'SELECT last_value FROM idempotent.fence', 'SELECT idempotent_replay(''stats'', ''body'')', 'DELETE FROM idempotent.in_flight', 'UPDATE idempotent.backlog SET due = 0'] LOOP
        BEGIN
            EXECUTE statement;
            answer := 'done';
        EXCEPTION WHEN OTHERS THEN answer := sqlstate;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT outcome FROM idempotent_claim('stats', 'not in flight', lease => '1 hour');
UPDATE idempotent.record SET state = 'u' WHERE key = 'not in flight';
SET ROLE regress_idempotent_nobody;
SELECT * FROM looks();
SET ROLE regress_idempotent_monitor;
SELECT * FROM looks();
\set VERBOSITY terse
-- nor at other keys, through a function that tells what it is shown
CREATE FUNCTION pg_temp.tell(key text) RETURNS boolean LANGUAGE plpgsql STABLE STRICT COST 0.0001 AS $$ BEGIN RAISE NOTICE '%', key; RETURN true; END $$;
SELECT key FROM idempotent.in_flight WHERE pg_temp.tell(key);
RESET ROLE;
\set VERBOSITY sqlstate
-- a caller is no monitor
SELECT idempotent_grant('regress_idempotent_nobody');
SET ROLE regress_idempotent_nobody;
SELECT * FROM looks() WHERE answer = 'done';
RESET ROLE;

-- what nobody counts any more
SELECT idempotent_stats_reset();
SELECT * FROM counted();
SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_monitor, regress_idempotent_nobody;
\c :home
DROP DATABASE regress_idempotent_statistics;
DROP ROLE regress_idempotent_monitor, regress_idempotent_nobody;
