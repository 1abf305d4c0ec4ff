-- Sagas: work in several transactions, each of which happens once, and is undone if a later one fails for good. Where a saga
-- stands is a row, written in the transaction of the step itself, so that the step and the knowledge of it commit or vanish
-- together. A claim would add nothing to that: the row is the record. It is logged, whatever becomes of records.

CREATE TABLE idempotent.saga_run (
    started_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz,
    step       integer NOT NULL,
    state      text NOT NULL,
    saga       text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    steps      jsonb NOT NULL,
    request    jsonb,
    answers    jsonb NOT NULL,
    failure    jsonb,
    CONSTRAINT saga_run_pkey PRIMARY KEY (key, saga, scope),
    CONSTRAINT saga_run_state CHECK (state OPERATOR(pg_catalog.=) ANY ('{running,compensating,completed,compensated}'::pg_catalog.text[]))
);
CREATE INDEX saga_run_expires_at_idx ON idempotent.saga_run (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE idempotent.saga_run IS 'sagas that were started: see idempotent_saga_run() and the view idempotent.sagas';
COMMENT ON INDEX idempotent.saga_run_expires_at_idx IS 'what can be deleted';
COMMENT ON COLUMN idempotent.saga_run.started_at IS 'when it was called first';
COMMENT ON COLUMN idempotent.saga_run.changed_at IS 'when a step or a compensation was done last';
COMMENT ON COLUMN idempotent.saga_run.expires_at IS 'from then on it counts as absent; null: not finished';
COMMENT ON COLUMN idempotent.saga_run.step IS 'the step to run or to compensate next, from 1; 0 or beyond the last: none';
COMMENT ON COLUMN idempotent.saga_run.state IS 'running, compensating, completed or compensated';
COMMENT ON COLUMN idempotent.saga_run.saga IS 'the saga';
COMMENT ON COLUMN idempotent.saga_run.scope IS 'whose key it is';
COMMENT ON COLUMN idempotent.saga_run.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.saga_run.steps IS 'the steps as they were when it started';
COMMENT ON COLUMN idempotent.saga_run.request IS 'the request, which every handler sees';
COMMENT ON COLUMN idempotent.saga_run.answers IS 'the answers of the steps that are done, by name';
COMMENT ON COLUMN idempotent.saga_run.failure IS 'step, sqlstate and message of the failure that is final';

-- Part of a dump: a restored database has the effects of the steps, and must not do them again.
SELECT pg_catalog.pg_extension_config_dump('idempotent.saga_run', '');

CREATE FUNCTION idempotent.refuse_transaction_block() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_refuse_transaction_block';
COMMENT ON FUNCTION idempotent.refuse_transaction_block() IS 'refuses with 2D000 what commits by itself';

-- The saga's functions have their owner's rights, and so the caller is the outermost user. That is whoever called: no function with
-- the rights of another may call what commits.
CREATE FUNCTION idempotent.saga_check(name text, scope text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caller CONSTANT pg_catalog.name := COALESCE(NULLIF(pg_catalog.current_setting('role'), 'none'), session_user::text);
    policy idempotent.operation;
BEGIN
    SELECT o.* INTO policy FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) saga_check.name;
    IF NOT pg_catalog.pg_has_role(caller, policy.role, 'USAGE') THEN
        RAISE EXCEPTION 'permission denied for operation "%"', name
            USING ERRCODE = '42501', DETAIL = 'The operation is for members of its role alone.', HINT = 'Ask an administrator: GRANT the operation''s role to yours.';
    ELSIF policy.scope_required AND scope OPERATOR(pg_catalog.=) '' THEN
        RAISE EXCEPTION 'scope must not be empty'
            USING ERRCODE = 'ID006', DETAIL = pg_catalog.format('Operation "%s" demands a scope.', name), HINT = 'Pass whose key it is, such as scope => ''tenant-7''.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.saga_check(text, text) IS 'refuses with 42501 who is no member of the role of the operation of the saga''s name, and with ID006 a scope that it demands';

-- One session at a time works on a saga, for a step at a time; the others wait for so long.
CREATE FUNCTION idempotent.saga_lock(name text, key text, scope text, wait interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lane   CONSTANT bigint := pg_catalog.hashtextextended(pg_catalog.concat('pg_idempotent saga', E'\n', name, E'\n', scope, E'\n', key), 0);
    before CONSTANT text := pg_catalog.current_setting('lock_timeout');
    millis integer;
BEGIN
    IF pg_catalog.pg_try_advisory_xact_lock(lane) THEN
        RETURN true;
    END IF;
    millis := pg_catalog.ceil(EXTRACT(epoch FROM COALESCE(wait, (SELECT o.wait FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) saga_lock.name),
                                                          pg_catalog.current_setting('idempotent.default_wait')::interval)) OPERATOR(pg_catalog.*) 1000::numeric)::integer;
    IF millis OPERATOR(pg_catalog.<=) 0 THEN
        RETURN false;
    END IF;
    -- In the lock manager, so that deadlocks are seen; the timeout is undone with the block.
    PERFORM pg_catalog.set_config('lock_timeout', pg_catalog.concat(millis, 'ms'), true);
    PERFORM pg_catalog.pg_advisory_xact_lock(lane);
    PERFORM pg_catalog.set_config('lock_timeout', before, true);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION idempotent.saga_lock(text, text, text, interval) IS 'lets one transaction at a time work on a saga; false: not within the wait';

CREATE FUNCTION idempotent_saga_next(
    name          text,
    key           text,
    request       jsonb,
    scope         text,
    wait          interval,
    OUT outcome   text,
    OUT failed    boolean,
    OUT answers   jsonb,
    OUT failure   jsonb,
    OUT state     text,
    OUT step      integer,
    OUT handler   text,
    OUT argument  jsonb,
    OUT final     text[]
) RETURNS record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment  timestamptz;
    run     idempotent.saga_run;
    current jsonb;
BEGIN
    PERFORM idempotent.saga_check(name, scope);
    PERFORM idempotent.refuse_transaction_block();
    PERFORM idempotent.check_name('name', name, 63);
    PERFORM idempotent.check_name('key', key, 255);
    IF scope IS DISTINCT FROM '' THEN
        PERFORM idempotent.check_name('scope', scope, 255);
    END IF;
    IF wait OPERATOR(pg_catalog.<) '0'::interval OR wait OPERATOR(pg_catalog.>) '7 days'::interval THEN
        RAISE EXCEPTION 'wait must be an interval from 0 to 7 days' USING ERRCODE = '22023', HINT = 'Pass e.g. ''5 seconds'', or ''0'' not to wait.';
    END IF;
    -- Another request is told so before it waits for anything.
    PERFORM FROM idempotent.saga_run AS r
      WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_next.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_next.scope
        AND r.request IS DISTINCT FROM idempotent_saga_next.request
        AND (r.expires_at IS NULL OR r.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp());
    IF FOUND THEN
        outcome := 'mismatch';
        RETURN;
    ELSIF NOT idempotent.saga_lock(name, key, scope, wait) THEN
        outcome := 'in_progress';
        RETURN;
    END IF;
    moment := pg_catalog.clock_timestamp();
    SELECT r.* INTO run FROM idempotent.saga_run AS r
     WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_next.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_next.scope
       FOR UPDATE OF r;
    IF run.expires_at OPERATOR(pg_catalog.<=) moment THEN
        DELETE FROM idempotent.saga_run AS r
         WHERE r.saga OPERATOR(pg_catalog.=) run.saga AND r.key OPERATOR(pg_catalog.=) run.key AND r.scope OPERATOR(pg_catalog.=) run.scope;
        run := NULL;
    END IF;
    IF run.saga IS NULL THEN
        INSERT INTO idempotent.saga_run AS r (started_at, changed_at, step, state, saga, scope, key, steps, request, answers)
        SELECT moment, moment, 1, 'running', s.name, idempotent_saga_next.scope, idempotent_saga_next.key, s.steps, idempotent_saga_next.request, '{}'
          FROM idempotent.saga AS s WHERE s.name OPERATOR(pg_catalog.=) idempotent_saga_next.name
        -- Nobody is in the way but one whom this transaction's snapshot does not see: 40001.
        ON CONFLICT ON CONSTRAINT saga_run_pkey DO NOTHING
        RETURNING r.* INTO run;
        IF run.saga IS NULL THEN
            RAISE EXCEPTION 'no such saga' USING ERRCODE = '42704', DETAIL = pg_catalog.format('Nobody has defined a saga "%s".', name),
                  HINT = 'Define it: SELECT idempotent_saga(name, steps).';
        END IF;
    ELSIF run.request IS DISTINCT FROM request THEN
        outcome := 'mismatch';
        RETURN;
    END IF;
    IF run.expires_at IS NOT NULL THEN
        outcome := 'replay';
        failed := run.state OPERATOR(pg_catalog.=) 'compensated';
        answers := run.answers;
        failure := run.failure;
        -- Each that is answered takes away two that have expired, so there is nothing to sweep. Not before: a handler may
        -- take long, and whoever calls one of the two would have to wait for it.
        DELETE FROM idempotent.saga_run AS r WHERE r.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
            SELECT e.ctid FROM idempotent.saga_run AS e WHERE e.expires_at OPERATOR(pg_catalog.<=) moment ORDER BY e.expires_at LIMIT 2 FOR UPDATE OF e SKIP LOCKED));
        RETURN;
    END IF;
    state := run.state;
    step := run.step;
    current := run.steps OPERATOR(pg_catalog.->) (run.step OPERATOR(pg_catalog.-) 1);
    argument := pg_catalog.jsonb_build_object('saga', run.saga, 'scope', run.scope, 'key', run.key, 'step', current OPERATOR(pg_catalog.->) 'name',
                                              'request', run.request, 'answers', run.answers);
    IF state OPERATOR(pg_catalog.=) 'running' THEN
        handler := current OPERATOR(pg_catalog.->>) 'handler';
        final := ARRAY(SELECT pg_catalog.jsonb_array_elements_text(current OPERATOR(pg_catalog.->) 'final'))
            OPERATOR(pg_catalog.||) COALESCE((SELECT o.store_failures FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) run.saga), '{}');
    ELSE
        handler := current OPERATOR(pg_catalog.->>) 'compensation';
        argument := argument OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('failure', run.failure,
            'answer', run.answers OPERATOR(pg_catalog.->) (current OPERATOR(pg_catalog.->>) 'name'));
        final := '{}';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent_saga_next(text, text, jsonb, text, interval) IS
