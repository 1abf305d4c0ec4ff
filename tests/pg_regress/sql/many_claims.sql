-- Thousands of claims in one transaction do not exhaust the lock table: beyond its share, a row takes the lock's place.
-- Nothing that a caller sees may depend on which.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.within_share() RETURNS boolean LANGUAGE sql AS $$
    SELECT count(*) <= current_setting('max_locks_per_transaction')::integer FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() $$;

-- 3000 keys, each claimed, looked at, asked for again, completed and replayed
BEGIN;
SELECT outcome, attempt, count(*) FROM generate_series(1, 3000) AS n, idempotent_claim('many_claims', 'k' || n, to_jsonb(n)) GROUP BY outcome, attempt;
SELECT pg_temp.within_share();
SELECT outcome, fence, attempt, count(*) FROM generate_series(1, 3000) AS n, idempotent_claim('many_claims', 'k' || n, to_jsonb(n)) GROUP BY outcome, fence, attempt;
SELECT outcome, count(*) FROM generate_series(1, 3000) AS n, idempotent_claim('many_claims', 'k' || n, '"another"') GROUP BY outcome;
SELECT outcome, fence, attempt, expires_at, count(*) FROM generate_series(1, 3000) AS n, idempotent_replay('many_claims', 'k' || n) GROUP BY outcome, fence, attempt, expires_at;
SELECT explained ->> 'outcome' AS outcome, explained ->> 'because' AS because, count(*) FROM generate_series(1, 3000, 100) AS n, idempotent_explain('many_claims', 'k' || n) AS explained GROUP BY 1, 2;
SELECT count(idempotent_complete('many_claims', 'k' || n, to_jsonb(n))) FROM generate_series(1, 3000) AS n;
SELECT outcome, attempt, response = to_jsonb(n) AS own, count(*) FROM generate_series(1, 3000) AS n, idempotent_claim('many_claims', 'k' || n, to_jsonb(n)) GROUP BY 1, 2, 3;
COMMIT;
SELECT outcome, fence, attempt, failed, evicted, response = to_jsonb(n) AS own, expires_at < now() + interval '25 hours' AS expires, count(*)
FROM generate_series(1, 3000) AS n, idempotent_replay('many_claims', 'k' || n) GROUP BY 1, 2, 3, 4, 5, 6, 7;
SELECT state, count(*) FROM idempotent.record WHERE operation = 'many_claims' GROUP BY state;

-- forgotten: refused, and all are free again
\set VERBOSITY terse
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'forgotten ' || n) GROUP BY outcome;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_replay('many_claims', 'forgotten ' || n) GROUP BY outcome;
-- but one
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'forgotten ' || n) GROUP BY outcome;
SELECT count(idempotent_release('many_claims', 'forgotten ' || n)) FROM generate_series(1, 299) AS n;
COMMIT;
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY default

-- released and claimed again
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'released ' || n, '1') GROUP BY outcome;
SELECT released, count(*) FROM generate_series(1, 300) AS n, idempotent_release('many_claims', 'released ' || n) AS released GROUP BY released;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_replay('many_claims', 'released ' || n) GROUP BY outcome;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'released ' || n, '2') GROUP BY outcome;
SELECT count(*) FROM generate_series(1, 300) AS n, idempotent_fail('many_claims', 'released ' || n, '2');
COMMIT;
SELECT outcome, failed, response, count(*) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'released ' || n, '2') GROUP BY 1, 2, 3;

-- savepoints: claims beyond the share go with theirs, finished or not
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 100) AS n, idempotent_claim('many_claims', 'savepoint ' || n, '1') GROUP BY outcome;
SAVEPOINT a;
SELECT outcome, count(*) FROM generate_series(1, 200) AS n, idempotent_claim('many_claims', 'savepoint ' || n, '1') GROUP BY outcome;
SELECT count(*) FROM generate_series(1, 150) AS n, idempotent_complete('many_claims', 'savepoint ' || n, '"undone"');
SELECT count(*) FROM generate_series(151, 200) AS n, idempotent_release('many_claims', 'savepoint ' || n);
ROLLBACK TO a;
SELECT outcome, min(n), max(n), count(*) FROM generate_series(1, 200) AS n, idempotent_replay('many_claims', 'savepoint ' || n) GROUP BY outcome ORDER BY min(n);
SELECT count(*) FROM generate_series(1, 100) AS n, idempotent_complete('many_claims', 'savepoint ' || n, '"kept"');
COMMIT;
SELECT outcome, response, min(n), max(n), count(*) FROM generate_series(1, 200) AS n, idempotent_replay('many_claims', 'savepoint ' || n) GROUP BY outcome, response ORDER BY min(n);

