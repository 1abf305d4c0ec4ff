-- Writes what a database with PL/Proxy needs to stand before several nodes, from what a node has. To install it:
--
--   psql node1 -XAqt -v cluster=shop -f plproxy.sql | psql proxy -X1 -v ON_ERROR_STOP=1
--
-- `cluster` names the server of PL/Proxy's that lists the nodes (CREATE SERVER ... FOREIGN DATA WRAPPER plproxy, with modular_mapping).
-- Add `-v callers=ROLE` to let a role of the proxy call what callers call. Install it again after each update of the extension.
--
-- It takes every function of the extension from the catalog. Each has a line below, so that a function that is new cannot be forgotten.
\set ON_ERROR_STOP on
\if :{?cluster}
\else
  \warn 'Name the cluster: -v cluster=NAME'
  \quit
\endif
BEGIN;
-- How Postgres prints types and defaults, whatever the session's own settings are.
SET LOCAL search_path = pg_catalog;
SET LOCAL quote_all_identifiers = off;
SET LOCAL client_encoding = 'UTF8';

-- What each function is behind a proxy, and which of its arguments has the owner where there is no scope:
--   owner  runs on the node that answers for the owner
--   split  the same, for each element of arrays
--   all    runs on every node, and returns a row of each
--   any    computes, and asks no table
--   here   is computed by the proxy
--   no     is refused: `note` says why
CREATE TEMPORARY VIEW way (name, way, note) AS VALUES
    ('idempotent_advance',          'no', 'An offset advances in the transaction that does the work.'),
    ('idempotent_check',            'no', 'No claim is open between two calls: each is a transaction of its own, and checked when it ends.'),
    ('idempotent_checkpoint',       'owner', 'key'),
    ('idempotent_claim',            'owner', 'key'),
    ('idempotent_complete',         'owner', 'key'),
    ('idempotent_derive_key',       'any', NULL),
    ('idempotent_doctor',           'all', NULL),
    ('idempotent_explain',          'owner', 'key'),
    ('idempotent_export',           'no', 'Slots are moved from node to node.'),
    ('idempotent_export_scope',     'all', NULL),
    ('idempotent_extend',           'owner', 'key'),
    ('idempotent_extend_all',       'split', 'keys,fences'),
    ('idempotent_fail',             'owner', 'key'),
    ('idempotent_first',            'no', 'A message is marked in the transaction that does the work.'),
    ('idempotent_first_of',         'no', 'Messages are marked in the transaction that does the work.'),
    ('idempotent_first_skip_held',  'no', 'Messages are marked in the transaction that does the work.'),
    ('idempotent_forget',           'owner', 'key'),
    ('idempotent_forget_all',       'all', NULL),
    ('idempotent_forget_message',   'owner', 'message_id'),
    ('idempotent_forget_offset',    'owner', 'partition'),
    ('idempotent_forget_scope',     'all', NULL),
    ('idempotent_grant',            'all', NULL),
    ('idempotent_http_claim',       'owner', 'key_header'),
    ('idempotent_http_complete',    'owner', 'key'),
    ('idempotent_ignorant',         'no', 'It is about what one node does not know.'),
    ('idempotent_import',           'no', 'Slots are moved from node to node.'),
    ('idempotent_lock',             'owner', 'resource'),
    ('idempotent_new_key',          'any', NULL),
    ('idempotent_operation',        'all', NULL),
    ('idempotent_operation_drop',   'all', NULL),
    ('idempotent_outbox_ack',       'no', 'A relay serves one node.'),
    ('idempotent_outbox_put',       'no', 'A message is put in the transaction that it tells of.'),
    ('idempotent_outbox_redrive',   'all', NULL),
    ('idempotent_outbox_release',   'no', 'A relay serves one node.'),
    ('idempotent_outbox_take',      'no', 'A relay serves one node.'),
    ('idempotent_own',              'no', 'Each node is told its own slots.'),
    ('idempotent_release',          'owner', 'key'),
    ('idempotent_replay',           'owner', 'key'),
    ('idempotent_request_key',      'any', NULL),
    ('idempotent_resolve',          'owner', 'key'),
    ('idempotent_revoke',           'all', NULL),
    ('idempotent_rewind',           'owner', 'partition'),
    ('idempotent_run',              'owner', 'key'),
    ('idempotent_saga',             'all', NULL),
    ('idempotent_saga_abandon',     'owner', 'key'),
    ('idempotent_saga_explain',     'owner', 'key'),
    ('idempotent_saga_forget',      'owner', 'key'),
    ('idempotent_saga_resume',      'owner', 'key'),
    ('idempotent_saga_run',         'no', 'PL/Proxy calls no procedure. Call idempotent_saga_step until it says that there is no more.'),
    ('idempotent_saga_settle',      'owner', 'key'),
    ('idempotent_saga_step',        'owner', 'key'),
    ('idempotent_seal',             'owner', 'key'),
    ('idempotent_shard',            'any', NULL),
    ('idempotent_slot',             'here', NULL),
    ('idempotent_stats_reset',      'all', NULL),
    ('idempotent_sweep',            'all', NULL),
    ('idempotent_unlock',           'owner', 'resource');

