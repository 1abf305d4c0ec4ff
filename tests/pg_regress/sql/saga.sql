-- Sagas: steps that commit one by one, each once, and are undone when a later one fails for good.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- What each handler was given is written down: a row per effect.
CREATE TABLE saga_effect (number bigint GENERATED ALWAYS AS IDENTITY, what text, given jsonb);
CREATE FUNCTION saga_note(what text, given jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO saga_effect (what, given) VALUES (what, given) RETURNING to_jsonb(what || ' done') $$;
CREATE FUNCTION saga_reserve(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT saga_note('reserve', given) $$;
CREATE FUNCTION saga_unreserve(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT saga_note('unreserve', given) $$;
CREATE FUNCTION saga_pay(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM saga_note('pay', given);
    IF given->'request'->>'card' = 'declined' THEN
        RAISE EXCEPTION 'card declined' USING ERRCODE = 'P0001';
    ELSIF given->'request'->>'card' = 'busy' THEN
        RAISE EXCEPTION 'try later' USING ERRCODE = '55P03';
    END IF;
    RETURN '{"paid": true}';
END $$;
CREATE FUNCTION saga_refund(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT saga_note('refund', given) $$;
CREATE FUNCTION saga_ship(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM saga_note('ship', given);
    IF given->'request'->>'to' = 'nowhere' THEN
        RAISE EXCEPTION 'no such place' USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
SELECT name, steps FROM idempotent_saga('order', '[
    {"name": "inventory", "handler": "public.saga_reserve(jsonb)", "compensation": "public.saga_unreserve(jsonb)"},
    {"name": "payment", "handler": "public.saga_pay(jsonb)", "compensation": "public.saga_refund(jsonb)", "final": ["P0001"]},
    {"name": "shipping", "handler": "public.saga_ship(jsonb)", "final": ["23"]}]');

-- all is well: every step runs once, and sees the request and the answers so far
CALL idempotent_saga_run('order', 'o-1', '{"card": "good"}');
SELECT what, given FROM saga_effect ORDER BY number;
CALL idempotent_saga_run('order', 'o-1', '{"card": "good"}');
CALL idempotent_saga_run('order', 'o-1', '{"card": "other"}');
CALL idempotent_saga_run('order', 'o-1');
SELECT count(*) FROM saga_effect;
SELECT saga, scope, key, state, step, done, steps, failed_step, sqlstate, expires_at - changed_at AS kept FROM idempotent.sagas;
-- another scope is another saga; so is another saga
CALL idempotent_saga_run('order', 'o-1', '{"card": "good"}', 'tenant-7');
TRUNCATE saga_effect;

-- a step that fails for good: what it did is undone, and so are the steps before it, last first, and once
CALL idempotent_saga_run('order', 'o-2', '{"card": "declined"}');
SELECT what, given FROM saga_effect ORDER BY number;
CALL idempotent_saga_run('order', 'o-2', '{"card": "declined"}');
SELECT count(*) FROM saga_effect;
SELECT state, step, done, steps, failed_step, sqlstate, expires_at - changed_at AS kept FROM idempotent.sagas WHERE key = 'o-2';
TRUNCATE saga_effect;
CALL idempotent_saga_run('order', 'o-3', '{"card": "good", "to": "nowhere"}');
SELECT what, given->'answer' AS answer, given->'failure' AS failure FROM saga_effect ORDER BY number;
TRUNCATE saga_effect;
-- the first one fails: there is nothing to undo
SELECT name FROM idempotent_saga('short', '[{"name": "only", "handler": "public.saga_pay(jsonb)", "compensation": "public.saga_refund(jsonb)", "final": ["P0001"]}]');
CALL idempotent_saga_run('short', 'k', '{"card": "declined"}');
SELECT what FROM saga_effect ORDER BY number;

-- an error that is not final: it comes out as it is, the steps before it are kept, and the next call goes on
CALL idempotent_saga_run('order', 'o-4', '{"card": "busy"}');
\echo :LAST_ERROR_SQLSTATE
SELECT what FROM saga_effect ORDER BY number;
SELECT state, step, done, steps FROM idempotent.sagas WHERE key = 'o-4';
CREATE OR REPLACE FUNCTION saga_pay(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM saga_note('pay', given);
    IF given->'request'->>'card' = 'declined' THEN RAISE EXCEPTION 'card declined' USING ERRCODE = 'P0001'; END IF;
    RETURN '{"paid": true}';
END $$;
CALL idempotent_saga_run('order', 'o-4', '{"card": "busy"}');
SELECT what FROM saga_effect ORDER BY number;
TRUNCATE saga_effect;
-- so is a compensation that fails: it is tried again by the next call
CREATE OR REPLACE FUNCTION saga_unreserve(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'P0001'; END $$;
CALL idempotent_saga_run('order', 'o-5', '{"card": "declined"}');
\echo :LAST_ERROR_SQLSTATE
SELECT state, step, done, failed_step FROM idempotent.sagas WHERE key = 'o-5';
CREATE OR REPLACE FUNCTION saga_unreserve(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT saga_note('unreserve', given) $$;
CALL idempotent_saga_run('order', 'o-5', '{"card": "declined"}');
SELECT what FROM saga_effect ORDER BY number;
TRUNCATE saga_effect;
-- store_failures of the operation of the saga's name count for all its steps; its retentions are the saga's
SELECT name FROM idempotent_operation('short', store_failures => '{22012}', retention => '1 hour', failure_retention => '1 minute');
CREATE FUNCTION saga_divide(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(1 / (given->>'request')::integer) $$;
SELECT name FROM idempotent_saga('short', '[{"name": "divide", "handler": "public.saga_divide(jsonb)"}]');
CALL idempotent_saga_run('short', 'zero', '0');
CALL idempotent_saga_run('short', 'one', '1');
SELECT key, state, expires_at - changed_at AS kept FROM idempotent.sagas WHERE saga = 'short' AND key <> 'k' ORDER BY key;
-- what has expired counts as absent, and goes
UPDATE idempotent.saga_run SET expires_at = clock_timestamp() WHERE saga = 'short';
CALL idempotent_saga_run('short', 'one', '1');
SELECT idempotent_sweep() > 0 AS swept;
SELECT key FROM idempotent.sagas WHERE saga = 'short' ORDER BY key;
-- a saga that is defined anew: what has started goes on as it started
CREATE OR REPLACE FUNCTION saga_ship(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no truck' USING ERRCODE = '55000'; END $$;
CALL idempotent_saga_run('order', 'o-6', '{"card": "good"}');
SELECT jsonb_array_length(steps) AS steps FROM idempotent_saga('order', '[{"name": "pay", "handler": "public.saga_pay(jsonb)"}]');
CREATE OR REPLACE FUNCTION saga_ship(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT saga_note('ship', given) $$;
CALL idempotent_saga_run('order', 'o-6', '{"card": "good"}');
CALL idempotent_saga_run('order', 'o-7', '{"card": "good"}');
TRUNCATE saga_effect;

-- inside a transaction it could not commit its steps
BEGIN;
CALL idempotent_saga_run('order', 'o-8', '{"card": "good"}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
CREATE FUNCTION saga_inside() RETURNS void LANGUAGE plpgsql AS $$ DECLARE o text; f boolean; a jsonb; e jsonb; BEGIN CALL idempotent_saga_run('order', 'o-8', '{"card": "good"}', '', NULL, o, f, a, e); END $$;
SELECT saga_inside();
\echo :LAST_ERROR_SQLSTATE
DO $$ DECLARE o text; f boolean; a jsonb; e jsonb; BEGIN CALL idempotent_saga_run('order', 'o-8', '{"card": "good"}', '', NULL, o, f, a, e); RAISE NOTICE '% % %', o, f, a; END $$;
SELECT what FROM saga_effect ORDER BY number;
-- a claim that a handler leaves open does not commit
CREATE FUNCTION saga_forgets(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(outcome) FROM idempotent_claim('forgetful', 'k') $$;
SELECT name FROM idempotent_saga('forgetful', '[{"name": "forget", "handler": "public.saga_forgets(jsonb)"}]');
CALL idempotent_saga_run('forgetful', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM idempotent.sagas WHERE saga = 'forgetful';
-- names that a search_path could change: the handlers are those that were defined
CREATE SCHEMA saga_hostile;
CREATE FUNCTION saga_hostile.saga_pay(given jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"hostile"'::jsonb $$;
CREATE FUNCTION saga_hostile.wrong(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT NULL::boolean';
CREATE OPERATOR saga_hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = saga_hostile.wrong);
SET search_path = saga_hostile, pg_catalog, public;
CALL public.idempotent_saga_run('order', 'o-9', '{"card": "good"}');
CALL public.idempotent_saga_run('order', 'o-9', '{"card": "good"}');
RESET search_path;
DROP SCHEMA saga_hostile CASCADE;

-- what breaks the rules
SELECT idempotent_saga('order', NULL);
SELECT idempotent_saga('order', '{}');
SELECT idempotent_saga('order', '[]');
SELECT idempotent_saga('order', '[1]');
SELECT idempotent_saga('order', '[{"name": "a"}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "saga_pay(jsonb)"}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_note(text, jsonb)"}]');
SELECT idempotent_saga('order', '[{"name": "", "handler": "public.saga_pay(jsonb)"}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_pay(jsonb)"}, {"name": "a", "handler": "public.saga_pay(jsonb)"}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_pay(jsonb)", "undo": 1}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_pay(jsonb)", "final": ["40001"]}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_pay(jsonb)", "final": ["card"]}]');
SELECT idempotent_saga('order', '[{"name": "a", "handler": "public.saga_pay(jsonb)", "final": "23"}]');
SELECT idempotent_saga('', '[{"name": "a", "handler": "public.saga_pay(jsonb)"}]');
\echo :LAST_ERROR_SQLSTATE
SELECT jsonb_array_length(steps) AS steps FROM idempotent.saga WHERE name = 'order';
CALL idempotent_saga_run('nothing', 'k');
\echo :LAST_ERROR_SQLSTATE
CALL idempotent_saga_run('order', '');
CALL idempotent_saga_run('order', 'k', scope => NULL);
CALL idempotent_saga_run(NULL, 'k');
CALL idempotent_saga_run('order', 'k', wait => '-1 second');

-- handlers run with the caller's rights
CREATE ROLE regress_idempotent_orderer;
SELECT idempotent_grant('regress_idempotent_orderer');
CREATE FUNCTION saga_who(given jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
REVOKE EXECUTE ON FUNCTION saga_pay(jsonb) FROM PUBLIC;
SELECT name FROM idempotent_saga('who', '[{"name": "who", "handler": "public.saga_who(jsonb)"}]');
SET ROLE regress_idempotent_orderer;
CALL idempotent_saga_run('who', 'k');
CALL idempotent_saga_run('order', 'o-10');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga('who', '[]');
SELECT count(*) FROM idempotent.sagas;
RESET ROLE;
SET ROLE pg_monitor;
SELECT count(*) > 0 AS seen FROM idempotent.sagas;
SELECT count(*) FROM idempotent.saga_run;
RESET ROLE;
-- the operation of the saga's name says whose it is, and whether it demands a scope
CREATE ROLE regress_idempotent_clerk;
SELECT name FROM idempotent_operation('who', role => 'regress_idempotent_clerk');
SET ROLE regress_idempotent_orderer;
CALL idempotent_saga_run('who', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_saga_step('who', 'k');
\echo :LAST_ERROR_SQLSTATE
-- an outsider's function does not come in with the member that calls it: the right is that of the call
CREATE FUNCTION pg_temp.saga_of_an_outsider() RETURNS record LANGUAGE sql SECURITY DEFINER AS $$ SELECT public.idempotent_saga_step('who', 'k') $$;
RESET ROLE;
CREATE ROLE regress_idempotent_member IN ROLE regress_idempotent_clerk;
SELECT idempotent_grant('regress_idempotent_member');
SET ROLE regress_idempotent_member;
SELECT pg_temp.saga_of_an_outsider();
\echo :LAST_ERROR_SQLSTATE
CALL idempotent_saga_run('who', 'member');
-- a member's function lets an outsider in, as any function with its owner's rights does
CREATE FUNCTION pg_temp.saga_of_a_member() RETURNS record LANGUAGE sql SECURITY DEFINER AS $$ SELECT public.idempotent_saga_step('who', 'of a member') $$;
RESET ROLE;
SET ROLE regress_idempotent_orderer;
SELECT pg_temp.saga_of_a_member();
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_member');
GRANT regress_idempotent_clerk TO regress_idempotent_orderer;
SET ROLE regress_idempotent_orderer;
CALL idempotent_saga_run('who', 'k');
-- one step by hand, with what it may and no more
SELECT * FROM idempotent_saga_step('who', 'by hand');
SELECT * FROM idempotent_saga_step('who', 'by hand');
SELECT * FROM idempotent_saga_step('who', 'by hand', '1');
-- no function writes what no handler did
SELECT p.proname FROM pg_proc AS p WHERE p.proname LIKE '%saga%' AND p.proname LIKE 'idempotent%' AND p.pronamespace = 'public'::regnamespace AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1;
UPDATE idempotent.saga_run SET step = 2;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT name FROM idempotent_operation('who', role => '-', scope_required => true);
CALL idempotent_saga_run('who', 'another');
\echo :LAST_ERROR_SQLSTATE
CALL idempotent_saga_run('who', 'k', scope => 'tenant-7');
SELECT idempotent_revoke('regress_idempotent_orderer');
SELECT has_function_privilege('regress_idempotent_orderer', 'idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb)', 'EXECUTE');
DROP OWNED BY regress_idempotent_orderer;
DROP OWNED BY regress_idempotent_member;
DROP ROLE regress_idempotent_orderer, regress_idempotent_member, regress_idempotent_clerk;
SET client_min_messages = warning;
DELETE FROM idempotent.saga_run;
DELETE FROM idempotent.saga;
DELETE FROM idempotent.operation WHERE name IN ('short', 'who');
DROP TABLE saga_effect;
DROP FUNCTION saga_note, saga_reserve, saga_unreserve, saga_pay, saga_refund, saga_ship, saga_divide, saga_inside, saga_forgets, saga_who;
