//! Fences: numbers from a sequence, so they grow and are never reused.

use crate::domain::error::{Code, Error, Result};
use crate::store::catalog;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// The next fence.
pub fn next() -> Result<i64> {
    let sequence = Sequence::open(catalog::get()?.fence);
    let _rights = OwnerRights::of(&sequence);
    // SAFETY: nextval_oid takes one OID; it checks the rights of the owner, as whom we run here.
    let fence = unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::nextval_oid,
            &[Some(Datum::from(sequence.oid()))],
        )
    };
    sequence.flush();
    fence.map(|fence| fence.value() as i64).ok_or_else(|| {
        Error::new(Code::ObjectNotReady, "could not draw a fence")
            .hint("See that the sequence idempotent.fence is as CREATE EXTENSION made it.")
    })
}

/// The sequence, open.
struct Sequence(pg_sys::Relation);

impl Sequence {
    fn open(oid: pg_sys::Oid) -> Self {
        // SAFETY: an error goes on to the caller. The lock is kept, as nextval keeps its own.
        Self(unsafe { pg_sys::relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE) })
    }

    fn oid(&self) -> pg_sys::Oid {
        // SAFETY: open.
        unsafe { (*self.0).rd_id }
    }

    fn owner(&self) -> pg_sys::Oid {
        // SAFETY: open.
        unsafe { (*(*self.0).rd_rel).relowner }
    }

    /// Makes sure that a crash does not take the sequence back.
    ///
    /// nextval writes WAL for every 32nd value (commands/sequence.c), and it is for the commit to
    /// flush that. But a commit of nothing else than unlogged rows flushes nothing, and whoever drew
    /// the value that was written may roll back.
    fn flush(&self) {
        // SAFETY: the one block of a sequence; pinned while its LSN is read. What is flushed
        // already costs a comparison.
        unsafe {
            let buffer = pg_sys::ReadBuffer(self.0, 0);
            let written = pg_sys::BufferGetLSNAtomic(buffer);
            pg_sys::ReleaseBuffer(buffer);
            pg_sys::XLogFlush(written);
        }
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        // While an error unwinds, Postgres' resource owner closes what is open.
        if !std::thread::panicking() {
            // SAFETY: opened by us.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// The rights of the sequence's owner until dropped, as nextval checks rights by itself: callers are
/// granted functions, not the tables and sequences behind them.
struct OwnerRights {
    user: pg_sys::Oid,
    context: i32,
}

impl OwnerRights {
    fn of(sequence: &Sequence) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: plain reads and writes of this backend's identity, restored on drop; Postgres'
        // abort restores it too.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            pg_sys::SetUserIdAndSecContext(
                sequence.owner(),
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
