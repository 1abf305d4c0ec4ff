-- What makes two requests the same: values, types and array order, not their spelling.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
-- Stores one request, asks with another, forgets both.
CREATE FUNCTION pg_temp.asked(first jsonb, second jsonb, operation text = 'fingerprint') RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    PERFORM idempotent_claim(operation, 'k', first);
    PERFORM idempotent_complete(operation, 'k');
    SELECT outcome INTO answer FROM idempotent_claim(operation, 'k', second);
    RAISE EXCEPTION SQLSTATE '00UND';
EXCEPTION WHEN SQLSTATE '00UND' THEN
    RETURN CASE answer WHEN 'replay' THEN 'same' WHEN 'mismatch' THEN 'different' ELSE answer END;
END $$;

\pset null (null)
-- spelling does not matter
SELECT first, second, pg_temp.asked(first::jsonb, second::jsonb) FROM (VALUES
    ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
    ('{"a": 1}', '  { "a" :1 }  '),
    ('1.0', '1.00'), ('1.0', '1e0'), ('1', '1.0'), ('1', '10e-1'), ('100', '1e2'), ('0', '-0'), ('0', '0.000'), ('0', '0e10'), ('-1.50', '-15e-1'),
    ('0.000001', '1e-6'), ('1e400', '10e399'), ('{"a": 1, "a": 2}', '{"a": 2}'),
    ('"\u00e4"', '"ä"'), ('"\u0041"', '"A"'), ('"\/"', '"/"'), ('"\ud83d\ude00"', '"😀"'),
    ('{"a": {"c": [1.0], "b": null}}', '{"a": {"b": null, "c": [1]}}'),
    ('[]', '[ ]'), (NULL, NULL)) AS same (first, second);
-- values, types and the order of arrays do
SELECT first, second, pg_temp.asked(first::jsonb, second::jsonb) FROM (VALUES
    ('1', '2'), ('1', '-1'), ('1', '"1"'), ('1', '[1]'), ('1', '10'), ('1', '0.1'), ('1', 'true'), ('0', 'false'), ('null', 'false'), ('null', '0'), ('null', '""'), ('null', '[]'), ('null', '{}'),
    ('[]', '{}'), ('[1, 2]', '[2, 1]'), ('[1, 2]', '[1, 2, 3]'), ('[1, 2]', '[12]'), ('[[1], 2]', '[[1, 2]]'), ('[1, [2]]', '[[1], 2]'), ('["a", "b"]', '["ab"]'), ('["a", "b"]', '["ab", ""]'),
    ('{"a": 1}', '{"a": 1, "b": null}'), ('{"a": {"b": 1}}', '{"a.b": 1}'), ('{"a": "b"}', '["a", "b"]'), ('{"a": "b"}', '{"b": "a"}'), ('{"ab": "c"}', '{"a": "bc"}'),
    ('"a"', '"A"'), ('"a"', '"a "'), ('"ä"', '"a\u0308"'), ('"1.0"', '"1.00"'),
    ('9007199254740993', '9007199254740992'), ('12345678901234567890123456789', '12345678901234567890123456788'), ('0.1', '0.10000000000000000001'), ('1e400', '1e401'),
    ('{"a": 9007199254740993}', '{"a": 9007199254740992.0}'),
    ('[{}]', '[[]]'), ('[null]', '[]'), (NULL, 'null'), ('null', NULL), ('{}', NULL), (NULL, '{}')) AS different (first, second);
-- every pair of these, only with itself
WITH requests (n, r) AS (SELECT row_number() OVER (), r::jsonb FROM unnest('{"null","true","false","0","1","-1","1e1","1e-1","\"\"","\"0\"","\"null\"","[]","[[]]","[[],[]]","[0]","[0,0]","[null]","{}","{\"\":0}","{\"0\":0}","{\"0\":\"0\"}","{\"0\":{}}","{\"0\":[]}","[{}]","[{},{}]","[\"a\",\"b\"]","[\"a\",[\"b\"]]","{\"a\":\"b\"}"}'::text[]) AS r)
SELECT pg_temp.asked(a.r, b.r) AS answer, count(*), count(*) FILTER (WHERE a.n = b.n) AS with_itself FROM requests AS a, requests AS b GROUP BY answer;
\pset null ''

