-- What administrators did, and what awaits them; records that are changed by hand.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_auditor, regress_idempotent_monitor;
CREATE ROLE regress_idempotent_auditor;
CREATE ROLE regress_idempotent_monitor IN ROLE pg_monitor;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT clock_timestamp() AS began \gset

-- in the transaction of the deed
BEGIN;
SELECT outcome FROM idempotent_seal('audit', 'sealed');
ROLLBACK;
SELECT outcome FROM idempotent_seal('audit', 'sealed', 'tenant');
SELECT on_lapse FROM idempotent_operation('audit', on_lapse => 'unknown', retention => '2 days');
SELECT on_lapse FROM idempotent_operation('audit');
UPDATE idempotent.operation SET retention = '3 days' WHERE name = 'audit';
SELECT outcome FROM idempotent_claim('audit', 'lapsed', '{"secret": 1}', lease => '1 microsecond');
SELECT outcome FROM idempotent_claim('audit', 'lapsed', '{"secret": 1}');
SELECT outcome FROM idempotent_claim('audit', 'lapsed', '{"secret": 1}');
-- a look is not counted, nor is what is rolled back
SELECT outcome FROM idempotent_replay('audit', 'lapsed');
SELECT outcome FROM idempotent_claim('audit', 'lapsed', '{"secret": 1}', strict => true);
BEGIN READ ONLY;
SELECT outcome FROM idempotent_replay('audit', 'lapsed');
COMMIT;
SELECT operation, scope, key, because, since < now() AS since, asked, last_asked < now() AS last_asked FROM idempotent.unresolved WHERE operation LIKE 'audit%';
SELECT outcome FROM idempotent_resolve('audit', 'lapsed', 'completed', '{"secret": 2}');
SELECT count(*) FROM idempotent.unresolved WHERE operation LIKE 'audit%';
SELECT idempotent_forget('audit', 'lapsed'), idempotent_forget('audit', 'never there');
GRANT EXECUTE ON FUNCTION idempotent_sweep(integer), idempotent_operation_drop(text), idempotent_forget_all(text), idempotent_seal(text, text, text) TO regress_idempotent_auditor;
SET ROLE regress_idempotent_auditor;
SELECT outcome FROM idempotent_seal('audit', 'by the auditor');
SELECT idempotent_forget_all('audit');
SELECT idempotent_operation_drop('audit');
RESET ROLE;
SELECT idempotent_grant('regress_idempotent_auditor'), idempotent_revoke('regress_idempotent_auditor');
SELECT max_attempts FROM idempotent_operation('audit_topic', max_attempts => 1);
SELECT count(idempotent_outbox_put('audit_topic', '{"secret": 3}')) AS put;
SELECT attempt FROM idempotent_outbox_take('audit_topic', lease => '1 microsecond');
SELECT count(*) AS taken FROM idempotent_outbox_take('audit_topic');
SELECT idempotent_outbox_redrive('audit_topic') AS redriven, idempotent_outbox_redrive('audit_topic') AS again;
SELECT (idempotent_claim('audit_swept', 'k')).outcome, idempotent_complete('audit_swept', 'k', retention => '1 microsecond');
SELECT idempotent_sweep() > 0 AS swept;
SELECT action, CASE role WHEN current_user THEN 'the administrator' ELSE role END AS role, session_role = session_user AS by_the_session, operation, scope, key,
       CASE action WHEN 'sweep' THEN detail LIKE '% rows' ELSE true END AS fits, CASE WHEN action <> 'sweep' THEN detail END AS detail, expires_at - at AS kept
  FROM idempotent.audit WHERE at >= :'began' ORDER BY at;
