-- Outbox: messages that a transaction wants sent, put into a table with its business rows, so that they commit or vanish
-- together. A relay takes them under a lease, sends them and acknowledges.
--
-- Per topic and key they are taken in the order in which their transactions committed. A sequence alone does not give that:
-- who draws 1 may commit after 2 was taken, and 1 would come late. Nor would waiting for all older transactions: they would
-- all wait for the slowest one, and who draws the lower number may yet be the one that saw the other's rows. So a put holds
-- an advisory lock on topic and key until its transaction ends, and draws the position under it. Within a key, then, a relay
-- that sees a message sees all that come before it. Postgres lets go of such a lock after the commit is visible.
--
-- Advisory locks share a table with all others, so a transaction that puts thousands of keys takes one on the topic instead.

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
COMMENT ON COLUMN idempotent.outbox_message.lease_until IS 'until then no other relay takes it; null: any relay may';
COMMENT ON COLUMN idempotent.outbox_message.attempt IS 'how often it was taken';
COMMENT ON COLUMN idempotent.outbox_message.topic IS 'what the message is about, and so the relays that take it';
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

-- SECURITY DEFINER, as all that follow: a role that is granted EXECUTE needs no rights on the table.
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
    busy    text[] := '{}';  -- keys of which another relay is just taking or acknowledging an earlier message
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
        -- Waits for no relay: a message that another relay is just taking is skipped. Of a key whose first message is leased
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
COMMENT ON COLUMN idempotent.outbox.topic IS 'the topic';
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
