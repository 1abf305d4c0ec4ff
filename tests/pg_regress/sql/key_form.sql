-- key_form => 'uuid': every spelling of a UUID is one key.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SET timezone = 'UTC';
\set key 0194b2c8-7a3e-4f10-8c55-6e1d2f3a4b5c
SELECT key_form FROM idempotent_operation('key_form_text');
SELECT key_form FROM idempotent_operation('key_form', key_form => 'UUID');
SELECT idempotent_operation('key_form', key_form => 'ulid');

-- each spelling that the type takes, and the URN
CREATE TABLE key_form_spelling AS SELECT row_number() OVER () AS n, key FROM unnest(ARRAY[:'key', upper(:'key'), replace(:'key', '-', ''), '{' || :'key' || '}',
    '{' || upper(replace(:'key', '-', '')) || '}', '0194-b2c8-7a3e-4f10-8c55-6e1d-2f3a-4b5c', '0194b2c87a3e-4f108c55-6e1d2f3a4b5c', 'urn:uuid:' || :'key', 'URN:UUID:' || upper(:'key')]) AS key;
BEGIN;
SELECT outcome FROM idempotent_claim('key_form', upper(:'key'), '1');
SELECT idempotent_complete('key_form', replace(:'key', '-', ''), '"done"');
COMMIT;
SELECT key, (SELECT r.outcome FROM idempotent_claim('key_form', key, '1') AS r) AS claim, (SELECT r.outcome FROM idempotent_claim('key_form', key, '2') AS r) AS other,
       (SELECT r.response FROM idempotent_replay('key_form', key) AS r) AS replay, idempotent_explain('key_form', key) ->> 'outcome' AS explained
  FROM key_form_spelling ORDER BY n;
SELECT key, record_id = (idempotent_explain('key_form', :'key') ->> 'record_id')::uuid AS same_id FROM idempotent.record WHERE operation = 'key_form';
-- text is text
SELECT count(*), count(DISTINCT idempotent_explain('key_form_text', key) ->> 'record_id') FROM key_form_spelling;

