-- A log that is read again from anywhere. Run with psql in any database where you may create an extension; run it as often as
-- you like. Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_offsets CASCADE;
CREATE SCHEMA demo_offsets;
CREATE FUNCTION demo_offsets.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

CREATE TABLE demo_offsets.balance (amount bigint NOT NULL);
INSERT INTO demo_offsets.balance VALUES (0);
CREATE TABLE demo_offsets.log AS SELECT n AS number, n % 10 AS amount FROM generate_series(1, 1000) AS n;
SELECT 'demo ' || idempotent_new_key() AS consumer \gset
-- Adding is not idempotent; here each message adds once.
CREATE PROCEDURE demo_offsets.read(consumer text, from_number bigint, to_number bigint) LANGUAGE plpgsql AS $$
DECLARE
    message record;
BEGIN
    FOR message IN SELECT * FROM demo_offsets.log WHERE number BETWEEN from_number AND to_number ORDER BY number LOOP
        IF idempotent_advance(consumer, 'log-0', message.number) THEN
            UPDATE demo_offsets.balance SET amount = balance.amount + message.amount;
        END IF;
    END LOOP;
END $$;

\echo
\echo '== A consumer with offsets =='
\echo
\echo '1. The consumer reads up to message 600, and its transaction commits work and offset together.'
\set ECHO queries
CALL demo_offsets.read(:'consumer', 1, 600);
BEGIN;
CALL demo_offsets.read(:'consumer', 601, 700);
ROLLBACK;
\set ECHO none
SELECT demo_offsets.expect('the offset is 600: what was rolled back has not moved it', "offset" = 600)
FROM idempotent.offsets WHERE consumer = :'consumer';

\echo
\echo '2. The broker forgets where it was, and delivers everything from the beginning. Twice.'
\set ECHO queries
CALL demo_offsets.read(:'consumer', 1, 1000);
CALL demo_offsets.read(:'consumer', 1, 1000);
\set ECHO none
SELECT demo_offsets.expect('every message was added once', b.amount = (SELECT sum(amount) FROM demo_offsets.log))
FROM demo_offsets.balance AS b;
SELECT demo_offsets.expect('the offset is 1000', "offset" = 1000) FROM idempotent.offsets WHERE consumer = :'consumer';
\echo
