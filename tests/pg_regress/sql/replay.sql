-- Looking without claiming: every state a key can be in.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

\x on
-- nothing is known
SELECT * FROM idempotent_replay('replay', 'absent');
-- done
BEGIN;
SELECT outcome FROM idempotent_claim('replay', 'done', '{"secret": 1}');
-- in progress, also for the transaction that holds it itself
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after > '0' AS retry_later, expires_at FROM idempotent_replay('replay', 'done');
SELECT idempotent_complete('replay', 'done', '{"answer": 42}', 200, headers => '{"a": "b"}', body => '\x2a');
SELECT outcome, response FROM idempotent_replay('replay', 'done');
COMMIT;
SELECT outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after, expires_at > now() AS expires_later FROM idempotent_replay('replay', 'done');
-- failed
BEGIN;
SELECT outcome FROM idempotent_claim('replay', 'failed');
SELECT idempotent_fail('replay', 'failed', '{"answer": "no"}', 402);
COMMIT;
SELECT outcome, attempt, failed, status, response, evicted FROM idempotent_replay('replay', 'failed');
-- leased
SELECT fence FROM idempotent_claim('replay', 'leased', lease => '1 hour') \gset
SELECT idempotent_checkpoint('replay', 'leased', '{"step": 1}', fence => :fence);
SELECT outcome, fence, attempt, failed, checkpoint, retry_after > '0' AS retry_later, expires_at - now() > interval '59 minutes' AS lasts FROM idempotent_replay('replay', 'leased');
-- lapsed, to be retried: a claim would take it over at once
SELECT idempotent_extend('replay', 'leased', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
SELECT outcome, fence, attempt, checkpoint, retry_after, expires_at < clock_timestamp() AS lapsed FROM idempotent_replay('replay', 'leased');
SELECT outcome, attempt, checkpoint FROM idempotent_claim('replay', 'leased', lease => '1 hour');
SELECT outcome, attempt, checkpoint, expires_at - now() > interval '59 minutes' AS lasts FROM idempotent_replay('replay', 'leased');
-- lapsed, and nobody knows
SELECT on_lapse FROM idempotent_operation('replay_unknown', on_lapse => 'unknown');
SELECT outcome FROM idempotent_claim('replay_unknown', 'k', lease => '1 microsecond');
SELECT outcome, fence, attempt, failed, response, retry_after FROM idempotent_replay('replay_unknown', 'k');
-- evicted
SELECT max_response_bytes FROM idempotent_operation('replay_evicted', max_response_bytes => 0);
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT outcome FROM idempotent_claim('replay_evicted', 'k');
SELECT idempotent_complete('replay_evicted', 'k', '"gone"', 200, headers => '{"gone": true}', body => '\x00');
COMMIT;
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_replay('replay_evicted', 'k');
-- up to 8 KiB of headers outlive the body, also where a sweep evicts it
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT count(idempotent_claim('replay_evicted', 'of ' || n)) FROM unnest('{8000,9000}'::integer[]) AS n;
SELECT count(idempotent_complete('replay_evicted', 'of ' || n, '"gone"', 201, headers => jsonb_build_array(repeat('x', n)))) FROM unnest('{8000,9000}'::integer[]) AS n;
COMMIT;
SELECT n, status, length(headers ->> 0) AS headers, response, evicted FROM unnest('{8000,9000}'::integer[]) AS n, idempotent_replay('replay_evicted', 'of ' || n);
SELECT response_retention FROM idempotent_operation('replay_swept', response_retention => '1 microsecond');
BEGIN;
SELECT count(idempotent_claim('replay_swept', 'of ' || n)) FROM unnest('{8000,9000}'::integer[]) AS n;
SELECT count(idempotent_complete('replay_swept', 'of ' || n, '"gone"', 201, headers => jsonb_build_array(repeat('x', n)))) FROM unnest('{8000,9000}'::integer[]) AS n;
COMMIT;
SELECT n, status, length(headers ->> 0) AS headers, response, evicted FROM unnest('{8000,9000}'::integer[]) AS n, idempotent_replay('replay_swept', 'of ' || n);
SELECT idempotent_sweep() > 0 AS swept;
SELECT n, status, length(headers ->> 0) AS headers, response, evicted FROM unnest('{8000,9000}'::integer[]) AS n, idempotent_replay('replay_swept', 'of ' || n);
-- expired
BEGIN;
SELECT outcome FROM idempotent_claim('replay', 'expired');
SELECT idempotent_complete('replay', 'expired', retention => '1 microsecond');
COMMIT;
SELECT outcome FROM idempotent_replay('replay', 'expired');
\x off

-- it takes nothing: no transaction id, no lock that outlives it, and a claim beside it is given
BEGIN;
SELECT outcome FROM idempotent_replay('replay', 'done');
SELECT outcome FROM idempotent_replay('replay', 'absent');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xid;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT outcome FROM idempotent_claim('replay', 'absent');
SELECT idempotent_release('replay', 'absent');
COMMIT;
-- many at once
SELECT outcome, count(*) FROM generate_series(1, 1000) AS n, idempotent_replay('replay', 'many-' || n) GROUP BY outcome;

-- a replay of an operation that demands a scope
SELECT scope_required FROM idempotent_operation('replay_scoped', scope_required => true);
SELECT outcome FROM idempotent_replay('replay_scoped', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('replay_scoped', 'k', scope => 't');
