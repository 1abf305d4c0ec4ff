-- Everything that version 0.2.0 added. Made and compared with a new 0.2.0 by tests/upgrade; frozen once 0.2.0 is released.
\echo Use "ALTER EXTENSION pg_idempotent UPDATE" to load this file. \quit

-- How the library knows that records were lost. Each table of records holds one row that is no record, the
-- marker (state e, record_id of zeros but for the last byte). A table without it was emptied, unless this log
-- says nothing of it yet.
CREATE TABLE idempotent.reset (
    durability text COLLATE "C" NOT NULL,
    noticed_at timestamptz NOT NULL,
    reset_at   timestamptz,
    operation  text,
    PRIMARY KEY (durability, noticed_at)
);
COMMENT ON TABLE idempotent.reset IS 'when the tables of records were found empty';
COMMENT ON COLUMN idempotent.reset.durability IS 'which table: unlogged or logged';
COMMENT ON COLUMN idempotent.reset.noticed_at IS 'when it was noticed';
COMMENT ON COLUMN idempotent.reset.reset_at IS 'dated keys from before then may have had a record; null: the table''s first use, nothing was lost';
COMMENT ON COLUMN idempotent.reset.operation IS 'what was lost from the other table goes along with this operation, whose records moved here; null: the whole table';

-- A dump carries the log and no markers: the restored database knows that it has forgotten its keys.
SELECT pg_catalog.pg_extension_config_dump('idempotent.reset', '');

-- The tables are in use, so they get their markers here: a crash from now on is noticed, whatever happened before.
INSERT INTO idempotent.reset (durability, noticed_at)
VALUES ('unlogged', pg_catalog.clock_timestamp()), ('logged', pg_catalog.clock_timestamp());
INSERT INTO idempotent.record (record_id, expires_at, sweep_at, state, evicted, operation, scope, key)
VALUES ('00000000-0000-0000-0000-000000000000', 'infinity', 'infinity', 'e', false, '', '', '');
INSERT INTO idempotent.record_logged (record_id, expires_at, sweep_at, state, evicted, operation, scope, key)
VALUES ('00000000-0000-0000-0000-000000000000', 'infinity', 'infinity', 'e', false, '', '', '');

COMMENT ON COLUMN idempotent.record.state IS 'p in progress, c completed, f failed, u unknown, s sealed, a settled as absent; e marks a table that has lost nothing';
COMMENT ON COLUMN idempotent.record_logged.state IS 'p in progress, c completed, f failed, u unknown, s sealed, a settled as absent; e marks a table that has lost nothing';

COMMENT ON COLUMN idempotent_result.outcome IS 'claimed, executed, replay, in_progress, mismatch, expired, unknown, sealed or absent';
COMMENT ON COLUMN idempotent_result.fence IS 'the fence of the lease, to be passed on to whatever finishes it; null: no lease';
COMMENT ON COLUMN idempotent_result.attempt IS 'which attempt this is, or which one stored the answer';
COMMENT ON COLUMN idempotent_result.failed IS 'whether the stored answer is that of a final failure';
COMMENT ON COLUMN idempotent_result.status IS 'the stored status, e.g. that of HTTP';
COMMENT ON COLUMN idempotent_result.headers IS 'the stored headers';
COMMENT ON COLUMN idempotent_result.response IS 'the stored answer, or that of the handler that ran now';
COMMENT ON COLUMN idempotent_result.body IS 'the stored body, byte for byte';
COMMENT ON COLUMN idempotent_result.evicted IS 'whether response, headers and body were too large to keep, or are past response_retention';
COMMENT ON COLUMN idempotent_result.checkpoint IS 'what the holder before left to whoever takes over';
COMMENT ON COLUMN idempotent_result.retry_after IS 'with in_progress: when to ask again';
COMMENT ON COLUMN idempotent_result.expires_at IS 'until when the answer is kept; with claimed, the end of the lease';

-- What one can see. pg_monitor may, and nobody else unless it is granted.

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
COMMENT ON COLUMN idempotent.stats.claimed IS 'answers: claimed. Asking again for one''s own claim is not counted';
COMMENT ON COLUMN idempotent.stats.executed IS 'handlers run by idempotent_run, and committed';
COMMENT ON COLUMN idempotent.stats.replayed IS 'answers: replay';
COMMENT ON COLUMN idempotent.stats.in_progress IS 'answers: in_progress';
COMMENT ON COLUMN idempotent.stats.mismatched IS 'answers: mismatch';
COMMENT ON COLUMN idempotent.stats.expired IS 'answers: expired';
COMMENT ON COLUMN idempotent.stats.unknown IS 'answers: unknown';
COMMENT ON COLUMN idempotent.stats.sealed IS 'answers: sealed, by idempotent_seal too';
COMMENT ON COLUMN idempotent.stats.completed IS 'answers stored, and committed or prepared';
COMMENT ON COLUMN idempotent.stats.failed IS 'final failures stored, and committed or prepared';
COMMENT ON COLUMN idempotent.stats.released IS 'claims given back, and committed or prepared';
COMMENT ON COLUMN idempotent.stats.lapsed IS 'lapsed leases that the next claim took over';
COMMENT ON COLUMN idempotent.stats.guard_refused IS 'commits refused because claims of the operation were open';
COMMENT ON COLUMN idempotent.stats.waits IS 'calls that waited for a holder';
COMMENT ON COLUMN idempotent.stats.wait_time IS 'how long they waited, in all';
COMMENT ON COLUMN idempotent.stats.swept IS 'expired records deleted by the sweeper';
COMMENT ON COLUMN idempotent.stats.evicted IS 'bodies past response_retention dropped by the sweeper';

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
SELECT NULL, NULL, NULL, 'transaction', pg_catalog.max(k.pid) FILTER (WHERE k.granted), NULL, NULL, NULL, NULL,
       false, pg_catalog.count(*) FILTER (WHERE NOT k.granted)
FROM pg_catalog.pg_locks AS k
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) k.database
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
  AND k.locktype OPERATOR(pg_catalog.=) 'advisory' AND k.objsubid OPERATOR(pg_catalog.=) 478::smallint
GROUP BY k.classid, k.objid
HAVING pg_catalog.bool_or(k.granted);
COMMENT ON VIEW idempotent.in_flight IS 'who holds keys now: leases, and transactions';
COMMENT ON COLUMN idempotent.in_flight.operation IS 'the operation; null for a transaction, as a lock has no name';
COMMENT ON COLUMN idempotent.in_flight.scope IS 'whose key it is; null for a transaction';
COMMENT ON COLUMN idempotent.in_flight.key IS 'the caller''s key; null for a transaction';
COMMENT ON COLUMN idempotent.in_flight.held_by IS 'lease or transaction';
COMMENT ON COLUMN idempotent.in_flight.pid IS 'the backend of the transaction; null for one that is prepared, and for a lease';
COMMENT ON COLUMN idempotent.in_flight.fence IS 'of the lease';
COMMENT ON COLUMN idempotent.in_flight.attempt IS 'how many leases were granted, this one included';
COMMENT ON COLUMN idempotent.in_flight.claimed_at IS 'when the lease was granted';
COMMENT ON COLUMN idempotent.in_flight.lease_until IS 'when the lease ends';
COMMENT ON COLUMN idempotent.in_flight.lapsed IS 'whether it has ended: its holder is late, or gone';
COMMENT ON COLUMN idempotent.in_flight.waiters IS 'backends that wait for the transaction; null for a lease, for which they sleep unseen';

REVOKE ALL ON FUNCTION idempotent.counters(), idempotent.library(), idempotent_stats_reset() FROM PUBLIC;
GRANT USAGE ON SCHEMA idempotent TO pg_monitor;
GRANT SELECT ON idempotent.stats, idempotent.in_flight TO pg_monitor;
GRANT EXECUTE ON FUNCTION idempotent.counters(), idempotent.library() TO pg_monitor;

-- Idempotent consumer: which messages a consumer has seen. Always logged, whatever becomes of records: a message that was
-- forgotten would be taken for new.
--
-- The key begins with the message's id, which tells most rows apart at the first column, and ids that grow stay together.
CREATE TABLE idempotent.messages (
    expires_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    consumer   text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (message_id, consumer, scope)
);
CREATE INDEX messages_expires_at_idx ON idempotent.messages (expires_at);
COMMENT ON TABLE idempotent.messages IS 'messages that consumers have seen, for as long as they are kept: see idempotent_first()';
COMMENT ON INDEX idempotent.messages_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.messages.expires_at IS 'from then on the message counts as new';
COMMENT ON COLUMN idempotent.messages.seen_at IS 'when it was seen first';
COMMENT ON COLUMN idempotent.messages.consumer IS 'who received it';
COMMENT ON COLUMN idempotent.messages.scope IS 'whose message it is';
COMMENT ON COLUMN idempotent.messages.message_id IS 'the sender''s name for the message';

