-- All that is kept of one owner: for those that ask what is known of them, or to be forgotten. No index leads to it, so the tables are
-- read as a whole. The owner of a message is its scope, and that of one without a scope is its key.

CREATE FUNCTION idempotent.export_scope(scope text) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000 AS $$
BEGIN
    RETURN QUERY
    SELECT jsonb_build_object('table', 'record', 'row', to_jsonb(r)) FROM idempotent.record AS r WHERE r.scope = export_scope.scope
    UNION ALL
    SELECT jsonb_build_object('table', 'record_logged', 'row', to_jsonb(r)) FROM idempotent.record_logged AS r WHERE r.scope = export_scope.scope
    UNION ALL
    SELECT jsonb_build_object('table', 'asked', 'row', to_jsonb(r)) FROM idempotent.asked AS r WHERE r.scope = export_scope.scope
    UNION ALL
    SELECT jsonb_build_object('table', 'messages', 'row', to_jsonb(r)) FROM idempotent.messages AS r WHERE r.scope = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'offsets', 'row', to_jsonb(r)) FROM idempotent.offsets AS r WHERE r.scope = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'locks', 'row', to_jsonb(r)) FROM idempotent.locks AS r WHERE r.scope = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'saga_run', 'row', to_jsonb(r)) FROM idempotent.saga_run AS r WHERE r.scope = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'outbox_message', 'row', to_jsonb(r)) FROM idempotent.outbox_message AS r
     WHERE r.scope = export_scope.scope COLLATE "C" OR r.scope = '' AND r.key = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'outbox_dead', 'row', to_jsonb(r)) FROM idempotent.outbox_dead AS r
     WHERE r.scope = export_scope.scope COLLATE "C" OR r.scope = '' AND r.key = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'outbox_id', 'row', to_jsonb(r)) FROM idempotent.outbox_id AS r
     WHERE r.scope = export_scope.scope COLLATE "C" OR r.scope = '' AND r.key = export_scope.scope COLLATE "C"
    UNION ALL
    SELECT jsonb_build_object('table', 'audit', 'row', to_jsonb(r)) FROM idempotent.audit AS r WHERE r.scope = export_scope.scope;
END $$;
COMMENT ON FUNCTION idempotent.export_scope(text) IS 'behind idempotent_export_scope()';

CREATE FUNCTION idempotent_export_scope(scope text) RETURNS SETOF jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'idempotent_export_scope';
COMMENT ON FUNCTION idempotent_export_scope(text) IS
'all that is kept of a scope, a row each, with the name of its table';

CREATE FUNCTION idempotent_forget_scope(
    scope         text,
    OUT forgotten bigint,
    OUT held      bigint
) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_forget_scope';
COMMENT ON FUNCTION idempotent_forget_scope(text) IS
'delete all that is kept of a scope but what is held: leases and locks that last, sagas that are not finished, rows that a transaction has locked';

REVOKE ALL ON FUNCTION idempotent.export_scope(text), idempotent_export_scope(text), idempotent_forget_scope(text) FROM PUBLIC;
