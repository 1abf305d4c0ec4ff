//! Locking and opening a table and the index of its primary key in one go, as every call begins.

use crate::pg::{lock, raw};
use pgrx::pg_sys;

/// What came of [`attempt`]: open relations are the caller's to close.
#[derive(Clone, Copy)]
pub enum Attempt {
    /// Both are locked.
    Open {
        raw: pg_sys::Relation,
        primary: pg_sys::Relation,
    },
    IsLocked,
    /// The table's OID is locked.
    Gone,
    /// The table is locked and open.
    IndexIsLocked(pg_sys::Relation),
    /// The table is locked and open.
    NoPrimaryKey(pg_sys::Relation),
}

/// Locks and opens a table and the index of its primary key, as far as that goes without waiting. Nothing here
/// has a destructor: an error jumps over this frame.
///
/// # Safety
/// As for `lock::try_relation_raw`: the caller has kept the owner of resources.
pub unsafe fn attempt(table: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Attempt {
    // SAFETY: the caller catches errors and has kept the owner, which this function demands. Tables of ours are
    // ordinary ones, and both relations are locked before they are opened. Listing the indexes fills in rd_pkindex
    // (utils/relcache.c), and the list is ours to free; the index stays, as its table is locked.
    unsafe {
        if !lock::try_relation_raw(table, lock) {
            return Attempt::IsLocked;
        }
        let raw = raw::open_locked(table);
        if raw.is_null() {
            return Attempt::Gone;
        }
        if !(*raw).rd_indexvalid {
            raw::list_free(raw::RelationGetIndexList(raw));
        }
        let index = (*raw).rd_pkindex;
        if index == pg_sys::InvalidOid {
            return Attempt::NoPrimaryKey(raw);
        }
        if !lock::try_relation_raw(index, lock) {
            return Attempt::IndexIsLocked(raw);
        }
        let primary = raw::index_open(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        // A lock that the transaction has already is taken without a look at them.
        raw::AcceptInvalidationMessages();
        Attempt::Open { raw, primary }
    }
}
