-- Idempotent consumer: whether a message is seen for the first time, one by one and by the batch.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SET timezone = 'UTC';

-- true the first time, in the caller's transaction
SELECT idempotent_first('billing', 'm1');
SELECT idempotent_first('billing', 'm1');
BEGIN;
SELECT idempotent_first('billing', 'm2');
SELECT idempotent_first('billing', 'm2') AS again;
ROLLBACK;
SELECT idempotent_first('billing', 'm2') AS after_rollback;
BEGIN;
SAVEPOINT s;
SELECT idempotent_first('billing', 'm3');
ROLLBACK TO s;
SELECT idempotent_first('billing', 'm3') AS after_rollback_to;
COMMIT;
SELECT idempotent_first('billing', 'm3');
-- another consumer, another scope, another message
SELECT idempotent_first('shipping', 'm1'), idempotent_first('billing', 'm1', scope => 'tenant-7'), idempotent_first('billing', 'M1');
-- one or many: the name says it, whatever a literal or a parameter without a type looks like
SELECT idempotent_first(consumer => 'billing', message_id => '{a,b}');
SELECT * FROM idempotent_first_of('billing', message_ids => '{a,b}');
PREPARE one AS SELECT idempotent_first('billing', $1);
PREPARE many AS SELECT idempotent_first_of('billing', $1);
SELECT name, parameter_types FROM pg_prepared_statements WHERE name IN ('one', 'many') ORDER BY name;
EXECUTE one('{p1,p2}');
EXECUTE many('{p1,p2}');
EXECUTE many('{p1,p3}');

-- the batch: those not seen before, in the order given, each once
SELECT * FROM idempotent_first_of('billing', ARRAY['z', 'm1', 'b2', 'z', 'a', 'b1', 'm2']);
SELECT * FROM idempotent_first_of('billing', ARRAY['z', 'm1', 'c', 'a']);
SELECT array_agg(id ORDER BY n) FROM idempotent_first_of('billing', ARRAY['d3', 'd1', 'd2']) WITH ORDINALITY AS t (id, n);
SELECT idempotent_first_of('billing', ARRAY['e1', 'm1', 'e2']) AS in_the_select_list;
SELECT count(*) FROM idempotent_first_of('billing', '{}'::text[]);
SELECT * FROM idempotent_first_of('billing', ARRAY[['f2', 'f1'], ['f1', 'f3']]) AS of_two_dimensions;
SELECT * FROM idempotent_first_of('billing', ARRAY['g1', 'g2'], scope => 'tenant-7');
-- one and many agree
SELECT idempotent_first('billing', 'z'), idempotent_first('billing', 'g1'), idempotent_first('billing', 'g1', 'tenant-7');
-- more in one transaction than there are locks for
BEGIN;
SELECT count(*), min(id), max(id) FROM idempotent_first_of('bulk', ARRAY(SELECT 'n' || n FROM generate_series(1, 10000) AS n)) AS id;
SELECT count(*) FROM idempotent_first_of('bulk', ARRAY(SELECT 'n' || n FROM generate_series(9001, 11000) AS n));
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
-- letters of all kinds, the longest ones, and one that begins another
SELECT * FROM idempotent_first_of('billing', ARRAY['é', 'e', 'É', 'e', 'ee']);
SELECT count(*) FROM idempotent_first_of('billing', ARRAY[repeat('x', 255), repeat('x', 254), repeat('x', 255)], scope => repeat('s', 255));

-- dates: an id older than the retention is not new, as it may have been seen and forgotten
SELECT age, idempotent_first('billing', idempotent_new_key(now() - age)), idempotent_first('patient', idempotent_new_key(now() - age), retention => '10 days') AS patient
FROM unnest('{0,23 hours,25 hours,3 days,-10 seconds}'::interval[]) AS age;
SELECT idempotent_new_key(now() - interval '3 days') AS old, idempotent_new_key(now() + interval '3 seconds') AS ahead \gset
SELECT id = 'dated 1' AS the_undated_one FROM idempotent_first_of('billing', ARRAY[:'old', 'dated 1', :'old']) AS id;
SELECT count(*) FROM idempotent.messages WHERE message_id = :'old';
SELECT idempotent_first('billing', :'ahead');
SELECT expires_at - seen_at > interval '24 hours 7 seconds' AS until_it_is_refused FROM idempotent.messages WHERE message_id = :'ahead';
SELECT key_dates FROM idempotent_operation('trusting', key_dates => 'ignore');
SELECT idempotent_first('trusting', :'old');