-- run
CREATE FUNCTION many_claims_handler(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_run('many_claims', 'run ' || n, to_jsonb(n), 'many_claims_handler(jsonb)') GROUP BY outcome;
COMMIT;
SELECT outcome, response = to_jsonb(n) AS own, count(*) FROM generate_series(1, 300) AS n, idempotent_run('many_claims', 'run ' || n, to_jsonb(n), 'many_claims_handler(jsonb)') GROUP BY 1, 2;
DROP FUNCTION many_claims_handler(jsonb);

-- leases hold no locks at all
BEGIN;
SELECT outcome, count(DISTINCT fence) FROM generate_series(1, 300) AS n, idempotent_claim('many_claims', 'lease ' || n, lease => '1 hour') GROUP BY outcome;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
BEGIN;
SELECT count(idempotent_extend('many_claims', key, '2 hours', fence => fence)) FROM idempotent.record WHERE operation = 'many_claims' AND key LIKE 'lease %';
SELECT count(idempotent_complete('many_claims', key, '1', fence => fence)) FROM idempotent.record WHERE operation = 'many_claims' AND key LIKE 'lease %' AND lease_until IS NOT NULL;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
COMMIT;
SELECT outcome, count(*) FROM generate_series(1, 300) AS n, idempotent_replay('many_claims', 'lease ' || n) GROUP BY outcome;

-- other operations, moved to the other table meanwhile
BEGIN;
SELECT outcome, count(*) FROM generate_series(1, 200) AS n, idempotent_claim('many_claims_moved', 'k' || n) GROUP BY outcome;
SELECT durability FROM idempotent_operation('many_claims_moved', durability => 'logged');
SELECT outcome, count(*) FROM generate_series(1, 200) AS n, idempotent_claim('many_claims_moved', 'k' || n) GROUP BY outcome;
SELECT count(*) FROM generate_series(1, 200) AS n, idempotent_complete('many_claims_moved', 'k' || n);
COMMIT;
SELECT outcome, count(*) FROM generate_series(1, 200) AS n, idempotent_replay('many_claims_moved', 'k' || n) GROUP BY outcome;
SELECT 'record' AS "table", count(*) FROM idempotent.record WHERE operation = 'many_claims_moved' UNION ALL SELECT 'record_logged', count(*) FROM idempotent.record_logged WHERE operation = 'many_claims_moved';

-- A key that is finished needs no lock any more: its row stands for it, and past the share no key is written twice.
CREATE FUNCTION many_claims_one(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_claim('many_claims', name);
    PERFORM idempotent_complete('many_claims', name, '1');
END $$;
CREATE FUNCTION many_claims_caught(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM many_claims_one(name);
EXCEPTION WHEN division_by_zero THEN
    RAISE;
END $$;
CREATE FUNCTION pg_temp.written(OUT inserted bigint, OUT deleted bigint, OUT within_share boolean) LANGUAGE sql AS $$
    SELECT pg_stat_get_xact_tuples_inserted('idempotent.record'::regclass), pg_stat_get_xact_tuples_deleted('idempotent.record'::regclass), pg_temp.within_share() $$;
-- one after the other
BEGIN;
SELECT inserted AS had_inserted, deleted AS had_deleted FROM pg_temp.written() \gset
SELECT count(many_claims_one('one ' || n)) FROM generate_series(1, 400) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
COMMIT;
-- a savepoint for each, in the transaction and in a savepoint
BEGIN;
SELECT inserted AS had_inserted, deleted AS had_deleted FROM pg_temp.written() \gset
SELECT count(many_claims_caught('caught ' || n)) FROM generate_series(1, 400) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
SAVEPOINT a;
SELECT count(many_claims_caught('deeper ' || n)) FROM generate_series(1, 400) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
-- what goes with the savepoint is free again, though it had no lock
ROLLBACK TO a;
SELECT outcome, count(*) FROM generate_series(1, 400) AS n, idempotent_replay('many_claims', 'deeper ' || n) GROUP BY outcome;
SELECT count(many_claims_one('deeper ' || n)) FROM generate_series(1, 400) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
COMMIT;
-- those that are open keep their locks, and so does one that a savepoint has finished: it may be open again
BEGIN;
SELECT inserted AS had_inserted, deleted AS had_deleted FROM pg_temp.written() \gset
SELECT outcome, count(*) FROM generate_series(1, 63) AS n, idempotent_claim('many_claims', 'open ' || n) GROUP BY outcome;
SAVEPOINT a;
SELECT count(idempotent_complete('many_claims', 'open ' || n, '1')) FROM generate_series(1, 63) AS n;
SELECT count(many_claims_one('after ' || n)) FROM generate_series(1, 100) AS n;
ROLLBACK TO a;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT count(idempotent_complete('many_claims', 'open ' || n, '2')) FROM generate_series(1, 63) AS n;
SELECT count(many_claims_one('after ' || n)) FROM generate_series(1, 100) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
COMMIT;
SELECT response, count(*) FROM generate_series(1, 63) AS n, idempotent_replay('many_claims', 'open ' || n) GROUP BY response;
-- given back and claimed again: the lock is held twice, and stays
BEGIN;
SELECT inserted AS had_inserted, deleted AS had_deleted FROM pg_temp.written() \gset
SELECT count(idempotent_claim('many_claims', 'twice ' || n)) FROM generate_series(1, 60) AS n;
SELECT count(idempotent_release('many_claims', 'twice ' || n)) FROM generate_series(1, 60) AS n;
SELECT count(many_claims_one('twice ' || n)) FROM generate_series(1, 200) AS n;
SELECT inserted - :had_inserted AS inserted, deleted - :had_deleted AS deleted, within_share FROM pg_temp.written();
COMMIT;
DROP FUNCTION many_claims_caught(text);
DROP FUNCTION many_claims_one(text);
