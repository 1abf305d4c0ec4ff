//! Fences: numbers from a sequence, so they grow and are never reused.

use crate::domain::error::{Code, Error, Result};
use crate::store::catalog;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// The next fence.
pub fn next() -> Result<i64> {
    let sequence = catalog::get()?.fence;
    let _rights = OwnerRights::of(sequence);
    // SAFETY: nextval_oid takes one OID; it checks the rights of the owner, as whom we run here.
    let fence = unsafe {
        pgrx::direct_function_call_as_datum(pg_sys::nextval_oid, &[Some(Datum::from(sequence))])
    };
    fence.map(|fence| fence.value() as i64).ok_or_else(|| {
        Error::new(Code::ObjectNotReady, "could not draw a fence")
            .hint("See that the sequence idempotent.fence is as CREATE EXTENSION made it.")
    })
}

/// The rights of a relation's owner until dropped, for what checks rights by itself: callers are
/// granted functions, not the tables and sequences behind them.
struct OwnerRights {
    user: pg_sys::Oid,
    context: i32,
}

impl OwnerRights {
    fn of(relation: pg_sys::Oid) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: plain reads and writes of this backend's identity, restored on drop; Postgres'
        // abort restores it too. The relation is open only while its owner is read.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let open = pg_sys::relation_open(relation, lock);
            let owner = (*(*open).rd_rel).relowner;
            pg_sys::relation_close(open, pg_sys::NoLock as pg_sys::LOCKMODE);
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            pg_sys::SetUserIdAndSecContext(
                owner,
                before.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
            );
        }
        before
    }
}

impl Drop for OwnerRights {
    fn drop(&mut self) {
        // SAFETY: what `of` read.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
