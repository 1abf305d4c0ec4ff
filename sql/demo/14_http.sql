-- A payment over HTTP, paid for five times at once, through a server that knows nothing but SQL (tests/over_http/standin.py). It needs the
-- right to create a database, and Python 3. Every claim made here is checked: the script stops, and psql exits with an error, when one does
-- not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

\set home :DBNAME
\setenv PGHOST :HOST
\setenv PGPORT :PORT
\setenv PGUSER :USER
\setenv PGDATABASE demo_http
DROP DATABASE IF EXISTS demo_http WITH (FORCE);
CREATE DATABASE demo_http;
\connect demo_http
CREATE EXTENSION pg_idempotent;
CREATE FUNCTION expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN IF holds IS NOT TRUE THEN RAISE EXCEPTION 'the demo does not hold: %', told; END IF; RETURN '   ok  ' || told; END $$;

\echo
\echo '== HTTP in two calls: Pay is pressed five times at once =='
\echo
\echo '1. A route is a function. idempotent_http_claim says whether to work or what to send, idempotent_http_complete stores the answer.'
\set ECHO queries
CREATE TABLE payment (id bigint GENERATED ALWAYS AS IDENTITY, amount numeric);
CREATE SCHEMA http_api;
CREATE FUNCTION http_api.pay(body bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  request json := current_setting('request.headers');
  told record;
BEGIN
  SELECT h.run, h.key, h.status, h.headers, h.body INTO told
    FROM idempotent_http_claim('pay', request->>'idempotency-key', current_setting('request.method'),
                               current_setting('request.target'), request->>'content-type', pay.body) AS h;
  IF told.run THEN
    told.status := 201;
    INSERT INTO payment (amount) VALUES ((convert_from(pay.body, 'UTF8')::jsonb->>'amount')::numeric)
      RETURNING format('[["Content-Type","application/json"],["Location","/pay/%s"]]', id),
                convert_to(format('{"payment": %s}', id), 'UTF8') INTO told.headers, told.body;
    PERFORM idempotent_http_complete('pay', told.key, told.status, told.headers, told.body);
  END IF;
  PERFORM set_config('response.status', told.status::text, true), set_config('response.headers', told.headers, true);
  RETURN told.body;
END $$;
\set ECHO none

\echo
\echo '2. sql/demo/14_press_pay.py: five requests with one key at once, one more a moment later, and one with another amount.'
CREATE TEMPORARY TABLE answer (n integer GENERATED ALWAYS AS IDENTITY, told jsonb);
\copy answer (told) FROM PROGRAM 'python3 sql/demo/14_press_pay.py' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')
SELECT '   ' || (told->>'status') || ' ' || coalesce(told->>'location', '-') || ' replayed: ' || coalesce(told->>'replayed', 'no') || ' ' || left(told->>'body', 60) FROM answer ORDER BY n;
\echo
SELECT expect('one payment', count(*) = 1) FROM payment;
SELECT expect('six answers with one status, one Location, and one body byte for byte', count(*) = 6 AND count(DISTINCT (told->>'status', told->>'location', told->>'body')) = 1) FROM answer WHERE n <= 6;
SELECT expect('one of them was made, five were replayed', count(*) FILTER (WHERE told->>'replayed' IS NULL) = 1) FROM answer WHERE n <= 6;
SELECT expect('another amount under the same key is refused, and shows nothing', told->>'status' = '422' AND told->>'location' IS NULL AND told->>'body' LIKE '%#mismatch%') FROM answer WHERE n = 7;
\echo
\connect :home
DROP DATABASE demo_http WITH (FORCE);