CREATE TEMPORARY VIEW member AS
SELECT d.classid, d.objid, e.extnamespace, quote_ident(n.nspname) AS home
  FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = e.extnamespace
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_idempotent';

CREATE TEMPORARY VIEW routine AS
SELECT p.oid, m.home, p.proname::text AS name, w.way, w.note, p.prokind, p.proretset, p.prorettype, p.proargnames, p.pronargs,
       -- A role has another number on each node, so it goes by its name.
       replace(pg_get_function_arguments(p.oid), 'regrole', 'text') AS arguments,
       (SELECT string_agg(replace(format_type(a.type, NULL), 'regrole', 'text'), ', ' ORDER BY a.n)
          FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n)) AS identity,
       pg_get_function_result(p.oid) AS result,
       (SELECT string_agg(format('$%s::%s', a.n, format_type(a.type, NULL)), ', ' ORDER BY a.n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n)) AS passed,
       obj_description(p.oid, 'pg_proc') AS comment
  FROM pg_temp.member AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
  LEFT JOIN pg_temp.way AS w ON w.name = p.proname
 WHERE p.pronamespace = m.extnamespace;

DO $$
DECLARE
    unknown text := (SELECT string_agg(r.name, ', ') FROM pg_temp.routine AS r WHERE r.way IS NULL);
    gone    text := (SELECT string_agg(w.name, ', ') FROM pg_temp.way AS w WHERE w.name NOT IN (SELECT r.name FROM pg_temp.routine AS r));
BEGIN
    IF unknown IS NOT NULL OR gone IS NOT NULL THEN
        RAISE EXCEPTION 'this script is of another version than the extension'
            USING ERRCODE = '55000', DETAIL = concat_ws(' ', 'It has no line for: ' || unknown || '.', 'The extension has no: ' || gone || '.'),
                  HINT = 'Take the script that came with the extension.';
    END IF;
END $$;

-- The columns that a function or a view returns, a line of declarations.
CREATE TEMPORARY VIEW returned AS
SELECT r.oid, string_agg(format('%I %s', c.name, c.type), ', ' ORDER BY c.n) AS columns
  FROM pg_temp.routine AS r
  JOIN pg_proc AS p ON p.oid = r.oid
  CROSS JOIN LATERAL (
      SELECT a.n, p.proargnames[a.n] AS name, format_type(a.type, NULL) AS type
        FROM unnest(p.proallargtypes) WITH ORDINALITY AS a (type, n) WHERE p.proargmodes[a.n] IN ('o', 't')
      UNION ALL
      SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
       WHERE t.oid = r.prorettype AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL
      SELECT 1, 'answer', format_type(r.prorettype, NULL) FROM pg_type AS t
       WHERE t.oid = r.prorettype AND t.typrelid = 0 AND r.prorettype NOT IN ('void'::regtype, 'record'::regtype)
  ) AS c (n, name, type)
 GROUP BY r.oid;

