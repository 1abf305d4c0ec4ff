//! Two-phase commit: an open claim cannot be prepared, a finished one can, and its key is held until it is settled.

use client::ask::claim;
use client::watch::wait_for_lock;
use client::{Scratch, Wire};

/// Names of prepared transactions belong to the whole server, so each is made from the session's process.
fn finished_and_prepared(scratch: &Scratch) -> (Wire, String) {
    let mut wire = scratch.wire();
    let slots = wire.run("SHOW max_prepared_transactions").value().to_owned();
    assert_ne!(slots, "0", "these tests need a server with max_prepared_transactions above 0");
    let name = format!("pg_idempotent {}", wire.pid());
    wire.run("CREATE TABLE effect (n integer)");
    wire.run("BEGIN");
    assert_eq!(wire.claim("k", "").outcome, "claimed");
    wire.run("INSERT INTO effect VALUES (1)");
    wire.complete("k", r#"{"prepared": true}"#, "");
    wire.run(&format!("PREPARE TRANSACTION '{name}'"));
    (wire, name)
}

#[test]
fn an_open_claim_cannot_be_prepared() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run("BEGIN");
    assert_eq!(wire.claim("k", "").outcome, "claimed");
    let refused = wire.call(&format!("PREPARE TRANSACTION 'pg_idempotent {}'", wire.pid()));
    assert_eq!(refused.code(), "ID009");
    assert!(
        refused.refusal.is_some_and(|refusal| refusal.hint.is_some()),
        "it is said what to type"
    );
    wire.run("ROLLBACK");
    assert_eq!(wire.replay("k").outcome, "absent");
}

#[test]
fn a_prepared_transaction_holds_its_key_until_it_is_committed() {
    let scratch = Scratch::new();
    let (mut wire, name) = finished_and_prepared(&scratch);
    // From the session that prepared it, and from another: nobody's transaction now.
    for session in [&mut wire, &mut scratch.wire()] {
        assert_eq!(session.claim("k", ", wait => '0'").outcome, "in_progress");
        assert_eq!(session.claim("k", ", wait => '20 ms'").outcome, "in_progress");
        assert_eq!(session.replay("k").outcome, "in_progress");
    }
    wire.run(&format!("COMMIT PREPARED '{name}'"));
    for session in [&mut wire, &mut scratch.wire()] {
        let answer = session.claim("k", ", wait => '0'");
        assert_eq!(
            (answer.outcome.as_str(), answer.response.as_str()),
            ("replay", r#"{"prepared": true}"#)
        );
    }
    assert_eq!(wire.run("SELECT count(*) FROM effect").value(), "1");
}

#[test]
fn the_key_outlives_the_session_that_prepared_it() {
    let scratch = Scratch::new();
    let (wire, name) = finished_and_prepared(&scratch);
    client::watch::terminate(&mut scratch.admin(), wire.pid());
    let mut other = scratch.wire();
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "in_progress");
    other.run(&format!("COMMIT PREPARED '{name}'"));
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "replay");
}

#[test]
fn a_prepared_transaction_that_is_rolled_back_frees_its_key() {
    let scratch = Scratch::new();
    let (mut wire, name) = finished_and_prepared(&scratch);
    wire.run(&format!("ROLLBACK PREPARED '{name}'"));
    assert_eq!(wire.replay("k").outcome, "absent");
    wire.run("BEGIN");
    assert_eq!(wire.claim("k", ", wait => '0'").outcome, "claimed");
    wire.complete("k", "{}", "");
    wire.run("COMMIT");
}

#[test]
fn a_waiter_gets_the_replay_when_the_prepared_transaction_is_committed() {
    let scratch = Scratch::new();
    let (mut wire, name) = finished_and_prepared(&scratch);
    let mut waiter = scratch.wire();
    waiter.send(&claim("k", ", wait => '10 minutes'")).unwrap();
    wait_for_lock(&mut scratch.admin(), waiter.pid());
    wire.run(&format!("COMMIT PREPARED '{name}'"));
    assert_eq!(waiter.answer().outcome, "replay");
}