'for idempotent_saga_run: what is to be done next, locked until the end of the transaction';

CREATE FUNCTION idempotent_saga_done(
    name    text,
    key     text,
    scope   text,
    state   text,
    step    integer,
    answer  jsonb,
    failure jsonb
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment    CONSTANT timestamptz := pg_catalog.clock_timestamp();
    run       idempotent.saga_run;
    now_at    integer;
    now_is    text := 'running';
    answered  jsonb;
    failed    jsonb;
    kept      interval;
BEGIN
    PERFORM idempotent.saga_check(name, scope);
    SELECT r.* INTO run FROM idempotent.saga_run AS r
     WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_done.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_done.scope
       FOR UPDATE OF r;
    IF run.state IS DISTINCT FROM state OR run.step IS DISTINCT FROM step THEN
        RAISE EXCEPTION 'the saga is not at this step' USING ERRCODE = 'ID007', DETAIL = pg_catalog.format('Saga "%s", step %s.', name, step),
              HINT = 'Call idempotent_saga_run, which does what is next.';
    END IF;
    answered := run.answers;
    failed := run.failure;
    IF state OPERATOR(pg_catalog.=) 'running' AND failure IS NULL THEN
        answered := answered OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(
            run.steps OPERATOR(pg_catalog.->) (step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->>) 'name', answer);
        now_at := step OPERATOR(pg_catalog.+) 1;
        IF now_at OPERATOR(pg_catalog.>) pg_catalog.jsonb_array_length(run.steps) THEN
            now_is := 'completed';
        END IF;
    ELSE
        IF state OPERATOR(pg_catalog.=) 'running' THEN
            failed := pg_catalog.jsonb_build_object('step', run.steps OPERATOR(pg_catalog.->) (step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->) 'name')
                OPERATOR(pg_catalog.||) failure;
        END IF;
        SELECT COALESCE(pg_catalog.max(e.ordinality), 0) INTO now_at
          FROM pg_catalog.jsonb_array_elements(run.steps) WITH ORDINALITY AS e
         WHERE e.ordinality OPERATOR(pg_catalog.<) step AND e.value OPERATOR(pg_catalog.->>) 'compensation' IS NOT NULL;
        now_is := CASE WHEN now_at OPERATOR(pg_catalog.=) 0 THEN 'compensated' ELSE 'compensating' END;
    END IF;
    IF now_is OPERATOR(pg_catalog.=) ANY ('{completed,compensated}'::text[]) THEN
        SELECT CASE WHEN now_is OPERATOR(pg_catalog.=) 'completed' THEN o.retention ELSE o.failure_retention END INTO kept
          FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) run.saga;
        kept := COALESCE(kept, CASE WHEN now_is OPERATOR(pg_catalog.=) 'completed' THEN '24 hours' ELSE '5 minutes' END::interval);
    END IF;
    UPDATE idempotent.saga_run AS r
       SET changed_at = moment, expires_at = moment OPERATOR(pg_catalog.+) kept, step = now_at, state = now_is, answers = answered, failure = failed
     WHERE r.saga OPERATOR(pg_catalog.=) run.saga AND r.key OPERATOR(pg_catalog.=) run.key AND r.scope OPERATOR(pg_catalog.=) run.scope;
