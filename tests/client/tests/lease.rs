//! Claims that outlive their transaction: takeover, fences, late holders. A lease that is to lapse is short and is
//! waited for by claiming; a lease that is to hold is long: nothing here depends on a fast machine.

use client::ask::{claim, complete};
use client::watch::{wait_for_nap, wait_until};
use client::{Scratch, Wire};

const SHORT: &str = ", lease => '50 ms'";
const LONG: &str = ", lease => '1 hour'";
/// Waits for the holder's lease to lapse, and holds what it gets.
const TAKE_OVER: &str = ", lease => '1 hour', wait => '10 minutes'";

/// Every way to use a fence that is no longer good must say so.
fn refused_on_every_path(late: &mut Wire, fence: i64) {
    for call in [
        format!("idempotent_complete('op', 'k', '{{}}', fence => {fence})"),
        format!("idempotent_fail('op', 'k', '{{}}', fence => {fence})"),
        format!("idempotent_release('op', 'k', fence => {fence})"),
        format!("idempotent_extend('op', 'k', '1 hour', fence => {fence})"),
        format!("idempotent_checkpoint('op', 'k', '{{}}', fence => {fence})"),
    ] {
        let refused = late.call(&format!("SELECT {call}"));
        assert_eq!(refused.code(), "ID003", "{call}");
        assert!(
            refused.refusal.is_some_and(|refusal| refusal.hint.is_some()),
            "{call} says what to type"
        );
    }
}

/// Until the server's clock has passed a lease's end.
fn wait_for_lapse(wire: &mut Wire, end: &str) {
    wait_until("the lease has lapsed", || {
        wire.run(&format!("SELECT clock_timestamp() > '{end}'")).value() == "t"
    });
}

#[test]
fn a_lapsed_lease_is_taken_over_with_a_higher_fence_and_the_late_holder_is_refused() {
    let scratch = Scratch::new();
    let (mut first, mut second) = (scratch.wire(), scratch.wire());
    let one = first.claim("k", SHORT);
    assert_eq!((one.outcome.as_str(), one.attempt.as_str()), ("claimed", "1"));
    let two = second.claim("k", TAKE_OVER);
    assert_eq!((two.outcome.as_str(), two.attempt.as_str()), ("claimed", "2"));
    assert!(two.fence() > one.fence(), "the fence grows: {} then {}", one.fence(), two.fence());

    refused_on_every_path(&mut first, one.fence());
    second.complete("k", r#"{"by": "second"}"#, &format!(", fence => {}", two.fence()));
    refused_on_every_path(&mut first, one.fence());
    let answer = first.claim("k", LONG);
    assert_eq!(
        (answer.outcome.as_str(), answer.response.as_str()),
        ("replay", r#"{"by": "second"}"#)
    );
}

#[test]
fn fences_grow_over_all_keys() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    let mut last = 0;
    for key in ["a", "b", "c"] {
        let fence = wire.claim(key, LONG).fence();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
}

#[test]
fn a_claim_held_by_its_transaction_has_no_fence() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run("BEGIN");
    let answer = wire.claim("k", "");
    assert_eq!((answer.outcome.as_str(), answer.fence.as_str()), ("claimed", ""));
    wire.run("ROLLBACK");
}

#[test]
fn a_holder_whose_lease_has_lapsed_is_refused_though_nobody_has_taken_over() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    let fence = wire.claim("k", LONG).fence();
    // Cut short by its own holder, so that its end is known.
    let end = wire
        .run(&format!("SELECT idempotent_extend('op', 'k', '50 ms', fence => {fence})"))
        .value()
        .to_owned();
    wait_for_lapse(&mut wire, &end);
    refused_on_every_path(&mut wire, fence);
}

#[test]
fn the_fence_of_another_record_is_refused() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    assert_eq!(wire.claim("k", LONG).outcome, "claimed");
    let of_another = wire.claim("another", LONG).fence();
    refused_on_every_path(&mut wire, of_another);
    assert_eq!(wire.call(&complete("k", "{}", "")).code(), "ID003", "no fence is no good fence");
}

#[test]
fn a_checkpoint_is_handed_to_whoever_takes_over() {
    let scratch = Scratch::new();
    let (mut first, mut second) = (scratch.wire(), scratch.wire());
    let fence = first.claim("k", LONG).fence();
    first.run(&format!(
        r#"SELECT idempotent_checkpoint('op', 'k', '{{"step": 2}}', fence => {fence})"#
    ));
    first.run(&format!("SELECT idempotent_extend('op', 'k', '50 ms', fence => {fence})"));
    let taken = second.claim("k", TAKE_OVER);
    assert_eq!(
        (taken.outcome.as_str(), taken.attempt.as_str(), taken.checkpoint.as_str()),
        ("claimed", "2", r#"{"step": 2}"#)
    );
}

#[test]
fn a_heartbeat_keeps_the_lease() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    let fence = holder.claim("k", ", lease => '10 minutes'").fence();
    let later = holder.run(&format!(
        "SELECT idempotent_extend('op', 'k', '1 hour', fence => {fence}) > clock_timestamp() + interval '50 minutes'"
    ));
    assert_eq!(later.value(), "t");
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "in_progress");
    holder.complete("k", "{}", &format!(", fence => {fence}"));
    assert_eq!(other.claim("k", "").outcome, "replay");
}

