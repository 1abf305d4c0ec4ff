-- What waits for the sweeper, and whether all is well.

CREATE VIEW idempotent.backlog AS
WITH clock AS MATERIALIZED (SELECT pg_catalog.clock_timestamp() AS now),
records AS (
    SELECT 'unlogged' AS durability, u.sweep_at, u.expires_at, u.lease_until, u.state, u.evicted
    FROM idempotent.record AS u WHERE u.sweep_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'logged', l.sweep_at, l.expires_at, l.lease_until, l.state, l.evicted
    FROM idempotent.record_logged AS l WHERE l.sweep_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
),
due AS (
    -- as the sweeper sorts them (src/domain/sweeping.rs)
    SELECT 'records' AS what, r.durability, r.sweep_at AS since, r.expires_at OPERATOR(pg_catalog.<=) c.now AS is_expired
    FROM records AS r, clock AS c
    WHERE CASE WHEN r.expires_at OPERATOR(pg_catalog.<=) c.now
               THEN r.state OPERATOR(pg_catalog.<>) 'u'::pg_catalog."char"
                    AND (r.lease_until IS NULL OR r.lease_until OPERATOR(pg_catalog.<=) c.now)
               ELSE r.state OPERATOR(pg_catalog.=) ANY ('{c,f}'::pg_catalog."char"[]) AND NOT r.evicted END
    UNION ALL
    SELECT 'messages', 'logged', m.expires_at, true
    FROM idempotent.messages AS m WHERE m.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'locks', 'logged', k.expires_at, true
    FROM idempotent.locks AS k WHERE k.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'sagas', 'logged', g.expires_at, true
    FROM idempotent.saga_run AS g WHERE g.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'outbox', 'logged', i.expires_at, true
    FROM idempotent.outbox_id AS i WHERE i.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'audit', 'logged', l.expires_at, true
    FROM idempotent.audit AS l WHERE l.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
    UNION ALL
    SELECT 'asked', 'logged', q.expires_at, true
    FROM idempotent.asked AS q WHERE q.expires_at OPERATOR(pg_catalog.<=) (SELECT c.now FROM clock AS c)
)
SELECT t.what, t.durability, pg_catalog.count(d.since) AS due,
       pg_catalog.count(*) FILTER (WHERE d.is_expired) AS expired,
       pg_catalog.count(*) FILTER (WHERE NOT d.is_expired) AS evictable,
       pg_catalog.min(d.since) AS oldest
FROM (VALUES ('records', 'unlogged'), ('records', 'logged'), ('messages', 'logged'), ('locks', 'logged'), ('sagas', 'logged'),
             ('outbox', 'logged'), ('audit', 'logged'), ('asked', 'logged')) AS t (what, durability)
LEFT JOIN due AS d ON d.what OPERATOR(pg_catalog.=) t.what AND d.durability OPERATOR(pg_catalog.=) t.durability
GROUP BY t.what, t.durability;
COMMENT ON VIEW idempotent.backlog IS 'what waits for the sweeper, per table';
COMMENT ON COLUMN idempotent.backlog.what IS 'records, messages that consumers have seen, locks with a key, finished sagas, outbox: ids of acknowledged messages, lines of the audit, or asked: claims that were answered unknown';
COMMENT ON COLUMN idempotent.backlog.durability IS 'which table of records: unlogged or logged; the others are logged';
COMMENT ON COLUMN idempotent.backlog.due IS 'rows that the sweeper has to look at';
COMMENT ON COLUMN idempotent.backlog.expired IS 'of these, rows to delete';
COMMENT ON COLUMN idempotent.backlog.evictable IS 'of these, records of which only the body goes: past response_retention';
COMMENT ON COLUMN idempotent.backlog.oldest IS 'since when the oldest of them is due';

CREATE VIEW idempotent.health AS
SELECT l.version, e.extversion AS schema_version, l.preloaded, l.last_sweep, l.sweep_failures,
       (SELECT pg_catalog.max(r.reset_at) FROM idempotent.reset AS r WHERE r.operation IS NULL) AS last_reset,
       t.records, t.messages, t.locks, t.bytes,
       ARRAY(SELECT DISTINCT g.role FROM idempotent.rights AS g
             WHERE g.granted_as OPERATOR(pg_catalog.=) 'administrator' ORDER BY g.role) AS administrators,
       ARRAY(SELECT pg_catalog.concat(g.role, ': ', g.privilege, ' on ', g.object) FROM idempotent.rights AS g
             WHERE g.granted_as IS NULL OR g.grantable ORDER BY g.role, g.object, g.privilege) AS surplus_rights,
       (SELECT pg_catalog.array_agg(o.role ORDER BY o.role)
          FROM (SELECT s.role FROM idempotent.operation AS s UNION SELECT s.take_role FROM idempotent.operation AS s) AS o
         WHERE o.role IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r
             WHERE r.rolname OPERATOR(pg_catalog.=) o.role::pg_catalog.name)) AS missing_roles,
       (SELECT pg_catalog.array_agg(a.what ORDER BY a.what COLLATE "C") FROM idempotent.additions() AS a) AS additions,
       (SELECT o.slots::pg_catalog.int4multirange FROM idempotent.own AS o) AS own,
       (SELECT pg_catalog.max(r.reset_at) FROM idempotent.reset AS r WHERE r.operation OPERATOR(pg_catalog.=) '') AS ignorant_before
