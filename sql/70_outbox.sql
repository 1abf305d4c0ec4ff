-- Outbox: messages that a transaction wants sent, put into a table with its business rows, so that they commit or vanish
-- together. A relay takes them under a lease, sends them and acknowledges.
--
-- Per topic and key they are taken in the order in which their transactions committed. A sequence alone does not give that:
-- a put that draws 1 may commit after 2 was taken, and 1 would come late. Nor would waiting for all older transactions: they would
-- all wait for the slowest one, and the put that draws the lower number may yet be the one that saw the other's rows. So a put holds
-- a lock on topic and key until its transaction ends, and draws the position under it. Within a key, then, a relay that sees a
-- message sees all that come before it. Postgres lets go of such a lock after the commit is visible.
--
-- Ready to be taken is the first message of each key, and every message without one. Only these have a ready_at, and only
-- these are in the index by which a relay finds them, in the order in which they became ready: a take costs what it takes,
-- however much waits behind them. Whatever deletes messages lets the next one of their keys go on (outbox_go_on). A put that
-- cannot tell whether it is the first says that it is, and a take that finds it is not puts that right: see outbox_put.
--
-- The rules are the library's, as for every key: names, who may, waits, dates, what counts of a payload, how long an id is known
-- (src/api/outbox.rs).

CREATE SEQUENCE idempotent.outbox_position;
COMMENT ON SEQUENCE idempotent.outbox_position IS 'positions of messages in the outbox; they grow with every put';

CREATE TABLE idempotent.outbox_message (
    position    bigint NOT NULL,
    message_id  uuid NOT NULL,
    put_at      timestamptz NOT NULL,
    ready_at    timestamptz DEFAULT '-infinity',
    fence       bigint,
    lease_until timestamptz,
    attempt     integer NOT NULL,
    slot        smallint,
    is_first    boolean NOT NULL DEFAULT false,
    topic       text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL DEFAULT '',
    key         text COLLATE "C",
    payload     jsonb NOT NULL,
    CONSTRAINT outbox_message_pkey PRIMARY KEY (topic, message_id),
    CONSTRAINT outbox_message_position UNIQUE (topic, position)
) USING heap WITH (fillfactor = 80);
CREATE INDEX outbox_message_key_idx ON idempotent.outbox_message (topic, key, position) WHERE key IS NOT NULL;
CREATE INDEX outbox_message_ready_at_idx ON idempotent.outbox_message (topic, ready_at) WHERE ready_at IS NOT NULL;
-- Without statistics a key is taken to be one of many, and its index is used. What they tell of a queue is soon not so.
ALTER TABLE idempotent.outbox_message ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE idempotent.outbox_message ALTER COLUMN ready_at SET STATISTICS 0;
COMMENT ON TABLE idempotent.outbox_message IS 'messages put and not yet acknowledged: see idempotent_outbox_put()';
COMMENT ON INDEX idempotent.outbox_message_key_idx IS 'the order within a key';
COMMENT ON INDEX idempotent.outbox_message_ready_at_idx IS 'what can be taken next';
COMMENT ON COLUMN idempotent.outbox_message.position IS 'where it stands: within a key, in the order of the commits';
COMMENT ON COLUMN idempotent.outbox_message.message_id IS 'the same in every delivery, and unique within the topic: what receivers recognise it by';
COMMENT ON COLUMN idempotent.outbox_message.put_at IS 'when it was put';
COMMENT ON COLUMN idempotent.outbox_message.ready_at IS 'from then on it can be taken, if nothing of its key comes before it; null: it waits behind another message of its key';
COMMENT ON COLUMN idempotent.outbox_message.fence IS 'of the latest take; null: never taken, or given back';
COMMENT ON COLUMN idempotent.outbox_message.lease_until IS 'until then no other relay takes it; null: any relay may';
COMMENT ON COLUMN idempotent.outbox_message.attempt IS 'how often it was taken';
COMMENT ON COLUMN idempotent.outbox_message.slot IS 'of the owner: of the scope, else the key, else the id that the sender gave; null: it has none of them, and is sent from where it was put';
COMMENT ON COLUMN idempotent.outbox_message.is_first IS 'whether it is known that nothing of its key comes before it';
COMMENT ON COLUMN idempotent.outbox_message.topic IS 'what the message is about, and so the relays that take it';
COMMENT ON COLUMN idempotent.outbox_message.scope IS 'the owner of what the message is about; empty: its key';
COMMENT ON COLUMN idempotent.outbox_message.key IS 'messages of one key are taken in order; null: in any';
COMMENT ON COLUMN idempotent.outbox_message.payload IS 'what is to be sent';

