-- What one can see. Only pg_monitor may, unless it is granted.

CREATE FUNCTION idempotent.counters() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_counters';
COMMENT ON FUNCTION idempotent.counters() IS
'the counters of this database, as an array; see the view idempotent.stats';

CREATE FUNCTION idempotent.library() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_library';
COMMENT ON FUNCTION idempotent.library() IS
'what the library says of itself; see the view idempotent.health';

CREATE FUNCTION idempotent_stats_reset() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_stats_reset';
COMMENT ON FUNCTION idempotent_stats_reset() IS
'let the counters of this database begin anew; forgets those of databases that are gone';

CREATE VIEW idempotent.stats AS
SELECT c.operation, c.claimed, c.executed, c.replayed, c.in_progress, c.mismatched, c.expired, c.unknown, c.sealed,
       c.completed, c.failed, c.released, c.lapsed, c.guard_refused, c.waits,
       '1 microsecond'::interval OPERATOR(pg_catalog.*) c.wait_micros::double precision AS wait_time,
       c.swept, c.evicted
FROM pg_catalog.jsonb_to_recordset(idempotent.counters()) AS c (
    operation text, claimed bigint, executed bigint, replayed bigint, in_progress bigint, mismatched bigint,
    expired bigint, unknown bigint, sealed bigint, completed bigint, failed bigint, released bigint,
    lapsed bigint, guard_refused bigint, waits bigint, wait_micros bigint, swept bigint, evicted bigint);
COMMENT ON VIEW idempotent.stats IS 'what happened per operation since the server started or idempotent_stats_reset(); empty where the library is not preloaded';
COMMENT ON COLUMN idempotent.stats.operation IS 'the operation; (other): all those for which there was no room';
COMMENT ON COLUMN idempotent.stats.claimed IS 'answers: claimed. Asking again for one''s own claim is not counted. Of a topic: messages taken';
COMMENT ON COLUMN idempotent.stats.executed IS 'handlers run by idempotent_run, sagas finished and messages put, and committed';
COMMENT ON COLUMN idempotent.stats.replayed IS 'answers: replay. Of a topic: messages put again';
COMMENT ON COLUMN idempotent.stats.in_progress IS 'answers: in_progress';
COMMENT ON COLUMN idempotent.stats.mismatched IS 'answers: mismatch';
COMMENT ON COLUMN idempotent.stats.expired IS 'answers: expired';
COMMENT ON COLUMN idempotent.stats.unknown IS 'answers: unknown';
COMMENT ON COLUMN idempotent.stats.sealed IS 'answers: sealed, by idempotent_seal too';
COMMENT ON COLUMN idempotent.stats.completed IS 'answers stored, and committed or prepared. Of a topic: messages acknowledged';
COMMENT ON COLUMN idempotent.stats.failed IS 'final failures stored, and committed or prepared. Of a topic: messages that became dead letters';
COMMENT ON COLUMN idempotent.stats.released IS 'claims given back, and committed or prepared. Of a topic: messages';
COMMENT ON COLUMN idempotent.stats.lapsed IS 'lapsed leases that the next claim, or take, took over';
COMMENT ON COLUMN idempotent.stats.guard_refused IS 'commits refused because claims of the operation were open';
COMMENT ON COLUMN idempotent.stats.waits IS 'calls that waited for a holder';
COMMENT ON COLUMN idempotent.stats.wait_time IS 'how long they waited, in all';
COMMENT ON COLUMN idempotent.stats.swept IS 'expired records, sagas, messages and ids deleted by the sweeper';
COMMENT ON COLUMN idempotent.stats.evicted IS 'bodies past response_retention dropped by the sweeper';

CREATE VIEW idempotent.waits AS
SELECT c.operation, b.le, pg_catalog.sum(b.calls) OVER (PARTITION BY c.operation ORDER BY b.le)::bigint AS calls
FROM pg_catalog.jsonb_to_recordset(idempotent.counters()) AS c (
    operation text, waits bigint, waited_1ms bigint, waited_3ms bigint, waited_10ms bigint, waited_30ms bigint, waited_100ms bigint, waited_300ms bigint,
    waited_1s bigint, waited_3s bigint, waited_10s bigint, waited_30s bigint, waited_longer bigint)
