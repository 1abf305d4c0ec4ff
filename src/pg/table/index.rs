//! Open indexes, and which of them an insert of ours can maintain.

use crate::pg::raw;
use pgrx::pg_sys;
use rules::error::{Code, Error};
use std::ffi::CStr;

/// An open index.
pub struct Index {
    pub raw: pg_sys::Relation,
}

impl Index {
    /// # Safety
    /// The index must exist, and its table be locked.
    pub unsafe fn open(index: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: the index exists, which this function demands. The lock is kept until the transaction
        // ends, so that taking it again is a matter of this backend alone.
        Self { raw: unsafe { pg_sys::index_open(index, lock) } }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: `open` has opened the index, and only `drop` closes it.
        unsafe { (*self.raw).rd_id }
    }

    /// Whether a walk along it goes by this column of the table, upwards, and by nothing else.
    pub fn orders_by(&self, column: usize) -> bool {
        // SAFETY: `open` has opened the index, so its rd_index and rd_indoption are there, with at least one element
        // in indkey and options. Attributes count from 1.
        unsafe {
            let first = (*(*self.raw).rd_index).indkey.values.as_slice(1).first().copied();
            (*(*self.raw).rd_rel).relam == pg_sys::BTREE_AM_OID
                && (*(*self.raw).rd_index).indisvalid
                && (*(*self.raw).rd_index).indnkeyatts == 1
                && *(*self.raw).rd_indoption & pg_sys::INDOPTION_DESC as i16 == 0
                && pg_sys::RelationGetIndexPredicate(self.raw).is_null()
                && first.is_some_and(|attribute| usize::try_from(attribute) == Ok(column + 1))
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // While an error unwinds, Postgres' resource owner closes what is open.
        if !std::thread::panicking() {
            // SAFETY: `open` took the reference that this gives back; nothing uses it any more.
            unsafe { raw::index_close(self.raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// Whether `insert` and `replace` can maintain an index: no expressions, no predicate, nothing deferred, and
/// an entry for each row. (A summary, as BRIN makes, must be told of rows that are replaced in place.)
///
/// # Safety
/// The index must exist, and its table be locked.
pub unsafe fn is_plain(index: pg_sys::Oid) -> bool {
    // SAFETY: the index exists and its table is locked, which this function demands, so it stays; it is
    // read while it is open.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let open = pg_sys::index_open(index, lock);
        let plain = pg_sys::RelationGetIndexExpressions(open).is_null()
            && pg_sys::RelationGetIndexPredicate(open).is_null()
            && (*(*open).rd_index).indimmediate
            && !(*(*open).rd_index).indisexclusion
            && (*(*open).rd_rel).relam != pg_sys::BRIN_AM_OID;
        pg_sys::index_close(open, lock);
        plain
    }
}

/// An administrator's index is in the way: 55000.
pub fn unfit(index: pg_sys::Oid) -> Error {
    let name = name(index);
    Error::new(Code::ObjectNotReady, format!("index \"{name}\" cannot be maintained"))
        .detail("Records are written past the executor, into plain indexes only: no expressions, no WHERE, nothing deferred, not BRIN.")
        .hint(format!("DROP INDEX idempotent.{name}; or index the columns themselves."))
}

/// A table of ours has lost its primary key: 55000.
pub fn no_primary_key(table: pg_sys::Oid) -> Error {
    let name = name(table);
    Error::new(Code::ObjectNotReady, format!("idempotent.{name} has no primary key"))
        .detail("Nothing is looked up without it, and nothing is unique.")
        .hint(
            "Restore the extension: DROP EXTENSION pg_idempotent; CREATE EXTENSION pg_idempotent;",
        )
}

fn name(relation: pg_sys::Oid) -> String {
    // SAFETY: get_rel_name takes any OID and returns null or a palloc'd, NUL-terminated copy.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}
