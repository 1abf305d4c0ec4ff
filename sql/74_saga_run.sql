-- Sagas: work in several transactions, each of which happens once, and is undone if a later one fails for good. Where a saga
-- stands is a row, written in the transaction of the step itself, so that the step and the knowledge of it commit or vanish
-- together. A claim would add nothing to that: the row is the record. It is logged, whatever becomes of records.

CREATE TABLE idempotent.saga_run (
    started_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz,
    step       integer NOT NULL,
    slot       smallint NOT NULL,
    state      text NOT NULL,
    saga       text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    steps      jsonb NOT NULL,
    request    jsonb,
    fingerprint uuid,
    fingerprint_version smallint,
    answers    jsonb NOT NULL,
    failure    jsonb,
    CONSTRAINT saga_run_pkey PRIMARY KEY (key, saga, scope),
    CONSTRAINT saga_run_state CHECK (state OPERATOR(pg_catalog.=) ANY ('{running,compensating,completed,compensated}'::pg_catalog.text[]))
) USING heap;
CREATE INDEX saga_run_expires_at_idx ON idempotent.saga_run (expires_at);
COMMENT ON TABLE idempotent.saga_run IS 'sagas that were started: see idempotent_saga_run() and the view idempotent.sagas';
COMMENT ON INDEX idempotent.saga_run_expires_at_idx IS 'what can be deleted';
COMMENT ON COLUMN idempotent.saga_run.started_at IS 'when it was called first';
COMMENT ON COLUMN idempotent.saga_run.changed_at IS 'when a step or a compensation was done last';
COMMENT ON COLUMN idempotent.saga_run.expires_at IS 'from then on it counts as absent; null: not finished';
COMMENT ON COLUMN idempotent.saga_run.step IS 'the step to run or to compensate next, from 1; 0 or beyond the last: none';
COMMENT ON COLUMN idempotent.saga_run.slot IS 'of the owner, idempotent_slot(key, scope)';
COMMENT ON COLUMN idempotent.saga_run.state IS 'running, compensating, completed or compensated';
COMMENT ON COLUMN idempotent.saga_run.saga IS 'the saga';
COMMENT ON COLUMN idempotent.saga_run.scope IS 'the owner of the key; empty: the key is its own';
COMMENT ON COLUMN idempotent.saga_run.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.saga_run.steps IS 'the steps as they were when it started';
COMMENT ON COLUMN idempotent.saga_run.request IS 'the request, which every handler sees';
COMMENT ON COLUMN idempotent.saga_run.fingerprint IS '128 bits of SHA-256 over the canonical request, by which another request is told; null: no request was given';
COMMENT ON COLUMN idempotent.saga_run.fingerprint_version IS 'algorithm of the fingerprint: 1 canonical jsonb; plus 8 for each number of idempotent.exclusion';
COMMENT ON COLUMN idempotent.saga_run.answers IS 'the answers of the steps that are done, by name';
COMMENT ON COLUMN idempotent.saga_run.failure IS 'step, sqlstate and message of the failure that is final';

-- Part of a dump: a restored database has the effects of the steps, and must not do them again.
SELECT pg_catalog.pg_extension_config_dump('idempotent.saga_run', '');

-- One function, so that a caller can write nothing but what the handler of the next step did: it looks with the owner's rights, calls
-- the handler with the caller's, and writes with the owner's.
CREATE FUNCTION idempotent_saga_step(
    name        text,
    key         text,
    request     jsonb = NULL,
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
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_saga_step';
COMMENT ON FUNCTION idempotent_saga_step(text, text, jsonb, text, interval) IS
'run the next step of a saga, or the next compensation, in this transaction; more: another is next, which next_step names';

-- The caller's rights and search_path are the handlers'. A procedure that commits cannot pin a search_path of its own, so every
-- name and operator here is qualified, and the schema of the functions is looked up.
CREATE PROCEDURE idempotent_saga_run(
    name          text,
    key           text,
    request       jsonb = NULL,
    scope         text = '',
    wait          interval = NULL,
    INOUT outcome text = NULL,
    INOUT failed  boolean = NULL,
    INOUT answers jsonb = NULL,
    INOUT failure jsonb = NULL
)
LANGUAGE plpgsql AS $$
DECLARE
    home pg_catalog.name;
    step pg_catalog.record;
    done pg_catalog.bool := false;
BEGIN
    COMMIT;  -- where this is refused, so is the saga: before any handler has run
    SELECT n.nspname INTO home FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
     WHERE e.extname OPERATOR(pg_catalog.=) 'pg_idempotent';
    LOOP
        EXECUTE pg_catalog.format('SELECT * FROM %I.idempotent_saga_step($1, $2, $3, $4, $5)', home) INTO step USING name, key, request, scope, wait;
        COMMIT;
        EXIT WHEN NOT step.more;
        done := true;
    END LOOP;
    outcome := CASE WHEN done AND step.outcome OPERATOR(pg_catalog.=) 'replay' THEN 'executed' ELSE step.outcome END;
    failed := step.failed;
    answers := step.answers;
    failure := step.failure;
END $$;
COMMENT ON PROCEDURE idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb) IS
'run a saga, or go on with it: each step commits by itself and runs once; a failure that is final undoes the steps before it';

CREATE VIEW idempotent.sagas AS
SELECT r.saga, r.scope, r.key, r.state,
       CASE WHEN r.expires_at IS NULL THEN r.steps OPERATOR(pg_catalog.->) (r.step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->>) 'name' END AS step,
       (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys(r.answers)) AS done,
       pg_catalog.jsonb_array_length(r.steps) AS steps,
       r.failure OPERATOR(pg_catalog.->>) 'step' AS failed_step, r.failure OPERATOR(pg_catalog.->>) 'sqlstate' AS sqlstate,
       r.started_at, r.changed_at, r.expires_at
FROM idempotent.saga_run AS r;
COMMENT ON VIEW idempotent.sagas IS 'where each saga stands';
COMMENT ON COLUMN idempotent.sagas.saga IS 'the saga';
COMMENT ON COLUMN idempotent.sagas.scope IS 'the owner of the key';
COMMENT ON COLUMN idempotent.sagas.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.sagas.state IS 'running, compensating, completed or compensated';
COMMENT ON COLUMN idempotent.sagas.step IS 'what is next: to be run, or to be compensated; null: nothing';
COMMENT ON COLUMN idempotent.sagas.done IS 'how many steps have been run';
COMMENT ON COLUMN idempotent.sagas.steps IS 'how many there are';
COMMENT ON COLUMN idempotent.sagas.failed_step IS 'which one failed for good; null: none';
COMMENT ON COLUMN idempotent.sagas.sqlstate IS 'with which error';
COMMENT ON COLUMN idempotent.sagas.started_at IS 'when it was called first';
COMMENT ON COLUMN idempotent.sagas.changed_at IS 'when it last moved; long ago and not finished: call it again';
COMMENT ON COLUMN idempotent.sagas.expires_at IS 'until when its answer is kept; null: not finished';

REVOKE ALL ON FUNCTION
    idempotent_saga_step(text, text, jsonb, text, interval)
FROM PUBLIC;
REVOKE ALL ON PROCEDURE idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb) FROM PUBLIC;
GRANT SELECT ON idempotent.sagas TO pg_monitor;
