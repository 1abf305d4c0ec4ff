//! The protocol by which every row of ours is looked at before it is written: take its lock, look what
//! is there whatever the statement's snapshot is, and if a transaction is writing the row past the
//! lock, give the lock back, wait for that transaction, and begin again.
//!
//! The lock goes first, so that no two sessions wait for each other's lock and row at once.

use crate::pg::lock::{self, KeyLock};
use crate::pg::table::relation::Relation;
use pgrx::pg_sys::{ItemPointerData, LOCKTAG, TransactionId};
use rules::error::Result;

/// What is there of a row while its lock is held.
pub enum Looked<T> {
    Nothing,
    /// A row that no transaction is writing.
    Settled(T),
    /// A transaction that does not hold the lock is inserting or deleting the row, and may yet roll
    /// back.
    BeingWritten(TransactionId),
}

/// How long a call waits for what is in its way.
pub trait Patience {
    /// Takes the lock; `None` if that took too long.
    fn lock(&self, tag: LOCKTAG) -> Option<KeyLock>;

    /// Waits for the end of a transaction; whether it came in time.
    fn transaction_ends(&self, xid: TransactionId) -> bool;
}

/// How long a call waits for a row that another transaction has locked, too.
pub trait RowPatience: Patience {
    /// Waits for a transaction that has locked a row, and locks it: see `Relation::lock_row`. `None` if that
    /// took too long.
    ///
    /// # Safety
    /// The tuple must be there, if only as another transaction's delete.
    unsafe fn lock_row(&self, table: &Relation, tid: ItemPointerData) -> Option<bool>;
}

/// Waits for nothing.
pub struct AtOnce;

impl Patience for AtOnce {
    fn lock(&self, tag: LOCKTAG) -> Option<KeyLock> {
        KeyLock::try_acquire(tag)
    }

    fn transaction_ends(&self, _: TransactionId) -> bool {
        false
    }
}

/// Waits as long as the session's own timeouts allow.
pub struct AsLongAsItTakes;

impl Patience for AsLongAsItTakes {
    fn lock(&self, tag: LOCKTAG) -> Option<KeyLock> {
        Some(KeyLock::acquire(tag))
    }

    fn transaction_ends(&self, xid: TransactionId) -> bool {
        lock::transaction_ends(xid);
        true
    }
}

impl RowPatience for AsLongAsItTakes {
    unsafe fn lock_row(&self, table: &Relation, tid: ItemPointerData) -> Option<bool> {
        // SAFETY: the tuple is there, which this function demands.
        Some(unsafe { table.lock_row(tid) })
    }
}

/// A row whose lock is held: until the lock is dropped, or to the transaction's end if it is kept.
pub struct Held<T> {
    pub lock: KeyLock,
    /// The row, if there is one.
    pub row: Option<T>,
}

/// Holds a row; `None` if the patience was not enough.
///
/// # Errors
/// Those of `look`.
pub fn hold<T>(
    tag: LOCKTAG,
    patience: &impl Patience,
    look: impl Fn() -> Result<Looked<T>>,
) -> Result<Option<Held<T>>> {
    loop {
        let Some(lock) = patience.lock(tag) else {
            return Ok(None);
        };
        match look()? {
            Looked::Nothing => return Ok(Some(Held { lock, row: None })),
            Looked::Settled(row) => return Ok(Some(Held { lock, row: Some(row) })),
            Looked::BeingWritten(xid) => {
                drop(lock);
                if !patience.transaction_ends(xid) {
                    return Ok(None);
                }
            }
        }
    }
}
