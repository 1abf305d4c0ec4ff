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
COMMENT ON COLUMN idempotent.observed.unknown IS 'it was unknown whether the work was done';
COMMENT ON COLUMN idempotent.observed.sealed IS 'came with a key of which it was decided that it never runs';
COMMENT ON COLUMN idempotent.observed.missing_keys IS 'came without a key: ID006 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.bad_keys IS 'came with a key or scope that breaks the rules: ID006 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.unfinished IS 'transactions that claimed a key and committed without an answer for it: ID009 once the mode is enforce';
COMMENT ON COLUMN idempotent.observed.samples IS 'the latest few of each kind: scope, key, and when';

REVOKE ALL ON FUNCTION idempotent.samples() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent.samples() TO pg_monitor;
GRANT SELECT ON idempotent.observed TO pg_monitor;
