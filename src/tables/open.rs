//! Opening our tables by name.

use crate::pg::limit::in_the_way;
use crate::pg::lock;
use crate::pg::table::index;
use crate::pg::table::relation::{AtOnce, Relation};
use crate::tables::catalog::{self, Catalog};
use pgrx::pg_sys;
use rules::error::{Error, Result};
use std::cell::Cell;

/// Opens a table, with a lock that lasts until the transaction ends. What other sessions have changed until then
/// is learned with it: see `catalog::generation`.
///
/// # Errors
/// 42P01 if there is no such table; 55000 if it does not have the columns this library knows; ID001 if another
/// session keeps it locked for longer than the call waits.
pub fn to_read(known: &[pg_sys::Oid], which: impl Fn(&Catalog) -> pg_sys::Oid) -> Result<Relation> {
    open(known, which, pg_sys::AccessShareLock)
}

/// # Errors
/// As `to_read`.
pub fn to_write(
    known: &[pg_sys::Oid],
    which: impl Fn(&Catalog) -> pg_sys::Oid,
) -> Result<Relation> {
    open(known, which, pg_sys::RowExclusiveLock)
}

fn open(
    known: &[pg_sys::Oid],
    which: impl Fn(&Catalog) -> pg_sys::Oid,
    lock: u32,
) -> Result<Relation> {
    let lock = lock as pg_sys::LOCKMODE;
    loop {
        let table = which(&catalog::get()?);
        let opened = match Relation::open_at_once(table, lock, known)? {
            AtOnce::Open(relation) => Some(relation),
            AtOnce::InTheWay => open_waiting(table, lock, known)?,
            AtOnce::Gone => None,
        };
        if let Some(relation) = opened {
            return Ok(relation);
        }
        // The extension was dropped, and this backend only learns of it as it takes the lock.
        catalog::forget();
    }
}

/// The same for as long as the call may wait; `None` if there is no such table any more.
fn open_waiting(
    table: pg_sys::Oid,
    lock: pg_sys::LOCKMODE,
    known: &[pg_sys::Oid],
) -> Result<Option<Relation>> {
    if !lock::relation(table, lock) {
        return Err(is_locked(table));
    }
    // SAFETY: the transaction holds `lock` on `table` since the call above.
    let opened = unsafe { Relation::open_locked(table, lock, known) }?;
    if opened.is_none() {
        lock::release_relation(table, lock);
    }
    catalog::refresh();
    Ok(opened)
}

/// The wait of the call is over, and the table still another session's: ALTER TABLE, VACUUM FULL, LOCK.
pub fn is_locked(table: pg_sys::Oid) -> Error {
    // SAFETY: get_rel_name returns a palloc'd, NUL-terminated string, or null without such a relation.
    let name = unsafe {
        let name = pg_sys::get_rel_name(table);
        if name.is_null() { c"?" } else { std::ffi::CStr::from_ptr(name) }
    };
    in_the_way("a table of the extension is locked").detail(format!(
        "Another session holds a lock on idempotent.{}, or waits for one, that keeps calls out: pg_locks shows it.",
        name.to_string_lossy()
    ))
}

/// Like `to_write`, but only if no session holds a lock that keeps writers out.
///
/// # Errors
/// As `to_read`.
pub fn to_write_if_free(
    known: &[pg_sys::Oid],
    which: impl Fn(&Catalog) -> pg_sys::Oid,
) -> Result<Option<Relation>> {
    let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    loop {
        match Relation::open_at_once(which(&catalog::get()?), lock, known)? {
            AtOnce::Open(relation) => return Ok(Some(relation)),
            AtOnce::InTheWay => return Ok(None),
            AtOnce::Gone => catalog::forget(),
        }
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
