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
REVOKE ALL ON TYPE idempotent_result FROM PUBLIC;
