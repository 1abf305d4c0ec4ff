//! Counts of what a transaction did, added when it commits; what is rolled back is not counted.
//!
//! PREPARE TRANSACTION counts as a commit: a backend never learns of the end of what it prepared.

use crate::session::undo::{Journal, current_subtransaction};
use crate::stats::{Counter, TABLE, Tally};
use pgrx::pg_sys::SubTransactionId;
use std::cell::RefCell;
use std::rc::Rc;

pub(crate) struct Done {
    tally: Rc<Tally>,
    counter: Counter,
    n: u64,
}

/// How far back to look for an entry to add to, so that a transaction which finishes a million keys
/// keeps a few entries and not a million.
const LOOK_BACK: usize = 16;

thread_local! {
    static PENDING: RefCell<Journal<Done>> = RefCell::new(Journal::default());
}

impl Done {
    pub(crate) fn new(tally: &Rc<Tally>, counter: Counter, n: u64) -> Self {
        Self { tally: Rc::clone(tally), counter, n }
    }

    fn count(&self) {
        self.tally.add(self.counter, self.n);
    }
}

/// Counts once the transaction has committed.
pub fn count(tally: &Rc<Tally>, counter: Counter, n: u64) {
    if n > 0 && TABLE.get().is_some() {
        let done = Done::new(tally, counter, n);
        PENDING.with_borrow_mut(|pending| pending.add(current_subtransaction(), done));
    }
}

impl Journal<Done> {
    pub(crate) fn add(&mut self, made_in: SubTransactionId, done: Done) {
        let same = |earlier: &&mut Done| {
            earlier.counter == done.counter && Rc::ptr_eq(&earlier.tally, &done.tally)
        };
        let earlier = self.latest_of(made_in).take(LOOK_BACK).find(same);
        if let Some(earlier) = earlier {
            earlier.n = earlier.n.saturating_add(done.n);
        } else if self.make_room().is_ok() {
            self.note(made_in, done);
        } else {
            // Without memory to wait in, it counts at once, though it may yet be rolled back.
            done.count();
        }
    }

    /// What a subtransaction did is its parent's from now on, and is added to what that did.
    pub(crate) fn add_up(&mut self, subtransaction: SubTransactionId, parent: SubTransactionId) {
        let mut done = Vec::new();
        if done.try_reserve_exact(self.count_since(subtransaction)).is_err() {
            // Without memory to add them up in, they stay apart.
            self.hand_over(subtransaction, parent);
            return;
        }
        done.extend(std::iter::from_fn(|| self.pop_since(subtransaction)));
        for done in done {
            self.add(parent, done);
        }
    }
}

/// A subtransaction is rolled back.
pub fn roll_back(subtransaction: SubTransactionId) {
    PENDING.with_borrow_mut(|pending| while pending.pop_since(subtransaction).is_some() {});
}

/// A subtransaction ended well.
pub fn hand_over(subtransaction: SubTransactionId, parent: SubTransactionId) {
    PENDING.with_borrow_mut(|pending| pending.add_up(subtransaction, parent));
}

/// The transaction is over.
pub fn end(committed: bool) {
    PENDING.with_borrow_mut(|pending| {
        for done in pending.drain() {
            if committed {
                done.count();
            }
        }
    });
}
