//! Tests inside one session: what a single transaction can see of itself.
//!
//! Each runs in a transaction that is rolled back, so the commit guard is not in the way. Races
//! are in tests/isolation, the public face in tests/pg_regress, the rules in crates/rules/src/tests.

#[pgrx::pg_schema]
mod tests {
    use crate::pg::datum::text::Text;
    use crate::pg::datum::{jsonb, make};
    use crate::pg::lock;
    use crate::session::claims;
    use crate::session::claims::Status;
    use crate::tables::operations;
    use crate::tables::sweep::{Portion, sweep};
    use crate::tables::sweepable::Sweepable;
    use pgrx::prelude::*;
    use rules::identity::Identity;
    use rules::identity::RecordId;
    use rules::policy::Policy;
    use rules::request::exclude::Exclusions;

    fn text(sql: &str) -> Option<String> {
        Spi::get_one::<String>(sql).expect("the query runs")
    }

    fn number(sql: &str) -> i64 {
        Spi::get_one::<i64>(sql).expect("the query runs").expect("the query returns a number")
    }

    fn run(sql: &str) {
        Spi::run(sql).expect("the statement runs");
    }

    /// The SQLSTATE that a statement raises, or `00000`; what it did is undone if it raises.
    fn sqlstate(sql: &str) -> String {
        run("CREATE FUNCTION pg_temp.sqlstate(statement text) RETURNS text LANGUAGE plpgsql AS \
             'BEGIN EXECUTE statement; RETURN ''00000''; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END'");
        let quoted = pgrx::spi::quote_literal(sql);
        let state = text(&format!("SELECT pg_temp.sqlstate({quoted})"));
        run("DROP FUNCTION pg_temp.sqlstate(text)");
        state.expect("a SQLSTATE")
    }

    fn id(operation: &str, key: &str) -> RecordId {
        Identity::new(Some(operation.as_bytes()), Some(b""), Some(key.as_bytes()))
            .expect("a good identity")
            .record_id()
    }

    fn status(operation: &str, key: &str) -> Option<Status> {
        claims::get(id(operation, key)).map(|claim| claim.status)
    }