#[test]
fn a_released_lease_frees_its_key() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    let one = wire.claim("k", LONG);
    assert_eq!(
        wire.run(&format!("SELECT idempotent_release('op', 'k', fence => {})", one.fence()))
            .value(),
        "t"
    );
    assert_eq!(wire.replay("k").outcome, "absent");
    let two = wire.claim("k", LONG);
    assert_eq!(two.outcome, "claimed");
    assert!(two.fence() > one.fence());
}

#[test]
fn the_same_attempt_asking_again_gets_its_claim_back() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    let mine =
        ", lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000001'";
    let another =
        ", lease => '1 hour', wait => '0', attempt_id => '00000000-0000-4000-8000-000000000002'";
    let first = wire.claim("k", mine);
    assert_eq!(first.outcome, "claimed");
    // The answer got lost, the connection too.
    let mut again = scratch.wire();
    let second = again.claim("k", mine);
    assert_eq!((&second.outcome, &second.attempt), (&first.outcome, &first.attempt));
    assert!(second.fence() >= first.fence(), "an attempt's fence never goes back");
    for other in [another, ", lease => '1 hour', wait => '0'"] {
        assert_eq!(again.claim("k", other).outcome, "in_progress");
    }
    again.complete("k", "{}", &format!(", fence => {}", second.fence()));
    assert_eq!(wire.claim("k", mine).outcome, "replay");
}

#[test]
fn after_a_lapse_an_operation_may_say_unknown_instead_of_running_again() {
    let scratch = Scratch::new();
    scratch
        .admin()
        .batch_execute("SELECT idempotent_operation('op', on_lapse => 'unknown')")
        .unwrap();
    let (mut first, mut second) = (scratch.wire(), scratch.wire());
    let fence = first.claim("k", SHORT).fence();
    assert_eq!(second.claim("k", TAKE_OVER).outcome, "unknown");
    assert_eq!(second.replay("k").outcome, "unknown");
    assert_eq!(second.call(&claim("k", ", strict => true")).code(), "ID005");
    refused_on_every_path(&mut first, fence);
    assert_eq!(second.claim("k", TAKE_OVER).outcome, "unknown", "it stays so");
}

#[test]
fn a_leased_waiter_gets_the_replay_when_the_holder_completes() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    let fence = holder.claim("k", LONG).fence();
    waiter.send(&claim("k", TAKE_OVER)).unwrap();
    wait_for_nap(&mut scratch.admin(), waiter.pid());
    holder.complete("k", r#"{"by": "holder"}"#, &format!(", fence => {fence}"));
    let answer = waiter.answer();
    assert_eq!(
        (answer.outcome.as_str(), answer.response.as_str()),
        ("replay", r#"{"by": "holder"}"#)
    );
}

#[test]
fn a_transaction_waiting_for_a_lease_gets_the_replay_too() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    let fence = holder.claim("k", LONG).fence();
    waiter.run("BEGIN");
    waiter.send(&claim("k", ", wait => '10 minutes'")).unwrap();
    wait_for_nap(&mut scratch.admin(), waiter.pid());
    holder.complete("k", "{}", &format!(", fence => {fence}"));
    assert_eq!(waiter.answer().outcome, "replay");
    waiter.run("COMMIT");
}

#[test]
fn a_wait_for_a_lease_runs_out_and_can_be_cancelled() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    assert_eq!(holder.claim("k", LONG).outcome, "claimed");
    waiter.run("BEGIN");
    let answer = waiter.claim("k", ", wait => '50 ms'");
    assert_eq!(answer.outcome, "in_progress");
    assert_ne!(answer.retry_after, "");
    assert_eq!(waiter.run("SELECT 1").value(), "1", "the transaction is usable");
    waiter.run("SET LOCAL statement_timeout = '100 ms'");
    assert_eq!(waiter.call(&claim("k", ", wait => '10 minutes'")).code(), "57014");
    waiter.run("ROLLBACK; BEGIN");
    waiter.send(&claim("k", ", wait => '10 minutes'")).unwrap();
    let mut admin = scratch.admin();
    wait_for_nap(&mut admin, waiter.pid());
    admin.execute("SELECT pg_cancel_backend($1)", &[&waiter.pid()]).unwrap();
    assert_eq!(waiter.refused(), "57014");
    waiter.run("ROLLBACK");
}

#[test]
fn a_leased_claim_survives_its_transaction_but_not_a_rollback() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", LONG).outcome, "claimed");
    holder.run("ROLLBACK");
    assert_eq!(other.replay("k").outcome, "absent");
    holder.run("BEGIN");
    let fence = holder.claim("k", LONG).fence();
    // No guard for a lease: it is meant to outlive this.
    holder.run("COMMIT");
    client::watch::terminate(&mut scratch.admin(), holder.pid());
    assert_eq!(other.claim("k", ", wait => '0'").outcome, "in_progress");
    other.complete("k", "{}", &format!(", fence => {fence}"));
    assert_eq!(other.replay("k").outcome, "replay");
}

#[test]
fn another_request_is_a_mismatch_before_it_is_in_progress() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    assert_eq!(holder.claim("k", LONG).outcome, "claimed");
    let answer = other.run(
        r#"SELECT outcome, checkpoint FROM idempotent_claim('op', 'k', '{"n": 2}', wait => '0')"#,
    );
    assert_eq!(answer.row()[0].as_deref(), Some("mismatch"));
}