FROM pg_catalog.jsonb_to_record(idempotent.library()) AS l (version text, preloaded boolean, last_sweep timestamptz, sweep_failures integer),
     pg_catalog.pg_extension AS e,
     (SELECT pg_catalog.sum(s.live) FILTER (WHERE s.what OPERATOR(pg_catalog.=) 'records')::bigint AS records,
             pg_catalog.sum(s.live) FILTER (WHERE s.what OPERATOR(pg_catalog.=) 'messages')::bigint AS messages,
             pg_catalog.sum(s.live) FILTER (WHERE s.what OPERATOR(pg_catalog.=) 'locks')::bigint AS locks,
             pg_catalog.sum(s.bytes)::bigint AS bytes
      FROM (SELECT k.what, pg_catalog.pg_total_relation_size(c.oid) AS bytes,
                   CASE WHEN c.reltuples OPERATOR(pg_catalog.>=) 0::real
                        THEN GREATEST(c.reltuples OPERATOR(pg_catalog.-) k.markers, 0::real) END AS live
            -- without the marker, the row of each table of records that is none
            FROM (VALUES ('idempotent.record'::pg_catalog.regclass, 'records', 1::real),
                         ('idempotent.record_logged'::pg_catalog.regclass, 'records', 1::real),
                         ('idempotent.messages'::pg_catalog.regclass, 'messages', 0::real),
                         ('idempotent.offsets'::pg_catalog.regclass, 'offsets', 0::real),
                         ('idempotent.locks'::pg_catalog.regclass, 'locks', 0::real)) AS k (kept_in, what, markers)
            JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) k.kept_in::pg_catalog.oid) AS s) AS t
WHERE e.extname OPERATOR(pg_catalog.=) 'pg_idempotent';
COMMENT ON VIEW idempotent.health IS 'one row: is everything as it should be';
COMMENT ON COLUMN idempotent.health.version IS 'of the library that this session runs';
COMMENT ON COLUMN idempotent.health.schema_version IS 'of the extension in this database; if it is another, ALTER EXTENSION pg_idempotent UPDATE';
COMMENT ON COLUMN idempotent.health.preloaded IS 'whether the library is in shared_preload_libraries; without, there are no counters and no sweeper';
COMMENT ON COLUMN idempotent.health.last_sweep IS 'when the sweeper was last done with this database; null: not since the server started';
COMMENT ON COLUMN idempotent.health.sweep_failures IS 'visits of the sweeper that have failed since; the server log says why. Null where the library is not preloaded';
COMMENT ON COLUMN idempotent.health.last_reset IS 'when a table of records was last found emptied, by a crash or by hand; null: never';
COMMENT ON COLUMN idempotent.health.records IS 'how many records there are, as VACUUM and ANALYZE estimate; null: they have not looked yet';
COMMENT ON COLUMN idempotent.health.messages IS 'likewise, messages that consumers have seen';
COMMENT ON COLUMN idempotent.health.locks IS 'likewise, locks with a key';
COMMENT ON COLUMN idempotent.health.bytes IS 'size of the tables of all these and of consumer offsets, with indexes and TOAST';
COMMENT ON COLUMN idempotent.health.administrators IS 'roles that were granted functions for administrators; superusers and the owner need no grant';
COMMENT ON COLUMN idempotent.health.surplus_rights IS 'rights that no documented role has, such as any of PUBLIC, or that can be passed on; expected: none. All are in idempotent.rights';
COMMENT ON COLUMN idempotent.health.missing_roles IS 'roles that operations are for, and that do not exist: nobody may use those operations; null: none';
COMMENT ON COLUMN idempotent.health.additions IS 'indexes, constraints, triggers, rules and policies on these tables that are not the extension''s: writes go past all but constraints of uniqueness; null: none';

COMMENT ON COLUMN idempotent.health.own IS 'the slots that this database answers for, see idempotent_own(); null: all';
COMMENT ON COLUMN idempotent.health.ignorant_before IS 'keys dated before then may be known elsewhere, see idempotent_ignorant(); null: none are';

GRANT SELECT ON idempotent.backlog, idempotent.health TO pg_monitor;
