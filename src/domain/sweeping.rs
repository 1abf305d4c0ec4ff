//! What a sweep does with a record that is due.

use super::Timestamp;
use super::verdict::{Record, State};

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

#[cfg(test)]
#[path = "tests/sweeping.rs"]
mod tests;