-- retention: what is past it counts as new
SELECT idempotent_first('brief', 'm1', retention => '1 microsecond'), idempotent_first('brief', 'm1', retention => '1 hour') AS past_retention, idempotent_first('brief', 'm1') AS kept;
SELECT * FROM idempotent_first_of('brief', ARRAY['m2', 'm1', 'm3'], retention => '1 microsecond');
SELECT * FROM idempotent_first_of('brief', ARRAY['m1', 'm2', 'm3', 'm2']);
SELECT message_id, expires_at - seen_at AS kept_for FROM idempotent.messages WHERE consumer = 'brief' ORDER BY message_id;
-- else it is that of the operation of the consumer's name
SELECT (idempotent_operation('weekly', retention => '7 days')).retention;
SELECT idempotent_first('weekly', 'm1');
SELECT message_id, expires_at - seen_at AS kept_for FROM idempotent.messages WHERE consumer = 'weekly';
-- swept like records, and counted
SELECT idempotent_sweep() >= 0;
SELECT count(*) FROM idempotent_first_of('brief', ARRAY['s1', 's2', 's3'], retention => '1 microsecond');
SELECT idempotent_sweep(2), idempotent_sweep(2), idempotent_sweep();
SELECT claimed, replayed, completed, swept FROM idempotent.stats WHERE operation = 'brief';
SELECT count(*) FROM idempotent.messages WHERE consumer = 'brief';

-- what an administrator deletes can be processed again
DELETE FROM idempotent.messages WHERE consumer = 'billing' AND message_id = 'm1' AND scope = '';
SELECT idempotent_first('billing', 'm1'), idempotent_first('billing', 'm1', 'tenant-7');

-- names that break the rules: nothing happens
SELECT idempotent_first(NULL, 'm');
SELECT idempotent_first('', 'm');
SELECT idempotent_first(repeat('c', 256), 'm');
SELECT idempotent_first('billing', NULL::text);
SELECT idempotent_first('billing', '');
SELECT idempotent_first('billing', repeat('m', 256));
SELECT idempotent_first('billing', E'm\nn');
SELECT idempotent_first('billing', 'm', NULL);
SELECT idempotent_first_of('billing', NULL::text[]);
SELECT idempotent_first_of('billing', ARRAY['new', NULL]);
SELECT idempotent_first_of('billing', ARRAY['new', '']);
SELECT idempotent_first('billing', 'm', retention => '0');
SELECT idempotent_first_of('billing', ARRAY['new'], retention => '-1 day');
SELECT idempotent_first('billing', 'new');
\echo :LAST_ERROR_SQLSTATE
-- the operation's own rules
SELECT (idempotent_operation('tenants', scope_required => true)).scope_required;
SELECT idempotent_first('tenants', 'm');
SELECT idempotent_first('tenants', 'm', 't1');
-- read-only
BEGIN READ ONLY;
SELECT idempotent_first('billing', 'm1');
ROLLBACK;

-- REPEATABLE READ: what was seen after the snapshot is 40001, what was seen before is not
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idempotent_first('billing', 'm1');
SELECT * FROM idempotent_first_of('billing', ARRAY['rr1', 'm1', 'rr2']);
SELECT * FROM idempotent_first_of('billing', ARRAY['rr1', 'm1', 'rr3']);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idempotent_first('billing', 'rr1'), idempotent_first('billing', 'sr1');
COMMIT;

-- the right to call it is enough
CREATE ROLE regress_idempotent_consumer;
SELECT idempotent_grant('regress_idempotent_consumer');
SET ROLE regress_idempotent_consumer;
SELECT idempotent_first('granted', 'm'), idempotent_first('granted', 'm');
SELECT * FROM idempotent_first_of('granted', ARRAY['m', 'n']);
SELECT count(*) FROM idempotent.messages;
RESET ROLE;
SELECT (idempotent_operation('clerks', role => 'pg_monitor')).role;
SET ROLE regress_idempotent_consumer;
SELECT idempotent_first('clerks', 'm');
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_consumer');
DROP OWNED BY regress_idempotent_consumer;
DROP ROLE regress_idempotent_consumer;
DELETE FROM idempotent.messages;
DELETE FROM idempotent.operation WHERE name IN ('weekly', 'tenants', 'clerks');
