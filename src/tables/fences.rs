//! Fences: numbers from a sequence, so they grow and are never reused. Positions of the outbox follow the same rule.

use crate::pg::lock::{self, KeyLock};
use crate::pg::rights::OwnerRights;
use crate::tables::records::fence_epoch;
use crate::tables::{catalog, open};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};

/// How many fences are skipped when some may have been granted that this server has not heard of: further
/// than any server grants in the time that a standby or a backup may be behind. Numbers that JSON can
/// carry last for nine million times.
const SKIP: i64 = 1_000_000_000;

/// The next fence, above `last`, that of the row before. The sequence may be behind it: one does not
/// come along by logical replication, and an administrator may set it.
pub fn next(last: Option<i64>) -> Result<i64> {
    let sequence = Sequence::open(catalog::get()?.fence)?;
    fence_epoch::once(|| sequence.skip())?;
    let fence = sequence.draw()?;
    match last {
        Some(last) if fence <= last => sequence.draw_above(last),
        _ => Ok(fence),
    }
}

/// The next position of a message, above `last`, that of one in its topic: that sequence may be behind, too.
pub fn position_above(last: i64) -> Result<i64> {
    Sequence::open(catalog::get()?.position)?.draw_above(last)
}

/// No server grants a fence above this one, however often it skips some; one that comes from elsewhere and
/// is higher is made up, and would use up all there are.
const HIGHEST: i64 = i64::MAX / 2;

/// Lets fences go on above one that was granted elsewhere.
///
/// # Errors
/// 22023 if no server can have granted it.
pub fn stay_above(fence: i64) -> Result<()> {
    if fence > HIGHEST {
        return Err(Error::new(Code::InvalidParameter, "no server has granted such a fence")
            .detail(format!("It is above {HIGHEST}."))
            .hint("Pass rows as idempotent_export() returns them."));
    }
    next(Some(fence)).map(drop)
}

/// The sequence, open.
struct Sequence(pg_sys::Relation);

impl Sequence {
    /// # Errors
    /// ID001 if another session keeps it locked for longer than the call waits.
    fn open(oid: pg_sys::Oid) -> Result<Self> {
        // As nextval takes and keeps it.
        if !lock::relation(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) {
            return Err(open::is_locked(oid));
        }
        // SAFETY: relation_open takes any OID and raises an error if there is no relation; it is locked.
        Ok(Self(unsafe { pg_sys::relation_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE) }))
    }

    fn oid(&self) -> pg_sys::Oid {
        // SAFETY: `open` has opened the sequence, and only `drop` closes it.
        unsafe { (*self.0).rd_id }
    }

    fn draw(&self) -> Result<i64> {
        let fence = self.call(pg_sys::nextval_oid, None);
        self.flush();
        fence.ok_or_else(|| {
            Error::new(Code::ObjectNotReady, "could not draw a fence")
                .hint("See that the sequence idempotent.fence is as CREATE EXTENSION made it.")
        })
    }

    /// A server that has never granted a fence begins with 1, unless it was a standby: the one that
    /// it followed may have granted some.
    fn skip(&self) -> Result<()> {
        let fence = self.draw()?;
        // SAFETY: GetWALInsertionTimeLine demands that recovery is over (xlog.c): a call that draws a fence has
        // been refused on a standby by `refuse_read_only`.
        let never_promoted = unsafe { pg_sys::GetWALInsertionTimeLine() } == 1;
        let next = if fence == 1 && never_promoted { 1 } else { fence.saturating_add(SKIP) };
        self.call(pg_sys::setval3_oid, Some(next));
        Ok(())
    }

    /// Sets the sequence to what is above `last`, under a lock, so that no two sessions set it back.
    fn draw_above(&self, last: i64) -> Result<i64> {
        let _lock = KeyLock::acquire(fence_epoch::lock());
        let fence = self.draw()?;
        if fence > last {
            return Ok(fence);
        }
        self.call(pg_sys::setval3_oid, Some(last.saturating_add(1)));
        self.draw()
    }

    /// Calls one of Postgres' functions for sequences as the owner of the sequence, since they check the
    /// rights of the current user.
    fn call(
        &self,
        function: unsafe fn(pg_sys::FunctionCallInfo) -> Datum,
        value: Option<i64>,
    ) -> Option<i64> {
        // SAFETY: `open` has opened the sequence, and only `drop` closes it.
        let _rights = unsafe { OwnerRights::of(self.0) };
        let mut arguments = vec![Some(Datum::from(self.oid()))];
        // setval3 says whether the value counts as granted: it does not.
        arguments.extend(
            value
                .into_iter()
                .flat_map(|value| [Some(Datum::from(value)), Some(Datum::from(false))]),
        );
        // SAFETY: nextval_oid takes an OID, and setval3_oid an OID, a bigint and a boolean, which is what
        // `arguments` holds without and with a value; neither reads flinfo.
        let result = unsafe { pgrx::direct_function_call_as_datum(function, &arguments) };
        result.map(|value| value.value() as i64)
    }

    /// Makes sure that a crash does not take the sequence back.
    ///
    /// nextval writes WAL for every 32nd value (commands/sequence.c), and it is for the commit to
    /// flush that. But a commit of unlogged rows alone flushes nothing, and the transaction that drew the
    /// value that was written may roll back.
    fn flush(&self) {
        // SAFETY: a sequence has exactly one block, number 0, and the relation is open. The buffer is pinned
        // while its LSN is read. (A position that is flushed already costs a comparison.)
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
            // SAFETY: `open` took the reference that this gives back; nothing uses it any more.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}
