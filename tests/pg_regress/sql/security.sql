-- Who may do what: nothing is granted to PUBLIC, and nobody reads what is stored.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_caller, regress_idempotent_admin, regress_idempotent_clerk, regress_idempotent_clerk_noinherit, regress_idempotent_clerks, "regress_idempotent ""odd"" role";
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE ROLE regress_idempotent_caller;
CREATE ROLE regress_idempotent_admin;
-- Calls every function of the extension with nulls (a strict one would not be called) and says what came of it: whoever may, gets past the permission check.
CREATE FUNCTION security_calls() RETURNS TABLE (function text, answer text) LANGUAGE plpgsql AS $$
DECLARE
    f record;
BEGIN
    FOR f IN
        SELECT p.proname, format('%s %I.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, n.nspname, p.proname, (SELECT string_agg(CASE WHEN p.proisstrict THEN '''1''' ELSE 'NULL' END || '::' || format_type(a, NULL), ', ' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY AS arguments (a, i))) AS call
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension AS e ON e.oid = d.refobjid
        WHERE e.extname = 'pg_idempotent' AND p.prorettype <> 'trigger'::regtype ORDER BY p.proname COLLATE "C"
    LOOP
        function := f.proname;
        BEGIN
            EXECUTE f.call;
            answer := 'called';
        EXCEPTION WHEN insufficient_privilege THEN answer := sqlstate || ' ' || sqlerrm;
                  WHEN OTHERS THEN answer := 'called';
        END;
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION security_reads() RETURNS TABLE (statement text, answer text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH statement IN ARRAY ARRAY['TABLE idempotent.operation', 'TABLE idempotent.record', 'TABLE idempotent.record_logged', 'TABLE idempotent.messages', 'TABLE idempotent.offsets', 'TABLE idempotent.locks', 'TABLE idempotent.outbox_message', 'TABLE idempotent.outbox_id', 'TABLE idempotent.outbox_dead', 'TABLE idempotent.usage_granted', 'TABLE idempotent.saga', 'TABLE idempotent.saga_run', 'SELECT last_value FROM idempotent.fence', 'SELECT nextval(''idempotent.fence'')',
        'INSERT INTO idempotent.operation (name) VALUES (''x'')', 'UPDATE idempotent.operation SET retention = ''1 day''', 'DELETE FROM idempotent.record', 'TRUNCATE idempotent.record', 'LOCK TABLE idempotent.record IN ACCESS SHARE MODE',
        'CREATE TABLE idempotent.mine ()', 'CREATE TEMPORARY TABLE mine (r idempotent_result)', 'SELECT idempotent.operation_changed()'] LOOP
        BEGIN
            EXECUTE statement;
            answer := 'done';
        EXCEPTION WHEN OTHERS THEN answer := sqlstate;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
-- what there is to be read
BEGIN;
SELECT outcome FROM idempotent_claim('security', 'k1', '1');
SELECT idempotent_complete('security', 'k1', '"secret"');
COMMIT;

-- a role that was granted nothing
SET ROLE regress_idempotent_caller;
SELECT * FROM security_calls();
SELECT * FROM security_reads();
RESET ROLE;

-- a caller
SELECT idempotent_grant('regress_idempotent_caller');
SET ROLE regress_idempotent_caller;
SELECT * FROM security_calls();
SELECT * FROM security_reads();
-- everything a caller does, without rights on any table
BEGIN;
SELECT outcome FROM idempotent_claim('security', 'k2', '1');
SELECT idempotent_complete('security', 'k2', '"mine"');
COMMIT;
SELECT outcome, response FROM idempotent_claim('security', 'k2', '1');
SELECT outcome, response FROM idempotent_replay('security', 'k2');
SELECT fence FROM idempotent_claim('security', 'k3', lease => '1 hour') \gset
SELECT idempotent_extend('security', 'k3', '2 hours', fence => :fence) IS NOT NULL AS extended;
SELECT idempotent_checkpoint('security', 'k3', '1', fence => :fence);
SELECT idempotent_release('security', 'k3', fence => :fence);
BEGIN;
SELECT outcome FROM idempotent_claim('security', 'k4');
SELECT idempotent_fail('security', 'k4', '"no"');
COMMIT;
CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
SELECT outcome, response FROM idempotent_run('security', 'k5', '1', 'pg_temp.work(jsonb)');
SELECT idempotent_explain('security', 'k5') ->> 'outcome' AS explained;
-- more than its share of locks
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 200) AS n, idempotent_claim('security', 'many ' || n) GROUP BY outcome;
SELECT count(*) FROM generate_series(1, 200) AS n, idempotent_complete('security', 'many ' || n);
COMMIT;
-- not administration, nor granting on
SELECT idempotent_operation('security', durability => 'logged');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_grant('regress_idempotent_admin');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

