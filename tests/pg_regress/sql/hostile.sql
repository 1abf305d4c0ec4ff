-- Hostile objects in the caller's search_path change nothing: each of them would say so.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_victim;
CREATE ROLE regress_idempotent_victim;
CREATE SCHEMA evil;
-- functions named like ours, like those of pg_catalog that are called, and those behind the operators
DO $$
DECLARE t text; o text;
BEGIN
    FOREACH t IN ARRAY '{text,name,oid,integer,bigint,smallint,boolean,uuid,interval,"timestamp with time zone",jsonb,bytea,regrole,"\"char\"","text[]","name[]",regclass,int2}'::text[] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION evil.operate(%s, %s) RETURNS boolean LANGUAGE plpgsql AS ''BEGIN RAISE EXCEPTION ''''hijacked by an operator''''; END''', t, t);
        FOREACH o IN ARRAY '{=,<>,<,>,<=,>=,+,-,||,->,->>,@>,~}'::text[] LOOP
            BEGIN
                EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.operate)', o, t, t);
            EXCEPTION WHEN duplicate_function THEN NULL;
            END;
        END LOOP;
    END LOOP;
    FOR t IN SELECT regexp_split_to_table('quote_ident(name);quote_ident(text);current_database();clock_timestamp();now();nextval(regclass);pg_identify_object(oid, oid, integer);hashtext(text);format_type(oid, integer);sha256(bytea);octet_length(text);convert_to(text, name);pg_has_role(name, text);idempotent_claim(text, text);idempotent_complete(text, text, jsonb);idempotent_replay(text, text);idempotent_new_key()', ';') LOOP
        EXECUTE format('CREATE FUNCTION evil.%s RETURNS text LANGUAGE plpgsql AS ''BEGIN RAISE EXCEPTION ''''hijacked by a function''''; END''', t);
    END LOOP;
END $$;
-- an equality of its own for comparisons across types
CREATE FUNCTION evil.operate(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked by an operator''; END';
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = evil.operate);
CREATE FUNCTION evil.operate(name, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked by an operator''; END';
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.operate);
-- tables, a sequence and types named like ours and like the catalogs
CREATE TABLE evil.record (record_id uuid, outcome text DEFAULT 'hijacked');
CREATE TABLE evil.record_logged (LIKE evil.record);
CREATE TABLE evil.operation (name text, role text, durability text);
CREATE SEQUENCE evil.fence INCREMENT -1;
CREATE TYPE evil.idempotent_result AS (outcome text);
CREATE TABLE evil.pg_locks (pid text, locktype text, granted boolean, database text, classid text, objid text, objsubid text);
CREATE TABLE evil.pg_roles (oid text, rolname text);
CREATE TABLE evil.pg_extension (oid text, extname text, extnamespace text);
CREATE TABLE evil.pg_namespace (oid text, nspname text);
CREATE TABLE evil.pg_depend (x text);
CREATE TABLE evil.pg_proc (x text);
CREATE TABLE evil.pg_type (x text);
CREATE TABLE evil.pg_database (oid text, datname text);
CREATE TYPE evil.text AS (hijacked int);
CREATE TYPE evil.jsonb AS (hijacked int);
CREATE TYPE evil.int2 AS (hijacked int);
CREATE TYPE evil.regclass AS (hijacked int);
GRANT ALL ON SCHEMA evil TO regress_idempotent_victim;
GRANT ALL ON ALL TABLES IN SCHEMA evil TO regress_idempotent_victim;
SELECT idempotent_grant('regress_idempotent_victim');
GRANT EXECUTE ON FUNCTION idempotent_operation, idempotent_grant, idempotent_revoke TO regress_idempotent_victim;
-- handlers are the caller's own and see the caller's search_path
CREATE FUNCTION evil.work(pg_catalog.jsonb) RETURNS pg_catalog.jsonb LANGUAGE sql AS $$ SELECT pg_catalog.to_jsonb(pg_catalog.current_setting('search_path')) $$;
CREATE FUNCTION evil.raises(pg_catalog.jsonb) RETURNS pg_catalog.jsonb LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''as it should''; END';
RESET client_min_messages;
\set SHOW_CONTEXT never

SET ROLE regress_idempotent_victim;
-- temporary ones too, which come first of all unless somebody says otherwise
CREATE TEMPORARY TABLE record (record_id uuid);
CREATE TEMPORARY TABLE record_logged (record_id uuid);
CREATE TEMPORARY TABLE operation (name text);
CREATE TEMPORARY TABLE pg_roles (oid text, rolname text);
CREATE TEMPORARY TABLE pg_extension (oid text);
CREATE TEMPORARY TABLE pg_depend (x text);
CREATE TEMPORARY TABLE pg_locks (pid text);
CREATE TEMPORARY SEQUENCE fence INCREMENT -1;
CREATE TYPE pg_temp.idempotent_result AS (outcome text);
SELECT pg_catalog.set_config('search_path', 'pg_temp, evil, pg_catalog, public', false);
-- the trap works
SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text;
SELECT now();
SELECT * FROM record;
SELECT nextval('fence');
SELECT idempotent_claim('hostile'::pg_catalog.text, 'k1');

