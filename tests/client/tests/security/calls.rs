//! A sensible call of every function: one that succeeds for whoever may make it.

use super::members::Function;

pub struct Call {
    /// Its name; with its types, where there are others of that name.
    pub function: &'static str,
    pub arguments: &'static [(&'static str, &'static str)],
}

const fn call(function: &'static str, arguments: &'static [(&'static str, &'static str)]) -> Call {
    Call { function, arguments }
}

/// `{op}` is the operation, `{fence}` that of its leased key; see `House`.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    call("idempotent_claim", &[("operation", "{op}"), ("key", "'new'"), ("request", r#"'{"n": 1}'"#)]),
    call("idempotent_complete", &[("operation", "{op}"), ("key", "'leased'"), ("response", r#"'{"n": 1}'"#), ("fence", "{fence}")]),
    call("idempotent_fail", &[("operation", "{op}"), ("key", "'leased'"), ("response", r#"'{"n": 1}'"#), ("fence", "{fence}")]),
    call("idempotent_release", &[("operation", "{op}"), ("key", "'leased'"), ("fence", "{fence}")]),
    call("idempotent_http_claim", &[("operation", "{op}"), ("key_header", "'new'"), ("method", "'POST'"), ("target", "'/pay'"), ("content_type", "'application/json'"), ("body", r#"'{"n": 1}'"#)]),
    call("idempotent_http_complete", &[("operation", "{op}"), ("key", "'leased'"), ("status", "201"), ("body", r#"'{"n": 1}'"#), ("fence", "{fence}")]),
    call("idempotent_extend", &[("operation", "{op}"), ("key", "'leased'"), ("lease", "'2 hours'"), ("fence", "{fence}")]),
    call("idempotent_extend_all", &[("operation", "{op}"), ("keys", "'{leased}'"), ("fences", "ARRAY[{fence}]::bigint[]"), ("lease", "'2 hours'")]),
    call("idempotent_check", &[]),
    call("idempotent_checkpoint", &[("operation", "{op}"), ("key", "'leased'"), ("checkpoint", "'1'"), ("fence", "{fence}")]),
    call("idempotent_replay", &[("operation", "{op}"), ("key", "'done'")]),
    call("idempotent_run", &[("operation", "{op}"), ("key", "'new'"), ("request", r#"'{"n": 1}'"#), ("handler", "'public.handle(pg_catalog.jsonb)'")]),
    call("idempotent_first", &[("consumer", "{op}"), ("message_id", "'new'")]),
    call("idempotent_first_of", &[("consumer", "{op}"), ("message_ids", "'{new,done}'")]),
    call("idempotent_first_skip_held", &[("consumer", "{op}"), ("message_ids", "'{new,done}'")]),
    call("idempotent_forget_message", &[("consumer", "{op}"), ("message_id", "'new'")]),
    call("idempotent_rewind", &[("consumer", "{op}"), ("partition", "'new'"), (r#""offset""#, "1")]),
    call("idempotent_forget_offset", &[("consumer", "{op}"), ("partition", "'new'")]),
    call("idempotent_advance", &[("consumer", "{op}"), ("partition", "'new'"), (r#""offset""#, "7")]),
    call("idempotent_lock", &[("resource", "'report'"), ("key", "'new'"), ("ttl", "'1 hour'")]),
    call("idempotent_unlock", &[("resource", "'report'"), ("key", "'new'"), ("fence", "1")]),
    call("idempotent_explain", &[("operation", "{op}"), ("key", "'done'")]),
    call("idempotent_seal", &[("operation", "{op}"), ("key", "'new'")]),
    call("idempotent_resolve", &[("operation", "{op}"), ("key", "'lapsed'"), ("verdict", "'completed'"), ("response", "'1'")]),
    call("idempotent_forget", &[("operation", "{op}"), ("key", "'done'")]),
    call("idempotent_forget_all", &[("operation", "{op}")]),
    call("idempotent_forget_scope", &[("scope", "'tenant'")]),
    call("idempotent_export_scope", &[("scope", "'tenant'")]),
    call("export_scope", &[("scope", "'tenant'")]),
    call("idempotent_operation", &[("name", "{op}"), ("retention", "'1 day'"), ("durability", "'logged'")]),
    call("idempotent_derive_key", &[("operation", "{op}"), ("key", "'done'"), ("label", "'card'")]),
    call("idempotent_slot", &[("key", "'done'")]),
    call("idempotent_shard", &[("key", "'done'"), ("shards", "7")]),
    call("idempotent_new_key", &[]),
    call("idempotent_request_key", &[("request", r#"'{"n": 1}'"#)]),
    call("idempotent_sweep", &[("max_rows", "1")]),
    call("idempotent_grant", &[("role", "'nothing'")]),
    call("idempotent_revoke", &[("role", "'caller'")]),
    call("idempotent_stats_reset", &[]),
    call("idempotent_doctor", &[]),
    call("counters", &[]),
    call("library", &[]),
    call("samples", &[]),
    call("operation_changed", &[]),
    call("check_lease", &[("what", "'lease'"), ("lease", "'1 hour'"), ("shortest", "'0'")]),
    call("outbox_lock", &[("topic", "'mail'"), ("name", "'k'")]),
    call("outbox_wait", &[("topic", "'mail'"), ("lock", "1"), ("shared", "true")]),
    call("outbox_fingerprint", &[("topic", "'mail'"), ("payload", "'1'")]),
    call("outbox_is_same", &[("topic", "'mail'"), ("payload", "'1'"), ("fingerprint", "'00000000-0000-4000-8000-000000000001'")]),
    call("outbox_check_date", &[("topic", "'mail'"), ("message_id", "'00000000-0000-4000-8000-000000000001'")]),
    call("outbox_expires", &[("topic", "'mail'"), ("message_id", "'00000000-0000-4000-8000-000000000001'")]),
    call("outbox_count", &[("topic", "'mail'"), ("counter", "'claimed'"), ("number", "1")]),
    call("outbox_is_new", &[("topic", "'mail'"), ("message_id", "'00000000-0000-4000-8000-000000000001'"), ("key", "'k'"), ("payload", "'1'"), ("scope", "''"), ("slot", "0::smallint")]),
    call("own_slot", &[("key", "'k'"), ("scope", "''")]),
    call("outbox_bury", &[("topic", "'mail'"), ("positions", "'{}'")]),
    call("outbox_go_on", &[]),
    call("outbox_forget", &[]),
    call("outbox_put", &[("topic", "'mail'"), ("payload", "'1'"), ("key", "NULL"), ("message_id", "NULL"), ("scope", "''")]),
    call("outbox_take", &[("topic", "'mail'"), ("batch", "1"), ("lease", "'1 second'")]),
    call("outbox_ack", &[("topic", "'mail'"), ("message_ids", "'{}'"), ("fence", "1")]),
    call("outbox_release", &[("topic", "'mail'"), ("message_ids", "'{}'"), ("fence", "1"), ("delay", "'0'")]),
    call("outbox_redrive", &[("topic", "'mail'"), ("message_ids", "NULL")]),
    call("outbox_held", &[("topic", "'mail'"), ("message_ids", "'{}'"), ("fence", "1")]),
    call("idempotent_outbox_put", &[("topic", "'mail'"), ("payload", r#"'{"n": 1}'"#), ("key", "'k'")]),
    call("idempotent_outbox_take", &[("topic", "'mail'")]),
    call("idempotent_outbox_ack", &[("topic", "'mail'"), ("message_ids", "'{}'"), ("fence", "1")]),
    call("idempotent_outbox_release", &[("topic", "'mail'"), ("message_ids", "'{}'"), ("fence", "1")]),
    call("idempotent_outbox_redrive", &[("topic", "'mail'")]),
    call("additions", &[]),
    call("damage", &[]),
    call("idempotent_own", &[("slots", "NULL")]),
    call("idempotent_ignorant", &[("before", "'-infinity'")]),
    call("idempotent_export", &[("slots", "'{}'")]),
    call("idempotent_import", &[("exported", r#"'{"table": "fence", "row": {"last": 1}}'"#)]),
    call("own_by_hand", &[]),
    call("owns", &[("slot", "7::smallint")]),
    call("announce_own", &[]),
    call("wait_for_writers", &[]),
    call(
        "check_settings",
        &[
            ("name", "'pay'"),
            ("retention", "'1 h'"),
            ("failure_retention", "'1 h'"),
            ("response_retention", "'1 h'"),
            ("lease", "'1 h'"),
            ("wait", "'1 h'"),
            ("max_lease", "'1 h'"),
            ("max_retention", "'1 h'"),
            ("fingerprint_exclude", "'{}'"),
            ("store_failures", "'{}'"),
            ("http_store", "'{}'"),
            ("http_headers", "'{}'"),
        ],
    ),
    call("stop_callers", &[("operation", "'pay'"), ("patiently", "false")]),
    call("join_callers", &[("operation", "'pay'")]),
    call("lost_before", &[("durability", "'unlogged'")]),
    call("check_slots", &[("slots", "'{}'")]),
    call("leased", &[("slots", "'{}'")]),
    call("writers", &[]),
    call("wait_for_slots", &[("slots", "'{}'")]),
    call("own_slots", &[("slots", "NULL")]),
    call("fence_above", &[("fence", "1")]),
    call("position_above", &[("last", "1")]),
    call("outbox_place", &[("topic", "'mail'")]),
    call("shared_columns", &[]),
    call("drop_left_behind", &[("arriving", "'{}'")]),
    call("follows", &[("later", "NULL"), ("earlier", "NULL")]),
    call("import_version", &[("operation", "'pay'"), ("version", "1::smallint"), ("members", "NULL")]),
    call("import_record", &[("arriving", "NULL")]),
    call("import_message", &[("arriving", "NULL")]),
    call("import_offset", &[("arriving", "NULL")]),
    call("import_lock", &[("arriving", "NULL")]),
    call("import_saga", &[("arriving", "NULL")]),
    call("import_outbox_id", &[("arriving", "NULL")]),
    call("import_outbox_message", &[("arriving", "NULL"), ("died_at", "NULL")]),
    call("import_past", &[("source", "'reset'"), ("line", "'{}'")]),
    call("import_row", &[("exported", r#"'{"table": "fence", "row": {"last": 1}}'"#)]),
    call("audited", &[("action", "'seal'"), ("operation", "{op}"), ("detail", "NULL")]),
    call("has_run", &[("operation", "{op}")]),
    call("is_configuring", &[]),
    call("operation_audited", &[]),
    call("operation_checked", &[]),
    call("operation_truncated", &[]),
    call("exclusion_kept", &[]),
    call("record_deleted", &[]),
    call("marker_kept", &[]),
    call("still_has", &[("operation", "{op}")]),
    call("is_canonical", &[("key", "'k'")]),
    call("check_key_form", &[("operation", "{op}"), ("key", "'k'")]),
    call("idempotent_operation_drop", &[("name", "{op}")]),
    call("check_saga_name", &[("name", "'saga'")]),
    call("check_saga_step", &[("name", "'a'"), ("number", "1"), ("finals", "'{P0001}'")]),
    call("saga_handler", &[("named", "'public.handle(pg_catalog.jsonb)'"), ("number", "1")]),
    call("saga_steps", &[("steps", r#"'[{"name": "a", "handler": "public.handle(jsonb)"}]'"#)]),
    call("idempotent_saga", &[("name", "'saga'"), ("steps", r#"'[{"name": "a", "handler": "public.handle(jsonb)"}]'"#)]),
    call("saga_explain", &[("name", "'saga'"), ("key", "'k'"), ("scope", "''")]),
    call("idempotent_saga_explain", &[("name", "{op}"), ("key", "'stands'")]),
    call("idempotent_saga_resume", &[("name", "{op}"), ("key", "'stands'")]),
    call("idempotent_saga_abandon", &[("name", "{op}"), ("key", "'stands'")]),
    call("idempotent_saga_settle", &[("name", "{op}"), ("key", "'stands'"), ("step", "'b'"), ("verdict", "'completed'")]),
    call("idempotent_saga_forget", &[("name", "{op}"), ("key", "'stands'"), ("unfinished", "true")]),
    call("idempotent_saga_step", &[("name", "{op}"), ("key", "'k'"), ("request", "'1'")]),
    // Refused in the transaction that everything is tried in.
    call("idempotent_saga_run", &[("name", "{op}"), ("key", "'k'"), ("request", "'1'")]),
];

/// The calls of these functions, each with its function; panics unless every function has one and every call its function.
#[track_caller]
pub fn of(functions: &[Function]) -> Vec<(&Function, &'static Call)> {
    for call in CALLS {
        let known = functions.iter().any(|function| call.is_of(function));
        assert!(known, "there is a call of {}, which does not exist", call.function);
    }
    let call_of = |function: &Function| CALLS.iter().find(|call| call.is_of(function));
    let missing =
        |function: &Function| panic!("no sensible call of {} is known here", function.identity);
    functions
        .iter()
        .map(|function| (function, call_of(function).unwrap_or_else(|| missing(function))))
        .collect()
}

impl Call {
    fn is_of(&self, function: &Function) -> bool {
        self.function == function.bare_name() || self.function == function.identity
    }

    /// Whether it is about an operation's keys or settings.
    pub fn has_operation(&self) -> bool {
        self.arguments.iter().any(|(_, value)| *value == "{op}")
    }

    /// As SQL, with one argument as given if there is one.
    pub fn sql(&self, function: &Function, other: Option<(&str, &str)>) -> String {
        let mut arguments: Vec<(&str, &str)> = self.arguments.to_vec();
        if let Some((name, value)) = other {
            arguments.retain(|(argument, _)| *argument != name);
            arguments.push((name, value));
        }
        let arguments: Vec<String> =
            arguments.iter().map(|(name, value)| format!("{name} => {value}")).collect();
        let verb = if function.is_procedure { "CALL" } else { "SELECT" };
        format!("{verb} {}({})", function.name, arguments.join(", "))
    }
}
