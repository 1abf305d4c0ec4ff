-- What administrators did, and who: written in the transaction of the deed, so that it is there if and only if the deed is. Logged,
-- and part of a dump: an auditor asks for it after a loss, too.
CREATE TABLE idempotent.audit (
    expires_at   timestamptz NOT NULL,
    at           timestamptz NOT NULL,
    action       text NOT NULL,
    role         text NOT NULL,
    session_role text NOT NULL,
    operation    text,
    scope        text,
    key          text,
    detail       text,
    id           uuid NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
) USING heap;
CREATE INDEX audit_expires_at_idx ON idempotent.audit (expires_at);
COMMENT ON TABLE idempotent.audit IS 'what administrators did: seal, resolve, forget and its like, rewind, export_scope, saga_abandon and its like, sweep by hand, configure, drop, grant, revoke, redrive, own, ignorant, export, and imports that conflict';
COMMENT ON INDEX idempotent.audit_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.audit.expires_at IS 'until when the line is kept: idempotent.audit_retention';
COMMENT ON COLUMN idempotent.audit.at IS 'when it was done';
COMMENT ON COLUMN idempotent.audit.action IS 'what was done';
COMMENT ON COLUMN idempotent.audit.role IS 'the role that did it, by its name then; of settings, grants, and what else runs with the rights of its owner: the role that the client had chosen';
COMMENT ON COLUMN idempotent.audit.session_role IS 'the role that had logged in';
COMMENT ON COLUMN idempotent.audit.operation IS 'to which operation, if to one';
COMMENT ON COLUMN idempotent.audit.scope IS 'to whose key, if to one';
COMMENT ON COLUMN idempotent.audit.key IS 'to which key, if to one';
COMMENT ON COLUMN idempotent.audit.detail IS 'the verdict, the number of rows, the new settings, or the role; never an answer';
COMMENT ON COLUMN idempotent.audit.id IS 'tells the lines apart';
SELECT pg_catalog.pg_extension_config_dump('idempotent.audit', '');
GRANT SELECT ON idempotent.audit TO pg_monitor;

