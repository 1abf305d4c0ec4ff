-- Seal, resolve and forget: what administrators decide about a key.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;

-- What has not run never will.
SELECT outcome FROM idempotent_seal('settle', 'never');
SELECT outcome FROM idempotent_claim('settle', 'never', '{"any": "request"}');
SELECT outcome FROM idempotent_replay('settle', 'never');
SELECT outcome FROM idempotent_seal('settle', 'never');
SELECT expires_at FROM idempotent.record WHERE operation = 'settle' AND key = 'never';
SELECT idempotent_claim('settle', 'never', strict => true);
\echo :LAST_ERROR_SQLSTATE

-- What has run, has: seal tells the answer.
SELECT (idempotent_claim('settle', 'done')).outcome, idempotent_complete('settle', 'done', '{"ok": true}');
SELECT outcome, response FROM idempotent_seal('settle', 'done');

-- A lease that lasts is not sealed; one that has lapsed is, and its holder comes too late.
SELECT (idempotent_operation('settle', wait => '0')).name;
SELECT fence AS fence FROM idempotent_claim('settle', 'leased', lease => '1 hour') \gset
SELECT outcome FROM idempotent_seal('settle', 'leased');
SELECT idempotent_extend('settle', 'leased', '1 microsecond', fence => :fence) IS NOT NULL;
SELECT outcome FROM idempotent_seal('settle', 'leased');
SELECT idempotent_complete('settle', 'leased', '1', fence => :fence);
\echo :LAST_ERROR_SQLSTATE

-- One's own open claim is in progress, and a sealed key goes with the savepoint that sealed it.
BEGIN;
SELECT outcome FROM idempotent_claim('settle', 'own');
SELECT outcome FROM idempotent_seal('settle', 'own');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT outcome FROM idempotent_seal('settle', 'own');
ROLLBACK TO s;
SELECT outcome FROM idempotent_replay('settle', 'own');
COMMIT;

-- An unknown is settled in one of three ways.
SELECT (idempotent_operation('settle', on_lapse => 'unknown')).name;
SELECT count(*) FROM (VALUES ('u1'), ('u2'), ('u3')) AS v (key),
       idempotent_claim('settle', key, '{"n": 1}', lease => '1 microsecond') AS c WHERE c.outcome = 'claimed';
SELECT fence AS lost FROM idempotent.record WHERE operation = 'settle' AND key = 'u1' \gset
SELECT key, (idempotent_claim('settle', key, '{"n": 1}', lease => '1 microsecond')).outcome
  FROM (VALUES ('u1'), ('u2'), ('u3')) AS v (key) ORDER BY key;
