-- Distributes the functions of the extension in a Citus cluster by the owner of a key, so that a call runs on the node that has the owner's
-- rows. On the coordinator:
--
--   psql coordinator -X -v like=payment -f citus.sql
--
-- `like` names a table that is distributed by the owner, a text column: what calls pass as `scope`. Run it again after each update of the
-- extension. It distributes all functions that have an owner, or changes nothing.
\set ON_ERROR_STOP on
\if :{?like}
\else
  \warn 'Name a table that is distributed by the owner: -v like=TABLE'
  \quit
\endif
BEGIN;
SELECT set_config('pg_idempotent_citus.like', :'like', true) AS "distributed as";
DO $$
DECLARE
    like_table CONSTANT text := current_setting('pg_idempotent_citus.like');
    version    CONSTANT text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_idempotent');
    group_of   integer;
    owner_type text;
    wrong      text;
    owned      regprocedure;
BEGIN
    IF version IS NULL OR to_regclass('citus_tables') IS NULL THEN
        RAISE EXCEPTION 'this database has not both of the extensions citus and pg_idempotent'
            USING ERRCODE = '55000', HINT = 'Run it on the coordinator, after CREATE EXTENSION of both.';
    END IF;
    SELECT t.colocation_id, format_type(a.atttypid, NULL) INTO group_of, owner_type
      FROM citus_tables AS t JOIN pg_attribute AS a ON a.attrelid = t.table_name AND a.attname = t.distribution_column
     WHERE t.table_name = like_table::regclass AND t.citus_table_type = 'distributed';
    IF owner_type IS DISTINCT FROM 'text' THEN
        RAISE EXCEPTION 'table "%" is not distributed by a column of type text', like_table
            USING ERRCODE = '55000', DETAIL = 'The owner of a key, its scope, is a text, and calls are sent where that text is.',
                  HINT = format('SELECT create_distributed_table(%L, ''owner'');', like_table);
    END IF;
    SELECT string_agg(format('%s:%s (%s)', w.nodename, w.nodeport, COALESCE(w.result, 'none')), ', ') INTO wrong
      FROM run_command_on_workers($command$ SELECT extversion FROM pg_extension WHERE extname = 'pg_idempotent' $command$) AS w
     WHERE NOT w.success OR w.result IS DISTINCT FROM version;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'not every node has version % of pg_idempotent', version
            USING ERRCODE = '55000', DETAIL = format('Others: %s.', wrong), HINT = 'Install it on every node, and update the extension there.';
    END IF;

    CREATE TEMPORARY TABLE with_owner ON COMMIT DROP AS
    SELECT p.oid::regprocedure AS function
      FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_proc AS p ON p.oid = d.objid
     WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND e.extname = 'pg_idempotent' AND p.pronamespace = e.extnamespace
       AND 'scope' = ANY (p.proargnames[:p.pronargs]) AND p.provolatile <> 'i';
    FOR owned IN SELECT o.function FROM with_owner AS o LOOP
        -- Without force_delegation a call in a block runs where it was sent, and not where the owner's keys are.
        PERFORM create_distributed_function(owned, 'scope', colocate_with => like_table, force_delegation => true);
    END LOOP;

    SELECT string_agg(o.function::text, ', ' ORDER BY o.function::text COLLATE "C") INTO wrong
      FROM with_owner AS o LEFT JOIN pg_dist_object AS g ON g.classid = 'pg_proc'::regclass AND g.objid = o.function
     WHERE g.force_delegation IS NOT TRUE OR g.colocationid IS DISTINCT FROM group_of;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'not every function is distributed as table "%" is', like_table
            USING ERRCODE = '55000', DETAIL = format('Not: %s.', wrong), HINT = 'A call of one of these could run on another node than its key. Nothing was changed.';
    END IF;
END $$;
COMMIT;
\echo 'Every function that has an owner is distributed. Settings are each node''s own: run_command_on_all_nodes($$SELECT name FROM idempotent_operation(...)$$).'