SELECT count(*) FROM idempotent.audit AS a WHERE a::text LIKE '%secret%';
SET ROLE regress_idempotent_monitor;
SELECT count(*) > 0 AS read FROM idempotent.audit;
SELECT count(*) FROM idempotent.unresolved WHERE operation LIKE 'audit%';
DELETE FROM idempotent.audit;
RESET ROLE;
SET ROLE regress_idempotent_auditor;
SELECT count(*) FROM idempotent.audit;
SELECT idempotent.audited('seal', 'audit', 'forged');
RESET ROLE;
-- how long it is kept
SET idempotent.audit_retention = 0;
SELECT outcome FROM idempotent_seal('audit', 'unseen');
SET idempotent.audit_retention = -1;
SELECT outcome FROM idempotent_seal('audit', 'kept');
RESET idempotent.audit_retention;
SELECT key, expires_at FROM idempotent.audit WHERE key IN ('unseen', 'kept');
UPDATE idempotent.audit SET expires_at = '2000-01-01' WHERE operation = 'audit';
SELECT what, expired > 0 AS expired FROM idempotent.backlog WHERE what IN ('audit', 'asked') ORDER BY what;
SELECT idempotent_sweep() > 0 AS swept;
SELECT count(*) FROM idempotent.audit WHERE operation = 'audit';

-- keys from before a loss: unknown, and listed once they are asked for
SELECT idempotent_new_key(now() - interval '1 minute') AS lost, idempotent_new_key(now() - interval '1 minute') AS other \gset
SELECT (idempotent_claim('audit_lost', :'lost')).outcome, idempotent_complete('audit_lost', :'lost', '1');
SELECT (idempotent_claim('audit_kept', :'other')).outcome, idempotent_complete('audit_kept', :'other', '1');
-- what is gone already is no loss, and what is deleted by hand is one, for its operation
DELETE FROM idempotent.record WHERE expires_at < clock_timestamp();
DELETE FROM idempotent.record WHERE operation = 'audit_lost';
SELECT outcome FROM idempotent_claim('audit_lost', :'lost');
SELECT outcome FROM idempotent_claim('audit_lost', :'other');
SELECT outcome FROM idempotent_replay('audit_kept', :'other');
BEGIN;
SELECT outcome FROM idempotent_claim('audit_kept', :'lost');
ROLLBACK;
-- a claim that raises, or is rolled back, leaves no trace; the key can be resolved all the same
SELECT idempotent_new_key(now() - interval '1 minute') AS untraced \gset
SELECT outcome FROM idempotent_claim('audit_lost', :'untraced', strict => true);
BEGIN;
SELECT outcome FROM idempotent_claim('audit_lost', :'untraced');
ROLLBACK;
SELECT operation, key = :'lost' AS lost, because, asked FROM idempotent.unresolved WHERE operation LIKE 'audit%' ORDER BY 2 DESC;
SELECT outcome FROM idempotent_resolve('audit_lost', :'lost', 'failed');
SELECT outcome FROM idempotent_resolve('audit_lost', :'other', 'absent');
SELECT outcome FROM idempotent_resolve('audit_lost', :'untraced', 'failed');
SELECT count(*) FROM idempotent.unresolved WHERE operation LIKE 'audit%';
SELECT outcome, failed FROM idempotent_claim('audit_lost', :'lost');
-- in the logged table as well, also with the marker
SELECT durability FROM idempotent_operation('audit_logged', durability => 'logged');
SELECT (idempotent_claim('audit_logged', :'lost')).outcome, idempotent_complete('audit_logged', :'lost', '1');
SET client_min_messages = error;
DELETE FROM idempotent.record_logged;
SELECT outcome FROM idempotent_claim('audit_logged', :'lost');
RESET client_min_messages;
-- a copy of the table, by logical replication, brings a marker of its own: this one stays
SET session_replication_role = replica;
INSERT INTO idempotent.record_logged SELECT r.* FROM idempotent.record_logged AS r WHERE r.state = 'e';
RESET session_replication_role;
SELECT count(*) FROM idempotent.record_logged WHERE state = 'e';
-- what UPDATE ends is a loss, as what DELETE takes, and what it changes otherwise is none
SELECT idempotent_new_key(now() - interval '1 minute') AS ended, idempotent_new_key(now() - interval '1 minute') AS renamed, idempotent_new_key(now() - interval '1 minute') AS again \gset
SELECT outcome, idempotent_complete('audit_changed', :'ended', '1') FROM idempotent_claim('audit_changed', :'ended');
UPDATE idempotent.record SET status = 200, expires_at = expires_at + interval '1 hour' WHERE operation = 'audit_changed';
BEGIN;
SELECT outcome FROM idempotent_claim('audit_changed', :'again');
ROLLBACK;
UPDATE idempotent.record SET expires_at = clock_timestamp() WHERE key = :'ended';
SELECT outcome FROM idempotent_claim('audit_changed', :'ended');
SELECT outcome, idempotent_complete('audit_renamed', :'renamed', '1') FROM idempotent_claim('audit_renamed', :'renamed');
UPDATE idempotent.record SET operation = 'audit_other', record_id = gen_random_uuid() WHERE key = :'renamed';
SELECT outcome FROM idempotent_claim('audit_renamed', :'renamed');
-- also past the triggers of an ordinary session
SELECT outcome, idempotent_complete('audit_replica', :'again', '1') FROM idempotent_claim('audit_replica', :'again');
SET session_replication_role = replica;
DELETE FROM idempotent.record WHERE operation = 'audit_replica';
RESET session_replication_role;
SELECT outcome FROM idempotent_claim('audit_replica', :'again');
-- what the functions delete is wanted
SELECT (idempotent_claim('audit_wanted', :'lost')).outcome, idempotent_complete('audit_wanted', :'lost', '1');
SELECT idempotent_forget_all('audit_wanted');
BEGIN;
SELECT outcome FROM idempotent_claim('audit_wanted', :'lost');
ROLLBACK;

