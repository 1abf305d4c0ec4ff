//! A transaction that holds more keys than its share of the lock table: the last of them behave like the first.

use client::ask::{claim, complete};
use client::watch::{terminate, wait_for_lock};
use client::{Scratch, Wire};

const PATIENT: &str = ", wait => '10 minutes'";
/// Well past max_locks_per_transaction.
const KEYS: usize = 200;
const LAST: &str = "key 200";

/// Claims all keys in an open transaction.
fn holder(scratch: &Scratch) -> Wire {
    let mut wire = scratch.wire();
    wire.run("BEGIN");
    for n in 1..=KEYS {
        assert_eq!(wire.claim(&format!("key {n}"), "").outcome, "claimed");
    }
    wire
}

fn complete_all(wire: &mut Wire) {
    for n in 1..=KEYS {
        wire.complete(&format!("key {n}"), &n.to_string(), "");
    }
}

fn waiter(scratch: &Scratch, begin: &str) -> Wire {
    let mut wire = scratch.wire();
    wire.run(begin);
    wire.run("SELECT count(*) FROM pg_class");
    wire.send(&claim(LAST, PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), wire.pid());
    wire
}

#[test]
fn the_last_key_is_in_progress_for_others_and_claimed_again_for_its_holder() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    let mut other = scratch.wire();
    for key in ["key 1", LAST] {
        assert_eq!(other.claim(key, ", wait => '0'").outcome, "in_progress", "{key}");
        assert_eq!(other.claim(key, ", wait => '20 ms'").outcome, "in_progress", "{key}");
        assert_eq!(other.replay(key).outcome, "in_progress", "{key}");
        assert_eq!(holder.claim(key, "").outcome, "claimed", "{key}");
    }
    complete_all(&mut holder);
    for key in ["key 1", LAST] {
        assert_eq!(other.claim(key, ", wait => '0'").outcome, "in_progress", "{key}");
        assert_eq!(holder.claim(key, "").outcome, "replay", "{key}");
    }
    holder.run("COMMIT");
    for (key, answer) in [("key 1", "1"), (LAST, "200")] {
        assert_eq!(other.claim(key, ", wait => '0'").response, answer);
    }
}

#[test]
fn one_forgotten_among_many_refuses_the_commit() {
    let scratch = Scratch::new();
    for forgotten in ["key 1", LAST] {
        let mut holder = holder(&scratch);
        for n in 1..=KEYS {
            let key = format!("key {n}");
            if key != forgotten {
                holder.complete(&key, "{}", "");
            }
        }
        assert_eq!(holder.call("COMMIT").code(), "ID009", "{forgotten}");
        assert_eq!(holder.replay(LAST).outcome, "absent");
    }
}

#[test]
fn the_waiter_for_the_last_key_gets_the_replay_or_the_claim() {
    let scratch = Scratch::new();
    let mut rolled_back = holder(&scratch);
    let mut first = waiter(&scratch, "BEGIN");
    complete_all(&mut rolled_back);
    rolled_back.run("ROLLBACK");
    assert_eq!(first.answer().outcome, "claimed");
    first.run("ROLLBACK");

    let killed = holder(&scratch);
    let mut second = waiter(&scratch, "BEGIN");
    terminate(&mut scratch.admin(), killed.pid());
    assert_eq!(second.answer().outcome, "claimed");
    second.run("ROLLBACK");

    let mut committed = holder(&scratch);
    let mut third = waiter(&scratch, "BEGIN");
    let mut frozen = waiter(&scratch, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    complete_all(&mut committed);
    committed.run("COMMIT");
    assert_eq!(third.answer().response, "200");
    assert_eq!(frozen.refused(), "40001");
}

#[test]
fn waiting_for_the_last_key_can_be_cancelled_and_timed_out() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    let mut waiting = waiter(&scratch, "BEGIN");
    scratch.admin().execute("SELECT pg_cancel_backend($1)", &[&waiting.pid()]).unwrap();
    assert_eq!(waiting.refused(), "57014");
    waiting.run("ROLLBACK; BEGIN; SET LOCAL statement_timeout = '100 ms'");
    assert_eq!(waiting.call(&claim(LAST, PATIENT)).code(), "57014");
    waiting.run("ROLLBACK");
    holder.run("ROLLBACK");
}

