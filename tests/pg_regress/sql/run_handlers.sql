-- Handlers of every kind that idempotent_run may meet.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_handler_caller, regress_idempotent_handler_owner;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE SCHEMA handlers;
CREATE TABLE handlers.effect (what text);

-- 1. languages
CREATE FUNCTION handlers.in_sql(jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO handlers.effect VALUES ('sql'); SELECT jsonb_build_object('sql', $1) $$;
CREATE FUNCTION handlers.in_plpgsql(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO handlers.effect VALUES ('plpgsql'); RETURN jsonb_build_object('plpgsql', $1); END $$;
CREATE FUNCTION handlers.with_out(IN request jsonb, OUT response jsonb) LANGUAGE plpgsql AS $$
BEGIN response := jsonb_build_object('out', request); END $$;
CREATE FUNCTION handlers.with_set(jsonb) RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog SET work_mem = '1MB' AS $$
    SELECT to_jsonb(current_setting('search_path')) $$;
CREATE FUNCTION handlers.immutable(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT h, r.outcome, r.response, again.outcome, again.response
FROM unnest('{in_sql,in_plpgsql,with_out,with_set,immutable}'::text[]) AS h,
     LATERAL idempotent_run('run_handlers', 'language ' || h, '1', 'handlers.' || h) AS r,
     LATERAL idempotent_run('run_handlers', 'language ' || h, '1', 'handlers.' || h || '(jsonb)') AS again;
SELECT what, count(*) FROM handlers.effect GROUP BY what ORDER BY what;
SHOW search_path;
TRUNCATE handlers.effect;

-- 2. what is no handler: nothing is claimed
SELECT * FROM idempotent_run('run_handlers', 'no handler', '1', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM idempotent_run('run_handlers', 'no handler', '1', 'handlers.missing(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM idempotent_run('run_handlers', 'no handler', '1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM idempotent_run('run_handlers', 'no handler', '1', '-');
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION handlers.no_argument() RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION handlers.two_arguments(jsonb, jsonb = NULL) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION handlers.json_argument(json) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION handlers.returns_json(jsonb) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
CREATE FUNCTION handlers.returns_void(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION handlers.returns_set(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION handlers.variadic(VARIADIC jsonb[]) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION handlers.polymorphic(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION handlers.state(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $2';
CREATE AGGREGATE handlers.aggregate(jsonb) (SFUNC = handlers.state, STYPE = jsonb);
CREATE PROCEDURE handlers.procedure(jsonb) LANGUAGE sql AS '';
CREATE PROCEDURE handlers.inout(INOUT jsonb) LANGUAGE sql AS 'SELECT $1';
SELECT * FROM idempotent_run('run_handlers', 'no handler', '1', 'handlers.no_argument()');
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION pg_temp.refusal(handler text, key text = 'no handler', request jsonb = '1') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_run('run_handlers', key, request, handler);
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT h, pg_temp.refusal(h), pg_temp.refusal(h::regprocedure::oid::text) FROM unnest('{handlers.no_argument(), "handlers.two_arguments(jsonb,jsonb)", handlers.json_argument(json), handlers.returns_json(jsonb),
    handlers.returns_void(jsonb), handlers.returns_set(jsonb), handlers.variadic(jsonb[]), handlers.polymorphic(anyelement), handlers.aggregate(jsonb),
    handlers.procedure(jsonb), handlers.inout(jsonb)}'::text[]) AS h;
SELECT outcome FROM idempotent_replay('run_handlers', 'no handler');

-- 3. a strict handler would not be called for null
CREATE FUNCTION handlers.strict(jsonb) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT '"called"'::jsonb $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'strict', NULL, 'handlers.strict(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('run_handlers', 'strict');
SELECT outcome, response FROM idempotent_run('run_handlers', 'strict', 'null', 'handlers.strict(jsonb)');

-- 4. one that raises: its error comes whole, nothing is stored, the key is free
CREATE FUNCTION handlers.raises(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO handlers.effect VALUES ('raises');
    RAISE EXCEPTION 'card % declined', $1 USING ERRCODE = 'CC402', DETAIL = 'the detail', HINT = 'the hint',
        COLUMN = 'a_column', CONSTRAINT = 'a_constraint', DATATYPE = 'a_type', TABLE = 'a_table', SCHEMA = 'a_schema';
END $$;
\set SHOW_CONTEXT errors
SELECT * FROM idempotent_run('run_handlers', 'raises', '4242', 'handlers.raises(jsonb)');
\echo :LAST_ERROR_SQLSTATE
\set SHOW_CONTEXT never
DO $$
DECLARE
    column_ text; constraint_ text; type_ text; table_ text; schema_ text; message_ text; detail_ text; hint_ text; context_ text;
BEGIN
    PERFORM idempotent_run('run_handlers', 'raises', '4242', 'handlers.raises(jsonb)');
EXCEPTION WHEN SQLSTATE 'CC402' THEN
    GET STACKED DIAGNOSTICS column_ = COLUMN_NAME, constraint_ = CONSTRAINT_NAME, type_ = PG_DATATYPE_NAME, table_ = TABLE_NAME, schema_ = SCHEMA_NAME,
        message_ = MESSAGE_TEXT, detail_ = PG_EXCEPTION_DETAIL, hint_ = PG_EXCEPTION_HINT, context_ = PG_EXCEPTION_CONTEXT;
    RAISE INFO '% | % | % | % | % | % | % | %', message_, detail_, hint_, column_, constraint_, type_, table_, schema_;
    RAISE INFO '%', context_;
END $$;
SELECT outcome FROM idempotent_replay('run_handlers', 'raises');
SELECT count(*) FROM handlers.effect;
SELECT outcome, response FROM idempotent_run('run_handlers', 'raises', '4242', 'handlers.immutable(jsonb)');
-- errors of Postgres itself
CREATE FUNCTION handlers.divides(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1 / ($1::text::integer))';
\set SHOW_CONTEXT errors
SELECT outcome, response FROM idempotent_run('run_handlers', 'divides', '0', 'handlers.divides(jsonb)');
\set SHOW_CONTEXT never
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION handlers.recurses(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN handlers.recurses($1); END';
\set VERBOSITY sqlstate
SELECT outcome FROM idempotent_run('run_handlers', 'recurses', '0', 'handlers.recurses(jsonb)');
\set VERBOSITY default
SELECT outcome, response FROM idempotent_run('run_handlers', 'divides', '1', 'handlers.divides(jsonb)');
-- a timeout
CREATE FUNCTION handlers.hangs(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN LOOP END LOOP; END';
SET statement_timeout = '50ms';
SELECT outcome FROM idempotent_run('run_handlers', 'hangs', '0', 'handlers.hangs(jsonb)');
\echo :LAST_ERROR_SQLSTATE
RESET statement_timeout;
SELECT outcome FROM idempotent_run('run_handlers', 'hangs', '0', 'handlers.immutable(jsonb)');
-- an error that the handler catches itself is no error
CREATE FUNCTION handlers.catches(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO handlers.effect VALUES ('kept');
    BEGIN
        INSERT INTO handlers.effect VALUES ('undone');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        RETURN '"caught"';
    END;
END $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'catches', '0', 'handlers.catches(jsonb)');
SELECT what FROM handlers.effect;

-- 5. one that re-enters its own key by run is refused, also through another function
CREATE FUNCTION handlers.re_enters(jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT response FROM idempotent_run('run_handlers', 're-enters', $1, 'handlers.re_enters(jsonb)') $$;
SELECT outcome FROM idempotent_run('run_handlers', 're-enters', '1', 'handlers.re_enters(jsonb)');
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION handlers.ping(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN (idempotent_run('run_handlers', 'pong', $1, 'handlers.pong(jsonb)')).response; END $$;
CREATE FUNCTION handlers.pong(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN RETURN (idempotent_run('run_handlers', 'ping', $1, 'handlers.ping(jsonb)')).response; END $$;
SELECT outcome FROM idempotent_run('run_handlers', 'ping', '1', 'handlers.ping(jsonb)');
\echo :LAST_ERROR_SQLSTATE
-- also when it swallows the refusal: then it just goes on
CREATE FUNCTION handlers.swallows(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_run('run_handlers', 'swallows', $1, 'handlers.swallows(jsonb)');
    RETURN '"never"';
EXCEPTION WHEN object_in_use THEN
    INSERT INTO handlers.effect VALUES ('swallows');
    RETURN '"went on"';
END $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'swallows', '1', 'handlers.swallows(jsonb)');
SELECT outcome, response FROM idempotent_run('run_handlers', 'swallows', '1', 'handlers.swallows(jsonb)');
-- after all these errors the keys can still be run in this session
SELECT outcome, response FROM idempotent_run('run_handlers', 're-enters', '1', 'handlers.immutable(jsonb)');
SELECT outcome, response FROM idempotent_run('run_handlers', 'ping', '1', 'handlers.immutable(jsonb)');
-- asking for the own key by claim: it is the handler's already
CREATE FUNCTION handlers.asks(jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('claim', (SELECT outcome FROM idempotent_claim('run_handlers', 'asks', $1)), 'other request', (SELECT outcome FROM idempotent_claim('run_handlers', 'asks', '2')),
        'replay', (SELECT outcome FROM idempotent_replay('run_handlers', 'asks'))) $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'asks', '1', 'handlers.asks(jsonb)');

-- 6. one that claims or runs another key: both commit together, or neither
CREATE FUNCTION handlers.nests(jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('inner', response) FROM idempotent_run('run_handlers', 'inner', $1, 'handlers.in_sql(jsonb)') $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'outer', '1', 'handlers.nests(jsonb)');
SELECT outcome, response FROM idempotent_replay('run_handlers', 'inner');
CREATE FUNCTION handlers.claims(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(outcome) FROM idempotent_claim('run_handlers', 'claimed by a handler', $1) $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'claims', '1', 'handlers.claims(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('run_handlers', 'claims');
BEGIN;
SELECT outcome, response FROM idempotent_run('run_handlers', 'claims', '1', 'handlers.claims(jsonb)');
SELECT idempotent_complete('run_handlers', 'claimed by a handler');
COMMIT;

-- 7. one that ends the transaction
CREATE FUNCTION handlers.commits(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO handlers.effect VALUES ('commits'); COMMIT; RETURN $1; END $$;
SELECT outcome FROM idempotent_run('run_handlers', 'commits', '1', 'handlers.commits(jsonb)');
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION handlers.rolls_back(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; RETURN $1; END $$;
SELECT outcome FROM idempotent_run('run_handlers', 'commits', '1', 'handlers.rolls_back(jsonb)');
\echo :LAST_ERROR_SQLSTATE
-- also where COMMIT would be allowed around it
DO $$ BEGIN PERFORM idempotent_run('run_handlers', 'commits', '1', 'handlers.commits(jsonb)'); END $$;
\echo :LAST_ERROR_SQLSTATE
CREATE PROCEDURE handlers.caller() LANGUAGE plpgsql AS $$ BEGIN PERFORM idempotent_run('run_handlers', 'commits', '1', 'handlers.commits(jsonb)'); END $$;
CALL handlers.caller();
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('run_handlers', 'commits');

-- 8. one that completes, fails or releases its key itself
CREATE FUNCTION handlers.completes(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT idempotent_complete('run_handlers', 'completes', '"its own"', 201, headers => '{"h": 1}', body => '\x01') $$;
SELECT outcome, failed, status, headers, response, body FROM idempotent_run('run_handlers', 'completes', '1', 'handlers.completes(jsonb)');
SELECT outcome, failed, status, headers, response, body FROM idempotent_run('run_handlers', 'completes', '1', 'handlers.completes(jsonb)');
CREATE FUNCTION handlers.fails(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT idempotent_fail('run_handlers', 'fails', '"declined"', 402) $$;
SELECT outcome, failed, status, response FROM idempotent_run('run_handlers', 'fails', '1', 'handlers.fails(jsonb)');
SELECT outcome, failed, status, response FROM idempotent_run('run_handlers', 'fails', '1', 'handlers.fails(jsonb)');
-- what it stored is the answer, whatever it returns
CREATE FUNCTION handlers.says_otherwise(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM idempotent_complete('run_handlers', 'says otherwise', '"stored"'); RETURN '"returned"'; END $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'says otherwise', '1', 'handlers.says_otherwise(jsonb)');
SELECT outcome, response FROM idempotent_run('run_handlers', 'says otherwise', '1', 'handlers.says_otherwise(jsonb)');
CREATE FUNCTION handlers.releases(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM idempotent_release('run_handlers', 'releases'); RETURN '"nothing to do"'; END $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'releases', '1', 'handlers.releases(jsonb)');
SELECT outcome FROM idempotent_replay('run_handlers', 'releases');
SELECT outcome, response FROM idempotent_run('run_handlers', 'releases', '2', 'handlers.releases(jsonb)');

-- 9. rights: the caller's, but those of its owner for SECURITY DEFINER
CREATE ROLE regress_idempotent_handler_caller;
CREATE ROLE regress_idempotent_handler_owner;
SELECT idempotent_grant('regress_idempotent_handler_caller');
GRANT USAGE ON SCHEMA handlers TO regress_idempotent_handler_caller;
CREATE FUNCTION handlers.who(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
CREATE FUNCTION handlers.who_defines(jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT to_jsonb(current_user)';
ALTER FUNCTION handlers.who_defines(jsonb) OWNER TO regress_idempotent_handler_owner;
CREATE FUNCTION handlers.secret(jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT $1';
REVOKE EXECUTE ON FUNCTION handlers.secret(jsonb) FROM PUBLIC;
SET ROLE regress_idempotent_handler_caller;
SELECT outcome, response FROM idempotent_run('run_handlers', 'who', '1', 'handlers.who(jsonb)');
SELECT outcome, response FROM idempotent_run('run_handlers', 'who defines', '1', 'handlers.who_defines(jsonb)');
SELECT current_user;
SELECT outcome FROM idempotent_run('run_handlers', 'secret', '1', 'handlers.secret(jsonb)');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('run_handlers', 'secret');
-- not even to be told what the key's answer is
SELECT outcome FROM idempotent_run('run_handlers', 'who', '1', 'handlers.secret(jsonb)');
\echo :LAST_ERROR_SQLSTATE
-- the handler's own statements are checked too
SELECT outcome FROM idempotent_run('run_handlers', 'no insert', '1', 'handlers.in_sql(jsonb)');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT outcome FROM idempotent_run('run_handlers', 'secret', '1', 'handlers.secret(jsonb)');
-- a schema that is closed to the caller stays closed, though an OID is found without it
REVOKE USAGE ON SCHEMA handlers FROM regress_idempotent_handler_caller;
SELECT 'handlers.who_defines(jsonb)'::regprocedure::oid AS closed \gset
SET ROLE regress_idempotent_handler_caller;
SELECT outcome FROM idempotent_run('run_handlers', 'closed', '1', :'closed');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('run_handlers', 'closed');
RESET ROLE;

-- 10. one that is replaced or dropped between calls
CREATE FUNCTION handlers.changes(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"old"'::jsonb $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'changes 1', '1', 'handlers.changes(jsonb)');
CREATE OR REPLACE FUNCTION handlers.changes(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"new"'::jsonb $$;
SELECT outcome, response FROM idempotent_run('run_handlers', 'changes 2', '1', 'handlers.changes(jsonb)');
SELECT outcome, response FROM idempotent_run('run_handlers', 'changes 1', '1', 'handlers.changes(jsonb)');
SELECT 'handlers.changes(jsonb)'::regprocedure::oid AS gone \gset
DROP FUNCTION handlers.changes(jsonb);
\set VERBOSITY sqlstate
SELECT outcome, response FROM idempotent_run('run_handlers', 'changes 3', '1', :'gone');
\set VERBOSITY default

-- 11. how one is named: by itself, with its schema, its argument, its OID; in the caller's search_path, as it is at each call
CREATE SCHEMA "Other.Handlers";
CREATE FUNCTION handlers.named(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"handlers"'::jsonb $$;
CREATE FUNCTION handlers.named(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"two"'::jsonb $$;
CREATE FUNCTION handlers.named(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"text"'::jsonb $$;
CREATE FUNCTION "Other.Handlers".named(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"other"'::jsonb $$;
CREATE FUNCTION pg_temp.ran(handler text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (idempotent_run('run_handlers', idempotent_new_key(), '1', handler)).response;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT pg_temp.ran('named'), pg_temp.ran('handlers.named'), pg_temp.ran(' Handlers . NAMED ( jsonb ) '), pg_temp.ran('"Other.Handlers"."named"'),
       pg_temp.ran('handlers.named(jsonb)'::regprocedure::oid::text);
SET search_path = handlers, public;
SELECT pg_temp.ran('named'), pg_temp.ran('named(jsonb)'), pg_temp.ran('"Named"');
SET search_path = "Other.Handlers", handlers, public;
SELECT pg_temp.ran('named'), pg_temp.ran('named(JSONB)');
DROP FUNCTION named(jsonb);
SELECT pg_temp.ran('named');
CREATE FUNCTION "Other.Handlers".named(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"again"'::jsonb $$;
SELECT pg_temp.ran('named');
ALTER FUNCTION named(jsonb) RENAME TO renamed;
SELECT pg_temp.ran('named'), pg_temp.ran('renamed');
RESET search_path;
-- what is no name, or no function's
SELECT name, pg_temp.ran(name) FROM unnest('{"",".",handlers.,"a b","\"",a.b.c,1a,4294967296,0,nowhere.named,handlers.missing,handlers.named(text),)}'::text[]) AS name;
-- a function that is not the caller's to see through the search_path
GRANT USAGE ON SCHEMA handlers TO regress_idempotent_handler_caller;
SET search_path = "Other.Handlers", handlers, public;
GRANT SELECT ON TABLE handlers.effect TO regress_idempotent_handler_caller;
SET ROLE regress_idempotent_handler_caller;
SELECT response FROM idempotent_run('run_handlers', 'path', '1', 'named');
SELECT response FROM idempotent_run('run_handlers', 'path 2', '1', '"Other.Handlers".renamed');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA "Other.Handlers" CASCADE;
RESET client_min_messages;

SELECT idempotent_revoke('regress_idempotent_handler_caller');
SET client_min_messages = warning;
DROP SCHEMA handlers CASCADE;
DROP OWNED BY regress_idempotent_handler_caller, regress_idempotent_handler_owner;
DROP ROLE regress_idempotent_handler_caller, regress_idempotent_handler_owner;
