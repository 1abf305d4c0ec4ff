-- Operation, scope and key: their limits, measured in bytes of UTF-8, and what makes two keys one.
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- the limits, each from both sides
SELECT outcome FROM idempotent_replay('identity', repeat('k', 255), repeat('s', 255));
SELECT outcome FROM idempotent_replay(repeat('o', 255), 'k');
SELECT outcome FROM idempotent_replay('identity', repeat('k', 256));
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', 'k', repeat('s', 256));
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay(repeat('o', 256), 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', '');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', 'k', '');
-- letters of several bytes
SELECT outcome FROM idempotent_replay('identity', repeat('ä', 127) || 'k');
SELECT outcome FROM idempotent_replay('identity', repeat('ä', 128));
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', repeat('😀', 63));
SELECT outcome FROM idempotent_replay('identity', repeat('😀', 64));
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay(repeat('ä', 127) || 'o', 'k');
SELECT outcome FROM idempotent_replay(repeat('ä', 128), 'k');
\echo :LAST_ERROR_SQLSTATE
-- very long ones
SELECT outcome FROM idempotent_replay('identity', repeat('k', 10000000));
\echo :LAST_ERROR_SQLSTATE

-- control characters: C0, DEL and C1, wherever they stand
SELECT outcome FROM idempotent_replay('identity', E'tab\there');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', 'k', E'new\nline');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay(E'\x7f', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('identity', U&'ä\0085');
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION pg_temp.refusal(key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT outcome FROM idempotent_replay('identity', key));
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT pg_temp.refusal('a' || chr(n) || 'z') AS answer, count(*), min(n), max(n) FROM generate_series(1, 31) AS n GROUP BY answer;
SELECT pg_temp.refusal('a' || chr(n) || 'z') AS answer, count(*), min(n), max(n) FROM generate_series(32, 126) AS n GROUP BY answer;
SELECT pg_temp.refusal('a' || chr(n) || 'z') AS answer, count(*), min(n), max(n) FROM generate_series(127, 159) AS n GROUP BY answer;
SELECT pg_temp.refusal('a' || chr(n) || 'z') AS answer, count(*), min(n), max(n) FROM generate_series(160, 2000) AS n GROUP BY answer;
-- letters whose UTF-8 holds bytes that would be control characters on their own are letters
SELECT pg_temp.refusal(U&'\+01F600\0440\00C5\2028');

-- every function that takes a key refuses a bad one, with ID006 and before anything else
CREATE FUNCTION pg_temp.state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END $$;
SELECT f, pg_temp.state_of(format('SELECT %s(''identity'', '''' %s)', f, rest)) AS empty_key,
          pg_temp.state_of(format('SELECT %s(''identity'', ''%s'' %s)', f, repeat('k', 256), rest)) AS long_key,
          pg_temp.state_of(format('SELECT %s(''identity'', E''\x01'' %s)', f, rest)) AS control_character,
          pg_temp.state_of(format('SELECT %s('''', ''k'' %s)', f, rest)) AS empty_operation,
          pg_temp.state_of(format('SELECT %s(''identity'', ''k'' %s, scope => E''\n'')', f, rest)) AS bad_scope
FROM (VALUES ('idempotent_claim', ''), ('idempotent_claim', ', strict => true'), ('idempotent_complete', ''), ('idempotent_fail', ''), ('idempotent_release', ''),
             ('idempotent_extend', ', lease => ''1 hour'''), ('idempotent_checkpoint', ', checkpoint => ''1'''), ('idempotent_replay', ''),
             ('idempotent_run', ', request => ''1'', handler => ''jsonb_typeof(jsonb)'''), ('idempotent_explain', ''), ('idempotent_derive_key', ', label => ''l''')) AS functions (f, rest);
SELECT pg_temp.state_of($$SELECT idempotent_operation('')$$) AS empty, pg_temp.state_of(format('SELECT idempotent_operation(%L)', repeat('o', 256))) AS long,
       pg_temp.state_of($$SELECT idempotent_operation(E'\b')$$) AS control_character;
SELECT count(*) FROM idempotent.record WHERE operation IN ('identity', '') AND state <> 'e';

-- no two identities are one: neither by moving the borders between the parts ...
BEGIN;
SELECT o, s, k, (idempotent_claim(o, k, to_jsonb(n), s)).outcome
FROM (VALUES (1, 'identity', '', 'ab'), (2, 'identity', 'a', 'b'), (3, 'identitya', '', 'b'), (4, 'identity', 'ab', 'a'), (5, 'identity', 'a', 'ba'), (6, 'identity', 'b', 'a')) AS identities (n, o, s, k);
SELECT idempotent_complete(o, k, to_jsonb(n), scope => s)
FROM (VALUES (1, 'identity', '', 'ab'), (2, 'identity', 'a', 'b'), (3, 'identitya', '', 'b'), (4, 'identity', 'ab', 'a'), (5, 'identity', 'a', 'ba'), (6, 'identity', 'b', 'a')) AS identities (n, o, s, k);
COMMIT;
SELECT n, response FROM (VALUES (1, 'identity', '', 'ab'), (2, 'identity', 'a', 'b'), (3, 'identitya', '', 'b'), (4, 'identity', 'ab', 'a'), (5, 'identity', 'a', 'ba'), (6, 'identity', 'b', 'a')) AS identities (n, o, s, k),
     idempotent_replay(o, k, s);
-- ... nor by case, blanks or the form of a letter
BEGIN;
SELECT (idempotent_claim('identity', 'Key ä')).outcome;
SELECT idempotent_complete('identity', 'Key ä', '1');
COMMIT;
SELECT k, outcome FROM unnest(ARRAY['Key ä', 'key ä', 'Key ä ', ' Key ä', 'Key  ä', U&'Key a\0308']) AS k, idempotent_replay('identity', k);

