//! The background worker in ordinary operation: who is there when, what goes and what stays.

use std::time::Duration;

use client::Wire;
use client::ask::replay;
use client::cluster::Result;
use client::watch::{stays, wait_until};

use crate::backlog::{
    SLOW, create_extension, fill, install, is_swept, left, set, start, stop_in_peace,
    wait_for_sweeper, wait_until_swept,
};

/// Several times the interval between two visits.
const LONG: Duration = Duration::from_millis(600);

#[test]
fn launcher_and_sweeper_are_seen_and_nobody_is_connected_between_visits() -> Result<()> {
    let cluster = start(SLOW)?;
    let shop = install(&cluster, "shop")?;
    let mut admin = cluster.server().client()?;
    let mut wire = shop.wire();
    fill(&mut wire, "record", 2000);
    wait_for_sweeper(&mut admin, "shop");
    let launchers = "SELECT count(*), count(datname) FROM pg_stat_activity WHERE backend_type = 'pg_idempotent launcher'";
    let seen = admin.query_one(launchers, &[])?;
    let seen: (i64, i64) = (seen.get(0), seen.get(1));
    assert_eq!(seen, (1, 0), "one launcher, connected to no database");

    set(&mut admin, &[("idempotent.sweep_batch", "5000"), ("idempotent.sweep_interval", "1h")])?;
    wait_until_swept(&mut wire, "record");
    drop(wire);
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()";
    wait_until("nobody is connected", || {
        admin.query_one(others, &[]).expect("an answer").get::<_, i64>(0) == 0
    });
    let sweeps =
        shop.wire().run("SELECT last_sweep, sweep_failures FROM idempotent.health").row().to_vec();
    assert!(sweeps[0].is_some());
    assert_eq!(sweeps[1].as_deref(), Some("0"));
    stop_in_peace(&cluster)
}

#[test]
fn what_is_due_goes_by_itself_and_nothing_else() -> Result<()> {
    let cluster = start("")?;
    let server = install(&cluster, "shop")?;
    let mut wire = server.wire();
    wire.run("SELECT idempotent_operation('kept', durability => 'logged')");
    for operation in ["op", "kept"] {
        let table = if operation == "op" { "record" } else { "record_logged" };
        settle(&mut wire, operation);
        wire.run("BEGIN");
        fill(&mut wire, table, 100);
        // As if it had been long ago.
        for (key, due) in
            [("leased", "expires_at"), ("unknown", "expires_at"), ("evicted", "now()")]
        {
            wire.run(&format!(
                "UPDATE idempotent.{table} SET expires_at = least(expires_at, CASE key WHEN 'evicted' THEN expires_at ELSE now() END),
                        sweep_at = least({due}, now() - interval '1 minute') WHERE key = '{key}'"
            ));
        }
        wire.run(&format!("UPDATE idempotent.{table} SET state = 'u' WHERE key = 'unknown'"));
        wire.run("COMMIT");
    }
    for table in ["record", "record_logged"] {
        wait_until_swept(&mut wire, table);
        wait_until("a body is evicted", || {
            let evicted = format!("SELECT evicted FROM idempotent.{table} WHERE key = 'evicted'");
            wire.run(&evicted).value() == "t"
        });
    }
    // Two more visits, at least, which leave the rest alone.
    for _ in 1..=2 {
        let last = last_sweep(&mut wire);
        wait_until("another visit", || last_sweep(&mut wire) != last);
    }
    for (operation, table) in [("op", "record"), ("kept", "record_logged")] {
        let rest = format!(
            "SELECT string_agg(concat(key, ' ', state), ', ' ORDER BY key) FROM idempotent.{table} WHERE state <> 'e'"
        );
        assert_eq!(
            wire.run(&rest).value(),
            "evicted c, leased p, live c, sealed s, unknown u",
            "{operation}"
        );
        let evicted = replay("evicted").replace("'op'", &format!("'{operation}'"));
        let evicted = wire.run(&evicted).row().to_vec();
        assert_eq!(evicted[0].as_deref(), Some("replay"));
        assert_eq!(evicted[3], None, "the body is gone");
    }
    let counted = wire.run("SELECT sum(swept), sum(evicted) FROM idempotent.stats").row().to_vec();
    assert_eq!(counted, [Some("200".to_owned()), Some("2".to_owned())]);
    stop_in_peace(&cluster)
}

/// One record of each kind that stays.
fn settle(wire: &mut Wire, operation: &str) {
    wire.run(&format!(
        "SELECT idempotent_claim('{operation}', 'leased', lease => '1 hour');
         SELECT idempotent_claim('{operation}', 'unknown', lease => '1 hour');
         SELECT idempotent_seal('{operation}', 'sealed')"
    ));
    for key in ["live", "evicted"] {
        wire.run(&format!(
            "BEGIN;
             SELECT idempotent_claim('{operation}', '{key}');
             SELECT idempotent_complete('{operation}', '{key}', '1', body => 'bytes');
             COMMIT"
        ));
    }
}

