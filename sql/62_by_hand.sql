-- What is done to the records by hand. The library writes them past the executor, which fires no trigger, and its functions for
-- administrators say that they are at work.

CREATE FUNCTION idempotent.record_deleted() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    lost   text[];
BEGIN
    IF idempotent.is_configuring() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        lost := ARRAY(SELECT DISTINCT r.operation FROM gone AS r WHERE r.state <> 'e' AND r.expires_at > moment);
    ELSE
        lost := ARRAY(SELECT DISTINCT r.operation FROM gone AS r
                       WHERE r.state <> ALL ('{e,a}'::"char"[]) AND r.expires_at > moment
                         AND NOT EXISTS (SELECT FROM come AS c
                                          WHERE c.record_id = r.record_id AND c.operation = r.operation AND c.scope = r.scope AND c.key = r.key
                                            AND c.state <> 'a' AND c.expires_at > moment));
    END IF;
    -- Keys that date themselves are unknown from now on, and not new. The log tells its lines apart by their time.
    INSERT INTO idempotent.reset (durability, noticed_at, reset_at, operation)
    SELECT CASE TG_TABLE_NAME WHEN 'record' THEN 'unlogged' ELSE 'logged' END,
           moment + l.ordinality * interval '1 microsecond', moment, l.operation
      FROM unnest(lost) WITH ORDINALITY AS l (operation, ordinality);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION idempotent.record_deleted() IS 'notes which operations lose records by DELETE, or by an UPDATE after which they count as absent';

CREATE TRIGGER record_deleted
    AFTER DELETE ON idempotent.record REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
CREATE TRIGGER record_deleted
    AFTER DELETE ON idempotent.record_logged REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
CREATE TRIGGER record_updated
    AFTER UPDATE ON idempotent.record REFERENCING OLD TABLE AS gone NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
CREATE TRIGGER record_updated
    AFTER UPDATE ON idempotent.record_logged REFERENCING OLD TABLE AS gone NEW TABLE AS come
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted();
COMMENT ON TRIGGER record_deleted ON idempotent.record IS 'what DELETE takes is a loss';
COMMENT ON TRIGGER record_deleted ON idempotent.record_logged IS 'what DELETE takes is a loss';
COMMENT ON TRIGGER record_updated ON idempotent.record IS 'what UPDATE ends is a loss';
COMMENT ON TRIGGER record_updated ON idempotent.record_logged IS 'what UPDATE ends is a loss';

CREATE TRIGGER record_changed
    AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed();
CREATE TRIGGER record_changed
    AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record_logged
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed();
COMMENT ON TRIGGER record_changed ON idempotent.record IS 'sessions remember that the table has lost nothing';
COMMENT ON TRIGGER record_changed ON idempotent.record_logged IS 'sessions remember that the table has lost nothing';

-- Also where session_replication_role is replica. Logical replication fires none of them but those of TRUNCATE.
ALTER TABLE idempotent.record ENABLE ALWAYS TRIGGER record_deleted;
ALTER TABLE idempotent.record ENABLE ALWAYS TRIGGER record_updated;
ALTER TABLE idempotent.record ENABLE ALWAYS TRIGGER record_changed;
ALTER TABLE idempotent.record_logged ENABLE ALWAYS TRIGGER record_deleted;
ALTER TABLE idempotent.record_logged ENABLE ALWAYS TRIGGER record_updated;
ALTER TABLE idempotent.record_logged ENABLE ALWAYS TRIGGER record_changed;

-- The row that marks a table that has lost nothing is the same everywhere. A database that was looked at before its copy arrived, by the sweeper
-- or by a call, has one of its own.
CREATE FUNCTION idempotent.marker_kept() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM idempotent.record_logged AS r WHERE r.record_id = NEW.record_id) THEN NULL ELSE NEW END;
END $$;
COMMENT ON FUNCTION idempotent.marker_kept() IS 'lets logical replication copy the table into a database that was used already';