END $$;
COMMENT ON FUNCTION idempotent_saga_done(text, text, text, text, integer, jsonb, jsonb) IS
'for idempotent_saga_run: the step is done, in the transaction that did it';

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
    home    pg_catalog.name;
    todo    pg_catalog.record;
    answer  pg_catalog.jsonb;
    error   pg_catalog.jsonb;
    done    pg_catalog.bool := false;
BEGIN
    SELECT n.nspname INTO home FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
     WHERE e.extname OPERATOR(pg_catalog.=) 'pg_idempotent';
    LOOP
        EXECUTE pg_catalog.format('SELECT * FROM %I.idempotent_saga_next($1, $2, $3, $4, $5)', home) INTO todo USING name, key, request, scope, wait;
        EXIT WHEN todo.handler IS NULL;
        error := NULL;
        BEGIN
            EXECUTE pg_catalog.format('SELECT %s($1)', todo.handler) INTO answer USING todo.argument;
        EXCEPTION WHEN OTHERS THEN
            IF (SQLSTATE OPERATOR(pg_catalog.=) ANY (todo.final) OR pg_catalog.substr(SQLSTATE, 1, 2) OPERATOR(pg_catalog.=) ANY (todo.final))
               AND SQLSTATE OPERATOR(pg_catalog.!~) '^(00|08|40|53|57|58|ID|XX|55P03)' THEN
                error := pg_catalog.jsonb_build_object('sqlstate', SQLSTATE, 'message', SQLERRM);
                answer := NULL;
            ELSE
                RAISE;
            END IF;
        END;
        EXECUTE pg_catalog.format('SELECT %I.idempotent_saga_done($1, $2, $3, $4, $5, $6, $7)', home)
          USING name, key, scope, todo.state, todo.step, answer, error;
        done := true;
        COMMIT;
    END LOOP;
    outcome := CASE WHEN done AND todo.outcome OPERATOR(pg_catalog.=) 'replay' THEN 'executed' ELSE todo.outcome END;
    failed := todo.failed;
    answers := todo.answers;
    failure := todo.failure;
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
COMMENT ON COLUMN idempotent.sagas.scope IS 'whose key it is';
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
    idempotent.refuse_transaction_block(),
    idempotent.saga_check(text, text),
    idempotent.saga_lock(text, text, text, interval),
    idempotent_saga_next(text, text, jsonb, text, interval),
    idempotent_saga_done(text, text, text, text, integer, jsonb, jsonb)
FROM PUBLIC;
REVOKE ALL ON PROCEDURE idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb) FROM PUBLIC;
GRANT SELECT ON idempotent.sagas TO pg_monitor;
