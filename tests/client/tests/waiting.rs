//! What a claim does while another transaction holds the key.

use client::ask::{claim, complete};
use client::watch::{terminate, wait_for_lock, wait_for_nap};
use client::{Scratch, Wire};

const PATIENT: &str = ", wait => '10 minutes'";

/// Two sessions: the first holds `key` in an open transaction, the second has claimed it and waits.
fn holder_and_waiter(scratch: &Scratch, key: &str) -> (Wire, Wire) {
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim(key, "").outcome, "claimed");
    waiter.run("BEGIN");
    waiter.send(&claim(key, PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), waiter.pid());
    (holder, waiter)
}

#[test]
fn the_waiter_gets_the_replay_when_the_holder_commits() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = holder_and_waiter(&scratch, "k");
    holder.complete("k", r#"{"by": "holder"}"#, "");
    holder.run("COMMIT");
    let answer = waiter.answer();
    assert_eq!(
        (answer.outcome.as_str(), answer.response.as_str()),
        ("replay", r#"{"by": "holder"}"#)
    );
    waiter.run("COMMIT");
}

#[test]
fn the_waiter_gets_the_claim_when_the_holder_rolls_back() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = holder_and_waiter(&scratch, "k");
    holder.complete("k", r#"{"by": "holder"}"#, "");
    holder.run("ROLLBACK");
    assert_eq!(waiter.answer().outcome, "claimed");
    waiter.complete("k", r#"{"by": "waiter"}"#, "");
    waiter.run("COMMIT");
    assert_eq!(holder.replay("k").response, r#"{"by": "waiter"}"#);
}

#[test]
fn the_waiter_gets_the_claim_when_the_holder_rolls_back_to_a_savepoint_before_its_claim() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN; SAVEPOINT before");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    waiter.run("BEGIN");
    waiter.send(&claim("k", PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), waiter.pid());
    holder.run("ROLLBACK TO before");
    assert_eq!(waiter.answer().outcome, "claimed");
    holder.run("COMMIT");
    waiter.complete("k", "{}", "");
    waiter.run("COMMIT");
}

#[test]
fn the_waiter_gets_the_claim_when_the_holder_gives_the_key_back() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = holder_and_waiter(&scratch, "k");
    assert_eq!(holder.run("SELECT idempotent_release('op', 'k')").value(), "t");
    holder.run("COMMIT");
    assert_eq!(waiter.answer().outcome, "claimed");
    waiter.complete("k", "{}", "");
    waiter.run("COMMIT");
}

#[test]
fn a_killed_holder_frees_its_key_at_once() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = holder_and_waiter(&scratch, "k");
    holder.complete("k", r#"{"by": "holder"}"#, "");
    terminate(&mut scratch.admin(), holder.pid());
    assert_eq!(waiter.answer().outcome, "claimed");
    waiter.complete("k", r#"{"by": "waiter"}"#, "");
    waiter.run("COMMIT");
    assert_eq!(scratch.wire().replay("k").response, r#"{"by": "waiter"}"#);
}

#[test]
fn a_holder_whose_connection_is_lost_frees_its_key() {
    let scratch = Scratch::new();
    let (holder, mut waiter) = holder_and_waiter(&scratch, "k");
    holder.throw_away();
    assert_eq!(waiter.answer().outcome, "claimed");
    waiter.run("ROLLBACK");
}

#[test]
fn of_many_waiters_one_gets_the_claim_and_the_others_its_answer() {
    let scratch = Scratch::new();
    let (mut holder, first) = holder_and_waiter(&scratch, "k");
    let mut waiters = vec![first];
    for _ in 0..4 {
        let mut waiter = scratch.wire();
        waiter.run("BEGIN");
        waiter.send(&claim("k", PATIENT)).unwrap();
        wait_for_lock(&mut scratch.admin(), waiter.pid());
        waiters.push(waiter);
    }
    holder.run("ROLLBACK");
    // The lock manager's queue is first come, first served.
    assert_eq!(waiters[0].answer().outcome, "claimed");
    waiters[0].complete("k", r#"{"by": "first waiter"}"#, "");
    waiters[0].run("COMMIT");
    for waiter in &mut waiters[1..] {
        let answer = waiter.answer();
        assert_eq!(
            (answer.outcome.as_str(), answer.response.as_str()),
            ("replay", r#"{"by": "first waiter"}"#)
        );
        waiter.run("COMMIT");
    }
}

#[test]
fn wait_zero_answers_in_progress_at_once() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    let answer = other.claim("k", ", wait => '0'");
    assert_eq!(answer.outcome, "in_progress");
    assert_ne!(answer.retry_after, "", "it is said when to ask again");
    let refused = other.call(&claim("k", ", wait => '0', strict => true"));
    assert_eq!(refused.code(), "ID001");
    holder.run("ROLLBACK");
    assert_eq!(
        other.run(&format!("BEGIN; {}; ROLLBACK", claim("k", ", wait => '0'"))).rows[0][0]
            .as_deref(),
        Some("claimed")
    );
}

#[test]
fn replay_says_in_progress_while_a_transaction_holds_the_key_and_keeps_nothing() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    other.run("BEGIN");
    assert_eq!(other.replay("k").outcome, "in_progress");
    assert_eq!(other.replay("free").outcome, "absent");
    assert_eq!(
        other.run("SELECT pg_current_xact_id_if_assigned()").value(),
        "",
        "no transaction id is burned"
    );
    let held = other.run(
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    );
    assert_eq!(held.value(), "0", "the probe keeps no lock");
    // So the key is free for others while that transaction goes on.
    assert_eq!(holder.claim("free", ", wait => '0'").outcome, "claimed");
    other.run("COMMIT");
    holder.run("ROLLBACK");
}

/// `session` is set before; SHOW lock_timeout must say `timeout` after.
fn a_wait_that_ran_out(session: &str, timeout: &str) {
    let scratch = Scratch::new();
    scratch.admin().batch_execute("CREATE TABLE note (text text)").unwrap();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    waiter.run(session);
    // A wait without end is to fail, not to hang.
    waiter.run("SET statement_timeout = '20 s'");
    waiter.run("BEGIN");
    waiter.run("INSERT INTO note VALUES ('before')");
    assert_eq!(waiter.claim("k", ", wait => '50 ms'").outcome, "in_progress");
    assert_eq!(waiter.run("SHOW lock_timeout").value(), timeout);
    waiter.run("INSERT INTO note VALUES ('after')");
    assert_eq!(waiter.claim("other", "").outcome, "claimed");
    waiter.complete("other", "{}", "");
    waiter.run("COMMIT");
    assert_eq!(waiter.run("SHOW lock_timeout").value(), timeout);
    assert_eq!(waiter.run("SELECT count(*) FROM note").value(), "2");
    // Nothing is held for the key that was not got.
    holder.run("ROLLBACK");
    assert_eq!(scratch.wire().replay("k").outcome, "absent");
}

#[test]
fn a_wait_that_ran_out_leaves_the_transaction_usable() {
    a_wait_that_ran_out("SELECT 1", "0");
}

#[test]
fn a_wait_that_ran_out_leaves_lock_timeout_as_it_was() {
    a_wait_that_ran_out("SET lock_timeout = '7 s'", "7s");
}

#[test]
fn a_wait_that_succeeded_leaves_lock_timeout_as_it_was() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    waiter.run("BEGIN; SET LOCAL lock_timeout = '9 min'");
    waiter.send(&claim("k", PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), waiter.pid());
    holder.complete("k", "{}", "");
    holder.run("COMMIT");
    assert_eq!(waiter.answer().outcome, "replay");
    assert_eq!(waiter.run("SHOW lock_timeout").value(), "9min");
    waiter.run("COMMIT");
    assert_eq!(waiter.run("SHOW lock_timeout").value(), "0");
}

#[test]
fn statement_timeout_ends_a_wait() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    waiter.run("SET statement_timeout = '100 ms'");
    assert_eq!(waiter.call(&claim("k", PATIENT)).code(), "57014");
    waiter.run("SET statement_timeout = 0");
    holder.complete("k", "{}", "");
    holder.run("COMMIT");
    assert_eq!(waiter.claim("k", "").outcome, "replay");
}

#[test]
fn cancel_ends_a_wait() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = holder_and_waiter(&scratch, "k");
    let cancelled: bool =
        scratch.admin().query_one("SELECT pg_cancel_backend($1)", &[&waiter.pid()]).unwrap().get(0);
    assert!(cancelled);
    assert_eq!(waiter.refused(), "57014");
    waiter.run("ROLLBACK");
    holder.run("ROLLBACK");
    assert_eq!(
        waiter.run(&format!("BEGIN; {}; ROLLBACK", claim("k", ""))).rows[0][0].as_deref(),
        Some("claimed")
    );
}