-- an administrator, who needs no rights on the tables either, and is no caller
GRANT EXECUTE ON FUNCTION idempotent_operation, idempotent_grant, idempotent_revoke TO regress_idempotent_admin;
SET ROLE regress_idempotent_admin;
SELECT * FROM security_calls() WHERE answer = 'called';
SELECT * FROM security_reads() WHERE answer = 'done';
SELECT name, durability FROM idempotent_operation('security', durability => 'logged');
SELECT idempotent_revoke('regress_idempotent_caller');
SELECT idempotent_revoke('regress_idempotent_caller');
RESET ROLE;
SELECT count(*) FROM idempotent.record_logged WHERE operation = 'security' AND key LIKE 'k_';
SET ROLE regress_idempotent_caller;
SELECT * FROM security_calls() WHERE answer = 'called';
RESET ROLE;
-- nothing of either is left in the access lists
SELECT count(*) FROM pg_proc WHERE proacl::text LIKE '%regress_idempotent_caller%';
SELECT count(*) FROM pg_type WHERE typacl::text LIKE '%regress_idempotent_caller%';
-- who is nobody
SELECT idempotent_grant('regress_idempotent_nobody');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_grant(1::oid::regrole);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_grant('-');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_revoke(NULL);
\echo :LAST_ERROR_SQLSTATE
-- names that must be quoted
CREATE ROLE "regress_idempotent ""odd"" role";
SELECT idempotent_grant('"regress_idempotent ""odd"" role"');
SELECT has_function_privilege('regress_idempotent "odd" role', 'idempotent_replay(text, text, text)', 'EXECUTE');
SELECT idempotent_revoke('"regress_idempotent ""odd"" role"');
SELECT has_function_privilege('regress_idempotent "odd" role', 'idempotent_replay(text, text, text)', 'EXECUTE');