-- each other door
CREATE FUNCTION key_form_same(x jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT x';
SELECT outcome, response FROM idempotent_run('key_form', '{0194b2c8-7a3e-4f10-8c55-000000000001}', '1', 'public.key_form_same(jsonb)');
SELECT outcome, response FROM idempotent_run('key_form', '0194B2C87A3E4F108C55000000000001', '1', 'public.key_form_same(jsonb)');
SELECT fence FROM idempotent_claim('key_form', '0194B2C87A3E4F108C55000000000002', lease => '1 hour') \gset
SELECT outcome FROM idempotent_claim('key_form', '0194b2c8-7a3e-4f10-8c55-000000000002', lease => '1 hour', wait => '0');
SELECT idempotent_extend('key_form', '{0194B2C87A3E4F108C55000000000002}', '2 hours', fence => :fence) > now() + interval '1 hour' AS extended;
SELECT * FROM idempotent_extend_all('key_form', '{urn:uuid:0194B2C87A3E4F108C55000000000002}', ARRAY[:fence], '3 hours');
SELECT idempotent_checkpoint('key_form', 'urn:uuid:0194B2C87A3E4F108C55000000000002', '"half"', fence => :fence);
SELECT checkpoint FROM idempotent_replay('key_form', '0194B2C8-7A3E4F108C55000000000002');
SELECT idempotent_release('key_form', '0194B2C8-7A3E4F108C55000000000002', fence => :fence);
SELECT outcome FROM idempotent_seal('key_form', '0194B2C8-7A3E4F108C55000000000002');
SELECT outcome FROM idempotent_claim('key_form', '0194b2c8-7a3e-4f10-8c55-000000000002');
SELECT idempotent_forget('key_form', '{0194b2c8-7a3e-4f10-8c55-000000000002}');
BEGIN;
SELECT outcome FROM idempotent_claim('key_form', '0194B2C87A3E4F108C55000000000003');
SELECT idempotent_fail('key_form', '0194b2c8-7a3e-4f10-8c55-000000000003', '"no"');
SELECT outcome, failed FROM idempotent_claim('key_form', '{0194B2C87A3E4F108C55000000000003}');
COMMIT;
-- HTTP: what is no UUID is the client's fault
BEGIN;
SELECT run, key, outcome FROM idempotent_http_claim('key_form', '"0194B2C8-7A3E-4F10-8C55-000000000004"', 'POST', '/');
SELECT idempotent_http_complete('key_form', '0194b2c87a3e4f108c55000000000004', 201, body => 'made');
COMMIT;
SELECT run, outcome, status, body FROM idempotent_http_claim('key_form', '0194b2c87a3e4f108c55000000000004', 'POST', '/');
SELECT run, outcome, status, convert_from(body, 'UTF8') AS body FROM idempotent_http_claim('key_form', 'order-1', 'POST', '/');
-- sagas
SELECT name FROM idempotent_saga('key_form', '[{"name": "a", "handler": "public.key_form_same(jsonb)"}, {"name": "b", "handler": "public.key_form_same(jsonb)"}]');
SELECT more, next_step FROM idempotent_saga_step('key_form', '0194B2C87A3E4F108C55000000000005');
SELECT state, step, step_state, answer ->> 'key' AS key FROM idempotent_saga_explain('key_form', '{0194B2C87A3E4F108C55000000000005}');
SELECT more, outcome FROM idempotent_saga_resume('key_form', '0194b2c8-7a3e-4f10-8c55-000000000005');
SELECT key, state FROM idempotent.sagas WHERE saga = 'key_form';
SELECT idempotent_saga_forget('key_form', 'urn:uuid:0194b2c8-7a3e-4f10-8c55-000000000005', unfinished => true);
-- a derived key is that of the spelling: the canonical one is the type's
SELECT idempotent_derive_key('key_form', :'key', 'card') = ALL (SELECT idempotent_derive_key('key_form', key::uuid::text, 'card') FROM key_form_spelling WHERE key NOT LIKE '%:%') AS same;

-- everything else
CREATE FUNCTION pg_temp.refused(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE sql;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN sqlstate || ' ' || sqlerrm || ' / ' || hint;
END $$;
SELECT outcome FROM idempotent_claim('key_form', 'order-1');
\echo :LAST_ERROR_SQLSTATE
\pset format unaligned
SELECT key, left(pg_temp.refused(format('SELECT idempotent_claim(%L, %L)', 'key_form', key)), 41) FROM unnest(ARRAY[' ' || :'key', :'key' || ' ', '"' || :'key' || '"', U&'\00A0' || :'key', U&'\FEFF' || :'key',
    :'key' || U&'\200B', left(:'key', 35), :'key' || '0', :'key' || '-', '-' || :'key', replace(:'key', '-', '--'), replace(:'key', '-', '_'), '{' || :'key', :'key' || '}', '{{' || :'key' || '}}',
    'urn:uuid:{' || :'key' || '}', 'uuid:' || :'key', '019-4b2c8-7a3e-4f10-8c55-6e1d2f3a4b5c', '0194b2c8-7a3e-4f10-8c55-6e1d2f3a4b5g', '{}', 'urn:uuid:']) AS key;
\pset format aligned
SELECT call, left(pg_temp.refused('SELECT ' || call), 30) FROM unnest('{"idempotent_complete(''key_form'', ''k'')","idempotent_replay(''key_form'', ''k'')","idempotent_explain(''key_form'', ''k'')",
    "idempotent_seal(''key_form'', ''k'')","idempotent_forget(''key_form'', ''k'')","idempotent_run(''key_form'', ''k'', ''1'', ''public.key_form_same(jsonb)'')","idempotent_saga_step(''key_form'', ''k'')",
    "idempotent_saga_explain(''key_form'', ''k'')"}'::text[]) AS call;
-- one that is only observed lets such a key through
SELECT key_form FROM idempotent_operation('key_form_observed', key_form => 'uuid', mode => 'observe');
SELECT outcome FROM idempotent_claim('key_form_observed', 'order-1');
SELECT run FROM idempotent_http_claim('key_form_observed', 'order-1', 'POST', '/');

-- a UUIDv7 keeps its date, however it is spelled
SELECT idempotent_new_key(now() - interval '25 hours') AS old \gset
SELECT key_form FROM idempotent_operation('key_form_dated', key_form => 'uuid');
SELECT n, (SELECT r.outcome FROM idempotent_claim('key_form_dated', key) AS r) AS outcome, idempotent_explain('key_form_dated', key) ? 'first_sent' AS dated
  FROM unnest(ARRAY[:'old', upper(:'old'), replace(:'old', '-', ''), '{' || upper(:'old') || '}']) WITH ORDINALITY AS k (key, n);

-- a change while there are keys would let them run again
SELECT idempotent_operation('key_form', key_form => 'text');
\echo :LAST_ERROR_SQLSTATE
UPDATE idempotent.operation SET key_form = 'text' WHERE name = 'key_form';
SELECT key_form FROM idempotent_operation('key_form', key_form => 'uuid', wait => '1 second');
BEGIN;
SELECT outcome FROM idempotent_claim('key_form_text', '0194B2C87A3E4F108C55000000000006');
SELECT idempotent_complete('key_form_text', '0194B2C87A3E4F108C55000000000006', '1');
COMMIT;
SELECT idempotent_operation('key_form_text', key_form => 'uuid');
UPDATE idempotent.operation SET key_form = 'uuid' WHERE name = 'key_form_text';
-- nor where there were no settings
BEGIN;
SELECT outcome FROM idempotent_claim('key_form_none', 'k');
SELECT idempotent_complete('key_form_none', 'k', '1');
COMMIT;
SELECT idempotent_operation('key_form_none', key_form => 'uuid');
INSERT INTO idempotent.operation (name, key_form) VALUES ('key_form_none', 'uuid');
SELECT more FROM idempotent_saga('key_form_saga', '[{"name": "a", "handler": "public.key_form_same(jsonb)"}]'), idempotent_saga_step('key_form_saga', 'k');
SELECT idempotent_operation('key_form_saga', key_form => 'uuid');
-- keys that are canonical stay what they are
SELECT idempotent_forget_all('key_form_text');
BEGIN;
SELECT outcome FROM idempotent_claim('key_form_text', :'key');
SELECT idempotent_complete('key_form_text', :'key', '"kept"');
COMMIT;
SELECT key_form FROM idempotent_operation('key_form_text', key_form => 'uuid');
SELECT outcome, response FROM idempotent_claim('key_form_text', '{' || upper(:'key') || '}');
SELECT idempotent_operation('key_form_text', key_form => 'text');
SELECT idempotent_forget_all('key_form_text');
SELECT key_form FROM idempotent_operation('key_form_text', key_form => 'text');
SELECT outcome FROM idempotent_replay('key_form_text', 'k');
UPDATE idempotent.operation SET key_form = 'ulid' WHERE name = 'key_form_text';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1 AS one;
SELECT idempotent_operation('key_form_text', key_form => 'uuid');
ROLLBACK;

-- what comes from elsewhere must be found here
SELECT idempotent_import(jsonb_build_object('table', 'record', 'row', to_jsonb(r) || '{"operation": "key_form", "key": "k"}')) FROM idempotent.record AS r WHERE r.operation = 'key_form_none' AND r.key = 'k';

SELECT count(idempotent_forget_all(name)) FROM unnest('{key_form,key_form_text,key_form_none,key_form_dated}'::text[]) AS name;
SELECT idempotent_saga_forget('key_form_saga', 'k', unfinished => true);
DROP TABLE key_form_spelling;
DROP FUNCTION key_form_same(jsonb);
