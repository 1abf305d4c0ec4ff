//! What the current transaction was answered where it passed (`keys/observe.rs`): a call that asks
//! again is answered the same. Like claims, what is remembered follows savepoints.

use crate::session::undo::UndoMap;
use pgrx::pg_sys::SubTransactionId;
use rules::Timestamp;
use rules::error::Result;
use rules::identity::RecordId;
use rules::request::fingerprint::Fingerprint;
use std::cell::RefCell;

/// A call that passed, and what it was answered.
#[derive(Clone, Copy)]
pub struct Pass {
    pub fingerprint: Option<Fingerprint>,
    /// Of one with a lease.
    pub fence: Option<i64>,
    pub expires_at: Option<Timestamp>,
}

thread_local! {
    /// The latest of each key.
    static PASSES: RefCell<UndoMap<Pass>> = RefCell::new(UndoMap::default());
}

/// The last call of the transaction that passed with this key, unless that has finished.
pub fn get(id: RecordId) -> Option<Pass> {
    PASSES.with_borrow(|passes| passes.get(id))
}

/// # Errors
/// 53200 if there is no memory for it.
pub fn remember(id: RecordId, pass: Pass) -> Result<()> {
    PASSES.with_borrow_mut(|passes| passes.insert(id, (), pass).map(|_| ()))
}

/// The call with this fence has finished: the next is another.
pub fn forget(id: RecordId, fence: Option<i64>) {
    PASSES.with_borrow_mut(|passes| {
        if passes.get(id).is_some_and(|pass| pass.fence == fence) {
            passes.remove(id);
        }
    });
}

/// A subtransaction is rolled back: a call that is made again is another.
pub fn roll_back(subtransaction: SubTransactionId) {
    PASSES.with_borrow_mut(|passes| passes.roll_back(subtransaction, |_, _| {}));
}

/// A subtransaction ended well.
pub fn hand_over(subtransaction: SubTransactionId, parent: SubTransactionId) {
    PASSES.with_borrow_mut(|passes| passes.hand_over(subtransaction, parent));
}

/// The transaction is over.
pub fn end() {
    PASSES.with_borrow_mut(UndoMap::end);
}
