//! Servers whose sweeper is watched at work: with a backlog, and settings that let it be there long enough to be seen.

use client::cluster::Result;
use client::connect::Server;
use client::watch::wait_until;
use client::wire::quote;
use client::{Cluster, Wire};
use postgres::Client;

/// A sweeper that sweeps one record at a time is there for about a millisecond a record.
pub const SLOW: &str = "idempotent.sweep_batch = 1";

/// Preloaded, with a visit every tenth of a second.
pub fn start(settings: &str) -> Result<Cluster> {
    Cluster::start(&format!(
        "shared_preload_libraries = 'pg_idempotent'
         idempotent.sweep_interval = '100ms'
         {settings}"
    ))
}

/// A database with the extension in it.
pub fn install(cluster: &Cluster, database: &str) -> Result<Server> {
    let server = cluster.database(database)?;
    create_extension(&mut server.wire());
    Ok(server)
}

/// The extension, and a first use of it: where the sweeper has found none it looks again only after a minute, or then.
pub fn create_extension(wire: &mut Wire) {
    wire.run("CREATE EXTENSION pg_idempotent");
    let claim = "SELECT fence FROM idempotent_claim('op', 'first', lease => '1 hour')";
    let fence = wire.run(claim).value().to_owned();
    wire.run(&format!("SELECT idempotent_forget('op', 'first', fence => {fence})"));
}

/// Records that expired one after the other during the last hour.
pub fn fill(wire: &mut Wire, table: &str, rows: usize) {
    wire.run(&format!(
        "INSERT INTO idempotent.{table} (record_id, slot, finished_at, expires_at, sweep_at, state, evicted, operation, scope, key, response)
         SELECT gen_random_uuid(), 0, now() - interval '1 day', at, at, 'c', false, 'op', '', 'expired ' || n, '1'
         FROM generate_series(1, {rows}) AS n, LATERAL (SELECT now() - interval '1 hour' * n / {rows}) AS a (at)"
    ));
}

/// How many expired records of `fill` are left.
pub fn left(wire: &mut Wire, table: &str) -> usize {
    let count = format!("SELECT count(*) FROM idempotent.{table} WHERE key LIKE 'expired %'");
    wire.run(&count).value().parse().expect("a number")
}

pub fn wait_until_swept(wire: &mut Wire, table: &str) {
    wait_until("nothing that has expired is left", || left(wire, table) == 0);
}

/// Whether a sweeper is connected to this database.
pub fn is_swept(admin: &mut Client, database: &str) -> bool {
    let sweeper = format!("pg_idempotent sweeper {database}");
    let found = admin.query(
        "SELECT FROM pg_stat_activity WHERE backend_type = $1 AND datname = $2",
        &[&sweeper, &database],
    );
    !found.expect("the admin's connection answers").is_empty()
}

pub fn wait_for_sweeper(admin: &mut Client, database: &str) {
    wait_until("a sweeper is there", || is_swept(admin, database));
}

/// Changes settings of the server while it runs.
pub fn set(admin: &mut Client, settings: &[(&str, &str)]) -> Result<()> {
    for (setting, value) in settings {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = {}", quote(value)))?;
    }
    admin.query_one("SELECT pg_reload_conf()", &[])?;
    Ok(())
}

/// The end of a server during which nothing went wrong with our workers, nor does at its end.
pub fn stop_in_peace(cluster: &Cluster) -> Result<()> {
    stop_without(cluster, |_| false)
}

/// The same for one in which databases were dropped: Postgres itself says so to whoever is just about to connect.
pub fn stop_in_peace_after_drops(cluster: &Cluster) -> Result<()> {
    stop_without(cluster, |line| {
        line.contains("FATAL:  database ") && line.ends_with(" does not exist")
    })
}

fn stop_without(cluster: &Cluster, is_allowed: impl Fn(&String) -> bool) -> Result<()> {
    cluster.stop()?;
    let ours = ["WARNING:", "ERROR:", "FATAL:", "PANIC:"].map(|level| vec!["pg_idempotent", level]);
    for words in ours.into_iter().chain([vec!["terminated by signal"], vec!["leak"]]) {
        let mut said = cluster.said(&words)?;
        said.retain(|line| !is_allowed(line));
        assert!(said.is_empty(), "{said:?}");
    }
    Ok(())
}
