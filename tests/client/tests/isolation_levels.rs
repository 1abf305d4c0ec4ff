//! REPEATABLE READ, SERIALIZABLE, READ ONLY: the answer is right for the snapshot, or the transaction is refused.

use client::Scratch;
use client::ask::claim;
use client::watch::wait_for_lock;

const RUN: &str = "SELECT outcome FROM idempotent_run('op', 'k', '{}', 'work(jsonb)')";
const WORK: &str =
    "CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''1''::jsonb'";

/// The winner commits after the snapshot was taken: 40001 at the claim, and the next attempt gets the replay.
fn a_winner_newer_than_the_snapshot(level: &str) {
    let scratch = Scratch::new();
    let (mut late, mut winner) = (scratch.wire(), scratch.wire());
    late.run(&format!("BEGIN ISOLATION LEVEL {level}"));
    late.run("SELECT count(*) FROM pg_class");
    winner.run("BEGIN");
    assert_eq!(winner.claim("k", "").outcome, "claimed");
    winner.complete("k", "{}", "");
    winner.run("COMMIT");
    assert_eq!(late.call(&claim("k", "")).code(), "40001");
    late.run("ROLLBACK");

    late.run(&format!("BEGIN ISOLATION LEVEL {level}"));
    assert_eq!(late.claim("k", "").outcome, "replay");
    late.run("COMMIT");
}

/// The same, but the claim is already waiting when the winner commits.
fn a_winner_waited_for(level: &str) {
    let scratch = Scratch::new();
    let (mut late, mut winner) = (scratch.wire(), scratch.wire());
    winner.run("BEGIN");
    assert_eq!(winner.claim("k", "").outcome, "claimed");
    late.run(&format!("BEGIN ISOLATION LEVEL {level}"));
    late.run("SELECT count(*) FROM pg_class");
    late.send(&claim("k", ", wait => '10 minutes'")).unwrap();
    wait_for_lock(&mut scratch.admin(), late.pid());
    winner.complete("k", "{}", "");
    winner.run("COMMIT");
    assert_eq!(late.refused(), "40001");
    late.run("ROLLBACK");
    assert_eq!(late.claim("k", "").outcome, "replay");
}

/// A holder that rolls back leaves nothing newer than anything: the claim goes on.
fn a_loser_waited_for(level: &str) {
    let scratch = Scratch::new();
    let (mut late, mut holder) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    late.run(&format!("BEGIN ISOLATION LEVEL {level}"));
    late.run("SELECT count(*) FROM pg_class");
    late.send(&claim("k", ", wait => '10 minutes'")).unwrap();
    wait_for_lock(&mut scratch.admin(), late.pid());
    holder.complete("k", "{}", "");
    holder.run("ROLLBACK");
    assert_eq!(late.answer().outcome, "claimed");
    late.complete("k", r#"{"by": "late"}"#, "");
    late.run("COMMIT");
    assert_eq!(holder.replay("k").response, r#"{"by": "late"}"#);
}

#[test]
fn repeatable_read_is_refused_when_the_winner_is_newer_than_its_snapshot() {
    a_winner_newer_than_the_snapshot("REPEATABLE READ");
}

#[test]
fn serializable_is_refused_when_the_winner_is_newer_than_its_snapshot() {
    a_winner_newer_than_the_snapshot("SERIALIZABLE");
}

#[test]
fn repeatable_read_is_refused_when_the_winner_commits_while_it_waits() {
    a_winner_waited_for("REPEATABLE READ");
}

#[test]
fn serializable_is_refused_when_the_winner_commits_while_it_waits() {
    a_winner_waited_for("SERIALIZABLE");
}

#[test]
fn repeatable_read_claims_when_the_holder_rolls_back_while_it_waits() {
    a_loser_waited_for("REPEATABLE READ");
}

#[test]
fn serializable_claims_when_the_holder_rolls_back_while_it_waits() {
    a_loser_waited_for("SERIALIZABLE");
}

#[test]
fn a_read_only_transaction_cannot_claim_but_can_replay() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute(WORK).unwrap();
    let mut wire = scratch.wire();
    for call in [claim("k", ""), RUN.to_owned(), claim("k", ", lease => '1 minute'")] {
        wire.run("BEGIN READ ONLY");
        assert_eq!(wire.call(&call).code(), "25006", "{call}");
        wire.run("ROLLBACK");
    }
    assert_eq!(wire.run(RUN).value(), "executed");
    wire.run("BEGIN READ ONLY");
    assert_eq!(wire.replay("k").outcome, "replay");
    assert_eq!(wire.replay("another").outcome, "absent");
    wire.run("COMMIT");
}
