-- The surface that callers rely on: names, arguments, types, defaults. From 1.0.0 on a major version may add to it, and changes and removes nothing.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
\pset format unaligned
\pset fieldsep ' '
\pset tuples_only on
CREATE TEMPORARY VIEW members AS
SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_idempotent';

-- functions and procedures outside of the schema idempotent: what each returns, then an argument a line
SELECT CASE WHEN l.n = 0 THEN p.proname || CASE p.prokind WHEN 'p' THEN ' (procedure)' ELSE ' -> ' || CASE WHEN p.proretset THEN 'setof ' ELSE '' END || format_type(p.prorettype, NULL) END
            ELSE concat_ws(' ', '   ', CASE p.proargmodes[l.n] WHEN 'o' THEN 'out' WHEN 'b' THEN 'inout' WHEN 't' THEN 'out' END, p.proargnames[l.n],
                           format_type(coalesce(p.proallargtypes[l.n], p.proargtypes[l.n - 1]), NULL), '= ' || pg_get_function_arg_default(p.oid, l.n::integer)) END
FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
CROSS JOIN LATERAL generate_series(0, coalesce(array_length(p.proallargtypes, 1), p.pronargs)) AS l (n)
WHERE p.pronamespace <> 'idempotent'::regnamespace
ORDER BY p.proname COLLATE "C", p.oid, l.n;

-- the columns of the result type, of the operations' settings and of the views
SELECT CASE WHEN a.attnum = 1 THEN c.relname || E'\n' ELSE '' END || '    ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' = ' || pg_get_expr(x.adbin, x.adrelid), '')
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
WHERE c.relnamespace = 'idempotent'::regnamespace AND (c.relkind = 'v' OR c.relname = 'operation') OR c.oid = (SELECT t.typrelid FROM pg_type AS t WHERE t.oid = 'idempotent_result'::regtype)
ORDER BY c.relkind, c.relname COLLATE "C", a.attnum;

-- settings of the server
SELECT outcome FROM idempotent_replay('surface', 'k');
SELECT name, vartype, context, boot_val, unit FROM pg_settings WHERE name LIKE 'idempotent.%' ORDER BY name COLLATE "C";
