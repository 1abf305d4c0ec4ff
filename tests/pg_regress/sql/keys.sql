-- Keys and what follows from them: new ones, of a request, for a downstream call, and their shard.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SET timezone = 'UTC';

-- new_key: a UUIDv7 (RFC 9562's example time), in lower case
SELECT left(k, 13) AS time, substr(k, 15, 1) AS version, substr(k, 20, 1) IN ('8', '9', 'a', 'b') AS variant, k ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' AS lower_case
FROM idempotent_new_key('2022-02-22 19:22:22Z') AS k;
-- the rest is random
SELECT count(DISTINCT idempotent_new_key('2022-02-22 19:22:22Z')) FROM generate_series(1, 10000);
-- later microseconds sort later, also as text in any collation of digits and lower case
SELECT bool_and(k > before) AS ordered, count(*) FROM (
    SELECT k, lag(k) OVER (ORDER BY n) AS before
    FROM (SELECT n, idempotent_new_key('2022-02-22 19:22:22.999Z'::timestamptz + n * interval '1 microsecond')::uuid AS k FROM generate_series(1, 3000) AS n) AS keys) AS pairs;
-- now, unless said otherwise
SELECT abs(extract(epoch FROM clock_timestamp()) * 1000 - ('x0000' || translate(left(k, 13), '-', ''))::bit(64)::bigint) < 10000 AS now FROM unnest(ARRAY[idempotent_new_key(), idempotent_new_key(NULL)]) AS k;
-- as far as the format reaches
SELECT t, left(idempotent_new_key(t), 15) FROM unnest('{-infinity,1969-12-31 23:59:59Z,1970-01-01 00:00:00Z,9999-12-31 00:00:00Z,10889-08-02 00:00:00Z,294276-12-31 00:00:00Z,infinity}'::timestamptz[]) WITH ORDINALITY AS times (t, n) ORDER BY n;
-- good as a key at once
BEGIN;
SELECT (idempotent_claim('keys', idempotent_new_key())).outcome;
ROLLBACK;

-- request_key: equal for equal requests, different for different ones, and good as a key
SELECT count(DISTINCT idempotent_request_key(r)) FROM unnest(ARRAY['{"a": 1, "b": [1.0, null]}', '{"b":[1.00,null],"a":1e0}', '{ "b" : [ 1, null ], "a" : 1.0 }']::jsonb[]) AS r;
SELECT count(DISTINCT idempotent_request_key(r)), count(*) FROM unnest(ARRAY['null', '0', '"0"', 'false', '""', '[]', '{}', '[[]]', '{"a": 1}', '{"a": "1"}', '{"a": [1]}', '{"a": 9007199254740993}', '{"a": 9007199254740992}', '[1, 2]', '[2, 1]']::jsonb[]) AS r;
SELECT r, idempotent_request_key(r) FROM unnest(ARRAY['1', '{"a": "ä"}', '{"customer": 7, "amount": 12.50}']::jsonb[]) AS r;
SELECT idempotent_request_key(NULL) IS NULL AS null_for_null;
SELECT outcome FROM idempotent_replay('keys', idempotent_request_key('{"a": 1}'));

-- derive_key: stable for ever, a UUID of version 8, another for each operation, scope, key and label
SELECT o, s, k, l, idempotent_derive_key(o, k, l, s) FROM (VALUES
    ('charge', '', 'k1', 'card'), ('charge', '', 'k1', 'mail'), ('charge', '', 'k2', 'card'), ('charge', 'tenant', 'k1', 'card'), ('refund', '', 'k1', 'card'), ('charge', 'ä', '😀', 'ö')) AS calls (o, s, k, l);
SELECT count(DISTINCT idempotent_derive_key('charge', k, l)), count(*) FROM generate_series(1, 100) AS k_, generate_series(1, 100) AS l_, LATERAL (SELECT 'k' || k_ AS k, 'l' || l_ AS l) AS calls;
SELECT idempotent_derive_key('charge', 'k', 'ab') <> idempotent_derive_key('charge', 'ka', 'b') AS borders_matter;
SELECT idempotent_derive_key('charge', 'k', repeat('l', 1000000)) <> idempotent_derive_key('charge', 'k', repeat('l', 999999)) AS long_labels;
SELECT idempotent_derive_key('charge', 'k', '');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_derive_key('charge', 'k', NULL);
\echo :LAST_ERROR_SQLSTATE
-- it carries no date
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 500) AS n, idempotent_claim('keys', idempotent_derive_key('charge', 'k', n::text)::text) GROUP BY outcome;
ROLLBACK;

-- shard: stable for ever, within its bounds
SELECT s, k, idempotent_slot(k, s), idempotent_shard(k, 1, s), idempotent_shard(k, 2, s), idempotent_shard(k, 7, s), idempotent_shard(k, 16, s), idempotent_shard(k, 1024, s), idempotent_shard(k, 16384, s)
FROM (VALUES ('', 'k1'), ('tenant', 'k1'), ('tenant', 'k2'), ('', 'tenant'), ('', 'é'), ('ä', '😀')) AS calls (s, k);
SELECT shards, min(s), max(s), count(DISTINCT s), max(c) < 3 * 20000 / shards AS even
FROM (SELECT shards, idempotent_shard('k' || n, shards) AS s, count(*) AS c FROM unnest('{1,2,3,10,16}'::integer[]) AS shards, generate_series(1, 20000) AS n GROUP BY 1, 2) AS spread GROUP BY shards ORDER BY shards;
-- growing from n to n + 1 moves about 1/(n + 1) of the keys, and only to the new shard
SELECT n, count(*) FILTER (WHERE before <> after AND after <> n) AS moved_among_the_old, round(avg((before <> after)::integer) * (n + 1), 1) AS moved_times_n_plus_1
FROM (SELECT n, idempotent_shard('k' || k, n) AS before, idempotent_shard('k' || k, n + 1) AS after FROM unnest('{1,2,7,16}'::integer[]) AS n, generate_series(1, 20000) AS k) AS growth GROUP BY n ORDER BY n;
SELECT idempotent_shard('k', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_shard('k', -1);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_shard('k', 16385);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_slot('');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_slot('k', repeat('s', 256));
\echo :LAST_ERROR_SQLSTATE

-- the immutable ones can be indexed
CREATE TABLE keys_sharded (key text, shard integer GENERATED ALWAYS AS (idempotent_shard(key, 16)) STORED);
CREATE INDEX ON keys_sharded (idempotent_derive_key('keys', key, 'l'));
INSERT INTO keys_sharded VALUES ('k1');
SELECT shard = idempotent_shard(key, 16) AS same FROM keys_sharded WHERE idempotent_derive_key('keys', key, 'l') = idempotent_derive_key('keys', 'k1', 'l');
DROP TABLE keys_sharded;
