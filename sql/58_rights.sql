-- Who holds which right on the extension's objects, besides their owner.

CREATE VIEW idempotent.rights AS
WITH member AS (
    SELECT d.classid, d.objid, e.extnamespace
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
      AND e.extname OPERATOR(pg_catalog.=) 'pg_idempotent'
),
object AS (
    SELECT 'routine' AS kind, m.classid, m.objid, p.proname AS name, p.proowner AS owner,
           p.pronamespace OPERATOR(pg_catalog.=) m.extnamespace AS is_public,
           COALESCE(p.proacl, pg_catalog.acldefault('f'::pg_catalog."char", p.proowner)) AS acl, '' AS part
    FROM pg_catalog.pg_proc AS p JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) p.oid
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION ALL
    SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'sequence' WHEN c.relkind OPERATOR(pg_catalog.=) 'v' THEN 'view' ELSE 'table' END,
           m.classid, m.objid, c.relname, c.relowner, false, c.relacl, ''
    FROM pg_catalog.pg_class AS c JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) c.oid
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
    UNION ALL
    SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v' THEN 'view' ELSE 'table' END,
           m.classid, m.objid, c.relname, c.relowner, false, t.attacl, pg_catalog.format(' (%I)', t.attname)
    FROM pg_catalog.pg_attribute AS t JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.attrelid
    JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) c.oid
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND t.attacl IS NOT NULL
    UNION ALL
    SELECT 'type', m.classid, m.objid, t.typname, t.typowner, t.typnamespace OPERATOR(pg_catalog.=) m.extnamespace,
           COALESCE(t.typacl, pg_catalog.acldefault('T'::pg_catalog."char", t.typowner)), ''
    FROM pg_catalog.pg_type AS t JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) t.oid
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
      -- not those that tables and arrays bring along
      AND t.typcategory OPERATOR(pg_catalog.<>) 'A'::pg_catalog."char"
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c
                      WHERE c.oid OPERATOR(pg_catalog.=) t.typrelid AND c.relkind OPERATOR(pg_catalog.<>) 'c'::pg_catalog."char")
    UNION ALL
    SELECT 'schema', m.classid, m.objid, n.nspname, n.nspowner, false, n.nspacl, ''
    FROM pg_catalog.pg_namespace AS n JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) n.oid
    WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
),
granted AS (
    SELECT o.kind, (pg_catalog.pg_identify_object(o.classid, o.objid, 0)).identity AS object, o.name, o.is_public,
           a.grantee, pg_catalog.concat(a.privilege_type, o.part) AS privilege, a.is_grantable, CASE WHEN a.grantor OPERATOR(pg_catalog.<>) o.owner THEN a.grantor END AS grantor
    FROM object AS o, LATERAL pg_catalog.aclexplode(o.acl) AS a
    WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
)
SELECT CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'public' ELSE pg_catalog.pg_get_userbyid(g.grantee)::pg_catalog.text END AS role,
       g.kind, g.object, g.privilege, g.is_grantable AS grantable,
       CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN NULL
            WHEN g.is_public AND g.name OPERATOR(pg_catalog.=) ANY (l.callers_functions::pg_catalog.name[]) THEN 'caller'
            WHEN g.is_public AND g.kind OPERATOR(pg_catalog.=) 'type' THEN 'caller'
            WHEN g.is_public AND g.name OPERATOR(pg_catalog.=) ANY ('{idempotent_outbox_take,idempotent_outbox_ack,idempotent_outbox_release}'::pg_catalog.name[]) THEN 'relay'
            WHEN g.is_public AND g.name OPERATOR(pg_catalog.=) 'idempotent_doctor'::pg_catalog.name
                 AND pg_catalog.pg_get_userbyid(g.grantee) OPERATOR(pg_catalog.=) 'pg_monitor'::pg_catalog.name THEN 'monitor'
            WHEN g.is_public THEN 'administrator'
            WHEN pg_catalog.pg_get_userbyid(g.grantee) OPERATOR(pg_catalog.<>) 'pg_monitor'::pg_catalog.name THEN NULL
            WHEN g.kind OPERATOR(pg_catalog.=) 'schema' AND g.privilege OPERATOR(pg_catalog.=) 'USAGE' THEN 'monitor'
            WHEN g.kind OPERATOR(pg_catalog.=) 'routine' AND g.name OPERATOR(pg_catalog.=) ANY ('{counters,library,samples,additions}'::pg_catalog.name[]) THEN 'monitor'
            WHEN g.privilege OPERATOR(pg_catalog.=) 'SELECT'
                 AND (g.kind OPERATOR(pg_catalog.=) 'view' OR g.name OPERATOR(pg_catalog.=) ANY ('{offsets,locks,audit}'::pg_catalog.name[])) THEN 'monitor'
       END AS granted_as,
       pg_catalog.pg_get_userbyid(g.grantor)::pg_catalog.text AS passed_on_by
FROM granted AS g, pg_catalog.jsonb_to_record(idempotent.library()) AS l (callers_functions text);
COMMENT ON VIEW idempotent.rights IS 'who holds rights on the extension''s objects, besides their owner';
COMMENT ON COLUMN idempotent.rights.role IS 'the role; public, which no role can be called, is PUBLIC';
COMMENT ON COLUMN idempotent.rights.kind IS 'routine, table, view, sequence, type or schema';
COMMENT ON COLUMN idempotent.rights.object IS 'the object, as GRANT names it';
COMMENT ON COLUMN idempotent.rights.privilege IS 'what it may do with it; with the column, if it may with that alone';
COMMENT ON COLUMN idempotent.rights.grantable IS 'whether it may pass that on';
COMMENT ON COLUMN idempotent.rights.granted_as IS 'the documented role that has this right: caller, relay, administrator or monitor; null: none has';
COMMENT ON COLUMN idempotent.rights.passed_on_by IS 'the role that has passed it on, and without whose own right it goes; null: the owner of the object gave it';
GRANT SELECT ON idempotent.rights TO pg_monitor;