-- and none of these falls into it
BEGIN;
SELECT outcome FROM public.idempotent_claim('hostile', 'k1', '{"a": 1, "b": [1.0]}', 'scope');
SELECT outcome FROM public.idempotent_claim('hostile', 'k1', '{"a": 1, "b": [1.0]}', 'scope');
SELECT outcome FROM public.idempotent_claim('hostile', 'k1', '{"a": 2}', 'scope');
SELECT public.idempotent_complete('hostile', 'k1', '{"c": 1.0}', 200, 'scope', headers => '{"h": 1}', body => '\x01', retention => '1 day');
SELECT public.idempotent_complete('hostile', 'k1', '{"c": 1.00}', 200, 'scope', headers => '{"h": 1}', body => '\x01', retention => '1 day');
COMMIT;
SELECT outcome, status, headers, response, body FROM public.idempotent_claim('hostile', 'k1', '{"a": 1, "b": [1]}', 'scope');
SELECT outcome, response FROM public.idempotent_replay('hostile', 'k1', 'scope');
SELECT fence FROM public.idempotent_claim('hostile', 'k2', lease => '1 hour') \gset
SELECT :fence OPERATOR(pg_catalog.>) 0 AS a_fence_of_ours;
SELECT public.idempotent_extend('hostile', 'k2', '2 hours', fence => :fence) IS NOT NULL AS extended;
SELECT public.idempotent_checkpoint('hostile', 'k2', '1', fence => :fence);
SELECT public.idempotent_fail('hostile', 'k2', '"no"', fence => :fence);
SELECT fence FROM public.idempotent_claim('hostile', 'k3', lease => '1 hour') \gset
SELECT public.idempotent_release('hostile', 'k3', fence => :fence);
SELECT public.idempotent_explain('hostile', 'k1', 'scope') OPERATOR(pg_catalog.->>) 'outcome' AS explained;
BEGIN;
SELECT outcome FROM public.idempotent_claim('hostile', 'k4');
SELECT public.idempotent_explain('hostile', 'k4') OPERATOR(pg_catalog.->>) 'because' AS explained;
ROLLBACK;
SELECT outcome, response FROM public.idempotent_run('hostile', 'k5', '1', 'evil.work(pg_catalog.jsonb)');
SELECT outcome, response FROM public.idempotent_run('hostile', 'k5', '1', 'evil.work(pg_catalog.jsonb)');
SELECT * FROM public.idempotent_operation('hostile', '7 days', '1 hour', '1 day', '30 seconds', '5 seconds', 'logged', 'unknown', 2000000, true, '{sent_at,/meta/trace}', '{P0001,23}', 'execute', 'enforce', 'ignore', 'regress_idempotent_victim');
SELECT outcome, response FROM public.idempotent_replay('hostile', 'k1', 'scope');
SELECT outcome, failed, response FROM public.idempotent_run('hostile', 'k6', '1', 'evil.raises(pg_catalog.jsonb)', 'scope');
SELECT durability FROM public.idempotent_operation('hostile', durability => 'unlogged', role => '-');
SELECT outcome, failed, response FROM public.idempotent_run('hostile', 'k6', '1', 'evil.raises(pg_catalog.jsonb)', 'scope');
SELECT public.idempotent_grant('regress_idempotent_victim');
SELECT public.idempotent_revoke('pg_monitor');
SELECT pg_catalog.length(public.idempotent_new_key()), pg_catalog.length(public.idempotent_request_key('{"a": 1}')), public.idempotent_derive_key('charge', 'k1', 'card'), public.idempotent_slot('k1'), public.idempotent_shard('k1', 7);
SELECT outcome, pg_catalog.count(*) FROM pg_catalog.generate_series(1, 200) AS n, public.idempotent_replay('hostile', 'k' OPERATOR(pg_catalog.||) n::pg_catalog.text, 'scope') GROUP BY outcome;
-- the guard
SELECT outcome FROM public.idempotent_claim('hostile guard', 'forgotten');
\echo :LAST_ERROR_SQLSTATE
SELECT pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.~~) 'pg_temp, evil, pg_catalog%' AS search_path_as_it_was;
RESET search_path;
RESET ROLE;

-- installed into a schema that is full of them
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_idempotent_hostile;
CREATE DATABASE regress_idempotent_hostile TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\set home :DBNAME
\c regress_idempotent_hostile
SET client_min_messages = warning;
CREATE SCHEMA evil;
CREATE FUNCTION evil.operate(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked by an operator''; END';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.operate);
CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.operate);
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked by a function''; END';
CREATE FUNCTION evil.pg_extension_config_dump(regclass, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked by a function''; END';
CREATE TYPE evil.interval AS (hijacked int);
CREATE DOMAIN evil.jsonb AS text;
CREATE TABLE evil.record (x int);
CREATE EXTENSION pg_idempotent SCHEMA evil;
SELECT length(evil.idempotent_new_key());
SELECT durability FROM evil.idempotent_operation('o', durability => 'logged');
SELECT outcome FROM evil.idempotent_claim('o', 'k', '1', lease => '1 hour');
SELECT pg_typeof((evil.idempotent_replay('o', 'k')).response), pg_typeof((evil.idempotent_replay('o', 'k')).retry_after);
-- what is there already is not taken over
DROP EXTENSION pg_idempotent;
CREATE FUNCTION evil.idempotent_replay(operation text, key text, scope text = '') RETURNS text LANGUAGE sql AS 'SELECT ''hijacked''';
CREATE EXTENSION pg_idempotent SCHEMA evil;
\echo :LAST_ERROR_SQLSTATE
DROP FUNCTION evil.idempotent_replay;
CREATE SCHEMA idempotent;
CREATE TABLE idempotent.record (x int);
CREATE EXTENSION pg_idempotent SCHEMA public;
\echo :LAST_ERROR_SQLSTATE
\c :home
DROP DATABASE regress_idempotent_hostile;
SET client_min_messages = warning;
SELECT idempotent_forget_all('hostile') > 0 AS forgotten, idempotent_operation_drop('hostile') AS dropped;
DROP SCHEMA evil CASCADE;
DROP OWNED BY regress_idempotent_victim;
DROP ROLE regress_idempotent_victim;
