-- A claim with a lease: a row with a fence, which outlives the transaction.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- granted, and visible once committed
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after,
       expires_at > clock_timestamp() + interval '50 minutes' AS lasts_an_hour
FROM idempotent_claim('claim_lease', 'k1', '{"card": 1}', lease => '1 hour') \gset
\echo :outcome :attempt :lasts_an_hour [:failed:status:headers:response:body:evicted:checkpoint:retry_after]
SELECT :fence > 0 AS has_a_fence;
SELECT outcome, fence, attempt, response, checkpoint, retry_after > interval '50 minutes' AND retry_after <= interval '1 hour' AS come_back_in_an_hour
FROM idempotent_claim('claim_lease', 'k1', '{"card": 1}', wait => '0');
SELECT outcome, retry_after > interval '50 minutes' AND retry_after <= interval '1 hour' AS come_back_in_an_hour
FROM idempotent_replay('claim_lease', 'k1');
-- it holds no lock, and commits without being finished
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- another request is a mismatch, and is told nothing else
SELECT outcome, fence, attempt, checkpoint, retry_after, expires_at FROM idempotent_claim('claim_lease', 'k1', '{"card": 2}', wait => '0');
-- checkpoint, heartbeat, answer: each by its fence
SELECT idempotent_checkpoint('claim_lease', 'k1', '{"authorised": true}', fence => :fence);
SELECT idempotent_extend('claim_lease', 'k1', '2 hours', fence => :fence) > clock_timestamp() + interval '110 minutes' AS extended;
SELECT retry_after > interval '110 minutes' AS extended FROM idempotent_replay('claim_lease', 'k1');
SELECT idempotent_complete('claim_lease', 'k1', '{"charged": true}', status => 200, fence => :fence);
SELECT outcome, fence = :fence AS same_fence, attempt, failed, status, response, evicted, checkpoint, retry_after,
       expires_at > clock_timestamp() + interval '23 hours' AND expires_at < clock_timestamp() + interval '25 hours' AS expires_in_a_day
FROM idempotent_claim('claim_lease', 'k1', '{"card": 1}');

-- in one transaction: the caller's own claim is claimed again, with the same fence
BEGIN;
SELECT fence FROM idempotent_claim('claim_lease', 'k2', lease => '1 hour') \gset
SELECT outcome, fence = :fence AS same_fence, attempt FROM idempotent_claim('claim_lease', 'k2', lease => '1 hour');
SELECT a.fence = b.fence AS same_fence
FROM idempotent_claim('claim_lease', 'k2', lease => '1 hour') AS a, idempotent_claim('claim_lease', 'k2', lease => '1 hour') AS b;
SELECT count(DISTINCT ((r).fence, (r).attempt, (r).outcome)) FROM (SELECT idempotent_claim('claim_lease', 'k2', lease => '1 hour') AS r FROM generate_series(1, 3)) AS thrice;
ROLLBACK;
-- rolled back: gone, and the fence is not used again
SELECT outcome FROM idempotent_replay('claim_lease', 'k2');
SELECT outcome, attempt, fence > :fence AS higher_fence FROM idempotent_claim('claim_lease', 'k2', lease => '1 hour');

-- fences grow over all keys and operations
SELECT fence AS one FROM idempotent_claim('claim_lease', 'k3', lease => '1 hour') \gset
SELECT fence AS two FROM idempotent_claim('claim_lease_2', 'k3', lease => '1 hour') \gset
SELECT :two > :one AS grows;

-- a lapsed lease: the next caller takes over with a higher fence and what its predecessor left
SELECT fence AS first FROM idempotent_claim('claim_lease', 'k4', '1', lease => '1 hour') \gset
SELECT idempotent_checkpoint('claim_lease', 'k4', '{"step": 2}', fence => :first);
SELECT idempotent_extend('claim_lease', 'k4', '1 microsecond', fence => :first) IS NOT NULL AS about_to_lapse;
SELECT outcome FROM idempotent_replay('claim_lease', 'k4');
SELECT outcome FROM idempotent_claim('claim_lease', 'k4', '2', lease => '1 hour');
SELECT outcome, attempt, checkpoint, fence AS second, fence > :first AS higher_fence
FROM idempotent_claim('claim_lease', 'k4', '1', lease => '1 hour') \gset
\echo :outcome :attempt :checkpoint :higher_fence
-- and again, in which the checkpoint is handed on
SELECT idempotent_extend('claim_lease', 'k4', '1 microsecond', fence => :second) IS NOT NULL AS about_to_lapse;
SELECT outcome, attempt, checkpoint, fence AS third, fence > :second AS higher_fence
FROM idempotent_claim('claim_lease', 'k4', '1', lease => '1 hour') \gset
\echo :outcome :attempt :checkpoint :higher_fence
SELECT idempotent_complete('claim_lease', 'k4', '"done"', fence => :third);
SELECT outcome, attempt, response, checkpoint FROM idempotent_claim('claim_lease', 'k4', '1');

-- a takeover held by the transaction, which has no fence
SELECT fence AS first FROM idempotent_claim('claim_lease', 'k5', lease => '1 hour') \gset
SELECT idempotent_checkpoint('claim_lease', 'k5', '{"step": 3}', fence => :first);
SELECT idempotent_extend('claim_lease', 'k5', '1 microsecond', fence => :first) IS NOT NULL AS about_to_lapse;
BEGIN;
SELECT outcome, fence, attempt, checkpoint FROM idempotent_claim('claim_lease', 'k5');
-- every column of the same claim, however often it is asked for
SELECT (idempotent_claim('claim_lease', 'k5')).*;
ROLLBACK;
BEGIN;
SELECT (idempotent_claim('claim_lease', 'k5')).*;
SELECT idempotent_complete('claim_lease', 'k5', '"by the transaction"');
COMMIT;
SELECT outcome, fence, attempt, response FROM idempotent_claim('claim_lease', 'k5');

