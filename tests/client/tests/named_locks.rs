//! Locks with a key: who holds a resource, over crashes and among many who want it.

use std::sync::{Barrier, Mutex};
use std::thread;

use client::cluster::Result;
use client::{Cluster, Scratch, Wire};

/// Whether it was acquired, and the fence.
fn lock(wire: &mut Wire, key: &str, ttl: &str) -> (bool, i64) {
    let reply = wire
        .run(&format!("SELECT acquired, fence FROM idempotent_lock('report', '{key}', '{ttl}')"));
    let column = |at: usize| reply.row()[at].clone().unwrap_or_default();
    (column(0) == "t", column(1).parse().unwrap_or(0))
}

/// The commit of a lock is flushed even where the settings would let a crash take it back.
#[test]
fn a_lock_that_was_granted_survives_a_crash() -> Result<()> {
    let cluster = Cluster::start("wal_writer_delay = '10s'")?;
    let mut wire = cluster.server().wire();
    wire.run("CREATE EXTENSION pg_idempotent");
    wire.run("SET synchronous_commit = off");
    let (acquired, fence) = lock(&mut wire, "one", "1 hour");
    assert!(acquired);
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    assert_eq!(lock(&mut wire, "two", "1 hour"), (false, 0), "held by who was granted it");
    assert_eq!(lock(&mut wire, "one", "1 hour"), (true, fence), "and by nobody else");
    wire.run("SET synchronous_commit = off");
    let until = "SELECT expires_at FROM idempotent_lock('report', 'one', '2 hours')";
    let until = wire.run(until).value().to_owned();
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    let kept = wire.run("SELECT expires_at FROM idempotent.locks").value().to_owned();
    assert_eq!(kept, until, "an extension, too");
    wire.run(&format!("SELECT idempotent_unlock('report', 'one', fence => {fence})"));
    let (acquired, next) = lock(&mut wire, "two", "1 hour");
    assert!(acquired && next > fence, "{next} after {fence}");
    Ok(())
}

const WANTING: usize = 8;
const ROUNDS: usize = 150;

/// Everybody wants the same resource, for moments; nobody has it with somebody else, and fences grow with the grants.
#[test]
fn many_who_want_a_resource_have_it_one_at_a_time_and_fences_grow() {
    let scratch = Scratch::new();
    let start = Barrier::new(WANTING);
    // Who is inside, and the fences in the order in which they were granted.
    let inside: Mutex<(Option<usize>, Vec<i64>)> = Mutex::new((None, Vec::new()));
    thread::scope(|scope| {
        for number in 0..WANTING {
            let (scratch, start, inside) = (&scratch, &start, &inside);
            scope.spawn(move || {
                let mut wire = scratch.wire();
                let key = format!("w{number}");
                start.wait();
                for _ in 0..ROUNDS {
                    let (acquired, fence) = lock(&mut wire, &key, "1 hour");
                    if !acquired {
                        continue;
                    }
                    let mut at = inside.lock().unwrap();
                    assert_eq!(at.0.replace(number), None, "two have the resource");
                    at.1.push(fence);
                    drop(at);
                    // Asking again is no other grant.
                    assert_eq!(lock(&mut wire, &key, "1 hour"), (true, fence));
                    inside.lock().unwrap().0 = None;
                    let unlock =
                        format!("SELECT idempotent_unlock('report', '{key}', fence => {fence})");
                    assert_eq!(wire.run(&unlock).value(), "t");
                }
            });
        }
    });
    let fences = &inside.lock().unwrap().1;
    assert!(fences.len() > WANTING, "they got it often enough: {}", fences.len());
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

/// Everybody waits for the transaction that has the resource at the moment; whoever gets it next has a higher fence than
/// whoever had it before, however long he has waited.
#[test]
fn who_waited_gets_a_fence_as_of_the_grant() {
    let scratch = Scratch::new();
    let start = Barrier::new(WANTING);
    let granted: Mutex<Vec<i64>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..WANTING {
            let (scratch, start, granted) = (&scratch, &start, &granted);
            scope.spawn(move || {
                let mut wire = scratch.wire();
                let key = format!("w{number}");
                start.wait();
                for _ in 0..40 {
                    wire.run("BEGIN");
                    let (acquired, fence) = lock(&mut wire, &key, "1 hour");
                    assert!(acquired, "whoever had it has given it back, or rolled back");
                    granted.lock().unwrap().push(fence);
                    if fence % 2 == 0 {
                        wire.run(&format!(
                            "SELECT idempotent_unlock('report', '{key}', fence => {fence})"
                        ));
                        wire.run("COMMIT");
                    } else {
                        wire.run("ROLLBACK");
                    }
                }
            });
        }
    });
    let fences = granted.into_inner().unwrap();
    assert_eq!(fences.len(), WANTING * 40);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}