fn last_sweep(wire: &mut Wire) -> String {
    wire.run("SELECT last_sweep FROM idempotent.health").value().to_owned()
}

#[test]
fn both_tables_of_every_database_are_swept() -> Result<()> {
    let cluster = start("idempotent.sweeper_max_workers = 1")?;
    let servers = ["one", "two", "three"].map(|name| install(&cluster, name));
    for server in servers {
        let mut wire = server?.wire();
        fill(&mut wire, "record", 2000);
        fill(&mut wire, "record_logged", 2000);
        wait_until_swept(&mut wire, "record");
        wait_until_swept(&mut wire, "record_logged");
    }
    stop_in_peace(&cluster)
}

#[test]
fn busy_databases_do_not_take_the_turn_of_another() -> Result<()> {
    let cluster = start("idempotent.sweeper_max_workers = 1")?;
    // Two that keep a sweeper busy for longer than the interval, each time: it looks at what is unknown and leaves it.
    for name in ["first", "second"] {
        let mut wire = install(&cluster, name)?.wire();
        wire.run("BEGIN");
        fill(&mut wire, "record", 50_000);
        wire.run("UPDATE idempotent.record SET state = 'u' WHERE key LIKE 'expired %'");
        wire.run("COMMIT");
        let last = last_sweep(&mut wire);
        wait_until("a visit", || last_sweep(&mut wire) != last);
    }
    let mut wire = install(&cluster, "third")?.wire();
    for _ in 0..2 {
        fill(&mut wire, "record", 100);
        wait_until_swept(&mut wire, "record");
    }
    stop_in_peace(&cluster)
}

#[test]
fn the_sweeper_is_switched_off_and_on_while_the_server_runs() -> Result<()> {
    let cluster = start(SLOW)?;
    let server = install(&cluster, "shop")?;
    let (mut admin, mut wire) = (cluster.server().client()?, server.wire());
    fill(&mut wire, "record", 100_000);
    wait_for_sweeper(&mut admin, "shop");
    set(&mut admin, &[("idempotent.sweeper_enabled", "off")])?;
    wait_until("the sweeper has left", || !is_swept(&mut admin, "shop"));
    let before = left(&mut wire, "record");
    assert!(before > 0, "it left with its work undone");
    stays("nobody sweeps", LONG, || !is_swept(&mut admin, "shop"));
    assert_eq!(left(&mut wire, "record"), before);
    set(&mut admin, &[("idempotent.sweeper_enabled", "on"), ("idempotent.sweep_batch", "100000")])?;
    wait_until_swept(&mut wire, "record");
    stop_in_peace(&cluster)
}

#[test]
fn a_shorter_interval_counts_at_once() -> Result<()> {
    let cluster = start("idempotent.sweep_interval = '1h'")?;
    let server = install(&cluster, "shop")?;
    let (mut admin, mut wire) = (cluster.server().client()?, server.wire());
    // A reload is a tick: the launcher looks at once, if it has not seen the new database yet.
    set(&mut admin, &[])?;
    wait_until("a first visit", || !last_sweep(&mut wire).is_empty());
    fill(&mut wire, "record", 10);
    set(&mut admin, &[("idempotent.sweep_interval", "59min")])?;
    stays("nobody sweeps", LONG, || !is_swept(&mut admin, "shop"));
    assert_eq!(left(&mut wire, "record"), 10);
    set(&mut admin, &[("idempotent.sweep_interval", "100ms")])?;
    wait_until_swept(&mut wire, "record");
    stop_in_peace(&cluster)
}

#[test]
fn defaults_that_suit_sessions_do_not_disturb_the_sweeper() -> Result<()> {
    let cluster = start(
        "default_transaction_read_only = on
         default_transaction_isolation = serializable
         default_transaction_deferrable = on
         statement_timeout = 1ms
         idle_in_transaction_session_timeout = 1ms
         row_security = off
         search_path = ''",
    )?;
    let calm = "-c default_transaction_read_only=off -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 \
                -c search_path=public";
    let home = cluster.server();
    Wire::connect(&home, "test", calm)?.run("CREATE DATABASE shop");
    let mut wire = Wire::connect(&home.with_database("shop"), "test", calm)?;
    create_extension(&mut wire);
    fill(&mut wire, "record", 2000);
    fill(&mut wire, "record_logged", 2000);
    wait_until_swept(&mut wire, "record");
    wait_until_swept(&mut wire, "record_logged");
    // Nor when there is something to note.
    cluster.crash()?;
    cluster.resume()?;
    let mut wire = Wire::connect(&home.with_database("shop"), "test", calm)?;
    let noted = "SELECT count(*) FROM idempotent.reset WHERE reset_at IS NOT NULL";
    wait_until("the sweeper has noted the reset", || wire.run(noted).value() == "1");
    assert_eq!(wire.run("SELECT sweep_failures FROM idempotent.health").value(), "0");
    cluster.stop()
}
