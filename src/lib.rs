//! pg_idempotent: idempotency keys inside the caller's transaction.
//!
//! A call goes through the rooms in one direction: `api` (arguments in, row out), `keys` (the life of
//! a key), `tables` (one file a table), `session` (what a backend remembers), `pg` (Postgres for
//! Rust). The decisions are made in the crate `rules`, which all rooms ask and which knows none.
//! `stats` counts, `worker` sweeps, `scan` is the plan node that calls a function in FROM.

mod api;
mod keys;
mod pg;
mod scan;
mod session;
mod settings;
mod stats;
mod tables;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod worker;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/10_tables.sql", name = "tables", bootstrap);
extension_sql_file!("../sql/15_reset.sql", name = "reset", requires = ["tables"]);
extension_sql_file!("../sql/12_earlier.sql", name = "earlier", requires = ["reset"]);
extension_sql_file!("../sql/20_types.sql", name = "types", requires = ["earlier"]);
extension_sql_file!("../sql/30_functions.sql", name = "functions", requires = ["types"]);
extension_sql_file!("../sql/35_http.sql", name = "http", requires = ["functions"]);
extension_sql_file!("../sql/40_statistics.sql", name = "statistics", requires = ["http"]);
extension_sql_file!("../sql/50_consumer.sql", name = "consumer", requires = ["statistics"]);
extension_sql_file!("../sql/52_offsets.sql", name = "offsets", requires = ["consumer"]);
extension_sql_file!("../sql/54_locks.sql", name = "locks", requires = ["offsets"]);
extension_sql_file!("../sql/56_observe.sql", name = "observe", requires = ["locks"]);
extension_sql_file!("../sql/58_audit.sql", name = "audit", requires = ["observe"]);
extension_sql_file!("../sql/58_rights.sql", name = "rights", requires = ["audit"]);
extension_sql_file!("../sql/60_settings.sql", name = "settings", requires = ["rights"]);
extension_sql_file!("../sql/62_by_hand.sql", name = "by_hand", requires = ["settings"]);
extension_sql_file!("../sql/64_nodes.sql", name = "nodes", requires = ["by_hand"]);
extension_sql_file!("../sql/70_outbox.sql", name = "outbox", requires = ["nodes"]);
extension_sql_file!("../sql/72_saga.sql", name = "saga", requires = ["outbox"]);
extension_sql_file!("../sql/74_saga_run.sql", name = "saga_run", requires = ["saga"]);
extension_sql_file!("../sql/76_move.sql", name = "move", requires = ["saga_run"]);
extension_sql_file!("../sql/76_saga_settle.sql", name = "saga_settle", requires = ["move"]);
extension_sql_file!("../sql/78_scope.sql", name = "scope", requires = ["saga_settle"]);
extension_sql_file!("../sql/80_health.sql", name = "health", requires = ["scope"]);
extension_sql_file!("../sql/84_damage.sql", name = "damage", requires = ["health"]);
extension_sql_file!("../sql/85_doctor.sql", name = "doctor", requires = ["damage"]);
extension_sql_file!("../sql/90_rights.sql", name = "only_rights_meant", requires = ["doctor"]);

/// Called by Postgres once, when the library is loaded into a backend.
#[allow(non_snake_case)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::init();
    pg::catalog_changes::init();
    tables::catalog::init();
    tables::operations::init();
    tables::own::init();
    session::transaction::init();
    pg::shared_memory::init(&SHARED);
    scan::init(api::ANSWERING, &keys::answer::TYPES);
    worker::init();
}

/// What is kept in shared memory.
static SHARED: [&dyn pg::shared_memory::Piece; 3] =
    [&stats::TABLE, &stats::samples::SAMPLES, &stats::visits::VISITS];

/// What `cargo pgrx test` asks of the crate.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
