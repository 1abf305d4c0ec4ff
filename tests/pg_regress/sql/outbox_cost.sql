-- A take costs what it takes, whatever waits: counted in pages, beside the same take of a topic that has nothing else.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_idempotent;
RESET client_min_messages;
CREATE FUNCTION outbox_pages(call text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || call INTO plan;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
END $$;
CREATE FUNCTION outbox_pages(topic text, batch integer) RETURNS bigint LANGUAGE sql AS $$
    SELECT outbox_pages(format('SELECT * FROM idempotent_outbox_take(%L, %s, ''1 hour'')', topic, batch)) $$;
-- the plans are made, and the catalogs read; below the lesser of two takes counts, as autovacuum may have a plan made anew
SELECT count(idempotent_outbox_put('alone', to_jsonb(n), 'key ' || n)) FROM generate_series(1, 200) AS n;
SELECT outbox_pages('alone', 20) > 0 AS warm;
SELECT outbox_pages('alone', 20) AS alone \gset
SELECT outbox_pages('alone', 100) + outbox_pages('nothing', 100) AS nothing \gset

-- a key whose first message waits for an hour, and 20,000 behind it
SELECT count(idempotent_outbox_put('waiting', to_jsonb(n), 'slow')) FROM generate_series(1, 20000) AS n;
SELECT idempotent_outbox_release('waiting', array_agg(message_id), max(fence), '1 hour') FROM idempotent_outbox_take('waiting', 1);
SELECT count(idempotent_outbox_put('waiting', to_jsonb(n), 'key ' || n)) FROM generate_series(1, 40) AS n;
SELECT LEAST(outbox_pages('waiting', 20), outbox_pages('waiting', 20)) < 2 * :alone + 200 AS cheap;
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'waiting' AND fence IS NOT NULL AND key <> 'slow';

-- two relays, and 20,000 messages of 200 keys: the second finds nothing
SELECT count(idempotent_outbox_put('relays', to_jsonb(n), 'key ' || n % 200)) FROM generate_series(1, 20000) AS n;
SELECT count(*), count(DISTINCT key) FROM idempotent_outbox_take('relays', 1000, '1 hour');
SELECT LEAST(outbox_pages('relays', 100), outbox_pages('relays', 100)) < 2 * :nothing + 200 AS cheap;

-- put by transactions of their own, which cannot know what is before them: put right once
DO $$ BEGIN FOR n IN 1..200 LOOP PERFORM idempotent_outbox_put('single', to_jsonb(n), 'slow'); COMMIT; END LOOP; END $$;
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'single' AND ready_at IS NOT NULL;
SELECT count(*) FROM idempotent_outbox_take('single', 1, '1 hour');
SELECT count(*) FROM idempotent_outbox_take('single', 100, '1 hour');
SELECT count(*) FROM idempotent.outbox_message WHERE topic = 'single' AND ready_at IS NOT NULL;
SELECT LEAST(outbox_pages('single', 100), outbox_pages('single', 100)) < 2 * :nothing + 200 AS cheap;
DELETE FROM idempotent.outbox_message;
DROP FUNCTION outbox_pages(text), outbox_pages(text, integer);
