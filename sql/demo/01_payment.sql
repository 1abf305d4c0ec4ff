-- A payment retried. Run with psql in any database where you may create an extension; run it as often as you like.
-- Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_payment CASCADE;
CREATE SCHEMA demo_payment;

-- An ordinary table, with nothing in it that would stop a second payment.
CREATE TABLE demo_payment.payment (
    id bigint GENERATED ALWAYS AS IDENTITY,
    customer text NOT NULL,
    amount numeric(12,2) NOT NULL
);

-- The handler: takes the request, does the work, returns the answer. It knows nothing of keys and retries.
CREATE FUNCTION demo_payment.pay(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    paid demo_payment.payment;
BEGIN
    INSERT INTO demo_payment.payment (customer, amount)
    VALUES (request->>'customer', (request->>'amount')::numeric)
    RETURNING * INTO paid;
    RETURN jsonb_build_object('payment', paid.id, 'amount', paid.amount);
END $$;

CREATE FUNCTION demo_payment.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

-- The client makes one key per payment and sends the same one with every retry.
SELECT idempotent_new_key() AS key_1, idempotent_new_key() AS key_2, idempotent_new_key() AS key_3 \gset
\set request '{"customer": "Ada", "amount": 25.00}'

\echo
\echo '== A payment, retried =='
\echo
\echo '1. A payment arrives. The handler runs, in the caller''s own transaction.'
\set ECHO queries
SELECT outcome, response FROM idempotent_run('pay', :'key_1', :'request', 'demo_payment.pay')
\gset first_
\set ECHO none
\echo '   =>' :first_outcome :first_response
SELECT demo_payment.expect('the handler ran', :'first_outcome' = 'executed');
SELECT demo_payment.expect('one payment in the table', count(*) = 1) FROM demo_payment.payment;

\echo
\echo '2. The answer got lost. The client sends the same again: the same answer, and no second payment.'
\set ECHO queries
SELECT outcome, response FROM idempotent_run('pay', :'key_1', :'request', 'demo_payment.pay')
\gset second_
\set ECHO none
\echo '   =>' :second_outcome :second_response
SELECT demo_payment.expect('it was replayed', :'second_outcome' = 'replay');
SELECT demo_payment.expect('the same answer', :'second_response'::jsonb = :'first_response'::jsonb);
SELECT demo_payment.expect('still one payment in the table', count(*) = 1) FROM demo_payment.payment;

\echo
\echo '3. The same payment spelled differently (member order, 25 for 25.00) is the same payment.'
\set ECHO queries
SELECT outcome FROM idempotent_run('pay', :'key_1', '{"amount": 25, "customer": "Ada"}', 'demo_payment.pay')
\gset spelled_
\set ECHO none
\echo '   =>' :spelled_outcome
SELECT demo_payment.expect('it was replayed', :'spelled_outcome' = 'replay');

\echo
\echo '4. The same key with another amount is a mistake of the client. It is told so, and nothing is paid.'
\set ECHO queries
SELECT outcome, response IS NULL AS told_nothing
  FROM idempotent_run('pay', :'key_1', '{"customer": "Ada", "amount": 99.00}', 'demo_payment.pay')
\gset other_
\set ECHO none
\echo '   =>' :other_outcome
SELECT demo_payment.expect('mismatch', :'other_outcome' = 'mismatch');
SELECT demo_payment.expect('the stored answer is not given away', :'other_told_nothing');
SELECT demo_payment.expect('still one payment in the table', count(*) = 1) FROM demo_payment.payment;

\echo
\echo '5. An attempt that rolls back leaves nothing: no payment, no stored answer, no held key.'
\set ECHO queries
BEGIN;
SELECT outcome FROM idempotent_run('pay', :'key_2', :'request', 'demo_payment.pay')
\gset undone_
ROLLBACK;
\set ECHO none
\echo '   => ':undone_outcome', then rolled back'
SELECT demo_payment.expect('it ran, for a moment', :'undone_outcome' = 'executed');
SELECT demo_payment.expect('still one payment in the table', count(*) = 1) FROM demo_payment.payment;
SELECT demo_payment.expect('nothing is known of the key', outcome = 'absent')
  FROM idempotent_replay('pay', :'key_2');

\echo
\echo '   So the retry runs.'
\set ECHO queries
SELECT outcome, response FROM idempotent_run('pay', :'key_2', :'request', 'demo_payment.pay')
\gset retry_
\set ECHO none
\echo '   =>' :retry_outcome :retry_response
SELECT demo_payment.expect('the handler ran', :'retry_outcome' = 'executed');
SELECT demo_payment.expect('now there are two payments', count(*) = 2) FROM demo_payment.payment;

\echo
\echo '6. Without a handler: claim, do the work, complete. Here the program forgets to complete.'
\echo '   Committed like this, a retry would pay again. So COMMIT is refused. The ERROR is meant to come.'
\set ECHO queries
BEGIN;
SELECT outcome FROM idempotent_claim('pay', :'key_3', :'request')
\gset claim_
INSERT INTO demo_payment.payment (customer, amount) VALUES ('Ada', 25.00);
\set ON_ERROR_STOP off
COMMIT;
\set refused_with :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo '   => ':claim_outcome', and COMMIT refused with' :refused_with
SELECT demo_payment.expect('the key was claimed', :'claim_outcome' = 'claimed');
SELECT demo_payment.expect('COMMIT was refused with ID009', :'refused_with' = 'ID009');
SELECT demo_payment.expect('still two payments: the third went with its transaction', count(*) = 2)
  FROM demo_payment.payment;

\echo
\echo '   Done properly, it commits. And a later retry gets the answer.'
\set ECHO queries
BEGIN;
SELECT outcome FROM idempotent_claim('pay', :'key_3', :'request')
\gset claim_
INSERT INTO demo_payment.payment (customer, amount) VALUES ('Ada', 25.00);
SELECT idempotent_complete('pay', :'key_3', '{"paid": true}') AS answer
\gset
COMMIT;
SELECT outcome, response FROM idempotent_claim('pay', :'key_3', :'request')
\gset last_
\set ECHO none
\echo '   => ':claim_outcome', and after COMMIT:' :last_outcome :last_response
SELECT demo_payment.expect('the key was claimed', :'claim_outcome' = 'claimed');
SELECT demo_payment.expect('complete returned the answer', :'answer'::jsonb = '{"paid": true}');
SELECT demo_payment.expect('the retry was answered from the record',
                           :'last_outcome' = 'replay' AND :'last_response'::jsonb = '{"paid": true}');

\echo
\echo 'What is in the table: three keys, three payments, whatever was sent.'
\pset tuples_only off
\pset format aligned
TABLE demo_payment.payment;
\pset tuples_only on
SELECT demo_payment.expect('three payments, 75.00 in all', count(*) = 3 AND sum(amount) = 75) FROM demo_payment.payment;
