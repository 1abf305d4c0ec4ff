-- The doctor: each fault is planted, found, and mended by the statement that it says, where that is one statement.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_idempotent CASCADE;
CREATE EXTENSION pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_monitor, regress_idempotent_nobody;
RESET client_min_messages;
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET timezone = 'UTC';
SELECT idempotent_stats_reset();
\pset format unaligned
\pset fieldsep ' | '
\pset tuples_only on
\set look 'SELECT severity, problem, detail, remedy FROM idempotent_doctor() WHERE problem <> ''sweeper_off'' ORDER BY severity, problem, detail;'
\set mend 'SELECT remedy FROM idempotent_doctor() WHERE problem <> ''sweeper_off'' \\gexec'

-- nothing is wrong with a new database, but that this server sweeps nothing
SELECT severity, problem, detail, remedy FROM idempotent_doctor();
:look

-- also where every name is quoted
SET quote_all_identifiers = on;
:look
RESET quote_all_identifiers;

-- what others have put on the tables
CREATE INDEX ON idempotent.record (operation);
CREATE UNIQUE INDEX "Mine" ON idempotent.record_logged (key);
ALTER TABLE idempotent.record ADD CONSTRAINT no_secrets CHECK (key <> 'secret');
CREATE TABLE mine (record_id uuid REFERENCES idempotent.record_logged);
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER told AFTER INSERT ON idempotent.record FOR EACH STATEMENT EXECUTE FUNCTION public.tell();
CREATE RULE kept AS ON DELETE TO idempotent.messages DO INSTEAD NOTHING;
CREATE TABLE heir () INHERITS (idempotent.locks);
CREATE TABLE parts (LIKE idempotent.asked) PARTITION BY LIST (operation);
ALTER TABLE parts ATTACH PARTITION idempotent.asked FOR VALUES IN ('one');
ALTER SEQUENCE idempotent.fence SET UNLOGGED;
ALTER TABLE idempotent.locks ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotent.outbox_message DISABLE TRIGGER go_on;
ALTER TABLE idempotent.offsets SET (autovacuum_enabled = off);
ALTER TABLE idempotent.messages SET UNLOGGED;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idempotent.locks_expires_at_idx'::regclass;
:look
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'idempotent.locks_expires_at_idx'::regclass;
:mend
:look
DROP TABLE mine, heir, parts;

-- rights that no documented role has
CREATE ROLE regress_idempotent_nobody;
CREATE ROLE regress_idempotent_monitor IN ROLE pg_monitor;
GRANT SELECT ON idempotent.record TO PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent_replay TO regress_idempotent_nobody WITH GRANT OPTION;
:look
:mend
:look

-- an operation for a role that is gone
CREATE ROLE "regress idempotent gone";
SELECT name FROM idempotent_operation('closed', role => '"regress idempotent gone"');
DROP ROLE "regress idempotent gone";
:look
:mend
:look
SELECT name FROM idempotent_operation('closed', role => '-');
DROP ROLE "regress idempotent gone";

-- settings that contradict each other, and operations without any
SELECT name FROM idempotent_operation('watched', mode => 'observe');
SELECT name FROM idempotent_operation('dateless', key_dates => 'ignore');
SELECT name FROM idempotent_operation('bodies', retention => '1 hour', response_retention => '2 hours');
SELECT name FROM idempotent_operation('slow', lease => '2 days');
SELECT outcome FROM idempotent_claim('misspelt', idempotent_new_key(), lease => '1 minute');
:look
:mend
SELECT name FROM idempotent_operation('dateless', durability => 'unlogged', after_reset => 'execute');
:look

-- keys without dates, in unlogged operations
SELECT c.outcome FROM unnest('{order-1,order-2}'::text[]) AS k, idempotent_claim('misspelt', k, lease => '1 minute') AS c;
:look
:mend
:look

-- sequences behind what is stored
UPDATE idempotent.record_logged SET fence = 900 WHERE key = 'order-1';
SELECT idempotent_outbox_put('topic', '1', 'k') IS NOT NULL;
SELECT idempotent_operation('topic') IS NOT NULL;
UPDATE idempotent.outbox_message SET position = 77;
:look
:mend
:look
SELECT nextval('idempotent.fence'), nextval('idempotent.outbox_position');

