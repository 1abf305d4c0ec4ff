//! Opening our tables by name.

use crate::pg::table::index;
use crate::pg::table::relation::Relation;
use crate::tables::catalog::{self, Catalog};
use pgrx::pg_sys;
use rules::error::Result;
use std::cell::Cell;

/// # Errors
/// 42P01 if there is no such table; 55000 if it does not have the columns this library knows.
pub fn to_read(known: usize, which: impl Fn(&Catalog) -> pg_sys::Oid) -> Result<Relation> {
    open(known, which, pg_sys::AccessShareLock)
}

/// # Errors
/// As `to_read`.
pub fn to_write(known: usize, which: impl Fn(&Catalog) -> pg_sys::Oid) -> Result<Relation> {
    open(known, which, pg_sys::RowExclusiveLock)
}

fn open(known: usize, which: impl Fn(&Catalog) -> pg_sys::Oid, lock: u32) -> Result<Relation> {
    loop {
        let table = which(&catalog::get()?);
        if let Some(relation) = Relation::open(table, lock as pg_sys::LOCKMODE, known)? {
            return Ok(relation);
        }
        // The extension was dropped, and this backend only learns of it as it waits for the lock.
        catalog::forget();
    }
}

/// Like `to_write`, but only if no session holds a lock that keeps writers out.
///
/// # Errors
/// As `to_read`.
pub fn to_write_if_free(
    known: usize,
    which: impl Fn(&Catalog) -> pg_sys::Oid,
) -> Result<Option<Relation>> {
    let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    loop {
        let table = which(&catalog::get()?);
        // SAFETY: ConditionalLockRelationOid takes any OID, also of a relation that is gone; the transaction's
        // end releases the lock.
        if !unsafe { pg_sys::ConditionalLockRelationOid(table, lock) } {
            return Ok(None);
        }
        // SAFETY: the transaction holds `lock` on `table` since the call above.
        if let Some(relation) = unsafe { Relation::open_locked(table, lock, known) }? {
            return Ok(Some(relation));
        }
        catalog::forget();
    }
}

/// Refuses a table with an index that an insert of ours cannot maintain. Looked at again only after
/// something changed.
///
/// # Errors
/// 55000 if there is one.
pub fn check_indexes(table: &Relation) -> Result<()> {
    thread_local! {
        static CHECKED: Cell<[(pg_sys::Oid, u64); 2]> =
            const { Cell::new([(pg_sys::InvalidOid, 0); 2]) };
    }
    let now = (table.oid(), catalog::generation());
    let [latest, other] = CHECKED.get();
    if latest == now || other == now {
        return Ok(());
    }
    if let Some(index) = table.unfit_index() {
        return Err(index::unfit(index));
    }
    CHECKED.set([now, latest]);
    Ok(())
}
