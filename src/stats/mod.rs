//! Counters per database and operation, in shared memory.
//!
//! They are kept where the library was preloaded; elsewhere counting does nothing. Counting never
//! raises an error and never waits for a lock that is held while anything of Postgres is called, so
//! it may be done at any point: in a transaction, at its end, or while an error unwinds.
//!
//! Names come from callers, so the room has bounds: see [`table`].

mod counter;
pub mod samples;
pub mod table;
mod tally;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
pub mod visits;

pub use counter::Counter;
pub use tally::{Tally, add};

use crate::pg::shared_memory::Region;
use pgrx::pg_sys;
use table::{Counts, Table};

/// The counters of the whole server.
pub static TABLE: Region<Table> = Region::new(c"pg_idempotent counters");

/// The counters of the current database, by operation; `None` where none are kept.
pub fn of_this_database() -> Option<Vec<(Vec<u8>, Counts)>> {
    TABLE.get().map(|table| table.of_database(this_database()))
}

/// Forgets the counters and examples of the databases for which `gone` says so. Operations that are counted
/// again begin at zero.
pub fn forget(gone: impl Fn(pg_sys::Oid) -> bool) {
    samples::forget(&gone);
    if let Some(table) = TABLE.get() {
        let databases = table.databases();
        let databases = databases.into_iter().filter(|oid| gone(pg_sys::Oid::from(*oid)));
        let databases: Vec<_> = databases.collect();
        if !databases.is_empty() {
            table.free(&databases);
        }
    }
}

fn this_database() -> u32 {
    // SAFETY: MyDatabaseId is set when the backend connects and never written after that.
    u32::from(unsafe { pg_sys::MyDatabaseId })
}
