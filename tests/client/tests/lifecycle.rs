//! The extension's comings and goings, other encodings, and many keys in one transaction.

use client::{Scratch, Wire};

const WORK: &str = "
    CREATE SCHEMA IF NOT EXISTS app;
    CREATE TABLE app.effect (n integer);
    CREATE FUNCTION app.work(request jsonb) RETURNS jsonb LANGUAGE sql AS
        'INSERT INTO app.effect VALUES (1); SELECT jsonb_build_object(''effects'', count(*)) FROM app.effect'";
const RUN: &str = "SELECT outcome FROM idempotent_run('op', 'k', '{}', 'app.work(jsonb)')";

#[test]
fn the_extension_may_be_dropped_and_made_again_between_two_calls_of_one_session() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(WORK);
    wire.run(&format!("PREPARE run AS {RUN}"));
    for round in 1..=3 {
        assert_eq!(
            wire.run("EXECUTE run").value(),
            "executed",
            "round {round}: the records went with the extension"
        );
        assert_eq!(wire.run(RUN).value(), "replay", "round {round}");
        assert_eq!(wire.claim("leased", ", lease => '1 hour'").outcome, "claimed", "round {round}");
        wire.run("DROP EXTENSION pg_idempotent");
        assert_eq!(wire.call(RUN).code(), "42883", "round {round}: no such function now");
        wire.run("CREATE EXTENSION pg_idempotent");
    }
    assert_eq!(wire.run("SELECT count(*) FROM app.effect").value(), "3");
}

#[test]
fn another_session_may_drop_and_make_the_extension() {
    let scratch = Scratch::new();
    let (mut wire, mut other) = (scratch.wire(), scratch.wire());
    wire.run(WORK);
    assert_eq!(wire.run(RUN).value(), "executed");
    other.run("DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent");
    assert_eq!(wire.run(RUN).value(), "executed");
    assert_eq!(other.run(RUN).value(), "replay");
}

#[test]
fn a_rolled_back_drop_leaves_everything_as_it_was() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(WORK);
    assert_eq!(wire.run(RUN).value(), "executed");
    wire.run("BEGIN; DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent");
    assert_eq!(wire.run(RUN).value(), "executed");
    wire.run("ROLLBACK");
    assert_eq!(wire.run(RUN).value(), "replay");
    assert_eq!(wire.run("SELECT count(*) FROM app.effect").value(), "1");
}

