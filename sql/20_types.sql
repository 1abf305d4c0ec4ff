CREATE TYPE idempotent_result AS (
    outcome     text,
    fence       bigint,
    attempt     integer,
    failed      boolean,
    status      integer,
    headers     jsonb,
    response    jsonb,
    body        bytea,
    evicted     boolean,
    checkpoint  jsonb,
    retry_after interval,
    expires_at  timestamptz
);
COMMENT ON TYPE idempotent_result IS 'what claim, run and replay answer: the outcome, and the stored answer if there is one';
COMMENT ON COLUMN idempotent_result.outcome IS 'claimed, executed, replay, in_progress, mismatch, expired, unknown, sealed or absent';
COMMENT ON COLUMN idempotent_result.fence IS 'the fence of the lease, to be passed on to whatever finishes it; null: no lease';
COMMENT ON COLUMN idempotent_result.attempt IS 'which attempt this is, or which one stored the answer';
COMMENT ON COLUMN idempotent_result.failed IS 'whether the stored answer is that of a final failure';
COMMENT ON COLUMN idempotent_result.status IS 'the stored status, e.g. that of HTTP';
COMMENT ON COLUMN idempotent_result.headers IS 'the stored headers';
COMMENT ON COLUMN idempotent_result.response IS 'the stored answer, or that of the handler that ran now';
COMMENT ON COLUMN idempotent_result.body IS 'the stored body, byte for byte';
COMMENT ON COLUMN idempotent_result.evicted IS 'whether response, headers and body were too large to keep, or are past response_retention';
COMMENT ON COLUMN idempotent_result.checkpoint IS 'what the holder before left to the next one';
COMMENT ON COLUMN idempotent_result.retry_after IS 'with in_progress: when to ask again';
COMMENT ON COLUMN idempotent_result.expires_at IS 'until when the answer is kept; with claimed, the end of the lease';
REVOKE ALL ON TYPE idempotent_result FROM PUBLIC;
