-- A queue that delivers everything twice. Run with psql in any database where you may create an extension; run it as often as
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

DROP SCHEMA IF EXISTS demo_consumer CASCADE;
CREATE SCHEMA demo_consumer;
CREATE FUNCTION demo_consumer.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

CREATE TABLE demo_consumer.invoice (message_id text NOT NULL, amount numeric(12,2) NOT NULL);
-- What the queue delivers: 10,000 messages, in batches of 2,500 that overlap by half, so that most come twice.
CREATE TABLE demo_consumer.delivery AS
SELECT batch, 'm' || n AS message_id, n % 100 AS amount
FROM generate_series(0, 7) AS batch, generate_series(batch * 1250 + 1, least(batch * 1250 + 2500, 10000)) AS n;
-- A consumer of its own with each run of the demo.
SELECT 'demo ' || idempotent_new_key() AS consumer \gset

\echo
\echo '== A consumer that sees each message once =='
\echo
\echo '1. A message arrives. In the transaction that does the work, the consumer asks whether it is new.'
\set ECHO queries
BEGIN;
SELECT idempotent_first(:'consumer', 'hello') AS first
\gset
COMMIT;
SELECT idempotent_first(:'consumer', 'hello') AS again
\gset
\set ECHO none
\echo '   => first:' :first', delivered again:' :again
SELECT demo_consumer.expect('new the first time, and known the second', :'first' = 't' AND :'again' = 'f');

\echo
\echo '2. The consumer dies before COMMIT: the message is as new as before, for whoever gets it next.'
\set ECHO queries
BEGIN;
SELECT idempotent_first(:'consumer', 'lost') AS first
\gset
ROLLBACK;
SELECT idempotent_first(:'consumer', 'lost') AS again
\gset
\set ECHO none
\echo '   => first:' :first', after the rollback:' :again
SELECT demo_consumer.expect('new again', :'first' = 't' AND :'again' = 't');

\echo
\echo '3. By the batch: 10,000 messages, most of them delivered twice. A batch is one statement.'
SELECT count(*) AS deliveries, count(DISTINCT message_id) AS messages FROM demo_consumer.delivery \gset
PREPARE consume (int) AS
    INSERT INTO demo_consumer.invoice
    SELECT d.message_id, d.amount
    FROM idempotent_first_of(:'consumer', (SELECT array_agg(message_id) FROM demo_consumer.delivery WHERE batch = $1)) AS new
    JOIN demo_consumer.delivery AS d ON d.message_id = new AND d.batch = $1;
SELECT format('EXECUTE consume(%s)', batch) FROM generate_series(0, 7) AS batch \gexec
\echo '   =>' :deliveries 'deliveries of' :messages 'messages'
SELECT demo_consumer.expect('an invoice for each message, and no message has two',
                            count(*) = :messages AND count(DISTINCT message_id) = :messages) FROM demo_consumer.invoice;
\echo
