-- What is wrong, and what to type about it. Each check is one RETURN QUERY that returns a row for each finding and none when all is well.
-- A remedy can be pasted into psql as it is: what is no statement is a comment.
--
-- The cost is bounded, whatever the tables hold: a check reads catalogs, counters, and of tables with records at most the first or last few
-- hundred entries of an index.
--
-- SECURITY DEFINER: a role that is granted EXECUTE needs no rights on the tables.
CREATE FUNCTION idempotent_doctor(
    OUT severity text,
    OUT problem  text,
    OUT detail   text,
    OUT remedy   text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET intervalstyle = postgres SET jit = off AS $$
DECLARE
    few    CONSTANT integer := 20;  -- operations without settings that are named
    sample CONSTANT integer := 300;  -- rows of a table of records
    late   CONSTANT interval := '1 hour';  -- what is due for longer is not being swept
    held   CONSTANT interval := '5 minutes';  -- a transaction that holds a key for longer keeps callers waiting
    dated  CONSTANT text := '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$';
    library record;
    schema_version text;
    is_locked boolean := false;
BEGIN
    SELECT l.* INTO library
      FROM jsonb_to_record(idempotent.library()) AS l (version text, preloaded boolean, last_sweep timestamptz, sweep_failures integer);
    SELECT e.extversion INTO schema_version FROM pg_extension AS e WHERE e.extname = 'pg_idempotent';

    -- Versions: of the library in this session, of the schema in this database, of the files on disk.

    RETURN QUERY
    SELECT 'error', 'schema_differs', format('The library is of version %s, the schema of this database of %s.', library.version, schema_version),
           CASE WHEN string_to_array(substring(library.version, '^[0-9.]+'), '.')::integer[] > string_to_array(substring(schema_version, '^[0-9.]+'), '.')::integer[]
                THEN 'ALTER EXTENSION pg_idempotent UPDATE;'
                WHEN library.preloaded THEN '-- restart the server' ELSE '-- reconnect' END
     WHERE library.version <> schema_version;

    RETURN QUERY
    SELECT 'warning', 'restart_needed', format('Version %s is installed, and the server still runs %s.', a.default_version, library.version),
           CASE WHEN library.preloaded THEN '-- restart the server' ELSE '-- reconnect' END
      FROM pg_available_extensions AS a
     WHERE a.name = 'pg_idempotent' AND a.default_version <> library.version;

    -- The sweeper. A standby sweeps nothing.

    RETURN QUERY
    SELECT 'warning', 'not_preloaded', 'The library is not preloaded: there is no sweeper, and nothing is counted.',
           format('ALTER SYSTEM SET shared_preload_libraries = %s; -- and restart the server; or call idempotent_sweep() from a schedule',
                  (SELECT string_agg(CASE WHEN l.name ~ '^[a-z_][a-z0-9_]*$' THEN l.name ELSE quote_literal(l.name) END, ', ' ORDER BY l.place)
                     FROM (SELECT btrim(n.name, ' "') AS name, n.place
                             FROM string_to_table(concat_ws(',', NULLIF(current_setting('shared_preload_libraries'), ''), 'pg_idempotent'), ',') WITH ORDINALITY AS n (name, place)) AS l))
     WHERE NOT library.preloaded;

    RETURN QUERY
    SELECT 'warning', 'sweeper_off', 'idempotent.sweeper_enabled is off.',
           'ALTER SYSTEM SET idempotent.sweeper_enabled = on; SELECT pg_reload_conf(); -- or call idempotent_sweep() from a schedule'
     WHERE library.preloaded AND NOT current_setting('idempotent.sweeper_enabled')::boolean;

    RETURN QUERY
    SELECT 'error', 'sweeper_late', format('The last visit of the sweeper to this database ended %s ago.', date_trunc('second', clock_timestamp() - library.last_sweep)),
           'SELECT * FROM pg_stat_activity WHERE backend_type LIKE ''pg_idempotent%''; -- without a launcher: the server log says why; by hand: SELECT idempotent_sweep(5000);'
     WHERE library.preloaded AND NOT pg_is_in_recovery() AND current_setting('idempotent.sweeper_enabled')::boolean
       AND library.last_sweep < clock_timestamp() - GREATEST(held, 10 * current_setting('idempotent.sweep_interval')::interval);

    RETURN QUERY
    SELECT 'error', 'sweeper_fails', format('%s visits of the sweeper to this database have failed, one after the other.', library.sweep_failures),
           'SELECT idempotent_sweep(1); -- fails for the same reason, which the server log has, too'
     WHERE library.sweep_failures > 0;

    RETURN QUERY
    SELECT 'warning', 'workers_missing', format('idempotent.sweeper_max_workers is %s, and max_worker_processes %s, the launcher''s included.', w.wanted, w.there),
           format('ALTER SYSTEM SET idempotent.sweeper_max_workers = %s; SELECT pg_reload_conf(); -- or raise max_worker_processes', GREATEST(1, w.there - 2))
      FROM (SELECT current_setting('idempotent.sweeper_max_workers')::integer AS wanted, current_setting('max_worker_processes')::integer AS there) AS w
     WHERE library.preloaded AND w.wanted > w.there - 2;

    -- Our tables, and what others have put on them.

    RETURN QUERY
    SELECT 'warning', CASE a.kind WHEN 'row security' THEN 'row_security' ELSE concat('foreign_', a.kind) END,
           CASE a.kind
           WHEN 'index' THEN format('Index %I on %s is not the extension''s: it makes each claim dearer, and a unique one can refuse it.', a.name, a.relation)
           WHEN 'constraint' THEN format('Constraint %I on %s is not the extension''s: it can refuse a claim or a sweep.', a.name, a.relation)
           WHEN 'trigger' THEN format('Trigger %I on %s is not the extension''s. The library writes records past triggers.', a.name, a.relation)
           WHEN 'rule' THEN format('Rule %I on %s is not the extension''s.', a.name, a.relation)
           WHEN 'inheritance' THEN format('%s and %I inherit from each other: the library knows no partitions, and no rows of children.', a.relation, a.name)
           ELSE format('Row security is enabled on %s. The library reads and writes past it, and administration does not.', a.relation) END,
           CASE a.kind
           WHEN 'index' THEN format('DROP INDEX idempotent.%I;', a.name)
           WHEN 'constraint' THEN format('ALTER TABLE %s DROP CONSTRAINT %I;', a.relation, a.name)
           WHEN 'trigger' THEN format('DROP TRIGGER %I ON %s;', a.name, a.relation)
           WHEN 'rule' THEN format('DROP RULE %I ON %s;', a.name, a.relation)
           WHEN 'inheritance' THEN (
               SELECT string_agg(format(CASE WHEN c.relispartition THEN 'ALTER TABLE %2$s DETACH PARTITION %1$s;' ELSE 'ALTER TABLE %1$s NO INHERIT %2$s;' END,
                                        h.inhrelid::regclass, h.inhparent::regclass), ' ')
                 FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid JOIN pg_class AS r ON r.relname = a.name
                WHERE h.inhrelid = a.relation AND h.inhparent = r.oid OR h.inhparent = a.relation AND h.inhrelid = r.oid)
           ELSE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY;', a.relation) END
      FROM idempotent.additions() AS a
     WHERE NOT (a.kind = 'index' AND EXISTS (SELECT FROM pg_index AS i WHERE i.indexrelid = format('idempotent.%I', a.name)::regclass AND NOT i.indisvalid))
     ORDER BY a.kind, a.what COLLATE "C";

    RETURN QUERY
    SELECT 'warning', 'autovacuum_off', 'Autovacuum is off for the whole server: what is swept stays on disk.', 'ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();'
     WHERE NOT current_setting('autovacuum')::boolean;

    RETURN QUERY
    SELECT 'warning', 'wraparound', format('%s has rows that %s transactions ago were not frozen yet: autovacuum does not get through.', c.oid::regclass, GREATEST(age(c.relfrozenxid), mxid_age(c.relminmxid))),
           format('VACUUM (FREEZE) %s; -- when nothing holds an old snapshot: docs/operating.md', c.oid::regclass)
      FROM pg_class AS c
     WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = 'r'::"char"
       AND (age(c.relfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::bigint
            OR mxid_age(c.relminmxid) > 1.5 * current_setting('autovacuum_multixact_freeze_max_age')::bigint);

    -- What reads tables that an administrator may have locked.

    BEGIN
        RETURN QUERY SELECT d.* FROM idempotent.damage() AS d;

        -- Rights.

        -- What was passed on goes with the right to pass it on, and only so: a REVOKE takes what the owner gave.
        RETURN QUERY
        SELECT 'warning', 'surplus_right',
               concat(format('%s %s %s on %s %s', g.role, CASE WHEN g.granted_as IS NULL THEN 'has' ELSE 'may pass on' END, g.privilege, g.kind, g.object),
                      ', passed on by ' || g.passed_on_by,
                      ', and has passed it on to ' || (SELECT string_agg(DISTINCT p.role, ', ') FROM idempotent.rights AS p
                                                        WHERE g.grantable AND (p.object, p.privilege, p.passed_on_by) = (g.object, g.privilege, g.role)), '.'),
               format('REVOKE %s%s ON %s %s FROM %s%s;',
                      CASE WHEN g.passed_on_by IS NOT NULL OR g.granted_as IS NOT NULL THEN 'GRANT OPTION FOR ' END, g.privilege,
                      CASE WHEN g.kind = 'view' THEN 'table' ELSE g.kind END, g.object,
                      CASE WHEN g.passed_on_by IS NOT NULL THEN quote_ident(g.passed_on_by) WHEN g.role = 'public' THEN 'PUBLIC' ELSE quote_ident(g.role) END,
                      CASE WHEN g.passed_on_by IS NOT NULL OR g.grantable THEN ' CASCADE' END)
          FROM idempotent.rights AS g
         WHERE g.granted_as IS NULL OR g.grantable;

        RETURN QUERY
        SELECT 'error', 'role_missing', format('Operation "%s" is for members of role "%s", which does not exist: nobody may use it.', o.name, m.role),
               format('CREATE ROLE %I; -- or name another one: SELECT name FROM idempotent_operation(%L, %s => ...);', m.role, o.name, m.setting)
          FROM idempotent.operation AS o, LATERAL (VALUES ('role', o.role), ('take_role', o.take_role)) AS m (setting, role)
         WHERE m.role IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = m.role::name);

        -- Operations: what is known of them, and settings that contradict each other.

        RETURN QUERY
        SELECT 'notice', 'undeclared_operation', format('Operation "%s" is called, and has no settings: a misspelt name looks like this, too.', s.operation),
               format('SELECT name FROM idempotent_operation(%L);', s.operation)
          FROM idempotent.stats AS s
         WHERE s.operation <> '(other)' AND s.claimed + s.executed + s.replayed > 0
           AND NOT EXISTS (SELECT FROM idempotent.operation AS o WHERE o.name = s.operation COLLATE "C")
         ORDER BY s.claimed + s.executed + s.replayed DESC, s.operation LIMIT few;

        RETURN QUERY
        SELECT 'notice', 'uncounted_operations', 'There are more operations than counters: the row (other) of idempotent.stats holds the rest.',
               'SELECT idempotent_stats_reset(); -- if it comes back: is something that is no operation part of the name?'
          FROM idempotent.stats AS s
         WHERE s.operation = '(other)';

        RETURN QUERY
        SELECT 'notice', 'observed_operation', format('Operation "%s" is observed: its calls all go through, the repeated ones as well.', o.name),
               format('SELECT name FROM idempotent_operation(%L, mode => ''enforce'');', o.name)
          FROM idempotent.operation AS o
         WHERE o.mode = 'observe';

        RETURN QUERY
        SELECT 'warning', 'dates_without_use', format('Operation "%s" is unlogged and ignores the dates of keys: after a crash every key runs again, and after_reset has no effect.', o.name),
               format('SELECT name FROM idempotent_operation(%L, durability => ''logged''); -- or after_reset => ''execute'', if a second run does no harm', o.name)
          FROM idempotent.operation AS o
         WHERE o.durability = 'unlogged' AND o.key_dates = 'ignore' AND o.after_reset = 'unknown';

        RETURN QUERY
        SELECT 'notice', 'retention_without_effect', format('Operation "%s" keeps bodies for %s, and records for %s.', o.name, o.response_retention, o.retention),
               format('SELECT name FROM idempotent_operation(%L, retention => %L);', o.name, o.response_retention)
          FROM idempotent.operation AS o
         WHERE o.response_retention > o.retention;

        RETURN QUERY
        SELECT 'warning', 'lease_outlives_answer', format('Operation "%s" leases keys for %s, and keeps answers for %s: a client that waits for the holder can miss the answer.', o.name, o.lease, o.retention),
               format('SELECT name FROM idempotent_operation(%L, retention => %L);', o.name, GREATEST(o.lease * 2, '24 hours'::interval))
          FROM idempotent.operation AS o
         WHERE o.lease >= o.retention;

        RETURN QUERY
        SELECT 'notice', 'records_lost', format('Records of %s operations were lost %s: dated keys from before are answered unknown.', r.durability, to_char(r.reset_at, 'YYYY-MM-DD HH24:MI:SSOF')),
               '-- settle what is unknown: SELECT idempotent_resolve(operation, key, ''completed'', response); or ''failed''; or ''absent'', to let it run again'
          FROM idempotent.reset AS r
         WHERE r.reset_at > clock_timestamp() - '1 day'::interval;

        -- A server that is new has not come by yet, nor is there anything to sweep where nothing was ever stored.
        RETURN QUERY
        SELECT 'error', 'sweeper_late', format('The sweeper has never visited this database since the server was started %s ago.', date_trunc('second', clock_timestamp() - pg_postmaster_start_time())),
               'SELECT * FROM pg_stat_activity WHERE backend_type LIKE ''pg_idempotent%''; -- without a launcher: the server log says why; by hand: SELECT idempotent_sweep(5000);'
         WHERE library.preloaded AND NOT pg_is_in_recovery() AND current_setting('idempotent.sweeper_enabled')::boolean AND library.last_sweep IS NULL
           AND GREATEST(pg_postmaster_start_time(), (SELECT min(r.noticed_at) FROM idempotent.reset AS r)) < clock_timestamp() - GREATEST(held, 10 * current_setting('idempotent.sweep_interval')::interval)
           AND EXISTS (SELECT FROM idempotent.reset);

        -- Holders that keep callers waiting: claims of transactions, and steps of sagas.

        RETURN QUERY
        SELECT 'warning', 'key_held', format('Backend %s (user %s, application "%s", %s) holds keys (%s), and its transaction began %s ago.', a.pid, a.usename, a.application_name,
                                             COALESCE(a.state, 'state unknown'), count(*), date_trunc('second', clock_timestamp() - a.xact_start)),
               format('SELECT pg_terminate_backend(%s); -- the work is rolled back, and the keys are free at once', a.pid)
          FROM pg_locks AS k JOIN pg_stat_activity AS a ON a.pid = k.pid
         WHERE k.locktype = 'advisory' AND k.objsubid = ANY ('{478,480}'::smallint[]) AND k.granted AND a.datname = current_database()
           AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
           AND a.xact_start < clock_timestamp() - held
         GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start;

        RETURN QUERY
        SELECT 'warning', 'key_prepared', format('The prepared transaction %s of user %s holds keys (%s) since %s.', quote_literal(x.gid), x.owner, count(*), to_char(x.prepared, 'YYYY-MM-DD HH24:MI:SSOF')),
               format('-- as its coordinator has decided: COMMIT PREPARED %1$L; or ROLLBACK PREPARED %1$L;', x.gid)
          FROM pg_prepared_xacts AS x
          JOIN pg_locks AS t ON t.pid IS NULL AND t.locktype = 'transactionid' AND t.transactionid = x.transaction
          JOIN pg_locks AS k ON k.pid IS NULL AND k.virtualtransaction = t.virtualtransaction
         WHERE k.locktype = 'advisory' AND k.objsubid = ANY ('{478,480}'::smallint[]) AND x.database = current_database()
           AND x.prepared < clock_timestamp() - held
         GROUP BY x.gid, x.owner, x.prepared;

        -- Records, which a standby has in part, and which an administrator may have locked.

        IF pg_is_in_recovery() THEN
            RETURN;
        END IF;
        RETURN QUERY
        SELECT 'warning', 'backlog', format('Of %s the oldest that is due waits since %s.', t.what, to_char(t.since, 'YYYY-MM-DD HH24:MI:SSOF')),
               'SELECT idempotent_sweep(5000); -- until that returns 0, each time in a transaction of its own'
          FROM (SELECT 'records that are unlogged' AS what, min(u.sweep_at) AS since
                  FROM (SELECT r.sweep_at, r.state, r.lease_until FROM idempotent.record AS r ORDER BY r.sweep_at LIMIT sample) AS u
                 WHERE u.state <> 'u'::"char" AND u.state <> 'e'::"char" AND (u.lease_until IS NULL OR u.lease_until <= clock_timestamp())
                UNION ALL
                SELECT 'records that are logged', min(l.sweep_at)
                  FROM (SELECT r.sweep_at, r.state, r.lease_until FROM idempotent.record_logged AS r ORDER BY r.sweep_at LIMIT sample) AS l
                 WHERE l.state <> 'u'::"char" AND l.state <> 'e'::"char" AND (l.lease_until IS NULL OR l.lease_until <= clock_timestamp())
                UNION ALL
                SELECT 'messages that consumers have seen', min(m.expires_at) FROM idempotent.messages AS m
                UNION ALL
                SELECT 'locks with a key', min(k.expires_at) FROM idempotent.locks AS k
                UNION ALL
                SELECT 'ids of the outbox', min(i.expires_at) FROM idempotent.outbox_id AS i) AS t
         WHERE t.since < clock_timestamp() - late;

        RETURN QUERY
        SELECT 'warning', 'unlogged_without_dates', format('Operation "%s" is unlogged, and %s of its latest %s keys have no date: after a crash they run again, unless the caller passes first_sent.',
                                                           n.operation, n.undated, n.looked_at),
               format('SELECT name FROM idempotent_operation(%L, durability => ''logged''); -- or after_reset => ''execute'', if a second run does no harm; or let clients make UUIDv7 keys', n.operation)
          FROM (SELECT r.operation, count(*) AS looked_at, count(*) FILTER (WHERE r.key !~* dated) AS undated
                  FROM (SELECT u.operation, u.key, u.state FROM idempotent.record AS u ORDER BY u.sweep_at DESC LIMIT sample) AS r
                 WHERE r.state <> 'e'::"char" GROUP BY r.operation) AS n
          LEFT JOIN idempotent.operation AS o ON o.name = n.operation COLLATE "C"
         WHERE n.undated > 0 AND COALESCE(o.after_reset = 'unknown' AND o.key_dates = 'use', true);

        -- Before the next finding, whose remedy would be undone by a restart. CACHE gives each session numbers in advance, so they
        -- do not grow from call to call.
        RETURN QUERY
        SELECT 'error', 'wrong_sequence',
               format('Sequence %s was altered (INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s): %s.', s.seqrelid::regclass,
                      s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' END, n.harm),
               format('ALTER SEQUENCE %s AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807%s CACHE 1 NO CYCLE;',
                      s.seqrelid::regclass, CASE WHEN n.last_value < 1 THEN ' RESTART 1' END)
          FROM (SELECT 'idempotent.fence'::regclass AS sequence, f.last_value, 'a later holder could have a lower fence, or none' AS harm FROM idempotent.fence AS f
                UNION ALL
                SELECT 'idempotent.outbox_position'::regclass, p.last_value, 'messages could be taken out of their order, or not be put' FROM idempotent.outbox_position AS p) AS n
          JOIN pg_sequence AS s ON s.seqrelid = n.sequence
         WHERE s.seqtypid <> 'bigint'::regtype OR s.seqincrement <> 1 OR s.seqmin <> 1 OR s.seqmax <> 9223372036854775807 OR s.seqcache <> 1 OR s.seqcycle;

        RETURN QUERY
        SELECT 'error', 'fences_behind', format('The next fence would be %s, and %s was granted already: a stale holder could pass for the current one.', f.last_value + 1, g.granted),
               format('SELECT setval(''idempotent.fence'', %s);', g.granted)
          FROM idempotent.fence AS f,
               (SELECT max(h.fence) AS granted
                  FROM ((SELECT u.fence FROM idempotent.record AS u ORDER BY u.sweep_at DESC LIMIT sample)
                        UNION ALL (SELECT l.fence FROM idempotent.record_logged AS l ORDER BY l.sweep_at DESC LIMIT sample)
                        UNION ALL (SELECT k.fence FROM idempotent.locks AS k ORDER BY k.expires_at DESC LIMIT sample)
                        UNION ALL (SELECT m.fence FROM idempotent.outbox_message AS m WHERE m.ready_at IS NOT NULL ORDER BY m.topic DESC, m.ready_at DESC LIMIT sample)) AS h) AS g
         WHERE g.granted > f.last_value;

        RETURN QUERY
        WITH RECURSIVE topic AS (
            (SELECT m.topic FROM idempotent.outbox_message AS m ORDER BY m.topic, m.position LIMIT 1)
            UNION ALL
            SELECT (SELECT m.topic FROM idempotent.outbox_message AS m WHERE m.topic > t.topic ORDER BY m.topic, m.position LIMIT 1)
              FROM topic AS t WHERE t.topic IS NOT NULL
        ),
        ends AS MATERIALIZED (
            -- What is here of a slot that another node answers for waits for nobody.
            SELECT t.topic,
                   (SELECT w.put_at FROM (SELECT m.put_at, m.slot, m.position FROM idempotent.outbox_message AS m WHERE m.topic = t.topic ORDER BY m.topic, m.position LIMIT sample) AS w
                     WHERE idempotent.owns(w.slot) ORDER BY w.position LIMIT 1) AS put_at,
                   (SELECT m.position FROM idempotent.outbox_message AS m WHERE m.topic = t.topic ORDER BY m.topic DESC, m.position DESC LIMIT 1) AS last
              FROM topic AS t WHERE t.topic IS NOT NULL LIMIT sample
        )
        SELECT 'warning', 'outbox_waits', format('The oldest message of topic "%s" waits since %s: no relay takes it.', e.topic, to_char(e.put_at, 'YYYY-MM-DD HH24:MI:SSOF')),
               'SELECT * FROM idempotent.outbox; -- is its relay running, and does it acknowledge?'
          FROM ends AS e WHERE e.put_at < clock_timestamp() - late
        UNION ALL
        SELECT 'error', 'positions_behind', format('The next position would be %s, and %s is in use: messages could be taken out of their order.', p.last_value + 1, g.last),
               format('SELECT setval(''idempotent.outbox_position'', %s);', g.last)
          FROM idempotent.outbox_position AS p, (SELECT max(e.last) AS last FROM ends AS e) AS g
         WHERE g.last > p.last_value;

        RETURN QUERY
        SELECT 'warning', 'dead_letters', 'There are dead letters: messages that were taken as often as max_attempts allows.',
               'SELECT * FROM idempotent.dead_letters; -- when the cause is gone: SELECT idempotent_outbox_redrive(topic);'
         WHERE EXISTS (SELECT FROM idempotent.outbox_dead);
    EXCEPTION WHEN lock_not_available THEN
        is_locked := true;
    END;

    -- Also a lock that lets this function read, and no call write.

    RETURN QUERY
    SELECT 'error', 'table_locked',
           format('%s has a lock on %s (%s), for which calls wait.',
                  CASE WHEN k.pid IS NULL THEN 'A prepared transaction' ELSE format('Backend %s (user %s, application "%s", %s)', k.pid, a.usename, a.application_name, COALESCE(a.state, 'state unknown')) END,
                  string_agg(k.relation::regclass::text, ', ' ORDER BY k.relation::regclass::text COLLATE "C"), k.mode),
           CASE WHEN k.pid IS NULL THEN 'SELECT gid, prepared, owner FROM pg_prepared_xacts ORDER BY prepared; -- as its coordinator has decided: COMMIT PREPARED or ROLLBACK PREPARED'
                ELSE format('SELECT pg_terminate_backend(%s); -- its work is rolled back', k.pid) END
      FROM pg_locks AS k JOIN pg_class AS c ON c.oid = k.relation LEFT JOIN pg_stat_activity AS a ON a.pid = k.pid
      LEFT JOIN LATERAL (SELECT p.prepared FROM pg_locks AS t JOIN pg_prepared_xacts AS p ON p.transaction = t.transactionid
                          WHERE k.pid IS NULL AND t.pid IS NULL AND t.locktype = 'transactionid' AND t.virtualtransaction = k.virtualtransaction LIMIT 1) AS x ON true
     WHERE c.relnamespace = 'idempotent'::regnamespace AND k.locktype = 'relation' AND k.granted AND k.pid IS DISTINCT FROM pg_backend_pid()
       AND k.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND (is_locked OR k.mode = ANY ('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::text[]))
       AND (is_locked AND k.mode = 'AccessExclusiveLock'
            OR NOT is_locked AND COALESCE(a.xact_start, x.prepared) < clock_timestamp() - held
            -- Also a mere reader, if what waits for it lets nobody past.
            OR EXISTS (SELECT FROM pg_locks AS w WHERE w.locktype = 'relation' AND w.relation = k.relation AND w.database = k.database AND NOT w.granted))
     GROUP BY k.pid, k.virtualtransaction, k.mode, a.usename, a.application_name, a.state;
    IF is_locked AND NOT FOUND THEN
        RETURN QUERY
        SELECT 'error', 'table_locked', 'A table was locked for more than a second, and is not any more: what it holds was not looked at.',
               'SELECT * FROM idempotent_doctor(); -- once more';
    END IF;
END $$;
COMMENT ON FUNCTION idempotent_doctor() IS
'what is wrong with the extension in this database, a row for each finding, and what to type about it; none: nothing is';

REVOKE ALL ON FUNCTION idempotent_doctor() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotent_doctor() TO pg_monitor;