CREATE FUNCTION idempotent.audited(action text, operation text, detail text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_audited';
COMMENT ON FUNCTION idempotent.audited(text, text, text) IS 'writes a line of idempotent.audit, for a trigger';

CREATE FUNCTION idempotent.operation_audited() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM idempotent.audited('drop', OLD.name, NULL);
    ELSIF NEW IS DISTINCT FROM OLD THEN
        PERFORM idempotent.audited('configure', NEW.name, (
            SELECT string_agg(format('%s => %L', n.key, n.value), ', ' ORDER BY n.ordinality)
              FROM jsonb_each_text(to_jsonb(NEW)) WITH ORDINALITY AS n (key, value, ordinality)
             WHERE n.value IS DISTINCT FROM to_jsonb(OLD) ->> n.key AND n.key <> 'name'));
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION idempotent.operation_audited() IS 'notes who changed the settings of an operation';

CREATE TRIGGER operation_audited
    AFTER INSERT OR UPDATE OR DELETE ON idempotent.operation
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_audited();
COMMENT ON TRIGGER operation_audited ON idempotent.operation IS 'who changed settings, and how';

REVOKE ALL ON FUNCTION idempotent.audited(text, text, text), idempotent.operation_audited() FROM PUBLIC;

-- Keys that were answered unknown though they have no record: dated keys from before a loss. A row an answer, so that no caller
-- waits for another; logged, or they would go with the next loss.
CREATE TABLE idempotent.asked (
    expires_at timestamptz NOT NULL,
    asked_at   timestamptz NOT NULL,
    record_id  uuid NOT NULL,
    operation  text NOT NULL,
    scope      text NOT NULL,
    key        text NOT NULL,
    id         uuid NOT NULL,
    CONSTRAINT asked_pkey PRIMARY KEY (id)
) USING heap;
CREATE INDEX asked_expires_at_idx ON idempotent.asked (expires_at);
COMMENT ON TABLE idempotent.asked IS 'claims that were answered unknown; see idempotent.unresolved';
COMMENT ON INDEX idempotent.asked_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.asked.expires_at IS 'until when the line is kept: the retention of the operation';
COMMENT ON COLUMN idempotent.asked.asked_at IS 'when a claim was answered unknown';
COMMENT ON COLUMN idempotent.asked.record_id IS 'of the key';
COMMENT ON COLUMN idempotent.asked.operation IS 'the operation';
COMMENT ON COLUMN idempotent.asked.scope IS 'whose key it is';
COMMENT ON COLUMN idempotent.asked.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.asked.id IS 'tells the lines apart';

-- Materialized: as idempotent.in_flight.
CREATE VIEW idempotent.unresolved AS
WITH clock AS MATERIALIZED (SELECT pg_catalog.clock_timestamp() AS now),
record AS MATERIALIZED (
    SELECT u.record_id, u.operation, u.scope, u.key, u.state, u.expires_at, u.lease_until FROM idempotent.record AS u
     WHERE u.state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char"
    UNION ALL
    SELECT u.record_id, u.operation, u.scope, u.key, u.state, u.expires_at, u.lease_until FROM idempotent.record AS u
     WHERE u.state OPERATOR(pg_catalog.<>) 'p'::pg_catalog."char" AND u.record_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT a.record_id FROM idempotent.asked AS a))
    UNION ALL
    SELECT l.record_id, l.operation, l.scope, l.key, l.state, l.expires_at, l.lease_until FROM idempotent.record_logged AS l
     WHERE l.state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char"
    UNION ALL
    SELECT l.record_id, l.operation, l.scope, l.key, l.state, l.expires_at, l.lease_until FROM idempotent.record_logged AS l
     WHERE l.state OPERATOR(pg_catalog.<>) 'p'::pg_catalog."char" AND l.record_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT a.record_id FROM idempotent.asked AS a))
),
live AS (
    SELECT r.*, r.state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char" AND r.lease_until OPERATOR(pg_catalog.<=) c.now
                AND r.expires_at OPERATOR(pg_catalog.=) 'infinity'::pg_catalog.timestamptz AS is_unknown
      FROM record AS r, clock AS c WHERE r.expires_at OPERATOR(pg_catalog.>) c.now
),
asked AS MATERIALIZED (
    SELECT a.record_id, pg_catalog.min(a.operation) AS operation, pg_catalog.min(a.scope) AS scope, pg_catalog.min(a.key) AS key,
           pg_catalog.count(*) AS asked, pg_catalog.min(a.asked_at) AS first_asked, pg_catalog.max(a.asked_at) AS last_asked
      FROM idempotent.asked AS a, clock AS c WHERE a.expires_at OPERATOR(pg_catalog.>) c.now GROUP BY a.record_id
)
SELECT l.operation, l.scope, l.key, 'lapsed' AS because, l.lease_until AS since, COALESCE(a.asked, 0) AS asked, a.last_asked
  FROM live AS l LEFT JOIN asked AS a ON a.record_id OPERATOR(pg_catalog.=) l.record_id WHERE l.is_unknown
UNION ALL
SELECT a.operation, a.scope, a.key, 'lost', a.first_asked, a.asked, a.last_asked
  FROM asked AS a WHERE NOT EXISTS (SELECT FROM live AS l WHERE l.record_id OPERATOR(pg_catalog.=) a.record_id);
COMMENT ON VIEW idempotent.unresolved IS 'keys of which it is unknown whether the work was done, and that await idempotent_resolve(): lapsed leases, and what claims were answered unknown for in transactions that committed, without strict';
COMMENT ON COLUMN idempotent.unresolved.operation IS 'the operation';
COMMENT ON COLUMN idempotent.unresolved.scope IS 'whose key it is';
COMMENT ON COLUMN idempotent.unresolved.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.unresolved.because IS 'lapsed: a lease was lost under on_lapse unknown; lost: the key is from before its records were lost, and a claim that committed was answered unknown since';
COMMENT ON COLUMN idempotent.unresolved.since IS 'when the lease ended, or the key was first asked for';
COMMENT ON COLUMN idempotent.unresolved.asked IS 'how many claims that committed were answered unknown within the retention';
COMMENT ON COLUMN idempotent.unresolved.last_asked IS 'when the last of them was';
GRANT SELECT ON idempotent.unresolved TO pg_monitor;
