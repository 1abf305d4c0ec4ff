-- What a consumer of messages does, next to the same thing written by hand. Run in a database of its own, as superuser.
CREATE EXTENSION pg_idempotent;

CREATE SCHEMA bench;

-- The table that one would write by hand, and the same with what is needed to delete old messages.
CREATE TABLE bench.plain (
    consumer   text NOT NULL,
    message_id text NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, message_id)
);
CREATE TABLE bench.swept (LIKE bench.plain INCLUDING ALL);
CREATE INDEX ON bench.swept (seen_at);

-- The batches of all rounds: random ids, and ids that grow, as those of a sequence or a log do.
CREATE TABLE bench.batch AS
SELECT round, array_agg(gen_random_uuid()::text) AS random, array_agg('order-' || round || '-' || n ORDER BY n) AS growing
FROM generate_series(0, :rounds) AS round, generate_series(1, :size) AS n GROUP BY round;

CREATE FUNCTION bench.first_ours(ids text[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM idempotent_first_of('bench', ids)
$$;
CREATE FUNCTION bench.first_plain(ids text[]) RETURNS bigint LANGUAGE sql AS $$
    WITH new AS (
        INSERT INTO bench.plain (consumer, message_id) SELECT 'bench', id FROM unnest(ids) AS id
        ON CONFLICT DO NOTHING RETURNING message_id)
    SELECT count(*) FROM new
$$;
CREATE FUNCTION bench.first_swept(ids text[]) RETURNS bigint LANGUAGE sql AS $$
    WITH new AS (
        INSERT INTO bench.swept (consumer, message_id) SELECT 'bench', id FROM unnest(ids) AS id
        ON CONFLICT DO NOTHING RETURNING message_id)
    SELECT count(*) FROM new
$$;

-- Microseconds: see bench/schema.sql.
CREATE FUNCTION bench.clock(OUT wall numeric, OUT cpu numeric) LANGUAGE plpgsql AS $$
BEGIN
    wall := extract(epoch FROM clock_timestamp()) * 1000000;
    cpu := split_part(pg_read_file('/proc/self/schedstat', true), ' ', 1)::numeric / 1000;
END $$;
