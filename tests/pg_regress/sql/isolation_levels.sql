-- Every isolation level, as far as one session can see; races are the isolation specs' concern.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
\set SHOW_CONTEXT never
CREATE FUNCTION isolation_levels_handler(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
-- Everything that can be done with keys, in one transaction of each level.
CREATE PROCEDURE pg_temp.story(level text) LANGUAGE plpgsql AS $$
DECLARE
    lease bigint;
BEGIN
    RAISE INFO '%: claim %', level, (SELECT outcome FROM idempotent_claim('isolation_levels', level, '1'));
    RAISE INFO '%: own claim %, other request %', level, (SELECT outcome FROM idempotent_claim('isolation_levels', level, '1')), (SELECT outcome FROM idempotent_claim('isolation_levels', level, '2'));
    RAISE INFO '%: replay %', level, (SELECT outcome FROM idempotent_replay('isolation_levels', level));
    BEGIN
        PERFORM idempotent_complete('isolation_levels', level, '"undone"');
        RAISE EXCEPTION 'caught';
    EXCEPTION WHEN raise_exception THEN
        PERFORM idempotent_complete('isolation_levels', level, '"done"');
    END;
    RAISE INFO '%: claim %', level, (SELECT row(outcome, response) FROM idempotent_claim('isolation_levels', level, '1'));
    RAISE INFO '%: run %', level, (SELECT row(outcome, response) FROM idempotent_run('isolation_levels', 'run ' || level, '1', 'isolation_levels_handler(jsonb)'));
    RAISE INFO '%: run %', level, (SELECT row(outcome, response) FROM idempotent_run('isolation_levels', 'run ' || level, '1', 'isolation_levels_handler(jsonb)'));
    lease := (idempotent_claim('isolation_levels', 'lease ' || level, lease => '1 hour')).fence;
    PERFORM idempotent_checkpoint('isolation_levels', 'lease ' || level, '1', fence => lease);
    PERFORM idempotent_extend('isolation_levels', 'lease ' || level, '1 hour', fence => lease);
    RAISE INFO '%: own lease %', level, (SELECT row(outcome, fence = lease, checkpoint) FROM idempotent_claim('isolation_levels', 'lease ' || level));
    PERFORM idempotent_complete('isolation_levels', 'lease ' || level, '"done"', fence => lease);
    PERFORM idempotent_complete('isolation_levels', 'lease ' || level, '"done"', fence => lease);
    -- of earlier transactions
    RAISE INFO '%: replay %', level, (SELECT row(outcome, response) FROM idempotent_claim('isolation_levels', 'before ' || level));
    RAISE INFO '%: expired %', level, (SELECT row(outcome, attempt) FROM idempotent_claim('isolation_levels', 'expired ' || level));
    PERFORM idempotent_complete('isolation_levels', 'expired ' || level);
    RAISE INFO '%: taken over %', level, (SELECT row(outcome, attempt) FROM idempotent_claim('isolation_levels', 'lapsed ' || level));
    PERFORM idempotent_complete('isolation_levels', 'lapsed ' || level);
    RAISE INFO '%: taken over %', level, (SELECT row(outcome, attempt) FROM idempotent_claim('isolation_levels', 'lapsed again ' || level, lease => '1 hour'));
END $$;
SELECT count((idempotent_claim('isolation_levels', 'lapsed ' || level, lease => '1 microsecond')).outcome) FROM unnest('{rc,rr,s}'::text[]) AS level;
SELECT count((idempotent_claim('isolation_levels', 'lapsed again ' || level, lease => '1 microsecond')).outcome) FROM unnest('{rc,rr,s}'::text[]) AS level;
BEGIN;
SELECT count((idempotent_claim('isolation_levels', 'before ' || level)).outcome) FROM unnest('{rc,rr,s}'::text[]) AS level;
SELECT count((idempotent_claim('isolation_levels', 'expired ' || level)).outcome) FROM unnest('{rc,rr,s}'::text[]) AS level;
SELECT count(idempotent_complete('isolation_levels', 'before ' || level, '"before"')) FROM unnest('{rc,rr,s}'::text[]) AS level;
SELECT count(idempotent_complete('isolation_levels', 'expired ' || level, '1', retention => '1 microsecond')) FROM unnest('{rc,rr,s}'::text[]) AS level;
COMMIT;

BEGIN ISOLATION LEVEL READ COMMITTED;
CALL pg_temp.story('rc');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL pg_temp.story('rr');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL pg_temp.story('s');
COMMIT;
SELECT key, outcome, response FROM unnest('{rc,rr,s}'::text[]) AS level, unnest(ARRAY[level, 'run ' || level, 'lease ' || level, 'expired ' || level, 'lapsed ' || level, 'lapsed again ' || level]) AS key, idempotent_replay('isolation_levels', key)
ORDER BY key COLLATE "C";
-- the guard
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT outcome FROM idempotent_claim('isolation_levels', 'forgotten');
COMMIT;
\echo :LAST_ERROR_SQLSTATE
-- read only, deferrable
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT outcome FROM idempotent_replay('isolation_levels', 's');
COMMIT;
DROP FUNCTION isolation_levels_handler(jsonb);