-- the record id is 128 bits of SHA-256 over the length-prefixed identity
CREATE FUNCTION pg_temp.part(part text) RETURNS bytea LANGUAGE sql AS $$ SELECT int4send(octet_length(convert_to(part, 'UTF8'))) || convert_to(part, 'UTF8') $$;
SELECT left(s, 10) AS scope, left(k, 10) AS key, (idempotent_explain('identity', k, s) ->> 'record_id')::uuid
           = left(encode(sha256(pg_temp.part('identity') || pg_temp.part(s) || pg_temp.part(k)), 'hex'), 32)::uuid AS as_agreed
FROM (VALUES ('', 'k'), ('tenant', 'k'), ('ä', '😀'), (repeat('s', 255), repeat('k', 255))) AS identities (s, k);
SELECT bool_and(record_id = left(encode(sha256(pg_temp.part(operation) || pg_temp.part(scope) || pg_temp.part(key)), 'hex'), 32)::uuid) AS as_agreed, count(*)
FROM idempotent.record WHERE operation IN ('identity', 'identitya');
-- its text is stored too, and compared: a collision is an error, never a wrong replay
UPDATE idempotent.record SET key = 'another key' WHERE operation = 'identity' AND key = 'Key ä';
SELECT outcome, response FROM idempotent_replay('identity', 'Key ä');
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, response FROM idempotent_claim('identity', 'Key ä');
\echo :LAST_ERROR_SQLSTATE
DELETE FROM idempotent.record WHERE operation = 'identity' AND key = 'another key';

-- an operation that demands a scope, from when on claims without one were open: they are finished
SELECT c.outcome FROM unnest('{k1,k2,k3,k4,k5}'::text[]) AS k, idempotent_claim('identity_strict', k, lease => '1 hour') AS c;
SELECT array_agg(fence ORDER BY key) AS fences FROM idempotent.record WHERE operation = 'identity_strict' AND state <> 'e' \gset
SELECT fence AS lock_fence FROM idempotent_lock('identity_strict', 'holder', '1 hour') \gset
BEGIN;
SELECT outcome FROM unnest('{t1,t2,t3}'::text[]) AS k, idempotent_claim('identity_strict', k) AS c;
SELECT scope_required FROM idempotent_operation('identity_strict', scope_required => true);
SELECT idempotent_complete('identity_strict', 't1', '1'), idempotent_fail('identity_strict', 't2', '2'), idempotent_release('identity_strict', 't3');
COMMIT;
SELECT idempotent_extend('identity_strict', 'k1', '2 hours', fence => (:'fences'::bigint[])[1]) > now() + interval '1 hour' AS extended;
SELECT idempotent_checkpoint('identity_strict', 'k1', '"half"', fence => (:'fences'::bigint[])[1]);
SELECT idempotent_complete('identity_strict', 'k1', '1', fence => (:'fences'::bigint[])[1]);
SELECT idempotent_fail('identity_strict', 'k2', '2', fence => (:'fences'::bigint[])[2]);
SELECT idempotent_release('identity_strict', 'k3', fence => (:'fences'::bigint[])[3]);
SELECT idempotent_http_complete('identity_strict', 'k4', 200, fence => (:'fences'::bigint[])[4]);
-- k3 is lost, as it was given back
SELECT * FROM idempotent_extend_all('identity_strict', '{k3,k5}', (:'fences'::bigint[])[3:3] || (:'fences'::bigint[])[5:5], '1 hour');
SELECT idempotent_unlock('identity_strict', 'holder', fence => :lock_fence);
SELECT key, state, checkpoint FROM idempotent.record WHERE operation = 'identity_strict' AND state <> 'e' ORDER BY key;
-- nothing new begins, also nothing of the same names
SELECT pg_temp.state_of(format('SELECT %s(''identity_strict'', ''t3'' %s)', f, rest)) AS begins
FROM (VALUES ('idempotent_claim', ''), ('idempotent_run', ', ''1'', ''jsonb_typeof(jsonb)'''), ('idempotent_lock', ', ttl => ''1 hour''')) AS functions (f, rest);
SELECT idempotent_complete('identity_strict', 't3', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_unlock('identity_strict', 'holder', fence => :lock_fence);
\echo :LAST_ERROR_SQLSTATE
-- an administrator sees and clears away what is there, and is told to name the scope of what is not
SELECT idempotent_explain('identity_strict', 'k1')->>'outcome' AS explained, idempotent_forget('identity_strict', 'k1') AS forgotten;
SELECT f, pg_temp.state_of(format('SELECT %s(''identity_strict'', ''k1'')', f)) AS absent FROM unnest('{idempotent_explain,idempotent_forget}'::text[]) AS f;

-- an operation that demands a scope
SELECT scope_required FROM idempotent_operation('identity_scoped', scope_required => true);
SELECT f, pg_temp.state_of(format('SELECT %s(''identity_scoped'', ''k'' %s)', f, rest)) AS without_scope,
          pg_temp.state_of(format('SELECT %s(''identity_scoped'', ''k'' %s, scope => ''t'')', f, rest)) AS with_scope
FROM (VALUES ('idempotent_claim', ', lease => ''1 hour'''), ('idempotent_complete', ''), ('idempotent_fail', ''), ('idempotent_release', ''),
             ('idempotent_extend', ', lease => ''1 hour'''), ('idempotent_checkpoint', ', checkpoint => ''1'''), ('idempotent_replay', ''),
             ('idempotent_explain', '')) AS functions (f, rest);
