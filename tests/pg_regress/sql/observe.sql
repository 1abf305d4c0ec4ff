-- An operation in observation: every call goes through, and what it would have been answered is counted.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE TABLE observe_effect (who text);
CREATE FUNCTION observe_work(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO observe_effect VALUES (request->>'who');
    RETURN request;
END $$;
CREATE VIEW observe_counts AS SELECT calls, first, duplicates, mismatches, concurrent, expired, unknown, sealed, missing_keys, bad_keys, unfinished FROM idempotent.observed WHERE operation = 'watched';
SELECT idempotent_stats_reset();
SELECT (idempotent_operation('watched', mode => 'Observe', wait => '1 minute')).mode;
SELECT * FROM observe_counts;

-- run: the handler runs each time, and the first answer stays
SELECT outcome, response FROM idempotent_run('watched', 'r1', '{"who": "one"}', 'observe_work(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '{"who": "one"}', 'observe_work(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '{"who": "other"}', 'observe_work(jsonb)', strict => true);
SELECT outcome, response FROM idempotent_run('watched', NULL, '{"who": "nobody"}', 'observe_work(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', '', '{"who": "empty"}', 'observe_work(jsonb)');
SELECT who, count(*) FROM observe_effect GROUP BY who ORDER BY who;
SELECT outcome, response FROM idempotent_replay('watched', 'r1');
SELECT * FROM observe_counts;

-- claim: the same, and complete stores nothing over the first answer
BEGIN;
SELECT outcome, attempt, fence FROM idempotent_claim('watched', 'k1', '1');
SELECT idempotent_complete('watched', 'k1', '"first"', 201);
COMMIT;
BEGIN;
SELECT outcome, attempt, fence FROM idempotent_claim('watched', 'k1', '1');
SELECT outcome, attempt, fence FROM idempotent_claim('watched', 'k1', '1') AS again_is_not_counted;
SELECT idempotent_complete('watched', 'k1', '"second"', 201);
SELECT idempotent_complete('watched', 'k1', '"third"', 201);
COMMIT;
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'k1', '2', strict => true);
SELECT idempotent_fail('watched', 'k1', '"mismatch"');
COMMIT;
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'k1', '1');
SELECT idempotent_release('watched', 'k1'), idempotent_release('watched', 'k1') AS again;
COMMIT;
SELECT outcome, status, response FROM idempotent_replay('watched', 'k1');
-- within one transaction: two requests with one key, so that nobody can tell whose the answers are
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'k2', '1');
SELECT outcome FROM idempotent_claim('watched', 'k2', '2');
SELECT idempotent_complete('watched', 'k2', '"of 1"'), idempotent_complete('watched', 'k2', '"of 2"');
SELECT outcome FROM idempotent_claim('watched', 'k2', '1');
COMMIT;
SELECT response FROM idempotent_replay('watched', 'k2');
-- a claim that is left open commits, and is counted; nothing is stored of it
BEGIN;
SELECT outcome FROM idempotent_claim('watched', 'k3');
COMMIT;
SELECT outcome FROM idempotent_claim('watched', 'k3');
SELECT outcome FROM idempotent_replay('watched', 'k3');
-- no key, and keys that break the rules
BEGIN;
SELECT outcome, attempt FROM idempotent_claim('watched', NULL, '1');
SELECT idempotent_complete('watched', NULL, '"answer"'), idempotent_fail('watched', NULL, '"failure"'), idempotent_release('watched', NULL), (idempotent_replay('watched', NULL)).outcome AS replay;
SELECT outcome FROM idempotent_claim('watched', repeat('k', 256));
SELECT idempotent_complete('watched', repeat('k', 256), '1');
SELECT outcome FROM idempotent_claim('watched', E'k\n', strict => true);
SELECT outcome FROM idempotent_claim('watched', 'k', scope => NULL);
SELECT outcome FROM idempotent_claim('watched', idempotent_new_key(now() + '1 hour'));
COMMIT;
-- too old, sealed, settled
SELECT outcome FROM idempotent_claim('watched', idempotent_new_key('2020-01-01'));
SELECT outcome FROM idempotent_seal('watched', 'sealed');
SELECT outcome FROM idempotent_claim('watched', 'sealed');
SELECT * FROM observe_counts;
SELECT claimed, executed, replayed, mismatched, completed, guard_refused FROM idempotent.stats WHERE operation = 'watched';

-- leases: a duplicate gets a fence of its own, and whatever it does with it succeeds
SELECT fence AS holder FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT outcome, attempt, fence > :holder AS own_fence, expires_at > clock_timestamp() AS leased FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour', wait => '1 minute');
SELECT fence AS passing FROM idempotent_claim('watched', 'l1', '1', lease => '1 hour') \gset
SELECT idempotent_extend('watched', 'l1', '1 hour', fence => :passing) > clock_timestamp() AS extended;
SELECT idempotent_checkpoint('watched', 'l1', '"half"', fence => :passing);
SELECT idempotent_complete('watched', 'l1', '"passing"', fence => :passing), idempotent_release('watched', 'l1', fence => :passing);
SELECT idempotent_extend('watched', NULL, '1 hour') > clock_timestamp() AS extended, idempotent_checkpoint('watched', NULL, '1');
SELECT outcome FROM idempotent_replay('watched', 'l1');
SELECT idempotent_complete('watched', 'l1', '"holder"', fence => :holder);
SELECT idempotent_complete('watched', 'l1', '"passing"', fence => :passing);
SELECT outcome, response FROM idempotent_replay('watched', 'l1');
SELECT (idempotent_claim('watched', NULL, lease => '1 hour')).fence > :passing AS even_without_a_key;
-- a lapsed one is taken over, as ever; who is late is let through
SELECT fence AS lapsed FROM idempotent_claim('watched', 'l2', lease => '1 microsecond') \gset
SELECT outcome, attempt, fence > :lapsed AS higher FROM idempotent_claim('watched', 'l2', lease => '1 hour');
SELECT idempotent_complete('watched', 'l2', '"late"', fence => :lapsed);
SELECT outcome FROM idempotent_replay('watched', 'l2');