-- a fingerprint that the caller makes
CREATE FUNCTION pg_temp.asked_by_fingerprint(first bytea, first_request jsonb, second bytea, second_request jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    PERFORM idempotent_claim('fingerprint', 'k', first_request, fingerprint => first);
    PERFORM idempotent_complete('fingerprint', 'k');
    SELECT outcome INTO answer FROM idempotent_claim('fingerprint', 'k', second_request, fingerprint => second);
    RAISE EXCEPTION SQLSTATE '00UND';
EXCEPTION WHEN SQLSTATE '00UND' THEN
    RETURN CASE answer WHEN 'replay' THEN 'same' WHEN 'mismatch' THEN 'different' ELSE answer END;
END $$;
SELECT a AS first, b AS first_request, c AS second, d AS second_request, pg_temp.asked_by_fingerprint(a, b, c, d) FROM (VALUES
    ('\x0102'::bytea, NULL::jsonb, '\x0102'::bytea, NULL::jsonb), ('\x0102', NULL, '\x0103', NULL), ('\x0102', NULL, '\x010200', NULL), ('\x', NULL, '\x', NULL), ('\x', NULL, NULL, NULL), ('\x', NULL, '\x00', NULL),
    -- it stands for the request, whatever that is
    ('\x01', '1', '\x01', '2'), ('\x01', '1', '\x02', '1'), ('\x01', '1', NULL, '1'), (NULL, '1', '\x01', '1'),
    -- bytes are never taken for the digest of a request
    (NULL, '1', substring(sha256('1') FOR 16), NULL)) AS bytes (a, b, c, d);
SELECT pg_temp.asked_by_fingerprint(decode(repeat('ab', 1000000), 'hex'), NULL, decode(repeat('ab', 1000000), 'hex'), NULL),
       pg_temp.asked_by_fingerprint(decode(repeat('ab', 1000000), 'hex'), NULL, decode(repeat('ab', 1000001), 'hex'), NULL);

-- numbers are read by their digits, never written out: 180 kB that would be 2.6 GB of zeros, in the time of a look
SELECT count(*), idempotent_request_key(jsonb_agg(v)) FROM (SELECT '1e131071'::jsonb AS v FROM generate_series(1, 20000)) AS n;
SELECT v, idempotent_request_key(v::jsonb) = idempotent_request_key(w::jsonb) AS same, left(idempotent_request_key(v::jsonb), 16) FROM (VALUES
    ('1e131071', rpad('1', 131072, '0')), ('1e-16383', '0.' || lpad('1', 16383, '0')), ('-12e5', '-1200000'), ('99990000.0001', '9999000000010e-5'), ('1e4', '10000'), ('1e-4', '0.0001'), ('0.00', '0')) AS spelled (v, w);

-- members that do not count: names at the top level, or JSON Pointers through objects and every element of an array
SELECT fingerprint_exclude FROM idempotent_operation('fingerprint_exclude', fingerprint_exclude => '{sent_at,/meta/trace,/a~1b,/til~0de,/deep/er/still,0,/items/*/seen_at}');
SELECT first, second, pg_temp.asked(first, second, 'fingerprint_exclude') FROM (VALUES
    ('{"n": 1, "sent_at": 1}'::jsonb, '{"n": 1, "sent_at": 2}'::jsonb), ('{"n": 1, "sent_at": 1}', '{"n": 1}'), ('{"n": 1, "sent_at": {"a": [1, {"n": 2}]}}', '{"n": 1, "sent_at": []}'),
    ('{"meta": {"trace": 1, "n": 1}}', '{"meta": {"n": 1}}'), ('{"a/b": 1}', '{}'), ('{"til~de": 1}', '{}'), ('{"deep": {"er": {"still": {"x": [1]}}}}', '{"deep": {"er": {}}}'), ('{"0": 1}', '{}'),
    ('{"items": [{"id": 1, "seen_at": 1}, {"seen_at": [2]}, 3]}', '{"items": [{"id": 1}, {"seen_at": 4}, 3]}')) AS same (first, second);
SELECT first, second, pg_temp.asked(first, second, 'fingerprint_exclude') FROM (VALUES
    ('{"n": 1, "sent_at": 1}'::jsonb, '{"n": 2, "sent_at": 1}'::jsonb), ('{"m": {"sent_at": 1}}', '{"m": {"sent_at": 2}}'), ('[{"sent_at": 1}]', '[{"sent_at": 2}]'), ('["sent_at", 1]', '["sent_at", 2]'), ('"sent_at"', '"other"'),
    ('{"meta": {"trace": 1}}', '{}'), ('{"trace": 1}', '{"trace": 2}'), ('{"meta": {"m": {"trace": 1}}}', '{"meta": {"m": {"trace": 2}}}'), ('{"meta": [{"trace": 1}]}', '{"meta": [{"trace": 2}]}'), ('{"meta": "trace"}', '{"meta": {}}'),
    ('{"a~1b": 1}', '{"a~1b": 2}'), ('{"a": {"b": 1}}', '{"a": {"b": 2}}'), ('{"deep": {"er": {"x": 1}}}', '{"deep": {"er": {"x": 2}}}'), ('[1]', '[2]'),
    ('{"items": [{"id": 1, "seen_at": 1}]}', '{"items": [{"id": 2, "seen_at": 1}]}'), ('{"items": [[{"seen_at": 1}]]}', '{"items": [[{"seen_at": 2}]]}'), ('{"items": {"a": {"seen_at": 1}}}', '{"items": {"a": {"seen_at": 2}}}')) AS different (first, second);
-- the setting counts when a request is digested, not when it is compared
BEGIN;
SELECT outcome FROM idempotent_claim('fingerprint_exclude', 'before', '{"n": 1, "sent_at": 1}');
SELECT idempotent_complete('fingerprint_exclude', 'before', '"before"');
COMMIT;
SELECT fingerprint_exclude FROM idempotent_operation('fingerprint_exclude', fingerprint_exclude => '{}');
SELECT outcome FROM idempotent_claim('fingerprint_exclude', 'before', '{"n": 1, "sent_at": 1}');
SELECT outcome FROM idempotent_claim('fingerprint_exclude', 'before', '{"n": 1}');

-- the version of the algorithm is stored with the record
BEGIN;
SELECT (idempotent_claim('fingerprint', 'none')).outcome, (idempotent_claim('fingerprint', 'json', '1')).outcome, (idempotent_claim('fingerprint', 'bytes', '1', fingerprint => '\x01')).outcome;
SELECT idempotent_complete('fingerprint', 'none'), idempotent_complete('fingerprint', 'json'), idempotent_complete('fingerprint', 'bytes');
COMMIT;
-- (a request is never stored, only its digest, which is the same on every machine and major version)
SELECT key, fingerprint_version, fingerprint FROM idempotent.record WHERE operation = 'fingerprint' ORDER BY key COLLATE "C";