-- sequences that fall, that a session has numbers of in advance, that end or begin anew; back below all that they had
ALTER SEQUENCE idempotent.fence INCREMENT -1;
ALTER SEQUENCE idempotent.outbox_position CACHE 20;
:look
:mend
:look
ALTER SEQUENCE idempotent.fence AS integer;
ALTER SEQUENCE idempotent.outbox_position MAXVALUE 1000 CYCLE;
:look
:mend
:look
ALTER SEQUENCE idempotent.fence MINVALUE -9 START -3 INCREMENT -1 RESTART;
ALTER SEQUENCE idempotent.outbox_position MINVALUE 5 START 5;
:look
:mend
:look
SELECT nextval('idempotent.fence'), nextval('idempotent.outbox_position');

-- what is due, and not swept; an unknown record and a lease that lasts are not
UPDATE idempotent.record_logged SET sweep_at = '2020-01-01', expires_at = '2020-01-01', state = 'c', lease_until = NULL WHERE key = 'order-1';
UPDATE idempotent.record_logged SET sweep_at = '2019-01-01', state = 'u', lease_until = NULL WHERE key = 'order-2';
DELETE FROM idempotent.reset WHERE durability = 'logged' AND operation IS NOT NULL;  -- a loss, and not the one to be shown
INSERT INTO idempotent.locks (expires_at, acquired_at, fence, slot, resource, scope, holder) VALUES ('2020-01-01', '2020-01-01', 1, 0, 'r', '', 'h');
:look
SELECT idempotent_sweep();
:look

-- the outbox: a relay that is gone, and dead letters
UPDATE idempotent.outbox_message SET put_at = '2020-01-01';
SELECT idempotent_outbox_put('another', '1') IS NOT NULL, idempotent_operation('another') IS NOT NULL;
INSERT INTO idempotent.outbox_dead (position, message_id, put_at, dead_at, attempt, topic, scope, payload)
VALUES (1, gen_random_uuid(), '2020-01-01', '2020-01-01', 5, 'topic', '', '1');
:look
DELETE FROM idempotent.outbox_message;
DELETE FROM idempotent.outbox_dead;

-- records that were lost
INSERT INTO idempotent.reset (durability, noticed_at, reset_at) VALUES ('unlogged', clock_timestamp(), clock_timestamp()), ('logged', '2020-01-01', '2020-01-01');
SELECT severity, problem, regexp_replace(detail, '\d{4}-.*\+00', 'WHEN'), remedy FROM idempotent_doctor() WHERE problem <> 'sweeper_off';
DELETE FROM idempotent.reset;

