//! What keeps a sweeper from its work, and what becomes of the others meanwhile.

use std::time::{Duration, Instant};

use client::Wire;
use client::cluster::Result;
use client::watch::wait_until;
use postgres::Client;

use crate::backlog::{
    SLOW, fill, install, left, set, start, stop_in_peace, wait_for_sweeper, wait_until_swept,
};

/// Asks the library itself: the view would wait for a table that is locked.
fn library(wire: &mut Wire, what: &str) -> String {
    wire.run(&format!("SELECT idempotent.library() ->> '{what}'")).value().to_owned()
}

fn failures(wire: &mut Wire) -> usize {
    library(wire, "sweep_failures").parse().expect("a number")
}

/// Breaks one database and mends it; the log must have said why, once.
fn fails_alone(harm: &str, reason: &str, cure: &str) -> Result<()> {
    let cluster = start("")?;
    let (broken, sound) = (install(&cluster, "broken")?, install(&cluster, "sound")?);
    let (mut broken, mut sound) = (broken.wire(), sound.wire());
    wait_until("a first visit", || !library(&mut broken, "last_sweep").is_empty());
    let harmed = Instant::now();
    broken.run(harm);
    wait_until("four failures", || failures(&mut broken) >= 4);
    // An interval of 100 ms doubled for each but the first: 200, 400 and 800 ms.
    assert!(harmed.elapsed() >= Duration::from_millis(1400), "{:?}", harmed.elapsed());
    // Meanwhile the other database is served as ever.
    fill(&mut sound, "record", 100);
    wait_until_swept(&mut sound, "record");
    assert_eq!(failures(&mut sound), 0);
    assert!(failures(&mut broken) >= 4, "nobody has mended it yet");
    let said = cluster.said(&["pg_idempotent sweeper broken", "WARNING:"])?;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(reason), "{said:?}");
    assert_eq!(cluster.said(&["pg_idempotent sweeper broken", "DETAIL:", "SQLSTATE"])?.len(), 1);

    broken.run(cure);
    fill(&mut broken, "record", 100);
    wait_until_swept(&mut broken, "record");
    wait_until("it works again", || failures(&mut broken) == 0);
    assert_eq!(cluster.said(&["pg_idempotent sweeper broken", "WARNING:"])?.len(), 1);
    for level in ["ERROR:", "FATAL:", "PANIC:"] {
        assert!(cluster.said(&["pg_idempotent", level])?.is_empty());
    }
    Ok(())
}

#[test]
fn a_database_without_its_table_fails_alone_and_is_logged_once() -> Result<()> {
    fails_alone(
        "ALTER TABLE idempotent.record RENAME TO elsewhere",
        "record",
        "ALTER TABLE idempotent.elsewhere RENAME TO record",
    )
}

#[test]
fn a_database_without_an_index_to_sweep_by_fails_alone_and_is_logged_once() -> Result<()> {
    fails_alone(
        "DROP INDEX idempotent.record_sweep_at_idx",
        "no index on sweep_at",
        "CREATE INDEX ON idempotent.record (sweep_at)",
    )
}

#[test]
fn a_server_without_room_for_sweepers_says_so_once_and_sweeps_when_there_is_room() -> Result<()> {
    // The launcher, that of logical replication, and one sweeper.
    let cluster =
        start(&format!("{SLOW}\nmax_worker_processes = 3\nidempotent.sweeper_enabled = off"))?;
    let mut admin = cluster.server().client()?;
    let (first, second) = (install(&cluster, "first")?, install(&cluster, "second")?);
    fill(&mut first.wire(), "record", 20_000);
    fill(&mut second.wire(), "record", 20_000);
    set(&mut admin, &[("idempotent.sweeper_enabled", "on")])?;
    wait_until("one of them is swept", || !swept_databases(&mut admin).is_empty());
    // While one sweeper does all this, the launcher finds no room for the other again and again.
    let (mut first, mut second) = (first.wire(), second.wire());
    wait_until("some work is done", || {
        left(&mut first, "record").min(left(&mut second, "record")) < 19_000
    });
    assert_eq!(swept_databases(&mut admin).len(), 1);
    assert_eq!(
        left(&mut first, "record").max(left(&mut second, "record")),
        20_000,
        "the other one waits"
    );
    let said = cluster.said(&["pg_idempotent launcher", "WARNING:"])?;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("could not start a sweeper"), "{said:?}");
    assert_eq!(cluster.said(&["max_worker_processes"])?.len(), 1);
    set(&mut admin, &[("idempotent.sweep_batch", "100000")])?;
    wait_until_swept(&mut first, "record");
    wait_until_swept(&mut second, "record");
    Ok(())
}

fn swept_databases(admin: &mut Client) -> Vec<String> {
    let names = "SELECT datname FROM pg_stat_activity WHERE backend_type LIKE 'pg_idempotent sweeper %' AND datname <> 'postgres'";
    admin.query(names, &[]).expect("an answer").iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_launcher_that_was_terminated_comes_back() -> Result<()> {
    let cluster = start("")?;
    let server = install(&cluster, "shop")?;
    let mut admin = cluster.server().client()?;
    let mut launcher = || -> Option<i32> {
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_idempotent launcher'";
        admin.query_opt(pid, &[]).expect("an answer").map(|row| row.get(0))
    };
    wait_until("the launcher is there", || launcher().is_some());
    let before = launcher();
    cluster.server().client()?.query_one("SELECT pg_terminate_backend($1)", &[&before])?;
    wait_until("another one is there", || launcher().is_some_and(|pid| Some(pid) != before));
    let mut wire = server.wire();
    fill(&mut wire, "record", 100);
    wait_until_swept(&mut wire, "record");
    Ok(())
}

#[test]
fn a_locked_table_is_left_alone_and_nobody_hangs() -> Result<()> {
    let cluster = start("")?;
    let server = install(&cluster, "shop")?;
    let (mut holder, mut wire) = (server.wire(), server.wire());
    holder.run("BEGIN; LOCK TABLE idempotent.record IN ACCESS EXCLUSIVE MODE");
    fill(&mut holder, "record", 100);
    fill(&mut wire, "record_logged", 100);
    wait_until_swept(&mut wire, "record_logged");
    let last = library(&mut wire, "last_sweep");
    wait_until("another visit has come and gone", || library(&mut wire, "last_sweep") != last);
    assert_eq!(failures(&mut wire), 0);
    assert_eq!(left(&mut holder, "record"), 100);
    holder.run("COMMIT");
    wait_until_swept(&mut wire, "record");
    stop_in_peace(&cluster)
}

#[test]
fn a_sweeper_that_is_terminated_is_replaced() -> Result<()> {
    let cluster = start(SLOW)?;
    let server = install(&cluster, "shop")?;
    let (mut admin, mut wire) = (cluster.server().client()?, server.wire());
    fill(&mut wire, "record", 20_000);
    wait_for_sweeper(&mut admin, "shop");
    admin.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_idempotent sweeper%'",
        &[],
    )?;
    set(&mut admin, &[("idempotent.sweep_batch", "100000")])?;
    wait_until_swept(&mut wire, "record");
    Ok(())
}