CREATE TRIGGER marker_kept
    BEFORE INSERT ON idempotent.record_logged
    FOR EACH ROW WHEN (NEW.state OPERATOR(pg_catalog.=) 'e'::pg_catalog."char") EXECUTE FUNCTION idempotent.marker_kept();
ALTER TABLE idempotent.record_logged ENABLE ALWAYS TRIGGER marker_kept;
COMMENT ON TRIGGER marker_kept ON idempotent.record_logged IS 'the marker of this database stays';

CREATE FUNCTION idempotent.additions(
    OUT kind     text,
    OUT name     name,
    OUT relation regclass,
    OUT what     text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1 AS $$
    WITH ours AS (
        SELECT c.oid, c.relname, c.relrowsecurity FROM pg_class AS c
         WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = 'r'
           AND EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ),
    -- Beside the primary keys, of which a table has one. (Triggers are told by their functions.)
    known (name) AS (SELECT unnest('{record_sweep_at_idx,record_held_idx,record_logged_sweep_at_idx,record_logged_held_idx,messages_expires_at_idx,locks_expires_at_idx,audit_expires_at_idx,
        asked_expires_at_idx,outbox_message_position,outbox_message_key_idx,outbox_message_ready_at_idx,outbox_id_expires_at_idx,saga_run_expires_at_idx,
        operation_durability,operation_on_lapse,operation_after_reset,operation_mode,operation_key_dates,operation_key_form,operation_max_response_bytes,
        operation_max_attempts,saga_run_state,own_single}'::name[])),
    added (kind, name, oid, relname) AS (
        SELECT 'index', i.relname, o.oid, o.relname
          FROM ours AS o JOIN pg_index AS x ON x.indrelid = o.oid JOIN pg_class AS i ON i.oid = x.indexrelid
         WHERE NOT x.indisprimary AND i.relname NOT IN (SELECT k.name FROM known AS k)
           AND NOT EXISTS (SELECT FROM pg_constraint AS n WHERE n.conindid = x.indexrelid AND n.conrelid = o.oid)
        UNION ALL
        SELECT 'constraint', n.conname, r.oid, r.relname
          FROM ours AS o JOIN pg_constraint AS n ON n.conrelid = o.oid OR n.confrelid = o.oid JOIN pg_class AS r ON r.oid = n.conrelid
         WHERE n.contype IN ('c', 'f', 'x', 'u') AND n.conname NOT IN (SELECT k.name FROM known AS k)
        UNION ALL
        SELECT 'trigger', t.tgname, o.oid, o.relname FROM ours AS o JOIN pg_trigger AS t ON t.tgrelid = o.oid
         WHERE NOT t.tgisinternal
           AND NOT EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                            WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.deptype = 'e' AND e.extname = 'pg_idempotent')
        UNION ALL
        SELECT 'rule', w.rulename, o.oid, o.relname FROM ours AS o JOIN pg_rewrite AS w ON w.ev_class = o.oid
        UNION ALL
        -- A partition has the constraint of its bounds; the rows of a child are found by SQL, and not by the library.
        SELECT 'inheritance', r.relname, o.oid, o.relname
          FROM ours AS o JOIN pg_inherits AS h ON o.oid = h.inhrelid OR o.oid = h.inhparent
          JOIN pg_class AS r ON r.oid = CASE o.oid WHEN h.inhrelid THEN h.inhparent ELSE h.inhrelid END
        UNION ALL
        SELECT 'row security', NULL, o.oid, o.relname FROM ours AS o WHERE o.relrowsecurity
    )
    SELECT DISTINCT a.kind, a.name, a.oid::regclass, concat_ws(' ', a.kind, quote_ident(a.name), 'on', quote_ident(a.relname)) FROM added AS a
$$;
COMMENT ON FUNCTION idempotent.additions() IS 'what others have added to the tables of the extension, and its writes go past';

REVOKE ALL ON FUNCTION idempotent.record_deleted(), idempotent.marker_kept(), idempotent.additions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent.additions() TO pg_monitor;
