-- The move of slots from one node to another: what the one exports, a row each, the other imports. Nothing is overwritten that says
-- something else, and what comes twice is harmless, so that a move is begun again from any point.
--
-- Beside the rows of keys come what they are judged by: the fences that were granted, the losses and the earlier retentions of the
-- node they come from.

CREATE FUNCTION idempotent.fence_above(fence bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_fence_above';
COMMENT ON FUNCTION idempotent.fence_above(bigint) IS 'lets fences go on above one that was granted elsewhere';

CREATE FUNCTION idempotent.lost_before(durability text) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_lost_before';
COMMENT ON FUNCTION idempotent.lost_before(text) IS 'before when a table has lost records, noticed or not; null: it has lost none';

CREATE FUNCTION idempotent_export(slots int4multirange) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 100000 SET search_path = pg_catalog, pg_temp
SET bytea_output = 'hex' SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' AS $$
DECLARE
    shared int4multirange;
    moment timestamptz;
BEGIN
    IF slots IS NULL THEN
        RAISE EXCEPTION 'slots must not be null'
            USING ERRCODE = '22023', HINT = 'Pass ranges, such as ''{[0,4096)}''.';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'slots can only be moved under READ COMMITTED'
            USING ERRCODE = '0A000', DETAIL = 'This transaction''s snapshot may not show every row there is.',
                  HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED;';
    END IF;
    PERFORM idempotent.check_slots(slots);
    -- Until this transaction ends they are not this database's again.
    LOCK TABLE idempotent.own IN SHARE MODE;
    shared := slots * COALESCE((SELECT o.slots::int4multirange FROM idempotent.own AS o), '{[0,16384)}');
    IF NOT isempty(shared) THEN
        RAISE EXCEPTION 'this database still answers for slots that are to be exported'
            USING ERRCODE = '55006', DETAIL = format('For %s.', shared),
                  HINT = 'Let it answer for the others alone, first: SELECT idempotent_own(...).';
    END IF;
    PERFORM idempotent.wait_for_slots(slots);
    PERFORM idempotent.audited('export', NULL, slots::text);
    moment := clock_timestamp();
    RETURN NEXT jsonb_build_object('table', 'slots', 'row', jsonb_build_object('slots', slots));
    RETURN QUERY SELECT jsonb_build_object('table', 'fence', 'row', jsonb_build_object('last', f.last_value)) FROM idempotent.fence AS f;
    -- Also a loss that no session has noted: a crash just now, and nothing was written since.
    RETURN QUERY SELECT jsonb_build_object('table', 'reset', 'row', jsonb_build_object('durability', l.durability, 'reset_at', max(l.reset_at)))
      FROM (SELECT r.durability, r.reset_at FROM idempotent.reset AS r
            UNION ALL SELECT d, idempotent.lost_before(d) FROM unnest('{unlogged,logged}'::text[]) AS d) AS l
     WHERE l.reset_at IS NOT NULL GROUP BY l.durability;
    RETURN QUERY SELECT jsonb_build_object('table', 'earlier_retention', 'row', to_jsonb(e)) FROM idempotent.earlier_retention AS e WHERE e.operation <> '';
    -- An administrator may have added columns to the one table or the other. An answer that is null in SQL is left out, so that one that
    -- is null in JSON stays one.
    RETURN QUERY SELECT jsonb_build_object('table', 'record', 'row', r.line, 'excluded', x.members)
      FROM (SELECT to_jsonb(u) - CASE WHEN u.response IS NULL THEN 'response' ELSE '' END - CASE WHEN u.checkpoint IS NULL THEN 'checkpoint' ELSE '' END AS line,
                   u.operation, u.fingerprint_version, u.slot, u.state, u.expires_at, u.lease_until FROM idempotent.record AS u
            UNION ALL
            SELECT to_jsonb(l) - CASE WHEN l.response IS NULL THEN 'response' ELSE '' END - CASE WHEN l.checkpoint IS NULL THEN 'checkpoint' ELSE '' END,
                   l.operation, l.fingerprint_version, l.slot, l.state, l.expires_at, l.lease_until FROM idempotent.record_logged AS l) AS r
      LEFT JOIN idempotent.exclusion AS x ON x.operation = r.operation COLLATE "C" AND x.number = r.fingerprint_version / 8
     WHERE r.slot::integer <@ slots AND r.state <> 'e' AND (r.expires_at > moment OR r.lease_until > moment);
    RETURN QUERY SELECT jsonb_build_object('table', 'messages', 'row', to_jsonb(m)) FROM idempotent.messages AS m
     WHERE m.slot::integer <@ slots AND m.expires_at > moment;
    RETURN QUERY SELECT jsonb_build_object('table', 'offsets', 'row', to_jsonb(o)) FROM idempotent.offsets AS o WHERE o.slot::integer <@ slots;
    RETURN QUERY SELECT jsonb_build_object('table', 'locks', 'row', to_jsonb(k)) FROM idempotent.locks AS k
     WHERE k.slot::integer <@ slots AND k.expires_at > moment;
    RETURN QUERY SELECT jsonb_build_object('table', 'saga_run', 'row', to_jsonb(g) - CASE WHEN g.request IS NULL THEN 'request' ELSE '' END, 'excluded', x.members)
      FROM idempotent.saga_run AS g LEFT JOIN idempotent.exclusion AS x ON x.operation = g.saga AND x.number = g.fingerprint_version / 8
     WHERE g.slot::integer <@ slots AND (g.expires_at IS NULL OR g.expires_at > moment);
    RETURN QUERY SELECT jsonb_build_object('table', 'outbox_id', 'row', to_jsonb(i)) FROM idempotent.outbox_id AS i
     WHERE i.slot::integer <@ slots AND i.expires_at > moment;
    RETURN QUERY SELECT jsonb_build_object('table', 'outbox_message', 'row', to_jsonb(m)) FROM idempotent.outbox_message AS m
     WHERE m.slot::integer <@ slots ORDER BY m.position;
    RETURN QUERY SELECT jsonb_build_object('table', 'outbox_dead', 'row', to_jsonb(d)) FROM idempotent.outbox_dead AS d
     WHERE d.slot::integer <@ slots ORDER BY d.position;
END $$;
COMMENT ON FUNCTION idempotent_export(int4multirange) IS
'records, messages, offsets, locks, sagas and outbox of slots that this database no longer answers for, a row each';

-- A set of exclusions has another number on each node.
CREATE FUNCTION idempotent.import_version(operation text, version smallint, members jsonb) RETURNS smallint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    excluded CONSTANT text[] := ARRAY(SELECT jsonb_array_elements_text(NULLIF(members, 'null')));
    numbered smallint;
BEGIN
    IF version IS NULL OR version < 8 THEN
        RETURN version;
    END IF;
    LOCK TABLE idempotent.exclusion IN SHARE ROW EXCLUSIVE MODE;
    SELECT x.number INTO numbered FROM idempotent.exclusion AS x WHERE x.operation = import_version.operation COLLATE "C" AND x.members = excluded;
    IF NOT FOUND THEN
        INSERT INTO idempotent.exclusion (operation, number, members)
        SELECT import_version.operation, COALESCE(max(x.number), 0) + 1, excluded FROM idempotent.exclusion AS x
         WHERE x.operation = import_version.operation COLLATE "C"
        RETURNING number INTO numbered;
    END IF;
    RETURN version % 8::smallint + 8::smallint * numbered;
END $$;
COMMENT ON FUNCTION idempotent.import_version(text, smallint, jsonb) IS 'the version of a fingerprint by the numbers of this database';

-- What was left behind of slots, and does not expire, is out of date when they arrive from elsewhere: a message that was sent there, a saga
-- that was finished, an attempt that was followed by another. There they were forgotten in time, so that nothing arrives that says so.
CREATE FUNCTION idempotent.drop_left_behind(arriving int4multirange) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stale   CONSTANT int4multirange := (SELECT arriving * o.left_behind::int4multirange FROM idempotent.own AS o);
    dropped bigint := 0;
    more    bigint;
    target  text;
BEGIN
    IF COALESCE(isempty(stale), true) THEN
        RETURN 0;
    END IF;
    UPDATE idempotent.own AS o SET left_behind = (o.left_behind::int4multirange - stale)::text;
    FOREACH target IN ARRAY '{record,record_logged,saga_run,outbox_id,outbox_message,outbox_dead}'::text[] LOOP
        EXECUTE format('DELETE FROM idempotent.%I AS t WHERE t.slot::integer <@ $1 AND %s', target, CASE
            WHEN target LIKE 'record%' THEN $q$t.state IN ('p', 'u', 'a')$q$
            WHEN target = 'saga_run' THEN 't.expires_at IS NULL'
            WHEN target = 'outbox_id' THEN $q$t.expires_at = 'infinity'$q$
            ELSE 'true' END) USING stale;
        GET DIAGNOSTICS more = ROW_COUNT;
        dropped := dropped + more;
    END LOOP;
    IF dropped > 0 THEN
        PERFORM idempotent.audited('import', NULL, format('dropped what was left behind of %s: %s rows', stale, dropped));
    END IF;
    RETURN dropped;
END $$;
COMMENT ON FUNCTION idempotent.drop_left_behind(int4multirange) IS 'deletes what was left behind of slots that arrive, and does not expire';

-- The earlier one would let the key run, or leaves open whether it has, and the later one went on from that: it is a later attempt, or was
-- settled later. A record that is done never gives way.
CREATE FUNCTION idempotent.follows(later idempotent.record, earlier idempotent.record) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(earlier.state IN ('u', 'a') OR earlier.state = 'p' AND earlier.lease_until <= clock_timestamp(), false)
       AND COALESCE(later.fence > earlier.fence OR later.attempt > earlier.attempt
                    OR GREATEST(later.claimed_at, later.finished_at) > GREATEST(earlier.claimed_at, earlier.finished_at), false)
$$;
COMMENT ON FUNCTION idempotent.follows(idempotent.record, idempotent.record) IS 'whether a record went on from another, which may still run';

-- What an administrator has added to the one table of records alone stays there.
CREATE FUNCTION idempotent.shared_columns() RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(u.attname ORDER BY u.attnum)
      FROM pg_attribute AS u JOIN pg_attribute AS l ON l.attname = u.attname
     WHERE u.attrelid = 'idempotent.record'::regclass AND u.attnum > 0 AND NOT u.attisdropped AND u.attgenerated = ''
       AND l.attrelid = 'idempotent.record_logged'::regclass AND l.attnum > 0 AND NOT l.attisdropped AND l.attgenerated = ''
$$;
COMMENT ON FUNCTION idempotent.shared_columns() IS 'the columns with which a record goes from one table of records to the other';

CREATE FUNCTION idempotent.import_record(arriving idempotent.record) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared    CONSTANT name[] := idempotent.shared_columns();
    kept_in   text;
    insert_it text;
    present idempotent.record;
    written bigint;
    -- Which of the two was made after the other. Fences tell, or else the times at which they were stored.
    lead    bigint;
BEGIN
    IF arriving.expires_at <= clock_timestamp() THEN
        RETURN 'older';
    END IF;
    -- From here on the operation's records stay where they are.
    PERFORM idempotent.join_callers(arriving.operation);
    PERFORM idempotent.check_key_form(arriving.operation, arriving.key);
    kept_in := CASE (SELECT o.durability FROM idempotent.operation AS o WHERE o.name = arriving.operation COLLATE "C")
               WHEN 'logged' THEN 'record_logged' ELSE 'record' END;
    insert_it := format('INSERT INTO idempotent.%I (%s) SELECT %s ON CONFLICT DO NOTHING', kept_in,
        (SELECT string_agg(quote_ident(c), ', ') FROM unnest(shared) AS c), (SELECT string_agg(format('($1).%I', c), ', ') FROM unnest(shared) AS c));
    EXECUTE insert_it USING arriving;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written > 0 THEN
        RETURN 'new';
    END IF;
    EXECUTE format('SELECT %s FROM idempotent.%I AS r WHERE r.record_id = $1 FOR UPDATE OF r',
                   (SELECT string_agg(CASE WHEN a.attname = ANY (shared) THEN format('r.%I', a.attname) ELSE 'NULL' END, ', ' ORDER BY a.attnum)
                      FROM pg_attribute AS a WHERE a.attrelid = 'idempotent.record'::regclass AND a.attnum > 0 AND NOT a.attisdropped), kept_in)
       INTO present USING arriving.record_id;
    IF present.record_id IS NULL OR (present.operation, present.scope, present.key) IS DISTINCT FROM (arriving.operation, arriving.scope, arriving.key) THEN
        RETURN 'conflict';
    END IF;
    lead := COALESCE(NULLIF(arriving.fence - present.fence, 0),
        (extract(epoch FROM COALESCE(arriving.finished_at, arriving.claimed_at) - COALESCE(present.finished_at, present.claimed_at)) * 1000000)::bigint, 0);
    IF present.expires_at <= clock_timestamp() OR idempotent.follows(arriving, present)
          -- What this database does not answer for was left behind, and the key went on elsewhere.
          OR lead > 0 AND NOT idempotent.owns(present.slot) THEN
        EXECUTE format('DELETE FROM idempotent.%I AS r WHERE r.record_id = $1', kept_in) USING arriving.record_id;
        EXECUTE insert_it USING arriving;
        RETURN 'new';
    ELSIF idempotent.follows(present, arriving) OR lead < 0 AND arriving.state IN ('p', 'a', 'u')
          OR arriving.state = 'p' AND present.fence >= arriving.fence AND present IS DISTINCT FROM arriving THEN
        -- A beginning, of which what is here is the end.
        RETURN 'older';
    ELSIF (present.state, present.fingerprint, present.fingerprint_version, present.finished_at, present.status, present.fence, present.lease_until, present.claimed_at)
          IS NOT DISTINCT FROM
          (arriving.state, arriving.fingerprint, arriving.fingerprint_version, arriving.finished_at, arriving.status, arriving.fence, arriving.lease_until, arriving.claimed_at)
          -- A sweep on either side may have taken the body.
          AND (present.evicted OR arriving.evicted
               OR (present.response, present.headers, present.body, present.checkpoint) IS NOT DISTINCT FROM (arriving.response, arriving.headers, arriving.body, arriving.checkpoint)) THEN
        RETURN 'same';
    ELSIF lead < 0 AND NOT idempotent.owns(present.slot) THEN
        RETURN 'older';
    END IF;
    RETURN 'conflict';
END $$;
COMMENT ON FUNCTION idempotent.import_record(idempotent.record) IS 'imports a record';

CREATE FUNCTION idempotent.import_message(arriving idempotent.messages) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present idempotent.messages;
BEGIN
    IF arriving.expires_at <= clock_timestamp() THEN
        RETURN 'older';
    END IF;
    DELETE FROM idempotent.messages AS m
     WHERE m.message_id = arriving.message_id AND m.consumer = arriving.consumer AND m.scope = arriving.scope AND m.expires_at <= clock_timestamp();
    INSERT INTO idempotent.messages SELECT (arriving).* ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN 'new';
    END IF;
    SELECT m.* INTO present FROM idempotent.messages AS m
     WHERE m.message_id = arriving.message_id AND m.consumer = arriving.consumer AND m.scope = arriving.scope;
    RETURN CASE WHEN present.seen_at = arriving.seen_at THEN 'same' ELSE 'conflict' END;
END $$;
COMMENT ON FUNCTION idempotent.import_message(idempotent.messages) IS 'imports a message that a consumer has seen';

CREATE FUNCTION idempotent.import_offset(arriving idempotent.offsets) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO idempotent.offsets AS o SELECT (arriving).* ON CONFLICT ON CONSTRAINT offsets_pkey DO UPDATE
       SET "offset" = excluded."offset", advanced_at = excluded.advanced_at WHERE o."offset" < excluded."offset";
    IF FOUND THEN
        RETURN 'new';
    END IF;
    RETURN (SELECT CASE WHEN o."offset" = arriving."offset" THEN 'same' ELSE 'older' END FROM idempotent.offsets AS o
             WHERE o.consumer = arriving.consumer AND o.scope = arriving.scope AND o.partition = arriving.partition);
END $$;
COMMENT ON FUNCTION idempotent.import_offset(idempotent.offsets) IS 'imports the offset of a consumer: the higher one counts';

CREATE FUNCTION idempotent.import_lock(arriving idempotent.locks) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present idempotent.locks;
BEGIN
    IF arriving.expires_at <= clock_timestamp() THEN
        RETURN 'older';
    END IF;
    -- What this database does not answer for was left behind when it did.
    DELETE FROM idempotent.locks AS k
     WHERE k.resource = arriving.resource AND k.scope = arriving.scope
       AND (k.expires_at <= clock_timestamp() OR k.fence < arriving.fence AND NOT idempotent.owns(k.slot));
    INSERT INTO idempotent.locks SELECT (arriving).* ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN 'new';
    END IF;
    SELECT k.* INTO present FROM idempotent.locks AS k WHERE k.resource = arriving.resource AND k.scope = arriving.scope FOR UPDATE OF k;
    IF (present.fence, present.holder) IS DISTINCT FROM (arriving.fence, arriving.holder) THEN
        RETURN CASE WHEN idempotent.owns(present.slot) THEN 'conflict' ELSE 'older' END;
    ELSIF present.expires_at >= arriving.expires_at THEN
        RETURN 'same';
    END IF;
    UPDATE idempotent.locks AS k SET expires_at = arriving.expires_at WHERE k.resource = arriving.resource AND k.scope = arriving.scope;
    RETURN 'new';
END $$;
COMMENT ON FUNCTION idempotent.import_lock(idempotent.locks) IS 'imports a lock with a key';

CREATE FUNCTION idempotent.import_saga(arriving idempotent.saga_run) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present idempotent.saga_run;
BEGIN
    IF arriving.expires_at <= clock_timestamp() THEN
        RETURN 'older';
    END IF;
    PERFORM idempotent.join_callers(arriving.saga);
    PERFORM idempotent.check_key_form(arriving.saga, arriving.key);
    -- What this database does not answer for went on elsewhere, or was begun anew there.
    DELETE FROM idempotent.saga_run AS g
     WHERE g.saga = arriving.saga AND g.scope = arriving.scope AND g.key = arriving.key
       AND (g.expires_at <= clock_timestamp()
            OR (g.started_at = arriving.started_at OR g.expires_at IS NULL) AND g.changed_at < arriving.changed_at AND NOT idempotent.owns(g.slot));
    INSERT INTO idempotent.saga_run SELECT (arriving).* ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN 'new';
    END IF;
    SELECT g.* INTO present FROM idempotent.saga_run AS g WHERE g.saga = arriving.saga AND g.scope = arriving.scope AND g.key = arriving.key;
    RETURN CASE WHEN present IS NOT DISTINCT FROM arriving THEN 'same'
                WHEN present.started_at = arriving.started_at AND present.changed_at > arriving.changed_at THEN 'older'
                ELSE 'conflict' END;
END $$;
COMMENT ON FUNCTION idempotent.import_saga(idempotent.saga_run) IS 'imports where a saga stands';

CREATE FUNCTION idempotent.import_outbox_id(arriving idempotent.outbox_id) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present idempotent.outbox_id;
BEGIN
    IF arriving.expires_at <= clock_timestamp() THEN
        RETURN 'older';
    END IF;
    DELETE FROM idempotent.outbox_id AS i WHERE i.topic = arriving.topic AND i.message_id = arriving.message_id AND i.expires_at <= clock_timestamp();
    IF arriving.expires_at < 'infinity' THEN
        -- Acknowledged elsewhere: it is not sent from here again.
        DELETE FROM idempotent.outbox_message AS m WHERE m.topic = arriving.topic AND m.message_id = arriving.message_id AND NOT idempotent.owns(m.slot);
        DELETE FROM idempotent.outbox_dead AS d WHERE d.topic = arriving.topic AND d.message_id = arriving.message_id AND NOT idempotent.owns(d.slot);
    END IF;
    INSERT INTO idempotent.outbox_id SELECT (arriving).* ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN 'new';
    END IF;
    SELECT i.* INTO present FROM idempotent.outbox_id AS i WHERE i.topic = arriving.topic AND i.message_id = arriving.message_id FOR UPDATE OF i;
    IF (present.fingerprint, present.key, present.scope) IS DISTINCT FROM (arriving.fingerprint, arriving.key, arriving.scope) THEN
        RETURN 'conflict';
    ELSIF present.expires_at = arriving.expires_at THEN
        RETURN 'same';
    ELSIF present.expires_at < 'infinity' THEN
        RETURN 'older';
    END IF;
    UPDATE idempotent.outbox_id AS i SET expires_at = arriving.expires_at WHERE i.topic = arriving.topic AND i.message_id = arriving.message_id;
    RETURN 'new';
END $$;
COMMENT ON FUNCTION idempotent.import_outbox_id(idempotent.outbox_id) IS 'imports the id of a message';

-- Its id is kept from now on, so that it is recognised when it comes again after it was acknowledged here. It goes to the end of its
-- key: rows are exported in their order.
CREATE FUNCTION idempotent.import_outbox_message(arriving idempotent.outbox_message, died_at timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment  CONSTANT timestamptz := clock_timestamp();
    present jsonb;
BEGIN
    IF EXISTS (SELECT FROM idempotent.outbox_id AS i
                WHERE i.topic = arriving.topic AND i.message_id = arriving.message_id AND i.expires_at > moment AND i.expires_at < 'infinity') THEN
        RETURN 'older';
    END IF;
    SELECT p.payload INTO present
      FROM (SELECT m.topic, m.message_id, m.payload FROM idempotent.outbox_message AS m
            UNION ALL SELECT d.topic, d.message_id, d.payload FROM idempotent.outbox_dead AS d) AS p
     WHERE p.topic = arriving.topic AND p.message_id = arriving.message_id;
    IF FOUND THEN
        RETURN CASE WHEN present = arriving.payload THEN 'same' ELSE 'conflict' END;
    END IF;
    INSERT INTO idempotent.outbox_id (message_id, expires_at, fingerprint, slot, topic, scope, key)
    VALUES (arriving.message_id, 'infinity', idempotent.outbox_fingerprint(arriving.topic, arriving.payload), arriving.slot,
            arriving.topic, arriving.scope, arriving.key)
    ON CONFLICT DO NOTHING;
    IF died_at IS NULL THEN
        INSERT INTO idempotent.outbox_message (position, message_id, put_at, ready_at, attempt, slot, is_first, topic, scope, key, payload)
        VALUES (idempotent.outbox_place(arriving.topic), arriving.message_id, arriving.put_at, moment, arriving.attempt, arriving.slot,
                arriving.key IS NULL, arriving.topic, arriving.scope, arriving.key, arriving.payload);
    ELSE
        INSERT INTO idempotent.outbox_dead (position, message_id, put_at, dead_at, attempt, slot, topic, scope, key, payload)
        VALUES (idempotent.outbox_place(arriving.topic), arriving.message_id, arriving.put_at, died_at, arriving.attempt, arriving.slot,
                arriving.topic, arriving.scope, arriving.key, arriving.payload);
    END IF;
    RETURN 'new';
END $$;
COMMENT ON FUNCTION idempotent.import_outbox_message(idempotent.outbox_message, timestamptz) IS 'imports a message of the outbox, or a dead letter';

-- What is new about the node that rows come from, and counts for all that follow.
CREATE FUNCTION idempotent.import_past(source text, line jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF source = 'reset' THEN
        LOCK TABLE idempotent.reset IN SHARE ROW EXCLUSIVE MODE;
        INSERT INTO idempotent.reset (durability, noticed_at, reset_at, operation)
        SELECT n.durability, clock_timestamp(), n.reset_at, '' FROM jsonb_populate_record(NULL::idempotent.reset, line) AS n
         WHERE n.durability IS NOT NULL AND n.reset_at IS NOT NULL
           AND NOT EXISTS (SELECT FROM idempotent.reset AS r WHERE r.durability = n.durability AND r.operation = '' AND r.reset_at >= n.reset_at);
    ELSIF source <> 'earlier_retention' THEN
        RETURN NULL;
    ELSE
        INSERT INTO idempotent.earlier_retention SELECT n.* FROM jsonb_populate_record(NULL::idempotent.earlier_retention, line) AS n
         WHERE n.operation IS NOT NULL AND n.until IS NOT NULL AND n.kept IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    IF NOT FOUND THEN
        RETURN 'same';
    END IF;
    -- The trigger has every session read anew what it has kept.
    UPDATE idempotent.operation SET name = name WHERE false;
    RETURN 'new';
END $$;
COMMENT ON FUNCTION idempotent.import_past(text, jsonb) IS 'imports what was lost, or forgotten under earlier settings';

CREATE FUNCTION idempotent.import_row(exported jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $$
DECLARE
    source CONSTANT text := exported ->> 'table';
    line    jsonb := exported -> 'row';
    kept    idempotent.record;
    saga    idempotent.saga_run;
    message idempotent.outbox_message;
    fence   bigint;
    answer  text;
    -- What no row of the table lacks.
    needed CONSTANT text[] := CASE source
        WHEN 'slots' THEN '{slots}'
        WHEN 'fence' THEN '{last}'
        WHEN 'reset' THEN '{durability,reset_at}'
        WHEN 'earlier_retention' THEN '{operation,until,kept}'
        WHEN 'record' THEN '{record_id,expires_at,sweep_at,slot,state,evicted,operation,scope,key}'
        WHEN 'messages' THEN '{expires_at,seen_at,slot,consumer,scope,message_id}'
        WHEN 'offsets' THEN '{offset,advanced_at,slot,consumer,scope,partition}'
        WHEN 'locks' THEN '{expires_at,acquired_at,fence,slot,resource,scope,holder}'
        WHEN 'saga_run' THEN '{started_at,changed_at,step,slot,state,saga,scope,key,steps,answers}'
        WHEN 'outbox_id' THEN '{message_id,expires_at,fingerprint,slot,topic,scope}'
        WHEN 'outbox_message' THEN '{message_id,put_at,attempt,slot,topic,scope}'
        WHEN 'outbox_dead' THEN '{message_id,put_at,dead_at,attempt,slot,topic,scope}'
    END;
BEGIN
    IF NOT COALESCE(jsonb_typeof(line) = 'object' AND jsonb_strip_nulls(line) ?& needed, false)
       OR source = 'record' AND line ->> 'state' <> ALL ('{p,c,f,u,s,a}') THEN
        RAISE EXCEPTION 'this is no row that idempotent_export() has returned'
            USING ERRCODE = '22023', HINT = 'Pass its rows as they are, one at a time.';
    END IF;
    IF source = 'slots' THEN
        RETURN CASE WHEN idempotent.drop_left_behind((line ->> 'slots')::int4multirange) > 0 THEN 'new' ELSE 'same' END;
    ELSIF line ? 'slot' THEN
        PERFORM idempotent.drop_left_behind(int4multirange(int4range((line ->> 'slot')::integer, (line ->> 'slot')::integer, '[]')));
    END IF;
    IF source = ANY ('{record,saga_run}') THEN
        line := line || jsonb_build_object('fingerprint_version', idempotent.import_version(
            COALESCE(line ->> 'operation', line ->> 'saga'), (line ->> 'fingerprint_version')::smallint, exported -> 'excluded'));
    END IF;
    -- Whatever becomes of the row: nobody may be granted its fence again.
    fence := COALESCE((line ->> 'last')::bigint, (line ->> 'fence')::bigint);
    IF fence >= (SELECT f.last_value FROM idempotent.fence AS f) THEN
        PERFORM idempotent.fence_above(fence);
        answer := 'new';
    END IF;
    -- What a caller gave goes as it is: null in JSON is something that was given.
    IF source = 'record' THEN
        kept := jsonb_populate_record(NULL::idempotent.record, line);
        kept.response := line -> 'response';
        kept.checkpoint := line -> 'checkpoint';
    ELSIF source = 'saga_run' THEN
        saga := jsonb_populate_record(NULL::idempotent.saga_run, line);
        saga.request := line -> 'request';
    ELSIF source = ANY ('{outbox_message,outbox_dead}') THEN
        message := jsonb_populate_record(NULL::idempotent.outbox_message, line);
        message.payload := line -> 'payload';
    END IF;
    answer := CASE source
        WHEN 'fence' THEN COALESCE(answer, 'same')
        WHEN 'reset' THEN idempotent.import_past(source, line)
        WHEN 'earlier_retention' THEN idempotent.import_past(source, line)
        WHEN 'record' THEN idempotent.import_record(kept)
        WHEN 'messages' THEN idempotent.import_message(jsonb_populate_record(NULL::idempotent.messages, line))
        WHEN 'offsets' THEN idempotent.import_offset(jsonb_populate_record(NULL::idempotent.offsets, line))
        WHEN 'locks' THEN idempotent.import_lock(jsonb_populate_record(NULL::idempotent.locks, line))
        WHEN 'saga_run' THEN idempotent.import_saga(saga)
        WHEN 'outbox_id' THEN idempotent.import_outbox_id(jsonb_populate_record(NULL::idempotent.outbox_id, line))
        WHEN 'outbox_message' THEN idempotent.import_outbox_message(message, NULL)
        WHEN 'outbox_dead' THEN idempotent.import_outbox_message(message, (line ->> 'dead_at')::timestamptz)
    END;
    IF answer = 'conflict' THEN
        PERFORM idempotent.audited('import', COALESCE(line ->> 'operation', line ->> 'consumer', line ->> 'saga', line ->> 'topic', line ->> 'resource'),
            format('conflict in %s: %s', source, COALESCE(line ->> 'key', line ->> 'message_id', line ->> 'resource')));
    END IF;
    RETURN answer;
END $$;
COMMENT ON FUNCTION idempotent.import_row(jsonb) IS 'behind idempotent_import()';

CREATE FUNCTION idempotent_import(exported jsonb) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'idempotent_import';
COMMENT ON FUNCTION idempotent_import(jsonb) IS
'take over a row of idempotent_export(): new, same, older, or conflict, which writes nothing; twice is harmless';

REVOKE ALL ON FUNCTION
    idempotent.fence_above(bigint),
    idempotent.lost_before(text),
    idempotent_export(int4multirange),
    idempotent.import_version(text, smallint, jsonb),
    idempotent.drop_left_behind(int4multirange),
    idempotent.follows(idempotent.record, idempotent.record),
    idempotent.shared_columns(),
    idempotent.import_record(idempotent.record),
    idempotent.import_message(idempotent.messages),
    idempotent.import_offset(idempotent.offsets),
    idempotent.import_lock(idempotent.locks),
    idempotent.import_saga(idempotent.saga_run),
    idempotent.import_outbox_id(idempotent.outbox_id),
    idempotent.import_outbox_message(idempotent.outbox_message, timestamptz),
    idempotent.import_past(text, jsonb),
    idempotent.import_row(jsonb),
    idempotent_import(jsonb)
FROM PUBLIC;