-- what does not come about in a test: copies of the doctor that are told of another library, and have no patience
CREATE FUNCTION copy_doctor(name text, VARIADIC pairs text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE definition text := replace(pg_get_functiondef('idempotent_doctor'::regproc), 'idempotent_doctor', name);
BEGIN
    FOR n IN 1 .. array_length(pairs, 1) BY 2 LOOP
        IF strpos(definition, pairs[n]) = 0 THEN RAISE EXCEPTION 'there is no %', pairs[n]; END IF;
        definition := replace(definition, pairs[n], pairs[n + 1]);
    END LOOP;
    EXECUTE definition;
END $$;
SELECT copy_doctor('doctor_of', 'idempotent.library()', 'current_setting(''test.library'')::jsonb', 'current_setting(''idempotent.sweeper_enabled'')::boolean', 'true');
\set tell 'SELECT severity, problem, regexp_replace(detail, ''ended .* ago'', ''ended WHEN ago''), remedy FROM doctor_of() WHERE problem <> ''restart_needed'' ORDER BY problem;'
SET test.library = '{"version": "0.9.0", "preloaded": true}';
:tell
SELECT problem, remedy FROM doctor_of() WHERE problem = 'restart_needed';
SET test.library = '{"version": "1.10.0-beta", "preloaded": false}';
:tell
SELECT set_config('test.library', jsonb_build_object('version', (SELECT extversion FROM pg_extension WHERE extname = 'pg_idempotent'), 'preloaded', true, 'last_sweep', '2020-01-01', 'sweep_failures', 3)::text, false) IS NOT NULL;
:tell
SELECT copy_doctor('few_workers', 'current_setting(''max_worker_processes'')::integer', '2');
SELECT severity, problem, detail, remedy FROM few_workers() WHERE problem = 'workers_missing';
SELECT copy_doctor('hasty', '''5 minutes''', '''0 seconds''');
BEGIN;
SELECT idempotent_new_key() AS key \gset
SELECT outcome FROM idempotent_claim('misspelt', :'key');
SELECT severity, problem, regexp_replace(detail, 'Backend \d+ (.*) began .*', 'Backend PID \1 began WHEN'), regexp_replace(remedy, '\d+', 'PID') FROM hasty() WHERE problem <> 'sweeper_off';
SELECT idempotent_complete('misspelt', :'key', '1');
PREPARE TRANSACTION 'regress doctor';
SELECT severity, problem, regexp_replace(detail, 'since .*', 'since WHEN'), remedy FROM hasty() WHERE problem <> 'sweeper_off';
COMMIT PREPARED 'regress doctor';
BEGIN;
SELECT idempotent_own('{[0,16384)}');
PREPARE TRANSACTION 'regress own';
SELECT severity, problem, detail, remedy FROM hasty() WHERE problem <> 'sweeper_off';
ROLLBACK PREPARED 'regress own';
DROP FUNCTION doctor_of, few_workers, hasty, copy_doctor;

-- more operations than there are counters
SELECT count(*) FROM generate_series(1, 1100) AS n, idempotent_claim('op ' || n, idempotent_new_key(), lease => '1 second') AS c WHERE c.outcome = 'claimed';
SELECT severity, problem, detail, remedy FROM idempotent_doctor() WHERE problem = 'uncounted_operations';
SELECT count(*) FROM idempotent_doctor() WHERE problem = 'undeclared_operation';
SELECT idempotent_stats_reset();

-- who may ask
SET ROLE regress_idempotent_nobody;
SELECT * FROM idempotent_doctor();
RESET ROLE;
SELECT idempotent_grant('regress_idempotent_nobody');
SET ROLE regress_idempotent_nobody;
SELECT * FROM idempotent_doctor();
SET ROLE regress_idempotent_monitor;
:look
RESET ROLE;
GRANT EXECUTE ON FUNCTION idempotent_doctor TO regress_idempotent_nobody;
SELECT administrators FROM idempotent.health;
SET ROLE regress_idempotent_nobody;
:look
RESET ROLE;
DROP OWNED BY regress_idempotent_nobody, regress_idempotent_monitor;
DROP ROLE regress_idempotent_nobody, regress_idempotent_monitor;

-- what a look costs does not depend on how many keys are known
CREATE FUNCTION pg_temp.pages(sql text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    -- the second look, which knows the catalogs
    FOR n IN 1 .. 2 LOOP
        EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || sql INTO plan;
    END LOOP;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
END $$;
CREATE TEMP TABLE look AS
SELECT v.name, pg_temp.pages('SELECT * FROM ' || v.name) AS before
  FROM (VALUES ('idempotent_doctor()'), ('idempotent.health'), ('idempotent.stats'), ('idempotent.waits'), ('idempotent.backlog'), ('idempotent.in_flight'), ('idempotent.unresolved')) AS v (name);
INSERT INTO idempotent.record (record_id, expires_at, sweep_at, finished_at, slot, state, evicted, operation, scope, key, response)
SELECT gen_random_uuid(), now() + interval '1 day', now() + interval '1 day', now(), 0, 'c', false, 'watched', '', idempotent_new_key(), to_jsonb(repeat('x', 400)) FROM generate_series(1, 40000) AS n;
INSERT INTO idempotent.record_logged SELECT * FROM idempotent.record WHERE state = 'c';
ANALYZE idempotent.record, idempotent.record_logged;
SELECT pg_temp.pages('SELECT count(key) FROM idempotent.record') > 2000 AS a_look_at_all_would_show;
SELECT name FROM look WHERE pg_temp.pages('SELECT * FROM ' || name) > before + 100;
TRUNCATE idempotent.record, idempotent.record_logged;
-- It would miss each index, constraint, trigger and column.
SELECT n.name AS not_missed
  FROM (SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relnamespace = 'idempotent'::regnamespace
        UNION SELECT k.conname FROM pg_constraint AS k WHERE k.connamespace = 'idempotent'::regnamespace AND k.contype <> 'n'
        UNION SELECT t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = 'idempotent'::regnamespace
        UNION SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = 'r') AS n (name)
 WHERE NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = 'idempotent.damage'::regproc AND position(quote_literal(n.name) IN p.prosrc) > 0)
UNION ALL
SELECT format('%s.%s', a.attrelid::regclass, a.attname)
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
 WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
   AND NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = 'idempotent.damage'::regproc AND p.prosrc ~ format($$'%s', '\{[^}]*\m%s\M$$, c.relname, a.attname));
