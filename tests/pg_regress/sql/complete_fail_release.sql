-- The end of a claim held by the transaction: an answer, a failure, or nothing.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- every part of an answer comes back as it was stored, body byte for byte
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k1');
SELECT idempotent_complete('complete_fail_release', 'k1', '{"b": 1.00, "a": [null, "ä"]}', 201, headers => '{"Location": "/1"}', body => '\x00ff7b7d');
COMMIT;
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_replay('complete_fail_release', 'k1');
-- an answer of nothing is an answer
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k2');
SELECT idempotent_complete('complete_fail_release', 'k2') IS NULL AS returns_null;
COMMIT;
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_claim('complete_fail_release', 'k2');
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k3');
SELECT idempotent_complete('complete_fail_release', 'k3', 'null');
COMMIT;
SELECT outcome, response, response IS NULL AS is_null FROM idempotent_claim('complete_fail_release', 'k3');

-- a failure is replayed like an answer, for the failure_retention
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k4', '{"amount": 1}');
SELECT idempotent_fail('complete_fail_release', 'k4', '{"declined": "card"}', 402, headers => '{"x": 1}', body => '\xfe');
COMMIT;
SELECT outcome, attempt, failed, status, headers, response, body, evicted,
       expires_at > clock_timestamp() + interval '4 minutes' AND expires_at < clock_timestamp() + interval '6 minutes' AS expires_in_five_minutes
FROM idempotent_claim('complete_fail_release', 'k4', '{"amount": 1}');
SELECT outcome, failed FROM idempotent_claim('complete_fail_release', 'k4', '{"amount": 2}');
-- with a retention of its own
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k5');
SELECT idempotent_fail('complete_fail_release', 'k5', retention => '1 day');
COMMIT;
SELECT failed, expires_at > clock_timestamp() + interval '23 hours' AS kept_a_day FROM idempotent_replay('complete_fail_release', 'k5');
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k6');
SELECT idempotent_complete('complete_fail_release', 'k6', retention => '1 hour');
COMMIT;
SELECT expires_at < clock_timestamp() + interval '61 minutes' AND expires_at > clock_timestamp() + interval '59 minutes' AS kept_an_hour FROM idempotent_replay('complete_fail_release', 'k6');

-- released: nothing is stored, the key is free at once, also for another request
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k7', '1');
SELECT idempotent_release('complete_fail_release', 'k7');
SELECT outcome FROM idempotent_replay('complete_fail_release', 'k7');
SELECT outcome, attempt FROM idempotent_claim('complete_fail_release', 'k7', '2');
SELECT idempotent_release('complete_fail_release', 'k7');
COMMIT;
SELECT outcome FROM idempotent_replay('complete_fail_release', 'k7');

-- complete again: the same answer is harmless, however it is spelled; another one is refused
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k8');
SELECT idempotent_complete('complete_fail_release', 'k8', '{"a": 1, "b": 2.0}', 200, headers => '{"h": 1}', body => '\x01');
SELECT idempotent_complete('complete_fail_release', 'k8', '{"b": 2.00, "a": 1}', 200, headers => '{"h": 1}', body => '\x01');
SAVEPOINT again;
SELECT idempotent_complete('complete_fail_release', 'k8', '{"a": 1, "b": 3}', 200, headers => '{"h": 1}', body => '\x01');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
SELECT idempotent_complete('complete_fail_release', 'k8', '{"a": 1, "b": 2.0}', 201, headers => '{"h": 1}', body => '\x01');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
SELECT idempotent_complete('complete_fail_release', 'k8', '{"a": 1, "b": 2.0}', 200, headers => '{"h": 2}', body => '\x01');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
SELECT idempotent_complete('complete_fail_release', 'k8', '{"a": 1, "b": 2.0}', 200, headers => '{"h": 1}', body => '\x02');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
SELECT idempotent_complete('complete_fail_release', 'k8');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
SELECT idempotent_fail('complete_fail_release', 'k8', '{"a": 1, "b": 2.0}', 200, headers => '{"h": 1}', body => '\x01');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO again;
-- nor is it taken back
SELECT idempotent_release('complete_fail_release', 'k8');
COMMIT;
SELECT outcome, failed, status, headers, response, body FROM idempotent_replay('complete_fail_release', 'k8');

-- without a claim, ID007, and nothing is stored
SELECT idempotent_complete('complete_fail_release', 'k9', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_fail('complete_fail_release', 'k9', '1', scope => 'tenant ''7''');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_release('complete_fail_release', 'k9');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('complete_fail_release', 'k9');
-- nor after a release, nor for a key that an earlier transaction finished, same answer or not
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k9');
SELECT idempotent_release('complete_fail_release', 'k9');
SELECT idempotent_complete('complete_fail_release', 'k9', '1');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT idempotent_complete('complete_fail_release', 'k1', '{"b": 1.00, "a": [null, "ä"]}', 201, headers => '{"Location": "/1"}', body => '\x00ff7b7d');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_fail('complete_fail_release', 'k1', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_release('complete_fail_release', 'k1');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, failed, status FROM idempotent_replay('complete_fail_release', 'k1');
-- a claim under another scope is no claim
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k10', scope => 'a');
SELECT idempotent_complete('complete_fail_release', 'k10', scope => 'b');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- bad retentions are refused, and the claim is not used up by it
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k11');
SAVEPOINT bad;
SELECT idempotent_complete('complete_fail_release', 'k11', retention => '0');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO bad;
SELECT idempotent_complete('complete_fail_release', 'k11', retention => '-1 day');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO bad;
SELECT idempotent_fail('complete_fail_release', 'k11', retention => '200 years');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO bad;
SELECT idempotent_complete('complete_fail_release', 'k11', '"after all"', retention => '100 years');
COMMIT;
SELECT outcome, response FROM idempotent_replay('complete_fail_release', 'k11');

-- a claim held by the transaction has no fence, no heartbeat and no checkpoint
BEGIN;
SELECT outcome FROM idempotent_claim('complete_fail_release', 'k12');
SAVEPOINT s;
SELECT idempotent_complete('complete_fail_release', 'k12', fence => 1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT idempotent_release('complete_fail_release', 'k12', fence => 1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT idempotent_extend('complete_fail_release', 'k12', '1 minute');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT idempotent_checkpoint('complete_fail_release', 'k12', '1');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