-- what others add to the tables, and writes go past
SELECT additions FROM idempotent.health;
CREATE FUNCTION audit_passed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER audit_passed BEFORE INSERT ON idempotent.record FOR EACH ROW EXECUTE FUNCTION audit_passed();
CREATE INDEX audit_index ON idempotent.record (operation);
ALTER TABLE idempotent.record_logged ADD CONSTRAINT audit_check CHECK (attempt IS NULL OR attempt > 0), ENABLE ROW LEVEL SECURITY;
SELECT unnest(additions) AS addition FROM idempotent.health;
DROP FUNCTION audit_passed() CASCADE;
DROP INDEX idempotent.audit_index;
ALTER TABLE idempotent.record_logged DROP CONSTRAINT audit_check, DISABLE ROW LEVEL SECURITY;
SELECT additions FROM idempotent.health;

-- a fence is above the last one of its record, whatever the sequence says
SELECT outcome, fence AS first FROM idempotent_claim('audit_fence', 'k', lease => '1 microsecond') \gset
SELECT setval('idempotent.fence', 1) AS set_back;
SELECT fence > :first AS above FROM idempotent_claim('audit_fence', 'k', lease => '1 microsecond');
SELECT fence AS held FROM idempotent_lock('audit_fence', 'k', '1 microsecond') \gset
SELECT setval('idempotent.fence', 1) AS set_back;
SELECT fence > :held AS above FROM idempotent_lock('audit_fence', 'k2', '1 hour');
SELECT fence > :first AS above FROM idempotent_claim('audit_fence', 'k', lease => '1 hour');
SELECT idempotent_outbox_put('audit_fence', '1') AS message \gset
SELECT fence AS taken FROM idempotent_outbox_take('audit_fence', 1, '1 microsecond') \gset
SELECT setval('idempotent.fence', 1) AS set_back;
SELECT problem FROM idempotent_doctor() WHERE problem = 'fences_behind';
SELECT fence > :taken AS above, fence AS taken FROM idempotent_outbox_take('audit_fence', 1, '1 hour') \gset
SELECT :'above' AS above, idempotent_outbox_ack('audit_fence', ARRAY[:'message'::uuid], :taken) AS acknowledged;

