-- Sagas, their definition: the steps, in order, each with the handler that does it and the one that undoes it.

CREATE TABLE idempotent.saga (
    name       text COLLATE "C" PRIMARY KEY,
    steps      jsonb NOT NULL,
    defined_at timestamptz NOT NULL
) USING heap;
COMMENT ON TABLE idempotent.saga IS 'the steps of each saga; change them with idempotent_saga()';
COMMENT ON COLUMN idempotent.saga.name IS 'the saga, 1 to 255 bytes; an operation of this name says how long its answers are kept';
COMMENT ON COLUMN idempotent.saga.steps IS 'an array of objects with name, handler, compensation and final';
COMMENT ON COLUMN idempotent.saga.defined_at IS 'when it was defined last';

-- Part of a dump, as settings are.
SELECT pg_catalog.pg_extension_config_dump('idempotent.saga', '');

-- The rules are the library's: names are those of operations, and what may be final is what store_failures may hold.
CREATE FUNCTION idempotent.check_saga_name(name text) RETURNS void
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_check_saga_name';
COMMENT ON FUNCTION idempotent.check_saga_name(text) IS 'raises ID006 if a saga cannot have this name';

CREATE FUNCTION idempotent.check_saga_step(name text, number bigint, finals text[]) RETURNS void
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_check_saga_step';
COMMENT ON FUNCTION idempotent.check_saga_step(text, bigint, text[]) IS 'raises ID006 if a step cannot have this name, and 22023 if an error cannot be its final failure';

CREATE FUNCTION idempotent.saga_steps(steps jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   jsonb := '[]';
    names   text[] := '{}';
    element jsonb;
    member  text;
    number  bigint;
    final   jsonb;
BEGIN
    IF steps IS NULL OR pg_catalog.jsonb_typeof(steps) <> 'array'
       OR pg_catalog.jsonb_array_length(steps) = 0 OR pg_catalog.jsonb_array_length(steps) > 100 THEN
        RAISE EXCEPTION 'steps must be an array of 1 to 100 objects'
            USING ERRCODE = '22023', HINT = 'Pass e.g. ''[{"name": "reserve", "handler": "shop.reserve(jsonb)", "compensation": "shop.unreserve(jsonb)"}]''.';
    END IF;
    FOR element, number IN SELECT e.value, e.ordinality FROM pg_catalog.jsonb_array_elements(steps) WITH ORDINALITY AS e LOOP
        IF pg_catalog.jsonb_typeof(element) <> 'object' THEN
            RAISE EXCEPTION 'step % is not an object', number
                USING ERRCODE = '22023', HINT = 'Each step is an object with name and handler, and perhaps compensation and final.';
        END IF;
        FOR member IN SELECT k FROM pg_catalog.jsonb_object_keys(element) AS k LOOP
            IF member <> ALL ('{name,handler,compensation,final}'::text[]) THEN
                RAISE EXCEPTION 'step % has an unknown field', number
                    USING ERRCODE = '22023', DETAIL = pg_catalog.format('Field "%s".', member), HINT = 'A step has name, handler, compensation and final.';
            END IF;
        END LOOP;
        PERFORM idempotent.check_saga_step(element ->> 'name', number, '{}');
        IF (element ->> 'name') = ANY (names) THEN
            RAISE EXCEPTION 'two steps have the same name'
                USING ERRCODE = '22023', DETAIL = pg_catalog.format('Both are called "%s".', element ->> 'name'),
                      HINT = 'Answers are told apart by the names of their steps.';
        END IF;
        final := COALESCE(element -> 'final', '[]');
        names := names || (element ->> 'name');
        IF pg_catalog.jsonb_typeof(final) <> 'array' THEN
            RAISE EXCEPTION 'final of step % must be an array', number
                USING ERRCODE = '22023', HINT = 'Pass SQLSTATEs or classes of them, e.g. "final": ["P0001", "23"].';
        END IF;
        PERFORM idempotent.check_saga_step(element ->> 'name', number, ARRAY(SELECT pg_catalog.jsonb_array_elements_text(final)));
        found := found || pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
            'name', element -> 'name',
            'handler', idempotent.saga_handler(element ->> 'handler', number),
            'compensation', CASE WHEN element ->> 'compensation' IS NOT NULL
                                 THEN idempotent.saga_handler(element ->> 'compensation', number) END,
            'final', final));
    END LOOP;
    RETURN found;
END $$;
COMMENT ON FUNCTION idempotent.saga_steps(jsonb) IS 'the steps of a saga, checked, with the full names of their handlers';

CREATE FUNCTION idempotent.saga_handler(named text, number bigint) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found     oid;
    full_name text;
BEGIN
    BEGIN
        found := pg_catalog.to_regprocedure(named);
    EXCEPTION WHEN syntax_error_or_access_rule_violation OR invalid_text_representation OR invalid_schema_name OR feature_not_supported OR too_many_arguments THEN
        found := NULL;  -- not the name of a function
    END;
    SELECT pg_catalog.format('%I.%I', n.nspname, p.proname) INTO full_name
      FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
     WHERE p.oid = found AND p.prokind = 'f'::"char" AND NOT p.proretset
       AND p.prorettype = 'pg_catalog.jsonb'::regtype::oid
       AND p.proargtypes = ARRAY['pg_catalog.jsonb'::regtype::oid]::oidvector;
    IF named IS NULL THEN
        RAISE EXCEPTION 'step % has no handler', number
            USING ERRCODE = '22023', HINT = 'Name it with its schema and its argument, e.g. "handler": "shop.reserve(jsonb)".';
    ELSIF full_name IS NULL THEN
        RAISE EXCEPTION 'step % has no such handler', number
            USING ERRCODE = '42883', DETAIL = pg_catalog.format('There is no function %s that takes and returns jsonb. The search_path does not count here.', named),
                  HINT = 'Name it with its schema and its argument, e.g. "shop.reserve(jsonb)".';
    END IF;
    RETURN full_name;
END $$;
COMMENT ON FUNCTION idempotent.saga_handler(text, bigint) IS 'the full name of a handler; raises 42883 if there is no such function';

CREATE FUNCTION idempotent_saga(name text, steps jsonb) RETURNS idempotent.saga
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    defined idempotent.saga;
BEGIN
    PERFORM idempotent.check_saga_name(name);
    INSERT INTO idempotent.saga AS s (name, steps, defined_at)
    VALUES (idempotent_saga.name, idempotent.saga_steps(idempotent_saga.steps), pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT saga_pkey DO UPDATE SET steps = EXCLUDED.steps, defined_at = EXCLUDED.defined_at
    RETURNING s.* INTO defined;
    RETURN defined;
END $$;
COMMENT ON FUNCTION idempotent_saga(text, jsonb) IS
'define a saga, or define it anew; what has started goes on with the steps that it started with';

REVOKE ALL ON FUNCTION
    idempotent.check_saga_name(text),
    idempotent.check_saga_step(text, bigint, text[]),
    idempotent.saga_handler(text, bigint),
    idempotent.saga_steps(jsonb),
    idempotent_saga(text, jsonb)
FROM PUBLIC;
