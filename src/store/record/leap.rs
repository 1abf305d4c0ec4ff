//! Whether fences have leapt since records were lost.
//!
//! A promoted standby and a restored backup may not have heard of the last fences that were granted, and
//! would grant them again. They have one thing in common: Postgres has emptied the unlogged table. So
//! a row in there, which is no record either (marker.rs), says that fences were put out of reach
//! since, or that none was granted yet. It says so for the fences of both tables.

use crate::domain::error::Result;
use crate::domain::identity::RecordId;
use crate::domain::policy::Durability;
use crate::store::catalog::{self, Catalog};
use crate::store::lock::KeyLock;
use crate::store::look::{self, Key, Kind};
use crate::store::record::{column, marker};
use crate::store::relation::Relation;
use pgrx::pg_sys;
use std::cell::Cell;

/// No key has this id, nor has a marker.
const LEAPT: RecordId = marker::place(u8::MAX);

thread_local! {
    /// The table that was seen to say so, until something about the tables changes.
    static KNOWN: Cell<(pg_sys::Oid, u64)> = const { Cell::new((pg_sys::InvalidOid, 0)) };
}

/// Calls `leap` unless that was done since the unlogged table was emptied. Done is done, whatever
/// becomes of the transaction: if it is rolled back, the next one leaps again.
pub fn once(leap: impl FnOnce() -> Result<()>) -> Result<()> {
    let table = catalog::get()?.records(Durability::Unlogged);
    if KNOWN.get() == (table, catalog::generation()) {
        return Ok(());
    }
    // The lease may be of the other table, whose lock is held: who changes an operation's durability
    // wants both, and lets readers in.
    let unlogged = |catalog: &Catalog| catalog.records(Durability::Unlogged);
    let table = Relation::open_to_read(column::COUNT, unlogged)?;
    let done = is_done(&table);
    table.give_back();
    if done {
        return Ok(());
    }
    let table = Relation::open_to_write(column::COUNT, unlogged)?;
    // Held for the moment of leaping: who comes second finds the row, though it is not committed.
    let _lock = KeyLock::acquire(LEAPT);
    if !is_done(&table) {
        leap()?;
        marker::insert_at(&table, LEAPT, None);
    }
    Ok(())
}

fn is_done(table: &Relation) -> bool {
    let seen = look::dirty(table, Key::record(&LEAPT));
    if seen.kind == Kind::Settled && !marker::is_mine(seen.tuple) {
        KNOWN.set((table.oid(), catalog::generation()));
    }
    !seen.tuple.is_null()
}