-- What is shown of all nodes: the views, the settings of operations and the audit.
CREATE TEMPORARY VIEW shown AS
SELECT c.relname::text AS name, obj_description(c.oid, 'pg_class') AS comment,
       -- PL/Proxy knows no multirange: it goes as text.
       string_agg(format('%I %s', a.attname, CASE WHEN t.typtype = 'm' THEN 'text' ELSE format_type(t.oid, a.atttypmod) END), ', ' ORDER BY a.attnum) AS columns,
       string_agg(format(CASE WHEN t.typtype = 'm' THEN 'v.%1$I::text AS %1$I' ELSE 'v.%I' END, a.attname), ', ' ORDER BY a.attnum) AS sent,
       string_agg(format(CASE WHEN t.typtype = 'm' THEN 'v.%1$I::%2$s AS %1$I' ELSE 'v.%I' END, a.attname, t.typname), ', ' ORDER BY a.attnum) AS read
  FROM pg_temp.member AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE c.relnamespace = 'idempotent'::regnamespace AND (c.relkind = 'v' OR c.relname IN ('operation', 'audit'))
 GROUP BY c.oid, c.relname;

-- Which node it is.
\set node 'concat(coalesce(host(inet_server_addr()), \'local\'), \':\', current_setting(\'port\'), \'/\', current_database())'

SELECT format('SET client_encoding = ''UTF8'';
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS %1$s;
CREATE SCHEMA IF NOT EXISTS idempotent;
REVOKE ALL ON SCHEMA idempotent FROM PUBLIC;
SET search_path = pg_catalog, pg_temp;
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = ''pg_idempotent'') THEN
        RAISE EXCEPTION ''a proxy is a database without the extension''
            USING ERRCODE = ''55000'', HINT = ''Create one with PL/Proxy alone: CREATE EXTENSION plproxy.'';
    END IF;
END $do$;
', m.home) FROM pg_temp.member AS m LIMIT 1;