-- an operation with a role: for its members alone, others learn nothing, not even of a mismatch
CREATE ROLE regress_idempotent_clerks;
CREATE ROLE regress_idempotent_clerk IN ROLE regress_idempotent_clerks;
CREATE ROLE regress_idempotent_clerk_noinherit NOINHERIT IN ROLE regress_idempotent_clerks;
SELECT idempotent_grant('regress_idempotent_caller'), idempotent_grant('regress_idempotent_clerk'), idempotent_grant('regress_idempotent_clerks'), idempotent_grant('regress_idempotent_clerk_noinherit');
SELECT name, role FROM idempotent_operation('security_clerks', role => 'regress_idempotent_clerks');
BEGIN;
SELECT outcome FROM idempotent_claim('security_clerks', 'k1', '1');
SELECT idempotent_complete('security_clerks', 'k1', '"for clerks"');
COMMIT;
SELECT fence FROM idempotent_claim('security_clerks', 'leased', lease => '1 hour') \gset
CREATE FUNCTION security_clerks(fence text) RETURNS TABLE (call text, answer text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH call IN ARRAY ARRAY['idempotent_claim(''security_clerks'', ''k1'', ''1'')', 'idempotent_claim(''security_clerks'', ''k1'', ''2'', strict => true)', 'idempotent_claim(''security_clerks'', ''nothing'')', 'idempotent_claim(''security_clerks'', ''new'', lease => ''1 hour'')',
        'idempotent_replay(''security_clerks'', ''k1'')', 'idempotent_replay(''security_clerks'', ''nothing'')', 'idempotent_explain(''security_clerks'', ''k1'')',
        'idempotent_extend(''security_clerks'', ''leased'', ''1 hour'', fence => FENCE)', 'idempotent_checkpoint(''security_clerks'', ''leased'', ''1'', fence => FENCE)', 'idempotent_complete(''security_clerks'', ''leased'', fence => FENCE)',
        'idempotent_fail(''security_clerks'', ''leased'', fence => FENCE)', 'idempotent_release(''security_clerks'', ''leased'', fence => FENCE)', 'idempotent_claim(''security_clerks'', '''')'] LOOP
        BEGIN
            EXECUTE 'SELECT ' || replace(call, 'FENCE', fence);
            answer := 'accepted';
            RAISE EXCEPTION SQLSTATE '00UND';
        EXCEPTION WHEN SQLSTATE '00UND' THEN NULL;
                  WHEN OTHERS THEN answer := sqlstate;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
SET ROLE regress_idempotent_caller;
SELECT outcome FROM idempotent_claim('security_clerks', 'k1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM security_clerks(:'fence');
SET ROLE regress_idempotent_clerk_noinherit;
SELECT DISTINCT answer FROM security_clerks(:'fence') WHERE call NOT LIKE '%'''')';
SET ROLE regress_idempotent_clerk;
SELECT * FROM security_clerks(:'fence');
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
SET ROLE regress_idempotent_clerks;
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
RESET ROLE;
-- run
CREATE FUNCTION security_work(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(current_user)';
SET ROLE regress_idempotent_caller;
SELECT outcome FROM idempotent_run('security_clerks', 'run', '1', 'security_work(jsonb)');
\echo :LAST_ERROR_SQLSTATE
-- by a function of somebody who may
RESET ROLE;
CREATE FUNCTION security_counter() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT outcome || ' ' || (response #>> '{}') FROM idempotent_run('security_clerks', 'run', '1', 'security_work(jsonb)') $$;
GRANT CREATE ON SCHEMA public TO regress_idempotent_clerk;
ALTER FUNCTION security_counter() OWNER TO regress_idempotent_clerk;
REVOKE CREATE ON SCHEMA public FROM regress_idempotent_clerk;
SET ROLE regress_idempotent_caller;
SELECT security_counter();
SELECT security_counter();
RESET ROLE;
-- membership counts as of now
GRANT regress_idempotent_clerks TO regress_idempotent_caller;
SET ROLE regress_idempotent_caller;
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
RESET ROLE;
REVOKE regress_idempotent_clerks FROM regress_idempotent_caller;
SET ROLE regress_idempotent_caller;
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
-- for everybody again
SELECT role FROM idempotent_operation('security_clerks', role => '-');
SET ROLE regress_idempotent_caller;
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
RESET ROLE;
-- a role that is dropped has no members: nobody's but a superuser's, not everybody's
SELECT role FROM idempotent_operation('security_clerks', role => 'regress_idempotent_admin');
SELECT idempotent_revoke('regress_idempotent_admin');
SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_admin;
DROP ROLE regress_idempotent_admin;
RESET client_min_messages;
SET ROLE regress_idempotent_caller;
\set VERBOSITY sqlstate
SELECT outcome, response FROM idempotent_claim('security_clerks', 'k1', '1');
\set VERBOSITY default
RESET ROLE;

SET client_min_messages = warning;
-- their role is gone, and without it nobody may
SELECT role FROM idempotent_operation('security_clerks', role => '-');
SELECT name, idempotent_forget_all(name) >= 0 AS forgotten, idempotent_operation_drop(name) AS dropped FROM idempotent.operation WHERE name LIKE 'security%' ORDER BY name;
DROP FUNCTION security_calls, security_reads, security_clerks, security_work, security_counter;
DROP OWNED BY regress_idempotent_caller, regress_idempotent_clerk, regress_idempotent_clerk_noinherit, regress_idempotent_clerks, "regress_idempotent ""odd"" role";
DROP ROLE regress_idempotent_caller, regress_idempotent_clerk, regress_idempotent_clerk_noinherit, regress_idempotent_clerks, "regress_idempotent ""odd"" role";