    /// Locks of ours that this backend holds.
    fn held_locks() -> i64 {
        number(&format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = {} \
             AND pid = pg_backend_pid()",
            lock::CLASS
        ))
    }

    #[pg_test]
    fn a_claim_writes_nothing_until_it_is_finished() {
        assert_eq!(text("SELECT (idempotent_claim('t', 'k')).outcome").as_deref(), Some("claimed"));
        assert_eq!(number("SELECT count(*) FROM idempotent.record WHERE state <> 'e'"), 0);
        assert_eq!(status("t", "k"), Some(Status::Open));
        run("SELECT idempotent_complete('t', 'k', '1')");
        assert_eq!(
            number("SELECT count(*) FROM idempotent.record WHERE xmax = 0 AND state <> 'e'"),
            1
        );
        assert_eq!(status("t", "k"), Some(Status::Finished));
    }

    /// Functions that the hook of pgaudit and sepgsql was told of, by name.
    static TOLD: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

    unsafe extern "C-unwind" fn tell(
        access: pg_sys::ObjectAccessType::Type,
        class: pg_sys::Oid,
        object: pg_sys::Oid,
        _: std::ffi::c_int,
        _: *mut std::ffi::c_void,
    ) {
        if access != pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE
            || class != pg_sys::ProcedureRelationId
        {
            return;
        }
        // SAFETY: null, or a palloc'd string.
        let name = unsafe { pg_sys::get_func_name(object) };
        if !name.is_null() {
            // SAFETY: NUL-terminated.
            let name = unsafe { std::ffi::CStr::from_ptr(name) };
            TOLD.lock().expect("one thread").push(name.to_string_lossy().into_owned());
        }
    }

    #[pg_test]
    fn whoever_watches_calls_sees_those_of_handlers() {
        run("CREATE FUNCTION watched(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'");
        // SAFETY: a backend has one thread; the hook is taken away again.
        unsafe { pg_sys::object_access_hook = Some(tell) };
        run("SELECT idempotent_run('t', 'k', '1', 'watched')");
        run("SELECT idempotent_run('t', 'k', '1', 'watched')");
        // SAFETY: as it was.
        unsafe { pg_sys::object_access_hook = None };
        let told = TOLD.lock().expect("one thread").clone();
        assert_eq!(told.iter().filter(|name| *name == "watched").count(), 1, "{told:?}");
    }

    #[pg_test]
    fn a_replay_keeps_no_lock() {
        run("SELECT idempotent_claim('t', 'k'), idempotent_complete('t', 'k', '1')");
        let before = held_locks();
        run("SELECT idempotent_claim('t', 'k') FROM generate_series(1, 10)");
        run("SELECT idempotent_replay('t', key) FROM (VALUES ('k'), ('other')) AS v (key)");
        assert_eq!(held_locks(), before);
    }

    #[pg_test]
    fn an_exception_block_takes_its_claim_with_it() {
        let state = sqlstate(
            "DO $$ BEGIN PERFORM idempotent_claim('t', 'k'); RAISE EXCEPTION USING ERRCODE = 'P0042'; END $$",
        );
        assert_eq!(state, "P0042");
        assert_eq!(status("t", "k"), None);
        assert_eq!(held_locks(), 0);
    }

    #[pg_test]
    fn an_exception_block_opens_again_what_it_completed() {
        run("SELECT idempotent_claim('t', 'k')");
        let state = sqlstate(
            "DO $$ BEGIN PERFORM idempotent_complete('t', 'k', '1'); RAISE EXCEPTION USING ERRCODE = 'P0042'; END $$",
        );
        assert_eq!(state, "P0042");
        assert_eq!(status("t", "k"), Some(Status::Open));
        assert_eq!(number("SELECT count(*) FROM idempotent.record WHERE state <> 'e'"), 0);
    }

    #[pg_test]
    fn a_block_that_ends_well_hands_its_claims_to_the_outer_one() {
        let state = sqlstate(
            "DO $$ BEGIN
                 BEGIN
                     PERFORM idempotent_claim('t', 'inner');
                 EXCEPTION WHEN division_by_zero THEN
                     NULL;
                 END;
                 RAISE EXCEPTION USING ERRCODE = 'P0042';
             END $$",
        );
        assert_eq!(state, "P0042");
        assert_eq!(status("t", "inner"), None);
    }

    #[pg_test]
    fn many_claims_keep_few_locks() {
        let share = i64::try_from(lock::fair_share()).expect("a small number");
        run("SELECT idempotent_claim('t', i::text) FROM generate_series(1, 5000) AS i");
        assert!(held_locks() <= share, "{} locks are held", held_locks());
        run(
            "SELECT idempotent_complete('t', i::text, to_jsonb(i)) FROM generate_series(1, 5000) AS i",
        );
        assert_eq!(number("SELECT count(*) FROM idempotent.record WHERE state = 'c'"), 5000);
        assert_eq!(
            number(
                "SELECT count(*) FROM generate_series(1, 5000) AS i, idempotent_replay('t', i::text) AS r \
                    WHERE r.outcome = 'replay' AND r.response = to_jsonb(i)"
            ),
            5000
        );
    }

    #[pg_test]
    fn settings_are_seen_by_the_next_call() {
        run(
            "SELECT idempotent_claim('t', 'a', '{\"n\": 1, \"at\": 1}'), idempotent_complete('t', 'a')",
        );
        let again = "SELECT (idempotent_claim('t', 'a', '{\"n\": 1, \"at\": 2}')).outcome";
        assert_eq!(text(again).as_deref(), Some("mismatch"));
        run("SELECT idempotent_operation('u', fingerprint_exclude => '{at}')");
        run(
            "SELECT idempotent_claim('u', 'a', '{\"n\": 1, \"at\": 1}'), idempotent_complete('u', 'a')",
        );
        let again = "SELECT (idempotent_claim('u', 'a', '{\"n\": 1, \"at\": 2}')).outcome";
        assert_eq!(text(again).as_deref(), Some("replay"));
        run("SELECT idempotent_operation('u', fingerprint_exclude => '{}')");
        run(
            "SELECT idempotent_claim('u', 'b', '{\"n\": 1, \"at\": 1}'), idempotent_complete('u', 'b')",
        );
        let other = "SELECT (idempotent_claim('u', 'b', '{\"n\": 1, \"at\": 2}')).outcome";
        assert_eq!(text(other).as_deref(), Some("mismatch"));
    }

    #[pg_test]
    fn settings_that_are_rolled_back_are_forgotten() {
        run("SELECT idempotent_claim('t', 'a')");
        let state = sqlstate(
            "DO $$ BEGIN
                 PERFORM idempotent_operation('t', scope_required => true);
                 PERFORM idempotent_replay('t', 'a');
             END $$",
        );
        assert_eq!(state, "ID006");
        assert_eq!(sqlstate("SELECT idempotent_replay('t', 'a')"), "00000");
    }

    #[pg_test]
    fn the_fingerprint_is_that_of_the_value() {
        let digest = |value: &str| {
            let jsonb = Spi::get_one::<pgrx::AnyElement>(&format!(
                "SELECT {}::jsonb",
                pgrx::spi::quote_literal(value)
            ))
            .expect("the query runs")
            .expect("a value");
            // SAFETY: the query casts the value to jsonb.
            unsafe { jsonb::canonical_digest(jsonb.datum(), &Exclusions::default()) }
        };
        assert_eq!(digest(r#"{"b": [1.0, 2], "a": 1e2}"#), digest(r#"{"a":100,"b":[1,2.00]}"#));
        let distinct =
            ["1", "\"1\"", "[1]", "[[1]]", "null", "[]", "{}", "true", "\"true\"", "[null]"];
        for (index, one) in distinct.iter().enumerate() {
            for other in &distinct[index + 1..] {
                assert_ne!(digest(one), digest(other), "{one} and {other}");
            }
        }
    }

    #[pg_test]
    fn a_backtrace_never_reaches_a_caller() {
        let detail = text(
            "CREATE FUNCTION pg_temp.detail() RETURNS text LANGUAGE plpgsql AS $$
             DECLARE detail text;
             BEGIN
                 PERFORM idempotent_claim('', 'k');
             EXCEPTION WHEN OTHERS THEN
                 GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
                 RETURN detail;
             END $$;
             SELECT pg_temp.detail()",
        );
        assert_eq!(detail.as_deref(), Some("The operation is text of 1 to 255 bytes."));
    }

    /// The columns' defaults, and those that idempotent_operation() fills in, are the rules' own. (That the
    /// table in docs/reference.md has the columns' defaults is a test of the docs.)
    #[pg_test]
    fn defaults_of_an_operation_are_those_of_the_rules() {
        Spi::run("INSERT INTO idempotent.operation (name) VALUES ('columns')").expect("inserts");
        Spi::run("SELECT idempotent_operation('function')").expect("configures");
        for (kind, is_declared) in
            [("columns", true), ("function", true), ("never configured", false)]
        {
            let earlier_exclusions = vec![(0, Exclusions::default())];
            let policy = Policy { is_declared, earlier_exclusions, ..Policy::default() };
            // SAFETY: a text made just now, in the memory context of the test.
            let name = unsafe { Text::from_datum(make::text(kind)) };
            let operation =
                operations::get(&name).map_err(|error| error.message).expect("settings");
            assert_eq!(*operation.policy, policy, "{kind}");
        }
    }

    /// A function reads its arguments by the names and types that it is declared with.
    #[pg_test]
    fn arguments_are_those_of_the_catalog() {
        for declared in crate::api::DECLARATIONS {
            let function = pgrx::spi::quote_literal(declared.function);
            let of = |column: &str| {
                let sql = format!(
                    "SELECT string_agg(({column}), ',' ORDER BY a.at) FROM pg_proc AS p, \
                     unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, at) \
                     WHERE p.prosrc = {function} AND p.probin LIKE '%pg_idempotent%'"
                );
                text(&sql).unwrap_or_default()
            };
            assert_eq!(of("p.proargnames[a.at]"), declared.names.join(","), "{function}");
            let types: Vec<String> =
                declared.types.iter().map(|oid| u32::from(*oid).to_string()).collect();
            assert_eq!(of("a.type::text"), types.join(","), "{function}");
        }
    }

    /// Messages that have expired, all of them at the same time.
    fn expired_at_once(messages: usize) {
        run(&format!(
            "INSERT INTO idempotent.messages (expires_at, seen_at, slot, consumer, scope, message_id) \
             SELECT now() - interval '1 hour', now() - interval '2 hours', 0, 'swept', '', n::text \
             FROM generate_series(1, {messages}) AS n"
        ));
    }

    /// Sweeps the messages portion by portion: the number of portions, and of rows that went.
    fn sweep_by_portions(rows: u64, time: i64) -> (u64, u64) {
        let (mut from, mut portions, mut deleted) = (None, 0, 0);
        loop {
            let portion = Portion { what: Sweepable::Messages, from, rows, time };
            let swept = sweep(&portion).expect("it sweeps").expect("the table is free");
            (portions, deleted) = (portions + 1, deleted + swept.rows());
            assert!(from.is_none() || swept.resume.is_none() || swept.resume > from, "it goes on");
            from = swept.resume;
            if from.is_none() {
                return (portions, deleted);
            }
        }
    }

    /// What other tests have rolled back is still in the index.
    fn without_entries() {
        run("TRUNCATE idempotent.messages");
    }

    #[pg_test]
    fn a_sweep_goes_on_at_the_very_entry_among_rows_of_one_time() {
        without_entries();
        expired_at_once(100);
        assert_eq!(sweep_by_portions(10, i64::MAX), (11, 100), "the last one finds the end");
    }

    /// As beside an old snapshot: nothing leaves the index. (Here it is this transaction that may yet roll back.)
    #[pg_test]
    fn a_sweep_looks_at_the_clock_among_dead_entries_and_never_returns_to_them() {
        without_entries();
        expired_at_once(320);
        run("DELETE FROM idempotent.messages");
        assert_eq!(sweep_by_portions(1000, 0), (11, 0), "32 entries each, and the end");
        expired_at_once(1);
        assert_eq!(sweep_by_portions(1000, i64::MAX), (1, 1), "what is behind them is found");
    }
}