#[test]
fn the_extension_works_in_another_schema() {
    let scratch = Scratch::bare("");
    let mut wire = scratch.wire();
    wire.run("CREATE SCHEMA tools; CREATE EXTENSION pg_idempotent SCHEMA tools");
    wire.run(WORK);
    // Its schema is on nobody's search_path.
    let run = RUN.replace("idempotent_run", "tools.idempotent_run");
    assert_eq!(wire.run(&run).value(), "executed");
    assert_eq!(wire.run(&run).value(), "replay");
    wire.run("BEGIN");
    assert_eq!(
        wire.run("SELECT outcome FROM tools.idempotent_claim('op', 'two', '{}')").value(),
        "claimed"
    );
    assert_eq!(
        wire.run(r#"SELECT tools.idempotent_complete('op', 'two', '{"a": 1}')"#).value(),
        r#"{"a": 1}"#
    );
    wire.run("COMMIT");
    assert_eq!(wire.run("SELECT (tools.idempotent_replay('op', 'two')).outcome").value(), "replay");
    assert_eq!(
        wire.run("SELECT (tools.idempotent_operation('op', retention => '1 day')).name").value(),
        "op"
    );
    let leased = wire
        .run("SELECT fence FROM tools.idempotent_claim('op', 'three', lease => '1 hour')")
        .value()
        .to_owned();
    wire.run(&format!(
        "SELECT tools.idempotent_complete('op', 'three', '{{}}', fence => {leased})"
    ));
    assert_eq!(wire.run("SELECT tools.idempotent_explain('op', 'three') IS NOT NULL").value(), "t");
    assert_eq!(
        wire.call("ALTER EXTENSION pg_idempotent SET SCHEMA public").code(),
        "0A000",
        "not relocatable"
    );
    wire.run("DROP EXTENSION pg_idempotent");
}

#[test]
fn a_latin1_database_gives_a_key_the_same_record_as_a_utf8_database() {
    let utf8 = Scratch::bare("TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
    let latin1 = Scratch::bare("TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    let mut seen = Vec::new();
    for (scratch, encoding) in [(&utf8, "UTF8"), (&latin1, "LATIN1")] {
        let mut wire = scratch.wire();
        assert_eq!(wire.run("SHOW server_encoding").value(), encoding);
        assert_eq!(wire.run("SHOW client_encoding").value(), "UTF8");
        wire.run("CREATE EXTENSION pg_idempotent");
        wire.run(WORK);
        let run = "SELECT outcome FROM idempotent_run('opération', 'clé-ÿ£', '{\"prénom\": \"Zoë\"}', 'app.work(jsonb)',
                   scope => 'Björk')";
        assert_eq!(wire.run(run).value(), "executed", "{encoding}");
        assert_eq!(wire.run(run).value(), "replay", "{encoding}");
        assert_eq!(wire.run(&run.replace("Zoë", "Zoe")).value(), "mismatch", "{encoding}");
        assert_eq!(
            wire.run(
                "SELECT outcome FROM idempotent_replay('opération', 'clé-ÿ£', scope => 'Björk')"
            )
            .value(),
            "replay",
            "{encoding}"
        );
        seen.push((
            wire.run(
                "SELECT idempotent_derive_key('opération', 'clé-ÿ£', 'envoyé', scope => 'Björk')",
            )
            .value()
            .to_owned(),
            wire.run("SELECT idempotent_shard('clé-ÿ£', 1000, scope => 'Björk')")
                .value()
                .to_owned(),
            wire.run(r#"SELECT idempotent_request_key('{"prénom": "Zoë"}')"#).value().to_owned(),
        ));
        // Measured in UTF-8: 127 é are 254 bytes, 128 are 256.
        assert_eq!(
            wire.run("SELECT outcome FROM idempotent_replay('op', repeat('é', 127))").value(),
            "absent"
        );
        assert_eq!(
            wire.call("SELECT outcome FROM idempotent_replay('op', repeat('é', 128))").code(),
            "ID006",
            "{encoding}"
        );
    }
    assert_eq!(seen[0], seen[1]);
}

/// Ten thousand, or more where the server's lock table would hold that many locks: twice what it has room for.
fn thousands_of_keys(wire: &mut Wire) -> usize {
    assert_eq!(
        wire.run("SHOW max_locks_per_transaction").value(),
        "64",
        "the default is what is tested"
    );
    let room = wire.run(
        "SELECT 64 * sum(setting::integer) FROM pg_settings
          WHERE name IN ('max_connections', 'max_prepared_transactions', 'max_worker_processes', 'autovacuum_max_workers')",
    );
    10_000.max(2 * room.value().parse::<usize>().unwrap())
}

#[test]
fn thousands_of_runs_in_one_transaction_fit_the_default_lock_table() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(WORK);
    let keys = thousands_of_keys(&mut wire);
    let count = |outcome: &str| {
        format!(
            "SELECT count(*) FILTER (WHERE outcome = '{outcome}')
               FROM generate_series(1, {keys}) AS n, idempotent_run('op', 'key ' || n, to_jsonb(n), 'app.echo(jsonb)')"
        )
    };
    wire.run("CREATE FUNCTION app.echo(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RETURN request; END'");
    wire.run("BEGIN");
    assert_eq!(wire.run(&count("executed")).value(), keys.to_string());
    wire.run("COMMIT");
    assert_eq!(wire.run(&count("replay")).value(), keys.to_string());
}

#[test]
fn thousands_of_claims_and_completions_in_one_transaction_fit_the_default_lock_table() {
    let scratch = Scratch::new();
    let (mut wire, mut other) = (scratch.wire(), scratch.wire());
    let keys = thousands_of_keys(&mut wire);
    wire.run("BEGIN");
    wire.run(&format!(
        "DO $$ BEGIN
            FOR n IN 1..{keys} LOOP
                IF (SELECT outcome FROM idempotent_claim('op', 'key ' || n)) <> 'claimed' THEN
                    RAISE EXCEPTION 'not claimed: %', n;
                END IF;
                PERFORM idempotent_complete('op', 'key ' || n, to_jsonb(n));
            END LOOP;
         END $$"
    ));
    let claim = |n: usize| {
        format!("SELECT outcome, response FROM idempotent_claim('op', 'key {n}', wait => '0')")
    };
    // Nobody is let in before COMMIT, at the first key or at the last.
    for n in [1, keys / 2, keys] {
        assert_eq!(
            other.run(&claim(n)).row()[0].as_deref(),
            Some("in_progress"),
            "key {n} of {keys}"
        );
    }
    wire.run("COMMIT");
    for n in [1, keys / 2, keys] {
        assert_eq!(other.run(&claim(n)).row(), [Some("replay".to_owned()), Some(n.to_string())]);
    }
}
