-- Orders in one database, a mail for each from another, and a relay between them that is killed again and again. It needs the
-- right to create databases, and 10_relay.sh beside it. Every claim made here is checked: the script stops, and psql exits with
-- an error, when one does not hold.
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
\setenv SHOP demo_outbox_shop
\setenv MAIL demo_outbox_mail
\set expect 'CREATE FUNCTION expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF holds IS NOT TRUE THEN RAISE EXCEPTION \'the demo does not hold: %\', told; END IF; RETURN \'   ok  \' || told; END $$'
DROP DATABASE IF EXISTS demo_outbox_shop WITH (FORCE);
DROP DATABASE IF EXISTS demo_outbox_mail WITH (FORCE);
CREATE DATABASE demo_outbox_shop;
CREATE DATABASE demo_outbox_mail;

\echo
\echo '== Outbox: a message for every order, whoever dies =='
\echo
\echo '1. The receiver writes a row per message that it sees for the first time.'
\connect demo_outbox_mail
CREATE EXTENSION pg_idempotent;
:expect;
\set ECHO queries
CREATE TABLE mail (id bigint GENERATED ALWAYS AS IDENTITY, customer text, number integer);
CREATE SEQUENCE delivery;  -- counts them, also those that are rolled back
CREATE FUNCTION receive(message_id text, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('delivery');
  IF idempotent_first('mail', message_id) THEN
    INSERT INTO mail (customer, number) VALUES (message->>'customer', (message->>'number')::integer);
  END IF;
END $$;
\set ECHO none

\echo
\echo '2. The sender puts a message into the outbox with every order, in the same transaction. Every seventh is rolled back.'
\connect demo_outbox_shop
CREATE EXTENSION pg_idempotent;
:expect;
\set ECHO queries
CREATE TABLE orders (customer text, number integer);
CREATE PROCEDURE sell(orders integer) LANGUAGE plpgsql AS $$
BEGIN
  FOR n IN 1..orders LOOP
    INSERT INTO orders VALUES ('customer ' || n % 10, n);
    PERFORM idempotent_outbox_put('orders', jsonb_build_object('customer', 'customer ' || n % 10, 'number', n),
                                  key => 'customer ' || n % 10);
    IF n % 7 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
  END LOOP;
END $$;
CALL sell(350);
\set ECHO none
SELECT expect('300 orders, and as many messages', count(*) = 300 AND (SELECT messages FROM idempotent.outbox) = 300) FROM orders;

\echo
\echo '3. Relays at work, two at a time: sql/demo/10_relay.sh, a few lines of shell. Both are killed after a moment, in the middle'
\echo '   of whatever they do: kill -9, fifteen times. Three more may go on to the end.'
\! relay=sql/demo/10_relay.sh; for i in $(seq 15); do setsid sh $relay >/dev/null 2>&1 & a=$!; setsid sh $relay >/dev/null 2>&1 & b=$!; sleep 0.$((i % 5))5; kill -9 -$a -$b 2>/dev/null; wait $a $b 2>/dev/null; done; for i in 1 2 3; do sh $relay >/dev/null 2>&1 & done; wait
SELECT expect('the outbox is empty', count(*) = 0) FROM idempotent.outbox;
SELECT md5(string_agg(customer || number, ',' ORDER BY customer, number)) AS sold FROM orders \gset

\connect demo_outbox_mail
SELECT expect('300 mails, one for each order', count(*) = 300 AND count(DISTINCT number) = 300) FROM mail;
SELECT expect('each customer''s in the order of the orders', md5(string_agg(customer || number, ',' ORDER BY customer, id)) = :'sold') FROM mail;
SELECT last_value AS deliveries FROM delivery \gset
\echo '   =>' :deliveries 'deliveries of 300 messages: some relays died before they could acknowledge. The receiver did each once.'
\echo
\connect :home
DROP DATABASE demo_outbox_shop WITH (FORCE);
DROP DATABASE demo_outbox_mail WITH (FORCE);
