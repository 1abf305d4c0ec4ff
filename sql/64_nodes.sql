-- Several nodes: each answers for the slots of some owners, and refuses all others.
CREATE TABLE idempotent.own (
    single     boolean NOT NULL DEFAULT true,
    slots      text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL,
    left_behind text COLLATE "C" NOT NULL DEFAULT '{}',
    CONSTRAINT own_pkey PRIMARY KEY (single),
    CONSTRAINT own_single CHECK (single)
) USING heap;
COMMENT ON TABLE idempotent.own IS 'the slots that this database answers for, in one row; none: all. Set them with idempotent_own()';
COMMENT ON COLUMN idempotent.own.single IS 'true: there is one row';
COMMENT ON COLUMN idempotent.own.slots IS 'an int4multirange within {[0,16384)}, as Postgres prints it';
COMMENT ON COLUMN idempotent.own.changed_at IS 'when it was set';
COMMENT ON COLUMN idempotent.own.left_behind IS 'slots that it gave up, and of which nothing has arrived since: what is here of them may be out of date';

-- Part of a dump: a restored node answers for what it did.
SELECT pg_catalog.pg_extension_config_dump('idempotent.own', '');

CREATE FUNCTION idempotent.own_by_hand() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT idempotent.is_configuring() THEN
        RAISE EXCEPTION 'the slots of this database cannot be changed by hand'
            USING ERRCODE = '55000', DETAIL = 'Claims that are open would commit, although another node answers for their keys.',
                  HINT = 'SELECT idempotent_own(...), which waits for them.';
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
COMMENT ON FUNCTION idempotent.own_by_hand() IS 'refuses a change that waits for no claim; a restore inserts';

CREATE TRIGGER own_by_hand BEFORE UPDATE OR DELETE ON idempotent.own
    FOR EACH ROW EXECUTE FUNCTION idempotent.own_by_hand();
CREATE TRIGGER own_truncated BEFORE TRUNCATE ON idempotent.own
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.own_by_hand();
COMMENT ON TRIGGER own_by_hand ON idempotent.own IS 'only idempotent_own() waits for open claims';
COMMENT ON TRIGGER own_truncated ON idempotent.own IS 'only idempotent_own() waits for open claims';

CREATE TRIGGER own_changed AFTER INSERT OR UPDATE OR DELETE ON idempotent.own
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed();
ALTER TABLE idempotent.own ENABLE ALWAYS TRIGGER own_changed;
COMMENT ON TRIGGER own_changed ON idempotent.own IS 'sessions cache it';

CREATE FUNCTION idempotent.own_slot(key text, scope text) RETURNS smallint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_own_slot';
COMMENT ON FUNCTION idempotent.own_slot(text, text) IS 'the slot of an owner, for a row that is being written; ID010 if another node answers for it';

CREATE FUNCTION idempotent.owns(slot smallint) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_owns';
COMMENT ON FUNCTION idempotent.owns(smallint) IS 'whether this database answers for a slot';

CREATE FUNCTION idempotent.announce_own() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_announce_own';
COMMENT ON FUNCTION idempotent.announce_own() IS 'tells every session of a change that is not yet committed';

CREATE FUNCTION idempotent.wait_for_writers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_wait_for_writers';
COMMENT ON FUNCTION idempotent.wait_for_writers() IS 'waits for the transactions that write keys now, and lets others begin meanwhile';

-- 0 to 16384: what is asked of a node. Null stays null: all.
CREATE FUNCTION idempotent.check_slots(slots int4multirange) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT slots <@ '{[0,16384)}'::int4multirange THEN
        RAISE EXCEPTION 'slots must be from 0 to 16383'
            USING ERRCODE = '22023', DETAIL = format('Others were given: %s.', slots - '{[0,16384)}'::int4multirange),
                  HINT = 'Pass ranges, such as ''{[0,4096)}''.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.check_slots(int4multirange) IS 'refuses with 22023 what are no slots';

