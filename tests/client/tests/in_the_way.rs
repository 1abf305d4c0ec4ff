//! Who is in whose way, and what is said of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use client::ask::{claim, complete, is_usable};
use client::watch::wait_for_lock;
use client::{Scratch, Wire};

const MOVE: &str = "SELECT idempotent_operation('op', durability => 'logged')";

/// What a session without patience is told, which must say all of this.
fn refused(wire: &mut Wire, statement: &str, says: &[&str]) {
    wire.run("SET lock_timeout = '50ms'");
    let reply = wire.call(statement);
    let refusal = reply.refusal.expect("somebody is in the way");
    assert_eq!(refusal.code, "55P03", "{refusal:?}");
    let detail = refusal.detail.unwrap_or_default();
    for words in says {
        assert!(detail.contains(words), "{words} in {detail}");
    }
    wire.run("RESET lock_timeout");
}

#[test]
fn a_change_of_durability_says_who_is_in_its_way() {
    let scratch = Scratch::new();
    let (mut one, mut two, mut admin) = (scratch.wire(), scratch.wire(), scratch.wire());
    admin.run("SELECT idempotent_operation('gone')");
    one.run("BEGIN");
    one.claim("k", "");
    // Of another operation: it may still come to claim a key of this one, and is waited for.
    two.run("BEGIN; SELECT idempotent_claim('other', 'k'); SELECT idempotent_complete('other', 'k'); PREPARE TRANSACTION 'in the way'");
    let holder = format!("process {}", one.pid());
    let both = [holder.as_str(), "the prepared transaction 'in the way'"];
    refused(&mut admin, MOVE, &both);
    refused(&mut admin, "SELECT idempotent_operation_drop('gone')", &both);
    // Only what moves something waits.
    admin.run("SELECT idempotent_operation('op', retention => '2 days')");
    admin.run("SELECT idempotent_operation('op', durability => 'unlogged')");
    admin.run("SELECT idempotent_operation_drop('never configured')");
    two.run("ROLLBACK PREPARED 'in the way'");
    one.run("ROLLBACK");
    // By hand the same is said.
    one.run("BEGIN");
    one.claim("k", "");
    refused(
        &mut admin,
        "INSERT INTO idempotent.operation (name, durability) VALUES ('hand', 'logged')",
        &[&holder],
    );
    one.run("ROLLBACK");
    admin.run(MOVE);
}

#[test]
fn another_change_of_the_same_operation_is_waited_for_and_named() {
    let scratch = Scratch::new();
    let (mut one, mut two) = (scratch.wire(), scratch.wire());
    one.run("BEGIN");
    one.run(MOVE);
    let mover = format!("process {}", one.pid());
    refused(&mut two, MOVE, &[&mover]);
    refused(&mut two, "SELECT idempotent_operation('op', wait => '1 s')", &[&mover]);
    // Another operation is nobody's concern, nor is any call of it.
    two.run("SELECT idempotent_operation('other', wait => '1 s')");
    two.run("BEGIN; SELECT idempotent_claim('other', 'k', wait => '0'); SELECT idempotent_complete('other', 'k'); COMMIT");
    one.run("COMMIT");
    assert_eq!(
        two.run("SELECT durability FROM idempotent.operation WHERE name = 'op'").value(),
        "logged"
    );
}

#[test]
fn a_call_that_came_while_the_change_waited_is_named_too() {
    let scratch = Scratch::new();
    let (mut first, mut caller, mut admin) = (scratch.wire(), scratch.wire(), scratch.wire());
    first.run("BEGIN");
    first.claim("one", "");
    admin.run("SET client_min_messages = warning; SET lock_timeout = '10 min'");
    admin.send(MOVE).unwrap();
    wait_for_lock(&mut scratch.admin(), admin.pid());
    // It goes on at once, and so does a second call of its transaction while the change waits for it alone.
    caller.run("BEGIN");
    assert_eq!(caller.claim("two", ", wait => '0'").outcome, "claimed");
    first.run("ROLLBACK");
    wait_for_lock(&mut scratch.admin(), admin.pid());
    assert_eq!(caller.claim("three", ", wait => '0'").outcome, "claimed");
    for key in ["two", "three"] {
        caller.run(&complete(key, "{}", ""));
    }
    caller.run("COMMIT");
    admin.receive().unwrap();
    let moved = "SELECT count(*) FROM idempotent.record_logged WHERE operation = 'op'";
    assert_eq!(admin.run(moved).value(), "2");
}

