-- An order in three steps, each in a transaction of its own: inventory, payment, shipping. One goes well, one is declined, and one
-- has the server killed between any two of its steps. The last kills a process of the server that it runs on, so it wants to be
-- told: psql -v crash=yes -f sql/demo/11_saga.sql. Every claim made here is checked: the script stops, and psql exits with an error,
-- when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;
\setenv PGHOST :HOST
\setenv PGPORT :PORT
\setenv PGUSER :USER
\setenv PGDATABASE :DBNAME

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_saga CASCADE;
CREATE SCHEMA demo_saga;
CREATE FUNCTION demo_saga.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;
DELETE FROM idempotent.saga_run WHERE saga = 'demo_order';

\echo
\echo '== Saga: inventory, payment, shipping =='
\echo
\echo '1. Ordinary tables, and a handler for each step. Each gets the key, the request and the answers so far, and knows nothing of'
\echo '   retries: two of them move a number, the classic thing not to do twice.'
\set ECHO queries
CREATE TABLE demo_saga.stock (item text PRIMARY KEY, pieces integer);
CREATE TABLE demo_saga.account (customer text PRIMARY KEY, credit numeric CHECK (credit >= 0));
CREATE TABLE demo_saga.parcel (id bigint GENERATED ALWAYS AS IDENTITY, customer text, item text);
INSERT INTO demo_saga.stock VALUES ('book', 100);
INSERT INTO demo_saga.account VALUES ('Ada', 1000), ('Bob', 10);
CREATE FUNCTION demo_saga.reserve(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  UPDATE demo_saga.stock SET pieces = pieces - 1 WHERE item = x->'request'->>'item' RETURNING jsonb_build_object('left', pieces) $$;
CREATE FUNCTION demo_saga.put_back(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  UPDATE demo_saga.stock SET pieces = pieces + 1 WHERE item = x->'request'->>'item' RETURNING jsonb_build_object('left', pieces) $$;
CREATE FUNCTION demo_saga.charge(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  UPDATE demo_saga.account SET credit = credit - 25 WHERE customer = x->'request'->>'customer' RETURNING jsonb_build_object('paid', 25) $$;
CREATE FUNCTION demo_saga.refund(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  UPDATE demo_saga.account SET credit = credit + (x->'answer'->>'paid')::integer WHERE customer = x->'request'->>'customer' RETURNING '{}'::jsonb $$;
CREATE FUNCTION demo_saga.ship(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  INSERT INTO demo_saga.parcel (customer, item) VALUES (x->'request'->>'customer', x->'request'->>'item') RETURNING jsonb_build_object('parcel', id) $$;
\set ECHO none

\echo
\echo '2. The saga. A check that fails (class 23) when there is too little credit is final: no retry will help.'
\set ECHO queries
SELECT jsonb_array_length(steps) AS steps FROM idempotent_saga('demo_order', '[
  {"name": "inventory", "handler": "demo_saga.reserve(jsonb)", "compensation": "demo_saga.put_back(jsonb)"},
  {"name": "payment",   "handler": "demo_saga.charge(jsonb)",  "compensation": "demo_saga.refund(jsonb)", "final": ["23"]},
  {"name": "shipping",  "handler": "demo_saga.ship(jsonb)"}]')
\gset
\set ECHO none

\echo
\echo '3. Ada orders a book, and her client asks twice.'
\set ECHO queries
CALL idempotent_saga_run('demo_order', 'order-1', '{"customer": "Ada", "item": "book"}')
\gset first_
CALL idempotent_saga_run('demo_order', 'order-1', '{"customer": "Ada", "item": "book"}')
\gset second_
\set ECHO none
\echo '   =>' :first_outcome :first_answers
\echo '   =>' :second_outcome :second_answers
SELECT demo_saga.expect('done once, answered twice', :'first_outcome' = 'executed' AND :'second_outcome' = 'replay' AND :'first_answers'::jsonb = :'second_answers'::jsonb);
SELECT demo_saga.expect('99 books, 975 credit, one parcel',
    (SELECT pieces FROM demo_saga.stock) = 99 AND (SELECT credit FROM demo_saga.account WHERE customer = 'Ada') = 975 AND count(*) = 1) FROM demo_saga.parcel;

\echo
\echo '4. Bob''s payment is declined. His book goes back, once, however often he asks.'
\set ECHO queries
CALL idempotent_saga_run('demo_order', 'order-2', '{"customer": "Bob", "item": "book"}')
\gset first_
CALL idempotent_saga_run('demo_order', 'order-2', '{"customer": "Bob", "item": "book"}')
\gset second_
SELECT state, failed_step, sqlstate FROM idempotent.sagas WHERE saga = 'demo_order' AND key = 'order-2'
\gset
\set ECHO none
\echo '   =>' :first_outcome', then' :second_outcome'; the saga is' :state', as' :failed_step 'failed with' :sqlstate
SELECT demo_saga.expect('failed, and told so twice', :'first_failed'::boolean AND :'second_failed'::boolean AND :'second_outcome' = 'replay');
SELECT demo_saga.expect('99 books, 10 credit, no parcel for Bob',
    (SELECT pieces FROM demo_saga.stock) = 99 AND (SELECT credit FROM demo_saga.account WHERE customer = 'Bob') = 10 AND count(*) = 0)
  FROM demo_saga.parcel WHERE customer = 'Bob';

\if :{?crash}
\else
\echo
\echo '   The rest of this demo kills the server. If that is what you want: psql -v crash=yes -f sql/demo/11_saga.sql'
\quit
\endif
\echo
\echo '5. Three more orders of Ada''s. In each the server dies once: after the first step, after the second, and in the third.'
\echo '   The client knows nothing, and calls again: the saga goes on from the first step without an answer.'
-- The handler that stands where the server is to die kills it: the checkpointer, with kill -9, so that all start anew.
CREATE TABLE demo_saga.trap (key text, step text);
CREATE FUNCTION demo_saga.trip(x jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    victim text := (SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer');
BEGIN
    -- The trap must not be set again with the rollback that the crash is: a file remembers.
    IF EXISTS (SELECT FROM demo_saga.trap AS t WHERE t.key = x->>'key' AND t.step = x->>'step')
       AND NOT EXISTS (SELECT FROM pg_ls_dir('.') AS f WHERE f = 'demo_saga_' || (x->>'key')) THEN
        EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', 'touch demo_saga_' || (x->>'key') || '; kill -9 ' || victim);
        PERFORM pg_sleep(60);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION demo_saga.charge(x jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT demo_saga.trip(x);
  UPDATE demo_saga.account SET credit = credit - 25 WHERE customer = x->'request'->>'customer' RETURNING jsonb_build_object('paid', 25) $$;
CREATE OR REPLACE FUNCTION demo_saga.ship(x jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    parcel bigint;
BEGIN
    IF x->>'key' = 'order-4' THEN PERFORM demo_saga.trip(x); END IF;
    INSERT INTO demo_saga.parcel (customer, item) VALUES (x->'request'->>'customer', x->'request'->>'item') RETURNING id INTO parcel;
    PERFORM demo_saga.trip(x);
    RETURN jsonb_build_object('parcel', parcel);
END $$;
INSERT INTO demo_saga.trap VALUES ('order-3', 'payment'), ('order-4', 'shipping'), ('order-5', 'shipping');
COPY (SELECT WHERE false) TO PROGRAM 'rm -f demo_saga_order-3 demo_saga_order-4 demo_saga_order-5';
CHECKPOINT;
\! for n in 3 4 5; do psql -X -q -c "CALL idempotent_saga_run('demo_order', 'order-$n', '{\"customer\": \"Ada\", \"item\": \"book\"}')" >/dev/null 2>&1; for i in $(seq 600); do psql -X -q -c 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.1; done; done
\connect -
SET client_min_messages = warning;
\set ECHO queries
SELECT string_agg(key || ' at ' || step, ', ' ORDER BY key) AS stand FROM idempotent.sagas WHERE saga = 'demo_order' AND state = 'running'
\gset
\set ECHO none
\echo '   =>' :stand
SELECT demo_saga.expect('each stands where it was when the server died', :'stand' = 'order-3 at payment, order-4 at shipping, order-5 at shipping');
\set ECHO queries
CALL idempotent_saga_run('demo_order', 'order-3', '{"customer": "Ada", "item": "book"}')
\gset third_
CALL idempotent_saga_run('demo_order', 'order-4', '{"customer": "Ada", "item": "book"}')
\gset fourth_
CALL idempotent_saga_run('demo_order', 'order-5', '{"customer": "Ada", "item": "book"}')
\gset fifth_
\set ECHO none
\echo '   =>' :third_answers
\echo '   =>' :fourth_answers
\echo '   =>' :fifth_answers
SELECT demo_saga.expect('four orders of Ada''s: 96 books, 900 credit, four parcels',
    (SELECT pieces FROM demo_saga.stock) = 96 AND (SELECT credit FROM demo_saga.account WHERE customer = 'Ada') = 900 AND count(*) = 4) FROM demo_saga.parcel;
COPY (SELECT WHERE false) TO PROGRAM 'rm -f demo_saga_order-3 demo_saga_order-4 demo_saga_order-5';
\echo
