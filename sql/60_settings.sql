-- What happens when settings change, however they are changed: by idempotent_operation(), by hand, or by logical replication,
-- which fires triggers for each row and none for a statement.

CREATE FUNCTION idempotent.is_configuring() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_is_configuring';
COMMENT ON FUNCTION idempotent.is_configuring() IS
'whether one of the functions that change settings is at work in this session';

CREATE FUNCTION idempotent.stop_callers(operation text, patiently boolean) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_stop_callers';
COMMENT ON FUNCTION idempotent.stop_callers(text, boolean) IS
'waits for the transactions that work with keys of an operation, and lets no other one begin until this one ends; if not patiently, for a second: false if some are left';

CREATE FUNCTION idempotent.join_callers(operation text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_join_callers';
COMMENT ON FUNCTION idempotent.join_callers(text) IS
'has a change of an operation''s durability wait for this transaction';

CREATE FUNCTION idempotent.has_run(operation text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    -- A record that was kept for 24 hours may be gone.
    SELECT EXISTS (SELECT FROM idempotent.earlier_retention AS e
                    WHERE e.operation = $1 OR e.operation = '' AND e.until < clock_timestamp() - interval '24 hours')
        OR EXISTS (SELECT FROM idempotent.record AS r WHERE r.operation = $1)
        OR EXISTS (SELECT FROM idempotent.record_logged AS r WHERE r.operation = $1)
        OR EXISTS (SELECT FROM idempotent.messages AS m WHERE m.consumer = $1)
        OR EXISTS (SELECT FROM idempotent.saga_run AS s WHERE s.saga = $1)
        OR EXISTS (SELECT FROM jsonb_to_recordset(idempotent.counters()) AS c (operation text, claimed bigint, replayed bigint, expired bigint)
                    WHERE c.operation = $1 AND c.claimed + c.replayed + c.expired > 0)
$$;
COMMENT ON FUNCTION idempotent.has_run(text) IS
'whether an operation that is not configured may have stored something under the defaults, as far as can be told';

CREATE FUNCTION idempotent.still_has(operation text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'saga' FROM idempotent.saga_run AS s WHERE s.saga = $1 AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
    UNION ALL SELECT 'message' FROM idempotent.outbox_message AS m WHERE m.topic = $1
    UNION ALL SELECT 'message' FROM idempotent.outbox_dead AS d WHERE d.topic = $1
    UNION ALL SELECT 'message' FROM idempotent.messages AS c WHERE c.consumer = $1 AND c.expires_at > clock_timestamp()
    UNION ALL SELECT 'offset' FROM idempotent.offsets AS p WHERE p.consumer = $1
    UNION ALL SELECT 'lock' FROM idempotent.locks AS k WHERE k.resource = $1 AND k.expires_at > clock_timestamp()
    UNION ALL SELECT 'record'
      FROM (SELECT u.operation, u.state, u.expires_at, u.lease_until FROM idempotent.record AS u
            UNION ALL
            SELECT l.operation, l.state, l.expires_at, l.lease_until FROM idempotent.record_logged AS l) AS r
     WHERE r.operation = $1 AND (r.state = 'u' OR r.expires_at > clock_timestamp() OR r.lease_until > clock_timestamp())
    LIMIT 1
$$;
COMMENT ON FUNCTION idempotent.still_has(text) IS
'what there is, if anything, that the settings of an operation judge: saga, message, offset, lock or record';

CREATE FUNCTION idempotent.is_canonical(key text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT $1 ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' COLLATE "C"
$$;
COMMENT ON FUNCTION idempotent.is_canonical(text) IS 'whether a key is a UUID in lower case, with its hyphens';

CREATE FUNCTION idempotent.check_key_form(operation text, key text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT idempotent.is_canonical($2) AND EXISTS (
        SELECT FROM idempotent.operation AS o WHERE o.name = $1 COLLATE "C" AND o.key_form = 'uuid') THEN
        RAISE EXCEPTION 'a key of operation "%" is not kept as its key_form says', $1
            USING ERRCODE = '55000', DETAIL = 'Here it would be found by no call, and run again.',
                  HINT = 'Set key_form here as it is where the key comes from.';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent.check_key_form(text, text) IS 'refuses a key from elsewhere that an operation here would not find';

CREATE FUNCTION idempotent.check_settings(
    name                text,
    retention           interval,
    failure_retention   interval,
    response_retention  interval,
    lease               interval,
    wait                interval,
    max_lease           interval,
    max_retention       interval,
    fingerprint_exclude text[],
    store_failures      text[],
    http_store          text[],
    http_headers        text[]
) RETURNS void
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'idempotent_check_settings';
COMMENT ON FUNCTION idempotent.check_settings(text, interval, interval, interval, interval, interval, interval, interval, text[], text[], text[], text[]) IS
'refuses what idempotent_operation() refuses as an argument';

CREATE FUNCTION idempotent.operation_checked() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    by_function   boolean  := idempotent.is_configuring();
    skew          interval := current_setting('idempotent.clock_skew')::interval;
    changed       text     := COALESCE(NEW.name, OLD.name);
    -- where there is no row, the defaults
    old_retention interval := COALESCE(OLD.retention, '24 hours');
    new_retention interval := COALESCE(NEW.retention, '24 hours');
    old_form      text     := COALESCE(OLD.key_form, 'text');
    new_form      text     := COALESCE(NEW.key_form, 'text');
    -- Keys have dates from now on that counted for nothing, or were spelt as no date is.
    uses_dates    boolean  := COALESCE(NEW.key_dates, 'use') = 'use'
                              AND (COALESCE(OLD.key_dates, 'use') = 'ignore' OR old_form = 'text' AND new_form = 'uuid');
    was_kept      interval;
    still_dated   timestamptz;
    judged        text;
    moment        timestamptz := clock_timestamp();
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Locked, so that it is still there when this row becomes an UPDATE of it, or is refused. Whether one stays that another
        -- transaction has deleted is waited for.
        PERFORM FROM idempotent.operation AS o WHERE o.name = NEW.name FOR KEY SHARE;
        IF FOUND THEN
            RETURN NEW;
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.name <> OLD.name THEN
        RAISE EXCEPTION 'the name of an operation cannot be changed'
            USING ERRCODE = '55000', DETAIL = format('Records and settings of operation "%s" bear its name.', OLD.name),
                  HINT = 'Configure the new name with idempotent_operation(), and remove the old one with idempotent_operation_drop().';
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM idempotent.check_settings(
            NEW.name, NEW.retention, NEW.failure_retention, NEW.response_retention, NEW.lease, NEW.wait, NEW.max_lease,
            NEW.max_retention, NEW.fingerprint_exclude, NEW.store_failures, NEW.http_store, NEW.http_headers);
    END IF;
    -- What is claimed now is stored before it is looked for.
    IF NOT by_function AND (TG_OP = 'DELETE' OR new_form <> old_form OR COALESCE(NEW.durability, 'unlogged') <> COALESCE(OLD.durability, 'unlogged')) THEN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'settings can only be changed by hand under READ COMMITTED'
                USING ERRCODE = '0A000', DETAIL = 'This transaction''s snapshot may not show every record that the operation has.',
                      HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
        END IF;
        PERFORM idempotent.stop_callers(changed, true);
    END IF;
    IF NOT by_function AND COALESCE(NEW.durability, 'unlogged') <> COALESCE(OLD.durability, 'unlogged')
       AND (TG_OP = 'UPDATE' OR EXISTS (SELECT FROM idempotent.record AS r WHERE r.operation = changed)
            OR TG_OP = 'DELETE' AND EXISTS (SELECT FROM idempotent.record_logged AS r WHERE r.operation = changed)) THEN
        RAISE EXCEPTION 'the durability of operation "%" cannot be changed by hand', changed
            USING ERRCODE = '55000', DETAIL = 'Its records would stay in the table that is no longer read, and their keys would run again.',
                  HINT = format('SELECT idempotent_operation(%L, durability => %L);', changed, COALESCE(NEW.durability, 'unlogged'));
    END IF;
    IF NOT by_function AND TG_OP = 'DELETE' THEN
        judged := idempotent.still_has(changed);
    END IF;
    IF judged IS NOT NULL THEN
        RAISE EXCEPTION 'operation "%" still has %s', changed, judged
            USING ERRCODE = '55006', DETAIL = 'Without its settings they would be judged by the defaults, be open to every caller, or run again.',
                  HINT = CASE judged WHEN 'record' THEN format('Wait until they have expired, or delete them first: SELECT idempotent_forget_all(%L), idempotent_operation_drop(%L);', changed, changed)
                                     ELSE format('SELECT idempotent_operation_drop(%L) says how they end.', changed) END;
    END IF;
    -- A key that is kept in its canonical spelling stays the same key. One that may have come in another spelling would be new.
    -- The settings of a dump come before or after its keys.
    IF new_form <> old_form AND EXISTS (
        SELECT FROM (SELECT u.key FROM idempotent.record AS u
                      WHERE u.operation = changed AND (u.state = 'u' OR u.expires_at > moment OR u.lease_until > moment)
                      UNION ALL
                     SELECT l.key FROM idempotent.record_logged AS l
                      WHERE l.operation = changed AND (l.state = 'u' OR l.expires_at > moment OR l.lease_until > moment)
                      UNION ALL
                     SELECT s.key FROM idempotent.saga_run AS s
                      WHERE s.saga = changed AND (s.expires_at IS NULL OR s.expires_at > moment)) AS k
         WHERE new_form <> 'uuid' OR NOT idempotent.is_canonical(k.key)) THEN
        RAISE EXCEPTION 'key_form of operation "%" cannot be changed while it keeps keys', changed
            USING ERRCODE = '55000', DETAIL = 'A key that is sent in another spelling would run again.',
                  HINT = format('Use another operation, wait until the keys have expired, or delete them first: SELECT idempotent_forget_all(%L), and of sagas idempotent_saga_forget(...).', changed);
    END IF;
    -- What is kept for longer from now on was kept for less until now. A date that did not count until now was none by which
    -- anything was kept, so that a record went after the retention, whichever clock had made the key.
    -- Of what is configured for the first time nobody knows what a transaction that is open, or newer than the snapshot, has stored.
    -- What comes by replication was known where it comes from.
    IF (new_retention > old_retention OR uses_dates)
       AND (TG_OP <> 'INSERT' OR idempotent.has_run(changed)
            OR current_setting('session_replication_role') <> 'replica'
               AND (current_setting('transaction_isolation') <> 'read committed' OR NOT idempotent.stop_callers(changed, false)
                    OR idempotent.has_run(changed))) THEN
        was_kept := GREATEST(CASE WHEN uses_dates OR COALESCE(OLD.key_dates, 'use') = 'ignore' THEN old_retention - skew ELSE old_retention + skew END, '0');
        -- Dates may be ahead by which records were kept until now: see src/tables/earlier.rs.
        still_dated := moment + GREATEST(skew, was_kept) + interval '1 second';
        -- What the new line says, too.
        DELETE FROM idempotent.earlier_retention AS e
         WHERE e.operation = changed AND (e.kept >= was_kept AND e.until <= still_dated OR e.until <= moment - was_kept);
        -- Until the change commits nobody knows when that is. What this transaction itself has set is used by no other, and ends
        -- now. A line of this transaction that says more is enough.
        INSERT INTO idempotent.earlier_retention
        SELECT changed, CASE WHEN count(*) = 0 THEN 'infinity' ELSE still_dated END, was_kept
          FROM idempotent.earlier_retention AS e WHERE e.operation = changed AND e.until = 'infinity'
        HAVING NOT COALESCE(bool_or(e.kept <= was_kept), false);
    END IF;
    -- Leases granted already follow the more careful setting: what is unknown once it has lapsed never expires. None follows the
    -- other one: what was granted as unknown stays so.
    IF TG_OP <> 'DELETE' AND NEW.on_lapse = 'unknown' AND COALESCE(OLD.on_lapse, 'retry') <> 'unknown' THEN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'on_lapse can only be changed to unknown under READ COMMITTED'
                USING ERRCODE = '0A000', DETAIL = 'This transaction''s snapshot may not show every lease that was granted.',
                      HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
        END IF;
        BEGIN
            UPDATE idempotent.record AS r SET expires_at = 'infinity', sweep_at = 'infinity'
             WHERE r.operation = changed AND r.state = 'p' AND r.lease_until IS NOT NULL AND r.expires_at <> 'infinity';
            UPDATE idempotent.record_logged AS r SET expires_at = 'infinity', sweep_at = 'infinity'
             WHERE r.operation = changed AND r.state = 'p' AND r.lease_until IS NOT NULL AND r.expires_at <> 'infinity';
        EXCEPTION WHEN integrity_constraint_violation THEN
            -- Of a constraint of an administrator's. DETAIL would be the row, in the log, too.
            RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
        END;
    END IF;
    -- Never what is there already, in any order: sets are compared by the library.
    -- One number at a time: where another session is giving one to the same operation, by hand, that is waited for, and the next
    -- number tried. If the snapshot does not show the other one, that is 40001.
    WHILE TG_OP <> 'DELETE' AND NEW.fingerprint_exclude <> '{}' AND NOT EXISTS (
        SELECT FROM idempotent.exclusion AS x WHERE x.operation = NEW.name AND x.members = NEW.fingerprint_exclude) LOOP
        INSERT INTO idempotent.exclusion
        SELECT NEW.name, COALESCE(max(x.number), 0) + 1, NEW.fingerprint_exclude FROM idempotent.exclusion AS x WHERE x.operation = NEW.name
            ON CONFLICT ON CONSTRAINT exclusion_pkey DO NOTHING;
    END LOOP;
    RETURN COALESCE(NEW, OLD);
END $$;
COMMENT ON FUNCTION idempotent.operation_checked() IS
'notes what is forgotten under the settings that end, and refuses what only the functions that move records can do';

CREATE TRIGGER operation_checked
    BEFORE INSERT OR UPDATE OR DELETE ON idempotent.operation
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_checked();
ALTER TABLE idempotent.operation ENABLE ALWAYS TRIGGER operation_checked;
COMMENT ON TRIGGER operation_checked ON idempotent.operation IS
'settings never forget what was known under earlier ones';

-- A dump knows the numbers with which its sagas were stored, and a node those of its records; what the arrival of the settings has
-- numbered gives way.
CREATE FUNCTION idempotent.exclusion_kept() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.number > 4000 THEN
        RAISE EXCEPTION 'fingerprint_exclude of operation "%" was changed too often', NEW.operation
            USING ERRCODE = '54000', HINT = 'Set it to one of the values that it had before.';
    END IF;
    -- What a change of settings numbers never takes the place of another set.
    IF pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    UPDATE idempotent.exclusion AS x SET members = NEW.members WHERE x.operation = NEW.operation AND x.number = NEW.number;
    RETURN CASE WHEN FOUND THEN NULL ELSE NEW END;
END $$;
COMMENT ON FUNCTION idempotent.exclusion_kept() IS 'lets the numbers of where settings come from take the place of those that their arrival has given';

CREATE TRIGGER exclusion_kept
    BEFORE INSERT ON idempotent.exclusion
    FOR EACH ROW EXECUTE FUNCTION idempotent.exclusion_kept();
ALTER TABLE idempotent.exclusion ENABLE ALWAYS TRIGGER exclusion_kept;
COMMENT ON TRIGGER exclusion_kept ON idempotent.exclusion IS 'the numbers of a dump, or of the node that settings are replicated from, count';

CREATE TRIGGER exclusion_changed
    AFTER INSERT OR UPDATE OR DELETE ON idempotent.exclusion
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed();
ALTER TABLE idempotent.exclusion ENABLE ALWAYS TRIGGER exclusion_changed;
COMMENT ON TRIGGER exclusion_changed ON idempotent.exclusion IS 'sessions cache what it says with the settings';

CREATE FUNCTION idempotent.operation_truncated() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'cannot truncate the settings of operations'
        USING ERRCODE = '55000', DETAIL = 'Operations would go on with the defaults, and keys of which records are kept elsewhere would run again.',
              HINT = 'Remove one after the other: SELECT idempotent_operation_drop(...).';
END $$;
COMMENT ON FUNCTION idempotent.operation_truncated() IS 'refuses TRUNCATE';

CREATE TRIGGER operation_truncated
    BEFORE TRUNCATE ON idempotent.operation
    FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_truncated();
ALTER TABLE idempotent.operation ENABLE ALWAYS TRIGGER operation_truncated;
COMMENT ON TRIGGER operation_truncated ON idempotent.operation IS 'settings go one by one';

CREATE TRIGGER operation_row_changed
    AFTER INSERT OR UPDATE OR DELETE ON idempotent.operation
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed();
ALTER TABLE idempotent.operation ENABLE ALWAYS TRIGGER operation_row_changed;
COMMENT ON TRIGGER operation_row_changed ON idempotent.operation IS
'sessions cache the settings; logical replication fires nothing else';

CREATE TRIGGER earlier_retention_changed
    AFTER INSERT OR UPDATE OR DELETE ON idempotent.earlier_retention
    FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed();
ALTER TABLE idempotent.earlier_retention ENABLE ALWAYS TRIGGER earlier_retention_changed;
COMMENT ON TRIGGER earlier_retention_changed ON idempotent.earlier_retention IS 'sessions cache what it says with the settings';

CREATE FUNCTION idempotent_operation_drop(name text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idempotent_operation_drop';
COMMENT ON FUNCTION idempotent_operation_drop(text) IS
'remove the settings of an operation that has no records; whether there were any';

REVOKE ALL ON FUNCTION
    idempotent.is_configuring(),
    idempotent.stop_callers(text, boolean),
    idempotent.join_callers(text),
    idempotent.has_run(text),
    idempotent.still_has(text),
    idempotent.is_canonical(text),
    idempotent.check_key_form(text, text),
    idempotent.check_settings(text, interval, interval, interval, interval, interval, interval, interval, text[], text[], text[], text[]),
    idempotent.operation_checked(),
    idempotent.exclusion_kept(),
    idempotent.operation_truncated(),
    idempotent_operation_drop(text)
FROM PUBLIC;
