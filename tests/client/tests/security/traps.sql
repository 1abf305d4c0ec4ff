-- A function and an operator for each of pg_catalog's that can be written in PL/pgSQL, a table for each of its relations and
-- of ours, types of the names of its types, and implicit casts from all of them to a type that nobody asked for. Each raises
-- HIJCK when it is used.
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;

DO $do$
DECLARE
    body text := $$ LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION SQLSTATE ''HIJCK''; END' $$;
    it record;
    made integer := 0;
BEGIN
    FOR it IN
        SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.proretset,
               format_type(p.prorettype, NULL) AS result
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proallargtypes IS NULL
          AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.typtype = 'p' AND t.oid = ANY (p.proargtypes))
          AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.typtype = 'p' AND t.oid = p.prorettype AND t.typname <> 'void')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s', it.proname, it.arguments,
                       CASE WHEN it.proretset THEN 'SETOF ' ELSE '' END || it.result, body);
        made := made + 1;
    END LOOP;
    ASSERT made > 2000, 'functions: ' || made;

    made := 0;
    FOR it IN
        SELECT o.oprname, CASE o.oprleft WHEN 0 THEN NULL ELSE format_type(o.oprleft, NULL) END AS l,
               format_type(o.oprright, NULL) AS r, format_type(o.oprresult, NULL) AS result
        FROM pg_operator AS o
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.typtype = 'p' AND t.oid IN (o.oprleft, o.oprright, o.oprresult))
    LOOP
        made := made + 1;
        EXECUTE format('CREATE FUNCTION evil.operate_%s(%s) RETURNS %s %s', made, concat_ws(', ', it.l, it.r), it.result, body);
        EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.operate_%s, %s RIGHTARG = %s)', it.oprname, made,
                       'LEFTARG = ' || it.l || ',', it.r);
    END LOOP;
    ASSERT made > 600, 'operators: ' || made;

    made := 0;
    CREATE TYPE evil.trap AS (hijacked integer);
    EXECUTE 'CREATE FUNCTION evil.equals(evil.trap, evil.trap) RETURNS boolean' || body;
    CREATE OPERATOR evil.= (FUNCTION = evil.equals, LEFTARG = evil.trap, RIGHTARG = evil.trap);
    FOR it IN
        SELECT t.typname FROM pg_type AS t
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typcategory <> 'A' ORDER BY t.typname
    LOOP
        EXECUTE format('CREATE FUNCTION evil.spring(pg_catalog.%I) RETURNS evil.trap %s', it.typname, body);
        EXECUTE format('CREATE CAST (pg_catalog.%I AS evil.trap) WITH FUNCTION evil.spring(pg_catalog.%I) AS IMPLICIT', it.typname, it.typname);
        made := made + 1;
    END LOOP;
    ASSERT made > 50, 'casts: ' || made;

    -- The catalogs are views and tables; a table's name is a type's, too.
    FOR it IN
        SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'S') AND n.nspname IN ('pg_catalog', 'idempotent')
    LOOP
        EXECUTE format('CREATE TABLE evil.%I (hijacked integer)', it.relname);
    END LOOP;
    FOR it IN
        SELECT t.typname FROM pg_type AS t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b'
        EXCEPT SELECT t.typname FROM pg_type AS t WHERE t.typnamespace = 'evil'::regnamespace
    LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.int4', it.typname);
    END LOOP;
END $do$;
