-- What default privileges (ALTER DEFAULT PRIVILEGES ... GRANT) have given while the script ran is taken back: a role has
-- rights on the extension's objects because an administrator gave them. Last, when all objects are there.
DO $rights$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT CASE WHEN r.granted_as OPERATOR(pg_catalog.=) 'monitor' THEN 'GRANT OPTION FOR ' END AS part, r.privilege,
               CASE WHEN r.kind OPERATOR(pg_catalog.=) 'view' THEN 'table' ELSE r.kind END AS kind, r.object, r.role
        FROM idempotent.rights AS r
        WHERE r.granted_as IS NULL OR r.granted_as OPERATOR(pg_catalog.<>) 'monitor' OR r.grantable
    LOOP
        EXECUTE pg_catalog.format('REVOKE %s%s ON %s %s FROM %I', given.part, given.privilege, given.kind, given.object, given.role);
    END LOOP;
END $rights$;
