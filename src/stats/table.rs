//! The counters as they lie in shared memory: a row per database and operation.
//!
//! A row once taken is found and counted in without a lock; taking and freeing rows happens under
//! one. Rows are found by looking at all tags in turn, some microseconds that a backend spends once
//! per operation (see [`Tally`](super::Tally)).
//!
//! There is room for [`ROWS_PER_DATABASE`] operations of a database, and for [`ROWS`] of all
//! databases together. What finds no room is counted in its database's row `(other)`.

use super::Counter;
use crate::pg::shared_memory::Shareable;
use rules::names::MAX_OPERATION;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Operations of all databases.
const ROWS: usize = 3_840;
/// Rows called `(other)`, one a database; a database that comes later than these is not counted.
const OTHERS: usize = 256;
/// Operations of one database: one whose callers invent names must not take the room of others.
pub const ROWS_PER_DATABASE: usize = 1_024;

const OPERATIONS: Range<usize> = 0..ROWS;
const ALL: Range<usize> = 0..ROWS + OTHERS;

/// An operation that is called this shares the row with those that found no room.
pub const OTHER: &[u8] = b"(other)";

/// The values of one row, by [`Counter`].
pub type Counts = [u64; Counter::ALL.len()];

/// As many as the longest name has, and a byte for its length.
const WORDS: usize = (MAX_OPERATION + 1).div_ceil(size_of::<u64>());

/// An operation's name as a row has it: padded with zeros, the length in the last byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u64; WORDS]);

impl Name {
    /// Longer than an operation can be, a name is cut off.
    pub fn new(utf8: &[u8]) -> Self {
        let mut bytes = [0; WORDS * size_of::<u64>()];
        let length = utf8.len().min(bytes.len() - 1);
        bytes[..length].copy_from_slice(&utf8[..length]);
        bytes[WORDS * size_of::<u64>() - 1] = u8::try_from(length).unwrap_or(0);
        let (words, _) = bytes.as_chunks();
        Self(std::array::from_fn(|word| u64::from_le_bytes(words[word])))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        let length = bytes.pop().map_or(0, usize::from);
        bytes.truncate(length);
        bytes
    }

    fn is_other(&self) -> bool {
        *self == Self::new(OTHER)
    }

    /// FNV-1a, folded: it need not be strong, as names are compared in full.
    fn hash(&self) -> u32 {
        let hash = self
            .0
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        (hash ^ (hash >> 32)) as u32
    }

    /// What tells most rows apart at a glance: the database, which is never 0, and a hash.
    fn tag(&self, database: u32) -> u64 {
        (u64::from(database) << 32) | u64::from(self.hash())
    }

    fn rows(&self) -> Range<usize> {
        if self.is_other() { ROWS..ROWS + OTHERS } else { OPERATIONS }
    }
}

/// The database of a tag.
fn owner(tag: u64) -> u32 {
    (tag >> 32) as u32
}

/// Where an operation's row is, or else where it could be.
struct Search {
    found: Option<usize>,
    free: Option<usize>,
}

#[repr(C, align(64))]
struct Row {
    name: [AtomicU64; WORDS],
    counts: [AtomicU64; Counter::ALL.len()],
}

#[repr(C)]
pub struct Table {
    locked: AtomicBool,
    /// Counts how often rows were freed: a backend that remembers a row looks for it anew.
    epoch: AtomicU32,
    /// The owner of each row; 0 for a free one. Set when the rest of the row is written.
    tags: [AtomicU64; ROWS + OTHERS],
    rows: [Row; ROWS + OTHERS],
}

// SAFETY: every field is an atomic, none is a pointer, and with zeros every row is free.
unsafe impl Shareable for Table {}

/// Held for microseconds and never across anything of Postgres', so that neither an error nor an
/// interrupt can get in between. (When a backend dies in there, the server starts anew anyway.)
struct Spinlock<'a>(&'a AtomicBool);

impl Drop for Spinlock<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Table {
    fn lock(&self) -> Spinlock<'_> {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Spinlock(&self.locked)
    }

    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    #[inline]
    pub fn count(&self, row: usize, counter: Counter, n: u64) {
        if let Some(row) = self.rows.get(row) {
            row.counts[counter as usize].fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The row of an operation, or of `(other)` if there is no room for it; `None` if there is none
    /// for that either.
    pub fn row(&self, database: u32, name: &Name) -> Option<usize> {
        self.find_or_take(database, name).or_else(|| self.find_or_take(database, &Name::new(OTHER)))
    }

    fn find_or_take(&self, database: u32, name: &Name) -> Option<usize> {
        // Without the lock: callers that invent names must not queue for it.
        let look = self.look(database, name);
        if look.found.is_some() || look.free.is_none() {
            return look.found;
        }
        let _lock = self.lock();
        // Another backend may have been faster.
        let look = self.look(database, name);
        if look.found.is_some() {
            return look.found;
        }
        let row = look.free?;
        self.rows[row].begin(name);
        self.tags[row].store(name.tag(database), Ordering::Release);
        Some(row)
    }

    /// Without the lock, a row that is freed and taken anew during the look may be taken for
    /// another: then a count that was about to vanish goes astray.
    fn look(&self, database: u32, name: &Name) -> Search {
        let tag = name.tag(database);
        let (mut free, mut taken) = (None, 0);
        for row in name.rows() {
            let there = self.tags[row].load(Ordering::Acquire);
            if there == tag && self.rows[row].name() == *name {
                return Search { found: Some(row), free: None };
            }
            match owner(there) {
                0 => free = free.or(Some(row)),
                owner => taken += usize::from(owner == database),
            }
        }
        Search { found: None, free: free.filter(|_| taken < ROWS_PER_DATABASE) }
    }

    /// Of which database a row is; 0 for a free one.
    fn owner(&self, row: usize) -> u32 {
        owner(self.tags[row].load(Ordering::Acquire))
    }

    /// The databases that have rows.
    pub fn databases(&self) -> Vec<u32> {
        let mut databases: Vec<u32> = ALL.map(|row| self.owner(row)).filter(|o| *o != 0).collect();
        databases.sort_unstable();
        databases.dedup();
        databases
    }

    /// Frees the rows of these databases.
    pub fn free(&self, databases: &[u32]) {
        let _lock = self.lock();
        for row in ALL.filter(|row| databases.contains(&self.owner(*row))) {
            self.tags[row].store(0, Ordering::Release);
        }
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The rows of a database: the operation's name, and its counts.
    pub fn of_database(&self, database: u32) -> Vec<(Vec<u8>, Counts)> {
        ALL.filter(|row| self.owner(*row) == database)
            .map(|row| (self.rows[row].name().bytes(), self.rows[row].counts()))
            .collect()
    }
}

impl Row {
    /// Zeros what was counted for the operation that had the row before, some of it after it was freed.
    fn begin(&self, name: &Name) {
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
        for (word, value) in self.name.iter().zip(name.0) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn name(&self) -> Name {
        Name(std::array::from_fn(|word| self.name[word].load(Ordering::Relaxed)))
    }

    fn counts(&self) -> Counts {
        std::array::from_fn(|counter| self.counts[counter].load(Ordering::Relaxed))
    }
}
