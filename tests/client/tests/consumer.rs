//! Consumers that receive the same messages by the batch, all at once.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use client::cluster::Result;
use client::{Cluster, Scratch, Wire};

const CONSUMERS: usize = 8;
const BATCHES: usize = 12;
const BATCH: usize = 10_000;

/// A batch of ids of which every other consumer has most, too, in an order of its own.
const IDS: &str = "SELECT array_agg('m' || n ORDER BY md5(n || $1::text))
    FROM generate_series($2::int * 4000, $2::int * 4000 + $3::int - 1) AS n";

/// Settings are the server's defaults, max_locks_per_transaction among them. But a batch waits for the end of as many others as it
/// meets.
#[test]
fn overlapping_batches_never_deadlock_and_each_message_is_first_once() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute("CREATE TABLE got (consumer int, message text)").unwrap();
    let start = Barrier::new(CONSUMERS);
    thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (scratch, start) = (&scratch, &start);
            scope.spawn(move || {
                let mut client = scratch.admin();
                client.batch_execute("SET idempotent.default_wait = '10min'").unwrap();
                let (number, size) = (i32::try_from(consumer).unwrap(), i32::try_from(BATCH).unwrap());
                start.wait();
                for batch in 0..i32::try_from(BATCHES).unwrap() {
                    let ids: Vec<String> =
                        client.query_one(IDS, &[&format!("{number}"), &batch, &size]).unwrap().get(0);
                    let mut transaction = client.transaction().unwrap();
                    let got = transaction
                        .execute(
                            "INSERT INTO got SELECT $1, id FROM idempotent_first_of('storm', $2) AS id",
                            &[&number, &ids],
                        )
                        .expect("no deadlock, no lock table that is full");
                    // Every third leaves what it got to the others.
                    if (consumer + usize::try_from(batch).unwrap()) % 3 == 0 && got > 0 {
                        transaction.rollback().unwrap();
                    } else {
                        transaction.commit().unwrap();
                    }
                }
            });
        }
    });
    let mut admin = scratch.admin();
    let twice: i64 =
        admin.query_one("SELECT count(*) - count(DISTINCT message) FROM got", &[]).unwrap().get(0);
    assert_eq!(twice, 0, "no message is first for two");
    let differ: i64 = admin
        .query_one(
            "SELECT count(*) FROM got FULL JOIN idempotent.messages AS m ON m.message_id = got.message
             WHERE got.message IS NULL OR m.message_id IS NULL",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(differ, 0, "what was seen was got, and what was got was seen");
    let by_consumer: HashMap<i32, i64> = admin
        .query("SELECT consumer, count(*) FROM got GROUP BY consumer", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert!(by_consumer.len() > 1, "they met: {by_consumer:?}");
}

fn first(wire: &mut Wire, message: &str) -> String {
    wire.run(&format!("SELECT idempotent_first('billing', '{message}')")).value().to_owned()
}

/// Whatever the consumer's operation says of its records: they are another matter.
#[test]
fn what_was_seen_survives_a_crash() -> Result<()> {
    let cluster = Cluster::start("")?;
    let mut wire = cluster.server().wire();
    wire.run("CREATE EXTENSION pg_idempotent");
    wire.run("SELECT idempotent_operation('billing', durability => 'unlogged')");
    assert_eq!(first(&mut wire, "committed"), "t");
    wire.run("BEGIN");
    assert_eq!(first(&mut wire, "lost"), "t");
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    assert_eq!(first(&mut wire, "committed"), "f");
    assert_eq!(first(&mut wire, "lost"), "t");
    Ok(())
}

fn advance(wire: &mut Wire, offset: i64) -> String {
    wire.run(&format!("SELECT idempotent_advance('billing', 'p', {offset})")).value().to_owned()
}

#[test]
fn an_offset_survives_a_crash_as_far_as_it_was_committed() -> Result<()> {
    let cluster = Cluster::start("")?;
    let mut wire = cluster.server().wire();
    wire.run("CREATE EXTENSION pg_idempotent");
    assert_eq!(advance(&mut wire, 10), "t");
    wire.run("BEGIN");
    assert_eq!(advance(&mut wire, 20), "t");
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = cluster.server().wire();
    assert_eq!(advance(&mut wire, 10), "f");
    assert_eq!(advance(&mut wire, 11), "t");
    Ok(())
}

/// Every instance adds what it has advanced by to a sum of its own: all of it together is the offset.
#[test]
fn no_advance_is_lost_between_instances_at_any_isolation_level() {
    let scratch = Scratch::new();
    scratch.admin().batch_execute("CREATE TABLE moved (partition text, step bigint)").unwrap();
    let start = Barrier::new(CONSUMERS);
    thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (scratch, start) = (&scratch, &start);
            scope.spawn(move || {
                let mut client = scratch.admin();
                let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][consumer % 3];
                client
                    .batch_execute(&format!("SET default_transaction_isolation = '{level}'"))
                    .unwrap();
                start.wait();
                for round in 0..200_i64 {
                    let partition = format!("p{}", round % 3);
                    // Each step is one more than what was there, so two who take the same step are caught.
                    let tried = client.execute(
                        "INSERT INTO moved SELECT $1, n.step FROM (
                             SELECT coalesce(max(\"offset\"), 0) + 1 AS step
                             FROM idempotent.offsets WHERE partition = $1) AS n
                         WHERE idempotent_advance('billing', $1, n.step)",
                        &[&partition],
                    );
                    if let Err(error) = tried {
                        let code = error.code().map(|code| code.code().to_owned());
                        assert_eq!(code.as_deref(), Some("40001"), "{error}");
                    }
                }
            });
        }
    });
    let differ: i64 = scratch
        .admin()
        .query_one(
            "SELECT count(*) FROM idempotent.offsets AS o WHERE \"offset\" IS DISTINCT FROM
                 (SELECT count(DISTINCT step) FROM moved AS m WHERE m.partition = o.partition)
              OR \"offset\" IS DISTINCT FROM (SELECT count(*) FROM moved AS m WHERE m.partition = o.partition)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(differ, 0, "every step was taken once");
}
