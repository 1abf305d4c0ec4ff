-- A card charge with a lease. Run with psql in any database where you may create an extension; run it as often as you
-- like. Every claim made here is checked: the script stops, and psql exits with an error, when one does not hold.
\set ON_ERROR_STOP on
\set QUIET on
\set ECHO none
\set VERBOSITY default
\pset pager off
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS pg_idempotent;

DROP SCHEMA IF EXISTS demo_lease CASCADE;
CREATE SCHEMA demo_lease;

-- Stands for the card network, which is outside: it knows nothing of our transactions, and keeps its own keys.
CREATE TABLE demo_lease.card_network (
    their_key uuid PRIMARY KEY,
    amount numeric(12,2) NOT NULL,
    requests integer NOT NULL DEFAULT 1
);

-- "POST /charges": the same key again charges nothing more.
CREATE FUNCTION demo_lease.post_charge(their_key uuid, amount numeric) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
        INSERT INTO demo_lease.card_network VALUES (their_key, amount)
        ON CONFLICT ON CONSTRAINT card_network_pkey DO UPDATE SET requests = card_network.requests + 1;
    END;

CREATE FUNCTION demo_lease.expect(told text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'the demo does not hold: %', told;
    END IF;
    RETURN '   ok  ' || told;
END $$;

SELECT idempotent_new_key() AS key \gset
\set request '{"card": "4242", "amount": 40.00}'

\echo
\echo '== A card charge, and a worker that dies =='
\echo
\echo 'The charge is an HTTP call: no transaction can take it back, and none should stay open for it.'
\echo 'So the claim is a lease: a row that others see, good for a time.'
\echo
\echo '1. Worker A takes the key for 2 seconds, notes how far it is, and commits. Then it calls the card network.'
\set ECHO queries
BEGIN;
SELECT outcome, attempt, fence FROM idempotent_claim('card', :'key', :'request', lease => '2 seconds')
\gset a_
SELECT idempotent_checkpoint('card', :'key', '{"step": "calling the network"}', fence => :a_fence) AS done
\gset
COMMIT;
\set ECHO none

\echo
\echo '   Anyone else who asks now is told that it is being done, and when to ask again.'
\set ECHO queries
SELECT outcome, retry_after FROM idempotent_claim('card', :'key', :'request', wait => '0')
\gset busy_
\set ECHO none
\echo '   => A: ':a_outcome', attempt ':a_attempt', fence' :a_fence
\echo '   => another: ':busy_outcome', ask again in' :busy_retry_after
SELECT demo_lease.expect('A has the claim, with a fence', :'a_outcome' = 'claimed' AND :'a_fence' <> '');
SELECT demo_lease.expect('it is the first attempt', :'a_attempt' = '1');
SELECT demo_lease.expect('the other is told in_progress, and when to ask again',
                         :'busy_outcome' = 'in_progress' AND :'busy_retry_after' <> '');

SELECT demo_lease.post_charge(idempotent_derive_key('card', :'key', 'charge'), 40.00) AS posted \gset
\echo
\echo '   The network has charged the card. Before A can write that down, it dies. Its connection is gone.'
\connect -

\echo
\echo '2. Worker B asks for the same key and is ready to wait. The lease lapses: B takes over, with a higher fence,'
\echo '   and is handed what A had noted.'
\set ECHO queries
SELECT outcome, attempt, fence, checkpoint
  FROM idempotent_claim('card', :'key', :'request', lease => '5 minutes', wait => '60 seconds')
\gset b_
\set ECHO none
\echo '   => B: ':b_outcome', attempt ':b_attempt', fence ':b_fence', checkpoint' :b_checkpoint
SELECT demo_lease.expect('B has the claim', :'b_outcome' = 'claimed');
SELECT demo_lease.expect('it is the second attempt', :'b_attempt' = '2');
SELECT demo_lease.expect('the fence has grown', :b_fence > :a_fence);
SELECT demo_lease.expect('B knows what A had noted', :'b_checkpoint'::jsonb = '{"step": "calling the network"}');

\echo
\echo '3. B cannot know whether the network charged. It need not: both send the network a key derived from ours, the'
\echo '   same in every attempt, and the network charges once for it.'
\set ECHO queries
SELECT demo_lease.post_charge(idempotent_derive_key('card', :'key', 'charge'), 40.00) AS posted
\gset
SELECT idempotent_complete('card', :'key', '{"charged": 40.00, "by": "B"}', fence => :b_fence) AS answer
\gset
\set ECHO none
\echo '   =>' :answer
SELECT demo_lease.expect('two requests reached the network, one charge stands there', count(*) = 1 AND sum(requests) = 2)
  FROM demo_lease.card_network;

\echo
\echo '4. A was not dead, only slow. It comes back and wants to write its answer. Its fence gives it away.'
\echo '   The ERROR is meant to come.'
\connect -
\set ON_ERROR_STOP off
\set ECHO queries
SELECT idempotent_complete('card', :'key', '{"charged": 40.00, "by": "A"}', fence => :a_fence);
\set refused_with :SQLSTATE
\set ECHO none
\set ON_ERROR_STOP on
\echo '   => refused with' :refused_with
SELECT demo_lease.expect('A was refused with ID003', :'refused_with' = 'ID003');

\echo
\echo '5. A asks instead, like everybody else. It gets the answer that B stored.'
\set ECHO queries
SELECT outcome, response FROM idempotent_claim('card', :'key', :'request', lease => '2 seconds')
\gset last_
\set ECHO none
\echo '   =>' :last_outcome :last_response
SELECT demo_lease.expect('B''s answer, replayed',
                         :'last_outcome' = 'replay' AND :'last_response'::jsonb = :'answer'::jsonb);
SELECT demo_lease.expect('B''s answer stands', :'last_response'::jsonb->>'by' = 'B');
\echo
\echo 'Inside this database the key had one effect. At the card network it had one because the network keeps keys too:'
\echo 'a lease alone cannot promise what happens outside.'
\echo
