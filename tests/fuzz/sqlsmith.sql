-- What sqlsmith sees. It reads the functions there are from a table that it calls pg_proc: with this schema first in its
-- search_path that is a view of ours, and shows the extension's functions beside a few of Postgres' that give them
-- arguments, where the catalog has three thousand. It connects as a superuser and rolls back whatever it does.
CREATE EXTENSION pg_idempotent;
CREATE SCHEMA smith;

CREATE FUNCTION smith.same(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
CREATE FUNCTION smith.declines(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'declined'; END $$;

SELECT idempotent_operation('logged', durability => 'logged', store_failures => '{P0001}'), idempotent_operation('lease', lease => '1 hour');
SELECT idempotent_run(o, 'k1', '1', 'smith.same(jsonb)') FROM unnest('{charge,logged}'::text[]) AS o;
SELECT idempotent_claim('lease', 'k2', '1');
SELECT idempotent_seal('charge', 'sealed');
-- A lease that has lapsed for good.
SELECT idempotent_operation('unsure', lease => '1 us', on_lapse => 'unknown');
SELECT idempotent_claim('unsure', 'k3', '1');

-- Its expressions are columns more often than anything else, chosen by type alone: so any text is a good operation and a good key.
CREATE TABLE smith.named AS SELECT n AS operation, n AS key, n AS scope FROM unnest('{charge,logged,lease,k1,k2,k3,sealed}'::text[]) AS n;
CREATE TABLE smith.argument AS SELECT '{"n": 1}'::jsonb AS request, '{}'::jsonb AS response, interval '30 s' AS lease, interval '0' AS wait,
    now() - interval '1 hour' AS first_sent, 'c0ffee00-0000-4000-8000-000000000000'::uuid AS attempt_id, '\x01'::bytea AS body, 1::bigint AS fence,
    200 AS status, false AS strict, 'smith.same' AS handler, 'pg_monitor'::regrole AS role, '{a}'::text[] AS names, '{1}'::bigint[] AS fences;

-- Calls that mostly succeed, wherever it puts them.
CREATE VIEW smith.claimed AS SELECT n.operation, n.key, r.outcome, r.fence, r.response, r.expires_at FROM smith.named AS n, LATERAL idempotent_claim(n.operation, n.key) AS r;
CREATE VIEW smith.completed AS SELECT n.key, CASE WHEN (idempotent_claim('charge', n.key, wait => '0')).outcome = 'claimed' THEN idempotent_complete('charge', n.key) END AS response FROM smith.named AS n;
CREATE VIEW smith.leased AS SELECT n.key, r.fence, idempotent_extend('leased', n.key, '1 hour', fence => r.fence) AS until FROM smith.named AS n, LATERAL idempotent_claim('leased', n.key, lease => '1 hour') AS r;
CREATE VIEW smith.known AS SELECT n.operation, n.key, r.outcome, r.response, idempotent_explain(n.operation, n.key) AS why FROM smith.named AS n, LATERAL idempotent_replay(n.operation, n.key) AS r;
CREATE VIEW smith.derived AS SELECT n.key, idempotent_request_key(a.request) AS request_key, idempotent_derive_key('charge', n.key, 'mail') AS derived, idempotent_slot(n.key) AS slot, idempotent_shard(n.key, 7) AS shard FROM smith.named AS n, smith.argument AS a;
CREATE VIEW smith.resolved AS SELECT r.outcome, r.response FROM smith.argument AS a, LATERAL idempotent_resolve('unsure', 'k3', 'completed', a.response) AS r;
CREATE VIEW smith.granted AS SELECT a.role, idempotent_grant(a.role)::text AS granted, idempotent_revoke(a.role)::text AS revoked FROM smith.argument AS a;
CREATE VIEW smith.declined AS SELECT n.key, (idempotent_run('logged', n.key || 'f', a.request, 'smith.declines(jsonb)')).response FROM smith.named AS n, smith.argument AS a;
CREATE FUNCTION smith.run(operation text, key text, request jsonb) RETURNS text LANGUAGE sql
    AS $$ SELECT r.outcome FROM idempotent_run(coalesce(operation, 'charge'), coalesce(key, 'k'), request, 'smith.same(jsonb)') AS r $$;
CREATE FUNCTION smith.failed(key text, response jsonb, status integer) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (idempotent_claim('short', coalesce(key, 'k'))).outcome = 'claimed' THEN RETURN idempotent_fail('short', coalesce(key, 'k'), response, status); END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION smith.released(key text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM idempotent_claim('released', coalesce(key, 'k'));
    RETURN idempotent_release('released', coalesce(key, 'k'));
EXCEPTION WHEN SQLSTATE 'ID006' OR SQLSTATE 'ID007' THEN
    RETURN NULL;
END $$;
CREATE FUNCTION smith.kept(key text, request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE granted idempotent_result := idempotent_claim('kept', coalesce(key, 'k'), lease => '1 hour');
BEGIN
    PERFORM idempotent_checkpoint('kept', coalesce(key, 'k'), request, fence => granted.fence);
    RETURN (idempotent_replay('kept', coalesce(key, 'k'))).checkpoint;
END $$;
CREATE FUNCTION smith.served(key text, content_type text, body bytea, status integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE told record;
BEGIN
    SELECT h.run, h.key, h.headers INTO told FROM idempotent_http_claim('served', coalesce(key, 'k'), 'POST', '/', content_type, body) AS h;
    RETURN CASE WHEN told.run THEN idempotent_http_complete('served', told.key, greatest(least(status, 599), 200))::text ELSE told.headers END;
END $$;
CREATE FUNCTION smith.settled(key text) RETURNS text LANGUAGE sql AS $$ SELECT (idempotent_seal('settled', coalesce(key, 'k'))).outcome $$;
CREATE FUNCTION smith.operation(name text, retention interval) RETURNS text LANGUAGE sql
    AS $$ SELECT (idempotent_operation(coalesce(name, 'any'), retention => greatest(retention, '1 s'))).name $$;
CREATE FUNCTION smith.shared(key text, label text, shards integer) RETURNS text LANGUAGE sql
    AS $$ SELECT idempotent_derive_key('charge', coalesce(key, 'k'), coalesce(nullif(label, ''), 'l'))::text || '/' || idempotent_shard(coalesce(key, 'k'), greatest(least(shards, 16384), 1)) $$;

CREATE VIEW smith.forgotten AS SELECT n.key, idempotent_forget(n.operation, n.key) AS forgotten, smith.kept(n.key, '1') AS kept, smith.released(n.key) AS released, smith.settled(n.key) AS settled FROM smith.named AS n;
CREATE VIEW smith.answered AS SELECT n.key, smith.served(n.key, m.media, convert_to(a.request::text, 'UTF8'), a.status) AS headers
    FROM smith.named AS n, smith.argument AS a, unnest('{application/json,application/x-www-form-urlencoded,text/plain}'::text[]) AS m (media);
CREATE VIEW smith.refused AS SELECT n.key, smith.failed(n.key, a.response, a.status) AS response FROM smith.named AS n, smith.argument AS a;

CREATE VIEW smith.received AS SELECT n.operation, n.key, idempotent_first(n.operation, n.key) AS is_new, idempotent_advance(n.operation, n.key, a.fence) AS advanced
    FROM smith.named AS n, smith.argument AS a;
CREATE VIEW smith.received_all AS SELECT n.operation, m.message_id FROM smith.named AS n, smith.argument AS a, LATERAL idempotent_first_of(n.operation, a.names || n.key) AS m (message_id);
CREATE VIEW smith.extended AS SELECT n.operation, l.lost FROM smith.named AS n, smith.argument AS a, LATERAL idempotent_extend_all(n.operation, a.names, a.fences, a.lease) AS l (lost);
CREATE VIEW smith.locked AS SELECT n.operation, l.acquired, l.fence, l.holder, l.expires_at, idempotent_unlock(n.operation, n.key, fence => l.fence) AS unlocked
    FROM smith.named AS n, smith.argument AS a, LATERAL idempotent_lock(n.operation, n.key, a.lease) AS l WHERE l.acquired;
CREATE VIEW smith.administered AS SELECT idempotent_sweep(10) AS swept, idempotent_stats_reset()::text AS reset, (SELECT count(*) FROM idempotent_doctor()) AS findings, idempotent_new_key() AS new_key, idempotent_request_key('{"n": 1}') AS request_key;
-- What is behind the triggers of the settings.
CREATE VIEW smith.configured AS SELECT n.key, idempotent_operation_drop('never configured') AS dropped, idempotent.audited('configure', n.operation, n.key)::text AS audited,
    idempotent.has_run(n.operation) AS has_run, idempotent.still_has(n.operation) AS still_has, idempotent.is_canonical(n.key) AS canonical, idempotent.check_key_form(n.operation, n.key)::text AS formed, idempotent.is_configuring() AS configuring, (SELECT count(*) FROM idempotent.additions()) AS additions, (SELECT count(*) FROM idempotent.damage()) AS damage FROM smith.named AS n;
CREATE VIEW smith.observed AS SELECT idempotent.samples() AS samples;
SELECT idempotent_saga('saga', '[{"name": "a", "handler": "smith.same(jsonb)"}]');
CREATE VIEW smith.sent AS SELECT n.key, idempotent_outbox_put('mail', a.request, n.key) AS message_id FROM smith.named AS n, smith.argument AS a;
CREATE VIEW smith.delivered AS SELECT t.message_id, idempotent_outbox_ack('mail', ARRAY[t.message_id], t.fence) AS gone
    FROM (SELECT idempotent_outbox_put('mail', a.request) AS put FROM smith.argument AS a) AS p, LATERAL idempotent_outbox_take('mail', 1 + (p.put IS NULL)::integer) AS t;
CREATE VIEW smith.given_back AS SELECT t.payload, idempotent_outbox_release('mail', ARRAY[t.message_id], t.fence) AS free
    FROM (SELECT idempotent_outbox_put('mail', a.request) AS put FROM smith.argument AS a) AS p, LATERAL idempotent_outbox_take('mail', 1 + (p.put IS NULL)::integer) AS t;
CREATE VIEW smith.checked AS SELECT n.key, idempotent.check_lease('lease', a.lease, '0')::text AS lease, idempotent.outbox_lock('mail', n.key)::text AS lane,
    idempotent.outbox_held('mail', '{}', a.fence) AS held, idempotent.check_saga_name(n.key)::text AS saga, idempotent.check_saga_step(n.key, a.fence, '{P0001}')::text AS step FROM smith.named AS n, smith.argument AS a;
-- Several nodes: what is asked of slots, and rows that come from another node.
CREATE VIEW smith.slots AS SELECT n.key, idempotent.owns(idempotent_slot(n.key)::smallint) AS ours, idempotent.own_slot(n.key, n.scope) AS slot,
    idempotent.check_slots(int4multirange(int4range(0, idempotent_slot(n.key))))::text AS checked, idempotent.writers() AS writers FROM smith.named AS n;
CREATE VIEW smith.imported AS SELECT e.line, idempotent_import(e.line) AS answer
    FROM (SELECT jsonb_build_object('table', 'record', 'row', to_jsonb(r)) AS line FROM idempotent.record AS r WHERE r.state <> 'e' LIMIT 3) AS e;
CREATE VIEW smith.arrived AS SELECT n.key,
    idempotent.import_lock(ROW(now() + '1 h', now(), 1, 0, n.operation, '', n.key)::idempotent.locks) AS lock,
    idempotent.import_message(jsonb_populate_record(NULL::idempotent.messages, t.moments || jsonb_build_object('consumer', n.operation, 'message_id', n.key))) AS message,
    idempotent.import_outbox_id(jsonb_populate_record(NULL::idempotent.outbox_id, t.moments || jsonb_build_object('topic', n.operation, 'message_id', gen_random_uuid(), 'fingerprint', gen_random_uuid()))) AS id,
    idempotent.import_outbox_message(jsonb_populate_record(NULL::idempotent.outbox_message, t.moments || jsonb_build_object('topic', n.operation, 'message_id', gen_random_uuid(), 'attempt', 0, 'payload', 1)), NULL) AS sent,
    idempotent.import_saga(jsonb_populate_record(NULL::idempotent.saga_run, t.moments || jsonb_build_object('saga', n.operation, 'key', gen_random_uuid(), 'state', 'running', 'step', 1, 'steps', '[]'::jsonb, 'answers', '{}'::jsonb))) AS saga
    FROM smith.named AS n, (SELECT jsonb_build_object('expires_at', now() + '1 h', 'seen_at', now(), 'put_at', now(), 'started_at', now(), 'changed_at', now(), 'slot', 0, 'scope', '') AS moments) AS t;
CREATE VIEW smith.past AS SELECT n.key, idempotent_import(jsonb_build_object('table', 'offsets', 'row', jsonb_build_object('offset', 1, 'advanced_at', now(),
    'slot', idempotent_slot(n.key), 'consumer', n.operation, 'scope', '', 'partition', n.key))) AS answer FROM smith.named AS n;
-- What is behind the doors of the outbox.
CREATE VIEW smith.behind AS SELECT n.key, idempotent.outbox_fingerprint('mail', a.request)::text AS fingerprint, idempotent.outbox_is_same('mail', a.request, gen_random_uuid()) AS is_same,
    idempotent.outbox_check_date('mail', gen_random_uuid())::text AS dated, idempotent.outbox_expires('mail', gen_random_uuid())::text AS expires,
    idempotent.outbox_count('mail', 'claimed', 1)::text AS counted, idempotent.outbox_wait('mail', 1, true)::text AS waited,
    idempotent.outbox_is_new('mail', gen_random_uuid(), n.key, a.request, '', idempotent_slot(n.key)::smallint)::text AS is_new,
    idempotent.outbox_put('mail', a.request, n.key, gen_random_uuid(), '')::text AS put FROM smith.named AS n, smith.argument AS a;
CREATE VIEW smith.emptied AS SELECT n.key, idempotent.outbox_bury('mail', '{}')::text AS buried, idempotent.outbox_ack('mail', '{}', 1) AS gone,
    idempotent.outbox_release('mail', '{}', 1, '0') AS free, idempotent.outbox_redrive('mail', '{}') AS again, idempotent_outbox_redrive('mail', '{}') AS sent_again
    FROM smith.named AS n;
CREATE VIEW smith.defined AS SELECT (idempotent_saga('saga', '[{"name": "a", "handler": "smith.same(jsonb)"}]')).defined_at, idempotent.saga_steps('[{"name": "a", "handler": "smith.same(jsonb)"}]') AS steps, idempotent.saga_handler('smith.same(jsonb)', 1) AS handler;
CREATE VIEW smith.taken_back AS SELECT n.key, idempotent_forget_message(n.operation, n.key) AS message, idempotent_rewind(n.operation, n.key, a.fence - 1) AS rewound,
    idempotent_forget_offset(n.operation, n.key) AS removed FROM smith.named AS n, smith.argument AS a;
CREATE VIEW smith.received_free AS SELECT n.operation, m.message_id, m.held FROM smith.named AS n, smith.argument AS a, LATERAL idempotent_first_skip_held(n.operation, a.names || n.key) AS m;
CREATE VIEW smith.erased AS SELECT n.scope, f.forgotten, f.held FROM smith.named AS n, LATERAL idempotent_forget_scope(n.scope) AS f;
CREATE VIEW smith.exported AS SELECT n.scope, e.e AS exported, b.e AS behind FROM smith.named AS n, LATERAL idempotent_export_scope(n.scope) AS e (e), LATERAL idempotent.export_scope(n.scope) AS b (e);
-- A saga that stands, of a name that sqlsmith never finishes; each view rolls back what it does.
SELECT idempotent_saga('stands', '[{"name": "a", "handler": "smith.same(jsonb)", "compensation": "smith.same(jsonb)"}, {"name": "b", "handler": "smith.same(jsonb)"}]');
SELECT idempotent_saga_step('stands', 'k', '1');
CREATE VIEW smith.stepped AS SELECT n.key, s.more, s.outcome, s.state FROM smith.named AS n, LATERAL idempotent_saga_step('stands', n.key, '1') AS s;
CREATE VIEW smith.seen AS SELECT e.step, e.step_state, e.answer, b.request FROM idempotent_saga_explain('stands', 'k') AS e, LATERAL idempotent.saga_explain('stands', 'k', '') AS b;
CREATE VIEW smith.resumed AS SELECT s.more, s.state, s.next_step FROM idempotent_saga_resume('stands', 'k', wait => '0') AS s;
CREATE VIEW smith.given_up AS SELECT s.state, s.next_step FROM idempotent_saga_abandon('stands', 'k') AS s;
CREATE VIEW smith.decided AS SELECT s.state, s.next_step FROM idempotent_saga_settle('stands', 'k', 'b', 'completed') AS s;
CREATE VIEW smith.dropped AS SELECT n.key, idempotent_saga_forget('stands', n.key, unfinished => true) AS forgotten FROM smith.named AS n;

CREATE VIEW smith.pg_proc AS
SELECT p.* FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = 'smith'::regnamespace AND p.proname <> 'declines'
   OR p.oid IN (SELECT d.objid FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
                WHERE e.extname = 'pg_idempotent' AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e') AND p.prokind = 'f'
   OR p.pronamespace = 'pg_catalog'::regnamespace
      AND p.proname = ANY ('{lower,md5,length,to_jsonb,jsonb_strip_nulls,clock_timestamp,abs,gen_random_uuid,max,count,jsonb_agg}'::name[])
      AND p.prorettype <> 'anyelement'::regtype AND p.pronargs < 2;
-- Half of its mistakes are operators of ranges, of which there are only multiranges here; the server is thrown away afterwards.
DELETE FROM pg_catalog.pg_operator WHERE 'anyrange'::regtype IN (oprleft, oprright);
