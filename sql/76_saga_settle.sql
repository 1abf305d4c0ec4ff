-- Sagas for administrators: to look at one with its answers, and to end one that does not end by itself. Each asks the rules that the
-- steps ask, holds the saga as a step does, and is noted in idempotent.audit.

CREATE FUNCTION idempotent.saga_explain(name text, key text, scope text)
RETURNS TABLE (state text, number bigint, step text, step_state text, answer jsonb, failure jsonb, handler text, compensation text, request jsonb)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 10 AS $$
BEGIN
    RETURN QUERY SELECT r.state, e.ordinality, e.step ->> 'name',
           CASE WHEN e.ordinality = r.step AND r.state = 'running' THEN 'next'
                WHEN e.ordinality = r.step AND r.state = 'compensating' THEN 'compensating'
                WHEN e.step ->> 'name' = r.failure ->> 'step' THEN 'failed'
                WHEN NOT r.answers ? (e.step ->> 'name') THEN CASE WHEN r.state = 'running' THEN 'waiting' ELSE 'skipped' END
                WHEN r.failure -> 'uncompensated' ? (e.step ->> 'name') THEN 'uncompensated'
                WHEN r.state IN ('compensating', 'compensated') AND e.ordinality > r.step AND e.step ->> 'compensation' IS NOT NULL THEN 'compensated'
                ELSE 'completed' END,
           r.answers -> (e.step ->> 'name'),
           CASE WHEN e.step ->> 'name' = r.failure ->> 'step' THEN r.failure - '{step,uncompensated}'::text[] END,
           e.step ->> 'handler', e.step ->> 'compensation', r.request
      FROM idempotent.saga_run AS r, jsonb_array_elements(r.steps) WITH ORDINALITY AS e (step, ordinality)
     WHERE r.saga = saga_explain.name COLLATE "C" AND r.scope = saga_explain.scope COLLATE "C" AND r.key = saga_explain.key COLLATE "C"
       AND (r.expires_at IS NULL OR r.expires_at > clock_timestamp())
     ORDER BY e.ordinality;
END $$;
COMMENT ON FUNCTION idempotent.saga_explain(text, text, text) IS 'behind idempotent_saga_explain()';

CREATE FUNCTION idempotent_saga_explain(name text, key text, scope text = '')
RETURNS TABLE (state text, number bigint, step text, step_state text, answer jsonb, failure jsonb, handler text, compensation text, request jsonb)
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'idempotent_saga_explain';
COMMENT ON FUNCTION idempotent_saga_explain(text, text, text) IS
'where a saga stands, a row for each of its steps, with their answers';

CREATE FUNCTION idempotent_saga_resume(
    name        text,
    key         text,
    scope       text = '',
    wait        interval = NULL,
    OUT more    boolean,
    OUT outcome text,
    OUT failed  boolean,
    OUT answers jsonb,
    OUT failure jsonb,
    OUT state   text,
    OUT next_step text
) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_saga_resume';
COMMENT ON FUNCTION idempotent_saga_resume(text, text, text, interval) IS
'run the next step of a saga that was started, with the request that it was started with; more: another is next';

CREATE FUNCTION idempotent_saga_abandon(
    name          text,
    key           text,
    scope         text = '',
    OUT state     text,
    OUT next_step text
) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_saga_abandon';
COMMENT ON FUNCTION idempotent_saga_abandon(text, text, text) IS
'give a running saga up: the next calls undo the steps that are done';

CREATE FUNCTION idempotent_saga_settle(
    name          text,
    key           text,
    step          text,
    verdict       text,
    answer        jsonb = NULL,
    scope         text = '',
    OUT state     text,
    OUT next_step text
) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_saga_settle';
COMMENT ON FUNCTION idempotent_saga_settle(text, text, text, text, jsonb, text) IS
'say what became of the step that is next (completed, failed) or of its compensation (compensated, uncompensated), without calling a handler';

CREATE FUNCTION idempotent_saga_forget(
    name       text,
    key        text,
    scope      text = '',
    unfinished boolean = false
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_saga_forget';
COMMENT ON FUNCTION idempotent_saga_forget(text, text, text, boolean) IS
'delete what is known of a saga, so that its key runs anew; one that is not finished only if unfinished is set';

REVOKE ALL ON FUNCTION
    idempotent.saga_explain(text, text, text),
    idempotent_saga_explain(text, text, text),
    idempotent_saga_resume(text, text, text, interval),
    idempotent_saga_abandon(text, text, text),
    idempotent_saga_settle(text, text, text, text, jsonb, text),
    idempotent_saga_forget(text, text, text, boolean)
FROM PUBLIC;
