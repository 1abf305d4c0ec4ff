//! Snapshots, and the isolation level's view of what is newer than the transaction's own.

use crate::pg::raw;
use pgrx::pg_sys;
use rules::error::{Code, Error, Result};

/// A snapshot that sees what is committed now and what is being written, and tells by whom: for
/// each tuple, `xmin` is the transaction still inserting it and `xmax` the one still deleting it.
///
/// Postgres' `InitDirtySnapshot` (utils/snapmgr.h).
pub fn dirty() -> pg_sys::SnapshotData {
    of_type(pg_sys::SnapshotType::SNAPSHOT_DIRTY)
}

/// A snapshot that sees what is committed at the moment each tuple is looked at.
pub fn current() -> pg_sys::SnapshotData {
    of_type(pg_sys::SnapshotType::SNAPSHOT_SELF)
}

fn of_type(kind: pg_sys::SnapshotType::Type) -> pg_sys::SnapshotData {
    // SAFETY: SnapshotData has numbers, booleans and pointers, for which zero is a value.
    let mut snapshot: pg_sys::SnapshotData = unsafe { std::mem::zeroed() };
    snapshot.snapshot_type = kind;
    snapshot
}

/// Whether the transaction's own snapshot was taken before `xid`, which has committed, had.
pub fn is_older_than(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: GetTransactionSnapshot returns a snapshot that is valid until it is called again, and
    // XidInMVCCSnapshot only reads it.
    unsafe { pg_sys::XidInMVCCSnapshot(xid, pg_sys::GetTransactionSnapshot()) }
}

/// REPEATABLE READ or SERIALIZABLE: the transaction goes on seeing what it saw first.
pub fn is_frozen() -> bool {
    // SAFETY: XactIsoLevel is a number of this backend, which has one thread.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// For what must see every row there is: 0A000 where the snapshot is an old one.
pub fn refuse_frozen(what: &str) -> Result<()> {
    if !is_frozen() {
        return Ok(());
    }
    Err(Error::new(Code::FeatureNotSupported, format!("{what} under READ COMMITTED"))
        .detail("This transaction's snapshot may not show every row there is.")
        .hint("BEGIN ISOLATION LEVEL READ COMMITTED;"))
}

/// 40001, for what a snapshot that is frozen does not show.
pub fn is_too_old(what: &str, owner: &str) -> Error {
    Error::new(
        Code::SerializationFailure,
        format!("could not serialize access due to concurrent use of the {what}"),
    )
    .detail(format!("What is known of {owner} was written after this transaction's snapshot."))
    .hint("Retry the transaction.")
}

/// Raises 25006 in a read-only transaction and on a standby, and 25000 in a parallel operation,
/// whose workers have no commit that could be guarded.
pub fn refuse_read_only(function: &std::ffi::CStr) {
    // SAFETY: XactReadOnly is a number of this backend, which has one thread, and IsInParallelMode reads another. Both
    // other functions only read the name, which is NUL-terminated; each call of them costs a catch.
    unsafe {
        if pg_sys::XactReadOnly {
            pg_sys::PreventCommandIfReadOnly(function.as_ptr());
        }
        if raw::IsInParallelMode() {
            pg_sys::PreventCommandIfParallelMode(function.as_ptr());
        }
    }
}

/// Whether this server is a standby (or still recovering).
pub fn in_recovery() -> bool {
    // SAFETY: RecoveryInProgress reads shared memory, which every backend is attached to, and cannot raise an error.
    unsafe { raw::RecoveryInProgress() }
}

/// Runs what is not called from a statement of a client, and so has no snapshot yet.
pub fn with_one<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: every caller is within a transaction. An error leaves the snapshot to the transaction's abort.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let done = body()?;
    // SAFETY: the snapshot pushed above is the active one again, as `body` leaves what it found.
    unsafe { pg_sys::PopActiveSnapshot() };
    Ok(done)
}
