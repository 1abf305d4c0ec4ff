//! What the current transaction was answered where it passed (`api/observe.rs`): whoever asks again
//! is answered the same. Like claims, what is remembered follows savepoints.

use crate::pg::memory;
use crate::session::claims::IdHasher;
use crate::session::undo::{Journal, OUTERMOST, current_subtransaction};
use pgrx::pg_sys::SubTransactionId;
use rules::Timestamp;
use rules::error::Result;
use rules::identity::RecordId;
use rules::request::fingerprint::Fingerprint;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// A call that passed, and what it was answered.
#[derive(Clone, Copy)]
pub struct Pass {
    pub fingerprint: Option<Fingerprint>,
    /// Of one with a lease.
    pub fence: Option<i64>,
    pub expires_at: Option<Timestamp>,
}

#[derive(Default)]
struct Passes {
    /// The latest of each key.
    by_id: HashMap<RecordId, Pass, BuildHasherDefault<IdHasher>>,
    journal: Journal<RecordId>,
}

thread_local! {
    static PASSES: RefCell<Passes> = RefCell::new(Passes::default());
}

/// The last call of the transaction that passed with this key, unless that has finished.
pub fn get(id: RecordId) -> Option<Pass> {
    PASSES.with_borrow(|passes| passes.by_id.get(&id).copied())
}

/// # Errors
/// 53200 if there is no memory for it.
pub fn remember(id: RecordId, pass: Pass) -> Result<()> {
    let made_in = current_subtransaction();
    PASSES.with_borrow_mut(|passes| {
        passes.by_id.try_reserve(1).map_err(|_| memory::out_of_memory())?;
        // Outside of savepoints nothing is taken back without the rest.
        if made_in != OUTERMOST {
            passes.journal.make_room()?;
            passes.journal.note(made_in, id);
        }
        passes.by_id.insert(id, pass);
        Ok(())
    })
}

/// The call with this fence has finished: the next is another.
pub fn forget(id: RecordId, fence: Option<i64>) {
    PASSES.with_borrow_mut(|passes| {
        if passes.by_id.get(&id).is_some_and(|pass| pass.fence == fence) {
            passes.by_id.remove(&id);
        }
    });
}

/// A subtransaction is rolled back: a call that is made again is another.
pub fn roll_back(subtransaction: SubTransactionId) {
    PASSES.with_borrow_mut(|passes| {
        while let Some(id) = passes.journal.pop_since(subtransaction) {
            passes.by_id.remove(&id);
        }
    });
}

/// A subtransaction ended well.
pub fn hand_over(subtransaction: SubTransactionId, parent: SubTransactionId) {
    PASSES.with_borrow_mut(|passes| {
        if parent == OUTERMOST {
            passes.journal.forget_since(subtransaction);
        } else {
            passes.journal.hand_over(subtransaction, parent);
        }
    });
}

/// The transaction is over.
pub fn end() {
    PASSES.with_borrow_mut(|passes| {
        if passes.by_id.capacity() > 0 {
            *passes = Passes::default();
        }
    });
}
