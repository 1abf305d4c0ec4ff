//! What a client's own transaction holds, and how savepoints take it back.

use std::collections::HashMap;
use std::sync::Arc;

use super::slots::Slots;
use crate::history::Key;
use crate::plan::Slot;

#[derive(Clone)]
pub struct Held {
    pub fence: Option<i64>,
    /// The business row, once it is written.
    pub effect: Option<u64>,
    /// The answer, once it is stored: number, and whether it is a failure.
    pub answer: Option<(u64, bool)>,
    /// By a handler, whose answer is not ours to store again.
    pub by_run: bool,
}

#[derive(Default)]
pub struct Holding {
    /// The keys that this transaction speaks of, also when a slot gets a new one meanwhile.
    keys: HashMap<Slot, Arc<Key>>,
    held: HashMap<Slot, Held>,
    savepoints: Vec<(u32, HashMap<Slot, Held>)>,
}

impl Holding {
    pub fn key(&mut self, slots: &Slots, slot: Slot) -> Arc<Key> {
        self.keys.entry(slot).or_insert_with(|| slots.key(slot)).clone()
    }

    pub fn get(&mut self, slot: Slot) -> Option<&mut Held> {
        self.held.get_mut(&slot)
    }

    /// Asking again for what is held changes nothing.
    pub fn take(&mut self, slot: Slot, fence: Option<i64>) {
        self.held.entry(slot).or_insert(Held { fence, effect: None, answer: None, by_run: false });
    }

    pub fn put(&mut self, slot: Slot, held: Held) {
        self.held.insert(slot, held);
    }

    pub fn give_back(&mut self, slot: Slot) {
        self.held.remove(&slot);
    }

    /// Whether the work of a lease is done and not completed.
    pub fn forgets_a_lease(&self) -> bool {
        self.held
            .values()
            .any(|held| held.fence.is_some() && held.effect.is_some() && held.answer.is_none())
    }

    pub fn savepoint(&mut self, name: u32) {
        self.savepoints.push((name, self.held.clone()));
    }

    pub fn has_savepoint(&self, name: u32) -> bool {
        self.savepoints.iter().any(|(known, _)| *known == name)
    }

    /// The savepoint itself stays.
    pub fn roll_back_to(&mut self, name: u32) {
        while let Some((known, held)) = self.savepoints.last() {
            if *known == name {
                self.held = held.clone();
                return;
            }
            self.savepoints.pop();
        }
    }

    pub fn release(&mut self, name: u32) {
        while let Some((known, _)) = self.savepoints.pop() {
            if known == name {
                return;
            }
        }
    }
}
