-- What is done to the records by hand. The library writes them past the executor, which fires no trigger, and its functions for
-- administrators say that they are at work.

CREATE FUNCTION idempotent.record_deleted() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    IF idempotent.is_configuring() THEN
        RETURN NULL;
    END IF;
    -- Keys that date themselves are unknown from now on, and not new. The log tells its lines apart by their time.
    INSERT INTO idempotent.reset (durability, noticed_at, reset_at, operation)
    SELECT CASE TG_TABLE_NAME WHEN 'record' THEN 'unlogged' ELSE 'logged' END,
           moment + row_number() OVER () * interval '1 microsecond', moment, g.operation
      FROM (SELECT DISTINCT r.operation FROM gone AS r WHERE r.state <> 'e' AND r.expires_at > moment) AS g;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION idempotent.record_deleted() IS 'notes which operations lose records by DELETE';

CREATE TRIGGER record_deleted
    AFTER DELETE ON idempotent.record REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
CREATE TRIGGER record_deleted
    AFTER DELETE ON idempotent.record_logged REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
COMMENT ON TRIGGER record_deleted ON idempotent.record IS 'what DELETE takes is a loss';
COMMENT ON TRIGGER record_deleted ON idempotent.record_logged IS 'what DELETE takes is a loss';

CREATE TRIGGER record_changed
    AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed();
CREATE TRIGGER record_changed
    AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record_logged
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed();
COMMENT ON TRIGGER record_changed ON idempotent.record IS 'sessions remember that the table has lost nothing';
COMMENT ON TRIGGER record_changed ON idempotent.record_logged IS 'sessions remember that the table has lost nothing';

CREATE FUNCTION idempotent.additions() RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH ours AS (
        SELECT c.oid, c.relname, c.relrowsecurity FROM pg_class AS c
         WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = 'r'
           AND EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ),
    known (name) AS (VALUES
        ('record_pkey'), ('record_sweep_at_idx'), ('record_logged_pkey'), ('record_logged_sweep_at_idx'),
        ('messages_expires_at_idx'), ('locks_expires_at_idx'), ('audit_expires_at_idx'), ('asked_expires_at_idx'),
        ('operation_durability'), ('operation_on_lapse'), ('operation_after_reset'), ('operation_mode'), ('operation_key_dates'),
        ('operation_max_response_bytes'), ('operation_max_attempts'),
        ('operation_changed'), ('operation_checked'), ('operation_truncated'), ('operation_row_changed'), ('operation_audited'),
        ('retention_ended'), ('earlier_retention_changed'), ('exclusion_kept'), ('exclusion_changed'), ('record_deleted'), ('record_changed'),
        ('go_on'), ('forget_message'), ('forget_dead'), ('own_by_hand'), ('own_truncated'), ('own_changed')),
    added (what) AS (
        SELECT format('index %I on %I', i.relname, o.relname) FROM ours AS o JOIN pg_index AS x ON x.indrelid = o.oid JOIN pg_class AS i ON i.oid = x.indexrelid
         WHERE i.relname NOT IN (SELECT k.name FROM known AS k) AND NOT x.indisprimary
           AND o.relname IN ('record', 'record_logged', 'messages', 'locks', 'audit', 'asked')
        UNION ALL
        SELECT format('constraint %I on %I', n.conname, o.relname) FROM ours AS o JOIN pg_constraint AS n ON n.conrelid = o.oid
         WHERE n.contype IN ('c', 'f', 'x', 'u') AND n.conname NOT IN (SELECT k.name FROM known AS k)
           AND o.relname IN ('record', 'record_logged', 'messages', 'locks', 'audit', 'asked', 'operation')
        UNION ALL
        SELECT format('trigger %I on %I', t.tgname, o.relname) FROM ours AS o JOIN pg_trigger AS t ON t.tgrelid = o.oid
         WHERE NOT t.tgisinternal AND t.tgname NOT IN (SELECT k.name FROM known AS k)
        UNION ALL
        SELECT format('rule %I on %I', w.rulename, o.relname) FROM ours AS o JOIN pg_rewrite AS w ON w.ev_class = o.oid
        UNION ALL
        SELECT format('row level security on %I', o.relname) FROM ours AS o WHERE o.relrowsecurity
    )
    SELECT array_agg(a.what ORDER BY a.what COLLATE "C") FROM added AS a
$$;
COMMENT ON FUNCTION idempotent.additions() IS 'what others have added to the tables of the extension, and its writes go past';

REVOKE ALL ON FUNCTION idempotent.record_deleted(), idempotent.additions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent.additions() TO pg_monitor;
