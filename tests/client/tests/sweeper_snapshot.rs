//! A sweeper beside an old snapshot, which keeps in the index all that it deletes.

use client::Wire;
use client::cluster::Result;
use client::watch::wait_until;

use crate::backlog::{install, is_swept, set, start};

const MESSAGES: u64 = 10_000;

/// Messages that have expired, all of them at the same time.
fn fill_at_once(wire: &mut Wire) {
    wire.run(&format!(
        "INSERT INTO idempotent.messages (expires_at, seen_at, slot, consumer, scope, message_id)
         SELECT now() - interval '1 hour', now() - interval '2 hours', 0, 'swept', '', n::text FROM generate_series(1, {MESSAGES}) AS n"
    ));
}

fn pages(wire: &mut Wire) -> u64 {
    let sql = "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relid = 'idempotent.messages'::regclass";
    wire.run(sql).value().parse().expect("a number")
}

/// A portion that began where the time began would walk over all that the portions before it have deleted.
#[test]
fn rows_of_one_time_are_looked_at_once_however_many_portions_it_takes() -> Result<()> {
    let cluster = start("idempotent.sweeper_enabled = off\nidempotent.sweep_batch = 50")?;
    let shop = install(&cluster, "shop")?;
    let (mut admin, mut wire, mut old) = (cluster.server().client()?, shop.wire(), shop.wire());
    set(&mut admin, &[("idempotent.sweep_interval", "1h")])?;
    fill_at_once(&mut wire);
    // Sent to the statistics as the session ends.
    drop(wire);
    let mut wire = shop.wire();
    wait_until("the statistics know of the messages", || pages(&mut wire) >= MESSAGES);
    let before = pages(&mut wire);
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    old.run("SELECT count(*) FROM pg_class");

    set(&mut admin, &[("idempotent.sweeper_enabled", "on")])?;
    let swept =
        "SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'idempotent.messages'::regclass";
    wait_until("all of them are deleted", || {
        wire.run(swept).value().parse() == Ok(MESSAGES) && !is_swept(&mut admin, "shop")
    });
    // One for each deletion, and one for each page of the table. From the beginning each time it would be the table 200 times.
    let looked_at = pages(&mut wire) - before;
    assert!(looked_at < MESSAGES * 3 / 2, "{looked_at} pages for {MESSAGES} messages");
    old.run("COMMIT");
    Ok(())
}
