//! What a sweep does with a record that is due.

use crate::Timestamp;
use crate::record::{Record, State};

/// What is due of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It counts as absent: delete it.
    Delete,
    /// Its answer is past `response_retention`: clear the body, keep the record.
    Evict,
    /// Nothing, whatever `sweep_at` says.
    Nothing,
}

/// What is due at `now` of a record whose `sweep_at` has come; `has_body` unless that was cleared
/// already.
#[must_use]
pub fn due(record: &Record, has_body: bool, now: Timestamp) -> Due {
    let is_answer = matches!(record.state, State::Completed | State::Failed);
    if record.expired(now) {
        Due::Delete
    } else if is_answer && has_body {
        Due::Evict
    } else {
        Due::Nothing
    }
}

/// When to look at a record that expires at `expires_at`, written at `now`: not before, and later by at most
/// 1/65536 of the time in between, about a second of a day.
///
/// Records that expire at about the same time are to be looked at in the same moment: equal values
/// share an entry of the index, which makes it a third of the size (`nbtree/README`, deduplication).
#[must_use]
pub fn after(expires_at: Timestamp, now: Timestamp) -> Timestamp {
    let kept = expires_at.saturating_sub(now).max(1);
    let step = ((1_i64 << kept.ilog2()) >> 16).max(1);
    // Rounded up to a multiple of a power of two.
    expires_at.checked_add(step - 1).map_or(expires_at, |later| later & -step)
}

#[cfg(test)]
#[path = "tests/retention.rs"]
mod tests;
