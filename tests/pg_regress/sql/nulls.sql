-- NULL in each argument of each function: what is said is what the contract says, and nothing worse.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
DROP ROLE IF EXISTS regress_idempotent_nulls;
CREATE ROLE regress_idempotent_nulls;
CREATE FUNCTION nulls_handler(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SELECT name FROM idempotent_operation('nulls');
-- Each call is sound but for one argument that is null, and is undone afterwards.
DO $$
DECLARE
    call record;
    argument text;
    all_arguments text;
    fence bigint;
    answer text;
BEGIN
    FOR call IN SELECT f, prelude, arguments FROM (VALUES
        ('idempotent_claim', NULL, '{operation,''nulls'',key,''k'',request,''1'',scope,''s'',lease,''1 hour'',wait,''0'',first_sent,now(),attempt_id,''00000000-0000-0000-0000-000000000001'',fingerprint,''\\x01'',strict,true}'::text[]),
        ('idempotent_complete', 'transaction', '{operation,''nulls'',key,''k'',response,''1'',status,200,scope,''s'',headers,''1'',body,''\\x01'',retention,''1 day''}'),
        ('idempotent_complete', 'lease', '{operation,''nulls'',key,''k'',response,''1'',status,200,scope,''s'',fence,FENCE,headers,''1'',body,''\\x01'',retention,''1 day''}'),
        ('idempotent_fail', 'transaction', '{operation,''nulls'',key,''k'',response,''1'',status,200,scope,''s'',headers,''1'',body,''\\x01'',retention,''1 day''}'),
        ('idempotent_fail', 'lease', '{operation,''nulls'',key,''k'',response,''1'',status,200,scope,''s'',fence,FENCE,headers,''1'',body,''\\x01'',retention,''1 day''}'),
        ('idempotent_release', 'transaction', '{operation,''nulls'',key,''k'',scope,''s''}'),
        ('idempotent_release', 'lease', '{operation,''nulls'',key,''k'',scope,''s'',fence,FENCE}'),
        ('idempotent_extend', 'lease', '{operation,''nulls'',key,''k'',lease,''1 hour'',scope,''s'',fence,FENCE}'),
        ('idempotent_extend_all', 'lease', '{operation,''nulls'',keys,"''{k,lost}''",fences,"ARRAY[FENCE::bigint, 7]",lease,''1 hour'',scope,''s''}'),
        ('idempotent_forget_all', NULL, '{operation,''nulls''}'),
        ('idempotent_checkpoint', 'lease', '{operation,''nulls'',key,''k'',checkpoint,''1'',scope,''s'',fence,FENCE}'),
        ('idempotent_replay', NULL, '{operation,''nulls'',key,''k'',scope,''s''}'),
        ('idempotent_run', NULL, '{operation,''nulls'',key,''k'',request,''1'',handler,''nulls_handler(jsonb)'',scope,''s'',wait,''0'',first_sent,now(),strict,true}'),
        ('idempotent_operation', NULL, '{name,''nulls'',retention,''1 day'',failure_retention,''1 day'',response_retention,''1 day'',lease,''1 day'',wait,''1 day'',durability,''unlogged'',on_lapse,''retry'',max_response_bytes,1,scope_required,true,fingerprint_exclude,"''{a}''",store_failures,"''{23}''",after_reset,''unknown'',mode,''enforce'',key_dates,''use'',role,''regress_idempotent_nulls'',http_store,"''{409=fail}''",http_headers,"''{-ETag}''",key_form,''text''}'),
        ('idempotent_http_claim', NULL, '{operation,''nulls'',key_header,''k'',method,''POST'',target,''/'',content_type,''text/plain'',body,''\\x01'',scope,''s'',lease,''1 hour'',wait,''0''}'),
        ('idempotent_http_complete', 'transaction', '{operation,''nulls'',key,''k'',status,200,headers,''[]'',body,''\\x01'',scope,''s''}'),
        ('idempotent_http_complete', 'lease', '{operation,''nulls'',key,''k'',status,200,headers,''[]'',body,''\\x01'',scope,''s'',fence,FENCE}'),
        ('idempotent_explain', NULL, '{operation,''nulls'',key,''k'',scope,''s''}'),
        ('idempotent_new_key', NULL, '{at,now()}'),
        ('idempotent_request_key', NULL, '{request,''1''}'),
        ('idempotent_derive_key', NULL, '{operation,''nulls'',key,''k'',label,''l'',scope,''s''}'),
        ('idempotent_slot', NULL, '{key,''k'',scope,''s''}'),
        ('idempotent_shard', NULL, '{key,''k'',shards,7,scope,''s''}'),
        ('idempotent_grant', NULL, '{role,''regress_idempotent_nulls''}'),
        ('idempotent_revoke', NULL, '{role,''regress_idempotent_nulls''}')
        ) AS calls (f, prelude, arguments)
    LOOP
        -- first all of them given, then each of them null
        FOR i IN -1 .. array_length(call.arguments, 1) - 1 BY 2 LOOP
            argument := CASE WHEN i < 0 THEN '(none)' ELSE call.arguments[i] END;
            SELECT string_agg(call.arguments[n] || ' => ' || CASE WHEN n = i THEN 'NULL' ELSE call.arguments[n + 1] END, ', ' ORDER BY n) INTO all_arguments
            FROM generate_series(1, array_length(call.arguments, 1) - 1, 2) AS n;
            BEGIN
                fence := NULL;
                IF call.prelude IS NOT NULL THEN
                    SELECT c.fence INTO fence FROM idempotent_claim('nulls', 'k', scope => 's', lease => CASE call.prelude WHEN 'lease' THEN interval '1 hour' END) AS c;
                END IF;
                EXECUTE format('SELECT CASE WHEN (r.a) IS NULL THEN ''null'' ELSE ''fine'' END FROM (SELECT %s(%s) AS a) AS r', call.f, replace(all_arguments, 'FENCE', coalesce(fence::text, 'NULL'))) INTO answer;
                RAISE EXCEPTION SQLSTATE '00UND' USING MESSAGE = answer;
            EXCEPTION
                WHEN SQLSTATE '00UND' THEN answer := sqlerrm;
                WHEN OTHERS THEN answer := sqlstate || ' ' || sqlerrm;
            END;
            -- a composite answer with a null in it counts as not null and not not null
            RAISE INFO '% (%), % null: %', call.f, coalesce(call.prelude, '-'), argument, answer;
        END LOOP;
    END LOOP;
END $$;
-- nothing was left behind
SELECT count(*) FROM idempotent.record WHERE operation = 'nulls';
SELECT * FROM idempotent.operation WHERE name = 'nulls';

-- a null scope, key or operation is never taken for an empty one or for another's
SELECT outcome FROM idempotent_replay('nulls', 'k', NULL);
\echo :LAST_ERROR_SQLSTATE
-- null wait: the default; null strict: not strict
SELECT outcome FROM idempotent_claim('nulls', 'k', '1', lease => '1 hour', wait => NULL, strict => NULL);
SELECT outcome FROM idempotent_claim('nulls', 'k', '2', wait => NULL, strict => NULL);
DROP FUNCTION nulls_handler(jsonb);
DROP ROLE regress_idempotent_nulls;
