//! What a transaction did, by savepoint: rolling one back takes back what was done since.

use crate::pg::{memory, raw};
use pgrx::pg_sys::SubTransactionId;
use rules::error::Result;

/// Postgres' TopSubTransactionId (c.h): the transaction, outside of all savepoints.
pub const OUTERMOST: SubTransactionId = 1;

/// Changes in the order in which they were made, each with the subtransaction that made it.
pub struct Journal<T>(Vec<(SubTransactionId, T)>);

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The subtransaction in which a change is being made now.
pub fn current_subtransaction() -> SubTransactionId {
    // SAFETY: reads this backend's transaction state.
    unsafe { raw::GetCurrentSubTransactionId() }
}

impl<T> Journal<T> {
    /// Makes room for one more.
    ///
    /// # Errors
    /// 53200 if there is no memory for it.
    pub fn make_room(&mut self) -> Result<()> {
        self.0.try_reserve(1).map_err(|_| memory::out_of_memory())
    }

    pub fn note(&mut self, made_in: SubTransactionId, change: T) {
        self.0.push((made_in, change));
    }

    /// How many changes were made in the subtransaction or in one within it.
    pub fn count_since(&self, subtransaction: SubTransactionId) -> usize {
        let tail = self.0.iter().rev();
        tail.take_while(|(made_in, _)| *made_in >= subtransaction).count()
    }

    /// Forgets the changes made in the subtransaction or in one within it: they stay as they are.
    pub fn forget_since(&mut self, subtransaction: SubTransactionId) {
        self.0.truncate(self.0.len() - self.count_since(subtransaction));
    }

    /// Takes out the last change, if it was made in the subtransaction or in one within it.
    pub fn pop_since(&mut self, subtransaction: SubTransactionId) -> Option<T> {
        self.0.pop_if(|(made_in, _)| *made_in >= subtransaction).map(|(_, change)| change)
    }

    /// The changes of a subtransaction that ended well are its parent's from now on.
    pub fn hand_over(&mut self, subtransaction: SubTransactionId, parent: SubTransactionId) {
        let tail = self.0.iter_mut().rev();
        for (made_in, _) in tail.take_while(|(made_in, _)| *made_in >= subtransaction) {
            *made_in = parent;
        }
    }

    /// The last changes made in this very subtransaction, last first.
    pub fn latest_of(&mut self, subtransaction: SubTransactionId) -> impl Iterator<Item = &mut T> {
        let tail = self.0.iter_mut().rev();
        tail.take_while(move |(made_in, _)| *made_in == subtransaction).map(|(_, change)| change)
    }

    /// Everything, first first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.0.drain(..).map(|(_, change)| change)
    }
}
