-- Writes that can be repeated as they are, and one that cannot. Run it in any database, as often as you like; it needs no extension but
-- for the last line. Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_natural CASCADE;
CREATE SCHEMA demo_natural;
CREATE FUNCTION demo_natural.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;
CREATE TABLE demo_natural.account (id integer PRIMARY KEY, email text, balance numeric, version integer NOT NULL DEFAULT 1);
INSERT INTO demo_natural.account VALUES (1, 'old@example.com', 100);
CREATE TABLE demo_natural.entry (ref text PRIMARY KEY, account integer REFERENCES demo_natural.account, amount numeric);

-- Runs a statement twice and says what it left behind after the first time and after the second.
CREATE FUNCTION demo_natural.twice(statement text, OUT once text, OUT again text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    once := (SELECT string_agg(a::text, ' ' ORDER BY id) FROM demo_natural.account AS a);
    EXECUTE statement;
    again := (SELECT string_agg(a::text, ' ' ORDER BY id) FROM demo_natural.account AS a);
END $$;
SET search_path = demo_natural, public;

\echo
\echo '== Natural idempotency: each statement runs twice =='
\echo
\echo '1. An absolute value: the second time nothing changes.'
\set statement 'UPDATE account SET email = \'new@example.com\' WHERE id = 1'
\echo '  ' :statement
SELECT once, again FROM twice(:'statement') \gset
\echo '   =>' :once '=>' :again
SELECT expect('the same', :'once' = :'again');

\echo
\echo '2. An increment: the second time it is wrong. This is what needs help.'
\set statement 'UPDATE account SET balance = balance + 25 WHERE id = 1'
\echo '  ' :statement
BEGIN;
SELECT once, again FROM twice(:'statement') \gset
ROLLBACK;
\echo '   =>' :once '=>' :again
SELECT expect('not the same', :'once' <> :'again');

\echo
\echo '3. An upsert, with absolute values.'
\set statement 'INSERT INTO account (id, email, balance) VALUES (2, \'bob@example.com\', 0) ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email'
\echo '  ' :statement
SELECT once, again FROM twice(:'statement') \gset
\echo '   =>' :once '=>' :again
SELECT expect('the same', :'once' = :'again');

\echo
\echo '4. A conditional write: it names the version that it was made for, which the second time no row has.'
\set statement 'UPDATE account SET balance = balance - 20, version = version + 1 WHERE id = 1 AND version = 1'
\echo '  ' :statement
SELECT once, again FROM twice(:'statement') \gset
\echo '   =>' :once '=>' :again
SELECT expect('the same', :'once' = :'again');

\echo
\echo '5. An increment with a reference: the balance moves only if the reference is new.'
\set ECHO queries
CREATE FUNCTION add_balance_if_new(of integer, ref text, amount numeric) RETURNS boolean LANGUAGE sql AS $$
  WITH new AS (INSERT INTO entry VALUES (ref, of, amount) ON CONFLICT DO NOTHING RETURNING entry.account, entry.amount),
       moved AS (UPDATE account SET balance = balance + new.amount FROM new WHERE id = new.account RETURNING 1)
  SELECT count(*) > 0 FROM moved
$$;
\set ECHO none
\set statement 'SELECT add_balance_if_new(1, \'payment-77\', 25)'
\echo '  ' :statement
SELECT once, again FROM twice(:'statement') \gset
\echo '   =>' :once '=>' :again
SELECT expect('the same', :'once' = :'again');

\echo
\echo '6. The increment of 2, untouched, under a key: and the caller who asks again gets the first answer.'
\set ECHO queries
CREATE FUNCTION pay_in(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
  UPDATE account SET balance = balance + (request->>'amount')::numeric WHERE id = 1 RETURNING jsonb_build_object('balance', balance)
$$;
\set ECHO none
SELECT idempotent_new_key() AS key \gset
SELECT format('SELECT idempotent_run(''demo_pay_in'', %L, ''{"amount": 25}'', ''pay_in'')', :'key') AS statement \gset
\echo '  ' :statement
SELECT once, again FROM twice(:'statement') \gset
\echo '   =>' :once '=>' :again
SELECT expect('the same', :'once' = :'again');
SELECT expect('and an answer to every caller', response = '{"balance": 130}') FROM idempotent_replay('demo_pay_in', :'key');
\echo
