//! What happens to databases, to the extension and to the server while they are being swept.

use client::cluster::Result;
use client::watch::wait_until;

use crate::backlog::{
    SLOW, create_extension, fill, install, left, set, start, stop_in_peace,
    stop_in_peace_after_drops, wait_for_sweeper, wait_until_swept,
};

/// Too many to be swept before the test is over.
const ENDLESS: usize = 100_000;

#[test]
fn the_database_being_swept_and_another_can_be_dropped() -> Result<()> {
    let cluster = start(SLOW)?;
    for name in ["swept", "other"] {
        install(&cluster, name)?;
    }
    let mut admin = cluster.server().client()?;
    for round in 0..3 {
        let server = cluster.server().with_database("swept");
        fill(&mut server.wire(), "record", ENDLESS);
        wait_for_sweeper(&mut admin, "swept");
        admin.batch_execute("DROP DATABASE other")?;
        wait_for_sweeper(&mut admin, "swept");
        admin.batch_execute("DROP DATABASE swept")?;
        if round < 2 {
            for name in ["swept", "other"] {
                install(&cluster, name)?;
            }
        }
    }
    stop_in_peace_after_drops(&cluster)
}

#[test]
fn the_database_being_swept_can_be_copied_and_the_copy_is_swept_too() -> Result<()> {
    let cluster = start(SLOW)?;
    let shop = install(&cluster, "shop")?;
    let mut admin = cluster.server().client()?;
    fill(&mut shop.wire(), "record", 20_000);
    fill(&mut shop.wire(), "record_logged", 20_000);
    for (copy, strategy) in [("first", "wal_log"), ("second", "file_copy")] {
        wait_for_sweeper(&mut admin, "shop");
        admin
            .batch_execute(&format!("CREATE DATABASE {copy} TEMPLATE shop STRATEGY {strategy}"))?;
        let mut wire = cluster.server().with_database(copy).wire();
        assert!(left(&mut wire, "record_logged") > 0, "the copy has something to sweep");
    }
    set(&mut admin, &[("idempotent.sweep_batch", "5000")])?;
    for name in ["shop", "first", "second"] {
        let mut wire = cluster.server().with_database(name).wire();
        wait_until_swept(&mut wire, "record");
        wait_until_swept(&mut wire, "record_logged");
        let resets = "SELECT count(*) FROM idempotent.reset WHERE reset_at IS NOT NULL";
        assert_eq!(wire.run(resets).value(), "0", "{name} has lost nothing");
    }
    stop_in_peace(&cluster)
}

#[test]
fn the_extension_can_be_dropped_and_made_again_while_it_is_swept() -> Result<()> {
    let cluster = start(SLOW)?;
    let server = install(&cluster, "shop")?;
    let (mut admin, mut wire) = (cluster.server().client()?, server.wire());
    // The drop waits for the one record that is being swept, and not for the others.
    wire.run("SET statement_timeout = '20s'");
    for _ in 0..30 {
        fill(&mut wire, "record", 5000);
        wait_for_sweeper(&mut admin, "shop");
        wire.run("DROP EXTENSION pg_idempotent");
        create_extension(&mut wire);
    }
    set(&mut admin, &[("idempotent.sweep_batch", "5000")])?;
    fill(&mut wire, "record", 5000);
    wait_until_swept(&mut wire, "record");
    let failures = wire.run("SELECT sweep_failures FROM idempotent.health").value().to_owned();
    assert_eq!(failures, "0");
    stop_in_peace(&cluster)
}

#[test]
fn an_extension_that_comes_back_after_a_while_is_swept_again() -> Result<()> {
    let cluster = start("")?;
    let server = install(&cluster, "shop")?;
    let mut wire = server.wire();
    fill(&mut wire, "record", 100);
    wait_until_swept(&mut wire, "record");
    wire.run("DROP EXTENSION pg_idempotent");
    // Seen by a visit, after which there is none for a minute, unless somebody uses the extension.
    fill_another_and_wait(&cluster)?;
    create_extension(&mut wire);
    fill(&mut wire, "record", 100);
    wait_until_swept(&mut wire, "record");
    stop_in_peace(&cluster)
}

/// By then each database has had its turn.
fn fill_another_and_wait(cluster: &client::Cluster) -> Result<()> {
    let mut wire = install(cluster, "another")?.wire();
    for _ in 0..3 {
        fill(&mut wire, "record", 100);
        wait_until_swept(&mut wire, "record");
    }
    Ok(())
}

#[test]
fn a_server_can_be_stopped_and_restarted_in_the_middle_of_a_sweep() -> Result<()> {
    let cluster = start(SLOW)?;
    let server = install(&cluster, "shop")?;
    fill(&mut server.wire(), "record", ENDLESS);
    for _ in 0..5 {
        wait_for_sweeper(&mut cluster.server().client()?, "shop");
        stop_in_peace(&cluster)?;
        cluster.resume()?;
    }
    let mut admin = cluster.server().client()?;
    set(&mut admin, &[("idempotent.sweep_batch", "100000")])?;
    let mut wire = server.wire();
    wait_until("the rest is swept", || left(&mut wire, "record") == 0);
    stop_in_peace(&cluster)
}
