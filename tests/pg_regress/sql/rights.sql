-- Rights that come and go: USAGE on the functions' schema, default privileges, and who has more than is documented.
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_idempotent_rights;
DROP ROLE IF EXISTS regress_idempotent_reader, regress_idempotent_user, regress_idempotent_watcher;
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT current_database() AS home \gset
CREATE DATABASE regress_idempotent_rights;
\c regress_idempotent_rights
CREATE ROLE regress_idempotent_reader;
CREATE ROLE regress_idempotent_user;
CREATE ROLE regress_idempotent_watcher IN ROLE pg_monitor;

-- default privileges of whoever creates the extension give nobody a right on it
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO regress_idempotent_reader, pg_monitor WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_idempotent_reader, pg_monitor, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_idempotent_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_idempotent_reader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_idempotent_reader, pg_monitor;
CREATE SCHEMA closed;
REVOKE ALL ON SCHEMA closed FROM regress_idempotent_reader, pg_monitor;
ALTER DEFAULT PRIVILEGES IN SCHEMA closed GRANT EXECUTE ON FUNCTIONS TO regress_idempotent_reader;
CREATE EXTENSION pg_idempotent SCHEMA closed;
SELECT role, kind, count(*) FROM idempotent.rights WHERE role <> 'pg_monitor' GROUP BY role, kind;
SELECT object, privilege, grantable, granted_as FROM idempotent.rights WHERE role = 'pg_monitor' ORDER BY object COLLATE "C", privilege;
SELECT administrators, surplus_rights FROM idempotent.health;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_idempotent_reader, pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_idempotent_reader, pg_monitor, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_idempotent_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM regress_idempotent_reader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_idempotent_reader, pg_monitor;
ALTER DEFAULT PRIVILEGES IN SCHEMA closed REVOKE ALL ON FUNCTIONS FROM regress_idempotent_reader;

-- who has more than is documented
GRANT EXECUTE ON FUNCTION closed.idempotent_operation, closed.idempotent_sweep TO regress_idempotent_user;
GRANT EXECUTE ON FUNCTION closed.idempotent_outbox_take TO regress_idempotent_reader;
GRANT EXECUTE ON FUNCTION closed.idempotent_forget TO PUBLIC;
GRANT EXECUTE ON FUNCTION closed.idempotent_claim TO regress_idempotent_reader WITH GRANT OPTION;
GRANT SELECT ON idempotent.record TO regress_idempotent_watcher;
GRANT UPDATE ON idempotent.operation TO pg_monitor;
GRANT USAGE ON SEQUENCE idempotent.fence TO regress_idempotent_user;
GRANT SELECT (payload, key) ON idempotent.outbox_message TO pg_monitor;
GRANT UPDATE (response) ON idempotent.record_logged TO regress_idempotent_user WITH GRANT OPTION;
SET ROLE regress_idempotent_watcher;
SELECT administrators FROM idempotent.health;
SELECT regexp_replace(surplus, '(on [^( ]+)\(.*', '\1') AS surplus FROM idempotent.health, unnest(surplus_rights) AS surplus;
RESET ROLE;
SELECT remedy FROM closed.idempotent_doctor() WHERE problem = 'surplus_right' AND detail ~ ' \(\w+\) on ' ORDER BY remedy COLLATE "C" \gexec
SELECT role, privilege FROM idempotent.rights WHERE privilege ~ '\(';
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA closed FROM PUBLIC, regress_idempotent_reader, regress_idempotent_user;
REVOKE ALL ON idempotent.record, idempotent.operation, idempotent.fence FROM regress_idempotent_watcher, pg_monitor, regress_idempotent_user;
SELECT administrators, surplus_rights FROM idempotent.health;

