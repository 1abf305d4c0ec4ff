//! What the current transaction was answered where it was let through (`keys/observe.rs`): a call that asks
//! again is answered the same. Like claims, what is remembered follows savepoints.

use crate::session::undo::UndoMap;
use pgrx::pg_sys::SubTransactionId;
use rules::Timestamp;
use rules::error::Result;
use rules::identity::RecordId;
use rules::request::fingerprint::Fingerprint;
use std::cell::RefCell;

/// A call that was let through, and what it was answered.
#[derive(Clone, Copy)]
pub struct Answered {
    pub fingerprint: Option<Fingerprint>,
    /// Of one with a lease.
    pub fence: Option<i64>,
    pub expires_at: Option<Timestamp>,
}

thread_local! {
    /// The latest of each key.
    static ANSWERED: RefCell<UndoMap<Answered>> = RefCell::new(UndoMap::default());
}

/// The last call of the transaction that was let through with this key, unless that has finished.
pub fn get(id: RecordId) -> Option<Answered> {
    ANSWERED.with_borrow(|answered| answered.get(id))
}

/// # Errors
/// 53200 if there is no memory for it.
pub fn remember(id: RecordId, answered: Answered) -> Result<()> {
    ANSWERED.with_borrow_mut(|calls| calls.insert(id, (), answered).map(|_| ()))
}

/// The call with this fence has finished: the next is another.
pub fn forget(id: RecordId, fence: Option<i64>) {
    ANSWERED.with_borrow_mut(|answered| {
        if answered.get(id).is_some_and(|before| before.fence == fence) {
            answered.remove(id);
        }
    });
}

/// A subtransaction is rolled back: a call that is made again is another.
pub fn roll_back(subtransaction: SubTransactionId) {
    ANSWERED.with_borrow_mut(|answered| answered.roll_back(subtransaction, |_, _| {}));
}

/// A subtransaction ended well.
pub fn hand_over(subtransaction: SubTransactionId, parent: SubTransactionId) {
    ANSWERED.with_borrow_mut(|answered| answered.hand_over(subtransaction, parent));
}

/// The transaction is over.
pub fn end() {
    ANSWERED.with_borrow_mut(UndoMap::end);
}
