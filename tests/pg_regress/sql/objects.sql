-- What the extension consists of: every object, every right, every comment.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT extname, extnamespace::regnamespace, extrelocatable, extconfig::regclass[], array_position(extcondition, NULL) IS NULL AND '' = ALL (extcondition) AS whole_tables FROM pg_extension WHERE extname = 'pg_idempotent';
CREATE TEMPORARY VIEW members AS
    SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS description
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE e.extname = 'pg_idempotent' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
-- everything but the row and array types that come with tables
SELECT description FROM members WHERE description NOT LIKE 'type %' OR description = 'type idempotent_result' ORDER BY description COLLATE "C";

-- functions: how they may be planned, whose rights they run with, who may call them
SELECT p.proname, p.provolatile AS volatile, p.proparallel AS parallel, p.proisstrict AS strict, p.prosecdef AS definer, p.proretset AS set, l.lanname, p.proconfig, array_remove(p.proacl, makeaclitem(p.proowner, p.proowner, 'EXECUTE', false)) AS granted
FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_language AS l ON l.oid = p.prolang ORDER BY p.proname COLLATE "C", p.proretset;
-- their arguments are the contract
\pset format unaligned
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid ORDER BY p.proname COLLATE "C", p.proretset;
\pset format aligned
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'idempotent_result'::regclass ORDER BY attnum;
-- every body in SQL or PL/pgSQL, and every one with rights of its owner's, pins its search_path
SELECT p.oid::regprocedure FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_language AS l ON l.oid = p.prolang
WHERE (l.lanname NOT IN ('c', 'internal') OR p.prosecdef) AND NOT coalesce(array_to_string(p.proconfig, ' ') LIKE '%search_path=%', false);
-- nothing to PUBLIC, and nothing to anybody but the owner
SELECT m.description, a.grantee::regrole, a.privilege_type FROM members AS m LEFT JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid LEFT JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
    LEFT JOIN pg_namespace AS n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid LEFT JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid AND m.description = 'type idempotent_result',
    LATERAL aclexplode(coalesce(p.proacl, c.relacl, n.nspacl, t.typacl, acldefault(CASE m.classid WHEN 'pg_proc'::regclass THEN 'f' WHEN 'pg_class'::regclass THEN CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END WHEN 'pg_namespace'::regclass THEN 'n' ELSE 'T' END::"char",
        coalesce(p.proowner, c.relowner, n.nspowner, t.typowner)))) AS a
WHERE (p.oid IS NOT NULL OR c.oid IS NOT NULL OR n.oid IS NOT NULL OR t.oid IS NOT NULL) AND a.grantee <> coalesce(p.proowner, c.relowner, n.nspowner, t.typowner)
ORDER BY 1, 2, 3;

-- tables: one shape, one logged and one not, each with its unique constraint on the record id
SELECT c.relname, c.relkind, c.relpersistence FROM pg_class AS c WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind IN ('r', 'S', 'i', 'v') ORDER BY c.relname COLLATE "C";
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'idempotent'::regnamespace AND contype IN ('p', 'u', 'x', 'f') ORDER BY conname COLLATE "C";
SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT count(*) AS columns, count(*) FILTER (WHERE (u.attname, u.atttypid, u.atttypmod, u.attnotnull, u.attcollation) IS NOT DISTINCT FROM (l.attname, l.atttypid, l.atttypmod, l.attnotnull, l.attcollation)) AS the_same
FROM (SELECT * FROM pg_attribute WHERE attrelid = 'idempotent.record'::regclass AND attnum > 0) AS u FULL JOIN (SELECT * FROM pg_attribute WHERE attrelid = 'idempotent.record_logged'::regclass AND attnum > 0) AS l USING (attnum);
-- no column makes its own values, which a dump could not carry
SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) AND (attidentity <> '' OR attgenerated <> '');

-- every object has a comment, and so has every column of every table
SELECT description FROM members WHERE obj_description(objid, classid::regclass::name) IS NULL AND (description NOT LIKE 'type %' OR description = 'type idempotent_result') ORDER BY 1;
SELECT pg_describe_object('pg_class'::regclass, attrelid, attnum) FROM pg_attribute
WHERE attrelid IN (SELECT objid FROM members JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v')) AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL ORDER BY 1;
SELECT indexrelid::regclass FROM pg_index AS i WHERE indrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid) AND obj_description(indexrelid, 'pg_class') IS NULL;
SELECT pg_describe_object('pg_trigger'::regclass, oid, 0) FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) AND NOT tgisinternal AND obj_description(oid, 'pg_trigger') IS NULL;

-- settings
SELECT outcome FROM idempotent_replay('objects', 'k');
SELECT name, setting, unit, context, vartype, short_desc <> '' AS described FROM pg_settings WHERE name LIKE 'idempotent.%' AND name <> 'idempotent.sweeper_enabled' ORDER BY name COLLATE "C";