-- own retry: whoever names the same attempt_id is told that the claim is its own
SELECT fence FROM idempotent_claim('claim_lease', 'k6', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001') \gset
SELECT outcome, attempt, fence = :fence AS same_fence
FROM idempotent_claim('claim_lease', 'k6', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
SELECT outcome FROM idempotent_claim('claim_lease', 'k6', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000002', wait => '0');
SELECT outcome FROM idempotent_claim('claim_lease', 'k6', '1', lease => '1 hour', wait => '0');
SELECT outcome FROM idempotent_claim('claim_lease', 'k6', '2', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
-- not once the lease has lapsed: then it is a new attempt
SELECT idempotent_extend('claim_lease', 'k6', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
SELECT outcome, attempt, fence > :fence AS higher_fence
FROM idempotent_claim('claim_lease', 'k6', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
-- and not once another attempt has taken over: the lease is the taker's
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k10', '1', lease => '1 microsecond', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k10', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000002', wait => '0');
SELECT outcome FROM idempotent_claim('claim_lease', 'k10', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000001', wait => '0');
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k10', '1', lease => '1 hour', attempt_id => '00000000-0000-0000-0000-000000000002', wait => '0');

-- a lease lapses while its transaction goes on, whatever now() says
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k11', lease => '1 microsecond');
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k11', lease => '1 hour', wait => '0');
COMMIT;

-- failing and releasing by the fence
SELECT fence FROM idempotent_claim('claim_lease', 'k7', lease => '1 hour') \gset
SELECT idempotent_fail('claim_lease', 'k7', '{"declined": true}', fence => :fence);
SELECT outcome, failed, response FROM idempotent_claim('claim_lease', 'k7');
SELECT fence FROM idempotent_claim('claim_lease', 'k8', lease => '1 hour') \gset
SELECT idempotent_release('claim_lease', 'k8', fence => :fence);
SELECT outcome FROM idempotent_replay('claim_lease', 'k8');
SELECT outcome, attempt FROM idempotent_claim('claim_lease', 'k8', lease => '1 hour');

-- the operation's default, which a claim can override
SELECT lease FROM idempotent_operation('claim_lease_default', lease => '1 hour');
SELECT outcome, fence IS NOT NULL AS has_a_fence FROM idempotent_claim('claim_lease_default', 'k1');
SELECT outcome, fence IS NOT NULL AS has_a_fence, expires_at > clock_timestamp() + interval '2 hours' AS longer
FROM idempotent_claim('claim_lease_default', 'k2', lease => '3 hours');

-- a large checkpoint that does not compress survives heartbeat and takeover
SELECT fence FROM idempotent_claim('claim_lease', 'k9', lease => '1 hour') \gset
SELECT idempotent_checkpoint('claim_lease', 'k9', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 10000) AS n), fence => :fence);
SELECT idempotent_extend('claim_lease', 'k9', '1 hour', fence => :fence) IS NOT NULL AS extended;
SELECT idempotent_extend('claim_lease', 'k9', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
SELECT attempt, md5(checkpoint::text) = md5((SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 10000) AS n)::text) AS same_checkpoint
FROM idempotent_claim('claim_lease', 'k9', lease => '1 hour');

-- many at once: those that last go on, and the keys of those that do not are named
SELECT count((idempotent_claim('claim_lease', 'many ' || n, lease => '1 minute')).fence) FROM generate_series(1, 4) AS n;
SELECT array_agg(fence ORDER BY key) AS fences FROM idempotent.record WHERE operation = 'claim_lease' AND key LIKE 'many %' \gset
SELECT key FROM idempotent_extend_all('claim_lease', '{many 1,many 2,many 3,many 4}', :'fences', '2 hours') AS key;
SELECT bool_and(lease_until > now() + interval '110 minutes') AS extended FROM idempotent.record WHERE operation = 'claim_lease' AND key LIKE 'many %';
SELECT idempotent_complete('claim_lease', 'many 2', fence => (:'fences'::bigint[])[2]);
SELECT idempotent_extend('claim_lease', 'many 3', '1 microsecond', fence => (:'fences'::bigint[])[3]) IS NOT NULL AS about_to_lapse;
SELECT key FROM idempotent_extend_all('claim_lease', '{many 4,many 3,nobody''s,many 2,many 1,many 1}', (:'fences'::bigint[])[4:4] || (:'fences'::bigint[])[3:3] || 7::bigint || (:'fences'::bigint[])[2:2] || (:'fences'::bigint[])[1:1] || NULL::bigint, lease => '3 hours') AS key;
SELECT key, lease_until > now() + interval '170 minutes' AS extended FROM idempotent.record WHERE operation = 'claim_lease' AND key LIKE 'many %' ORDER BY key;
SELECT count(*) FROM idempotent_extend_all('claim_lease', '{}', '{}', '1 hour');
SELECT key FROM idempotent_extend_all('claim_lease', '{many 1}', (:'fences'::bigint[])[1:1], '1 hour', scope => 'another') AS key;
\set VERBOSITY terse
SELECT idempotent_extend_all('claim_lease', '{many 1}', '{1,2}', '1 hour');
SELECT idempotent_extend_all('claim_lease', '{many 1}', NULL, '1 hour');
SELECT idempotent_extend_all('claim_lease', '{many 1}', '{1}', NULL);
SELECT idempotent_extend_all('claim_lease', '{many 1,NULL}', '{1,2}', '1 hour');
SELECT idempotent_extend_all('', '{many 1}', '{1}', '1 hour');
\set VERBOSITY default
