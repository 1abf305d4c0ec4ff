-- What Postgres itself thinks of two requests, and what the extension does. The oracle knows nothing of pointers:
-- paths come as arrays of names.
CREATE SCHEMA fuzz;
CREATE TABLE fuzz.kept (doc jsonb);

-- Without what a path leads to: a member, or, by *, every element of an array.
CREATE FUNCTION fuzz.without(doc jsonb, path text[]) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE rest text[] := path[2:];
BEGIN
    IF jsonb_typeof(doc) = 'object' AND doc ? path[1] THEN
        IF cardinality(rest) = 0 THEN RETURN doc - path[1]; END IF;
        RETURN doc || jsonb_build_object(path[1], fuzz.without(doc -> path[1], rest));
    ELSIF jsonb_typeof(doc) = 'array' AND path[1] = '*' THEN
        IF cardinality(rest) = 0 THEN RETURN '[]'; END IF;
        RETURN (SELECT coalesce(jsonb_agg(fuzz.without(element, rest) ORDER BY at), '[]')
                  FROM jsonb_array_elements(doc) WITH ORDINALITY AS e(element, at));
    END IF;
    RETURN doc;
END $$;

CREATE FUNCTION fuzz.pruned(doc jsonb, paths jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE path jsonb;
BEGIN
    FOR path IN SELECT jsonb_array_elements(paths) LOOP
        doc := fuzz.without(doc, ARRAY(SELECT jsonb_array_elements_text(path)));
    END LOOP;
    RETURN doc;
END $$;

-- Stores one request, asks with another, forgets both. The key of what lies in a table, short or compressed or out of
-- line, is that of what was typed.
CREATE FUNCTION fuzz.judge(a jsonb, b jsonb, paths jsonb, entries text[],
    OUT equal boolean, OUT pruned_equal boolean, OUT key_a text, OUT key_b text, OUT kept_key text, OUT outcome text, OUT own text)
LANGUAGE plpgsql AS $$
BEGIN
    equal := a = b;
    pruned_equal := fuzz.pruned(a, paths) = fuzz.pruned(b, paths);
    key_a := idempotent_request_key(a);
    key_b := idempotent_request_key(b);
    BEGIN
        INSERT INTO fuzz.kept VALUES (a);
        SELECT idempotent_request_key(doc) INTO kept_key FROM fuzz.kept;
        PERFORM idempotent_operation('doc', fingerprint_exclude => entries);
        PERFORM idempotent_claim('doc', 'k', (SELECT doc FROM fuzz.kept));
        PERFORM idempotent_complete('doc', 'k');
        SELECT r.outcome INTO outcome FROM idempotent_claim('doc', 'k', b) AS r;
        SELECT r.outcome INTO own FROM idempotent_claim('doc', 'k', a) AS r;
        RAISE EXCEPTION SQLSTATE '00UND';
    EXCEPTION WHEN SQLSTATE '00UND' THEN
        NULL;
    END;
END $$;
