//! What a call is answered: the contract's table, a row an outcome.

use crate::error::Code;

/// What a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller holds the key: it does the work.
    Claimed,
    /// `idempotent_run` has run the handler now.
    Executed,
    /// The work is done: here is the stored answer.
    Replay,
    /// Another attempt holds the key.
    InProgress,
    /// The key was used with another request.
    Mismatch,
    /// The key was first sent longer ago than its record is kept.
    Expired,
    /// The work may have been done, and nothing here can tell.
    Unknown,
    /// It was decided that the work never runs.
    Sealed,
    /// Nothing is known of the key (`idempotent_replay` alone).
    Absent,
}

/// A row of the table.
struct Row {
    outcome: Outcome,
    name: &'static str,
    /// The HTTP status of an answer that is not the stored one.
    http: Option<u16>,
    /// What the outcome raises under `strict`.
    strict: Option<Code>,
}

const fn row(outcome: Outcome, name: &'static str, http: Option<u16>, strict: Option<Code>) -> Row {
    Row { outcome, name, http, strict }
}

/// In the order of the outcomes.
const TABLE: [Row; 9] = [
    row(Outcome::Claimed, "claimed", None, None),
    row(Outcome::Executed, "executed", None, None),
    row(Outcome::Replay, "replay", None, None),
    row(Outcome::InProgress, "in_progress", Some(409), Some(Code::InProgress)),
    row(Outcome::Mismatch, "mismatch", Some(422), Some(Code::Mismatch)),
    row(Outcome::Expired, "expired", Some(412), Some(Code::Expired)),
    row(Outcome::Unknown, "unknown", Some(409), Some(Code::Unknown)),
    row(Outcome::Sealed, "sealed", Some(409), Some(Code::Sealed)),
    row(Outcome::Absent, "absent", Some(404), None),
];

impl Outcome {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.outcome)
    }

    /// How many there are.
    pub const COUNT: usize = TABLE.len();

    /// One of them, by its number.
    #[must_use]
    pub const fn nth(number: usize) -> Self {
        TABLE[number].outcome
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// As SQL shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status of an answer that is not the stored one.
    #[must_use]
    pub fn http(self) -> Option<u16> {
        self.row().http
    }

    /// The code of the exception that it is under `strict`.
    #[must_use]
    pub fn strict(self) -> Option<Code> {
        self.row().strict
    }
}

#[cfg(test)]
#[path = "tests/outcome.rs"]
mod tests;
