-- Locks with a key: taken for a time, extended by the same key, refused to others.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

SELECT acquired, fence > 0 AS fenced, holder, expires_at > clock_timestamp() + '59 minutes' AS for_an_hour FROM idempotent_lock('report', 'worker-1', '1 hour');
SELECT fence AS first_fence, expires_at AS first_end FROM idempotent_lock('report', 'worker-1', '1 second') \gset
-- the same key: the same fence, and never a shorter time
SELECT acquired, fence = :first_fence AS same_fence, holder, expires_at > :'first_end' AS extended FROM idempotent_lock('report', 'worker-1', '2 hours');
SELECT acquired, fence = :first_fence AS same_fence, expires_at > clock_timestamp() + '1 hour' AS not_shortened FROM idempotent_lock('report', 'worker-1', '1 second');
-- another key is refused, and told who has it and until when; the fence is for who asks with its key
SELECT acquired, fence, holder, expires_at > clock_timestamp() + '1 hour' AS until FROM idempotent_lock('report', 'worker-2', '1 hour');
SELECT acquired FROM idempotent_lock('report', 'WORKER-1', '1 hour');
-- another resource, another scope
SELECT (idempotent_lock('invoice', 'worker-2', '1 hour')).acquired, (idempotent_lock('report', 'worker-2', '1 hour', scope => 'tenant-7')).acquired;
SELECT resource, scope, holder FROM idempotent.locks ORDER BY resource, scope;
-- unlocking takes the key and the fence
SELECT idempotent_unlock('report', 'worker-2', fence => :first_fence), idempotent_unlock('report', 'worker-1', fence => :first_fence - 1), idempotent_unlock('report', 'worker-1', fence => :first_fence, scope => 'tenant-7'), idempotent_unlock('nothing', 'worker-1', fence => :first_fence);
SELECT idempotent_unlock('report', 'worker-1', fence => :first_fence), idempotent_unlock('report', 'worker-1', fence => :first_fence) AS again;
-- then it is anybody's, with a higher fence; who held it before is a stranger
SELECT acquired, fence > :first_fence AS higher, holder FROM idempotent_lock('report', 'worker-2', '1 hour');
SELECT acquired, holder FROM idempotent_lock('report', 'worker-1', '1 hour');
SELECT idempotent_unlock('report', 'worker-1', fence => :first_fence);
-- what has lapsed is nobody's: not its holder's, who gets a new fence
SELECT fence AS lapsed_fence FROM idempotent_lock('brief', 'worker-1', '1 microsecond') \gset
SELECT idempotent_unlock('brief', 'worker-1', fence => :lapsed_fence) AS too_late;
SELECT acquired, fence > :lapsed_fence AS higher, holder FROM idempotent_lock('brief', 'worker-1', '1 microsecond');
SELECT acquired, fence > :lapsed_fence + 1 AS higher, holder FROM idempotent_lock('brief', 'worker-2', '1 microsecond');
-- and is swept, unlike one that lasts
SELECT idempotent_sweep() > 0 AS swept;
SELECT resource, scope, holder FROM idempotent.locks ORDER BY resource, scope;
-- a fence is never granted twice, over all locks and leases
SELECT array_agg(fence ORDER BY n) = array_agg(fence ORDER BY fence) AS growing, count(DISTINCT fence) FROM (SELECT n, (idempotent_lock('r' || n, 'w', '1 hour')).fence FROM generate_series(1, 50) AS n) AS grants;
SELECT (idempotent_claim('locks', 'k', lease => '1 hour')).fence > max(fence) AS higher FROM idempotent.locks;
-- it goes with the transaction that took it
BEGIN;
SELECT acquired FROM idempotent_lock('undone', 'worker-1', '1 hour');
SELECT acquired FROM idempotent_lock('undone', 'worker-1', '2 hours');
SAVEPOINT s;
SELECT idempotent_unlock('undone', 'worker-1', fence => (idempotent_lock('undone', 'worker-1', '1 hour')).fence);
SELECT acquired, holder FROM idempotent_lock('undone', 'worker-2', '1 hour');
ROLLBACK TO s;
SELECT acquired, holder FROM idempotent_lock('undone', 'worker-2', '1 hour');
ROLLBACK;
SELECT acquired, holder FROM idempotent_lock('undone', 'worker-2', '1 hour');

