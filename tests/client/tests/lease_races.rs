//! Leases written in transactions that are still open, while others want the same key.

use client::Scratch;
use client::ask::{claim, complete};
use client::watch::{wait_for_lock, wait_until};

const LONG: &str = ", lease => '1 hour'";
const PATIENT: &str = ", wait => '10 minutes'";

/// A lease so short that it has lapsed soon, held by nobody who still works; its fence.
fn lapsed(scratch: &Scratch, key: &str) -> i64 {
    let mut wire = scratch.wire();
    let fence = wire.claim(key, ", lease => '1 ms'").fence();
    let end = "(SELECT lease_until FROM idempotent.record WHERE key =";
    wait_until("the lease has lapsed", || {
        wire.run(&format!("SELECT clock_timestamp() > {end} '{key}')")).value() == "t"
    });
    fence
}

#[test]
fn a_lease_granted_in_an_open_transaction_is_waited_for() {
    let scratch = Scratch::new();
    for (end, outcome) in [("COMMIT", "in_progress"), ("ROLLBACK", "claimed")] {
        let (mut first, mut second) = (scratch.wire(), scratch.wire());
        first.run("BEGIN");
        assert_eq!(first.claim(end, LONG).outcome, "claimed");
        assert_eq!(second.claim(end, ", wait => '0'").outcome, "in_progress");
        assert_eq!(second.replay(end).outcome, "in_progress");
        second.run("BEGIN");
        second.send(&claim(end, ", wait => '1 s'")).unwrap();
        wait_for_lock(&mut scratch.admin(), second.pid());
        first.run(end);
        assert_eq!(second.answer().outcome, outcome, "after {end}");
        second.run("ROLLBACK");
    }
}

#[test]
fn a_completion_in_an_open_transaction_is_waited_for_though_the_lease_lapses_meanwhile() {
    let scratch = Scratch::new();
    for (end, outcome, attempt) in [("COMMIT", "replay", "1"), ("ROLLBACK", "claimed", "2")] {
        let (mut first, mut second) = (scratch.wire(), scratch.wire());
        let fence = first.claim(end, LONG).fence();
        let lapse = format!("SELECT idempotent_extend('op', '{end}', '300 ms', fence => {fence})");
        let until = first.run(&lapse).value().to_owned();
        first.run("BEGIN");
        if first.call(&complete(end, "{}", &format!(", fence => {fence}"))).code() == "ID003" {
            // Too slow a machine for this lease: nothing is told by going on.
            first.run("ROLLBACK");
            continue;
        }
        wait_until("the lease has lapsed", || {
            second.run(&format!("SELECT clock_timestamp() > '{until}'")).value() == "t"
        });
        assert_eq!(second.claim(end, ", wait => '0', lease => '1 hour'").outcome, "in_progress");
        second.send(&claim(end, ", wait => '10 minutes', lease => '1 hour'")).unwrap();
        wait_for_lock(&mut scratch.admin(), second.pid());
        first.run(end);
        let answer = second.answer();
        assert_eq!(
            (answer.outcome.as_str(), answer.attempt.as_str()),
            (outcome, attempt),
            "after {end}"
        );
    }
}

#[test]
fn a_takeover_in_an_open_transaction_is_waited_for() {
    let scratch = Scratch::new();
    for (end, outcome) in [("COMMIT", "in_progress"), ("ROLLBACK", "claimed")] {
        let stale = lapsed(&scratch, end);
        let (mut second, mut third) = (scratch.wire(), scratch.wire());
        second.run("BEGIN");
        let taken = second.claim(end, LONG);
        assert_eq!((taken.outcome.as_str(), taken.attempt.as_str()), ("claimed", "2"));
        assert_eq!(third.claim(end, ", wait => '0', lease => '1 hour'").outcome, "in_progress");
        third.send(&claim(end, ", wait => '1 s', lease => '1 hour'")).unwrap();
        wait_for_lock(&mut scratch.admin(), third.pid());
        second.run(end);
        let answer = third.answer();
        assert_eq!(answer.outcome, outcome, "after {end}");
        if outcome == "claimed" {
            assert!(
                answer.fence() > taken.fence() && taken.fence() > stale,
                "no fence is granted twice"
            );
        }
    }
}