-- more keys in one transaction than there are locks for: no placeholder is left, and answers are stored all the same
BEGIN;
SELECT count(*) FROM generate_series(1, 200) AS n WHERE (idempotent_claim('watched', 'many ' || n, '1')).outcome = 'claimed';
SELECT count(*) FROM generate_series(1, 100) AS n WHERE idempotent_complete('watched', 'many ' || n, '1') IS NOT NULL;
COMMIT;
SELECT state, count(*) FROM idempotent.record WHERE operation = 'watched' AND key LIKE 'many %' GROUP BY state;
SELECT count(*) FROM generate_series(1, 100) AS n WHERE (idempotent_claim('watched', 'many ' || n, '1')).outcome = 'claimed';
SELECT * FROM observe_counts;

-- savepoints: what is rolled back is still counted
SELECT idempotent_stats_reset();
BEGIN;
SAVEPOINT s;
SELECT outcome FROM idempotent_claim('watched', 'k1', '1');
ROLLBACK TO s;
SELECT outcome FROM idempotent_claim('watched', NULL);
ROLLBACK;
SELECT * FROM observe_counts;
-- examples, latest first, a few of each kind
SELECT jsonb_pretty(jsonb_path_query_array(samples, '$.*[*].key')) FROM idempotent.observed WHERE operation = 'watched';
SELECT count(*) FROM generate_series(1, 100) AS n, idempotent_run('watched', 'k1', '1', 'observe_work(jsonb)', scope => left('flood' || n, 5)) AS r WHERE r.outcome = 'executed';
SELECT kind, jsonb_array_length(list) AS examples, list->0->>'scope' AS scope, list->0->>'key' AS key, (list->0->>'at')::timestamptz <= now() AS dated FROM idempotent.observed, jsonb_each(samples) AS s (kind, list) WHERE operation = 'watched' ORDER BY kind;
SELECT idempotent_explain('watched', 'k1')->>'mode' AS mode, idempotent_explain('watched', 'k1')->>'outcome' AS outcome, idempotent_explain('other', 'k1') ? 'mode' AS other;

-- a handler that runs its own key; one that fails
CREATE FUNCTION observe_nested(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT response FROM idempotent_run('watched', 'nested', '{"who": "inner"}', 'observe_work(jsonb)') $$;
SELECT outcome, response FROM idempotent_run('watched', 'nested', '{"who": "inner"}', 'observe_nested(jsonb)');
CREATE FUNCTION observe_fails(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
SELECT outcome FROM idempotent_run('watched', 'nested', '1', 'observe_fails(jsonb)');
\echo :LAST_ERROR_SQLSTATE
-- a scope that is demanded
SELECT (idempotent_operation('watched', scope_required => true)).scope_required;
SELECT outcome FROM idempotent_claim('watched', 'k1', '1');
SELECT bad_keys FROM observe_counts;
SELECT (idempotent_operation('watched', scope_required => false)).scope_required;

-- what is not observed stays an error: the operation's name, its role, the values of arguments, a read-only transaction
SELECT idempotent_claim(NULL, NULL);
SELECT idempotent_claim('', NULL);
SELECT idempotent_claim('unwatched', NULL);
SELECT idempotent_run('watched', 'k', '1', 'observe_nothing(jsonb)');
SELECT idempotent_claim('watched', 'k', lease => '-1 second');
BEGIN READ ONLY;
SELECT idempotent_claim('watched', 'k');
ROLLBACK;
CREATE ROLE regress_idempotent_watcher;
SELECT idempotent_grant('regress_idempotent_watcher');
SELECT (idempotent_operation('watched', role => 'pg_monitor')).role;
SET ROLE regress_idempotent_watcher;
SELECT idempotent_claim('watched', NULL);
SELECT idempotent_complete('watched', NULL, '1');
SELECT * FROM idempotent.observed;
RESET ROLE;
SELECT (idempotent_operation('watched', role => '-')).role;
GRANT pg_monitor TO regress_idempotent_watcher;
SET ROLE regress_idempotent_watcher;
SELECT operation, mode FROM idempotent.observed WHERE operation = 'watched';
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_watcher');
DROP OWNED BY regress_idempotent_watcher;
DROP ROLE regress_idempotent_watcher;

-- enforce: what was observed is what is binding now, and the answers gathered are replayed
SELECT (idempotent_operation('watched', mode => 'enforce')).mode;
SELECT outcome, response FROM idempotent_claim('watched', 'k1', '1');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '{"who": "one"}', 'observe_work(jsonb)');
SELECT outcome, response FROM idempotent_run('watched', 'r1', '{"who": "other"}', 'observe_work(jsonb)');
SELECT idempotent_claim('watched', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT idempotent_claim('watched', 'forgotten');
\echo :LAST_ERROR_SQLSTATE
SELECT mode FROM idempotent.observed WHERE operation = 'watched';
-- any other mode
SELECT idempotent_operation('watched', mode => 'watch');
SELECT idempotent_forget_all('watched') > 0 AS forgotten, idempotent_operation_drop('watched') AS dropped;
DELETE FROM idempotent.record WHERE operation = 'watched';
DROP VIEW observe_counts;
DROP TABLE observe_effect;
DROP FUNCTION observe_work(jsonb), observe_nested(jsonb), observe_fails(jsonb);
SELECT idempotent_stats_reset();
