//! Whether fences were skipped since records were lost.
//!
//! A promoted standby and a restored backup may not have heard of the last fences that were granted, and
//! would grant them again. They have one thing in common: Postgres has emptied the unlogged table. So
//! a row in there, which is not a record either (canary.rs), says that fences were put out of reach
//! since, or that none was granted yet. It says so for the fences of both tables.

use crate::pg::lock;
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::tables::catalog::{self, Catalog};
use crate::tables::hold::{AsLongAsItTakes, Held, Looked, hold};
use crate::tables::open;
use crate::tables::records::canary;
use crate::tables::records::row::column;
use pgrx::pg_sys;
use rules::error::Result;
use rules::identity::RecordId;
use rules::policy::Durability;
use std::cell::Cell;

/// No key has this id, nor has a marker.
const SKIPPED: RecordId = canary::marker_id(u8::MAX);

thread_local! {
    /// The table that was seen to say so, until something about the tables changes.
    static KNOWN: Cell<(pg_sys::Oid, u64)> = const { Cell::new((pg_sys::InvalidOid, 0)) };
}

/// Calls `skip` unless that was done since the unlogged table was emptied. Done is done, whatever
/// becomes of the transaction: if it is rolled back, the next one skips again.
pub fn once(skip: impl FnOnce() -> Result<()>) -> Result<()> {
    let table = catalog::get()?.records(Durability::Unlogged);
    if KNOWN.get() == (table, catalog::generation()) {
        return Ok(());
    }
    // The lease may be of the other table, whose lock is held: a change of an operation's durability
    // wants both, and lets readers in.
    let unlogged = |catalog: &Catalog| catalog.records(Durability::Unlogged);
    let table = open::to_read(column::TYPES, unlogged)?;
    let done = is_done(&table);
    table.give_back();
    if done {
        return Ok(());
    }
    let table = open::to_write(column::TYPES, unlogged)?;
    // Held for the moment of skipping: the second transaction finds the row, though it is not committed.
    let look = || Ok(if is_done(&table) { Looked::Settled(()) } else { Looked::Nothing });
    if let Some(Held { row: None, lock: _lock }) = hold(lock::tag(SKIPPED), &AsLongAsItTakes, look)?
    {
        skip()?;
        canary::insert_at(&table, SKIPPED, None)?;
    }
    Ok(())
}

/// The lock under which fences are skipped.
pub fn lock() -> pg_sys::LOCKTAG {
    lock::tag(SKIPPED)
}

fn is_done(table: &Relation) -> bool {
    let seen = lookup::dirty(table, Key::record(&SKIPPED));
    if seen.state == RowState::Settled && !canary::is_mine(seen.tuple) {
        KNOWN.set((table.oid(), catalog::generation()));
    }
    !seen.tuple.is_null()
}