#[test]
fn a_late_completion_beside_an_uncommitted_takeover_is_refused() {
    let scratch = Scratch::new();
    let stale = lapsed(&scratch, "k");
    let (mut late, mut second) = (scratch.wire(), scratch.wire());
    second.run("BEGIN");
    let fence = second.claim("k", LONG).fence();
    late.send(&complete("k", r#"{"by": "late"}"#, &format!(", fence => {stale}"))).unwrap();
    wait_for_lock(&mut scratch.admin(), late.pid());
    second.run("COMMIT");
    assert_eq!(late.refused(), "ID003");
    second.complete("k", r#"{"by": "second"}"#, &format!(", fence => {fence}"));
    assert_eq!(late.replay("k").response, r#"{"by": "second"}"#);
}

#[test]
fn a_completion_beside_an_uncommitted_heartbeat_waits_for_it() {
    let scratch = Scratch::new();
    let (mut worker, mut heart) = (scratch.wire(), scratch.wire());
    let fence = worker.claim("k", LONG).fence();
    heart.run("BEGIN");
    heart.run(&format!("SELECT idempotent_extend('op', 'k', '2 hours', fence => {fence})"));
    worker.send(&complete("k", "{}", &format!(", fence => {fence}"))).unwrap();
    wait_for_lock(&mut scratch.admin(), worker.pid());
    heart.run("COMMIT");
    assert_eq!(worker.receive().unwrap().code(), "");
    assert_eq!(worker.replay("k").outcome, "replay");
}

#[test]
fn a_completion_beside_an_uncommitted_release_is_refused_once_that_commits() {
    let scratch = Scratch::new();
    let (mut worker, mut other) = (scratch.wire(), scratch.wire());
    let fence = worker.claim("k", LONG).fence();
    other.run("BEGIN");
    assert_eq!(
        other.run(&format!("SELECT idempotent_release('op', 'k', fence => {fence})")).value(),
        "t"
    );
    worker.send(&complete("k", "{}", &format!(", fence => {fence}"))).unwrap();
    wait_for_lock(&mut scratch.admin(), worker.pid());
    other.run("COMMIT");
    let refused = worker.refused();
    assert!(["ID003", "ID007"].contains(&refused.as_str()), "the key was given back: {refused:?}");
    assert_eq!(worker.replay("k").outcome, "absent");
}

#[test]
fn wait_zero_does_not_wait_for_an_uncommitted_release_of_a_lapsed_lease() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    let fence = holder.claim("k", LONG).fence();
    let cut = format!("SELECT idempotent_extend('op', 'k', '300 ms', fence => {fence})");
    let until = holder.run(&cut).value().to_owned();
    holder.run("BEGIN");
    let released = holder.call(&format!("SELECT idempotent_release('op', 'k', fence => {fence})"));
    if released.code() == "ID003" {
        // Too slow a machine for this lease: nothing is told by going on.
        return;
    }
    wait_until("the lease has lapsed", || {
        other.run(&format!("SELECT clock_timestamp() > '{until}'")).value() == "t"
    });
    // Were it to wait, it would do so until the holder ends, and that ends below.
    other.run("SET statement_timeout = '20 s'");
    let answer = other.call(&claim("k", ", wait => '0', lease => '1 hour'"));
    assert_eq!(answer.code(), "", "it waited for the holder's transaction");
    assert_eq!(answer.row()[0].as_deref(), Some("in_progress"));
    holder.run("COMMIT");
    assert_eq!(other.claim("k", ", wait => '0', lease => '1 hour'").outcome, "claimed");
}

#[test]
fn repeatable_read_is_refused_when_a_lease_it_saw_is_completed_after_its_snapshot() {
    let scratch = Scratch::new();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let (mut holder, mut late) = (scratch.wire(), scratch.wire());
        let fence = holder.claim(level, LONG).fence();
        late.run(&format!("BEGIN ISOLATION LEVEL {level}"));
        late.run("SELECT count(*) FROM pg_class");
        // The holder's own rows would commit with this, unseen by the other's snapshot.
        holder.complete(level, "{}", &format!(", fence => {fence}"));
        assert_eq!(late.call(&claim(level, PATIENT)).code(), "40001", "{level}");
        late.run("ROLLBACK");
        assert_eq!(late.claim(level, "").outcome, "replay");
    }
}

#[test]
fn a_lease_can_be_prepared_with_its_transaction() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    let name = format!("pg_idempotent lease {}", holder.pid());
    holder.run("BEGIN");
    let fence = holder.claim("k", LONG).fence();
    holder.run(&format!("PREPARE TRANSACTION '{name}'"));
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "in_progress");
    assert_eq!(other.replay("k").outcome, "in_progress");
    holder.run(&format!("COMMIT PREPARED '{name}'"));
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "in_progress");
    other.complete("k", "{}", &format!(", fence => {fence}"));
    assert_eq!(other.replay("k").outcome, "replay");
}