-- what breaks the rules: nothing happens
SELECT idempotent_lock(NULL, 'k', '1 hour');
SELECT idempotent_lock('', 'k', '1 hour');
SELECT idempotent_lock(repeat('r', 256), 'k', '1 hour');
SELECT idempotent_lock('r', NULL, '1 hour');
SELECT idempotent_lock('r', E'k\n', '1 hour');
SELECT idempotent_lock('r', 'k', NULL);
SELECT idempotent_lock('r', 'k', '0');
SELECT idempotent_lock('r', 'k', '200 years');
SELECT idempotent_lock('r', 'k', '1 hour', NULL);
SELECT idempotent_unlock('r', 'k', fence => NULL);
SELECT idempotent_unlock('', 'k', fence => 1);
BEGIN READ ONLY;
SELECT idempotent_lock('r', 'k', '1 hour');
ROLLBACK;
SELECT count(*) FROM idempotent.locks WHERE resource = 'r';
-- the right to call it is enough
CREATE ROLE regress_idempotent_locker;
SELECT idempotent_grant('regress_idempotent_locker');
SET ROLE regress_idempotent_locker;
SELECT acquired, fence AS role_fence FROM idempotent_lock('granted', 'k', '1 hour') \gset role_
SELECT :'role_acquired' AS acquired, idempotent_unlock('granted', 'k', fence => :role_role_fence);
SELECT count(*) FROM idempotent.locks;
RESET ROLE;
-- a resource that has the name of an operation is for those that the operation is for
CREATE ROLE regress_idempotent_keeper;
SELECT idempotent_grant('regress_idempotent_keeper');
SELECT role, scope_required, max_lease FROM idempotent_operation('locked vault', role => 'regress_idempotent_keeper', scope_required => true, max_lease => '1 minute');
SET ROLE regress_idempotent_keeper;
SELECT idempotent_lock('locked vault', 'k', '1 minute');
SELECT idempotent_lock('locked vault', 'k', '61 seconds', scope => 'tenant-7');
SELECT acquired, fence AS vault_fence FROM idempotent_lock('locked vault', 'k', '1 minute', scope => 'tenant-7') \gset
SELECT :'acquired' AS acquired;
RESET ROLE;
SELECT idempotent_operation_drop('locked vault');
SET ROLE regress_idempotent_locker;
SELECT idempotent_lock('locked vault', 'other', '1 minute', scope => 'tenant-7');
SELECT idempotent_lock('locked vault', 'k', '1 minute', scope => 'tenant-7');
SELECT idempotent_unlock('locked vault', 'k', scope => 'tenant-7', fence => :vault_fence);
SET ROLE regress_idempotent_keeper;
SELECT idempotent_unlock('locked vault', 'k', fence => :vault_fence);
SELECT idempotent_unlock('locked vault', 'k', scope => 'tenant-7', fence => :vault_fence);
RESET ROLE;
-- and needs none
SET idempotent.undeclared_operations = 'refuse';
SELECT acquired, holder FROM idempotent_lock('no operation', 'k', '1 minute');
RESET idempotent.undeclared_operations;
SELECT idempotent_operation_drop('locked vault'), idempotent_revoke('regress_idempotent_keeper');
DROP OWNED BY regress_idempotent_keeper;
DROP ROLE regress_idempotent_keeper;
SELECT idempotent_revoke('regress_idempotent_locker');
DROP OWNED BY regress_idempotent_locker;
DROP ROLE regress_idempotent_locker;
DELETE FROM idempotent.locks;
SELECT idempotent_forget('locks', 'k', fence => (SELECT fence FROM idempotent.record WHERE operation = 'locks' AND key = 'k'));