SELECT idempotent_resolve('settle', 'u1', 'perhaps');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_resolve('settle', 'u1', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, failed, response FROM idempotent_resolve('settle', 'u1', 'completed', '{"found": true}');
SELECT outcome, failed, response FROM idempotent_claim('settle', 'u1', '{"n": 1}');
SELECT outcome FROM idempotent_claim('settle', 'u1', '{"n": 2}');
SELECT outcome, failed, response FROM idempotent_resolve('settle', 'u2', 'failed', '{"declined": true}');
SELECT outcome, failed, expires_at > now() + '23 hours' AS kept FROM idempotent_claim('settle', 'u2', '{"n": 1}');
SELECT outcome FROM idempotent_resolve('settle', 'u3', 'absent');
SELECT outcome, attempt FROM idempotent_claim('settle', 'u3', '{"n": 1}', lease => '1 hour');

-- What is not unknown cannot be settled, and the holder that was lost cannot come back.
SELECT idempotent_resolve('settle', 'u1', 'failed');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_resolve('settle', 'nothing', 'absent');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_complete('settle', 'u1', '{"found": true}', fence => :lost);
\echo :LAST_ERROR_SQLSTATE

-- Leases granted already follow the more careful setting, and no other.
SELECT (idempotent_operation('follow', retention => '1 microsecond')).on_lapse;
SELECT outcome FROM idempotent_claim('follow', 'k', lease => '1 microsecond');
SELECT (idempotent_operation('follow', on_lapse => 'unknown')).on_lapse;
SELECT expires_at FROM idempotent.record WHERE operation = 'follow';
SELECT outcome FROM idempotent_claim('follow', 'k');
SELECT (idempotent_operation('follow', on_lapse => 'retry')).on_lapse;
SELECT expires_at FROM idempotent.record WHERE operation = 'follow';
SELECT outcome FROM idempotent_replay('follow', 'k');

-- Forgetting lets a key run again, also a sealed one.
SELECT idempotent_forget('settle', 'never'), idempotent_forget('settle', 'never');
SELECT outcome FROM idempotent_replay('settle', 'never');
SELECT idempotent_forget('settle', 'done');
SELECT outcome FROM idempotent_replay('settle', 'done');
-- Not while somebody works on it: what the transaction holds, and a lease that lasts, unless its fence is named.
BEGIN;
SELECT outcome FROM idempotent_claim('settle', 'held');
SELECT idempotent_forget('settle', 'held');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT fence AS leased FROM idempotent_claim('settle', 'broken', lease => '1 hour') \gset
SELECT idempotent_forget('settle', 'broken');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('settle', 'broken');
\set VERBOSITY sqlstate
SELECT idempotent_forget('settle', 'broken', fence => :leased - 1);
\set VERBOSITY default
SELECT idempotent_forget('settle', 'broken', fence => :leased);
SELECT outcome FROM idempotent_replay('settle', 'broken');
SELECT idempotent_forget('settle', 'broken', fence => :leased);
-- Nor the answer that came before the lease was broken.
SELECT fence AS leased FROM idempotent_claim('settle', 'broken', lease => '1 hour') \gset
SELECT idempotent_complete('settle', 'broken', '1', fence => :leased);
\set VERBOSITY sqlstate
SELECT idempotent_forget('settle', 'broken', fence => :leased);
\set VERBOSITY default
SELECT outcome FROM idempotent_replay('settle', 'broken');
SELECT idempotent_forget('settle', 'broken');
-- A lease that has lapsed is nobody's.
SELECT outcome FROM idempotent_claim('settle', 'broken', lease => '1 microsecond');
SELECT idempotent_forget('settle', 'broken');

-- An operation can be emptied, to start over: whatever its keys' state, in both tables, and of no other.
SELECT retention FROM idempotent_operation('emptied', on_lapse => 'unknown');
BEGIN;
SELECT outcome FROM idempotent_claim('emptied', 'done');
SELECT idempotent_complete('emptied', 'done');
SELECT outcome FROM idempotent_claim('emptied not', 'done');
SELECT idempotent_complete('emptied not', 'done', '"kept"');
COMMIT;
SELECT outcome FROM idempotent_seal('emptied', 'sealed');
SELECT outcome FROM idempotent_claim('emptied', 'lost', lease => '1 microsecond');
SELECT fence AS emptied FROM idempotent_claim('emptied', 'leased', lease => '1 hour') \gset
SELECT idempotent_forget_all('emptied');
SELECT idempotent_forget_all('emptied');
SELECT key, outcome FROM unnest('{done,sealed,lost,leased}'::text[]) AS key, idempotent_replay('emptied', key);
SELECT outcome, response FROM idempotent_replay('emptied not', 'done');
-- the holder of a lease finds it lost; no loss of records is noted, so a key from before may run
\set VERBOSITY terse
SELECT idempotent_complete('emptied', 'leased', fence => :emptied);
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SELECT outcome FROM idempotent_claim('emptied', idempotent_new_key(now() - interval '1 hour'));
ROLLBACK;
SELECT durability FROM idempotent_operation('emptied', durability => 'logged');
SELECT outcome FROM idempotent_seal('emptied', 'sealed');
SELECT idempotent_forget_all('emptied');
SELECT idempotent_forget_all('');
\echo :LAST_ERROR_SQLSTATE
-- the operation's role is asked, as with any call
CREATE ROLE regress_idempotent_emptier;
GRANT EXECUTE ON FUNCTION idempotent_forget_all TO regress_idempotent_emptier;
SELECT outcome FROM idempotent_seal('emptied', 'sealed');
SET ROLE regress_idempotent_emptier;
SELECT idempotent_forget_all('emptied');
RESET ROLE;
SELECT outcome FROM idempotent_seal('emptied', 'sealed');
SELECT role FROM idempotent_operation('emptied', role => 'pg_monitor');
SET ROLE regress_idempotent_emptier;
SELECT idempotent_forget_all('emptied');
RESET ROLE;
SELECT outcome FROM idempotent_replay('emptied', 'sealed');
REVOKE EXECUTE ON FUNCTION idempotent_forget_all FROM regress_idempotent_emptier;
DROP ROLE regress_idempotent_emptier;

-- Under READ ONLY none of them.
BEGIN READ ONLY;
SELECT idempotent_seal('settle', 'ro');
ROLLBACK;
BEGIN READ ONLY;
SELECT idempotent_forget_all('settle');
ROLLBACK;
\echo :LAST_ERROR_SQLSTATE

-- Other tests have an operation of this name.
SELECT idempotent_forget_all('settle') > 0 AS forgotten;

-- One's own open claim is not unknown, also after a loss: its answer is yet to come.
SET client_min_messages = error;
SELECT (idempotent_claim('settle lost', 'gone')).outcome, idempotent_complete('settle lost', 'gone');
DELETE FROM idempotent.record WHERE operation = 'settle lost';
BEGIN;
SELECT outcome FROM idempotent_claim('settle lost', 'own');
SAVEPOINT s;
SELECT idempotent_resolve('settle lost', 'own', 'completed', '"by hand"');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT idempotent_complete('settle lost', 'own', '"done"');
COMMIT;
SELECT outcome, response FROM idempotent_replay('settle lost', 'own');
SELECT outcome, response FROM idempotent_resolve('settle lost', 'other', 'completed', '"by hand"');
RESET client_min_messages;
