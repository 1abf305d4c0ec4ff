-- Whether the tables of the extension are as it made them. Each check is one RETURN QUERY; the doctor shows what they return.
CREATE FUNCTION idempotent.damage(
    OUT severity text,
    OUT problem  text,
    OUT detail   text,
    OUT remedy   text
) RETURNS SETOF record
-- What Postgres makes of a definition is compared with what it made of it here.
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off ROWS 10 AS $$
BEGIN
    -- A table has the columns that it was made with, perhaps with others behind them. In those the library writes null, past the executor.
    RETURN QUERY
    WITH made (relation, columns) AS (
        VALUES ('operation', '{name,retention,failure_retention,response_retention,lease,wait,durability,on_lapse,max_response_bytes,scope_required,fingerprint_exclude,store_failures,after_reset,mode,key_dates,role,http_store,http_headers,take_role,max_attempts,max_lease,max_retention,key_form}'),
               ('record', '{record_id,fingerprint,expires_at,sweep_at,finished_at,fingerprint_version,slot,state,evicted,operation,scope,key,response,status,headers,body,checkpoint,fence,lease_until,claimed_at,attempt,attempt_id,first_sent}'),
               ('record_logged', '{record_id,fingerprint,expires_at,sweep_at,finished_at,fingerprint_version,slot,state,evicted,operation,scope,key,response,status,headers,body,checkpoint,fence,lease_until,claimed_at,attempt,attempt_id,first_sent}'),
               ('usage_granted', '{role}'),
               ('reset', '{durability,noticed_at,reset_at,operation}'),
               ('earlier_retention', '{operation,until,kept}'),
               ('exclusion', '{operation,number,members}'),
               ('messages', '{expires_at,seen_at,slot,consumer,scope,message_id}'),
               ('offsets', '{offset,advanced_at,slot,consumer,scope,partition}'),
               ('locks', '{expires_at,acquired_at,fence,slot,resource,scope,holder}'),
               ('audit', '{expires_at,at,action,role,session_role,operation,scope,key,detail,id}'),
               ('asked', '{expires_at,asked_at,record_id,operation,scope,key,id}'),
               ('own', '{single,slots,changed_at,left_behind}'),
               ('outbox_message', '{position,message_id,put_at,ready_at,fence,lease_until,attempt,slot,is_first,topic,scope,key,payload}'),
               ('outbox_id', '{message_id,expires_at,fingerprint,slot,topic,scope,key}'),
               ('outbox_dead', '{position,message_id,put_at,dead_at,attempt,slot,topic,scope,key,payload}'),
               ('saga', '{name,steps,defined_at}'),
               ('saga_run', '{started_at,changed_at,expires_at,step,slot,state,saga,scope,key,steps,request,fingerprint,fingerprint_version,answers,failure}')
    )
    SELECT 'error', 'wrong_columns',
           CASE WHEN h.columns IS NULL THEN format('Table idempotent.%I is missing.', w.relation) ELSE format('Table idempotent.%I has other columns than its own: %s.', w.relation, h.columns) END,
           '-- restore the database from a backup; or begin anew, which forgets every key, message and saga: DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent;'
      FROM made AS w
      LEFT JOIN LATERAL (SELECT array_agg(a.attname ORDER BY a.attnum) AS columns FROM pg_attribute AS a
                          WHERE a.attrelid = to_regclass(format('idempotent.%I', w.relation)) AND a.attnum > 0 AND NOT a.attisdropped) AS h ON true
     WHERE h.columns[:cardinality(w.columns::name[])] IS DISTINCT FROM w.columns::name[]
    UNION ALL
    SELECT 'warning', 'foreign_column',
           format('Column %I of %s %s: in rows of the library it is null, or what it was made with.', a.attname, a.attrelid::regclass,
                  CASE WHEN a.attgenerated <> '' OR a.attidentity <> '' THEN 'is generated' WHEN a.attnotnull THEN 'is NOT NULL' ELSE 'has a default' END),
           CASE WHEN a.attgenerated <> '' OR a.attidentity <> '' THEN format('ALTER TABLE %s DROP COLUMN %I;', a.attrelid::regclass, a.attname)
                ELSE format('ALTER TABLE %1$s ALTER COLUMN %2$I DROP NOT NULL, ALTER COLUMN %2$I DROP DEFAULT;', a.attrelid::regclass, a.attname) END
      FROM made AS w JOIN pg_attribute AS a ON a.attrelid = to_regclass(format('idempotent.%I', w.relation))
     WHERE w.relation = ANY ('{record,record_logged,reset,messages,offsets,locks,audit,asked}'::text[])
       AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (w.columns::name[]) AND (a.attnotnull OR a.atthasdef AND a.attgenerated <> 'v' OR a.attidentity <> '');

    -- Calls find their rows by these, and none is refused as a second one without them.
    RETURN QUERY
    SELECT 'error', 'missing_constraint',
           format(CASE WHEN n.oid IS NULL THEN 'Constraint %I of idempotent.%I is missing.' ELSE 'Constraint %I of idempotent.%I is not as it was made.' END, w.name, w.relation),
           concat(CASE WHEN n.oid IS NOT NULL THEN format('ALTER TABLE idempotent.%I DROP CONSTRAINT %I; ', w.relation, w.name) END,
                  format('ALTER TABLE idempotent.%I ADD CONSTRAINT %I %s;', w.relation, w.name, w.definition))
      FROM (VALUES ('operation', 'operation_after_reset', 'CHECK ((after_reset = ANY (''{unknown,execute}''::text[])))'),
                   ('operation', 'operation_durability', 'CHECK ((durability = ANY (''{unlogged,logged}''::text[])))'),
                   ('operation', 'operation_key_dates', 'CHECK ((key_dates = ANY (''{use,ignore}''::text[])))'),
                   ('operation', 'operation_key_form', 'CHECK ((key_form = ANY (''{text,uuid}''::text[])))'),
                   ('operation', 'operation_max_attempts', 'CHECK ((max_attempts > 0))'),
                   ('operation', 'operation_max_response_bytes', 'CHECK ((max_response_bytes >= 0))'),
                   ('operation', 'operation_mode', 'CHECK ((mode = ANY (''{enforce,observe}''::text[])))'),
                   ('operation', 'operation_on_lapse', 'CHECK ((on_lapse = ANY (''{retry,unknown}''::text[])))'),
                   ('operation', 'operation_pkey', 'PRIMARY KEY (name)'),
                   ('record', 'record_pkey', 'PRIMARY KEY (record_id)'),
                   ('record_logged', 'record_logged_pkey', 'PRIMARY KEY (record_id)'),
                   ('usage_granted', 'usage_granted_pkey', 'PRIMARY KEY (role)'),
                   ('reset', 'reset_pkey', 'PRIMARY KEY (durability, noticed_at)'),
                   ('earlier_retention', 'earlier_retention_pkey', 'PRIMARY KEY (operation, until)'),
                   ('exclusion', 'exclusion_pkey', 'PRIMARY KEY (operation, number)'),
                   ('messages', 'messages_pkey', 'PRIMARY KEY (message_id, consumer, scope)'),
                   ('offsets', 'offsets_pkey', 'PRIMARY KEY (consumer, scope, partition)'),
                   ('locks', 'locks_pkey', 'PRIMARY KEY (resource, scope)'),
                   ('audit', 'audit_pkey', 'PRIMARY KEY (id)'),
                   ('asked', 'asked_pkey', 'PRIMARY KEY (id)'),
                   ('own', 'own_pkey', 'PRIMARY KEY (single)'),
                   ('own', 'own_single', 'CHECK (single)'),
                   ('outbox_message', 'outbox_message_pkey', 'PRIMARY KEY (topic, message_id)'),
                   ('outbox_message', 'outbox_message_position', 'UNIQUE (topic, "position")'),
                   ('outbox_id', 'outbox_id_pkey', 'PRIMARY KEY (topic, message_id)'),
                   ('outbox_dead', 'outbox_dead_pkey', 'PRIMARY KEY (topic, message_id)'),
                   ('saga', 'saga_pkey', 'PRIMARY KEY (name)'),
                   ('saga_run', 'saga_run_pkey', 'PRIMARY KEY (key, saga, scope)'),
                   ('saga_run', 'saga_run_state', 'CHECK ((state = ANY (''{running,compensating,completed,compensated}''::text[])))')) AS w (relation, name, definition)
      JOIN pg_class AS c ON c.oid = to_regclass(format('idempotent.%I', w.relation))
      LEFT JOIN pg_constraint AS n ON n.conname = w.name AND n.conrelid = c.oid
     WHERE n.oid IS NULL OR pg_get_constraintdef(n.oid) <> w.definition;

    -- A sweep fails without its index, and a look at the leases or the outbox reads the whole table.
    RETURN QUERY
    SELECT 'error', 'missing_index',
           format(CASE WHEN i.oid IS NULL THEN 'Index idempotent.%I is missing.' ELSE 'Index idempotent.%I is not as it was made.' END, w.name),
           concat(CASE WHEN i.oid IS NOT NULL THEN format('DROP INDEX idempotent.%I; ', w.name) END,
                  format('CREATE INDEX %I ON idempotent.%I %s;', w.name, w.relation, w.definition))
      FROM (VALUES ('record', 'record_held_idx', '(claimed_at) WHERE (state = ''p''::"char")'),
                   ('record', 'record_sweep_at_idx', '(sweep_at)'),
                   ('record_logged', 'record_logged_held_idx', '(claimed_at) WHERE (state = ''p''::"char")'),
                   ('record_logged', 'record_logged_sweep_at_idx', '(sweep_at)'),
                   ('messages', 'messages_expires_at_idx', '(expires_at)'),
                   ('locks', 'locks_expires_at_idx', '(expires_at)'),
                   ('audit', 'audit_expires_at_idx', '(expires_at)'),
                   ('asked', 'asked_expires_at_idx', '(expires_at)'),
                   ('outbox_message', 'outbox_message_key_idx', '(topic, key, "position") WHERE (key IS NOT NULL)'),
                   ('outbox_message', 'outbox_message_ready_at_idx', '(topic, ready_at) WHERE (ready_at IS NOT NULL)'),
                   ('outbox_id', 'outbox_id_expires_at_idx', '(expires_at)'),
                   ('saga_run', 'saga_run_expires_at_idx', '(expires_at)')) AS w (relation, name, definition)
      JOIN pg_class AS c ON c.oid = to_regclass(format('idempotent.%I', w.relation))
      LEFT JOIN pg_class AS i ON i.relname = w.name AND i.relnamespace = c.relnamespace
     -- How full its pages are is the administrator's business.
     WHERE i.oid IS NULL OR regexp_replace(pg_get_indexdef(i.oid), ' WITH \([^)]*\)', '') <> format('CREATE INDEX %I ON idempotent.%I USING btree %s', w.name, w.relation, w.definition);

    RETURN QUERY
    SELECT 'error', 'invalid_index', format('Index %s on %s is not valid.', i.indexrelid::regclass, i.indrelid::regclass),
           format('REINDEX INDEX CONCURRENTLY %s;', i.indexrelid::regclass)
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
     WHERE c.relnamespace = 'idempotent'::regnamespace AND NOT i.indisvalid;

    -- Losses, changes of settings and what administrators do are noticed by these: most of them also when replication writes.
    RETURN QUERY
    SELECT CASE WHEN t.oid IS NULL THEN 'error' ELSE 'warning' END, CASE WHEN t.oid IS NULL THEN 'missing_trigger' ELSE 'trigger_off' END,
           format(CASE WHEN t.oid IS NULL THEN 'Trigger %s on %s is missing.' WHEN t.tgenabled = 'O'::"char" THEN 'Trigger %s on %s is silent where session_replication_role is replica.'
                       ELSE 'Trigger %s on %s is disabled.' END, w.name, c.oid::regclass),
           concat(CASE WHEN t.oid IS NULL THEN format('CREATE TRIGGER %I %s; ', w.name, w.definition) END,
                  CASE WHEN t.oid IS NOT NULL OR w.enabled = 'A' THEN format('ALTER TABLE %s ENABLE %sTRIGGER %I;', c.oid::regclass, CASE w.enabled WHEN 'A' THEN 'ALWAYS ' END, w.name) END)
      FROM (VALUES ('operation', 'operation_audited', 'O', 'AFTER INSERT OR DELETE OR UPDATE ON idempotent.operation FOR EACH ROW EXECUTE FUNCTION idempotent.operation_audited()'),
                   ('operation', 'operation_changed', 'A', 'AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON idempotent.operation FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('operation', 'operation_checked', 'A', 'BEFORE INSERT OR DELETE OR UPDATE ON idempotent.operation FOR EACH ROW EXECUTE FUNCTION idempotent.operation_checked()'),
                   ('operation', 'operation_row_changed', 'A', 'AFTER INSERT OR DELETE OR UPDATE ON idempotent.operation FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('operation', 'operation_truncated', 'A', 'BEFORE TRUNCATE ON idempotent.operation FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_truncated()'),
                   ('record', 'record_changed', 'A', 'AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('record', 'record_deleted', 'A', 'AFTER DELETE ON idempotent.record REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted()'),
                   ('record', 'record_updated', 'A', 'AFTER UPDATE ON idempotent.record REFERENCING OLD TABLE AS gone NEW TABLE AS come FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted()'),
                   ('record_logged', 'marker_kept', 'A', 'BEFORE INSERT ON idempotent.record_logged FOR EACH ROW WHEN ((new.state = ''e''::"char")) EXECUTE FUNCTION idempotent.marker_kept()'),
                   ('record_logged', 'record_changed', 'A', 'AFTER DELETE OR UPDATE OR TRUNCATE ON idempotent.record_logged FOR EACH STATEMENT EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('record_logged', 'record_deleted', 'A', 'AFTER DELETE ON idempotent.record_logged REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted()'),
                   ('record_logged', 'record_updated', 'A', 'AFTER UPDATE ON idempotent.record_logged REFERENCING OLD TABLE AS gone NEW TABLE AS come FOR EACH STATEMENT EXECUTE FUNCTION idempotent.record_deleted()'),
                   ('earlier_retention', 'earlier_retention_changed', 'A', 'AFTER INSERT OR DELETE OR UPDATE ON idempotent.earlier_retention FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('exclusion', 'exclusion_changed', 'A', 'AFTER INSERT OR DELETE OR UPDATE ON idempotent.exclusion FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('exclusion', 'exclusion_kept', 'A', 'BEFORE INSERT ON idempotent.exclusion FOR EACH ROW EXECUTE FUNCTION idempotent.exclusion_kept()'),
                   ('own', 'own_by_hand', 'O', 'BEFORE DELETE OR UPDATE ON idempotent.own FOR EACH ROW EXECUTE FUNCTION idempotent.own_by_hand()'),
                   ('own', 'own_changed', 'A', 'AFTER INSERT OR DELETE OR UPDATE ON idempotent.own FOR EACH ROW EXECUTE FUNCTION idempotent.operation_changed()'),
                   ('own', 'own_truncated', 'O', 'BEFORE TRUNCATE ON idempotent.own FOR EACH STATEMENT EXECUTE FUNCTION idempotent.own_by_hand()'),
                   ('outbox_message', 'forget_message', 'O', 'AFTER DELETE ON idempotent.outbox_message REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_forget()'),
                   ('outbox_message', 'go_on', 'O', 'AFTER DELETE ON idempotent.outbox_message REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_go_on()'),
                   ('outbox_dead', 'forget_dead', 'O', 'AFTER DELETE ON idempotent.outbox_dead REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION idempotent.outbox_forget()')) AS w (relation, name, enabled, definition)
      JOIN pg_class AS c ON c.oid = to_regclass(format('idempotent.%I', w.relation))
      LEFT JOIN pg_trigger AS t ON t.tgname = w.name AND t.tgrelid = c.oid AND NOT t.tgisinternal
     WHERE t.oid IS NULL OR t.tgenabled = ANY ('{D,R}'::"char"[]) OR w.enabled = 'A' AND t.tgenabled = 'O'::"char";

    RETURN QUERY
    SELECT 'error', 'wrong_persistence',
           CASE WHEN c.relpersistence = 'u'::"char" THEN format('%s is unlogged: a crash empties it.', c.oid::regclass)
                ELSE format('%s is logged: unlogged operations cost as much as logged ones.', c.oid::regclass) END,
           format('ALTER %s %s SET %s;', CASE WHEN c.relkind = 'S'::"char" THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass,
                  CASE WHEN c.relname = 'record' THEN 'UNLOGGED' ELSE 'LOGGED' END)
      FROM pg_class AS c
     WHERE c.relnamespace = 'idempotent'::regnamespace AND c.relkind = ANY ('{r,S}'::"char"[])
       AND c.relpersistence <> CASE WHEN c.relname = 'record' THEN 'u'::"char" ELSE 'p'::"char" END;

    RETURN QUERY
    SELECT 'warning', 'autovacuum_off', format('Autovacuum is off for %s%s: what is swept stays on disk.', CASE WHEN t.oid IS NOT NULL THEN 'the large values of ' END, c.oid::regclass),
           format('ALTER TABLE %s RESET (%sautovacuum_enabled);', c.oid::regclass, CASE WHEN t.oid IS NOT NULL THEN 'toast.' END)
      FROM pg_class AS s LEFT JOIN pg_class AS t ON t.oid = s.oid AND s.relkind = 't'::"char"
      JOIN pg_class AS c ON c.oid = s.oid AND s.relkind = 'r'::"char" OR c.reltoastrelid = t.oid
     CROSS JOIN LATERAL pg_options_to_table(s.reloptions) AS o
     WHERE c.relnamespace = 'idempotent'::regnamespace AND o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean;

    -- What is not published as a whole is told from the rest by its old row, of which there is the primary key alone.
    RETURN QUERY
    SELECT 'error', 'published_in_part', format('Publication %I has some rows of %s: no row of that table can be changed or deleted.', p.pubname, c.oid::regclass),
           format('ALTER TABLE %s REPLICA IDENTITY FULL;', c.oid::regclass)
      FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid JOIN pg_class AS c ON c.oid = r.prrelid
     WHERE c.relnamespace = 'idempotent'::regnamespace AND r.prqual IS NOT NULL AND c.relreplident <> 'f'::"char" AND (p.pubupdate OR p.pubdelete);
END $$;
COMMENT ON FUNCTION idempotent.damage() IS 'what of the extension''s tables is not as it made them, for idempotent_doctor()';

REVOKE ALL ON FUNCTION idempotent.damage() FROM PUBLIC;
