//! How a claim was decided, and the row that says so.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::pg::arguments::Returned;
use crate::session::claims::Claim;
use crate::tables::asked;
use crate::tables::records::row::Found;
use pgrx::pg_sys;
use rules::claim::{RETRY_AFTER, Verdict, strict_error};
use rules::outcome::Outcome;

/// How a claim was decided, and the row that says so.
pub struct Decision {
    pub verdict: Verdict,
    pub answer: Answer,
    /// Only observed: the work is to be done, and the key is not the caller's.
    pub passed: bool,
}

impl Decision {
    pub fn new(verdict: Verdict, found: Option<&Found>) -> Self {
        Self { verdict, answer: Answer::to(verdict, found), passed: false }
    }

    /// The caller's own claim, held by the transaction.
    pub fn held(claim: Claim) -> Self {
        let (attempt, checkpoint) = (Some(claim.attempt), claim.checkpoint);
        let answer = Answer { attempt, checkpoint, ..Answer::of(Outcome::Claimed) };
        Self { verdict: Verdict::Held, answer, passed: false }
    }

    /// Held by a transaction, whose end is unknown.
    pub fn in_progress() -> Self {
        Self::new(Verdict::InProgress { retry_after: RETRY_AFTER }, None)
    }

    /// The row to return, or under `strict` the exception. An answer is counted either way; asking
    /// for one's own claim again is not a claim.
    pub fn into_datum(self, call: &Call<'_>, strict: bool, function: pg_sys::Oid) -> Returned {
        if self.verdict != Verdict::Held {
            call.count_answer(self.answer.outcome);
        }
        if self.verdict == Verdict::Unknown {
            asked::note(&call.owner, call.policy.retention)?;
        }
        if strict && let Some(error) = strict_error(self.verdict, &call.owner.identity) {
            return Err(error);
        }
        self.answer.into_datum(function)
    }
}
