-- Large and deep requests and answers. An answer that is too large is recorded without its body, and the work is never done again.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE SCHEMA large;
CREATE TABLE large.effect (id integer GENERATED ALWAYS AS IDENTITY);

-- a request of 5 MB
BEGIN;
SELECT outcome FROM idempotent_claim('large', 'request', to_jsonb(repeat('x', 5000000)));
SELECT idempotent_complete('large', 'request', '"done"');
COMMIT;
SELECT outcome, response FROM idempotent_claim('large', 'request', to_jsonb(repeat('x', 5000000)));
SELECT outcome, response FROM idempotent_claim('large', 'request', to_jsonb(repeat('x', 4999999) || 'y'));
SELECT pg_column_size(r) < 500 AS not_stored FROM idempotent.record AS r WHERE operation = 'large' AND key = 'request';
-- of half a million members
BEGIN;
SELECT outcome FROM idempotent_claim('large', 'members', (SELECT jsonb_object_agg('member ' || n, n) FROM generate_series(1, 500000) AS n));
SELECT idempotent_release('large', 'members');
COMMIT;

-- an answer of 5 MB: returned in full, stored without, and replayed as evicted
BEGIN;
SELECT outcome FROM idempotent_claim('large', 'response');
SELECT length(idempotent_complete('large', 'response', to_jsonb(repeat('x', 5000000)), 200)::text);
COMMIT;
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_claim('large', 'response');
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_replay('large', 'response');
-- likewise body, headers and failures
BEGIN;
SELECT outcome FROM idempotent_claim('large', 'body');
SELECT idempotent_complete('large', 'body', '"small"', 200, body => decode(repeat('00', 1048576), 'hex'));
SELECT outcome FROM idempotent_claim('large', 'headers');
SELECT idempotent_fail('large', 'headers', '"small"', 500, headers => to_jsonb(repeat('x', 2000000)));
COMMIT;
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_replay('large', 'body');
SELECT outcome, failed, status, headers, response, body, evicted FROM idempotent_replay('large', 'headers');
-- by run: executed once
CREATE FUNCTION large.work(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO large.effect DEFAULT VALUES; SELECT to_jsonb(repeat('x', 5000000)) $$;
SELECT outcome, failed, length(response::text), evicted FROM idempotent_run('large', 'run', '1', 'large.work(jsonb)');
SELECT outcome, failed, length(response::text), evicted FROM idempotent_run('large', 'run', '1', 'large.work(jsonb)');
SELECT count(*) FROM large.effect;
-- with a lease
SELECT fence FROM idempotent_claim('large', 'lease', lease => '1 hour') \gset
BEGIN;
SELECT length(idempotent_complete('large', 'lease', to_jsonb(repeat('x', 5000000)), fence => :fence)::text);
-- complete again: nobody can compare, so it is taken for the same
SET LOCAL client_min_messages = warning;
SELECT length(idempotent_complete('large', 'lease', to_jsonb(repeat('x', 5000000)), fence => :fence)::text);
COMMIT;
SELECT outcome, response, evicted FROM idempotent_claim('large', 'lease');

-- the limit is the operation's
SELECT max_response_bytes FROM idempotent_operation('large_kept', max_response_bytes => 10000000);
BEGIN;
SELECT outcome FROM idempotent_claim('large_kept', 'compressible');
SELECT length(idempotent_complete('large_kept', 'compressible', to_jsonb(repeat('x', 5000000)), body => decode(repeat('00', 1000000), 'hex'))::text);
COMMIT;
SELECT outcome, response = to_jsonb(repeat('x', 5000000)) AS same_response, body = decode(repeat('00', 1000000), 'hex') AS same_body, evicted FROM idempotent_claim('large_kept', 'compressible');
BEGIN;
SELECT outcome FROM idempotent_claim('large_kept', 'random');
SELECT idempotent_complete('large_kept', 'random', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 100000) AS n)) IS NOT NULL AS completed;
-- also seen by the transaction itself
SELECT outcome, md5(response::text) = md5((SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 100000) AS n)::text) AS same_response FROM idempotent_claim('large_kept', 'random');
SELECT idempotent_complete('large_kept', 'random', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 100000) AS n)) IS NOT NULL AS completed_again;
COMMIT;
SELECT outcome, md5(response::text) = md5((SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 100000) AS n)::text) AS same_response, evicted FROM idempotent_replay('large_kept', 'random');
SELECT (r).outcome, length((r).response::text) FROM (SELECT idempotent_replay('large_kept', 'random') AS r) AS replayed;
-- exactly at the limit, and one byte beyond it
SELECT max_response_bytes FROM idempotent_operation('large_limit', max_response_bytes => 1000);
BEGIN;
SELECT outcome FROM idempotent_claim('large_limit', 'at');
SELECT idempotent_complete('large_limit', 'at', body => decode(repeat('00', 1000), 'hex'));
SELECT outcome FROM idempotent_claim('large_limit', 'beyond');
SELECT idempotent_complete('large_limit', 'beyond', body => decode(repeat('00', 1001), 'hex'));
COMMIT;
SELECT evicted, octet_length(body) FROM idempotent_replay('large_limit', 'at');
SELECT evicted, octet_length(body) FROM idempotent_replay('large_limit', 'beyond');
SELECT max_response_bytes FROM idempotent_operation('large_limit', max_response_bytes => 0);
BEGIN;
SELECT outcome FROM idempotent_claim('large_limit', 'nothing');
SELECT idempotent_complete('large_limit', 'nothing');
COMMIT;
SELECT outcome, evicted FROM idempotent_replay('large_limit', 'nothing');

-- deep nesting: what Postgres can read as jsonb is digested, stored and replayed; beyond that is Postgres' own clear error
DO $$
DECLARE
    depth integer;
    deep jsonb;
    other jsonb;
BEGIN
    FOREACH depth IN ARRAY '{100,1000,10000,1000000}'::integer[] LOOP
        BEGIN
            deep := (repeat('{"a":[', depth / 2) || repeat(']}', depth / 2))::jsonb;
            other := (repeat('{"a":[', depth / 2) || '1' || repeat(']}', depth / 2))::jsonb;
            IF (idempotent_claim('large', 'deep ' || depth, deep)).outcome <> 'claimed' THEN RAISE EXCEPTION 'not claimed'; END IF;
            IF (idempotent_claim('large', 'deep ' || depth, other)).outcome <> 'mismatch' THEN RAISE EXCEPTION 'no mismatch'; END IF;
            IF length(idempotent_request_key(deep)) <> 64 THEN RAISE EXCEPTION 'no key'; END IF;
            PERFORM idempotent_complete('large', 'deep ' || depth, other, 200, headers => deep);
            IF (idempotent_claim('large', 'deep ' || depth, deep)).response <> other THEN RAISE EXCEPTION 'another answer'; END IF;
            RAISE INFO '% levels: fine', depth;
        EXCEPTION WHEN statement_too_complex OR program_limit_exceeded THEN
            RAISE INFO '% levels: %', depth, sqlerrm;
        END;
    END LOOP;
END $$;
SELECT outcome FROM idempotent_replay('large', 'deep 1000');
SET client_min_messages = warning;
DROP SCHEMA large CASCADE;
