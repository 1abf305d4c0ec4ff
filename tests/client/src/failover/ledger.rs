//! What the clients were told, call by call, across all turns.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the records are, whether the key says its date, and how the claim is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub logged: bool,
    pub dated: bool,
    pub leased: bool,
}

impl Kind {
    pub fn operation(self) -> &'static str {
        if self.logged { "kept" } else { "light" }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub key: String,
}

/// What became of a call, as far as its client knows. Tokens are those of business rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The work was done in this transaction, and its COMMIT was acknowledged.
    Executed(String),
    Replayed(String),
    /// A lease, committed, with its fence.
    Leased(i64),
    /// Another outcome.
    Other(String),
    /// An SQLSTATE.
    Refused(String),
    /// No answer: it may have committed.
    Lost,
}

/// One call. Servers take turns at being the primary, which are counted from 0.
#[derive(Clone, Debug)]
pub struct Told {
    pub turn: usize,
    pub key: Key,
    pub what: What,
}

#[derive(Default)]
pub struct Ledger {
    told: Mutex<Vec<Told>>,
}

impl Ledger {
    pub fn write(&self, told: Told) {
        self.lock().push(told);
    }

    pub fn all(&self) -> Vec<Told> {
        self.lock().clone()
    }

    /// How often something was said in a turn.
    pub fn count(&self, turn: usize, so: impl Fn(&Told) -> bool) -> usize {
        self.lock().iter().filter(|told| told.turn == turn && so(told)).count()
    }

    /// How many calls of a turn were given an answer.
    pub fn answered(&self, turn: usize) -> usize {
        self.count(turn, |told| matches!(told.what, What::Executed(_) | What::Replayed(_)))
    }

    /// The keys that were ever tried.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.lock().iter().map(|told| told.key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