-- what a request is compared by: the members that counted when it was stored
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{sent_at}');
SELECT (idempotent_claim('audit_exclude', 'k1', '{"a": 1, "b": 2, "sent_at": 1}')).outcome, idempotent_complete('audit_exclude', 'k1', '1');
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{sent_at,b}');
SELECT (idempotent_claim('audit_exclude', 'k2', '{"a": 1, "b": 2, "sent_at": 1}')).outcome, idempotent_complete('audit_exclude', 'k2', '1');
SELECT key, (idempotent_claim('audit_exclude', key, '{"a": 1, "b": 2, "sent_at": 3}')).outcome AS same, (idempotent_claim('audit_exclude', key, '{"a": 1, "b": 9, "sent_at": 3}')).outcome AS b,
       (idempotent_claim('audit_exclude', key, '{"a": 9, "b": 2, "sent_at": 1}')).outcome AS a, (idempotent_claim('audit_exclude', key, NULL)).outcome AS none,
       (idempotent_claim('audit_exclude', key, fingerprint => '\x01')).outcome AS bytes FROM unnest('{k1,k2}'::text[]) AS key;
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{}');
SELECT key, (idempotent_claim('audit_exclude', key, '{"a": 1, "b": 2, "sent_at": 3}')).outcome AS same, (idempotent_claim('audit_exclude', key, '{"a": 1, "b": 9, "sent_at": 3}')).outcome AS b FROM unnest('{k1,k2}'::text[]) AS key;
-- back, in another order: the same set
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{b,sent_at}');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k2', '{"a": 1, "b": 7, "sent_at": 7}');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k1', '{"a": 1, "b": 2, "sent_at": 7}');
-- a claim of this very transaction, a lease, a removed operation
BEGIN;
SELECT outcome FROM idempotent_claim('audit_exclude', 'k3', '{"a": 1, "b": 2}');
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{c}');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k3', '{"a": 1, "b": 3}');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k3', '{"a": 2, "b": 3}');
ROLLBACK;
SELECT outcome FROM idempotent_claim('audit_exclude', 'k4', '{"a": 1, "b": 2}', lease => '1 hour');
SELECT fingerprint_exclude FROM idempotent_operation('audit_exclude', fingerprint_exclude => '{a}');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k4', '{"a": 1, "b": 5}', wait => '0');
SELECT outcome FROM idempotent_claim('audit_exclude', 'k4', '{"a": 2, "b": 5}', wait => '0');
SELECT number, members FROM idempotent.exclusion WHERE operation = 'audit_exclude' ORDER BY number;
-- of a request of HTTP
SELECT fingerprint_exclude FROM idempotent_operation('audit_http', fingerprint_exclude => '{sent_at}');
SELECT h.run, idempotent_http_complete('audit_http', h.key, 200) AS stored
  FROM idempotent_http_claim('audit_http', '"k"', 'POST', '/', 'application/json', '{"a": 1, "b": 2, "sent_at": 1}') AS h;
SELECT fingerprint_exclude FROM idempotent_operation('audit_http', fingerprint_exclude => '{b}');
SELECT n AS member, h.run, h.status FROM unnest('{sent_at,b}'::text[]) AS n,
       idempotent_http_claim('audit_http', '"k"', 'POST', '/', 'application/json', convert_to(('{"a": 1, "b": 2, "sent_at": 1}'::jsonb || jsonb_build_object(n, 9))::text, 'UTF8')) AS h;
-- and of a saga
CREATE FUNCTION audit_step(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '1'::jsonb $$;
SELECT name FROM idempotent_saga('audit_saga', '[{"name": "only", "handler": "public.audit_step(jsonb)"}]');
SELECT fingerprint_exclude FROM idempotent_operation('audit_saga', fingerprint_exclude => '{sent_at}');
CALL idempotent_saga_run('audit_saga', 'k', '{"a": 1, "sent_at": 1}');
SELECT fingerprint_exclude FROM idempotent_operation('audit_saga', fingerprint_exclude => '{other}');
CALL idempotent_saga_run('audit_saga', 'k', '{"a": 1, "sent_at": 2}');
CALL idempotent_saga_run('audit_saga', 'k', '{"a": 2, "sent_at": 1}');

REVOKE ALL ON FUNCTION idempotent_sweep(integer), idempotent_operation_drop(text), idempotent_forget_all(text), idempotent_seal(text, text, text) FROM regress_idempotent_auditor;
SET client_min_messages = warning;
DROP OWNED BY regress_idempotent_auditor, regress_idempotent_monitor;
DROP ROLE regress_idempotent_auditor, regress_idempotent_monitor;