-- Part of a dump: a restored database must not take for new what its tables have the effects of.
SELECT pg_catalog.pg_extension_config_dump('idempotent.messages', '');

CREATE FUNCTION idempotent_first(
    consumer   text,
    message_id text,
    scope      text = '',
    retention  interval = NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_first';
COMMENT ON FUNCTION idempotent_first(text, text, text, interval) IS
'whether a consumer sees the message for the first time; from then on it has, if the transaction commits';

CREATE FUNCTION idempotent_first(
    consumer    text,
    message_ids text[],
    scope       text = '',
    retention   interval = NULL
) RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'idempotent_first_of';
COMMENT ON FUNCTION idempotent_first(text, text[], text, interval) IS
'those of the messages that a consumer sees for the first time, in the order given';

REVOKE ALL ON FUNCTION idempotent_first(text, text, text, interval), idempotent_first(text, text[], text, interval) FROM PUBLIC;

-- Consumer offsets: how far a consumer has come in each partition of a log. Kept for good, and so never swept.
--
-- A row is updated in place over and over, so its page has room for the next version and no index is touched (HOT).
CREATE TABLE idempotent.offsets (
    consumer    text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    partition   text COLLATE "C" NOT NULL,
    "offset"    bigint NOT NULL,
    advanced_at timestamptz NOT NULL,
    CONSTRAINT offsets_pkey PRIMARY KEY (consumer, scope, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE idempotent.offsets IS 'how far each consumer has come: see idempotent_advance()';
COMMENT ON COLUMN idempotent.offsets.consumer IS 'who reads';
COMMENT ON COLUMN idempotent.offsets.scope IS 'for whom';
COMMENT ON COLUMN idempotent.offsets.partition IS 'the part of the log that has an order';
COMMENT ON COLUMN idempotent.offsets."offset" IS 'the last one that was processed';
COMMENT ON COLUMN idempotent.offsets.advanced_at IS 'when that was';

-- Part of a dump: the restored tables have the effects of what lies before the offsets.
SELECT pg_catalog.pg_extension_config_dump('idempotent.offsets', '');

CREATE FUNCTION idempotent_advance(
    consumer  text,
    partition text,
    "offset"  bigint,
    scope     text = ''
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'idempotent_advance';
COMMENT ON FUNCTION idempotent_advance(text, text, bigint, text) IS
'whether the offset lies beyond the stored one, which then moves to it with the caller''s transaction';

REVOKE ALL ON FUNCTION idempotent_advance(text, text, bigint, text) FROM PUBLIC;
GRANT SELECT ON idempotent.offsets TO pg_monitor;

-- Locks with a key: held beyond a transaction and a connection, by whoever knows the key, for a time. Always logged: a
-- crash must not leave two holders.
CREATE TABLE idempotent.locks (
    expires_at  timestamptz NOT NULL,
    acquired_at timestamptz NOT NULL,
    fence       bigint NOT NULL,
    resource    text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL,
    holder      text COLLATE "C" NOT NULL,
    CONSTRAINT locks_pkey PRIMARY KEY (resource, scope)
);
CREATE INDEX locks_expires_at_idx ON idempotent.locks (expires_at);
COMMENT ON TABLE idempotent.locks IS 'locks that are held, or have lapsed and are not yet swept: see idempotent_lock()';
COMMENT ON INDEX idempotent.locks_expires_at_idx IS 'what the sweeper has to look at next';
COMMENT ON COLUMN idempotent.locks.expires_at IS 'from then on anybody may take it';
COMMENT ON COLUMN idempotent.locks.acquired_at IS 'since when its holder has it';
COMMENT ON COLUMN idempotent.locks.fence IS 'the number by which a holder that has lost it is recognised';
COMMENT ON COLUMN idempotent.locks.resource IS 'what is locked';
COMMENT ON COLUMN idempotent.locks.scope IS 'whose resource it is';
COMMENT ON COLUMN idempotent.locks.holder IS 'the key with which it was taken';

-- Part of a dump: who was granted a lock believes in it until it ends.
SELECT pg_catalog.pg_extension_config_dump('idempotent.locks', '');

CREATE FUNCTION idempotent_lock(
    resource       text,
    key            text,
    ttl            interval,
    scope          text = '',
    OUT acquired   boolean,
    OUT fence      bigint,
    OUT holder     text,
    OUT expires_at timestamptz
)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_lock';
COMMENT ON FUNCTION idempotent_lock(text, text, interval, text) IS
'take a resource for a time, or extend it with the same key; says who has it, and waits only for a transaction that has not yet ended with it';

CREATE FUNCTION idempotent_unlock(
    resource text,
    key      text,
    fence    bigint,
    scope    text = ''
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_unlock';
COMMENT ON FUNCTION idempotent_unlock(text, text, bigint, text) IS
'give a resource back; false if it is no longer held with this key and fence';

REVOKE ALL ON FUNCTION idempotent_lock(text, text, interval, text), idempotent_unlock(text, text, bigint, text) FROM PUBLIC;
GRANT SELECT ON idempotent.locks TO pg_monitor;

-- Operations in observation: what their calls would have been answered.

CREATE FUNCTION idempotent.samples() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_samples';
COMMENT ON FUNCTION idempotent.samples() IS
'examples of what was observed, by operation and kind; see the view idempotent.observed';

CREATE VIEW idempotent.observed AS
WITH counted AS (
    SELECT c.operation, c.observed_first AS first, c.observed_duplicate AS duplicates, c.observed_mismatch AS mismatches,
           c.observed_concurrent AS concurrent, c.observed_expired AS expired, c.observed_unknown AS unknown,
           c.observed_sealed AS sealed, c.observed_missing_key AS missing_keys, c.observed_bad_key AS bad_keys,
           c.observed_unfinished AS unfinished,
           c.observed_first OPERATOR(pg_catalog.+) c.observed_duplicate OPERATOR(pg_catalog.+) c.observed_mismatch
               OPERATOR(pg_catalog.+) c.observed_concurrent OPERATOR(pg_catalog.+) c.observed_expired
               OPERATOR(pg_catalog.+) c.observed_unknown OPERATOR(pg_catalog.+) c.observed_sealed
               OPERATOR(pg_catalog.+) c.observed_missing_key OPERATOR(pg_catalog.+) c.observed_bad_key AS calls
    FROM pg_catalog.jsonb_to_recordset(idempotent.counters()) AS c (
        operation text, observed_first bigint, observed_duplicate bigint, observed_mismatch bigint, observed_concurrent bigint,
        observed_expired bigint, observed_unknown bigint, observed_sealed bigint, observed_missing_key bigint,
        observed_bad_key bigint, observed_unfinished bigint)
)
SELECT n.operation, COALESCE(o.mode, 'enforce') AS mode, n.calls, n.first, n.duplicates, n.mismatches, n.concurrent, n.expired,
       n.unknown, n.sealed, n.missing_keys, n.bad_keys, n.unfinished, s.samples OPERATOR(pg_catalog.->) n.operation AS samples
FROM counted AS n
CROSS JOIN (SELECT idempotent.samples() AS samples) AS s
LEFT JOIN idempotent.operation AS o ON o.name OPERATOR(pg_catalog.=) n.operation
WHERE n.calls OPERATOR(pg_catalog.>) 0::bigint;
COMMENT ON VIEW idempotent.observed IS 'what the calls of operations in observation would have been answered, since the server started or idempotent_stats_reset(); rolled back or not';
COMMENT ON COLUMN idempotent.observed.operation IS 'the operation';
COMMENT ON COLUMN idempotent.observed.mode IS 'its mode now';
COMMENT ON COLUMN idempotent.observed.calls IS 'claims and runs that went through while it was observed';
COMMENT ON COLUMN idempotent.observed.first IS 'of these, those that would have run';
COMMENT ON COLUMN idempotent.observed.duplicates IS 'would have been answered with the stored answer';
COMMENT ON COLUMN idempotent.observed.mismatches IS 'came with a key that was used with another request';
COMMENT ON COLUMN idempotent.observed.concurrent IS 'came while another call with the key was at work: would have waited for it';
COMMENT ON COLUMN idempotent.observed.expired IS 'came with a key that is dated longer ago than the retention';
COMMENT ON COLUMN idempotent.observed.unknown IS 'nobody could have told whether the work was done';
COMMENT ON COLUMN idempotent.observed.sealed IS 'came with a key of which it was decided that it never runs';
COMMENT ON COLUMN idempotent.observed.missing_keys IS 'came without a key: ID006 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.bad_keys IS 'came with a key or scope that breaks the rules: ID006 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.unfinished IS 'transactions that claimed a key and committed without an answer for it: ID009 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.samples IS 'the latest few of each kind: scope, key, and when';

REVOKE ALL ON FUNCTION idempotent.samples() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent.samples() TO pg_monitor;
GRANT SELECT ON idempotent.observed TO pg_monitor;

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
)
SELECT t.what, t.durability, pg_catalog.count(d.since) AS due,
       pg_catalog.count(*) FILTER (WHERE d.is_expired) AS expired,
       pg_catalog.count(*) FILTER (WHERE NOT d.is_expired) AS evictable,
       pg_catalog.min(d.since) AS oldest
FROM (VALUES ('records', 'unlogged'), ('records', 'logged'), ('messages', 'logged'), ('locks', 'logged')) AS t (what, durability)
LEFT JOIN due AS d ON d.what OPERATOR(pg_catalog.=) t.what AND d.durability OPERATOR(pg_catalog.=) t.durability
GROUP BY t.what, t.durability;
COMMENT ON VIEW idempotent.backlog IS 'what waits for the sweeper, per table';
COMMENT ON COLUMN idempotent.backlog.what IS 'records, messages that consumers have seen, or locks with a key';
COMMENT ON COLUMN idempotent.backlog.durability IS 'which table of records: unlogged or logged; the others are logged';
COMMENT ON COLUMN idempotent.backlog.due IS 'rows that the sweeper has to look at';
COMMENT ON COLUMN idempotent.backlog.expired IS 'of these, rows to delete';
COMMENT ON COLUMN idempotent.backlog.evictable IS 'of these, records of which only the body goes: past response_retention';
COMMENT ON COLUMN idempotent.backlog.oldest IS 'since when the oldest of them is due';

CREATE VIEW idempotent.health AS
SELECT l.version, e.extversion AS schema_version, l.preloaded, l.last_sweep, l.sweep_failures,
       (SELECT pg_catalog.max(r.reset_at) FROM idempotent.reset AS r) AS last_reset,
       t.records, t.messages, t.locks, t.bytes
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

GRANT SELECT ON idempotent.backlog, idempotent.health TO pg_monitor;

-- Last, as it takes the one lock here that keeps others out: of the operations' settings, until this commits. Whoever
-- reads them holds a lock for that moment alone.
COMMENT ON COLUMN idempotent.operation.mode IS 'enforce: outcomes are binding; observe: every call goes through, and outcomes are counted';
ALTER TABLE idempotent.operation
    DROP CONSTRAINT operation_mode,
    ADD CONSTRAINT operation_mode CHECK (mode OPERATOR(pg_catalog.=) ANY ('{enforce,observe}'::pg_catalog.text[]));

-- Outbox: messages that a transaction wants sent, put into a table with its business rows, so that they commit or vanish
-- together. A relay takes them under a lease, sends them and acknowledges.
--
-- Per topic and key they are taken in the order in which their transactions committed. A sequence alone does not give that:
-- who draws 1 may commit after 2 was taken, and 1 would come late. Nor would waiting for all older transactions: they would
-- all wait for the slowest one, and who draws the lower number may yet be the one that saw the other's rows. So a put holds
-- an advisory lock on topic and key until its transaction ends, and draws the position under it. Within a key, then, whoever
-- sees a message sees all that come before it. Postgres lets go of such a lock after the commit is visible.
--
-- Advisory locks share a table with everybody's, so a transaction that puts thousands of keys takes one on the topic instead.

CREATE SEQUENCE idempotent.outbox_position;
COMMENT ON SEQUENCE idempotent.outbox_position IS 'positions of messages in the outbox; they grow with every put';

-- Indexes on nothing that a lease changes: taking a message touches none of them.
CREATE TABLE idempotent.outbox_message (
    position    bigint NOT NULL,
    message_id  uuid NOT NULL,
    put_at      timestamptz NOT NULL,
    fence       bigint,
    lease_until timestamptz,
    attempt     integer NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    key         text COLLATE "C",
    payload     jsonb NOT NULL,
    CONSTRAINT outbox_message_pkey PRIMARY KEY (message_id),
    CONSTRAINT outbox_message_position UNIQUE (topic, position)
) WITH (fillfactor = 80);
CREATE INDEX outbox_message_key_idx ON idempotent.outbox_message (topic, key, position) WHERE key IS NOT NULL;
-- Without statistics a key is taken to be one of many, and its index is used. What they tell of a queue is soon not so.
ALTER TABLE idempotent.outbox_message ALTER COLUMN key SET STATISTICS 0;
COMMENT ON TABLE idempotent.outbox_message IS 'messages put and not yet acknowledged: see idempotent_outbox_put()';
COMMENT ON INDEX idempotent.outbox_message_key_idx IS 'what comes before a message of a key';
COMMENT ON COLUMN idempotent.outbox_message.position IS 'where it stands: within a key, in the order of the commits';
COMMENT ON COLUMN idempotent.outbox_message.message_id IS 'the same in every delivery: what receivers recognise it by';
COMMENT ON COLUMN idempotent.outbox_message.put_at IS 'when it was put';
COMMENT ON COLUMN idempotent.outbox_message.fence IS 'of the latest take; null: never taken, or given back';
COMMENT ON COLUMN idempotent.outbox_message.lease_until IS 'until then nobody else takes it; null: whoever comes';
COMMENT ON COLUMN idempotent.outbox_message.attempt IS 'how often it was taken';
COMMENT ON COLUMN idempotent.outbox_message.topic IS 'who takes it';
COMMENT ON COLUMN idempotent.outbox_message.key IS 'messages of one key are taken in order; null: in any';
COMMENT ON COLUMN idempotent.outbox_message.payload IS 'what is to be sent';

-- Part of a dump: a restored database still has to send what it had not sent.
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_position', '');
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_message', '');

CREATE FUNCTION idempotent.check_name(what text, name text, max_bytes integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF name IS NULL OR pg_catalog.octet_length(name) OPERATOR(pg_catalog.=) 0 THEN
        RAISE EXCEPTION '% must not be %', what, CASE WHEN name IS NULL THEN 'null' ELSE 'empty' END
            USING ERRCODE = 'ID006',
                  DETAIL = pg_catalog.format('The %s is text of %s to %s bytes.', what, CASE what WHEN 'scope' THEN 0 ELSE 1 END, max_bytes),
                  HINT = CASE what
                             WHEN 'topic' THEN 'Pass a short name of who takes the messages, such as ''orders''.'
                             WHEN 'key' THEN 'Pass the key that is meant, such as ''order-1''.'
                             WHEN 'scope' THEN 'Pass whose key it is, such as scope => ''tenant-7'', or leave scope out.'
                             WHEN 'name' THEN 'Pass the name of the saga, such as ''order''.'
                             ELSE 'Name each step: {"name": "reserve", "handler": "shop.reserve(jsonb)"}.'
                         END;
    ELSIF pg_catalog.octet_length(name) OPERATOR(pg_catalog.>) max_bytes THEN
        RAISE EXCEPTION '% is too long', what
            USING ERRCODE = 'ID006', DETAIL = pg_catalog.format('It has %s bytes, and %s are allowed.', pg_catalog.octet_length(name), max_bytes),
                  HINT = 'Pass a shorter one, e.g. a digest of it.';
    ELSIF name OPERATOR(pg_catalog.~) '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION '% must not hold control characters', what
            USING ERRCODE = 'ID006', HINT = 'Pass printable text.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.check_name(text, text, integer) IS 'refuses with ID006 what is no name';

CREATE FUNCTION idempotent.check_lease(what text, lease interval, shortest interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF lease IS NULL OR lease OPERATOR(pg_catalog.<) shortest OR lease OPERATOR(pg_catalog.>) '1 year'::pg_catalog.interval THEN
        RAISE EXCEPTION '% must be an interval from % to 1 year', what, shortest
            USING ERRCODE = '22023', HINT = 'Pass e.g. ''30 seconds''.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.check_lease(text, interval, interval) IS 'refuses with 22023 what is no length of time for a lease';

-- A transaction's share of the lock table: beyond it one lock on the whole topic stands for those on its keys. The count is a
-- setting of the transaction, so it follows savepoints as the locks do.
CREATE FUNCTION idempotent.outbox_lock(topic text, key text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    share   CONSTANT integer := 16 OPERATOR(pg_catalog.*) pg_catalog.current_setting('max_locks_per_transaction')::integer;
    whole   CONSTANT bigint := pg_catalog.hashtextextended(pg_catalog.concat('pg_idempotent outbox', E'\n', topic), 0);
    lane    CONSTANT bigint := pg_catalog.hashtextextended(pg_catalog.concat('pg_idempotent outbox', E'\n', topic, E'\n', key), 0);
    counted text := COALESCE(pg_catalog.current_setting('pg_idempotent.outbox_locks', true), '');
    taken   integer := COALESCE(pg_catalog.substring(counted, '^([0-9]{1,9}) '), '0')::integer;
BEGIN
    IF pg_catalog.substring(counted, ' (.*)$') IS DISTINCT FROM lane::text THEN
        taken := taken OPERATOR(pg_catalog.+) 1;
        PERFORM pg_catalog.set_config('pg_idempotent.outbox_locks', pg_catalog.concat(taken, ' ', lane), true);
    END IF;
    IF taken OPERATOR(pg_catalog.>) share THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(whole);
    ELSE
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(whole);
        PERFORM pg_catalog.pg_advisory_xact_lock(lane);
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.outbox_lock(text, text) IS 'lets one transaction at a time put messages of a topic and key';

-- SECURITY DEFINER, as all that follow: whoever is granted EXECUTE needs no rights on the table.
-- COLLATE "C", as the columns have it: arguments may come from a column with a collation of its own.
CREATE FUNCTION idempotent_outbox_put(
    topic      text,
    payload    jsonb,
    key        text = NULL,
    message_id uuid = NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment CONSTANT timestamptz := pg_catalog.clock_timestamp();
    id     uuid := message_id;
    same   boolean;
BEGIN
    PERFORM idempotent.check_name('topic', topic COLLATE "C", 63);
    IF key IS NOT NULL THEN
        PERFORM idempotent.check_name('key', key COLLATE "C", 255);
    END IF;
    IF payload IS NULL THEN
        RAISE EXCEPTION 'payload must not be null'
            USING ERRCODE = '22023', HINT = 'Pass ''null''::jsonb, or what the receiver needs.';
    END IF;
    IF id IS NULL THEN
        -- UUIDv7: random, with the time in its first 48 bits. New ones stand together in the index, and a receiver can tell
        -- how old one is.
        id := pg_catalog.encode(pg_catalog.set_bit(pg_catalog.set_bit(
            pg_catalog."overlay"(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()),
                pg_catalog.substring(pg_catalog.int8send(pg_catalog.floor(EXTRACT(epoch FROM moment) OPERATOR(pg_catalog.*) 1000::numeric)::bigint), 3, 6),
                1, 6), 52, 1), 53, 1), 'hex')::uuid;
    END IF;
    IF key IS NOT NULL THEN
        PERFORM idempotent.outbox_lock(topic COLLATE "C", key COLLATE "C");
    END IF;
    LOOP
        INSERT INTO idempotent.outbox_message (position, message_id, put_at, attempt, topic, key, payload)
        VALUES (pg_catalog.nextval('idempotent.outbox_position'), id, moment, 0,
                idempotent_outbox_put.topic, idempotent_outbox_put.key, idempotent_outbox_put.payload)
        ON CONFLICT ON CONSTRAINT outbox_message_pkey DO NOTHING;
        IF FOUND THEN
            RETURN id;
        END IF;
        -- A message of this name is there already: put again, it is the same message.
        SELECT m.topic OPERATOR(pg_catalog.=) idempotent_outbox_put.topic COLLATE "C"
               AND m.key IS NOT DISTINCT FROM idempotent_outbox_put.key COLLATE "C"
               AND m.payload OPERATOR(pg_catalog.=) idempotent_outbox_put.payload
          INTO same
          FROM idempotent.outbox_message AS m WHERE m.message_id OPERATOR(pg_catalog.=) id;
        IF same THEN
            RETURN id;
        ELSIF NOT same THEN
            RAISE EXCEPTION 'the message id was used for another message'
                USING ERRCODE = 'ID002', DETAIL = pg_catalog.format('Message %s.', id),
                      HINT = 'Pass the same topic, key and payload again, or leave out message_id.';
        END IF;
        -- Acknowledged in between, so it is gone: look again.
    END LOOP;
END $$;
COMMENT ON FUNCTION idempotent_outbox_put(text, jsonb, text, uuid) IS
'put a message into the outbox, with the caller''s transaction; returns its id';

CREATE FUNCTION idempotent_outbox_take(
    topic text,
    batch integer = 100,
    lease interval = '30 seconds'
) RETURNS TABLE (message_id uuid, fence bigint, key text, payload jsonb, attempt integer, put_at timestamptz, lease_until timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Whatever the statistics say, which lag behind a queue: in the order of the index, and no further than the batch.
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
ROWS 100 AS $$
DECLARE
    missing integer := batch;
    busy    text[] := '{}';  -- keys of which somebody else is just taking or acknowledging an earlier message
    moment  timestamptz;
    granted bigint;
    locked  bigint[];
    mine    bigint[];
    others  text[];
    number  bigint;
BEGIN
    PERFORM idempotent.check_name('topic', topic COLLATE "C", 63);
    PERFORM idempotent.check_lease('lease', lease, '1 microsecond');
    IF batch IS NULL OR batch OPERATOR(pg_catalog.<) 1 OR batch OPERATOR(pg_catalog.>) 1000 THEN
        RAISE EXCEPTION 'batch must be a number from 1 to 1000'
            USING ERRCODE = '22023', HINT = 'Take several batches if there is more.';
    END IF;
    WHILE missing OPERATOR(pg_catalog.>) 0 LOOP
        moment := pg_catalog.clock_timestamp();
        -- Waits for nobody: a message that another relay is just taking is skipped. Of a key whose first message is leased
        -- nothing is locked. That looks at one message for each, and not at all before it, and past what is acknowledged
        -- and not yet vacuumed.
        SELECT pg_catalog.array_agg(c.position) INTO locked
          FROM (SELECT m.position FROM idempotent.outbox_message AS m
                 WHERE m.topic OPERATOR(pg_catalog.=) idempotent_outbox_take.topic COLLATE "C"
                   AND (m.lease_until IS NULL OR m.lease_until OPERATOR(pg_catalog.<=) moment)
                   AND (m.key IS NULL
                        OR m.key COLLATE "C" OPERATOR(pg_catalog.<>) ALL (busy)
                       AND (SELECT e.lease_until IS NULL OR e.lease_until OPERATOR(pg_catalog.<=) moment
                              FROM idempotent.outbox_message AS e
                             WHERE e.topic OPERATOR(pg_catalog.=) m.topic AND e.key OPERATOR(pg_catalog.=) m.key
                               AND e.position OPERATOR(pg_catalog.>=) (
                                   SELECT f.position FROM idempotent.outbox_message AS f
                                    WHERE f.topic OPERATOR(pg_catalog.=) idempotent_outbox_take.topic COLLATE "C" ORDER BY f.position LIMIT 1)
                             ORDER BY e.position LIMIT 1))
                 ORDER BY m.position LIMIT missing FOR UPDATE OF m SKIP LOCKED) AS c;
        EXIT WHEN locked IS NULL;
        -- Of a key, only what has nothing before it that we have not locked as well: what was skipped is being taken by
        -- somebody, or was taken since we looked. Nothing can have come in before: see above.
        WITH candidate AS MATERIALIZED (
            SELECT m.position, m.key FROM idempotent.outbox_message AS m
             WHERE m.topic OPERATOR(pg_catalog.=) idempotent_outbox_take.topic COLLATE "C" AND m.position OPERATOR(pg_catalog.=) ANY (locked)
        ), gap AS MATERIALIZED (
            SELECT k.key, first.position
              FROM (SELECT c.key, pg_catalog.max(c.position) AS last FROM candidate AS c WHERE c.key IS NOT NULL GROUP BY c.key) AS k
             CROSS JOIN LATERAL (SELECT e.position FROM idempotent.outbox_message AS e
                                  WHERE e.topic OPERATOR(pg_catalog.=) idempotent_outbox_take.topic COLLATE "C" AND e.key OPERATOR(pg_catalog.=) k.key
                                    AND e.position OPERATOR(pg_catalog.<) k.last
                                    AND e.position OPERATOR(pg_catalog.<>) ALL (locked)
                                  ORDER BY e.position LIMIT 1) AS first
        )
        SELECT pg_catalog.array_agg(c.position) FILTER (WHERE g.position IS NULL OR c.position OPERATOR(pg_catalog.<) g.position),
               pg_catalog.array_agg(DISTINCT c.key) FILTER (WHERE c.position OPERATOR(pg_catalog.>) g.position)
          INTO mine, others
          FROM candidate AS c LEFT JOIN gap AS g ON g.key OPERATOR(pg_catalog.=) c.key;
        IF mine IS NOT NULL THEN
            granted := COALESCE(granted, pg_catalog.nextval('idempotent.fence'));
            RETURN QUERY
            WITH taken AS (
                UPDATE idempotent.outbox_message AS m
                   SET fence = granted, lease_until = moment OPERATOR(pg_catalog.+) lease, attempt = m.attempt OPERATOR(pg_catalog.+) 1
                 WHERE m.topic OPERATOR(pg_catalog.=) idempotent_outbox_take.topic COLLATE "C" AND m.position OPERATOR(pg_catalog.=) ANY (mine)
                RETURNING m.*
            )
            SELECT t.message_id, t.fence, t.key, t.payload, t.attempt, t.put_at, t.lease_until FROM taken AS t ORDER BY t.position;
            GET DIAGNOSTICS number = ROW_COUNT;
            missing := missing OPERATOR(pg_catalog.-) number::integer;
        END IF;
        -- Others' keys left room: fill it with what does not belong to them.
        EXIT WHEN others IS NULL;
        busy := busy OPERATOR(pg_catalog.||) others;
    END LOOP;
    -- What is sent must not be undone by a crash, nor the fence be granted again: flushed with this transaction is all that
    -- committed before.
    IF granted IS NOT NULL AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'local', true);
    END IF;
END $$;
COMMENT ON FUNCTION idempotent_outbox_take(text, integer, interval) IS
'take messages of a topic to send them, under a lease; commit before sending';

-- Locks those that are held under the fence, and returns their positions. Never taken, given back, or taken by another since:
-- the caller must not go on. Those that are not there are acknowledged.
CREATE FUNCTION idempotent.outbox_held(topic text, message_ids uuid[], fence bigint) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held  bigint[];
    stale uuid;
BEGIN
    PERFORM idempotent.check_name('topic', topic COLLATE "C", 63);
    IF message_ids IS NULL THEN
        RAISE EXCEPTION 'message_ids must not be null'
            USING ERRCODE = '22023', HINT = 'Pass an array of what idempotent_outbox_take returned.';
    ELSIF fence IS NULL THEN
        RAISE EXCEPTION 'the fence is missing'
            USING ERRCODE = 'ID003', HINT = 'Pass the fence that idempotent_outbox_take returned with the messages.';
    END IF;
    -- In one order, so that two of these never wait for each other.
    SELECT pg_catalog.array_agg(m.position),
           (pg_catalog.array_agg(m.message_id) FILTER (WHERE m.fence IS DISTINCT FROM outbox_held.fence))[1]
      INTO held, stale
      FROM (SELECT o.position, o.message_id, o.fence FROM idempotent.outbox_message AS o
             WHERE o.topic OPERATOR(pg_catalog.=) outbox_held.topic COLLATE "C" AND o.message_id OPERATOR(pg_catalog.=) ANY (message_ids)
             ORDER BY o.position FOR UPDATE OF o) AS m;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'the fence is stale'
            USING ERRCODE = 'ID003', DETAIL = pg_catalog.format('Message %s of topic "%s" is not held with fence %s.', stale, topic, fence),
                  HINT = 'Its lease lapsed and somebody else took it, or it was given back. Nothing was changed. Take messages again.';
    END IF;
    RETURN held;
END $$;
COMMENT ON FUNCTION idempotent.outbox_held(text, uuid[], bigint) IS 'lock messages that are held under a fence; ID003 if one is not';

CREATE FUNCTION idempotent_outbox_ack(
    topic       text,
    message_ids uuid[],
    fence       bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held   CONSTANT bigint[] := idempotent.outbox_held(topic, message_ids, fence);
    number bigint;
BEGIN
    DELETE FROM idempotent.outbox_message AS m
     WHERE m.topic OPERATOR(pg_catalog.=) idempotent_outbox_ack.topic COLLATE "C" AND m.position OPERATOR(pg_catalog.=) ANY (held);
    GET DIAGNOSTICS number = ROW_COUNT;
    RETURN number;
END $$;
COMMENT ON FUNCTION idempotent_outbox_ack(text, uuid[], bigint) IS
'the messages are delivered, and go; returns how many there were';

CREATE FUNCTION idempotent_outbox_release(
    topic       text,
    message_ids uuid[],
    fence       bigint,
    delay       interval = '0'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held   CONSTANT bigint[] := idempotent.outbox_held(topic, message_ids, fence);
    number bigint;
BEGIN
    PERFORM idempotent.check_lease('delay', delay, '0');
    UPDATE idempotent.outbox_message AS m
       SET fence = NULL, lease_until = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) delay
     WHERE m.topic OPERATOR(pg_catalog.=) idempotent_outbox_release.topic COLLATE "C" AND m.position OPERATOR(pg_catalog.=) ANY (held);
    GET DIAGNOSTICS number = ROW_COUNT;
    RETURN number;
END $$;
COMMENT ON FUNCTION idempotent_outbox_release(text, uuid[], bigint, interval) IS
'give taken messages back: they can be taken again after the delay; returns how many there were';

CREATE VIEW idempotent.outbox AS
SELECT m.topic, pg_catalog.count(*) AS messages,
       pg_catalog.count(*) FILTER (WHERE m.fence IS NULL) AS waiting,
       pg_catalog.count(*) FILTER (WHERE m.fence IS NOT NULL AND m.lease_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) AS leased,
       pg_catalog.count(*) FILTER (WHERE m.fence IS NOT NULL AND m.lease_until OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()) AS lapsed,
       pg_catalog.count(DISTINCT m.key) AS keys, pg_catalog.max(m.attempt) AS attempts, pg_catalog.min(m.put_at) AS oldest
FROM idempotent.outbox_message AS m
GROUP BY m.topic;
COMMENT ON VIEW idempotent.outbox IS 'what is in the outbox, per topic';
COMMENT ON COLUMN idempotent.outbox.topic IS 'who takes the messages';
COMMENT ON COLUMN idempotent.outbox.messages IS 'put and not acknowledged';
COMMENT ON COLUMN idempotent.outbox.waiting IS 'of these, not taken or given back';
COMMENT ON COLUMN idempotent.outbox.leased IS 'of these, with a relay';
COMMENT ON COLUMN idempotent.outbox.lapsed IS 'of these, with a relay that is late, or gone';
COMMENT ON COLUMN idempotent.outbox.keys IS 'how many keys they have';
COMMENT ON COLUMN idempotent.outbox.attempts IS 'how often one of them was taken, at most';
COMMENT ON COLUMN idempotent.outbox.oldest IS 'when the oldest of them was put';

REVOKE ALL ON FUNCTION
    idempotent.check_name(text, text, integer),
    idempotent.check_lease(text, interval, interval),
    idempotent.outbox_lock(text, text),
    idempotent.outbox_held(text, uuid[], bigint),
    idempotent_outbox_put(text, jsonb, text, uuid),
    idempotent_outbox_take(text, integer, interval),
    idempotent_outbox_ack(text, uuid[], bigint),
    idempotent_outbox_release(text, uuid[], bigint, interval)
FROM PUBLIC;
GRANT SELECT ON idempotent.outbox TO pg_monitor;

-- Sagas, their definition: the steps, in order, each with the handler that does it and the one that undoes it.

CREATE TABLE idempotent.saga (
    name       text COLLATE "C" PRIMARY KEY,
    steps      jsonb NOT NULL,
    defined_at timestamptz NOT NULL
);
COMMENT ON TABLE idempotent.saga IS 'the steps of each saga; change them with idempotent_saga()';
COMMENT ON COLUMN idempotent.saga.name IS 'the saga, 1 to 63 bytes; an operation of this name says how long its answers are kept';
COMMENT ON COLUMN idempotent.saga.steps IS 'an array of objects with name, handler, compensation and final';
COMMENT ON COLUMN idempotent.saga.defined_at IS 'when it was defined last';

-- Part of a dump, as settings are.
SELECT pg_catalog.pg_extension_config_dump('idempotent.saga', '');

-- Errors that say "try again", or that nobody knows what came of the work, are never final: as with store_failures.
CREATE FUNCTION idempotent.saga_steps(steps jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found   jsonb := '[]';
    names   text[] := '{}';
    element jsonb;
    member  text;
    code    text;
    number  bigint;
    final   jsonb;
BEGIN
    IF steps IS NULL OR pg_catalog.jsonb_typeof(steps) OPERATOR(pg_catalog.<>) 'array'
       OR pg_catalog.jsonb_array_length(steps) OPERATOR(pg_catalog.=) 0 OR pg_catalog.jsonb_array_length(steps) OPERATOR(pg_catalog.>) 100 THEN
        RAISE EXCEPTION 'steps must be an array of 1 to 100 objects'
            USING ERRCODE = '22023', HINT = 'Pass e.g. ''[{"name": "reserve", "handler": "shop.reserve(jsonb)", "compensation": "shop.unreserve(jsonb)"}]''.';
    END IF;
    FOR element, number IN SELECT e.value, e.ordinality FROM pg_catalog.jsonb_array_elements(steps) WITH ORDINALITY AS e LOOP
        IF pg_catalog.jsonb_typeof(element) OPERATOR(pg_catalog.<>) 'object' THEN
            RAISE EXCEPTION 'step % is no object', number
                USING ERRCODE = '22023', HINT = 'Each step is an object with name and handler, and perhaps compensation and final.';
        END IF;
        FOR member IN SELECT k FROM pg_catalog.jsonb_object_keys(element) AS k LOOP
            IF member OPERATOR(pg_catalog.<>) ALL ('{name,handler,compensation,final}'::text[]) THEN
                RAISE EXCEPTION 'step % has a member that means nothing', number
                    USING ERRCODE = '22023', DETAIL = pg_catalog.format('Its name is %I.', member), HINT = 'A step has name, handler, compensation and final.';
            END IF;
        END LOOP;
        PERFORM idempotent.check_name('name of a step', element OPERATOR(pg_catalog.->>) 'name', 63);
        IF (element OPERATOR(pg_catalog.->>) 'name') OPERATOR(pg_catalog.=) ANY (names) THEN
            RAISE EXCEPTION 'two steps have the same name'
                USING ERRCODE = '22023', DETAIL = pg_catalog.format('Both are called "%s".', element OPERATOR(pg_catalog.->>) 'name'),
                      HINT = 'Answers are told apart by the names of their steps.';
        END IF;
        final := COALESCE(element OPERATOR(pg_catalog.->) 'final', '[]');
        names := names OPERATOR(pg_catalog.||) (element OPERATOR(pg_catalog.->>) 'name');
        IF pg_catalog.jsonb_typeof(final) OPERATOR(pg_catalog.<>) 'array' THEN
            RAISE EXCEPTION 'final of step % must be an array', number
                USING ERRCODE = '22023', HINT = 'Pass SQLSTATEs or classes of them, e.g. "final": ["P0001", "23"].';
        END IF;
        FOREACH code IN ARRAY ARRAY(SELECT pg_catalog.jsonb_array_elements_text(final)) LOOP
            IF COALESCE(code, '') OPERATOR(pg_catalog.!~) '^([0-9A-Z]{2}|[0-9A-Z]{5})$' OR idempotent.never_final(code) THEN
                RAISE EXCEPTION 'step % cannot have that error as its final failure', number
                    USING ERRCODE = '22023', DETAIL = pg_catalog.format('It says %L.', code),
                          HINT = 'Name SQLSTATEs like "P0001" or classes like "23", but none that says "try again" (08, 40, 53, 55P03, 57, 58) or that something is broken (XX, ID, 00).';
            END IF;
        END LOOP;
        found := found OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
            'name', element OPERATOR(pg_catalog.->) 'name',
            'handler', idempotent.saga_handler(element OPERATOR(pg_catalog.->>) 'handler', number),
            'compensation', CASE WHEN element OPERATOR(pg_catalog.->>) 'compensation' IS NOT NULL
                                 THEN idempotent.saga_handler(element OPERATOR(pg_catalog.->>) 'compensation', number) END,
            'final', final));
    END LOOP;
    RETURN found;
END $$;
COMMENT ON FUNCTION idempotent.saga_steps(jsonb) IS 'the steps of a saga, checked, with the full names of their handlers';

CREATE FUNCTION idempotent.never_final(code text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT code OPERATOR(pg_catalog.~) '^(00|08|40|53|57|58|ID|XX)' OR code OPERATOR(pg_catalog.=) '55P03'
$$;
COMMENT ON FUNCTION idempotent.never_final(text) IS 'whether an error says "try again", or that something is broken';

CREATE FUNCTION idempotent.saga_handler(named text, number bigint) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found     oid;
    full_name text;
BEGIN
    BEGIN
        found := pg_catalog.to_regprocedure(named);
    EXCEPTION WHEN syntax_error_or_access_rule_violation OR invalid_text_representation OR invalid_schema_name OR feature_not_supported OR too_many_arguments THEN
        found := NULL;  -- it is no name of a function at all
    END;
    SELECT pg_catalog.format('%I.%I', n.nspname, p.proname) INTO full_name
      FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
     WHERE p.oid OPERATOR(pg_catalog.=) found AND p.prokind OPERATOR(pg_catalog.=) 'f'::"char" AND NOT p.proretset
       AND p.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.jsonb'::regtype::oid
       AND p.proargtypes OPERATOR(pg_catalog.=) ARRAY['pg_catalog.jsonb'::regtype::oid]::oidvector;
    IF named IS NULL THEN
        RAISE EXCEPTION 'step % has no handler', number
            USING ERRCODE = '22023', HINT = 'Name it with its schema and its argument, e.g. "handler": "shop.reserve(jsonb)".';
    ELSIF full_name IS NULL THEN
        RAISE EXCEPTION 'step % has no such handler', number
            USING ERRCODE = '42883', DETAIL = pg_catalog.format('There is no function %s that takes and returns jsonb. The search_path does not count here.', named),
                  HINT = 'Name it with its schema and its argument, e.g. "shop.reserve(jsonb)".';
    END IF;
    RETURN full_name;
END $$;
COMMENT ON FUNCTION idempotent.saga_handler(text, bigint) IS 'the full name of a handler; 42883 if it is none';

CREATE FUNCTION idempotent_saga(name text, steps jsonb) RETURNS idempotent.saga
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    defined idempotent.saga;
BEGIN
    PERFORM idempotent.check_name('name', name, 63);
    INSERT INTO idempotent.saga AS s (name, steps, defined_at)
    VALUES (idempotent_saga.name, idempotent.saga_steps(idempotent_saga.steps), pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT saga_pkey DO UPDATE SET steps = EXCLUDED.steps, defined_at = EXCLUDED.defined_at
    RETURNING s.* INTO defined;
    RETURN defined;
END $$;
COMMENT ON FUNCTION idempotent_saga(text, jsonb) IS
'define a saga, or define it anew; what has started goes on with the steps that it started with';

REVOKE ALL ON FUNCTION
    idempotent.never_final(text),
    idempotent.saga_handler(text, bigint),
    idempotent.saga_steps(jsonb),
    idempotent_saga(text, jsonb)
FROM PUBLIC;

-- Sagas: work in several transactions, each of which happens once, and is undone if a later one fails for good. Where a saga
-- stands is a row, written in the transaction of the step itself, so that the step and the knowledge of it commit or vanish
-- together. A claim would add nothing to that: the row is the record. It is logged, whatever becomes of records.

CREATE TABLE idempotent.saga_run (
    started_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz,
    step       integer NOT NULL,
    state      text NOT NULL,
    saga       text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    steps      jsonb NOT NULL,
    request    jsonb,
    answers    jsonb NOT NULL,
    failure    jsonb,
    CONSTRAINT saga_run_pkey PRIMARY KEY (key, saga, scope),
    CONSTRAINT saga_run_state CHECK (state OPERATOR(pg_catalog.=) ANY ('{running,compensating,completed,compensated}'::pg_catalog.text[]))
);
CREATE INDEX saga_run_expires_at_idx ON idempotent.saga_run (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE idempotent.saga_run IS 'sagas that were started: see idempotent_saga_run() and the view idempotent.sagas';
COMMENT ON INDEX idempotent.saga_run_expires_at_idx IS 'what can be deleted';
COMMENT ON COLUMN idempotent.saga_run.started_at IS 'when it was called first';
COMMENT ON COLUMN idempotent.saga_run.changed_at IS 'when a step or a compensation was done last';
COMMENT ON COLUMN idempotent.saga_run.expires_at IS 'from then on it counts as absent; null: not finished';
COMMENT ON COLUMN idempotent.saga_run.step IS 'the step to run or to compensate next, from 1; 0 or beyond the last: none';
COMMENT ON COLUMN idempotent.saga_run.state IS 'running, compensating, completed or compensated';
COMMENT ON COLUMN idempotent.saga_run.saga IS 'the saga';
COMMENT ON COLUMN idempotent.saga_run.scope IS 'whose key it is';
COMMENT ON COLUMN idempotent.saga_run.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.saga_run.steps IS 'the steps as they were when it started';
COMMENT ON COLUMN idempotent.saga_run.request IS 'the request, which every handler sees';
COMMENT ON COLUMN idempotent.saga_run.answers IS 'the answers of the steps that are done, by name';
COMMENT ON COLUMN idempotent.saga_run.failure IS 'step, sqlstate and message of the failure that is final';

-- Part of a dump: a restored database has the effects of the steps, and must not do them again.
SELECT pg_catalog.pg_extension_config_dump('idempotent.saga_run', '');

CREATE FUNCTION idempotent.refuse_transaction_block() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_refuse_transaction_block';
COMMENT ON FUNCTION idempotent.refuse_transaction_block() IS 'refuses with 2D000 what commits by itself';

-- The saga's functions have their owner's rights, and so the caller is the outermost user. That is whoever called: no function with
-- the rights of another may call what commits.
CREATE FUNCTION idempotent.saga_check(name text, scope text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    caller CONSTANT pg_catalog.name := COALESCE(NULLIF(pg_catalog.current_setting('role'), 'none'), session_user::text);
    policy idempotent.operation;
BEGIN
    SELECT o.* INTO policy FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) saga_check.name;
    IF NOT pg_catalog.pg_has_role(caller, policy.role, 'USAGE') THEN
        RAISE EXCEPTION 'permission denied for operation "%"', name
            USING ERRCODE = '42501', DETAIL = 'The operation is for members of its role alone.', HINT = 'Ask an administrator: GRANT the operation''s role to yours.';
    ELSIF policy.scope_required AND scope OPERATOR(pg_catalog.=) '' THEN
        RAISE EXCEPTION 'scope must not be empty'
            USING ERRCODE = 'ID006', DETAIL = pg_catalog.format('Operation "%s" demands a scope.', name), HINT = 'Pass whose key it is, such as scope => ''tenant-7''.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.saga_check(text, text) IS 'refuses with 42501 who is no member of the role of the operation of the saga''s name, and with ID006 a scope that it demands';

-- One session at a time works on a saga, for a step at a time; the others wait for so long.
CREATE FUNCTION idempotent.saga_lock(name text, key text, scope text, wait interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lane   CONSTANT bigint := pg_catalog.hashtextextended(pg_catalog.concat('pg_idempotent saga', E'\n', name, E'\n', scope, E'\n', key), 0);
    before CONSTANT text := pg_catalog.current_setting('lock_timeout');
    millis integer;
BEGIN
    IF pg_catalog.pg_try_advisory_xact_lock(lane) THEN
        RETURN true;
    END IF;
    millis := pg_catalog.ceil(EXTRACT(epoch FROM COALESCE(wait, (SELECT o.wait FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) saga_lock.name),
                                                          pg_catalog.current_setting('idempotent.default_wait')::interval)) OPERATOR(pg_catalog.*) 1000::numeric)::integer;
    IF millis OPERATOR(pg_catalog.<=) 0 THEN
        RETURN false;
    END IF;
    -- In the lock manager, so that deadlocks are seen; the timeout is undone with the block.
    PERFORM pg_catalog.set_config('lock_timeout', pg_catalog.concat(millis, 'ms'), true);
    PERFORM pg_catalog.pg_advisory_xact_lock(lane);
    PERFORM pg_catalog.set_config('lock_timeout', before, true);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION idempotent.saga_lock(text, text, text, interval) IS 'lets one transaction at a time work on a saga; false: not within the wait';

CREATE FUNCTION idempotent_saga_next(
    name          text,
    key           text,
    request       jsonb,
    scope         text,
    wait          interval,
    OUT outcome   text,
    OUT failed    boolean,
    OUT answers   jsonb,
    OUT failure   jsonb,
    OUT state     text,
    OUT step      integer,
    OUT handler   text,
    OUT argument  jsonb,
    OUT final     text[]
) RETURNS record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment  timestamptz;
    run     idempotent.saga_run;
    current jsonb;
BEGIN
    PERFORM idempotent.saga_check(name, scope);
    PERFORM idempotent.refuse_transaction_block();
    PERFORM idempotent.check_name('name', name, 63);
    PERFORM idempotent.check_name('key', key, 255);
    IF scope IS DISTINCT FROM '' THEN
        PERFORM idempotent.check_name('scope', scope, 255);
    END IF;
    IF wait OPERATOR(pg_catalog.<) '0'::interval OR wait OPERATOR(pg_catalog.>) '7 days'::interval THEN
        RAISE EXCEPTION 'wait must be an interval from 0 to 7 days' USING ERRCODE = '22023', HINT = 'Pass e.g. ''5 seconds'', or ''0'' not to wait.';
    END IF;
    -- Another request is told so before it waits for anything.
    PERFORM FROM idempotent.saga_run AS r
      WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_next.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_next.scope
        AND r.request IS DISTINCT FROM idempotent_saga_next.request
        AND (r.expires_at IS NULL OR r.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp());
    IF FOUND THEN
        outcome := 'mismatch';
        RETURN;
    ELSIF NOT idempotent.saga_lock(name, key, scope, wait) THEN
        outcome := 'in_progress';
        RETURN;
    END IF;
    moment := pg_catalog.clock_timestamp();
    SELECT r.* INTO run FROM idempotent.saga_run AS r
     WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_next.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_next.scope
       FOR UPDATE OF r;
    IF run.expires_at OPERATOR(pg_catalog.<=) moment THEN
        DELETE FROM idempotent.saga_run AS r
         WHERE r.saga OPERATOR(pg_catalog.=) run.saga AND r.key OPERATOR(pg_catalog.=) run.key AND r.scope OPERATOR(pg_catalog.=) run.scope;
        run := NULL;
    END IF;
    IF run.saga IS NULL THEN
        INSERT INTO idempotent.saga_run AS r (started_at, changed_at, step, state, saga, scope, key, steps, request, answers)
        SELECT moment, moment, 1, 'running', s.name, idempotent_saga_next.scope, idempotent_saga_next.key, s.steps, idempotent_saga_next.request, '{}'
          FROM idempotent.saga AS s WHERE s.name OPERATOR(pg_catalog.=) idempotent_saga_next.name
        -- Nobody is in the way but one whom this transaction's snapshot does not see: 40001.
        ON CONFLICT ON CONSTRAINT saga_run_pkey DO NOTHING
        RETURNING r.* INTO run;
        IF run.saga IS NULL THEN
            RAISE EXCEPTION 'no such saga' USING ERRCODE = '42704', DETAIL = pg_catalog.format('Nobody has defined a saga "%s".', name),
                  HINT = 'Define it: SELECT idempotent_saga(name, steps).';
        END IF;
    ELSIF run.request IS DISTINCT FROM request THEN
        outcome := 'mismatch';
        RETURN;
    END IF;
    IF run.expires_at IS NOT NULL THEN
        outcome := 'replay';
        failed := run.state OPERATOR(pg_catalog.=) 'compensated';
        answers := run.answers;
        failure := run.failure;
        -- Each that is answered takes away two that have expired, so there is nothing to sweep. Not before: a handler may
        -- take long, and whoever calls one of the two would have to wait for it.
        DELETE FROM idempotent.saga_run AS r WHERE r.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
            SELECT e.ctid FROM idempotent.saga_run AS e WHERE e.expires_at OPERATOR(pg_catalog.<=) moment ORDER BY e.expires_at LIMIT 2 FOR UPDATE OF e SKIP LOCKED));
        RETURN;
    END IF;
    state := run.state;
    step := run.step;
    current := run.steps OPERATOR(pg_catalog.->) (run.step OPERATOR(pg_catalog.-) 1);
    argument := pg_catalog.jsonb_build_object('saga', run.saga, 'scope', run.scope, 'key', run.key, 'step', current OPERATOR(pg_catalog.->) 'name',
                                              'request', run.request, 'answers', run.answers);
    IF state OPERATOR(pg_catalog.=) 'running' THEN
        handler := current OPERATOR(pg_catalog.->>) 'handler';
        final := ARRAY(SELECT pg_catalog.jsonb_array_elements_text(current OPERATOR(pg_catalog.->) 'final'))
            OPERATOR(pg_catalog.||) COALESCE((SELECT o.store_failures FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) run.saga), '{}');
    ELSE
        handler := current OPERATOR(pg_catalog.->>) 'compensation';
        argument := argument OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('failure', run.failure,
            'answer', run.answers OPERATOR(pg_catalog.->) (current OPERATOR(pg_catalog.->>) 'name'));
        final := '{}';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent_saga_next(text, text, jsonb, text, interval) IS
'for idempotent_saga_run: what is to be done next, locked until the end of the transaction';

CREATE FUNCTION idempotent_saga_done(
    name    text,
    key     text,
    scope   text,
    state   text,
    step    integer,
    answer  jsonb,
    failure jsonb
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment    CONSTANT timestamptz := pg_catalog.clock_timestamp();
    run       idempotent.saga_run;
    now_at    integer;
    now_is    text := 'running';
    answered  jsonb;
    failed    jsonb;
    kept      interval;
BEGIN
    PERFORM idempotent.saga_check(name, scope);
    SELECT r.* INTO run FROM idempotent.saga_run AS r
     WHERE r.saga OPERATOR(pg_catalog.=) name AND r.key OPERATOR(pg_catalog.=) idempotent_saga_done.key AND r.scope OPERATOR(pg_catalog.=) idempotent_saga_done.scope
       FOR UPDATE OF r;
    IF run.state IS DISTINCT FROM state OR run.step IS DISTINCT FROM step THEN
        RAISE EXCEPTION 'the saga is not at this step' USING ERRCODE = 'ID007', DETAIL = pg_catalog.format('Saga "%s", step %s.', name, step),
              HINT = 'Call idempotent_saga_run, which does what is next.';
    END IF;
    answered := run.answers;
    failed := run.failure;
    IF state OPERATOR(pg_catalog.=) 'running' AND failure IS NULL THEN
        answered := answered OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(
            run.steps OPERATOR(pg_catalog.->) (step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->>) 'name', answer);
        now_at := step OPERATOR(pg_catalog.+) 1;
        IF now_at OPERATOR(pg_catalog.>) pg_catalog.jsonb_array_length(run.steps) THEN
            now_is := 'completed';
        END IF;
    ELSE
        IF state OPERATOR(pg_catalog.=) 'running' THEN
            failed := pg_catalog.jsonb_build_object('step', run.steps OPERATOR(pg_catalog.->) (step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->) 'name')
                OPERATOR(pg_catalog.||) failure;
        END IF;
        SELECT COALESCE(pg_catalog.max(e.ordinality), 0) INTO now_at
          FROM pg_catalog.jsonb_array_elements(run.steps) WITH ORDINALITY AS e
         WHERE e.ordinality OPERATOR(pg_catalog.<) step AND e.value OPERATOR(pg_catalog.->>) 'compensation' IS NOT NULL;
        now_is := CASE WHEN now_at OPERATOR(pg_catalog.=) 0 THEN 'compensated' ELSE 'compensating' END;
    END IF;
    IF now_is OPERATOR(pg_catalog.=) ANY ('{completed,compensated}'::text[]) THEN
        SELECT CASE WHEN now_is OPERATOR(pg_catalog.=) 'completed' THEN o.retention ELSE o.failure_retention END INTO kept
          FROM idempotent.operation AS o WHERE o.name OPERATOR(pg_catalog.=) run.saga;
        kept := COALESCE(kept, CASE WHEN now_is OPERATOR(pg_catalog.=) 'completed' THEN '24 hours' ELSE '5 minutes' END::interval);
    END IF;
    UPDATE idempotent.saga_run AS r
       SET changed_at = moment, expires_at = moment OPERATOR(pg_catalog.+) kept, step = now_at, state = now_is, answers = answered, failure = failed
     WHERE r.saga OPERATOR(pg_catalog.=) run.saga AND r.key OPERATOR(pg_catalog.=) run.key AND r.scope OPERATOR(pg_catalog.=) run.scope;
END $$;
COMMENT ON FUNCTION idempotent_saga_done(text, text, text, text, integer, jsonb, jsonb) IS
'for idempotent_saga_run: the step is done, in the transaction that did it';

-- The caller's rights and search_path are the handlers'. A procedure that commits cannot pin a search_path of its own, so every
-- name and operator here is qualified, and the schema of the functions is looked up.
CREATE PROCEDURE idempotent_saga_run(
    name          text,
    key           text,
    request       jsonb = NULL,
    scope         text = '',
    wait          interval = NULL,
    INOUT outcome text = NULL,
    INOUT failed  boolean = NULL,
    INOUT answers jsonb = NULL,
    INOUT failure jsonb = NULL
)
LANGUAGE plpgsql AS $$
DECLARE
    home    pg_catalog.name;
    todo    pg_catalog.record;
    answer  pg_catalog.jsonb;
    error   pg_catalog.jsonb;
    done    pg_catalog.bool := false;
BEGIN
    SELECT n.nspname INTO home FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
     WHERE e.extname OPERATOR(pg_catalog.=) 'pg_idempotent';
    LOOP
        EXECUTE pg_catalog.format('SELECT * FROM %I.idempotent_saga_next($1, $2, $3, $4, $5)', home) INTO todo USING name, key, request, scope, wait;
        EXIT WHEN todo.handler IS NULL;
        error := NULL;
        BEGIN
            EXECUTE pg_catalog.format('SELECT %s($1)', todo.handler) INTO answer USING todo.argument;
        EXCEPTION WHEN OTHERS THEN
            IF (SQLSTATE OPERATOR(pg_catalog.=) ANY (todo.final) OR pg_catalog.substr(SQLSTATE, 1, 2) OPERATOR(pg_catalog.=) ANY (todo.final))
               AND SQLSTATE OPERATOR(pg_catalog.!~) '^(00|08|40|53|57|58|ID|XX|55P03)' THEN
                error := pg_catalog.jsonb_build_object('sqlstate', SQLSTATE, 'message', SQLERRM);
                answer := NULL;
            ELSE
                RAISE;
            END IF;
        END;
        EXECUTE pg_catalog.format('SELECT %I.idempotent_saga_done($1, $2, $3, $4, $5, $6, $7)', home)
          USING name, key, scope, todo.state, todo.step, answer, error;
        done := true;
        COMMIT;
    END LOOP;
    outcome := CASE WHEN done AND todo.outcome OPERATOR(pg_catalog.=) 'replay' THEN 'executed' ELSE todo.outcome END;
    failed := todo.failed;
    answers := todo.answers;
    failure := todo.failure;
END $$;
COMMENT ON PROCEDURE idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb) IS
'run a saga, or go on with it: each step commits by itself and runs once; a failure that is final undoes the steps before it';

CREATE VIEW idempotent.sagas AS
SELECT r.saga, r.scope, r.key, r.state,
       CASE WHEN r.expires_at IS NULL THEN r.steps OPERATOR(pg_catalog.->) (r.step OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.->>) 'name' END AS step,
       (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys(r.answers)) AS done,
       pg_catalog.jsonb_array_length(r.steps) AS steps,
       r.failure OPERATOR(pg_catalog.->>) 'step' AS failed_step, r.failure OPERATOR(pg_catalog.->>) 'sqlstate' AS sqlstate,
       r.started_at, r.changed_at, r.expires_at
FROM idempotent.saga_run AS r;
COMMENT ON VIEW idempotent.sagas IS 'where each saga stands';
COMMENT ON COLUMN idempotent.sagas.saga IS 'the saga';
COMMENT ON COLUMN idempotent.sagas.scope IS 'whose key it is';
COMMENT ON COLUMN idempotent.sagas.key IS 'the caller''s key';
COMMENT ON COLUMN idempotent.sagas.state IS 'running, compensating, completed or compensated';
COMMENT ON COLUMN idempotent.sagas.step IS 'what is next: to be run, or to be compensated; null: nothing';
COMMENT ON COLUMN idempotent.sagas.done IS 'how many steps have been run';
COMMENT ON COLUMN idempotent.sagas.steps IS 'how many there are';
COMMENT ON COLUMN idempotent.sagas.failed_step IS 'which one failed for good; null: none';
COMMENT ON COLUMN idempotent.sagas.sqlstate IS 'with which error';
COMMENT ON COLUMN idempotent.sagas.started_at IS 'when it was called first';
COMMENT ON COLUMN idempotent.sagas.changed_at IS 'when it last moved; long ago and not finished: call it again';
COMMENT ON COLUMN idempotent.sagas.expires_at IS 'until when its answer is kept; null: not finished';

REVOKE ALL ON FUNCTION
    idempotent.refuse_transaction_block(),
    idempotent.saga_check(text, text),
    idempotent.saga_lock(text, text, text, interval),
    idempotent_saga_next(text, text, jsonb, text, interval),
    idempotent_saga_done(text, text, text, text, integer, jsonb, jsonb)
FROM PUBLIC;
REVOKE ALL ON PROCEDURE idempotent_saga_run(text, text, jsonb, text, interval, text, boolean, jsonb, jsonb) FROM PUBLIC;
GRANT SELECT ON idempotent.sagas TO pg_monitor;
