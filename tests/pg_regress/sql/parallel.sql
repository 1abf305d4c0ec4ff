-- Parallel plans: what reads or computes takes part, what claims does not, even if somebody vouches for it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION parallel_handler(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION parallel_cheat() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN RETURN (idempotent_run('parallel', 'cheat', '1', 'parallel_handler(jsonb)')).outcome; END $$;
CREATE FUNCTION parallel_claim() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN RETURN (idempotent_claim('parallel', 'cheat')).outcome; END $$;
CREATE TABLE parallel_keys AS SELECT 'k' || n AS key FROM generate_series(1, 20000) AS n;
ANALYZE parallel_keys;
SELECT outcome FROM idempotent_run('parallel', 'k1', '1', 'parallel_handler(jsonb)');
-- the setting was renamed in Postgres 16
DO $$ BEGIN
    PERFORM set_config(CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END, 'on', false);
    PERFORM set_config('parallel_setup_cost', '0', false), set_config('parallel_tuple_cost', '0', false), set_config('min_parallel_table_scan_size', '0', false);
END $$;
SELECT outcome, response FROM idempotent_replay('parallel', 'k1');
SELECT outcome, count(*) FROM parallel_keys, idempotent_replay('parallel', key) GROUP BY outcome ORDER BY outcome;
SELECT count(DISTINCT idempotent_derive_key('parallel', key, 'l')), count(DISTINCT idempotent_new_key()), count(DISTINCT idempotent_request_key(to_jsonb(key))), max(idempotent_slot(key)) < 16384, max(idempotent_shard(key, 16)) FROM parallel_keys;
SELECT idempotent_explain('parallel', 'k1') ->> 'outcome' AS explained;
SELECT outcome, response FROM idempotent_run('parallel', 'k2', '2', 'parallel_handler(jsonb)');
SELECT parallel_cheat();
\echo :LAST_ERROR_SQLSTATE
SELECT parallel_claim();
\echo :LAST_ERROR_SQLSTATE
SELECT outcome FROM idempotent_replay('parallel', 'cheat');
DROP TABLE parallel_keys;
DROP FUNCTION parallel_handler, parallel_cheat, parallel_claim;
