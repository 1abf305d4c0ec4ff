-- The application of application.sql with a lease: the routes are procedures, which commit the claim before the work, and the work before its answer.
SELECT name FROM idempotent_operation('conformance', lease => '30 seconds');

CREATE PROCEDURE http_leased(work text, body bytea, INOUT status integer, INOUT headers text, INOUT answer bytea) LANGUAGE plpgsql AS $$
DECLARE
    scope text := coalesce(http_header('X-Tenant'), '');
    told record;
    id bigint;
BEGIN
    SELECT h.run, h.key, h.fence, h.status, h.headers, h.body INTO told
      FROM idempotent_http_claim('conformance', http_header('Idempotency-Key'), current_setting('request.method'), current_setting('request.target'),
                                 http_header('Content-Type'), http_leased.body, scope, wait => make_interval(secs => 0)) AS h;
    COMMIT;
    IF NOT told.run THEN
        status := told.status;
        headers := told.headers;
        answer := told.body;
        RETURN;
    END IF;
    -- As an effect elsewhere: whatever becomes of the work, it is there.
    id := http_effect();
    COMMIT;
    BEGIN
        EXECUTE format('SELECT %s($1, $2)', work) INTO answer USING http_leased.body, id;
        status := current_setting('response.status');
        headers := current_setting('response.headers');
    EXCEPTION WHEN OTHERS THEN
        status := 500;
        headers := '[]';
        answer := convert_to(SQLSTATE, 'UTF8');
    END;
    COMMIT;
    PERFORM idempotent_http_complete('conformance', told.key, status, headers, answer, scope, told.fence);
END $$;

CREATE PROCEDURE http_optional(body bytea, INOUT status integer, INOUT headers text, INOUT answer bytea) LANGUAGE plpgsql AS $$
BEGIN
    IF http_header('Idempotency-Key') IS NOT NULL THEN
        CALL http_leased('work_pay', body, status, headers, answer);
    ELSE
        answer := work_pay(body, http_effect());
        status := current_setting('response.status');
        headers := current_setting('response.headers');
    END IF;
END $$;

DO $$
DECLARE
    route record;
BEGIN
    FOR route IN VALUES ('pay', 'http_leased(''work_pay'', '), ('refund', 'http_leased(''work_pay'', '), ('optional', 'http_optional('), ('echo', 'http_leased(''work_echo'', '),
                        ('status', 'http_leased(''work_status'', '), ('large', 'http_leased(''work_large'', '), ('raise', 'http_leased(''work_raise'', '),
                        ('held', 'http_leased(''work_held'', ') LOOP
        EXECUTE format('DROP FUNCTION http_api.%I', route.column1);
        EXECUTE format('CREATE PROCEDURE http_api.%I(body bytea, INOUT status integer, INOUT headers text, INOUT answer bytea) LANGUAGE plpgsql AS %L',
                       route.column1, format('BEGIN CALL %s body, status, headers, answer); END', route.column2));
    END LOOP;
END $$;
