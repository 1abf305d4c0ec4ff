//! The counters that all backends share.

use std::thread;

use client::ask::claim;
use client::watch::{wait_for_lock, wait_until};
use client::{Scratch, Wire};

/// Claims `n` keys of `n` operations, each once.
fn claim_operations(wire: &mut Wire, from: usize, to: usize) {
    let claimed = wire.run(&format!(
        "SELECT count(*) FROM generate_series({from}, {to}) AS n, idempotent_claim('op ' || n, 'k', lease => '1 hour') AS c
         WHERE c.outcome = 'claimed'"
    ));
    assert_eq!(claimed.value(), (to - from + 1).to_string());
}

fn number(wire: &mut Wire, what: &str) -> usize {
    let value = wire.run(&format!("SELECT {what} FROM idempotent.stats")).value().to_owned();
    value.parse().expect("a number")
}

#[test]
fn all_backends_add_to_one_row() {
    const EACH: usize = 500;
    let scratch = Scratch::new();
    let begun = scratch.wire();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let mut wire = scratch.wire();
            thread::spawn(move || {
                for n in 0..EACH {
                    let key = format!("{worker} {n}");
                    wire.run("BEGIN");
                    wire.claim(&key, "");
                    wire.complete(&key, "{}", "");
                    wire.run(if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" });
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker ends well");
    }
    let mut wire = begun;
    assert_eq!(number(&mut wire, "count(*)"), 1);
    assert_eq!(number(&mut wire, "sum(claimed)"), 4 * EACH);
    assert_eq!(number(&mut wire, "sum(completed)"), 4 * EACH / 2);
}

#[test]
fn operations_without_room_end_in_other() {
    const ROOM: usize = 1024;
    let (scratch, neighbour) = (Scratch::new(), Scratch::new());
    let mut wire = scratch.wire();
    claim_operations(&mut wire, 1, ROOM);
    assert_eq!(number(&mut wire, "count(*)"), ROOM);
    claim_operations(&mut wire, ROOM + 1, ROOM + 50);
    // Another backend finds what is there, and as little room.
    let mut other = scratch.wire();
    claim_operations(&mut other, ROOM + 51, ROOM + 100);
    assert_eq!(
        other.run("SELECT outcome FROM idempotent_replay('op 1', 'k')").value(),
        "in_progress"
    );
    assert_eq!(number(&mut wire, "count(*)"), ROOM + 1);
    assert_eq!(number(&mut wire, "sum(claimed) FILTER (WHERE operation = '(other)')"), 100);
    assert_eq!(number(&mut wire, "sum(claimed)"), ROOM + 100);
    assert_eq!(number(&mut wire, "sum(in_progress) FILTER (WHERE operation = 'op 1')"), 1);
    // That is this database's own affair.
    let mut elsewhere = neighbour.wire();
    claim_operations(&mut elsewhere, 1, 10);
    assert_eq!(number(&mut elsewhere, "count(*)"), 10);
    // After a reset there is room again, also for a backend that had found none.
    wire.run("SELECT idempotent_stats_reset()");
    assert_eq!(number(&mut wire, "count(*)"), 0);
    let late = format!("SELECT outcome FROM idempotent_replay('op {}', 'k')", ROOM + 100);
    assert_eq!(other.run(&late).value(), "in_progress");
    assert_eq!(
        number(
            &mut wire,
            &format!("sum(in_progress) FILTER (WHERE operation = 'op {}')", ROOM + 100)
        ),
        1
    );
    assert_eq!(number(&mut elsewhere, "count(*)"), 10);
}

#[test]
fn a_wait_is_seen_while_it_lasts_and_counted_when_it_is_over() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    let mut admin = scratch.admin();
    holder.run("BEGIN");
    holder.claim("k", "");
    waiter.run("BEGIN");
    waiter.send(&claim("k", ", wait => '10 minutes'")).expect("the claim is sent");
    wait_for_lock(&mut admin, waiter.pid());
    let row = admin.query_one("SELECT held_by, pid, waiters FROM idempotent.in_flight", &[]);
    let row = row.expect("one holder");
    let seen: (&str, i32, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(seen, ("transaction", holder.pid(), 1));
    assert_eq!(number(&mut holder, "sum(waits)"), 0);
    assert_eq!(holder.run("SELECT count(*) FROM idempotent.waits").value(), "0");
    holder.complete("k", "{}", "");
    holder.run("COMMIT");
    assert_eq!(waiter.answer().outcome, "replay");
    assert_eq!(number(&mut holder, "sum(waits)"), 1);
    assert_eq!(holder.run("SELECT wait_time > '0' FROM idempotent.stats").value(), "t");
    // The histogram has it once, in what it took and in all that is longer.
    let histogram = "SELECT count(*) = 11 AND max(calls) = 1 AND bool_and(w.calls = (w.le >= extract(epoch FROM s.wait_time))::integer)
                       FROM idempotent.waits AS w JOIN idempotent.stats AS s USING (operation)";
    assert_eq!(holder.run(histogram).value(), "t");
    // An answer that comes at once is no wait.
    assert_eq!(waiter.claim("k", "").outcome, "replay");
    assert_eq!(number(&mut holder, "sum(waits)"), 1);
}

#[test]
fn a_wait_that_is_cancelled_was_one() {
    let scratch = Scratch::new();
    let (mut holder, mut waiter) = (scratch.wire(), scratch.wire());
    let mut admin = scratch.admin();
    holder.run("BEGIN");
    holder.claim("k", "");
    waiter.send(&claim("k", ", wait => '10 minutes'")).expect("the claim is sent");
    wait_for_lock(&mut admin, waiter.pid());
    admin.execute("SELECT pg_cancel_backend($1)", &[&waiter.pid()]).expect("a signal");
    assert_eq!(waiter.refused(), "57014");
    assert_eq!(number(&mut waiter, "sum(waits)"), 1);
}

#[test]
fn after_a_crash_the_counters_begin_anew() {
    let scratch = Scratch::new();
    let mut wire = scratch.wire();
    claim_operations(&mut wire, 1, 3);
    assert_eq!(number(&mut wire, "sum(claimed)"), 3);
    let mut admin = scratch.admin();
    // The server's own hand; the statement may or may not live to be answered.
    let _ = admin.batch_execute(&format!("COPY (SELECT) TO PROGRAM 'kill -9 {}'", wire.pid()));
    wait_until("the server has gone down", || admin.simple_query("").is_err());
    wait_until("the server is back", || scratch.server().client().is_ok());
    let mut wire = scratch.wire();
    assert_eq!(number(&mut wire, "count(*)"), 0);
    claim_operations(&mut wire, 4, 5);
    assert_eq!(number(&mut wire, "sum(claimed)"), 2);
}
