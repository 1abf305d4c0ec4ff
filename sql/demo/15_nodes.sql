-- Two nodes, each a database of its own here: a key is on one of them, a call that goes astray is refused, and a tenant moves to another
-- node with all that is known of it. It needs the right to create databases. Every claim made here is checked: the script stops, and psql
-- exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

\set home :DBNAME
\set expect 'CREATE FUNCTION expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF holds IS NOT TRUE THEN RAISE EXCEPTION \'the demo does not hold: %\', told; END IF; RETURN \'   ok  \' || told; END $$'
\set node 'CREATE TABLE payment (id bigint GENERATED ALWAYS AS IDENTITY, customer text, amount numeric); CREATE FUNCTION pay(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO payment (customer, amount) VALUES (request->>\'customer\', (request->>\'amount\')::numeric) RETURNING jsonb_build_object(\'node\', current_database(), \'payment\', id) $$; SELECT FROM idempotent_operation(\'pay\', durability => \'logged\');'
DROP DATABASE IF EXISTS demo_node_0 WITH (FORCE);
DROP DATABASE IF EXISTS demo_node_1 WITH (FORCE);
CREATE DATABASE demo_node_0;
CREATE DATABASE demo_node_1;

\echo
\echo '== Several nodes: a key is on one, and moves with its tenant =='
\echo
\echo '1. Each node is told which of the 16384 slots are its own. The slot is that of the scope: all of a tenant is together.'
\connect demo_node_1
CREATE EXTENSION pg_idempotent;
:expect;
:node
\set ECHO queries
SELECT idempotent_own('{[8192,16384)}');
\set ECHO none
\connect demo_node_0
CREATE EXTENSION pg_idempotent;
:expect;
:node
\set ECHO queries
SELECT idempotent_own('{[0,8192)}');
SELECT tenant, idempotent_slot('order-1', tenant) FROM unnest('{ann,carl}'::text[]) AS tenant;
\set ECHO none
SELECT expect('ann is on node 0, carl on node 1', idempotent_slot('order-1', 'ann') < 8192 AND idempotent_slot('order-1', 'carl') >= 8192);

\echo
\echo '2. A router that is right: the call runs, and a retry gets its answer.'
\set ECHO queries
SELECT outcome, response FROM idempotent_run('pay', 'order-1', '{"customer": "ann", "amount": 25}', 'pay', scope => 'ann');
SELECT outcome, response FROM idempotent_run('pay', 'order-1', '{"customer": "ann", "amount": 25}', 'pay', scope => 'ann');
\set ECHO none
SELECT expect('one payment', (SELECT count(*) FROM payment) = 1);

\echo
\echo '3. A router that is wrong: refused, and nothing is paid.'
\set ON_ERROR_STOP off
\set ECHO queries
SELECT outcome FROM idempotent_run('pay', 'order-2', '{"customer": "carl", "amount": 30}', 'pay', scope => 'carl');
\set ECHO none
\set ON_ERROR_STOP on
SELECT expect('refused with ID010', :'LAST_ERROR_SQLSTATE' = 'ID010' AND (SELECT count(*) FROM payment) = 1);

\echo
\echo '4. The tenant moves. First node 0 gives its slot up; it waits for claims that are open. From then on both refuse.'
SELECT int4multirange(int4range(idempotent_slot('order-1', 'ann'), idempotent_slot('order-1', 'ann') + 1)) AS moving \gset
SELECT fence FROM idempotent_claim('call', 'ann-7', scope => 'ann', lease => '1 millisecond') \gset
\set ECHO queries
SELECT idempotent_own(own - :'moving'::int4multirange) FROM idempotent.health;
\set ECHO none
\set ON_ERROR_STOP off
SELECT outcome FROM idempotent_run('pay', 'order-1', '{"customer": "ann", "amount": 25}', 'pay', scope => 'ann');
\set ON_ERROR_STOP on
SELECT expect('node 0 no longer answers', :'LAST_ERROR_SQLSTATE' = 'ID010');

\echo
\echo '5. What it knows of the slot goes to node 1, which then takes the slot. (Here by a variable of psql; COPY pipes it between machines.)'
\set ECHO queries
SELECT jsonb_agg(e) AS exported FROM idempotent_export(:'moving') AS e \gset
\connect demo_node_1
\set ECHO none
\echo 'SELECT e->>\'table\' AS what, idempotent_import(e) FROM jsonb_array_elements(:\'exported\') AS e;'
SELECT e->>'table' AS what, idempotent_import(e) FROM jsonb_array_elements(:'exported') AS e;
\set ECHO queries
SELECT idempotent_own(own + :'moving'::int4multirange) FROM idempotent.health;
\set ECHO none

\echo
\echo '6. The retry: node 1 gives the answer that node 0 stored.'
\set ECHO queries
SELECT outcome, response FROM idempotent_run('pay', 'order-1', '{"customer": "ann", "amount": 25}', 'pay', scope => 'ann');
\set ECHO none
SELECT expect('the answer of node 0, and no payment here', response->>'node' = 'demo_node_0' AND (SELECT count(*) FROM payment) = 0)
  FROM idempotent_replay('pay', 'order-1', scope => 'ann');
SELECT expect('a lease that lapsed on node 0 is taken over with a higher fence', attempt = 2 AND c.fence > :fence)
  FROM idempotent_claim('call', 'ann-7', scope => 'ann', lease => '1 minute') AS c;

\echo
\echo '7. The same again is harmless: what is there is there.'
\echo 'SELECT DISTINCT idempotent_import(e) FROM jsonb_array_elements(:\'exported\') AS e WHERE e->\'row\'->>\'state\' = \'c\';'
SELECT DISTINCT idempotent_import(e) FROM jsonb_array_elements(:'exported') AS e WHERE e->'row'->>'state' = 'c';
SELECT expect('one answer', (SELECT count(*) FROM idempotent.record_logged WHERE state = 'c') = 1);
\connect :home
DROP DATABASE demo_node_0 WITH (FORCE);
DROP DATABASE demo_node_1 WITH (FORCE);
\echo