#[test]
fn of_two_sessions_with_two_keys_crosswise_one_is_refused_and_the_other_goes_on() {
    let scratch = Scratch::new();
    let (mut a, mut b) = (scratch.wire(), scratch.wire());
    a.run("BEGIN");
    b.run("BEGIN");
    assert_eq!(a.claim("one", "").outcome, "claimed");
    assert_eq!(b.claim("two", "").outcome, "claimed");
    a.send(&claim("two", PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), a.pid());
    // The deadlock detector ends one of the two waits: which one is its business. The other ends when the loser has
    // rolled back, and not before: so whoever is refused is found by looking at who got out of the queue.
    b.send(&claim("one", PATIENT)).unwrap();
    let mut admin = scratch.admin();
    let mut loser = 0;
    client::watch::wait_until("one of the two is out of the queue", || {
        let waiting: Vec<i32> = admin
            .query(
                "SELECT pid FROM pg_locks WHERE NOT granted AND pid IN ($1, $2)",
                &[&a.pid(), &b.pid()],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let failed: Vec<i32> = admin
            .query(
                "SELECT pid FROM pg_stat_activity WHERE pid IN ($1, $2) AND state = 'idle in transaction (aborted)'",
                &[&a.pid(), &b.pid()],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        loser = failed.first().copied().unwrap_or(0);
        waiting.len() < 2 && loser != 0
    });
    let (mut loser, mut winner, kept) =
        if loser == a.pid() { (a, b, "two") } else { (b, a, "one") };
    assert_eq!(loser.refused(), "40P01");
    loser.run("ROLLBACK");
    assert_eq!(winner.answer().outcome, "claimed");
    for key in ["one", "two"] {
        winner.complete(key, &format!(r#""{key}""#), "");
    }
    winner.run("COMMIT");
    assert_eq!(loser.claim(kept, "").outcome, "replay");
}

#[test]
fn a_waiter_that_gave_up_does_not_keep_the_key_from_the_next() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    holder.run("BEGIN");
    assert_eq!(holder.claim("k", "").outcome, "claimed");
    waiter.run("BEGIN");
    assert_eq!(waiter.claim("k", ", wait => '20 ms'").outcome, "in_progress");
    holder.run("ROLLBACK");
    // The one that gave up still has its transaction open.
    let mut next = scratch.wire();
    next.run("BEGIN");
    assert_eq!(next.claim("k", ", wait => '0'").outcome, "claimed");
    next.run(&complete("k", "{}", ""));
    next.run("COMMIT");
    assert_eq!(waiter.claim("k", ", wait => '0'").outcome, "replay");
    waiter.run("COMMIT");
}

/// The record that is waited for may have been made by settings that are newer than the call: by another holder of the lease.
#[test]
fn exclusions_that_came_while_it_waited_count() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    let asking = |more: &str| {
        format!(
            "SELECT * FROM idempotent_claim('op', 'k', '{{\"amount\": 1, \"sent_at\": 1}}'{more})"
        )
    };
    holder.send(&asking(", lease => '1 hour'")).unwrap();
    let fence = holder.answer().fence();
    waiter.send(&asking(PATIENT)).unwrap();
    wait_for_nap(&mut scratch.admin(), waiter.pid());
    holder.run("SELECT idempotent_operation('op', fingerprint_exclude => ARRAY['sent_at'])");
    holder.run("BEGIN");
    holder.run(&format!("SELECT idempotent_forget('op', 'k', fence => {fence})"));
    holder.send(&asking("")).unwrap();
    assert_eq!(holder.answer().outcome, "claimed");
    holder.complete("k", "{}", "");
    holder.run("COMMIT");
    assert_eq!(waiter.answer().outcome, "replay");
}
