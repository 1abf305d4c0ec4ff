//! The few keys in play. A key that has been answered often enough makes room for a new one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::stage::Stage;
use crate::history::{Dating, Key, KeyId, Line};
use crate::plan::Slot;
use crate::plan::policies::{dating_of, operation_of};

/// So many answers wear a key out. One with a short retention lives to see it expire.
const ANSWERS: u32 = 6;
const ANSWERS_WHEN_BRIEF: u32 = 60;

pub struct Slots<'a> {
    stage: &'a Stage,
    keys: Mutex<Vec<(Arc<Key>, u32)>>,
    /// The last lease of each key, as administrators see it.
    fences: Mutex<HashMap<KeyId, i64>>,
    next: AtomicU32,
}

impl<'a> Slots<'a> {
    pub fn new(stage: &'a Stage, slots: usize) -> Self {
        let made = Self {
            stage,
            keys: Mutex::new(Vec::new()),
            fences: Mutex::default(),
            next: AtomicU32::new(0),
        };
        let keys = (0..slots).map(|slot| (made.make(slot), 0)).collect();
        *made.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        made
    }

    pub fn key(&self, slot: Slot) -> Arc<Key> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)[slot].0.clone()
    }

    pub fn note_lease(&self, key: &Key, fence: i64) {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id, fence);
    }

    pub fn last_lease(&self, key: &Key) -> Option<i64> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).get(&key.id).copied()
    }

    /// Notes that a key was answered.
    pub fn wear(&self, slot: Slot, key: &Key, outcome: &str) {
        if !["replay", "executed", "sealed", "expired", "unknown"].contains(&outcome) {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, answers) = &mut keys[slot];
        if current.id != key.id {
            return;
        }
        *answers += 1;
        let is_brief = self.stage.operations[key.operation].retention_ms < 60_000;
        if *answers >= if is_brief { ANSWERS_WHEN_BRIEF } else { ANSWERS } {
            keys[slot] = (self.make(slot), 0);
        }
    }

    fn make(&self, slot: Slot) -> Arc<Key> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(0);
        let dating = dating_of(slot, now_us);
        let text = match dating {
            Dating::Uuid => uuid7(now_us, id),
            Dating::None | Dating::FirstSent(_) => format!("key {id}"),
        };
        let key = Key { id, operation: operation_of(slot), text, dating };
        self.stage.record(&Line::Key(key.clone()));
        Arc::new(key)
    }
}

/// A `UUIDv7` of this moment; the number is enough to tell the keys of a round apart.
fn uuid7(now_us: u64, id: u32) -> String {
    let ms = now_us / 1000;
    format!("{:08x}-{:04x}-7{:03x}-8000-{id:012x}", ms >> 16, ms & 0xffff, now_us % 1000)
}
