-- What is looked up of a handler is kept from call to call, and given up as soon as it no longer holds.
-- Each change is followed by a call that an outdated look-up would answer otherwise.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE SCHEMA kept;
CREATE SCHEMA kept_first;
CREATE ROLE kept_caller;
CREATE ROLE kept_group;
SELECT idempotent_grant('kept_caller'), idempotent_grant('kept_group');
GRANT USAGE ON SCHEMA kept, kept_first TO kept_caller;
CREATE SEQUENCE kept.number;
GRANT USAGE ON SEQUENCE kept.number TO kept_caller, kept_group;
-- a key of its own for each call
CREATE FUNCTION kept.run(handler text, request jsonb DEFAULT '1') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE answer jsonb;
BEGIN
    SELECT r.response INTO answer FROM public.idempotent_run('kept', nextval('kept.number')::text, request, handler) AS r;
    RETURN answer;
END $$;
GRANT EXECUTE ON FUNCTION kept.run TO PUBLIC;
CREATE FUNCTION kept.pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"first"'; END $$;
SELECT kept.run('kept.pay'), kept.run('kept.pay'), kept.run('kept.pay(jsonb)');

-- replaced, also by another language; by another signature
CREATE OR REPLACE FUNCTION kept.pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"second"'; END $$;
SELECT kept.run('kept.pay');
CREATE OR REPLACE FUNCTION kept.pay(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"in SQL"'::jsonb $$;
SELECT kept.run('kept.pay'), kept.run('kept.pay');
DROP FUNCTION kept.pay;
CREATE FUNCTION kept.pay(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT kept.run('kept.pay');
DROP FUNCTION kept.pay;
SELECT kept.run('kept.pay');
CREATE FUNCTION kept.pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"third"'; END $$;
SELECT kept.run('kept.pay');
-- strict from now on
ALTER FUNCTION kept.pay STRICT;
SELECT kept.run('kept.pay', NULL);
ALTER FUNCTION kept.pay CALLED ON NULL INPUT;
-- renamed, and another of the name
ALTER FUNCTION kept.pay RENAME TO paid;
CREATE FUNCTION kept.pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"fourth"'; END $$;
SELECT kept.run('kept.pay'), kept.run('kept.paid');

-- the right to execute it: taken, given by membership, taken with that; of the schema
REVOKE EXECUTE ON FUNCTION kept.pay FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kept.pay TO kept_group;
SET ROLE kept_caller;
SELECT kept.run('kept.pay');
RESET ROLE;
SELECT kept.run('kept.pay');
SET ROLE kept_caller;
SELECT kept.run('kept.pay');
RESET ROLE;
GRANT kept_group TO kept_caller;
SET ROLE kept_caller;
SELECT kept.run('kept.pay'), kept.run('kept.pay');
RESET ROLE;
REVOKE kept_group FROM kept_caller;
SET ROLE kept_caller;
SELECT kept.run('kept.pay');
RESET ROLE;
GRANT EXECUTE ON FUNCTION kept.pay TO kept_caller;
SELECT 'kept.pay(jsonb)'::regprocedure::oid AS pay \gset
SET ROLE kept_caller;
SELECT response FROM idempotent_run('kept', 'by number', '1', :'pay');
RESET ROLE;
REVOKE USAGE ON SCHEMA kept FROM kept_caller;
SET ROLE kept_caller;
SELECT response FROM idempotent_run('kept', 'by name', '1', 'kept.pay');
SELECT response FROM idempotent_run('kept', 'by number again', '1', :'pay');
RESET ROLE;
GRANT USAGE ON SCHEMA kept TO kept_caller;
-- within a function with the rights of its owner it is the owner who calls
CREATE FUNCTION kept.as_owner() RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT kept.run('kept.paid') $$;
REVOKE EXECUTE ON FUNCTION kept.paid FROM PUBLIC;
SET ROLE kept_caller;
SELECT kept.as_owner();
SELECT kept.run('kept.paid');
SELECT kept.as_owner();
RESET ROLE;

-- the search_path: another, and another function that comes first on the same
SET search_path = kept, public;
SELECT kept.run('pay');
SET search_path = kept_first, kept, public;
SELECT kept.run('pay');
CREATE FUNCTION kept_first.pay(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"of the first schema"'; END $$;
SELECT kept.run('pay');
SET search_path = kept, public;
SELECT kept.run('pay');
BEGIN;
SET LOCAL search_path = kept_first, public;
SELECT kept.run('pay');
SAVEPOINT s;
DROP FUNCTION kept_first.pay;
SELECT kept.run('pay');
ROLLBACK TO s;
SELECT kept.run('pay');
COMMIT;
SELECT kept.run('pay');
ALTER SCHEMA kept_first RENAME TO kept_second;
SET search_path = kept_first, kept, public;
SELECT kept.run('pay');
SET search_path = kept_second, kept, public;
SELECT kept.run('pay');
RESET search_path;

-- settings of the function, and its owner's rights
CREATE FUNCTION kept.whose(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN to_jsonb(concat(current_user, ', ', current_setting('kept.x', true))); END $$;
SET ROLE kept_caller;
SELECT kept.run('kept.whose') AS whose;
RESET ROLE;
ALTER FUNCTION kept.whose SECURITY DEFINER SET kept.x = 'set';
ALTER FUNCTION kept.whose OWNER TO kept_group;
SET ROLE kept_caller;
SELECT kept.run('kept.whose') AS whose FROM generate_series(1, 2);
RESET ROLE;

-- nested in itself, for other keys
CREATE FUNCTION kept.nested(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF request::integer = 0 THEN RETURN '"bottom"'; END IF;
    RETURN jsonb_build_array(request, kept.run('kept.nested', to_jsonb(request::integer - 1)), request);
END $$;
SELECT kept.run('kept.nested', '4') FROM generate_series(1, 2);
-- it replaces and drops itself while it runs
CREATE FUNCTION kept.changing(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $f$
BEGIN
    CREATE OR REPLACE FUNCTION kept.changing(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN '"changed"'; END $$;
    RETURN jsonb_build_array('changing', kept.run('kept.changing'));
END $f$;
SELECT kept.run('kept.changing'), kept.run('kept.changing');
CREATE FUNCTION kept.dropping(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $f$ BEGIN DROP FUNCTION kept.dropping; RETURN '"dropped"'; END $f$;
SELECT kept.run('kept.dropping');
SELECT kept.run('kept.dropping');

-- after an error, caught or not; nested, too
CREATE FUNCTION kept.failing(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF request::integer = 1 THEN RAISE EXCEPTION 'one is too few'; END IF;
    IF request::integer = 3 THEN
        BEGIN
            RETURN kept.run('kept.failing', '1');
        EXCEPTION WHEN raise_exception THEN
            RETURN jsonb_build_array('caught', kept.run('kept.failing', '2'));
        END;
    END IF;
    RETURN request;
END $$;
SELECT kept.run('kept.failing', '2'), kept.run('kept.failing', '3');
SELECT kept.run('kept.failing', '1');
SELECT kept.run('kept.failing', '2'), kept.run('kept.failing', '3'), kept.run('kept.failing', '2');
SELECT store_failures FROM idempotent_operation('kept', store_failures => '{P0001}');
SELECT kept.run('kept.failing', '1') ->> 'message', kept.run('kept.failing', '2');

-- more handlers than are kept, and names with blanks before and behind
DO $$ BEGIN FOR n IN 1 .. 100 LOOP EXECUTE format('CREATE FUNCTION kept.n%s(jsonb) RETURNS jsonb LANGUAGE plpgsql AS ''BEGIN RETURN %s; END''', n, n); END LOOP; END $$;
SELECT sum(kept.run('kept.n' || n)::integer) FROM generate_series(1, 100) AS n, generate_series(1, 2);
SELECT kept.run(repeat(' ', 1000) || 'kept.n7' || repeat(' ', n)) FROM generate_series(1, 3) AS n;

-- a saga looks its handlers up in the same way
SELECT name FROM idempotent_saga('kept', '[{"name": "one", "handler": "kept.n1(jsonb)"}]');
CALL idempotent_saga_run('kept', 'a', '1');
CREATE OR REPLACE FUNCTION kept.n1(jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN ''"replaced"''; END';
CALL idempotent_saga_run('kept', 'b', '1');

DELETE FROM idempotent.saga_run;
DELETE FROM idempotent.saga;
SET client_min_messages = warning;
SELECT idempotent_revoke('kept_caller'), idempotent_revoke('kept_group');
DROP SCHEMA kept, kept_second CASCADE;
DROP OWNED BY kept_caller, kept_group;
DROP ROLE kept_caller, kept_group;
