-- HTTP in two calls: what to do with a request, and what of its answer is kept.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
\pset null (null)
\pset format unaligned
CREATE TABLE http_payment (id bigint GENERATED ALWAYS AS IDENTITY, amount numeric);
-- What a server does with a request: claim, work, complete, or send what it is told to.
CREATE FUNCTION http_pay(key_header text, body text, content_type text = 'application/json', target text = '/pay', method text = 'POST', scope text = '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c record;
    payment bigint;
BEGIN
    SELECT h.run, h.key, h.fence, h.outcome, h.status, h.headers, h.body, h.retry_after_seconds INTO c
      FROM idempotent_http_claim('http', key_header, method, target, content_type, convert_to(body, 'UTF8'), scope) AS h;
    IF NOT c.run THEN
        RETURN concat_ws(' ', c.outcome, c.status, c.headers, convert_from(c.body, 'UTF8'));
    END IF;
    INSERT INTO http_payment (amount) VALUES (1) RETURNING id INTO payment;
    PERFORM idempotent_http_complete('http', c.key, 201, format('[["Content-Type","application/json"],["Location","/pay/%s"],["Set-Cookie","s=1"]]', payment),
                                     convert_to(format('{"payment": %s}', payment), 'UTF8'), scope);
    RETURN concat_ws(' ', c.outcome, c.key);
END $$;

-- A new key runs; the same request, however its JSON and its key are spelled, is answered byte for byte.
SELECT http_pay('k1', '{"amount": 1.50, "to": "é"}');
SELECT http_pay('"k1"', '{"to":"\u00e9","amount":1.5}', 'application/json; charset=utf-8');
SELECT http_pay('  k1 ', '{"amount": 9, "amount": 1.5, "to": "é"}');
-- What differs in method, target, media type or body is another request.
SELECT http_pay('k1', '{"amount": 2, "to": "é"}');
SELECT left(http_pay('k1', '{"amount": 1.50, "to": "é"}', target => '/pay?x=1'), 12);
SELECT left(http_pay('k1', '{"amount": 1.50, "to": "é"}', method => 'PATCH'), 12);
SELECT left(http_pay('k1', '{"amount": 1.50, "to": "é"}', content_type => 'text/plain'), 12);
-- Another tenant's key is another key.
SELECT http_pay('k1', '{"amount": 2}', scope => 'tenant-2');
-- Headers that name no key.
SELECT http_pay(NULL, '{}');
SELECT http_pay('  ', '{}');
SELECT left(http_pay(h, '{}'), 20) FROM unnest(ARRAY['"', '"a', '"a"b', '"a";q=1', '""', E'a\tb', repeat('k', 256), '"' || repeat('k', 256) || '"']) AS h;
SELECT length(http_pay('"' || repeat('k', 255) || '"', '{}'));
-- What is claimed and not completed cannot commit.
BEGIN;
SELECT h.run, h.key, h.outcome, h.fence, h.status, h.headers, h.body, h.retry_after_seconds FROM idempotent_http_claim('http', '"open"', 'POST', '/pay') AS h;
COMMIT;
SELECT h.outcome FROM idempotent_replay('http', 'open') AS h;

-- A body that jsonb refuses is compared by its bytes, and aborts nothing.
SELECT b.body, http_pay('refused ' || n, b.body), left(http_pay('refused ' || n, b.body), 6), left(http_pay('refused ' || n, b.body || ' '), 8)
FROM unnest(ARRAY['{"a":"\u0000"}', '{"a":"\ud800"}', '{"a":NaN}', '{"a":', '', '[1]x']) WITH ORDINALITY AS b (body, n);
SELECT http_pay('deep', repeat('[', 100000)), left(http_pay('deep', repeat('[', 100000)), 6), left(http_pay('deep', repeat('[', 100001)), 8);
SELECT http_pay('deep json', repeat('[', 9000) || repeat(']', 9000)), left(http_pay('deep json', ' ' || repeat('[', 9000) || repeat(']', 9000)), 6);
SELECT http_pay('exponent', '1e999999'), left(http_pay('exponent', '10E999998'), 6);
-- A form is compared by its fields.
SELECT http_pay('form', 'a=1&b=x+y', 'application/x-www-form-urlencoded'), left(http_pay('form', 'b=x%20y&a=1', 'application/x-www-form-urlencoded'), 6),
       left(http_pay('form', 'b=x%20y&a=2', 'application/x-www-form-urlencoded'), 8);
-- What an operation excludes counts neither in JSON nor in a form.
SELECT fingerprint_exclude FROM idempotent_operation('http', fingerprint_exclude => '{sent_at,/meta/try}');
SELECT http_pay('excluded', '{"a":1,"sent_at":1,"meta":{"try":1}}'), left(http_pay('excluded', '{"a":1,"sent_at":2,"meta":{"try":2}}'), 6);
SELECT http_pay('excluded form', 'a=1&sent_at=1', 'application/x-www-form-urlencoded'), left(http_pay('excluded form', 'sent_at=2&a=1', 'application/x-www-form-urlencoded'), 6);
SELECT count(*) FROM http_payment;

-- What is kept of an answer, by its status.
CREATE FUNCTION http_answer(operation text, key text, status integer, headers text = NULL, body bytea = NULL, method text = 'POST') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stored boolean;
    c record;
BEGIN
    PERFORM FROM idempotent_http_claim(operation, key, method, '/');
    stored := idempotent_http_complete(operation, key, status, headers, body);
    SELECT h.run, h.outcome, h.status, h.headers, h.body INTO c FROM idempotent_http_claim(operation, key, method, '/') AS h;
    IF c.run THEN
        PERFORM idempotent_release(operation, key);
    END IF;
    RETURN concat_ws(' ', status, stored, c.outcome, c.status, c.headers, c.body);
END $$;
SELECT http_answer('http_status', 'k' || status, status)
FROM unnest(ARRAY[200, 201, 204, 302, 304, 400, 401, 402, 403, 404, 407, 408, 409, 410, 412, 421, 422, 423, 425, 429, 500, 503, 599]) AS status;
SELECT r.key, r.state, r.expires_at - r.finished_at AS kept FROM idempotent.record AS r WHERE r.operation = 'http_status' AND r.key IN ('k201', 'k404') ORDER BY 1;
SELECT http_store FROM idempotent_operation('http_status', http_store => '{4xx=complete,409=fail,503=fail,201=release}');
SELECT http_answer('http_status', 'again ' || status, status) FROM unnest(ARRAY[200, 201, 401, 404, 409, 500, 503]) AS status;
SELECT r.key, r.state FROM idempotent.record AS r WHERE r.operation = 'http_status' AND r.key LIKE 'again%' ORDER BY 1;
SELECT http_store FROM idempotent_operation('http_status', http_store => '{}');
-- A status that is none, and headers that are none.
CREATE FUNCTION http_error(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text; h text;
BEGIN
    EXECUTE statement;
    RETURN 'fine';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', sqlstate, sqlerrm, d, h);
END $$;
SELECT http_error(format('SELECT idempotent_http_complete(''http_status'', ''x'', %s)', s)) FROM unnest(ARRAY['100', '101', '103', '199', '600', '0', '-1', 'NULL']) AS s;
SELECT http_error(format('SELECT idempotent_http_complete(''http_status'', ''x'', 200, %L)', h))
FROM unnest(ARRAY['', '{}', '[1]', '[["a"]]', '[["a","b","c"]]', '[["a",1]]', '[["a b","c"]]', E'[["a","b\\r\\nc: d"]]', '[["a","\u0000"]]']) AS h;
SELECT http_error('SELECT idempotent_http_complete(''http_status'', ''never claimed'', 200)');
SELECT http_error('SELECT idempotent_http_complete(''http_status'', ''never claimed'', 500)');
SELECT http_error(format('SELECT * FROM idempotent_http_claim(''http_status'', ''x'', %s, %s)', m, t))
FROM (VALUES ('NULL', '''/'''), ('''''', '''/'''), ('''A B''', '''/'''), ('''GET''', 'NULL'), ('''GET''', '''''')) AS v (m, t);
SELECT http_error('SELECT * FROM idempotent_http_claim('''', NULL, ''GET'', ''/'')');
SELECT http_error(format('SELECT idempotent_operation(''http_status'', %s)', s))
FROM unnest(ARRAY['http_store => ''{409}''', 'http_store => ''{1xx=fail}''', 'http_store => ''{409=keep}''', 'http_store => ''{409=fail,409=complete}''',
                  'http_headers => ''{Date}''', 'http_headers => ''{+Set-Cookie}''', 'http_headers => ''{+Proxy-Authorization}''', 'http_headers => ''{+Date,-date}''']) AS s;

-- Which headers are kept: those of the answer, in their order.
SELECT http_answer('http_headers', 'k1', 200, '[["Date","d"],["Content-Type","text/plain"],["Vary","a"],["connection","X-Hop"],["X-Hop","1"],["Set-Cookie","s"],["WWW-Authenticate","w"],
    ["Authorization","a"],["Proxy-Authenticate","p"],["Server","s"],["Age","1"],["Via","v"],["traceparent","t"],["X-Request-Id","x"],["RateLimit-Limit","r"],["Content-Length","3"],
    ["Transfer-Encoding","chunked"],["Idempotent-Replayed","true"],["Vary","b"],["X-Mine","\u00e9\t\"\\"]]', 'abc');
SELECT http_headers FROM idempotent_operation('http_headers', http_headers => '{+x-request-id,-X-Mine}');
SELECT http_answer('http_headers', 'k2', 200, '[["X-Request-Id","x"],["X-Mine","m"],["ETag","e"]]');
SELECT http_headers FROM idempotent_operation('http_headers', http_headers => '{+ETag,-*}');
SELECT http_answer('http_headers', 'k3', 200, '[["X-Request-Id","x"],["X-Mine","m"],["ETag","e"]]');

-- Bodies: empty, of bytes, none where the status allows none, none to HEAD, one that is too large to keep.
SELECT http_answer('http_body', 'none', 200), http_answer('http_body', 'empty', 200, body => ''), http_answer('http_body', 'bytes', 200, body => '\x00ff0a'::bytea);
SELECT http_answer('http_body', 's' || status, status, '[["ETag","1"]]', 'body') FROM unnest(ARRAY[204, 205, 304]) AS status;
SELECT http_answer('http_body', 'head', 200, '[["ETag","1"]]', 'body', method => 'HEAD');
SELECT h.status, h.headers, h.body = '' AS empty FROM idempotent_http_claim('http_body', '"', 'HEAD', '/') AS h;
SELECT max_response_bytes FROM idempotent_operation('http_body', max_response_bytes => 100);
SELECT http_answer('http_body', 'large', 200, '[["ETag","1"]]', convert_to(repeat('x', 101), 'UTF8'));

-- With a lease: the claim commits, and the answer needs its fence.
SELECT h.run, h.key, h.outcome, h.fence IS NOT NULL AS fenced FROM idempotent_http_claim('http_lease', '"k1"', 'POST', '/', lease => '1 hour', wait => '0') AS h;
SELECT r.fence FROM idempotent.record AS r WHERE r.operation = 'http_lease' AND r.key = 'k1' \gset k1_
SELECT h.run, h.outcome, h.status, h.headers LIKE '[["Content-Type","application/problem+json"],["Retry-After","3%"]]' AS headers, convert_from(h.body, 'UTF8') AS body, h.retry_after_seconds BETWEEN 3500 AND 3600 AS later
FROM idempotent_http_claim('http_lease', 'k1', 'POST', '/', wait => '0') AS h;
SELECT http_error('SELECT idempotent_http_complete(''http_lease'', ''k1'', 200)');
SELECT idempotent_http_complete('http_lease', 'k1', 503, fence => :k1_fence);
SELECT h.run, h.fence > :k1_fence AS later FROM idempotent_http_claim('http_lease', 'k1', 'POST', '/', lease => '1 hour', wait => '0') AS h;
SELECT r.fence FROM idempotent.record AS r WHERE r.operation = 'http_lease' AND r.key = 'k1' \gset k1_
SELECT idempotent_http_complete('http_lease', 'k1', 200, NULL, 'done', fence => :k1_fence);
SELECT h.run, h.fence, h.outcome, h.status, h.headers, h.body FROM idempotent_http_claim('http_lease', 'k1', 'POST', '/') AS h;

-- The answer to a claim is lost: the same attempt gets its own lease back, with its fence; another attempt, or the same one with another request, does not.
SELECT h.run, h.fence IS NOT NULL AS fenced FROM idempotent_http_claim('http_lease', 'k2', 'POST', '/', body => 'one', lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000001') AS h;
SELECT r.fence FROM idempotent.record AS r WHERE r.operation = 'http_lease' AND r.key = 'k2' \gset k2_
SELECT h.run, h.outcome, h.fence = :k2_fence AS same FROM idempotent_http_claim('http_lease', 'k2', 'POST', '/', body => 'one', lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000001') AS h;
SELECT h.run, h.outcome FROM idempotent_http_claim('http_lease', 'k2', 'POST', '/', body => 'one', lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000002') AS h;
SELECT h.run, h.outcome FROM idempotent_http_claim('http_lease', 'k2', 'POST', '/', body => 'two', lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000001') AS h;
SELECT idempotent_http_complete('http_lease', 'k2', 201, NULL, 'done', fence => :k2_fence);
-- The answer to the completion is lost: the claim says what was stored, whatever the attempt.
SELECT h.run, h.outcome, h.status, h.body FROM idempotent_http_claim('http_lease', 'k2', 'POST', '/', body => 'one', attempt_id => '00000000-0000-4000-8000-000000000001') AS h;

-- The other problems: too old, unknown, sealed.
SELECT h.run, h.key IS NOT NULL AS named, h.outcome, h.status, h.headers, convert_from(h.body, 'UTF8') AS body, h.retry_after_seconds
FROM idempotent_http_claim('http', idempotent_new_key(now() - interval '9 days'), 'POST', '/') AS h;
SELECT lease, on_lapse FROM idempotent_operation('http_unknown', lease => '1 ms', on_lapse => 'unknown');
SELECT h.run FROM idempotent_http_claim('http_unknown', 'k1', 'POST', '/') AS h;
SELECT h.run, h.key, h.outcome, h.status, h.headers, convert_from(h.body, 'UTF8') AS body, h.retry_after_seconds FROM idempotent_http_claim('http_unknown', 'k1', 'POST', '/', wait => '1 second') AS h;
-- What an administrator has found out is answered in HTTP's words.
SELECT outcome FROM idempotent_resolve('http_unknown', 'k1', 'completed', '{"payment": 7}');
SELECT h.outcome, h.status, h.headers, convert_from(h.body, 'UTF8') AS body FROM idempotent_http_claim('http_unknown', 'k1', 'POST', '/') AS h;
SELECT outcome FROM idempotent_seal('http', 'sealed');
SELECT h.run, h.key, h.outcome, h.status, h.headers, convert_from(h.body, 'UTF8') AS body, h.retry_after_seconds FROM idempotent_http_claim('http', 'sealed', 'POST', '/') AS h;

-- An operation that demands a scope demands it before the key; one that is only observed lets every request through.
SELECT scope_required FROM idempotent_operation('http_scope', scope_required => true);
SELECT http_error('SELECT * FROM idempotent_http_claim(''http_scope'', ''k'', ''POST'', ''/'')');
SELECT http_error('SELECT * FROM idempotent_http_claim(''http_scope'', NULL, ''POST'', ''/'')');
SELECT mode FROM idempotent_operation('http_observed', mode => 'observe');
SELECT h.run, h.key, h.outcome FROM unnest(ARRAY[NULL, '"', 'k', 'k']) WITH ORDINALITY AS k (header, n), idempotent_http_claim('http_observed', k.header, 'POST', '/' || n) AS h;
SELECT idempotent_http_complete('http_observed', NULL, 200);

-- Its columns may be asked for one by one.
BEGIN;
SELECT (idempotent_http_claim('http', 'star', 'POST', '/')).*;
SELECT idempotent_http_complete('http', 'star', 200);
COMMIT;
-- Only callers that were granted it may.
DROP ROLE IF EXISTS regress_idempotent_http;
CREATE ROLE regress_idempotent_http;
SET ROLE regress_idempotent_http;
SELECT http_error('SELECT * FROM idempotent_http_claim(''http'', ''star'', ''POST'', ''/'')');
RESET ROLE;
SELECT idempotent_grant('regress_idempotent_http');
SET ROLE regress_idempotent_http;
SELECT h.outcome FROM idempotent_http_claim('http', 'star', 'POST', '/') AS h;
RESET ROLE;
SELECT role FROM idempotent_operation('http_role', role => 'pg_monitor');
SET ROLE regress_idempotent_http;
SELECT http_error('SELECT * FROM idempotent_http_claim(''http_role'', ''star'', ''POST'', ''/'')');
SELECT http_error('SELECT * FROM idempotent_http_claim(''http_role'', NULL, ''POST'', ''/'')');
SELECT http_error('SELECT idempotent_http_complete(''http_role'', ''star'', 200)');
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_http');
DROP OWNED BY regress_idempotent_http;
DROP ROLE regress_idempotent_http;
SELECT role FROM idempotent_operation('http_role', role => '-');