-- expires_at is the only index of its own: a sweep walks it.
CREATE TABLE idempotent.outbox_id (
    message_id  uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    fingerprint uuid NOT NULL,
    slot        smallint NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    scope       text COLLATE "C" NOT NULL DEFAULT '',
    key         text COLLATE "C",
    CONSTRAINT outbox_id_pkey PRIMARY KEY (topic, message_id)
) USING heap;
CREATE INDEX outbox_id_expires_at_idx ON idempotent.outbox_id (expires_at);
COMMENT ON TABLE idempotent.outbox_id IS 'ids that senders gave to messages: put again, it is the same message, also once that is acknowledged';
COMMENT ON INDEX idempotent.outbox_id_expires_at_idx IS 'what can be deleted';
COMMENT ON COLUMN idempotent.outbox_id.message_id IS 'the id';
COMMENT ON COLUMN idempotent.outbox_id.expires_at IS 'from then on it counts as absent; infinity: the message is not acknowledged';
COMMENT ON COLUMN idempotent.outbox_id.fingerprint IS '128 bits of SHA-256 over what counts of the payload';
COMMENT ON COLUMN idempotent.outbox_id.slot IS 'of the owner: of the scope, else the key, else the id';
COMMENT ON COLUMN idempotent.outbox_id.topic IS 'the topic of the message';
COMMENT ON COLUMN idempotent.outbox_id.scope IS 'the owner of what the message is about';
COMMENT ON COLUMN idempotent.outbox_id.key IS 'the key of the message';

CREATE TABLE idempotent.outbox_dead (
    position   bigint NOT NULL,
    message_id uuid NOT NULL,
    put_at     timestamptz NOT NULL,
    dead_at    timestamptz NOT NULL,
    attempt    integer NOT NULL,
    slot       smallint,
    topic      text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    key        text COLLATE "C",
    payload    jsonb NOT NULL,
    CONSTRAINT outbox_dead_pkey PRIMARY KEY (topic, message_id)
) USING heap;
COMMENT ON TABLE idempotent.outbox_dead IS 'messages that were taken max_attempts times and never acknowledged: see idempotent_outbox_redrive()';
COMMENT ON COLUMN idempotent.outbox_dead.position IS 'where it stood';
COMMENT ON COLUMN idempotent.outbox_dead.message_id IS 'its id';
COMMENT ON COLUMN idempotent.outbox_dead.put_at IS 'when it was put';
COMMENT ON COLUMN idempotent.outbox_dead.dead_at IS 'when it was taken out of its topic';
COMMENT ON COLUMN idempotent.outbox_dead.attempt IS 'how often it was taken';
COMMENT ON COLUMN idempotent.outbox_dead.slot IS 'of the owner';
COMMENT ON COLUMN idempotent.outbox_dead.topic IS 'the topic';
COMMENT ON COLUMN idempotent.outbox_dead.scope IS 'the owner of what the message is about';
COMMENT ON COLUMN idempotent.outbox_dead.key IS 'the key, whose later messages went on without it';
COMMENT ON COLUMN idempotent.outbox_dead.payload IS 'what was to be sent';

-- Part of a dump: a restored database still has to send what it had not sent.
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_position', '');
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_message', '');
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_id', '');
SELECT pg_catalog.pg_extension_config_dump('idempotent.outbox_dead', '');

CREATE FUNCTION idempotent.outbox_wait(topic text, lock bigint, shared boolean) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_wait';
COMMENT ON FUNCTION idempotent.outbox_wait(text, bigint, boolean) IS
'waits for a lock of the outbox, which pg_advisory_lock cannot reach, and holds it until the transaction ends; ID001 if that takes too long';

CREATE FUNCTION idempotent.outbox_fingerprint(topic text, payload jsonb) RETURNS uuid
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_fingerprint';
COMMENT ON FUNCTION idempotent.outbox_fingerprint(text, jsonb) IS 'a digest of what counts of a payload, as the topic''s operation says';

CREATE FUNCTION idempotent.outbox_is_same(topic text, payload jsonb, fingerprint uuid) RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_is_same';
COMMENT ON FUNCTION idempotent.outbox_is_same(text, jsonb, uuid) IS 'whether a digest is that of a payload, by what counts of it, or did';