-- Of these slots, what is with a holder that no transaction stands for: leases of keys, and messages with a relay.
CREATE FUNCTION idempotent.leased(slots int4multirange) RETURNS TABLE (what text, lease_until timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT format('operation "%s", scope "%s", key "%s"', r.operation, r.scope, r.key), r.lease_until
      FROM (SELECT u.operation, u.scope, u.key, u.slot, u.state, u.lease_until FROM idempotent.record AS u
            UNION ALL
            SELECT l.operation, l.scope, l.key, l.slot, l.state, l.lease_until FROM idempotent.record_logged AS l) AS r
     WHERE r.state = 'p' AND r.lease_until IS NOT NULL AND r.slot::integer <@ slots
    UNION ALL
    SELECT format('message %s of topic "%s"', m.message_id, m.topic), m.lease_until
      FROM idempotent.outbox_message AS m WHERE m.fence IS NOT NULL AND m.slot::integer <@ slots;
END $$;
COMMENT ON FUNCTION idempotent.leased(int4multirange) IS 'what is leased of these slots, and until when';

CREATE FUNCTION idempotent.writers() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(DISTINCT CASE WHEN l.pid IS NULL THEN format('the prepared transaction %L', p.gid) ELSE format('process %s', l.pid) END, ', ')
      FROM pg_locks AS l LEFT JOIN (pg_locks AS t JOIN pg_prepared_xacts AS p ON p.transaction = t.transactionid)
        ON l.pid IS NULL AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction
     WHERE l.locktype = 'relation' AND l.granted AND l.mode <> ALL ('{AccessShareLock,RowShareLock,ShareLock}') AND l.pid IS DISTINCT FROM pg_backend_pid()
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.relation = ANY ('{idempotent.record,idempotent.record_logged,idempotent.messages,idempotent.offsets,idempotent.locks,
                               idempotent.saga_run,idempotent.outbox_message,idempotent.outbox_id,idempotent.outbox_dead}'::regclass[]::oid[])
$$;
COMMENT ON FUNCTION idempotent.writers() IS 'which transactions write keys now, or keep those that do out';

-- Waits until nothing of these slots, which sessions have been told are about to go, is open: transactions first, for each of which it
-- waits as for a lock, and then leases, the last of which was granted by one of these. What is open may be finished meanwhile, and
-- nothing is begun. A lease that lapses while this waits for transactions may have been used by one of them until it lapsed.
CREATE FUNCTION idempotent.wait_for_slots(slots int4multirange) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    patience CONSTANT interval := current_setting('lock_timeout')::interval;
    began    CONSTANT timestamptz := clock_timestamp();
    moment   timestamptz;
    held     record;
    pause    interval := '20 milliseconds';
BEGIN
    LOOP
        moment := clock_timestamp();
        BEGIN
            PERFORM idempotent.wait_for_writers();
        EXCEPTION WHEN lock_not_available THEN
            RAISE EXCEPTION 'transactions that write keys are in the way'
                USING ERRCODE = '55P03', DETAIL = format('They have not ended within lock_timeout: %s.', idempotent.writers()),
                      HINT = 'End them, or wait for longer: SET lock_timeout = ''1 minute''. Nothing was changed.';
        END;
        SELECT l.what, l.lease_until INTO held FROM idempotent.leased(slots) AS l
         WHERE l.lease_until > moment ORDER BY l.lease_until DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        IF patience > '0' AND clock_timestamp() > began + patience THEN
            RAISE EXCEPTION 'a lease is in the way'
                USING ERRCODE = '55P03', DETAIL = format('The lease of %s lasts until %s.', held.what, held.lease_until),
                      HINT = 'Let its holder finish, or wait for longer: SET lock_timeout = ''1 minute''. Nothing was changed.';
        END IF;
        PERFORM pg_sleep(extract(epoch FROM LEAST(pause, GREATEST(held.lease_until - clock_timestamp(), '1 millisecond')))::float8);
        pause := LEAST(pause * 2, interval '1 second');
    END LOOP;
END $$;
COMMENT ON FUNCTION idempotent.wait_for_slots(int4multirange) IS 'waits until no claim of these slots is open; 55P03 after lock_timeout';

CREATE FUNCTION idempotent.own_slots(slots int4multirange) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    whole   CONSTANT int4multirange := '{[0,16384)}';
    before  idempotent.own;
    leaving int4multirange;
    stale   int4multirange;
BEGIN
    PERFORM idempotent.check_slots(slots);
    -- One change at a time, and none while slots are exported.
    LOCK TABLE idempotent.own IN SHARE ROW EXCLUSIVE MODE;
    SELECT o.* INTO before FROM idempotent.own AS o;
    leaving := COALESCE(before.slots::int4multirange, whole) - COALESCE(slots, whole);
    stale := COALESCE(before.left_behind, '{}')::int4multirange + leaving - COALESCE(slots, whole);
    IF slots IS NULL THEN
        DELETE FROM idempotent.own;
    ELSE
        INSERT INTO idempotent.own (slots, changed_at, left_behind) VALUES (own_slots.slots::text, clock_timestamp(), stale::text)
        ON CONFLICT ON CONSTRAINT own_pkey DO UPDATE SET slots = excluded.slots, changed_at = excluded.changed_at, left_behind = excluded.left_behind;
    END IF;
    PERFORM idempotent.audited('own', NULL, COALESCE(slots::text, 'all'));
    IF NOT isempty(leaving) THEN
        PERFORM idempotent.announce_own();
        PERFORM idempotent.wait_for_slots(leaving);
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.own_slots(int4multirange) IS 'behind idempotent_own()';

CREATE FUNCTION idempotent_own(slots int4multirange) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_own';
COMMENT ON FUNCTION idempotent_own(int4multirange) IS
'answer for these slots and refuse all others with ID010; null: for all. Waits for claims of the slots that go';

CREATE FUNCTION idempotent_ignorant(before timestamptz = pg_catalog.now()) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF before IS NULL OR before = 'infinity' THEN
        RAISE EXCEPTION 'before must be a date'
            USING ERRCODE = '22023', HINT = 'Pass when this node began to answer, or ''-infinity'' for a node that knows all of its keys.';
    END IF;
    DELETE FROM idempotent.reset AS r WHERE r.operation = '';
    IF before > '-infinity' THEN
        INSERT INTO idempotent.reset (durability, noticed_at, reset_at, operation)
        SELECT d, clock_timestamp(), before, '' FROM unnest('{unlogged,logged}'::text[]) AS d;
    END IF;
    -- The trigger has every session read anew what it has kept.
    UPDATE idempotent.operation SET name = name WHERE false;
    PERFORM idempotent.audited('ignorant', NULL, before::text);
END $$;
COMMENT ON FUNCTION idempotent_ignorant(timestamptz) IS
'keys dated before may be known elsewhere: without a record they are unknown, not new; ''-infinity'': none are';

REVOKE ALL ON FUNCTION
    idempotent.own_by_hand(),
    idempotent.own_slot(text, text),
    idempotent.owns(smallint),
    idempotent.announce_own(),
    idempotent.wait_for_writers(),
    idempotent.check_slots(int4multirange),
    idempotent.leased(int4multirange),
    idempotent.writers(),
    idempotent.wait_for_slots(int4multirange),
    idempotent.own_slots(int4multirange),
    idempotent_own(int4multirange),
    idempotent_ignorant(timestamptz)
FROM PUBLIC;
