//! Operations that are only observed: what a call would have been answered.

use crate::claim::Verdict;

/// What became known of a call that went through whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It would have run.
    First,
    /// It would have been answered with a stored answer.
    Duplicate,
    /// The key came with another request.
    Mismatch,
    /// Another caller was at it: it would have waited, and been refused or answered after that.
    Concurrent,
    /// The key is dated longer ago than the retention.
    Expired,
    /// It may have happened, and the store cannot tell.
    Unknown,
    /// It was decided that this never runs.
    Sealed,
    /// No key came.
    MissingKey,
    /// A key came that breaks the rules (`ID006`), or a demanded scope did not.
    BadKey,
    /// The transaction ended without an answer, and could not have committed (`ID009`).
    Unfinished,
}

impl Observed {
    /// All of them, as the samples of `idempotent.observed` call them.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::First, "first"),
        (Self::Duplicate, "duplicate"),
        (Self::Mismatch, "mismatch"),
        (Self::Concurrent, "concurrent"),
        (Self::Expired, "expired"),
        (Self::Unknown, "unknown"),
        (Self::Sealed, "sealed"),
        (Self::MissingKey, "missing_key"),
        (Self::BadKey, "bad_key"),
        (Self::Unfinished, "unfinished"),
    ];

    /// What a verdict is to an operation that is only observed; `None` for asking again for one's own claim.
    #[must_use]
    pub fn of(verdict: Verdict) -> Option<Self> {
        Some(match verdict {
            Verdict::Held => return None,
            Verdict::Claim { .. } => Self::First,
            Verdict::Replay { .. } => Self::Duplicate,
            Verdict::Mismatch => Self::Mismatch,
            Verdict::InProgress { .. } => Self::Concurrent,
            Verdict::Expired => Self::Expired,
            Verdict::Unknown => Self::Unknown,
            Verdict::Sealed => Self::Sealed,
        })
    }

    /// Whether it is worth an example: calls that would have run are as they should be.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self != Self::First
    }
}

#[cfg(test)]
#[path = "tests/observe.rs"]
mod tests;