#[test]
fn calls_that_finish_outlast_the_wait_of_those_that_begin() {
    let scratch = Scratch::new();
    let (mut holder, mut admin) = (scratch.wire(), scratch.wire());
    admin.run("SELECT idempotent_operation('op', wait => '0')");
    let fence = holder.claim("leased", ", lease => '1 hour'").fence();
    admin.run("BEGIN; LOCK TABLE idempotent.record");
    assert_eq!(holder.claim("new", "").outcome, "in_progress");
    holder.send(&complete("leased", "{}", &format!(", fence => {fence}"))).unwrap();
    wait_for_lock(&mut scratch.admin(), holder.pid());
    admin.run("COMMIT");
    assert!(holder.receive().unwrap().refusal.is_none());
    assert_eq!(holder.replay("leased").outcome, "replay");
}

/// Sets the flag when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A cancel that strikes while a transaction commits, with a claim to be guarded, a constraint and a trigger of ours that were
/// put off to the end, ends the statement and never the connection.
#[test]
fn a_cancel_at_commit_ends_no_connection() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    wire.run(
        "CREATE TABLE effect (n integer, CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'INSERT INTO effect VALUES (request::integer); SELECT request'",
    );
    let (pid, done, calm) = (wire.pid(), AtomicBool::new(false), AtomicBool::new(false));
    let cancelled = thread::scope(|scope| {
        scope.spawn(|| {
            let mut admin = scratch.admin();
            while !done.load(Ordering::Relaxed) {
                if calm.load(Ordering::Relaxed) {
                    thread::yield_now();
                    continue;
                }
                admin
                    .execute("SELECT pg_cancel_backend($1)", &[&pid])
                    .expect("the admin's connection answers");
            }
        });
        // Also when an assertion fails, or the scope would wait for the thread for ever.
        let _over = Over(&done);
        let mut cancelled = 0;
        for n in 0..200 {
            // Without a transaction there is nothing to guard.
            if wire.call("BEGIN").code() == "57014" {
                cancelled += 1;
                continue;
            }
            let end = if n % 7 == 0 { "PREPARE TRANSACTION 'cancelled'" } else { "COMMIT" };
            for statement in [
                format!("SELECT idempotent_run('op', '{n}', '{n}', 'work(jsonb)')"),
                format!("SELECT idempotent_operation('op', retention => '{} hours')", 24 + n % 3),
                claim(&format!("held {n}"), ""),
                complete(&format!("held {n}"), "{}", ""),
                end.to_owned(),
                "ROLLBACK".to_owned(),
            ] {
                let reply = wire.call(&statement);
                let code = reply.code();
                // A raised retention is not prepared.
                let is_prepare = statement.starts_with("PREPARE");
                assert!(
                    ["", "57014", "25P02"].contains(&code) || is_prepare && code == "0A000",
                    "{:?} in {statement}",
                    reply.refusal
                );
                cancelled += usize::from(code == "57014");
            }
            // On a machine with nothing else to do no statement would ever get through. One cancel may still be on its way.
            calm.store(true, Ordering::Relaxed);
            while wire.call("ROLLBACK PREPARED 'cancelled'").code() == "57014" {}
            calm.store(false, Ordering::Relaxed);
        }
        cancelled
    });
    assert!(cancelled > 10, "{cancelled}");
    // The last of them may still be on its way.
    let _ = wire.call("SELECT 1");
    let unlike = "SELECT count(*) FROM (SELECT n::text AS key FROM effect) AS e
                  FULL JOIN (SELECT key FROM idempotent.record WHERE state = 'c' AND key !~ 'held') AS r USING (key)
                  WHERE e.key IS NULL OR r.key IS NULL";
    let mut admin = scratch.wire();
    assert_eq!(admin.run(unlike).value(), "0");
    is_usable(&mut admin, "afterwards");
}
