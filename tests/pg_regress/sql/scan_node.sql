-- A call in FROM is planned as a node of our own (idempotent.scan_node), and answers as a function scan does.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_scan;
CREATE ROLE regress_idempotent_scan;
RESET client_min_messages;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET track_functions = 'all';

CREATE FUNCTION pg_temp.work(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'at work on %', $1; RETURN jsonb_build_object('done', $1); END $$;
CREATE TEMPORARY TABLE request (id integer, key text, amount integer);
INSERT INTO request SELECT n, 'k' || n, n * 10 FROM generate_series(1, 3) AS n;
CREATE TEMPORARY TABLE answer (n integer, outcome text, response jsonb);
INSERT INTO answer VALUES (1, 'replay', NULL), (2, 'absent', NULL);
-- three finished keys, the second with all that an answer can have, the third so large that it is stored out of line
BEGIN;
SELECT c.outcome FROM request AS r, LATERAL idempotent_claim('scan', r.key, to_jsonb(r.amount)) AS c ORDER BY r.id;
SELECT idempotent_complete('scan', 'k1', '{"paid": true}') ->> 'paid' AS paid;
SELECT idempotent_fail('scan', 'k2', '{"why": "no money"}', 402, headers => '{"a": "b"}', body => '\x6e6f') ->> 'why' AS why;
SELECT length(idempotent_complete('scan', 'k3', to_jsonb(repeat('large ', 100000)), body => convert_to((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) AS n), 'UTF8'))::text);
COMMIT;

-- which scan a statement has
CREATE FUNCTION pg_temp.scan(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; found text[] := '{}';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || statement LOOP
        IF line ~ '(Custom|Function) Scan' THEN found := found || substring(line FROM '(Custom Scan \(\w+\)|Function Scan)'); END IF;
    END LOOP;
    RETURN array_to_string(found, ', ');
END $$;
-- what a statement returns with a node of ours, what with a function scan, and how often each calls the function
CREATE FUNCTION pg_temp.calls(name text) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(pg_stat_get_xact_function_calls(oid)), 0)::bigint FROM pg_proc WHERE proname = name $$;
CREATE FUNCTION pg_temp.compare(statement text) RETURNS TABLE (scan text, rows bigint, calls bigint, same boolean) LANGUAGE plpgsql AS $$
DECLARE answers text[] := '{}'; called bigint[] := '{}'; answer text; setting text; before bigint; r record;
BEGIN
    scan := pg_temp.scan(statement);
    FOREACH setting IN ARRAY ARRAY['on', 'off'] LOOP
        PERFORM set_config('idempotent.scan_node', setting, true);
        before := pg_temp.calls('idempotent_replay');
        answer := '';
        rows := 0;
        FOR r IN EXECUTE statement LOOP
            rows := rows + 1;
            answer := answer || r::text || E'\n';
        END LOOP;
        answers := answers || answer;
        called := called || (pg_temp.calls('idempotent_replay') - before);
    END LOOP;
    PERFORM set_config('idempotent.scan_node', 'on', true);
    calls := called[1];
    same := answers[1] = answers[2] AND called[1] = called[2];
    RETURN NEXT;
END $$;