-- What the routers know: read from the nodes.
SELECT format($sql$
CREATE TABLE IF NOT EXISTS idempotent.route (
    slots int4range NOT NULL,
    node  integer NOT NULL,
    CONSTRAINT route_one_node_a_slot EXCLUDE USING gist (slots WITH &&)
);
COMMENT ON TABLE idempotent.route IS 'which node answers for which slots: what idempotent.read_routes() has found';

CREATE OR REPLACE FUNCTION %1$s.idempotent_slot(key text, scope text DEFAULT ''::text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (get_byte(d, 0) * 256 + get_byte(d, 1)) %% 16384 FROM sha256(convert_to(CASE WHEN scope = '' THEN key ELSE scope END, 'UTF8')) AS d
$$;
COMMENT ON FUNCTION %1$s.idempotent_slot(text, text) IS 'slot of an owner, 0 to 16383: the scope where there is one, else the key';

CREATE OR REPLACE FUNCTION idempotent.http_key(header text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN h LIKE '"%%"' AND length(h) > 1 THEN regexp_replace(substr(h, 2, length(h) - 2), '\\(["\\])', '\1', 'g') ELSE h END
      FROM btrim(header, E' \t') AS h
$$;
COMMENT ON FUNCTION idempotent.http_key(text) IS 'the key within a header Idempotency-Key';

CREATE OR REPLACE FUNCTION idempotent.node_of(key text, scope text) RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owned CONSTANT integer := %1$s.idempotent_slot(key, COALESCE(scope, ''));
    found integer;
BEGIN
    -- What has no owner is refused by every node alike.
    SELECT r.node INTO found FROM idempotent.route AS r WHERE r.slots @> owned OR owned IS NULL ORDER BY random() LIMIT 1;
    IF found IS NULL THEN
        RAISE EXCEPTION 'no node answers for slot %%', owned
            USING ERRCODE = 'ID010', DETAIL = 'It is on its way from one node to another, or this proxy does not know of it yet.',
                  HINT = 'Retry. An administrator has the proxy ask the nodes: SELECT * FROM idempotent.read_routes().';
    END IF;
    RETURN found;
END $$;
COMMENT ON FUNCTION idempotent.node_of(text, text) IS 'the number of the node that answers for an owner';

CREATE OR REPLACE FUNCTION idempotent.slots_of_node(number integer, OUT own text)
LANGUAGE plproxy AS $$
    CLUSTER %2$L;
    RUN ON $1;
    SELECT COALESCE(h.own, '{[0,16384)}')::text AS own FROM idempotent.health AS h;
$$;
COMMENT ON FUNCTION idempotent.slots_of_node(integer) IS 'the slots that a node answers for';

CREATE OR REPLACE FUNCTION idempotent.read_routes() RETURNS SETOF idempotent.route
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer;
BEGIN
    LOCK TABLE idempotent.route IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM idempotent.route;
    FOR number IN SELECT DISTINCT substring(o.option_name, '\d+$')::integer
                    FROM pg_foreign_server AS s, pg_options_to_table(s.srvoptions) AS o
                   WHERE s.srvname = %2$L AND o.option_name ~ '^(p|partition_)\d+$' ORDER BY 1 LOOP
        INSERT INTO idempotent.route SELECT slots, number FROM unnest(idempotent.slots_of_node(number)::int4multirange) AS slots;
    END LOOP;
    RETURN QUERY SELECT * FROM idempotent.route AS r ORDER BY r.slots;
EXCEPTION WHEN exclusion_violation THEN
    RAISE EXCEPTION 'two nodes answer for the same slots'
        USING ERRCODE = '55000', DETAIL = format('Node %%s is the second. A node that was never told answers for all.', number),
              HINT = 'Tell each node its own: SELECT idempotent_own(...). The routes stay as they were.';
END $$;
COMMENT ON FUNCTION idempotent.read_routes() IS 'asks every node which slots it answers for, and routes by that from now on';
REVOKE ALL ON FUNCTION idempotent.http_key(text), idempotent.node_of(text, text), idempotent.slots_of_node(integer), idempotent.read_routes() FROM PUBLIC;
$sql$, m.home, :'cluster') FROM pg_temp.member AS m LIMIT 1;

-- The type that callers are answered.
SELECT format(E'DO $do$\nBEGIN\n    CREATE TYPE %s AS (%s);\nEXCEPTION WHEN duplicate_object THEN\n    NULL;\nEND $do$;\n', format_type(t.oid, NULL),
              string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum))
  FROM pg_temp.member AS m JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
  JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c'
  JOIN pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE t.typnamespace = m.extnamespace GROUP BY t.oid;

-- The functions.
SELECT concat(
    CASE WHEN r.way IN ('all', 'no') THEN format(E'DROP ROUTINE IF EXISTS %s.%s(%s);\n', r.home, r.name, r.identity) END,
    format('CREATE OR REPLACE %s %s.%s(%s)', CASE r.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, r.home, r.name,
           CASE WHEN r.way = 'all' THEN (SELECT string_agg(a, ', ') FROM unnest(string_to_array(r.arguments, ', ')) AS a WHERE a NOT LIKE 'OUT %') ELSE r.arguments END),
    CASE WHEN r.way = 'all' THEN format(' RETURNS TABLE(%s)', concat_ws(', ', 'node text', t.columns))
         WHEN r.prokind = 'f' THEN ' RETURNS ' || CASE WHEN r.way = 'no' AND r.prorettype::regtype::text LIKE 'idempotent.%' THEN 'void' ELSE r.result END END,
    CASE r.way
    WHEN 'no' THEN format(E'\nLANGUAGE plpgsql AS $$\nBEGIN\n    RAISE EXCEPTION ''%s() cannot be called through a proxy''\n        USING ERRCODE = ''0A000'', DETAIL = %L, HINT = ''Connect to the node that answers for the owner.'';\nEND $$', r.name, r.note)
    ELSE format(E'\nLANGUAGE plproxy AS $$\n    CLUSTER %L;\n%s$$', :'cluster',
        CASE r.way
        WHEN 'any' THEN E'    RUN ON ANY;\n'
        WHEN 'all' THEN format(E'    RUN ON ALL;\n    SELECT %s AS node%s FROM %s.%s(%s) AS r%s;\n', :'node',
                               CASE WHEN r.prorettype <> 'void'::regtype THEN ', r.*' END, r.home, r.name, COALESCE(r.passed, ''),
                               CASE WHEN t.columns LIKE 'answer %' THEN ' (answer)' END)
        WHEN 'split' THEN format(E'    SPLIT %s;\n    RUN ON idempotent.node_of(%s, scope);\n', replace(r.note, ',', ', '), split_part(r.note, ',', 1))
        ELSE format(E'    RUN ON idempotent.node_of(%s, %s);\n', CASE r.note WHEN 'key_header' THEN 'idempotent.http_key(key_header)' ELSE r.note END, 'scope')
        END)
    END,
    format(E';\nREVOKE ALL ON ROUTINE %1$s.%2$s(%3$s) FROM PUBLIC;\nCOMMENT ON ROUTINE %1$s.%2$s(%3$s) IS %4$L;\n', r.home, r.name, r.identity,
           CASE r.way WHEN 'no' THEN 'refused: ' || r.note WHEN 'all' THEN 'on every node: ' || r.comment ELSE r.comment END))
  FROM pg_temp.routine AS r LEFT JOIN pg_temp.returned AS t ON t.oid = r.oid
 WHERE r.way <> 'here' ORDER BY r.name COLLATE "C";

-- The views.
SELECT format($sql$
DROP VIEW IF EXISTS idempotent.%1$I;
DROP FUNCTION IF EXISTS idempotent.all_%1$s();
CREATE FUNCTION idempotent.all_%1$s() RETURNS TABLE(node text, %2$s)
LANGUAGE plproxy AS $$
    CLUSTER %3$L;
    RUN ON ALL;
    SELECT %4$s AS node, %5$s FROM idempotent.%1$I AS v;
$$;
REVOKE ALL ON FUNCTION idempotent.all_%1$s() FROM PUBLIC;
COMMENT ON FUNCTION idempotent.all_%1$s() IS 'behind the view idempotent.%1$s';
CREATE VIEW idempotent.%1$I AS SELECT v.node, %6$s FROM idempotent.all_%1$s() AS v;
COMMENT ON VIEW idempotent.%1$I IS %7$L;
$sql$, s.name, s.columns, :'cluster', :'node', s.sent, s.read, 'of every node: ' || s.comment) FROM pg_temp.shown AS s ORDER BY s.name;

-- And the settings of the servers, which are each server's own.
SELECT format($sql$
CREATE OR REPLACE FUNCTION idempotent.all_settings() RETURNS TABLE(node text, name text, setting text)
LANGUAGE plproxy AS $$
    CLUSTER %1$L;
    RUN ON ALL;
    SELECT %2$s AS node, s.name, s.setting FROM pg_catalog.pg_settings AS s WHERE s.name LIKE 'idempotent.%%';
$$;
REVOKE ALL ON FUNCTION idempotent.all_settings() FROM PUBLIC;
COMMENT ON FUNCTION idempotent.all_settings() IS 'behind the view idempotent.settings';
CREATE OR REPLACE VIEW idempotent.settings AS SELECT * FROM idempotent.all_settings();
COMMENT ON VIEW idempotent.settings IS 'of every node: the settings of the server';
$sql$, :'cluster', :'node');

-- What callers call.
\if :{?callers}
SELECT format(E'GRANT USAGE ON SCHEMA %1$s, idempotent TO %2$I;\nGRANT USAGE ON FOREIGN SERVER %3$I TO %2$I;\nGRANT EXECUTE ON FUNCTION idempotent.http_key(text), idempotent.node_of(text, text) TO %2$I;\n%4$s',
              min(r.home), :'callers', :'cluster', string_agg(format(E'GRANT EXECUTE ON FUNCTION %s.%s(%s) TO %I;\n', r.home, r.name, r.identity, :'callers'), ''))
  FROM pg_temp.routine AS r
 WHERE r.way IN ('owner', 'split', 'any', 'here') AND r.name = ANY ((idempotent.library() ->> 'callers_functions')::text[]);
\endif
SELECT 'RESET search_path; RESET client_min_messages;';
ROLLBACK;
