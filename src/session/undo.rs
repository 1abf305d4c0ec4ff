//! What a transaction did, by savepoint: rolling one back takes back what was done since.
//!
//! A [`Journal`] is a list of changes, each with the subtransaction that made it. An [`UndoMap`] is a
//! map by record id that keeps such a list of its own, and restores what it held before.

use crate::pg::{memory, raw};
use pgrx::pg_sys::SubTransactionId;
use rules::error::Result;
use rules::identity::RecordId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

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
    // SAFETY: GetCurrentSubTransactionId reads this backend's transaction state and cannot raise an error.
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

    /// Takes out the changes that `is_done` says are done, told the subtransaction that made each.
    pub fn retain_undone(&mut self, mut is_done: impl FnMut(SubTransactionId, &T) -> bool) {
        self.0.retain(|(made_in, change)| !is_done(*made_in, change));
    }

    /// Everything, first first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.0.drain(..).map(|(_, change)| change)
    }
}

/// A record id is a digest already: a part of it is as good a hash as any.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(size_of::<u64>()) {
            self.0 ^= chunk.iter().fold(0, |hash, byte| (hash << 8) | u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Entries from which on a transaction leaves so much free memory that the process should not keep it.
const MANY: usize = 10_000;

/// Postgres' InvalidSubTransactionId (c.h): no subtransaction has this number.
pub const NOWHERE: SubTransactionId = 0;

struct Entry<V, F> {
    value: V,
    fixed: F,
    /// The subtransaction in which the journal last noted what the value was before.
    noted_in: SubTransactionId,
}

/// A change to undo when the subtransaction that made it is rolled back.
struct Change<V> {
    id: RecordId,
    /// What was there before; `None`: nothing.
    before: Option<V>,
}

/// What a backend remembers by record id, in step with its savepoints. Beside its value an entry has
/// what never changes of it (`F`), which no undo needs to copy.
pub struct UndoMap<V, F = ()> {
    by_id: HashMap<RecordId, Entry<V, F>, BuildHasherDefault<IdHasher>>,
    journal: Journal<Change<V>>,
}

impl<V, F> Default for UndoMap<V, F> {
    fn default() -> Self {
        Self { by_id: HashMap::default(), journal: Journal::default() }
    }
}

impl<V: Copy, F> UndoMap<V, F> {
    pub fn get(&self, id: RecordId) -> Option<V> {
        self.by_id.get(&id).map(|entry| entry.value)
    }

    /// What is fixed of an entry.
    pub fn fixed(&self, id: RecordId) -> Option<&F> {
        self.by_id.get(&id).map(|entry| &entry.fixed)
    }

    /// Every value, with what is fixed of it.
    pub fn iter(&self) -> impl Iterator<Item = (&V, &F)> {
        self.by_id.values().map(|entry| (&entry.value, &entry.fixed))
    }

    /// Sets a value; returns the one before.
    ///
    /// # Errors
    /// 53200 if there is no memory for it.
    pub fn insert(&mut self, id: RecordId, fixed: F, value: V) -> Result<Option<V>> {
        self.by_id.try_reserve(1).map_err(|_| memory::out_of_memory())?;
        let earlier = self.by_id.get(&id);
        let before = earlier.map(|entry| entry.value);
        let noted_in = self.note(earlier.map_or(NOWHERE, |entry| entry.noted_in), id, before)?;
        self.by_id.insert(id, Entry { value, fixed, noted_in });
        Ok(before)
    }

    /// Changes a value that is there.
    ///
    /// # Errors
    /// 53200 if there is no memory for it.
    pub fn change(&mut self, id: RecordId, change: impl FnOnce(&mut V)) -> Result<()> {
        let Some(earlier) = self.by_id.get(&id) else { return Ok(()) };
        let noted_in = self.note(earlier.noted_in, id, Some(earlier.value))?;
        if let Some(entry) = self.by_id.get_mut(&id) {
            change(&mut entry.value);
            entry.noted_in = noted_in;
        }
        Ok(())
    }

    /// Changes a value that is there, for good: no rollback takes it back.
    pub fn change_for_good(&mut self, id: RecordId, change: impl FnOnce(&mut V)) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            change(&mut entry.value);
        }
    }

    /// Removes a value, for good: no rollback brings it back.
    pub fn remove(&mut self, id: RecordId) {
        self.by_id.remove(&id);
    }

    /// Notes what a value was before; the subtransaction of the latest note is returned. A transaction
    /// that asks for the same key a million times keeps one note of it for each savepoint. Outside of
    /// savepoints, where nothing is taken back without the rest, it keeps none.
    fn note(
        &mut self,
        noted_in: SubTransactionId,
        id: RecordId,
        before: Option<V>,
    ) -> Result<SubTransactionId> {
        let made_in = current_subtransaction();
        if made_in != OUTERMOST && made_in != noted_in {
            self.journal.make_room()?;
            self.journal.note(made_in, Change { id, before });
        }
        Ok(made_in)
    }

    /// A subtransaction ended well: what it changed is its parent's from now on.
    pub fn hand_over(&mut self, subtransaction: SubTransactionId, parent: SubTransactionId) {
        if parent == OUTERMOST {
            self.journal.forget_since(subtransaction);
        } else {
            self.journal.hand_over(subtransaction, parent);
        }
    }

    /// A subtransaction is rolled back. `undone` is told of each change that is taken back: the value
    /// until then, and the one from then on.
    pub fn roll_back(
        &mut self,
        subtransaction: SubTransactionId,
        mut undone: impl FnMut(Option<V>, Option<V>),
    ) {
        while let Some(change) = self.journal.pop_since(subtransaction) {
            let until_then = match change.before {
                Some(before) => {
                    let entry = self.by_id.get_mut(&change.id);
                    entry.map(|entry| std::mem::replace(&mut entry.value, before))
                }
                None => self.by_id.remove(&change.id).map(|entry| entry.value),
            };
            if until_then.is_some() {
                undone(until_then, change.before);
            }
        }
    }

    /// The transaction is over: everything goes, also the room that it took.
    pub fn end(&mut self) {
        let room = self.by_id.capacity();
        if room > 0 {
            *self = Self::default();
        }
        if room > MANY {
            memory::give_back_what_is_free();
        }
    }
}
