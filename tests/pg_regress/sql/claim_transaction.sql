-- A claim held by the transaction: it commits with its work and vanishes with it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE TABLE claim_transaction_work (id integer);

-- claim, work, complete: every column of the answer
\x on
BEGIN;
SELECT * FROM idempotent_claim('claim_transaction', 'k1', '{"amount": 10}');
INSERT INTO claim_transaction_work VALUES (1);
SELECT idempotent_complete('claim_transaction', 'k1', '{"receipt": 7}', status => 201);
COMMIT;
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after,
       expires_at > clock_timestamp() + interval '23 hours' AND expires_at < clock_timestamp() + interval '25 hours' AS expires_in_a_day
FROM idempotent_claim('claim_transaction', 'k1', '{"amount": 10}');
\x off

-- a rollback frees the key, and nothing is left of it
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('claim_transaction', 'k2');
INSERT INTO claim_transaction_work VALUES (2);
SELECT idempotent_complete('claim_transaction', 'k2', '"lost"');
ROLLBACK;
SELECT outcome FROM idempotent_replay('claim_transaction', 'k2');
-- nor of what was asked: another request is a mismatch no more
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k2', '"this"');
ROLLBACK;
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k2', '"that"');
ROLLBACK;
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('claim_transaction', 'k2');
SELECT idempotent_complete('claim_transaction', 'k2', '"kept"');
COMMIT;
SELECT outcome, response FROM idempotent_claim('claim_transaction', 'k2');
SELECT id FROM claim_transaction_work ORDER BY id;

-- asking again for one's own claim answers claimed again; another request is a mismatch
BEGIN;
SELECT outcome, fence, attempt FROM idempotent_claim('claim_transaction', 'k3', '1');
SELECT outcome, fence, attempt FROM idempotent_claim('claim_transaction', 'k3', '1.0');
SELECT outcome, fence, attempt FROM idempotent_claim('claim_transaction', 'k3', '2');
SELECT outcome, fence, attempt FROM idempotent_claim('claim_transaction', 'k3');
SELECT (idempotent_claim('claim_transaction', 'k3', '1')).*;
SELECT idempotent_complete('claim_transaction', 'k3');
-- and after it is completed, still before COMMIT, the answer
SELECT outcome, attempt, failed, response, evicted FROM idempotent_claim('claim_transaction', 'k3', '1');
SELECT outcome FROM idempotent_claim('claim_transaction', 'k3', '2');
COMMIT;

-- asking for it with a lease does not make one of it
BEGIN;
SELECT outcome, fence FROM idempotent_claim('claim_transaction', 'held');
SELECT outcome, fence FROM idempotent_claim('claim_transaction', 'held', lease => '1 hour');
SELECT idempotent_release('claim_transaction', 'held');
SELECT outcome, fence IS NOT NULL AS has_a_fence FROM idempotent_claim('claim_transaction', 'held', lease => '1 hour');
ROLLBACK;

-- twice in one statement
BEGIN;
SELECT (a).outcome AS first, (b).outcome AS second
FROM (SELECT idempotent_claim('claim_transaction', 'k4') AS a, idempotent_claim('claim_transaction', 'k4') AS b) AS twice;
SELECT idempotent_release('claim_transaction', 'k4');
COMMIT;

-- a batch: claim, complete and replay of several keys in one statement each
BEGIN;
SELECT n, (idempotent_claim('claim_transaction', 'batch-' || n)).outcome FROM generate_series(1, 3) AS n ORDER BY n;
SELECT n, idempotent_complete('claim_transaction', 'batch-' || n, to_jsonb(n)) FROM generate_series(1, 3) AS n ORDER BY n;
COMMIT;
SELECT n, (idempotent_claim('claim_transaction', 'batch-' || n)).response FROM generate_series(1, 3) AS n ORDER BY n;

-- the same key under another operation or scope is another key
SELECT outcome FROM idempotent_replay('claim_transaction_2', 'k1');
SELECT outcome FROM idempotent_replay('claim_transaction', 'k1', 'tenant');
SELECT outcome FROM idempotent_replay('claim_transaction', 'k1');

-- a claim writes nothing until it is completed, and a replay never does: no transaction id, no row
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k5');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
SELECT count(*) FROM idempotent.record WHERE operation = 'claim_transaction' AND key = 'k5';
SELECT outcome FROM idempotent_claim('claim_transaction', 'k1', '{"amount": 10}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
SELECT idempotent_release('claim_transaction', 'k5');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
COMMIT;
-- and leaves one row, which no later call rewrites
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k6');
SELECT idempotent_complete('claim_transaction', 'k6', '6');
COMMIT;
SELECT ctid AS at, xmin AS by FROM idempotent.record WHERE operation = 'claim_transaction' AND key = 'k6' \gset
SELECT outcome FROM idempotent_claim('claim_transaction', 'k6');
SELECT ctid = :'at' AND xmin = :'by' AS untouched FROM idempotent.record WHERE operation = 'claim_transaction' AND key = 'k6';

-- the claim is held by a lock of its own kind, to the end of the transaction
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k7');
SELECT locktype, mode, granted, objsubid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT idempotent_complete('claim_transaction', 'k7');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- the application's own advisory locks are let alone
SELECT pg_advisory_lock(1);
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k8');
SELECT idempotent_release('claim_transaction', 'k8');
COMMIT;
SELECT pg_advisory_unlock(1);

-- an expired record counts as absent at once, swept or not
BEGIN;
SELECT outcome FROM idempotent_claim('claim_transaction', 'k9', '"first"');
SELECT idempotent_complete('claim_transaction', 'k9', '1', retention => '1 microsecond');
COMMIT;
SELECT outcome FROM idempotent_replay('claim_transaction', 'k9');
BEGIN;
SELECT outcome, attempt, checkpoint FROM idempotent_claim('claim_transaction', 'k9', '"another request"');
SELECT idempotent_complete('claim_transaction', 'k9', '2');
COMMIT;
SELECT outcome, response FROM idempotent_claim('claim_transaction', 'k9', '"another request"');
SELECT count(*) FROM idempotent.record WHERE operation = 'claim_transaction' AND key = 'k9';

-- callers of every language: by position, by name, prepared
PREPARE claim(text) AS SELECT outcome, response FROM idempotent_claim('claim_transaction', $1, '{"amount": 10}');
EXECUTE claim('k1');
EXECUTE claim('k1');
EXECUTE claim('k1');
EXECUTE claim('k1');
EXECUTE claim('k1');
EXECUTE claim('k1');
EXECUTE claim('k1');
DEALLOCATE claim;
SELECT outcome FROM idempotent_claim(operation => 'claim_transaction', key => 'k1', request => '{"amount": 10}', scope => '',
    lease => NULL, wait => NULL, first_sent => NULL, attempt_id => NULL, fingerprint => NULL, strict => false);
DO $$
DECLARE
    claim idempotent_result;
BEGIN
    claim := idempotent_claim('claim_transaction', 'k1', '{"amount": 10}');
    RAISE INFO '% % %', claim.outcome, claim.status, claim.response;
END $$;
DROP TABLE claim_transaction_work;