CREATE FUNCTION idempotent.outbox_check_date(topic text, message_id uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_check_date';
COMMENT ON FUNCTION idempotent.outbox_check_date(text, uuid) IS 'raises ID004 for an id that dates from longer ago than ids are known';

CREATE FUNCTION idempotent.outbox_expires(topic text, message_id uuid) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_expires';
COMMENT ON FUNCTION idempotent.outbox_expires(text, uuid) IS 'until when the id of a message is known that is acknowledged now';

CREATE FUNCTION idempotent.outbox_count(topic text, counter text, number bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_count';
COMMENT ON FUNCTION idempotent.outbox_count(text, text, bigint) IS 'counts in idempotent.stats, once the transaction has committed';

CREATE FUNCTION idempotent.check_lease(what text, lease interval, shortest interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF lease IS NULL OR lease < shortest OR lease > '1 year'::interval THEN
        RAISE EXCEPTION '% must be an interval from % to 1 year', what, shortest
            USING ERRCODE = '22023', HINT = 'Pass e.g. ''30 seconds''.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.check_lease(text, interval, interval) IS 'refuses with 22023 what is no length of time for a lease';

-- A transaction's share of the lock table: beyond it one lock on the whole topic stands for those on its keys and ids. The count is a
-- setting of the transaction, so it follows savepoints as the locks do.
CREATE FUNCTION idempotent.outbox_lock(topic text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    share   CONSTANT integer := 16 * current_setting('max_locks_per_transaction')::integer;
    whole   CONSTANT bigint := hashtextextended(topic, 0);
    lane    CONSTANT bigint := hashtextextended(concat(topic, E'\n', name), 0);
    counted text := COALESCE(current_setting('pg_idempotent.outbox_locks', true), '');
    taken   integer := COALESCE(substring(counted, '^([0-9]{1,9}) '), '0')::integer;
BEGIN
    IF substring(counted, ' (.*)$') IS DISTINCT FROM lane::text THEN
        taken := taken + 1;
        PERFORM set_config('pg_idempotent.outbox_locks', concat(taken, ' ', lane), true);
    END IF;
    IF taken > share THEN
        PERFORM idempotent.outbox_wait(topic, whole, false);
    ELSE
        PERFORM idempotent.outbox_wait(topic, whole, true);
        PERFORM idempotent.outbox_wait(topic, lane, false);
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.outbox_lock(text, text) IS 'lets one transaction at a time put messages of a topic and key, or of an id';

CREATE FUNCTION idempotent.position_above(last bigint) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_position_above';
COMMENT ON FUNCTION idempotent.position_above(bigint) IS 'draws a position above one that a message has, and lets positions go on from there';

-- The sequence may be behind the messages that are there: one does not come along by logical replication, and an administrator may
-- set it. What is asked for is above the position just drawn: no entry of an index is there, not even of what has been acknowledged.
CREATE FUNCTION idempotent.outbox_place(topic text) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
    place bigint := nextval('idempotent.outbox_position');
    last  bigint;
BEGIN
    SELECT m.position INTO last FROM idempotent.outbox_message AS m
     WHERE m.topic = outbox_place.topic COLLATE "C" AND m.position >= place ORDER BY m.position DESC LIMIT 1;
    RETURN CASE WHEN FOUND THEN idempotent.position_above(last) ELSE place END;
END $$;
COMMENT ON FUNCTION idempotent.outbox_place(text) IS 'the position of the next message, behind all of its topic';

-- Notes the id; whether the message is to be put, and not there already. Under the lock of the id.
CREATE FUNCTION idempotent.outbox_is_new(topic text, message_id uuid, key text, payload jsonb, scope text, slot smallint) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    digest CONSTANT uuid := idempotent.outbox_fingerprint(topic, payload);
    same   boolean;
BEGIN
    LOOP
        -- A message that is there, or a dead letter, says more than its id; one that was put without an id has none.
        SELECT (k.key, k.scope) IS NOT DISTINCT FROM (outbox_is_new.key COLLATE "C", outbox_is_new.scope COLLATE "C")
               AND idempotent.outbox_is_same(topic, payload, k.fingerprint) INTO same
          FROM (SELECT 1 AS nth, m.key, m.scope, idempotent.outbox_fingerprint(m.topic, m.payload) AS fingerprint FROM idempotent.outbox_message AS m
                 WHERE m.topic = outbox_is_new.topic COLLATE "C" AND m.message_id = outbox_is_new.message_id
                UNION ALL
                SELECT 2, d.key, d.scope, idempotent.outbox_fingerprint(d.topic, d.payload) FROM idempotent.outbox_dead AS d
                 WHERE d.topic = outbox_is_new.topic COLLATE "C" AND d.message_id = outbox_is_new.message_id
                UNION ALL
                SELECT 3, i.key, i.scope, i.fingerprint FROM idempotent.outbox_id AS i
                 WHERE i.topic = outbox_is_new.topic COLLATE "C" AND i.message_id = outbox_is_new.message_id AND i.expires_at > clock_timestamp()) AS k
         ORDER BY k.nth LIMIT 1;
        IF NOT same THEN
            RAISE EXCEPTION 'the message id was used for another message'
                USING ERRCODE = 'ID002', DETAIL = format('Message %s of topic "%s".', message_id, topic),
                      HINT = 'Pass the same key, scope and payload again, or leave out message_id.';
        ELSIF same IS NULL THEN
            PERFORM idempotent.outbox_check_date(topic, message_id);
        END IF;
        DELETE FROM idempotent.outbox_id AS i
         WHERE i.topic = outbox_is_new.topic COLLATE "C" AND i.message_id = outbox_is_new.message_id AND i.expires_at <= clock_timestamp();
        INSERT INTO idempotent.outbox_id (message_id, expires_at, fingerprint, slot, topic, scope, key)
        VALUES (outbox_is_new.message_id, 'infinity', digest, outbox_is_new.slot, outbox_is_new.topic, outbox_is_new.scope, outbox_is_new.key)
        ON CONFLICT ON CONSTRAINT outbox_id_pkey DO NOTHING;
        IF same THEN
            PERFORM idempotent.outbox_count(topic, 'replayed', 1);
            RETURN false;
        ELSIF FOUND THEN
            RETURN true;
        END IF;
        -- Put past the lock, by hand or by a restore: look again.
    END LOOP;
END $$;
COMMENT ON FUNCTION idempotent.outbox_is_new(text, uuid, text, jsonb, text, smallint) IS 'notes the id of a message; false if it is known as that of the same message, ID002 of another';

-- SECURITY DEFINER, as all that follow behind a door in C, which checks names and asks of the call whether it may: a role that is
-- granted EXECUTE on the door needs no rights on the tables.
-- COLLATE "C", as the columns have it: arguments may come from a column with a collation of its own.
CREATE FUNCTION idempotent.outbox_put(topic text, payload jsonb, key text, message_id uuid, scope text) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    id     uuid := message_id;
    owner  CONSTANT text := COALESCE(key, message_id::text, NULLIF(scope, ''));
    place  bigint;
    begun  bigint;
    behind boolean := false;
BEGIN
    IF payload IS NULL THEN
        RAISE EXCEPTION 'payload must not be null'
            USING ERRCODE = '22023', HINT = 'Pass ''null''::jsonb, or what the receiver needs.';
    END IF;
    IF id IS NULL THEN
        -- UUIDv7: random, with the time in its first 48 bits. New ones stand together in the index, and a receiver can tell
        -- how old one is.
        id := encode(set_bit(set_bit("overlay"(uuid_send(gen_random_uuid()),
            substring(int8send(floor(EXTRACT(epoch FROM moment) * 1000::numeric)::bigint), 3, 6), 1, 6), 52, 1), 53, 1), 'hex')::uuid;
    ELSE
        PERFORM idempotent.outbox_lock(topic COLLATE "C", concat('id ', id));
        IF NOT idempotent.outbox_is_new(topic, id, key, payload, scope, idempotent.own_slot(owner, scope)) THEN
            RETURN id;
        END IF;
    END IF;
    IF key IS NOT NULL THEN
        PERFORM idempotent.outbox_lock(topic COLLATE "C", concat('key ', key));
    END IF;
    place := idempotent.outbox_place(topic);
    IF key IS NOT NULL THEN
        -- Behind a message of its key that this transaction has put itself: when that goes, this one can be seen, and goes on. Of a
        -- message of another transaction nobody can tell; it may be going just now. Such a put says that it is the first.
        begun := NULLIF(current_setting('pg_idempotent.outbox_begun', true), '')::bigint;
        IF begun IS NULL THEN
            PERFORM set_config('pg_idempotent.outbox_begun', place::text, true);
        ELSE
            -- In the order of the index on keys, so that no plan takes another one.
            SELECT e.key = outbox_put.key COLLATE "C" AND e.xmin = pg_current_xact_id()::xid INTO behind
              FROM idempotent.outbox_message AS e
             WHERE e.topic = outbox_put.topic COLLATE "C" AND e.key IS NOT NULL
               AND (e.key, e.position) >= (outbox_put.key COLLATE "C", begun)
             ORDER BY e.key, e.position LIMIT 1;
        END IF;
    END IF;
    -- Whose it is is asked while the table is locked: see idempotent.own_slots().
    INSERT INTO idempotent.outbox_message (position, message_id, put_at, ready_at, attempt, slot, is_first, topic, scope, key, payload)
    VALUES (place, id, moment, CASE WHEN behind IS NOT TRUE THEN moment END, 0,
            CASE WHEN owner IS NOT NULL THEN idempotent.own_slot(owner, scope) END, key IS NULL, topic, scope, key, payload)
    ON CONFLICT ON CONSTRAINT outbox_message_pkey DO NOTHING;
    IF FOUND THEN
        PERFORM idempotent.outbox_count(topic, 'executed', 1);
    ELSE
        -- The transaction that has put a message without an id has told its id before it committed: look again.
        RETURN idempotent.outbox_put(topic, payload, key, message_id, scope);
    END IF;
    RETURN id;
END $$;
COMMENT ON FUNCTION idempotent.outbox_put(text, jsonb, text, uuid, text) IS 'behind idempotent_outbox_put()';

-- The next message of each key goes on when what came before it is gone: acknowledged, a dead letter, or deleted by hand. No message
-- that is not seen here waits behind one that is: see outbox_put. Where the snapshot is an older one, a take that had it wait has written
-- the one before it, which this transaction cannot delete then (40001).
CREATE FUNCTION idempotent.outbox_go_on() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
    lane record;
    next record;
BEGIN
    FOR lane IN SELECT g.topic, g.key, min(g.position) AS position, COALESCE(min(g.position) FILTER (WHERE g.is_first), 0) AS first
                  FROM gone AS g WHERE g.key IS NOT NULL GROUP BY g.topic, g.key ORDER BY g.topic, g.key LOOP
        LOOP
            -- In the order of the index on keys, so that no plan takes another one.
            SELECT m.position, m.message_id INTO next FROM idempotent.outbox_message AS m
             WHERE m.topic = lane.topic AND m.key IS NOT NULL AND (m.key, m.position) > (lane.key, lane.first) AND m.key <= lane.key
             ORDER BY m.key, m.position LIMIT 1;
            EXIT WHEN NOT FOUND OR next.position < lane.position;
            UPDATE idempotent.outbox_message AS m SET ready_at = GREATEST(m.lease_until, clock_timestamp()), is_first = true
             WHERE m.topic = lane.topic AND m.message_id = next.message_id;
            EXIT WHEN FOUND;
            -- Gone, too, while this waited for it: look again.
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION idempotent.outbox_go_on() IS 'lets the next message of a key be taken';

CREATE TRIGGER go_on AFTER DELETE ON idempotent.outbox_message
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_go_on();
COMMENT ON TRIGGER go_on ON idempotent.outbox_message IS 'the order of a key goes on, whatever deletes its messages';

-- A message that is deleted by hand was not delivered, so that it may be put again.
CREATE FUNCTION idempotent.outbox_forget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off AS $$
BEGIN
    DELETE FROM idempotent.outbox_id AS i USING gone AS g
     WHERE i.topic = g.topic AND i.message_id = g.message_id AND i.expires_at = 'infinity'
       AND NOT EXISTS (SELECT FROM idempotent.outbox_message AS m WHERE m.topic = g.topic AND m.message_id = g.message_id)
       AND NOT EXISTS (SELECT FROM idempotent.outbox_dead AS d WHERE d.topic = g.topic AND d.message_id = g.message_id);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION idempotent.outbox_forget() IS 'forgets the ids of messages that are deleted and were not acknowledged';

CREATE TRIGGER forget_message AFTER DELETE ON idempotent.outbox_message
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_forget();
CREATE TRIGGER forget_dead AFTER DELETE ON idempotent.outbox_dead
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_forget();
COMMENT ON TRIGGER forget_message ON idempotent.outbox_message IS 'a message that is deleted by hand may be put again';
COMMENT ON TRIGGER forget_dead ON idempotent.outbox_dead IS 'a dead letter that is deleted by hand may be put again';

-- Takes out of their topic what was taken often enough.
CREATE FUNCTION idempotent.outbox_bury(topic text, positions bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    INSERT INTO idempotent.outbox_dead (position, message_id, put_at, dead_at, attempt, slot, topic, scope, key, payload)
    SELECT m.position, m.message_id, m.put_at, clock_timestamp(), m.attempt, m.slot, m.topic, m.scope, m.key, m.payload
      FROM idempotent.outbox_message AS m WHERE m.topic = outbox_bury.topic COLLATE "C" AND m.position = ANY (positions);
    DELETE FROM idempotent.outbox_message AS m WHERE m.topic = outbox_bury.topic COLLATE "C" AND m.position = ANY (positions);
    PERFORM idempotent.outbox_count(topic, 'failed', cardinality(positions));
END $$;
COMMENT ON FUNCTION idempotent.outbox_bury(text, bigint[]) IS 'makes messages dead letters';

CREATE FUNCTION idempotent.outbox_take(topic text, batch integer, lease interval)
RETURNS TABLE (message_id uuid, fence bigint, key text, payload jsonb, attempt integer, put_at timestamptz, lease_until timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Whatever the statistics say, which lag behind a queue: in the order of the index, and no further than the batch.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_custom_plan
ROWS 100 AS $$
DECLARE
    most    CONSTANT integer := (SELECT o.max_attempts FROM idempotent.operation AS o WHERE o.name = outbox_take.topic COLLATE "C");
    -- A change that is under way waits for what is taken meanwhile.
    is_all  CONSTANT boolean := NOT EXISTS (SELECT FROM idempotent.own);
    -- From here on stand the messages with a key that this transaction has put itself, where its snapshot may be older than what came
    -- before them: nothing of others that it sees was put so late.
    own     CONSTANT bigint := CASE WHEN current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
                                    THEN NULLIF(current_setting('pg_idempotent.outbox_begun', true), '')::bigint END;
    missing integer := batch;
    moment  timestamptz := clock_timestamp();
    granted bigint;
    last    bigint;
    heads   bigint[];
    late    bigint[];
    mine    bigint[];
    lapsed  bigint;
    number  bigint;
    moved   boolean;
BEGIN
    PERFORM idempotent.check_lease('lease', lease, '1 microsecond');
    IF batch IS NULL OR batch < 1 OR batch > 1000 THEN
        RAISE EXCEPTION 'batch must be a number from 1 to 1000'
            USING ERRCODE = '22023', HINT = 'Take several batches if there is more.';
    END IF;
    WHILE missing > 0 LOOP
        -- Waits for no relay: a message that another relay is just taking is skipped. What another node answers for is sent there.
        SELECT array_agg(c.position) INTO heads
          FROM (SELECT m.position FROM idempotent.outbox_message AS m
                 WHERE m.topic = outbox_take.topic COLLATE "C" AND m.ready_at <= moment
                   AND (is_all OR idempotent.owns(m.slot))
                   AND (own IS NULL OR m.key IS NULL OR m.position < own)
                 ORDER BY m.ready_at LIMIT missing FOR UPDATE OF m SKIP LOCKED) AS c;
        EXIT WHEN heads IS NULL;
        -- What is not the first of its key, as it now turns out, is not taken. It waits from now on, if one before it is not just
        -- going: what lets it go on has then not looked yet, and will see it. While that row is locked here, nothing deletes it.
        moved := false;
        late := ARRAY(SELECT m.position FROM idempotent.outbox_message AS m
                       WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (heads) AND NOT m.is_first
                         AND (SELECT e.position FROM idempotent.outbox_message AS e
                               WHERE e.topic = outbox_take.topic COLLATE "C" AND e.key IS NOT NULL AND e.key >= m.key
                               ORDER BY e.key, e.position LIMIT 1) < m.position);
        IF late <> '{}' THEN
            -- The one before it is written, too: a transaction whose snapshot is older would delete it, and not see what waits behind it.
            WITH waiting AS MATERIALIZED (
                SELECT m.position, e.position AS behind FROM idempotent.outbox_message AS m
                 CROSS JOIN LATERAL (SELECT o.position FROM idempotent.outbox_message AS o
                                      WHERE o.topic = outbox_take.topic COLLATE "C" AND o.key IS NOT NULL AND o.key >= m.key
                                        AND (o.key, o.position) < (m.key, m.position)
                                      ORDER BY o.key, o.position LIMIT 1 FOR NO KEY UPDATE OF o SKIP LOCKED) AS e
                 WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (late)
            )
            UPDATE idempotent.outbox_message AS m
               SET ready_at = CASE WHEN EXISTS (SELECT FROM waiting AS w WHERE w.position = m.position) THEN NULL ELSE m.ready_at END
             WHERE m.topic = outbox_take.topic COLLATE "C"
               AND m.position = ANY (ARRAY(SELECT w.position FROM waiting AS w UNION ALL SELECT w.behind FROM waiting AS w));
            moved := FOUND;
            heads := ARRAY(SELECT h FROM unnest(heads) AS h WHERE h <> ALL (late));
        END IF;
        IF most IS NOT NULL THEN
            late := ARRAY(SELECT m.position FROM idempotent.outbox_message AS m
                           WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (heads) AND m.attempt >= most);
            IF late <> '{}' THEN
                PERFORM idempotent.outbox_bury(topic, late);
                moved := true;
                heads := ARRAY(SELECT h FROM unnest(heads) AS h WHERE h <> ALL (late));
            END IF;
        END IF;
        -- With the first of each key come those behind it, until the batch is full: first all firsts, then all seconds. It ends before
        -- what another relay has, or has locked.
        WITH RECURSIVE walk (head, nth, position, key) AS (
            SELECT m.position, 1, m.position, m.key FROM idempotent.outbox_message AS m
             WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (heads)
            UNION ALL
            SELECT w.head, w.nth + 1, n.position, w.key
              FROM walk AS w
             CROSS JOIN LATERAL (SELECT e.key, e.position, e.lease_until, e.attempt, e.slot FROM idempotent.outbox_message AS e
                                  WHERE e.topic = outbox_take.topic COLLATE "C" AND e.key IS NOT NULL AND (e.key, e.position) > (w.key, w.position)
                                  ORDER BY e.key, e.position LIMIT 1) AS n
             WHERE n.key = w.key AND (n.lease_until IS NULL OR n.lease_until <= moment) AND (most IS NULL OR n.attempt < most)
               AND (is_all OR idempotent.owns(n.slot)) AND (own IS NULL OR n.position < own)
        ), wanted AS MATERIALIZED (
            SELECT w.head, w.nth, w.position FROM walk AS w LIMIT missing
        ), locked AS MATERIALIZED (
            SELECT m.position, m.fence FROM idempotent.outbox_message AS m
             WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (ARRAY(SELECT w.position FROM wanted AS w))
               AND (m.lease_until IS NULL OR m.lease_until <= moment)
               FOR UPDATE OF m SKIP LOCKED
        ), held AS (
            SELECT w.position, l.fence, bool_and(l.position IS NOT NULL) OVER (PARTITION BY w.head ORDER BY w.nth) AS is_ours
              FROM wanted AS w LEFT JOIN locked AS l ON l.position = w.position
        )
        SELECT array_agg(h.position), count(h.fence), max(h.fence) INTO mine, lapsed, last FROM held AS h WHERE h.is_ours;
        IF mine IS NOT NULL THEN
            -- The sequence may be behind what was granted: one does not come along by logical replication, and an administrator may
            -- set it. A call has one fence; what had a higher one waits for the next.
            EXIT WHEN last >= granted;
            granted := COALESCE(granted, nextval('idempotent.fence'));
            IF granted <= last THEN
                PERFORM idempotent.fence_above(last);
                granted := nextval('idempotent.fence');
            END IF;
            RETURN QUERY
            WITH taken AS (
                UPDATE idempotent.outbox_message AS m
                   SET fence = granted, lease_until = moment + lease, attempt = m.attempt + 1,
                       ready_at = CASE WHEN m.position = ANY (heads) THEN moment + lease END,
                       is_first = m.is_first OR m.position = ANY (heads)
                 WHERE m.topic = outbox_take.topic COLLATE "C" AND m.position = ANY (mine)
                RETURNING m.*
            )
            SELECT t.message_id, t.fence, t.key, t.payload, t.attempt, t.put_at, t.lease_until FROM taken AS t ORDER BY t.position;
            GET DIAGNOSTICS number = ROW_COUNT;
            missing := missing - number::integer;
            PERFORM idempotent.outbox_count(topic, 'claimed', number), idempotent.outbox_count(topic, 'lapsed', lapsed);
        ELSE
            EXIT WHEN NOT moved;
            -- What stood behind dead letters has become ready since; nothing was taken yet that a later moment could take again.
            moment := CASE WHEN granted IS NULL THEN clock_timestamp() ELSE moment END;
        END IF;
    END LOOP;
    -- What is sent must not be undone by a crash, nor the fence be granted again: flushed with this transaction is all that
    -- committed before.
    IF granted IS NOT NULL AND current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.outbox_take(text, integer, interval) IS 'behind idempotent_outbox_take()';

-- Locks those that are held under the fence, and returns their positions. Never taken, given back, or taken by another since:
-- the caller must not go on. Those that are not there are acknowledged.
CREATE FUNCTION idempotent.outbox_held(topic text, message_ids uuid[], fence bigint) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    held  bigint[];
    stale uuid;
    moved uuid;
BEGIN
    IF message_ids IS NULL THEN
        RAISE EXCEPTION 'message_ids must not be null'
            USING ERRCODE = '22023', HINT = 'Pass an array of what idempotent_outbox_take returned.';
    ELSIF fence IS NULL THEN
        RAISE EXCEPTION 'the fence is missing'
            USING ERRCODE = 'ID003', HINT = 'Pass the fence that idempotent_outbox_take returned with the messages.';
    END IF;
    -- In one order, so that two of these never wait for each other.
    SELECT array_agg(m.position), (array_agg(m.message_id) FILTER (WHERE m.fence IS DISTINCT FROM outbox_held.fence))[1],
           (array_agg(m.message_id) FILTER (WHERE m.lease_until <= clock_timestamp() AND NOT idempotent.owns(m.slot)))[1]
      INTO held, stale, moved
      FROM (SELECT o.position, o.message_id, o.fence, o.lease_until, o.slot FROM idempotent.outbox_message AS o
             WHERE o.topic = outbox_held.topic COLLATE "C" AND o.message_id = ANY (message_ids)
             ORDER BY o.position FOR UPDATE OF o) AS m;
    -- Nor is a dead letter acknowledged, which was taken out of its topic when its last lease had lapsed.
    stale := COALESCE(stale, (SELECT d.message_id FROM idempotent.outbox_dead AS d
                               WHERE d.topic = outbox_held.topic COLLATE "C" AND d.message_id = ANY (message_ids) LIMIT 1));
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'the fence is stale'
            USING ERRCODE = 'ID003', DETAIL = format('Message %s of topic "%s" is not held with fence %s.', stale, topic, fence),
                  HINT = 'Its lease lapsed and another relay took it, or made it a dead letter, or it was given back. Nothing was changed. Take messages again.';
    END IF;
    -- What is left behind is sent by the node that has it now, which would not hear of this. While a lease lasts the slot waits for it.
    IF moved IS NOT NULL THEN
        RAISE EXCEPTION 'the slot is not this database''s'
            USING ERRCODE = 'ID010', DETAIL = format('Message %s of topic "%s" went to another node after its lease had lapsed.', moved, topic),
                  HINT = 'Tell the node that owns the slot, with the same fence, or let it send the message again.';
    END IF;
    RETURN held;
END $$;
COMMENT ON FUNCTION idempotent.outbox_held(text, uuid[], bigint) IS 'lock messages that are held under a fence; ID003 if one is not';

CREATE FUNCTION idempotent.outbox_ack(topic text, message_ids uuid[], fence bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    held   CONSTANT bigint[] := idempotent.outbox_held(topic, message_ids, fence);
    number bigint;
BEGIN
    UPDATE idempotent.outbox_id AS i SET expires_at = idempotent.outbox_expires(i.topic, i.message_id)
      FROM idempotent.outbox_message AS m
     WHERE m.topic = outbox_ack.topic COLLATE "C" AND m.position = ANY (held) AND i.topic = m.topic AND i.message_id = m.message_id;
    DELETE FROM idempotent.outbox_message AS m WHERE m.topic = outbox_ack.topic COLLATE "C" AND m.position = ANY (held);
    GET DIAGNOSTICS number = ROW_COUNT;
    PERFORM idempotent.outbox_count(topic, 'completed', number);
    RETURN number;
END $$;
COMMENT ON FUNCTION idempotent.outbox_ack(text, uuid[], bigint) IS 'behind idempotent_outbox_ack()';

CREATE FUNCTION idempotent.outbox_release(topic text, message_ids uuid[], fence bigint, delay interval) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    held   CONSTANT bigint[] := idempotent.outbox_held(topic, message_ids, fence);
    until  timestamptz;
    number bigint;
BEGIN
    PERFORM idempotent.check_lease('delay', delay, '0');
    until := clock_timestamp() + delay;
    UPDATE idempotent.outbox_message AS m
       SET fence = NULL, lease_until = until, ready_at = CASE WHEN m.ready_at IS NOT NULL THEN until END
     WHERE m.topic = outbox_release.topic COLLATE "C" AND m.position = ANY (held);
    GET DIAGNOSTICS number = ROW_COUNT;
    PERFORM idempotent.outbox_count(topic, 'released', number);
    RETURN number;
END $$;
COMMENT ON FUNCTION idempotent.outbox_release(text, uuid[], bigint, interval) IS 'behind idempotent_outbox_release()';

-- A dead letter goes to the end of its key: what came after it went on.
CREATE FUNCTION idempotent.outbox_redrive(topic text, message_ids uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    letter record;
    place  bigint;
    number bigint := 0;
BEGIN
    FOR letter IN SELECT d.* FROM idempotent.outbox_dead AS d
                   WHERE d.topic = outbox_redrive.topic COLLATE "C" AND (message_ids IS NULL OR d.message_id = ANY (message_ids))
                   ORDER BY d.key, d.position FOR UPDATE OF d LOOP
        IF letter.key IS NOT NULL THEN
            PERFORM idempotent.outbox_lock(topic COLLATE "C", concat('key ', letter.key));
        END IF;
        place := idempotent.outbox_place(topic);
        -- As a put does: see outbox_take.
        IF letter.key IS NOT NULL AND NULLIF(current_setting('pg_idempotent.outbox_begun', true), '') IS NULL THEN
            PERFORM set_config('pg_idempotent.outbox_begun', place::text, true);
        END IF;
        INSERT INTO idempotent.outbox_message (position, message_id, put_at, ready_at, attempt, slot, is_first, topic, scope, key, payload)
        VALUES (place, letter.message_id, letter.put_at, clock_timestamp(), 0, letter.slot, letter.key IS NULL,
                letter.topic, letter.scope, letter.key, letter.payload);
        DELETE FROM idempotent.outbox_dead AS d WHERE d.topic = letter.topic AND d.message_id = letter.message_id;
        number := number + 1;
    END LOOP;
    RETURN number;
END $$;
COMMENT ON FUNCTION idempotent.outbox_redrive(text, uuid[]) IS 'behind idempotent_outbox_redrive()';

-- The doors.
CREATE FUNCTION idempotent_outbox_put(
    topic      text,
    payload    jsonb,
    key        text = NULL,
    message_id uuid = NULL,
    scope      text = ''
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_put';
COMMENT ON FUNCTION idempotent_outbox_put(text, jsonb, text, uuid, text) IS
'put a message into the outbox, with the caller''s transaction; returns its id';

CREATE FUNCTION idempotent_outbox_take(
    topic text,
    batch integer = 100,
    lease interval = '30 seconds'
) RETURNS TABLE (message_id uuid, fence bigint, key text, payload jsonb, attempt integer, put_at timestamptz, lease_until timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'idempotent_outbox_take';
COMMENT ON FUNCTION idempotent_outbox_take(text, integer, interval) IS
'take messages of a topic to send them, under a lease; commit before sending';

CREATE FUNCTION idempotent_outbox_ack(
    topic       text,
    message_ids uuid[],
    fence       bigint
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_ack';
COMMENT ON FUNCTION idempotent_outbox_ack(text, uuid[], bigint) IS
'the messages are delivered, and go; returns how many there were';

CREATE FUNCTION idempotent_outbox_release(
    topic       text,
    message_ids uuid[],
    fence       bigint,
    delay       interval = '0'
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_release';
COMMENT ON FUNCTION idempotent_outbox_release(text, uuid[], bigint, interval) IS
'give taken messages back: they can be taken again after the delay; returns how many there were';

CREATE FUNCTION idempotent_outbox_redrive(
    topic       text,
    message_ids uuid[] = NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_outbox_redrive';
COMMENT ON FUNCTION idempotent_outbox_redrive(text, uuid[]) IS
'let dead letters be taken again, all of a topic or those named; returns how many there were';

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

CREATE VIEW idempotent.dead_letters AS
SELECT d.topic, d.message_id, d.key, d.attempt, d.put_at, d.dead_at FROM idempotent.outbox_dead AS d;
COMMENT ON VIEW idempotent.dead_letters IS 'messages that were taken as often as max_attempts allows, without their payloads';
COMMENT ON COLUMN idempotent.dead_letters.topic IS 'the topic';
COMMENT ON COLUMN idempotent.dead_letters.message_id IS 'its id, for idempotent_outbox_redrive()';
COMMENT ON COLUMN idempotent.dead_letters.key IS 'the key, whose later messages went on without it';
COMMENT ON COLUMN idempotent.dead_letters.attempt IS 'how often it was taken';
COMMENT ON COLUMN idempotent.dead_letters.put_at IS 'when it was put';
COMMENT ON COLUMN idempotent.dead_letters.dead_at IS 'when it was taken out of its topic';

REVOKE ALL ON FUNCTION
    idempotent.outbox_wait(text, bigint, boolean),
    idempotent.outbox_fingerprint(text, jsonb),
    idempotent.outbox_is_same(text, jsonb, uuid),
    idempotent.outbox_check_date(text, uuid),
    idempotent.outbox_expires(text, uuid),
    idempotent.outbox_count(text, text, bigint),
    idempotent.check_lease(text, interval, interval),
    idempotent.position_above(bigint),
    idempotent.outbox_place(text),
    idempotent.outbox_lock(text, text),
    idempotent.outbox_is_new(text, uuid, text, jsonb, text, smallint),
    idempotent.outbox_put(text, jsonb, text, uuid, text),
    idempotent.outbox_go_on(),
    idempotent.outbox_forget(),
    idempotent.outbox_bury(text, bigint[]),
    idempotent.outbox_take(text, integer, interval),
    idempotent.outbox_held(text, uuid[], bigint),
    idempotent.outbox_ack(text, uuid[], bigint),
    idempotent.outbox_release(text, uuid[], bigint, interval),
    idempotent.outbox_redrive(text, uuid[]),
    idempotent_outbox_put(text, jsonb, text, uuid, text),
    idempotent_outbox_take(text, integer, interval),
    idempotent_outbox_ack(text, uuid[], bigint),
    idempotent_outbox_release(text, uuid[], bigint, interval),
    idempotent_outbox_redrive(text, uuid[])
FROM PUBLIC;
GRANT SELECT ON idempotent.outbox, idempotent.dead_letters TO pg_monitor;