-- rights that were passed on
GRANT USAGE ON SCHEMA closed TO regress_idempotent_user, regress_idempotent_reader;
GRANT EXECUTE ON FUNCTION closed.idempotent_forget TO regress_idempotent_user WITH GRANT OPTION;
GRANT SELECT ON idempotent.record TO regress_idempotent_user WITH GRANT OPTION;
GRANT USAGE ON SCHEMA idempotent TO regress_idempotent_user;
SET ROLE regress_idempotent_user;
GRANT EXECUTE ON FUNCTION closed.idempotent_forget TO regress_idempotent_reader;
GRANT SELECT ON idempotent.record TO regress_idempotent_reader;
RESET ROLE;
SELECT detail, remedy FROM closed.idempotent_doctor() WHERE problem = 'surplus_right' ORDER BY detail COLLATE "C";
SELECT remedy FROM closed.idempotent_doctor() WHERE problem = 'surplus_right' ORDER BY remedy COLLATE "C" \gexec
SELECT role, kind, privilege, granted_as, passed_on_by FROM idempotent.rights WHERE role <> 'pg_monitor';
SELECT closed.idempotent_grant('regress_idempotent_user');
GRANT EXECUTE ON FUNCTION closed.idempotent_claim, closed.idempotent_run TO regress_idempotent_user WITH GRANT OPTION;
SET ROLE regress_idempotent_user;
GRANT EXECUTE ON FUNCTION closed.idempotent_claim TO regress_idempotent_reader;
RESET ROLE;
SELECT closed.idempotent_revoke('regress_idempotent_reader');
SELECT privilege, granted_as, passed_on_by FROM idempotent.rights WHERE role = 'regress_idempotent_reader';
SELECT closed.idempotent_revoke('regress_idempotent_user');
SELECT role, privilege FROM idempotent.rights WHERE role <> 'pg_monitor';
REVOKE EXECUTE ON FUNCTION closed.idempotent_forget FROM regress_idempotent_user;
REVOKE USAGE ON SCHEMA closed FROM regress_idempotent_user, regress_idempotent_reader;

-- a closed schema: the grant opens it for the role, and the revocation closes it
SELECT closed.idempotent_grant('regress_idempotent_user');
SELECT has_schema_privilege('regress_idempotent_user', 'closed', 'USAGE'), has_schema_privilege('regress_idempotent_reader', 'closed', 'USAGE');
SELECT closed.idempotent_grant('regress_idempotent_user');
SELECT DISTINCT role, kind, privilege, granted_as FROM idempotent.rights WHERE role = 'regress_idempotent_user' ORDER BY kind;
SELECT closed.idempotent_revoke('regress_idempotent_user');
SELECT has_schema_privilege('regress_idempotent_user', 'closed', 'USAGE');
SELECT count(*) FROM pg_shdepend WHERE refobjid = 'regress_idempotent_user'::regrole;
DROP ROLE regress_idempotent_user;
-- revoked twice, or without a grant: nothing happens
SELECT closed.idempotent_revoke('regress_idempotent_reader'), closed.idempotent_revoke('regress_idempotent_reader');
-- USAGE that the role had before is not the grant's to take
GRANT USAGE ON SCHEMA closed TO regress_idempotent_reader;
SELECT closed.idempotent_grant('regress_idempotent_reader');
SELECT closed.idempotent_revoke('regress_idempotent_reader');
SELECT has_schema_privilege('regress_idempotent_reader', 'closed', 'USAGE');
REVOKE USAGE ON SCHEMA closed FROM regress_idempotent_reader;
-- where PUBLIC has it nothing is granted
GRANT USAGE ON SCHEMA closed TO PUBLIC;
SELECT closed.idempotent_grant('regress_idempotent_reader');
SELECT nspacl::text LIKE '%reader%' AS granted FROM pg_namespace WHERE nspname = 'closed';
SELECT closed.idempotent_revoke('regress_idempotent_reader');
DROP ROLE regress_idempotent_reader;
DROP ROLE regress_idempotent_watcher;
\c :home
DROP DATABASE regress_idempotent_rights;