#[test]
fn two_transactions_with_many_keys_crosswise_are_a_deadlock_for_one() {
    let scratch = Scratch::new();
    let mut a = holder(&scratch);
    let mut b = scratch.wire();
    b.run("BEGIN");
    assert_eq!(b.claim("b", "").outcome, "claimed");
    a.send(&claim("b", PATIENT)).unwrap();
    wait_for_lock(&mut scratch.admin(), a.pid());
    // Both wait for longer than anybody looks for deadlocks, so this returns: for the loser with 40P01, or for the
    // one that went on because the other lost.
    let reply = b.call(&claim(LAST, PATIENT));
    if reply.code().is_empty() {
        assert_eq!(reply.row()[0].as_deref(), Some("claimed"));
        assert_eq!(a.refused(), "40P01");
    } else {
        assert_eq!(reply.code(), "40P01");
        b.run("ROLLBACK");
        assert_eq!(a.answer().outcome, "claimed");
        a.run("ROLLBACK");
    }
}

#[test]
fn savepoints_take_their_keys_with_them() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    let mut other = scratch.wire();
    wire.run("BEGIN");
    for n in 1..=KEYS {
        let key = format!("key {n}");
        wire.run("SAVEPOINT s");
        assert_eq!(wire.claim(&key, "").outcome, "claimed");
        if n % 2 == 0 {
            wire.complete(&key, &n.to_string(), "");
            wire.run("RELEASE s");
        } else {
            if n % 3 == 0 {
                wire.complete(&key, &n.to_string(), "");
            }
            wire.run("ROLLBACK TO s; RELEASE s");
            // Free at once, for anybody.
            let claim_and_undo = format!("BEGIN; {}; ROLLBACK", claim(&key, ", wait => '0'"));
            assert_eq!(other.run(&claim_and_undo).rows[0][0].as_deref(), Some("claimed"), "{key}");
        }
    }
    // Completed, then undone: open again, as before the savepoint.
    wire.claim("again", "");
    wire.run("SAVEPOINT s");
    wire.run(&complete("again", "1", ""));
    wire.run("ROLLBACK TO s");
    assert_eq!(wire.claim("again", "").outcome, "claimed");
    wire.complete("again", "2", "");
    wire.run("COMMIT");
    for n in 1..=KEYS {
        let answer = other.replay(&format!("key {n}"));
        if n % 2 == 0 {
            assert_eq!((answer.outcome.as_str(), answer.response), ("replay", n.to_string()));
        } else {
            assert_eq!(answer.outcome, "absent");
        }
    }
    assert_eq!(other.replay("again").response, "2");
}

#[test]
fn many_keys_can_be_prepared_and_are_held_until_that_is_settled() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    let name = format!("pg_idempotent many {}", holder.pid());
    complete_all(&mut holder);
    holder.run(&format!("PREPARE TRANSACTION '{name}'"));
    let mut other = scratch.wire();
    for key in ["key 1", LAST] {
        assert_eq!(other.claim(key, ", wait => '0'").outcome, "in_progress", "{key}");
        assert_eq!(holder.replay(key).outcome, "in_progress", "{key}");
    }
    let mut waiting = waiter(&scratch, "BEGIN");
    holder.run(&format!("COMMIT PREPARED '{name}'"));
    assert_eq!(waiting.answer().response, "200");
    assert_eq!(other.claim("key 1", ", wait => '0'").response, "1");
}

#[test]
fn a_key_given_back_late_in_a_big_transaction_can_be_had_once_it_ends() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    for n in 1..=KEYS {
        assert_eq!(holder.run(&format!("SELECT idempotent_release('op', 'key {n}')")).value(), "t");
    }
    let mut waiting = waiter(&scratch, "BEGIN");
    holder.run("COMMIT");
    assert_eq!(waiting.answer().outcome, "claimed");
    waiting.run("ROLLBACK");
}
