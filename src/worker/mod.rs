//! The background sweeper: a launcher, and one short-lived sweeper per database and visit.
//!
//! The launcher is connected to no database. At each tick it looks at the list of databases and has
//! the server start a sweeper for those that are due ([`visits`]). A sweeper connects, deletes
//! what is due in many short transactions, says how it went, and leaves. Only in a server that
//! preloads the library; elsewhere `idempotent_sweep` does the work.

mod databases;
mod launcher;
mod signals;
mod sweeper;

use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::pg_sys;
use std::time::Duration;

/// The library, as the server finds it again for a worker.
const LIBRARY: &str = "pg_idempotent";
/// After a launcher that ended: long enough not to spin, short enough not to be missed.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// Registers the launcher; called once, from `_PG_init`.
pub fn init() {
    // SAFETY: both are booleans that are set before a library is loaded; `_PG_init` runs on the only thread.
    // (pg_upgrade wants no process beside it.)
    let wanted =
        unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade };
    if wanted {
        // Not before recovery is finished: a standby sweeps nothing.
        BackgroundWorkerBuilder::new("pg_idempotent launcher")
            .set_library(LIBRARY)
            .set_function("pg_idempotent_launcher")
            .enable_spi_access()
            .set_restart_time(Some(RESTART_AFTER))
            .load();
    }
}