CROSS JOIN LATERAL (VALUES (0.001::double precision, c.waited_1ms), (0.003, c.waited_3ms), (0.01, c.waited_10ms), (0.03, c.waited_30ms), (0.1, c.waited_100ms), (0.3, c.waited_300ms),
                            (1, c.waited_1s), (3, c.waited_3s), (10, c.waited_10s), (30, c.waited_30s), ('Infinity', c.waited_longer)) AS b (le, calls)
WHERE c.waits OPERATOR(pg_catalog.>) 0::bigint;
COMMENT ON VIEW idempotent.waits IS 'how long calls waited for a holder: a cumulative histogram of each operation that has waited; empty where the library is not preloaded';
COMMENT ON COLUMN idempotent.waits.operation IS 'the operation, as in idempotent.stats';
COMMENT ON COLUMN idempotent.waits.le IS 'seconds';
COMMENT ON COLUMN idempotent.waits.calls IS 'calls that waited that long or shorter; of those that did not wait, none';

-- Materialized: no function in a reader's WHERE gets to see the keys of other records. (A security_barrier does not
-- keep a condition out of the arms of a UNION ALL.)
CREATE VIEW idempotent.in_flight AS
WITH lease AS MATERIALIZED (
    SELECT u.operation, u.scope, u.key, u.fence, u.attempt, u.claimed_at, u.lease_until FROM idempotent.record AS u
    WHERE u.state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char" AND u.lease_until IS NOT NULL
    UNION ALL
    SELECT l.operation, l.scope, l.key, l.fence, l.attempt, l.claimed_at, l.lease_until FROM idempotent.record_logged AS l
    WHERE l.state OPERATOR(pg_catalog.=) 'p'::pg_catalog."char" AND l.lease_until IS NOT NULL
)
SELECT r.operation, r.scope, r.key, 'lease' AS held_by, NULL::integer AS pid, r.fence, r.attempt, r.claimed_at, r.lease_until,
       r.lease_until OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() AS lapsed, NULL::bigint AS waiters
FROM lease AS r
UNION ALL
SELECT NULL, NULL, NULL, CASE WHEN k.objsubid OPERATOR(pg_catalog.=) 480::smallint THEN 'saga' ELSE 'transaction' END, pg_catalog.max(k.pid) FILTER (WHERE k.granted), NULL, NULL, NULL, NULL,
       false, pg_catalog.count(*) FILTER (WHERE NOT k.granted)
FROM pg_catalog.pg_locks AS k
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) k.database
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  AND k.locktype OPERATOR(pg_catalog.=) 'advisory' AND k.objsubid OPERATOR(pg_catalog.=) ANY ('{478,480}'::smallint[])
GROUP BY k.classid, k.objid, k.objsubid
HAVING pg_catalog.bool_or(k.granted);
COMMENT ON VIEW idempotent.in_flight IS 'the holders of keys now: leases, and transactions';
COMMENT ON COLUMN idempotent.in_flight.operation IS 'the operation; null for a transaction, as a lock has no name';
COMMENT ON COLUMN idempotent.in_flight.scope IS 'the owner of the key; null for a transaction';
COMMENT ON COLUMN idempotent.in_flight.key IS 'the caller''s key; null for a transaction';
COMMENT ON COLUMN idempotent.in_flight.held_by IS 'lease, transaction, or saga: a transaction that is doing a step';
COMMENT ON COLUMN idempotent.in_flight.pid IS 'the backend of the transaction; null for one that is prepared, and for a lease';
COMMENT ON COLUMN idempotent.in_flight.fence IS 'of the lease';
COMMENT ON COLUMN idempotent.in_flight.attempt IS 'how many leases were granted, this one included';
COMMENT ON COLUMN idempotent.in_flight.claimed_at IS 'when the lease was granted';
COMMENT ON COLUMN idempotent.in_flight.lease_until IS 'when the lease ends';
COMMENT ON COLUMN idempotent.in_flight.lapsed IS 'whether it has ended: its holder is late, or gone';
COMMENT ON COLUMN idempotent.in_flight.waiters IS 'backends that wait for the transaction; null for a lease, for which they sleep unseen';

REVOKE ALL ON FUNCTION idempotent.counters(), idempotent.library(), idempotent_stats_reset() FROM PUBLIC;
GRANT USAGE ON SCHEMA idempotent TO pg_monitor;
GRANT SELECT ON idempotent.stats, idempotent.waits, idempotent.in_flight TO pg_monitor;
GRANT EXECUTE ON FUNCTION idempotent.counters(), idempotent.library() TO pg_monitor;
