-- The application of clients/conformance, in SQL alone: each route is a function of the request's body.
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
CREATE SCHEMA http_api;
CREATE TABLE conformance_effect (id bigint GENERATED ALWAYS AS IDENTITY, "case" text NOT NULL);
CREATE TABLE conformance_gate (gate text PRIMARY KEY);
SELECT name FROM idempotent_operation('conformance', max_response_bytes => 100000);

-- What the server tells of a request, and what it is to send.
CREATE FUNCTION http_header(name text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT current_setting('request.headers')::json ->> lower(name)
$$;
CREATE FUNCTION http_argument(name text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT substring(current_setting('request.target') FROM '[?&]' || name || '=([^&]*)')
$$;
CREATE FUNCTION http_send(status integer, headers text, body bytea) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('response.status', status::text, true), set_config('response.headers', headers, true);
    RETURN body;
END $$;

CREATE FUNCTION http_effect() RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO conformance_effect ("case") VALUES (coalesce(http_header('X-Case'), '')) RETURNING id
$$;

-- The two calls around a route: `work` is a function that does it, told its effect, and sends.
CREATE FUNCTION http_once(work text, body bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    scope text := coalesce(http_header('X-Tenant'), '');
    told record;
    answer bytea;
BEGIN
    SELECT h.run, h.key, h.status, h.headers, h.body INTO told
      FROM idempotent_http_claim('conformance', http_header('Idempotency-Key'), current_setting('request.method'), current_setting('request.target'),
                                 http_header('Content-Type'), http_once.body, scope, wait => make_interval(secs => 0)) AS h;
    IF NOT told.run THEN
        RETURN http_send(told.status, told.headers, told.body);
    END IF;
    EXECUTE format('SELECT %s($1, $2)', work) INTO answer USING http_once.body, http_effect();
    PERFORM idempotent_http_complete('conformance', told.key, current_setting('response.status')::integer, current_setting('response.headers'), answer, scope);
    RETURN answer;
END $$;

CREATE FUNCTION http_paid(id bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT http_send(201, json_build_array(json_build_array('Content-Type', 'application/json'), json_build_array('Location', '/pay/' || id),
                                           json_build_array('ETag', '"' || id || '"'), json_build_array('Set-Cookie', 'session=' || id),
                                           json_build_array('X-Request-Id', id::text))::text,
                     convert_to(json_build_object('payment', id)::text, 'UTF8'))
$$;

CREATE FUNCTION work_pay(body bytea, id bigint) RETURNS bytea LANGUAGE sql AS $$ SELECT http_paid(id) $$;
CREATE FUNCTION work_echo(body bytea, id bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT http_send(200, json_build_array(json_build_array('Content-Type', coalesce(http_header('Content-Type'), 'application/octet-stream')))::text, body)
$$;
CREATE FUNCTION work_status(body bytea, id bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT http_send(s.code, CASE WHEN s.code IN (429, 503) THEN '[["Retry-After","1"],' ELSE '[' END || format('["Content-Type","application/json"],["ETag","\"%s\""]]', id),
                     CASE WHEN s.code IN (204, 304) THEN '' ELSE convert_to(json_build_object('effect', id)::text, 'UTF8') END)
      FROM CAST(http_argument('code') AS integer) AS s (code)
$$;
CREATE FUNCTION work_large(body bytea, id bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT http_send(200, format('[["Content-Type","text/plain"],["ETag","\"%s\""]]', id), convert_to(repeat('x', http_argument('bytes')::integer), 'UTF8'))
$$;
CREATE FUNCTION work_raise(body bytea, id bigint) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'as the suite wants it'; END $$;
CREATE FUNCTION work_conflict(body bytea, id bigint) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('request.try')::integer <= http_argument('times')::integer THEN
        RAISE EXCEPTION 'as the suite wants it' USING ERRCODE = '40001';
    END IF;
    RETURN http_paid(id);
END $$;
CREATE FUNCTION gate_lock(gate text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT hashtext(gate) $$;
CREATE FUNCTION work_held(body bytea, id bigint) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    -- A lock is what others see of a transaction that has not committed.
    PERFORM pg_advisory_xact_lock_shared(1, gate_lock(http_argument('gate')));
    FOR turn IN 1..3000 LOOP
        EXIT WHEN EXISTS (SELECT FROM conformance_gate AS g WHERE g.gate = http_argument('gate'));
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN http_paid(id);
END $$;

CREATE FUNCTION http_api.pay(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_pay', body) $$;
CREATE FUNCTION http_api.refund(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_pay', body) $$;
CREATE FUNCTION http_api.optional(body bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT CASE WHEN http_header('Idempotency-Key') IS NULL THEN work_pay(body, http_effect()) ELSE http_once('work_pay', body) END
$$;
CREATE FUNCTION http_api.echo(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_echo', body) $$;
CREATE FUNCTION http_api.status(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_status', body) $$;
CREATE FUNCTION http_api.large(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_large', body) $$;
CREATE FUNCTION http_api.raise(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_raise', body) $$;
CREATE FUNCTION http_api.conflict(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_conflict', body) $$;
CREATE FUNCTION http_api.held(body bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT http_once('work_held', body) $$;

CREATE FUNCTION http_api.gate(body bytea) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('request.method') = 'POST' THEN
        INSERT INTO conformance_gate (gate) VALUES (http_argument('gate'));
        RETURN http_send(204, '[]', '');
    END IF;
    FOR turn IN 1..3000 LOOP
        IF EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.classid = 1 AND l.objsubid = 2 AND l.objid = gate_lock(http_argument('gate'))::bit(32)::bigint::oid) THEN
            RETURN http_send(204, '[]', '');
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN http_send(504, '[]', '');
END $$;
CREATE FUNCTION http_api.effects(body bytea) RETURNS bytea LANGUAGE sql AS $$
    SELECT http_send(200, '[["Content-Type","application/json"]]', convert_to(count(*)::text, 'UTF8')) FROM conformance_effect AS e WHERE e."case" = http_argument('case')
$$;
