-- Why a claim now would be answered as it would. What changes from run to run is taken out.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.explained(key text, operation text = 'explain', scope text = '') RETURNS TABLE (explained text) LANGUAGE sql AS $$
    SELECT jsonb_pretty((e #- '{record,fence}' #- '{record,lease_until}' #- '{record,expires_at}') - 'held_by' - 'record_id')
    FROM idempotent_explain(operation, key, scope) AS e $$;
\pset format unaligned
\pset tuples_only on
-- nothing
SELECT * FROM pg_temp.explained('nothing', scope => 'tenant');
-- claimed by this transaction, which is among those that hold the lock
BEGIN;
SELECT outcome FROM idempotent_claim('explain', 'done', '{"secret": 1}');
SELECT * FROM pg_temp.explained('done');
SELECT idempotent_explain('explain', 'done') -> 'held_by' = to_jsonb(ARRAY[pg_backend_pid()]) AS held_by_me;
SELECT idempotent_complete('explain', 'done', '{"secret": 2}', headers => '{"secret": 3}', body => 'secret 4');
COMMIT;
-- done
SELECT * FROM pg_temp.explained('done');
SELECT idempotent_explain('explain', 'done') ? 'held_by' AS held;
-- what was asked and answered is never told
SELECT idempotent_explain('explain', 'done')::text LIKE '%secret%' AS tells;
-- failed
BEGIN;
SELECT outcome FROM idempotent_claim('explain', 'failed');
SELECT idempotent_fail('explain', 'failed');
COMMIT;
SELECT * FROM pg_temp.explained('failed');
-- leased, by another transaction and by this one
SELECT fence FROM idempotent_claim('explain', 'leased', lease => '1 hour') \gset
SELECT * FROM pg_temp.explained('leased');
SELECT (e #>> '{record,fence}')::bigint = :fence AS fence, (e #>> '{record,lease_until}')::timestamptz > now() AS lease_until, (e #>> '{record,expires_at}')::timestamptz > now() + interval '24 hours' AS expires_at
FROM idempotent_explain('explain', 'leased') AS e;
BEGIN;
SELECT outcome FROM idempotent_claim('explain', 'leased here', lease => '1 hour');
SELECT * FROM pg_temp.explained('leased here');
ROLLBACK;
-- lapsed: to be retried, or unknown
SELECT idempotent_extend('explain', 'leased', '1 microsecond', fence => :fence) IS NOT NULL AS about_to_lapse;
SELECT * FROM pg_temp.explained('leased');
SELECT on_lapse FROM idempotent_operation('explain_unknown', on_lapse => 'unknown');
SELECT outcome FROM idempotent_claim('explain_unknown', 'lost', lease => '1 microsecond');
SELECT * FROM pg_temp.explained('lost', 'explain_unknown');
-- expired
BEGIN;
SELECT outcome FROM idempotent_claim('explain', 'expired');
SELECT idempotent_complete('explain', 'expired', retention => '1 microsecond');
COMMIT;
SELECT * FROM pg_temp.explained('expired');
-- evicted, and of an operation of its own
SELECT durability, max_response_bytes, retention FROM idempotent_operation('explain_small', durability => 'logged', max_response_bytes => 0, retention => '90 minutes');
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT outcome FROM idempotent_claim('explain_small', 'evicted');
SELECT idempotent_complete('explain_small', 'evicted', '1');
COMMIT;
SELECT * FROM pg_temp.explained('evicted', 'explain_small');
-- released: as if nothing had been
BEGIN;
SELECT outcome FROM idempotent_claim('explain', 'released');
SELECT idempotent_release('explain', 'released');
SELECT idempotent_explain('explain', 'released') ->> 'outcome';
COMMIT;
-- dates: of long ago, of today, and of tomorrow
SET timezone = 'UTC';
SELECT * FROM pg_temp.explained('017f22e2-79b0-7cc3-98c4-dc0c0c07398f');
SELECT e ->> 'outcome', (e ->> 'first_sent')::timestamptz > now() - interval '1 minute' FROM idempotent_explain('explain', idempotent_new_key()) AS e;
SELECT e ->> 'outcome', e ->> 'because', e ? 'first_sent' FROM idempotent_explain('explain', idempotent_new_key(now() + interval '1 day')) AS e;
-- what cannot be a key is not explained
SELECT idempotent_explain('explain', '');
\echo :LAST_ERROR_SQLSTATE
-- what is explained is what a claim is answered then
\pset format aligned
\pset tuples_only off
SELECT o, k, idempotent_explain(o, k) ->> 'outcome' AS explained, outcome AS claimed
FROM (VALUES ('explain', 'done', '{"secret": 1}'::jsonb), ('explain', 'failed', NULL), ('explain_unknown', 'lost', NULL), ('explain_small', 'evicted', NULL), ('explain', '017f22e2-79b0-7cc3-98c4-dc0c0c07398f', NULL)) AS keys (o, k, r),
     idempotent_claim(o, k, r);