-- planned so
EXPLAIN (COSTS off) SELECT outcome, response FROM idempotent_replay('scan', 'k1');
EXPLAIN (COSTS off, VERBOSE) SELECT upper(r.outcome), r.status + 1 FROM idempotent_replay('scan', key => lower('K2')) AS r;
EXPLAIN (COSTS off, VERBOSE) SELECT (SELECT a.outcome || n FROM idempotent_replay('scan', n::text) AS a) FROM generate_series(1, 2) AS n;
CREATE FUNCTION pg_temp.explain(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE e jsonb; BEGIN EXECUTE 'EXPLAIN (FORMAT json) ' || statement INTO e; RETURN e; END $$;
SELECT e -> 0 -> 'Plan' ->> 'Custom Plan Provider' AS provider, e -> 0 -> 'Plan' ->> 'Function Name' AS function
FROM (SELECT pg_temp.explain('SELECT outcome FROM idempotent_replay(''scan'', ''k1'')') AS e) AS x;

SELECT n, c.* FROM (VALUES
    (1, $$SELECT * FROM idempotent_replay('scan', 'k1')$$),
    (2, $$SELECT * FROM idempotent_replay('scan', 'k2')$$),
    (3, $$SELECT outcome, md5(response::text), md5(body::text), pg_column_compression(response) FROM idempotent_replay('scan', 'k3')$$),
    (4, $$SELECT * FROM idempotent_replay('scan', 'none')$$),
    (5, $$SELECT expires_at, outcome, outcome, fence IS NULL FROM idempotent_replay('scan', 'k1')$$),
    (6, $$SELECT count(*) FROM idempotent_replay('scan', 'k1')$$),
    (7, $$SELECT FROM idempotent_replay('scan', 'k1')$$),
    (8, $$SELECT 1 FROM idempotent_replay('scan', 'k1')$$),
    (9, $$SELECT outcome FROM idempotent_replay('scan', 'k1') LIMIT 0$$),
    (10, $$SELECT outcome FROM idempotent_replay('scan', 'k1') ORDER BY expires_at$$),
    (11, $$SELECT outcome || '!', count(*) FROM idempotent_replay('scan', 'k1') GROUP BY outcome HAVING count(*) > 0$$),
    (12, $$SELECT DISTINCT outcome FROM idempotent_replay('scan', 'k1')$$),
    (13, $$SELECT outcome, row_number() OVER (ORDER BY outcome) FROM idempotent_replay('scan', 'k1')$$),
    (14, $$SELECT outcome, generate_series(1, 2) FROM idempotent_replay('scan', 'k1')$$),
    (15, $$SELECT jsonb_each_text(response) FROM idempotent_replay('scan', 'k1')$$),
    (16, $$SELECT a.outcome, b.outcome FROM idempotent_replay('scan', 'k1') AS a, idempotent_replay('scan', 'k2') AS b$$),
    (17, $$SELECT r.id, a.outcome FROM request AS r, idempotent_replay('scan', 'k1') AS a ORDER BY r.id$$),
    (18, $$SELECT r.id, a.outcome FROM request AS r LEFT JOIN idempotent_replay('scan', 'k1') AS a ON r.id > 1 ORDER BY r.id$$),
    (19, $$SELECT r.n, a.outcome FROM answer AS r LEFT JOIN idempotent_replay('scan', 'k1') AS a ON a.outcome = r.outcome ORDER BY r.n$$),
    (20, $$SELECT r.n, a.outcome FROM answer AS r FULL JOIN idempotent_replay('scan', 'k1') AS a ON a.outcome = r.outcome ORDER BY r.n$$),
    (21, $$SELECT r.n FROM answer AS r WHERE r.outcome IN (SELECT outcome FROM idempotent_replay('scan', 'k1'))$$),
    (22, $$SELECT r.n FROM answer AS r WHERE EXISTS (SELECT FROM idempotent_replay('scan', 'k1') AS a WHERE a.outcome = r.outcome)$$),
    (23, $$SELECT r.n FROM answer AS r WHERE r.outcome <> ALL (SELECT outcome FROM idempotent_replay('scan', 'k1'))$$),
    (24, $$SELECT r.id, (SELECT outcome FROM idempotent_replay('scan', r.key)) FROM request AS r ORDER BY r.id$$),
    (25, $$SELECT r.id, (SELECT outcome || r.amount FROM idempotent_replay('scan', 'k1')) FROM request AS r ORDER BY r.id$$),
    (26, $$SELECT r.id, (SELECT a.outcome || r.amount FROM idempotent_replay('scan', (SELECT min(key) FROM request)) AS a) FROM request AS r ORDER BY r.id$$),
    (27, $$SELECT r.id, (SELECT a.outcome FROM (SELECT r.key OFFSET 0) AS x, idempotent_replay('scan', r.key) AS a) FROM request AS r ORDER BY r.id$$),
    (28, $$SELECT outcome FROM idempotent_replay('scan', (SELECT key FROM request WHERE id = 2))$$),
    (29, $$WITH c AS MATERIALIZED (SELECT outcome, status FROM idempotent_replay('scan', 'k2')) SELECT * FROM c AS a, c AS b$$),
    (30, $$WITH c AS (SELECT outcome, status FROM idempotent_replay('scan', 'k2')) SELECT status FROM c$$),
    (31, $$WITH RECURSIVE c (n, outcome) AS (SELECT 1, 'none' UNION ALL SELECT n + 1, a.outcome FROM c, idempotent_replay('scan', 'k1') AS a WHERE n < 4) SELECT * FROM c$$),
    (32, $$SELECT * FROM (SELECT outcome, body FROM idempotent_replay('scan', 'k2') OFFSET 0) AS s$$),
    (33, $$SELECT outcome FROM idempotent_replay('scan', 'k1') EXCEPT SELECT outcome FROM idempotent_replay('scan', 'none')$$),
    (34, $$SELECT a.outcome FROM LATERAL idempotent_replay('scan', 'k1') AS a$$),
    (35, $$SELECT (SELECT max(r.amount) FROM request AS r WHERE r.amount > length(a.outcome)) FROM idempotent_replay('scan', 'k1') AS a$$),
    (36, $$SELECT r.id, (SELECT a.outcome FROM idempotent_replay('scan', (SELECT x.key FROM request AS x WHERE x.id = r.id)) AS a) FROM request AS r ORDER BY r.id$$),
    (37, $$SELECT (SELECT outcome FROM idempotent_replay('scan', max(r.key))), (SELECT status FROM idempotent_replay('scan', min(r.key))) FROM request AS r$$),
    (38, $$SELECT a.outcome, b.status FROM (SELECT DISTINCT outcome FROM idempotent_replay('scan', 'k1')) AS a, LATERAL (SELECT status FROM idempotent_replay('scan', 'k2') OFFSET 0) AS b$$),
    (39, $$SELECT response ->> 'paid' FROM ROWS FROM (idempotent_replay('scan', 'k1')) AS a$$)
) AS s (n, statement), LATERAL pg_temp.compare(statement) AS c ORDER BY n;

-- left to the function scan
SELECT n, c.* FROM (VALUES
    (1, 'filter', $$SELECT outcome FROM idempotent_replay('scan', 'k1') WHERE outcome = 'replay'$$),
    (2, 'filter', $$SELECT response FROM idempotent_replay('scan', 'k1') WHERE false$$),
    (3, 'filter', $$SELECT a.response FROM idempotent_replay('scan', 'k1') AS a JOIN answer ON a.outcome = answer.outcome AND answer.outcome = 'replay'$$),
    (4, 'lateral', $$SELECT a.outcome FROM request AS r, idempotent_replay('scan', r.key) AS a ORDER BY r.id$$),
    (5, 'lateral', $$SELECT a.outcome FROM request AS r LEFT JOIN LATERAL idempotent_replay('scan', r.key) AS a ON true ORDER BY r.id$$),
    (6, 'ordinality', $$SELECT outcome, ordinality FROM idempotent_replay('scan', 'k1') WITH ORDINALITY$$),
    (7, 'several', $$SELECT outcome, n FROM ROWS FROM (idempotent_replay('scan', 'k1'), generate_series(1, 2)) AS a (outcome, fence, attempt, failed, status, headers, response, body, evicted, checkpoint, retry_after, expires_at, n)$$),
    (8, 'row', $$SELECT a FROM idempotent_replay('scan', 'k1') AS a$$),
    (9, 'row', $$SELECT to_jsonb(a) FROM idempotent_replay('scan', 'k1') AS a$$),
    (10, 'row', $$SELECT count(a) FROM idempotent_replay('scan', 'k1') AS a$$),
    (11, 'row', $$SELECT r.id, a.outcome FROM request AS r, idempotent_replay('scan', 'k1') AS a WHERE r.id = 1 FOR UPDATE OF r$$),
    (12, 'union', $$SELECT outcome FROM idempotent_replay('scan', 'k1') UNION ALL SELECT outcome FROM idempotent_replay('scan', 'k2')$$),
    (13, 'sub-select', $$SELECT outcome FROM idempotent_replay('scan', CASE WHEN 'k1' IN (SELECT key FROM request) THEN 'k2' ELSE 'k1' END)$$),
    (14, 'expression', $$SELECT r.n, x.o FROM answer AS r LEFT JOIN (SELECT coalesce(outcome, 'none') AS o FROM idempotent_replay('scan', 'none') AS a) AS x ON x.o = r.outcome ORDER BY r.n$$),
    (15, 'value', $$SELECT a FROM idempotent_derive_key('scan', 'k1', 'x') AS a$$)
) AS s (n, why, statement), LATERAL pg_temp.compare(statement) AS c ORDER BY n;
SELECT pg_temp.scan($$SELECT key FROM idempotent_http_claim('scan', '"k"', 'GET', '/', NULL, NULL)$$);
SELECT pg_temp.scan($$UPDATE request SET amount = 1 FROM idempotent_replay('scan', 'k1') AS a WHERE a.outcome IS NOT NULL$$);
SELECT pg_temp.scan($$UPDATE request SET amount = a.status FROM idempotent_replay('scan', 'k1') AS a$$);
SELECT pg_temp.scan($$DELETE FROM request USING idempotent_replay('scan', 'k1') AS a$$);
SELECT pg_temp.scan($$MERGE INTO request AS r USING idempotent_replay('scan', 'k1') AS a ON r.id = a.status WHEN MATCHED THEN DELETE$$);
CREATE FUNCTION pg_temp.wrapped(key text) RETURNS idempotent_result LANGUAGE sql VOLATILE AS $$ SELECT idempotent_replay('scan', key) $$;
CREATE FUNCTION pg_temp.wrapped_plpgsql(key text) RETURNS idempotent_result LANGUAGE plpgsql AS $$ BEGIN RETURN idempotent_replay('scan', key); END $$;
CREATE FUNCTION pg_temp.wrapped_set(key text) RETURNS SETOF idempotent_result LANGUAGE plpgsql AS $$ BEGIN RETURN NEXT idempotent_replay('scan', key); END $$;
SELECT n, c.* FROM (VALUES (1, 'wrapped'), (2, 'wrapped_plpgsql'), (3, 'wrapped_set')) AS s (n, name), LATERAL pg_temp.compare(format('SELECT outcome, status FROM pg_temp.%I(''k2'')', name)) AS c ORDER BY n;
BEGIN;
SET LOCAL idempotent.scan_node = off;
SELECT pg_temp.scan($$SELECT outcome FROM idempotent_replay('scan', 'k1')$$);
ROLLBACK;

-- the five functions that answer so
SELECT pg_temp.scan(format('SELECT outcome FROM %s', call)), call FROM (VALUES
    ('idempotent_claim(''scan'', ''k'')'), ('idempotent_run(''scan'', ''k'', ''1'', ''f'')'), ('idempotent_replay(''scan'', ''k'')'),
    ('idempotent_seal(''scan'', ''k'')'), ('idempotent_resolve(''scan'', ''k'', ''absent'')')) AS v (call);
BEGIN;
SELECT * FROM idempotent_claim('scan', 'five', '1', lease => NULL);
SELECT outcome, attempt FROM idempotent_claim('scan', 'five', '1');
SELECT outcome, attempt FROM idempotent_claim('scan', 'five', '2');
SELECT idempotent_complete('scan', 'five', '5');
SELECT outcome, response, attempt, failed FROM idempotent_claim('scan', 'five', '1');
SELECT outcome, response FROM idempotent_run('scan', 'six', '6', 'pg_temp.work(jsonb)');
SELECT outcome, response FROM idempotent_run('scan', 'six', '6', 'pg_temp.work(jsonb)');
SELECT outcome FROM idempotent_seal('scan', 'seven');
SELECT outcome FROM idempotent_claim('scan', 'seven');
ROLLBACK;
-- what the last holder left is there as long as the statement, also when the claim that it came with is given back
SELECT fence FROM idempotent_claim('scan', 'left', lease => '1 hour') \gset
SELECT idempotent_checkpoint('scan', 'left', '{"page": 7}', fence => :fence);
SELECT FROM idempotent_extend('scan', 'left', '1 microsecond', fence => :fence);
BEGIN;
SELECT outcome, attempt, checkpoint FROM idempotent_claim('scan', 'left');
SELECT c.outcome, c.checkpoint, idempotent_release('scan', 'left'), c.checkpoint FROM idempotent_claim('scan', 'left') AS c;
COMMIT;
-- an error of the function's is the function's
SELECT outcome FROM idempotent_replay('', 'k');
SELECT outcome FROM idempotent_claim('scan', 'k1', '11', strict => true);
SELECT outcome FROM idempotent_run('scan', 'k', '1', 'no.such_function(jsonb)');
DO $$ BEGIN PERFORM outcome FROM idempotent_replay('', 'k'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught %', sqlstate; END $$;

-- rescans: the row is kept while the arguments are the same
BEGIN;
SET LOCAL enable_material = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SELECT pg_temp.calls('idempotent_run') AS runs, pg_temp.calls('idempotent_replay') AS replays \gset
SELECT r.id, a.outcome FROM request AS r LEFT JOIN idempotent_run('scan', 'once', '1', 'pg_temp.work(jsonb)') AS a ON a.status IS NULL ORDER BY r.id;
SELECT count(*), count(DISTINCT upper(a.outcome)) FROM generate_series(1, 100) AS n LEFT JOIN idempotent_replay('scan', 'k1') AS a ON a.attempt <= n;
SELECT pg_temp.calls('idempotent_run') - :runs AS runs, pg_temp.calls('idempotent_replay') - :replays AS replays;
SELECT r.id, (SELECT a.outcome || coalesce(a.response::text, '') FROM idempotent_run('scan', 'of ' || r.key, to_jsonb(r.id), 'pg_temp.work(jsonb)') AS a) FROM request AS r ORDER BY r.id;
SELECT r.id, (SELECT a.outcome || r.id FROM idempotent_run('scan', 'twice', '1', 'pg_temp.work(jsonb)') AS a) FROM request AS r ORDER BY r.id;
ROLLBACK;

-- cursors, in both directions
BEGIN;
DECLARE plain CURSOR FOR SELECT outcome, status FROM idempotent_replay('scan', 'k2');
FETCH BACKWARD 1 FROM plain;
FETCH 1 FROM plain;
FETCH BACKWARD 1 FROM plain;
FETCH ALL FROM plain;
FETCH 1 FROM plain;
FETCH BACKWARD ALL FROM plain;
FETCH LAST FROM plain;
FETCH ABSOLUTE 1 FROM plain;
FETCH RELATIVE 0 FROM plain;
MOVE FORWARD ALL IN plain;
FETCH PRIOR FROM plain;
DECLARE scroll SCROLL CURSOR FOR SELECT upper(outcome) || n AS o FROM generate_series(1, 2) AS n, idempotent_run('scan', 'scroll', '1', 'pg_temp.work(jsonb)') AS a;
FETCH ALL FROM scroll;
FETCH BACKWARD ALL FROM scroll;
FETCH LAST FROM scroll;
DECLARE held CURSOR WITH HOLD FOR SELECT outcome, response FROM idempotent_run('scan', 'held', '1', 'pg_temp.work(jsonb)');
UPDATE request SET amount = 1 WHERE CURRENT OF plain;
ROLLBACK;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT outcome, length(body) FROM idempotent_replay('scan', 'k3');
FETCH 1 FROM held;
COMMIT;
FETCH BACKWARD 1 FROM held;
FETCH 2 FROM held;
CLOSE held;
-- a savepoint that is rolled back takes the row of a cursor that is older away from nobody
BEGIN;
DECLARE older CURSOR FOR SELECT outcome, checkpoint FROM idempotent_claim('scan', 'older');
SAVEPOINT s;
FETCH 1 FROM older;
ROLLBACK TO s;
FETCH 1 FROM older;
FETCH BACKWARD 1 FROM older;
SELECT outcome FROM idempotent_claim('scan', 'older');
ROLLBACK;
DO $$
DECLARE r record; n integer := 0;
BEGIN
    FOR r IN SELECT a.outcome, a.response FROM generate_series(1, 3), idempotent_replay('scan', 'k1') AS a LOOP
        n := n + 1;
        COMMIT;
        ASSERT r.outcome = 'replay' AND r.response = '{"paid": true}';
    END LOOP;
    ASSERT n = 3;
END $$;

-- null arguments, and a function that is made strict
SELECT outcome FROM idempotent_replay('scan', NULL);
SELECT * FROM idempotent_replay(NULL, 'k1');
BEGIN;
ALTER FUNCTION idempotent_replay(text, text, text) STRICT;
SELECT n, c.* FROM (VALUES (1, $$SELECT outcome, status FROM idempotent_replay('scan', NULL)$$), (2, $$SELECT outcome, status FROM idempotent_replay('scan', (SELECT NULL::text))$$),
    (3, $$SELECT outcome, status FROM idempotent_replay('scan', (SELECT 'k2'::text))$$)) AS s (n, statement), LATERAL pg_temp.compare(statement) AS c ORDER BY n;
SELECT outcome, status FROM idempotent_replay('scan', (SELECT NULL::text));
ROLLBACK;

-- prepared statements: custom and generic plans, and what happens to the function meanwhile
PREPARE replayed (text) AS SELECT outcome, status FROM idempotent_replay('scan', $1);
PREPARE scanned (text) AS SELECT (SELECT a.outcome || $1 FROM idempotent_replay('scan', 'k1') AS a) || r.id FROM request AS r ORDER BY r.id;
SET plan_cache_mode = force_generic_plan;
EXECUTE replayed ('k1');
EXECUTE replayed ('k2');
EXECUTE replayed (NULL);
EXECUTE scanned ('!');
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
EXPLAIN (COSTS off, VERBOSE) EXECUTE replayed ('k2');
ALTER FUNCTION idempotent_replay(text, text, text) SET work_mem = '1MB';
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
EXECUTE replayed ('k2');
ALTER FUNCTION idempotent_replay(text, text, text) RESET ALL;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
ALTER FUNCTION idempotent_replay(text, text, text) SECURITY DEFINER;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
ALTER FUNCTION idempotent_replay(text, text, text) SECURITY INVOKER;
ALTER FUNCTION idempotent_replay(text, text, text) PARALLEL SAFE;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
ALTER FUNCTION idempotent_replay(text, text, text) PARALLEL RESTRICTED;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
-- another row type under the plan: it has other columns than ours, and is the function scan's
BEGIN;
ALTER TYPE idempotent_result ADD ATTRIBUTE more text;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
EXECUTE replayed ('k2');
ROLLBACK;
DEALLOCATE replayed;
PREPARE replayed (text) AS SELECT outcome, status FROM idempotent_replay('scan', $1);
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
BEGIN;
ALTER TYPE idempotent_result ALTER ATTRIBUTE retry_after TYPE text;
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
ROLLBACK;
DEALLOCATE replayed;
PREPARE replayed (text) AS SELECT outcome, status FROM idempotent_replay('scan', $1);
EXECUTE replayed ('k2');
-- another function under the plan
BEGIN;
CREATE OR REPLACE FUNCTION idempotent_replay(operation text, key text, scope text = '') RETURNS idempotent_result LANGUAGE sql AS
$$ SELECT ROW('mine', NULL, NULL, NULL, 7, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::idempotent_result $$;
EXECUTE replayed ('k2');
ROLLBACK;
EXECUTE replayed ('k2');
-- the right to call it is asked for whenever a statement begins, EXPLAIN included
SELECT idempotent_grant('regress_idempotent_scan');
SET ROLE regress_idempotent_scan;
EXECUTE replayed ('k2');
RESET ROLE;
BEGIN;
SET LOCAL ROLE regress_idempotent_scan;
DECLARE opened CURSOR FOR SELECT outcome FROM idempotent_replay('scan', 'k1');
RESET ROLE;
SELECT idempotent_revoke('regress_idempotent_scan');
SET LOCAL ROLE regress_idempotent_scan;
FETCH 1 FROM opened;
COMMIT;
SET ROLE regress_idempotent_scan;
EXECUTE replayed ('k2');
EXPLAIN (COSTS off) EXECUTE replayed ('k2');
SELECT outcome FROM idempotent_replay('scan', 'k2');
RESET ROLE;
EXECUTE replayed ('k2');
-- PL/pgSQL and SQL functions, views
CREATE FUNCTION pg_temp.outcome_of(key text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE o text; BEGIN SELECT a.outcome INTO o FROM idempotent_replay('scan', key) AS a; RETURN o; END $$;
CREATE FUNCTION pg_temp.status_of(key text) RETURNS integer LANGUAGE sql VOLATILE AS $$ SELECT status FROM idempotent_replay('scan', key) $$;
CREATE TEMPORARY VIEW second AS SELECT outcome, status, response FROM idempotent_replay('scan', 'k2');
SELECT r.id, pg_temp.outcome_of(r.key), pg_temp.status_of(r.key) FROM request AS r ORDER BY r.id;
SELECT status FROM second;
SELECT r.id, s.status FROM request AS r LEFT JOIN second AS s ON r.id = 2 ORDER BY r.id;
-- a handler that itself runs such statements
CREATE FUNCTION pg_temp.nested(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE inner_answer jsonb;
BEGIN
    IF $1::integer = 0 THEN RETURN '"bottom"'; END IF;
    SELECT jsonb_build_array(a.outcome, a.response) INTO inner_answer FROM idempotent_run('scan', 'nested ' || $1::text, to_jsonb($1::integer - 1), 'pg_temp.nested(jsonb)') AS a;
    RETURN inner_answer;
END $$;
BEGIN;
SELECT outcome, response FROM idempotent_run('scan', 'nested', '3', 'pg_temp.nested(jsonb)');
ROLLBACK;
-- with every expression compiled, where the server can do that
SET jit = on;
SET jit_above_cost = 0;
SET jit_inline_above_cost = 0;
SET jit_optimize_above_cost = 0;
SELECT upper(outcome) || status AS o FROM idempotent_replay('scan', lower('K2'));
EXECUTE scanned ('?');
RESET jit; RESET jit_above_cost; RESET jit_inline_above_cost; RESET jit_optimize_above_cost;
-- it is counted as a call of the function's, if those of functions in C are counted
BEGIN;
SELECT pg_temp.calls('idempotent_replay') AS replays \gset
SELECT outcome FROM idempotent_replay('scan', 'k1');
SELECT pg_temp.calls('idempotent_replay') - :replays AS replays;
SET LOCAL track_functions = 'pl';
SELECT outcome FROM idempotent_replay('scan', 'k1');
SELECT pg_temp.calls('idempotent_replay') - :replays AS replays;
ROLLBACK;
-- the extension is dropped and made again
BEGIN;
DROP VIEW second;
SET client_min_messages = warning;
DROP EXTENSION pg_idempotent CASCADE;
RESET client_min_messages;
SAVEPOINT s;
EXECUTE replayed ('k1');
ROLLBACK TO s;
CREATE EXTENSION pg_idempotent;
EXECUTE replayed ('k1');
EXPLAIN (COSTS off) EXECUTE replayed ('k1');
ROLLBACK;
EXECUTE replayed ('k1');
DEALLOCATE ALL;
DROP ROLE regress_idempotent_scan;
