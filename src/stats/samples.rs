//! Examples of calls that an operation in observation would have refused or replayed, in shared memory: a
//! call whose transaction rolls back is an example, too.
//!
//! Each database, operation and kind has a bucket for its latest few (those whose hashes meet share
//! one), so that a flood of one kind leaves the examples of others alone. No backend waits: one that finds
//! a slot being written leaves its example out, and a reader passes it over.

use super::{TABLE, this_database};
use crate::pg::shared_memory::{Region, Shareable};
use pgrx::pg_sys;
use rules::Timestamp;
use rules::names::{MAX_KEY, MAX_OPERATION, MAX_SCOPE};
use rules::observe::Observed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

const BUCKETS: usize = 128;
/// Examples of a kind.
const SLOTS: usize = 8;

/// Operation, scope and key, as long as the longest of each.
const LONGEST: [usize; 3] = [MAX_OPERATION, MAX_SCOPE, MAX_KEY];
const WORDS: usize = (LONGEST[0] + LONGEST[1] + LONGEST[2]).div_ceil(size_of::<u64>());
/// What a slot holds before the texts: database and kind, the time, the three lengths.
const HEAD: usize = 3;

#[repr(C)]
pub struct Samples {
    buckets: [Bucket; BUCKETS],
}

#[repr(C)]
struct Bucket {
    next: AtomicU32,
    slots: [Slot; SLOTS],
}

#[repr(C)]
struct Slot {
    taken: AtomicBool,
    /// Odd while it is being written; 0 for one that is empty.
    version: AtomicU32,
    words: [AtomicU64; HEAD + WORDS],
}

// SAFETY: every field is an atomic, none is a pointer, and with zeros every slot is empty.
unsafe impl Shareable for Samples {}

/// The examples of the whole server.
pub static SAMPLES: Region<Samples> = Region::new(c"pg_idempotent samples");

/// An example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub observed: Observed,
    pub at: Timestamp,
    pub operation: Vec<u8>,
    pub scope: Vec<u8>,
    pub key: Vec<u8>,
}

/// Keeps an example of the current database. What is too long is cut off.
pub fn keep(observed: Observed, at: Timestamp, parts: [&[u8]; 3]) {
    if let Some(samples) = SAMPLES.get().filter(|_| TABLE.get().is_some()) {
        samples.keep(this_database(), observed, at, parts);
    }
}

/// The examples of the current database, latest first.
pub fn of_this_database() -> Vec<Sample> {
    SAMPLES.get().map(|samples| samples.of_database(this_database())).unwrap_or_default()
}

/// Forgets the examples of the databases for which `gone` says so.
pub fn forget(gone: impl Fn(pg_sys::Oid) -> bool) {
    if let Some(samples) = SAMPLES.get() {
        samples.forget(|database| gone(pg_sys::Oid::from(database)));
    }
}

impl Samples {
    pub(super) fn keep(&self, database: u32, observed: Observed, at: Timestamp, parts: [&[u8]; 3]) {
        let bucket = &self.buckets[bucket(database, observed, parts[0])];
        let next = bucket.next.fetch_add(1, Ordering::Relaxed);
        bucket.slots[next as usize % SLOTS].write(words(database, observed, at, parts));
    }

    pub(super) fn of_database(&self, database: u32) -> Vec<Sample> {
        let mut samples: Vec<Sample> = self
            .slots()
            .filter_map(Slot::read)
            .filter_map(|words| read(&words, database))
            .collect();
        samples.sort_by_key(|sample| std::cmp::Reverse(sample.at));
        samples
    }

    pub(super) fn forget(&self, gone: impl Fn(u32) -> bool) {
        for slot in self.slots() {
            if slot.read().is_some_and(|words| gone((words[0] >> 32) as u32)) {
                slot.write([0; HEAD + WORDS]);
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.buckets.iter().flat_map(|bucket| &bucket.slots)
    }
}

impl Slot {
    fn write(&self, words: [u64; HEAD + WORDS]) {
        if self.taken.swap(true, Ordering::Acquire) {
            return;
        }
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
        self.taken.store(false, Ordering::Release);
    }

    /// `None` while it is being written.
    fn read(&self) -> Option<[u64; HEAD + WORDS]> {
        let version = self.version.load(Ordering::Acquire);
        let words = std::array::from_fn(|word| self.words[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        (same && version.is_multiple_of(2)).then_some(words)
    }
}

fn bucket(database: u32, observed: Observed, operation: &[u8]) -> usize {
    let bytes = database.to_le_bytes().into_iter().chain([observed as u8]);
    let hash =
        bytes.chain(operation.iter().copied()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    ((hash ^ (hash >> 32)) % BUCKETS as u64) as usize
}

/// How much of a text in UTF-8 is kept: half a letter could not be shown in another encoding.
fn whole_letters(part: &[u8], longest: usize) -> usize {
    let is_within_letter = |end: usize| part.get(end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = part.len().min(longest);
    // Where the meaning of the bytes is unknown (SQL_ASCII), they need not end in a letter.
    (end.saturating_sub(3)..=end).rev().find(|end| !is_within_letter(*end)).unwrap_or(end)
}

fn words(
    database: u32,
    observed: Observed,
    at: Timestamp,
    parts: [&[u8]; 3],
) -> [u64; HEAD + WORDS] {
    let mut text = [0_u8; WORDS * size_of::<u64>()];
    let (mut end, mut lengths) = (0, 0);
    for (part, longest) in parts.into_iter().zip(LONGEST) {
        let length = whole_letters(part, longest);
        text[end..end + length].copy_from_slice(&part[..length]);
        end += length;
        lengths = lengths << 16 | length as u64;
    }
    let mut words = [0; HEAD + WORDS];
    words[0] = u64::from(database) << 32 | observed as u64;
    words[1] = at.cast_unsigned();
    words[2] = lengths;
    let (chunks, _) = text.as_chunks();
    for (word, chunk) in words[HEAD..].iter_mut().zip(chunks) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

fn read(words: &[u64; HEAD + WORDS], database: u32) -> Option<Sample> {
    let (observed, _) = *Observed::ALL.get((words[0] & 0xffff_ffff) as usize)?;
    if (words[0] >> 32) as u32 != database || database == 0 {
        return None;
    }
    let text: Vec<u8> = words[HEAD..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut end = 0;
    let mut part = |shift: u32| {
        let length = (words[2] >> shift & 0xffff) as usize;
        let part = text.get(end..end + length).unwrap_or_default().to_vec();
        end += length;
        part
    };
    let (operation, scope, key) = (part(32), part(16), part(0));
    Some(Sample { observed, at: words[1].cast_signed(), operation, scope, key })
}
