//! How a claim was decided, and the row that says so.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::pg::arguments::{Args, Returned};
use crate::pg::clock;
use crate::session::claims::Claim;
use crate::tables::asked;
use crate::tables::records::row::Found;
use crate::tables::records::table::Records;
use rules::claim::{RETRY_AFTER, Verdict, strict_error};
use rules::error::Result;
use rules::outcome::Outcome;

/// What became of opening the table of records for a claim.
pub enum Opened {
    Records(Records),
    /// Another session keeps it out, or moves the operation's records, for longer than the call waits.
    InTheWay(Decision),
}

/// How a claim was decided, and the row that says so.
pub struct Decision {
    pub verdict: Verdict,
    pub answer: Answer,
    /// Only observed: the work is to be done, and the key is not the caller's.
    pub let_through: bool,
}

impl Decision {
    pub fn new(verdict: Verdict, found: Option<&Found>) -> Self {
        Self { verdict, answer: Answer::to(verdict, found, clock::now()), let_through: false }
    }

    /// The caller's own claim, held by the transaction.
    pub fn held(claim: Claim) -> Self {
        let (attempt, checkpoint) = (Some(claim.attempt), claim.checkpoint);
        let answer = Answer { attempt, checkpoint, ..Answer::of(Outcome::Claimed) };
        Self { verdict: Verdict::Held, answer, let_through: false }
    }

    /// Held by a transaction, whose end is unknown.
    pub fn in_progress() -> Self {
        Self::new(Verdict::InProgress { retry_after: RETRY_AFTER }, None)
    }

    /// The answer, which is counted, and noted if it is unknown; asking for one's own claim again is
    /// not a claim.
    pub fn counted(self, call: &Call<'_>) -> Result<Answer> {
        if self.verdict != Verdict::Held {
            call.count_answer(self.answer.outcome);
        }
        if self.verdict == Verdict::Unknown {
            asked::note(&call.owner, call.policy.retention)?;
        }
        Ok(self.answer)
    }

    /// The row to return, or under `strict` the exception. An answer is counted either way.
    pub fn into_datum(self, call: &Call<'_>, strict: bool, args: &Args) -> Returned {
        let verdict = self.verdict;
        let answer = self.counted(call)?;
        if strict && let Some(error) = strict_error(verdict, &call.owner.identity) {
            return Err(error);
        }
        answer.into_datum(args)
    }
}
