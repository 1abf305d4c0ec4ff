-- Keys that carry their date: refused when they are older than anything kept. A date further ahead than clocks are off is none.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.claimed(key text, operation text = 'dated_keys', first_sent timestamptz = NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    answer := (idempotent_claim(operation, key, first_sent => first_sent)).outcome;
    IF answer = 'claimed' THEN PERFORM idempotent_release(operation, key); END IF;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;

-- by the key: a UUIDv7
SELECT age, pg_temp.claimed(idempotent_new_key(now() - age)) FROM unnest('{0,23 hours,25 hours,10 years,-10 seconds,-1 hour,-9 years,-11 years}'::interval[]) AS age;
-- by first_sent, for keys without a date
SELECT age, pg_temp.claimed('k', first_sent => now() - age) FROM unnest('{0,23 hours,25 hours,10 years,-1 hour,-11 years}'::interval[]) AS age;
SELECT t, pg_temp.claimed('k', first_sent => t) FROM unnest('{-infinity,1970-01-01 00:00:00Z,infinity}'::timestamptz[]) AS t;
-- the earlier date counts, and what is no date does not
SELECT pg_temp.claimed(idempotent_new_key(now() - interval '25 hours'), first_sent => now()) AS old_key, pg_temp.claimed(idempotent_new_key(now() + interval '1 hour'), first_sent => now()) AS future_key,
       pg_temp.claimed(idempotent_new_key(), first_sent => now() - interval '25 hours') AS old_sending, pg_temp.claimed(idempotent_new_key(), first_sent => now() + interval '1 hour') AS future_sending;
-- what is a date: version 7 and its variant, with hyphens, in either case; of 2022 and so long expired
SELECT key, pg_temp.claimed(key) FROM unnest('{017f22e2-79b0-7cc3-98c4-dc0c0c07398f,017F22E2-79B0-7CC3-98C4-DC0C0C07398F,
    017f22e2-79b0-4cc3-98c4-dc0c0c07398f,017f22e2-79b0-7cc3-18c4-dc0c0c07398f,017f22e2-79b0-7cc3-d8c4-dc0c0c07398f,017f22e279b07cc398c4dc0c0c07398f,"{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
    017f22e2-79b0-7cc3-98c4-dc0c0c07398g,017f22e2-79b0-7cc3-98c4-dc0c0c07398f0,order-017f22e2-79b0-7cc3-98c4-dc0c0c07398f}'::text[]) AS key;

-- expired: nothing is claimed, and nothing is known
SELECT idempotent_new_key(now() - interval '25 hours') AS old \gset
SELECT outcome, fence, attempt, failed, response, evicted, retry_after, expires_at FROM idempotent_claim('dated_keys', :'old');
SELECT outcome FROM idempotent_claim('dated_keys', :'old', lease => '1 hour');
SELECT outcome FROM idempotent_replay('dated_keys', :'old');
\set VERBOSITY terse
SELECT outcome FROM idempotent_claim('dated_keys', :'old', strict => true);
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default
SELECT outcome FROM idempotent_claim('dated_keys', 'old', first_sent => now() - interval '25 hours', strict => true);
\echo :LAST_ERROR_SQLSTATE
-- from the future: undated, strict or not
SELECT outcome FROM idempotent_replay('dated_keys', idempotent_new_key(now() + interval '1 hour'));
BEGIN;
SELECT outcome FROM idempotent_claim('dated_keys', 'new', first_sent => now() + interval '1 hour', strict => true);
ROLLBACK;
-- it is known for as long as any other, and until the date that it will have refuses it
SELECT idempotent_new_key(now() + interval '1 hour') AS ahead \gset
BEGIN;
SELECT outcome FROM idempotent_claim('dated_keys', :'ahead');
SELECT idempotent_complete('dated_keys', :'ahead', '"ahead"');
COMMIT;
SELECT outcome, expires_at - now() BETWEEN interval '25 hours' AND interval '25 hours 10 seconds' AS until_it_is_refused FROM idempotent_claim('dated_keys', :'ahead');

-- the dates of keys can be left out of account; first_sent is not the key's
SELECT key_dates FROM idempotent_operation('dated_keys_ignored', key_dates => 'Ignore');
SELECT age, pg_temp.claimed(idempotent_new_key(now() - age), 'dated_keys_ignored') FROM unnest('{0,25 hours,10 years,-1 hour}'::interval[]) AS age;
SELECT pg_temp.claimed(idempotent_new_key(), 'dated_keys_ignored', now() - interval '25 hours') AS old_sending;
SELECT e ? 'first_sent' AS dated FROM idempotent_explain('dated_keys_ignored', idempotent_new_key()) AS e;
SELECT key_dates FROM idempotent_operation('dated_keys_ignored', key_dates => 'use');
SELECT pg_temp.claimed(idempotent_new_key(now() - interval '25 hours'), 'dated_keys_ignored') AS old_key;
SELECT idempotent_operation('dated_keys_ignored', key_dates => 'sometimes');

-- the retention is the operation's
SELECT retention FROM idempotent_operation('dated_keys_short', retention => '1 hour');
SELECT age, pg_temp.claimed(idempotent_new_key(now() - age), 'dated_keys_short') FROM unnest('{55 minutes,65 minutes}'::interval[]) AS age;
SELECT retention FROM idempotent_operation('dated_keys_long', retention => '10 years');
SELECT age, pg_temp.claimed(idempotent_new_key(now() - age), 'dated_keys_long') FROM unnest('{25 hours,9 years,11 years}'::interval[]) AS age;

-- clocks may be off by idempotent.clock_skew, both ways
SHOW idempotent.clock_skew;
SET idempotent.clock_skew = '2h';
SELECT age, pg_temp.claimed(idempotent_new_key(now() - age), 'dated_keys_short') FROM unnest('{65 minutes,175 minutes,185 minutes,-115 minutes,-125 minutes}'::interval[]) AS age;
RESET idempotent.clock_skew;

-- a record that is there has more to say than any date
BEGIN;
SELECT outcome FROM idempotent_claim('dated_keys', 'kept', first_sent => now());
SELECT idempotent_complete('dated_keys', 'kept', '"kept"', retention => '10 years');
SELECT key_dates FROM idempotent_operation('dated_keys', key_dates => 'ignore');
SELECT outcome FROM idempotent_claim('dated_keys', :'old');
SELECT idempotent_complete('dated_keys', :'old', '"kept"', retention => '10 years');
SELECT key_dates FROM idempotent_operation('dated_keys', key_dates => 'use');
COMMIT;
SELECT outcome, response FROM idempotent_claim('dated_keys', 'kept', first_sent => now() - interval '9 years');
SELECT outcome, response FROM idempotent_claim('dated_keys', 'kept', first_sent => now() + interval '1 day');
SELECT outcome, response FROM idempotent_claim('dated_keys', :'old');
SELECT outcome FROM idempotent_claim('dated_keys', :'old', '"another request"');
-- with a lease as well: the answer stays until first_sent refuses the key, whoever of its holders has sent it last
SET idempotent.clock_skew = '2h';
SELECT outcome, fence AS leased FROM idempotent_claim('dated_keys', 'leased', lease => '1 hour', first_sent => now() + interval '30 minutes') \gset
SELECT idempotent_complete('dated_keys', 'leased', fence => :leased);
SELECT expires_at - now() BETWEEN interval '26 hours 29 minutes' AND interval '26 hours 31 minutes' AS until_it_is_refused FROM idempotent_replay('dated_keys', 'leased');
SELECT outcome FROM idempotent_claim('dated_keys', 'taken over', lease => '1 microsecond', first_sent => now() + interval '1 hour');
SELECT outcome, attempt, fence AS leased FROM idempotent_claim('dated_keys', 'taken over', lease => '1 hour', first_sent => now()) \gset
SELECT idempotent_complete('dated_keys', 'taken over', fence => :leased);
SELECT expires_at - now() BETWEEN interval '26 hours 59 minutes' AND interval '27 hours 1 minute' AS until_it_is_refused FROM idempotent_replay('dated_keys', 'taken over');
RESET idempotent.clock_skew;
-- but an expired one has none: an old key is refused, not executed again
BEGIN;
SELECT outcome FROM idempotent_claim('dated_keys', 'swept', first_sent => now());
SELECT idempotent_complete('dated_keys', 'swept', retention => '1 microsecond');
COMMIT;
SELECT outcome FROM idempotent_claim('dated_keys', 'swept', first_sent => now() - interval '25 hours');
SELECT outcome FROM idempotent_claim('dated_keys', 'swept', first_sent => now() - interval '25 hours', strict => true);
\echo :LAST_ERROR_SQLSTATE
-- a lapsed lease is there, too
SELECT outcome FROM idempotent_claim('dated_keys', 'lapsed', first_sent => now(), lease => '1 microsecond');
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('dated_keys', 'lapsed', first_sent => now() - interval '2 days');
ROLLBACK;
-- one's own claim
BEGIN;
SELECT outcome FROM idempotent_claim('dated_keys', 'own', first_sent => now());
SELECT outcome FROM idempotent_claim('dated_keys', 'own', first_sent => now() - interval '2 days');
ROLLBACK;

-- run
CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"done"'::jsonb $$;
SELECT outcome, response FROM idempotent_run('dated_keys', idempotent_new_key(now() - interval '25 hours'), '1', 'pg_temp.work(jsonb)');
SELECT outcome, response FROM idempotent_run('dated_keys', 'run', '1', 'pg_temp.work(jsonb)', first_sent => now() - interval '25 hours');
SELECT outcome, response FROM idempotent_run('dated_keys', 'run', '1', 'pg_temp.work(jsonb)', first_sent => now() + interval '1 hour');
