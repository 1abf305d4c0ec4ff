-- Slots come back to a node that had them: what was left behind there, and does not expire, gives way to what has happened since, also
-- where nothing is left that tells of it.
\set SHOW_CONTEXT never
\set home :DBNAME
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_idempotent CASCADE;
CREATE EXTENSION pg_idempotent;
SET lock_timeout = '20s';
SELECT int4multirange(int4range(idempotent_slot('k', 'mover'), idempotent_slot('k', 'mover') + 1)) AS slots \gset
\set others '(\'{[0,16384)}\'::int4multirange - ' :'slots' '::int4multirange)'
\set sets 'CREATE FUNCTION return_work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT \'"done"\'::jsonb $$; CREATE FUNCTION return_fail(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE \'not yet\' USING ERRCODE = \'40000\'; END $$; SELECT FROM idempotent_saga(\'return saga\', \'[{"name": "a", "handler": "public.return_work(jsonb)"}, {"name": "b", "handler": "public.return_fail(jsonb)"}]\');'
:sets

-- lapsed attempts, and one that is unknown; messages, and a saga in its middle
SELECT operation, outcome FROM idempotent_operation('return unknown', on_lapse => 'unknown'), unnest('{return,return unknown}'::text[]) AS operation,
       unnest('{ran,sealed,late}'::text[]) AS key, idempotent_claim(operation, key, scope => 'mover', lease => '1 millisecond') ORDER BY 1, 2;
SELECT count(idempotent_outbox_put('return', to_jsonb(n), 'lane', scope => 'mover')) FROM generate_series(1, 2) AS n;
SELECT more, outcome FROM idempotent_saga_step('return saga', 'k', scope => 'mover');
SELECT outcome FROM idempotent_run('return', 'done', NULL, 'return_work', 'mover');
SELECT idempotent_own(:others);
SELECT left_behind = :'slots' AS noted FROM idempotent.own;
SELECT jsonb_agg(e) AS exported FROM idempotent_export(:'slots') AS e \gset

-- A move that is given up: the node goes on, and the slots go later.
SELECT idempotent_own(NULL);
SELECT outcome, attempt FROM idempotent_run('return', 'late', NULL, 'return_work', 'mover');
SELECT idempotent_own(:others);
SELECT jsonb_agg(e) AS later FROM idempotent_export(:'slots') AS e \gset

CREATE DATABASE regress_idempotent_node;
\c regress_idempotent_node
SET client_min_messages = warning;
SET lock_timeout = '20s';
CREATE EXTENSION pg_idempotent;
:sets
SELECT FROM idempotent_operation('return unknown', on_lapse => 'unknown');
SELECT idempotent_own(:others);
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM jsonb_array_elements(:'exported') AS e GROUP BY 1, 2 ORDER BY 1, 2;
-- another change while slots arrive
SELECT idempotent_own(:others);
SELECT left_behind FROM idempotent.own;
-- an attempt gives way to the one that followed it
SELECT e -> 'row' ->> 'key' AS key, idempotent_import(e) AS answer FROM jsonb_array_elements(:'later') AS e WHERE e ->> 'table' = 'record' ORDER BY e -> 'row' ->> 'operation', 1;
-- and does not come back
SELECT e -> 'row' ->> 'key' AS key, idempotent_import(e) AS answer FROM jsonb_array_elements(:'exported') AS e WHERE e ->> 'table' = 'record' ORDER BY e -> 'row' ->> 'operation', 1;
SELECT idempotent_own(NULL);
SELECT outcome FROM idempotent_run('return', 'late', NULL, 'return_work', 'mover');
SELECT outcome FROM idempotent_run('return', 'ran', NULL, 'return_work', 'mover');
SELECT (idempotent_seal('return', 'sealed', 'mover')).outcome;
SELECT outcome FROM idempotent_run('return unknown', 'ran', NULL, 'return_work', 'mover');
SELECT (idempotent_resolve('return unknown', 'ran', 'completed', '"resolved"', 'mover')).outcome;
-- sent and finished here, and so long ago that nothing of it is left
SELECT idempotent_outbox_ack('return', array_agg(t.message_id), max(t.fence)) FROM idempotent_outbox_take('return') AS t;
DELETE FROM idempotent.outbox_id;
SELECT idempotent_saga_forget('return saga', 'k', 'mover', unfinished => true);

SELECT idempotent_own(:others);
SELECT jsonb_agg(e) AS back FROM idempotent_export(:'slots') AS e \gset
\c :home
SET client_min_messages = warning;
-- in any order: no row of it is deleted by another
SELECT e ->> 'table' AS what, idempotent_import(e) AS answer, count(*) FROM (SELECT e FROM jsonb_array_elements(:'back') WITH ORDINALITY AS b (e, n) ORDER BY n DESC) AS b WHERE e ->> 'table' <> 'fence' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT replace(detail, :'slots', 'these slots') AS told FROM idempotent.audit WHERE action = 'import';
SELECT idempotent_own(NULL);
SELECT count(*) AS messages FROM idempotent.outbox_message;
SELECT count(*) AS sagas FROM idempotent.saga_run;
SELECT outcome, response FROM unnest('{ran,sealed,late,done}'::text[]) WITH ORDINALITY AS k (key, n), idempotent_run('return', key, NULL, 'return_work', 'mover') ORDER BY n;
SELECT outcome, response FROM idempotent_run('return unknown', 'ran', NULL, 'return_work', 'mover');

-- What nobody has answered for meanwhile is here as it was.
SELECT FROM idempotent_outbox_put('return', '3', scope => 'mover');
SELECT idempotent_own(:others);
SELECT idempotent_own(NULL);
SELECT payload FROM idempotent_outbox_take('return');
DROP DATABASE regress_idempotent_node WITH (FORCE);
DROP FUNCTION return_work(jsonb), return_fail(jsonb);
SELECT count(idempotent_forget_all(o)) FROM unnest('{return,return unknown}'::text[]) AS o;
DELETE FROM idempotent.outbox_message;
