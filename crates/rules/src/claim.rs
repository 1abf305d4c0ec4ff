//! Record + request + now -> outcome. The rules of the contract, and nothing else.

use crate::dating::Age;
use crate::duration;
use crate::error::{Code, Error};
use crate::identity::Identity;
use crate::outcome::Outcome;
use crate::record::{Record, State};
use crate::request::fingerprint::Fingerprint;
use crate::{Micros, Timestamp};

/// When to ask again while it is unknown when the holder will be done: a claim that is held by a
/// transaction has no end that could be told.
pub const RETRY_AFTER: Micros = 1_000_000;

const FIRST_CLAIM: Verdict = Verdict::Claim { attempt: 1, takeover: false };

/// What a caller brings, as far as it decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of the request; `None` when it is null, which is a value of its own.
    pub fingerprint: Option<Fingerprint>,
    /// The name that the caller gives the attempt.
    pub attempt_id: Option<[u8; 16]>,
    /// How old the key is.
    pub age: Age,
}

impl Request {
    /// What the record was claimed with, asked again by a caller that is shown no request.
    #[must_use]
    pub fn same_as(record: Option<&Record>, age: Age) -> Self {
        let fingerprint = record.and_then(|record| record.fingerprint);
        Self { fingerprint, attempt_id: None, age }
    }
}

/// What a claim is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Do the work.
    Claim {
        /// 1 for a new key, one more than the record's for a takeover.
        attempt: i32,
        /// Whether another holder's lease lapsed before.
        takeover: bool,
    },
    /// The caller's own claim: claimed again, with the same fence.
    Held,
    /// Done: here is the stored answer.
    Replay {
        /// Whether the answer is a failure.
        failed: bool,
    },
    /// Another caller holds it.
    InProgress {
        /// When to ask again.
        retry_after: Micros,
    },
    /// The key was used with another request.
    Mismatch,
    /// First sent longer ago than the retention, and nothing is known of it.
    Expired,
    /// It may have happened.
    Unknown,
    /// It never will.
    Sealed,
}

impl Verdict {
    /// As a caller is told.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Claim { .. } | Self::Held => Outcome::Claimed,
            Self::Replay { .. } => Outcome::Replay,
            Self::InProgress { .. } => Outcome::InProgress,
            Self::Mismatch => Outcome::Mismatch,
            Self::Expired => Outcome::Expired,
            Self::Unknown => Outcome::Unknown,
            Self::Sealed => Outcome::Sealed,
        }
    }
}

/// Decides what a claim is answered.
///
/// An expired record counts as none ([`Record::expired`]). Without a record the age of the key
/// decides. With one: sealed and settled as absent first, as they hold no request and so reveal
/// nothing; then the request must be the same, before anything else is said; then the state
/// decides, and for a claim in progress, its holder and whether its lease lasts.
///
/// Fingerprints are compared as they are: see [`Fingerprint`] about versions.
#[must_use]
pub fn judge(record: Option<&Record>, request: &Request, now: Timestamp) -> Verdict {
    let Some(record) = record.filter(|record| !record.expired(now)) else {
        return match request.age {
            Age::TooOld { .. } => Verdict::Expired,
            Age::Lost { .. } => Verdict::Unknown,
            Age::Undated | Age::Fresh(_) => FIRST_CLAIM,
        };
    };
    match record.state {
        State::Sealed => return Verdict::Sealed,
        // An administrator knows better than the age of the key.
        State::Absent => return FIRST_CLAIM,
        _ if !record.is_for(request.fingerprint) => return Verdict::Mismatch,
        _ => {}
    }
    match record.state {
        State::Completed => Verdict::Replay { failed: false },
        State::Failed => Verdict::Replay { failed: true },
        State::Sealed => Verdict::Sealed,
        State::Absent => FIRST_CLAIM,
        State::Unknown => Verdict::Unknown,
        State::InProgress if record.lapsed(now) => {
            if record.is_unknown_once_lapsed() {
                Verdict::Unknown
            } else {
                Verdict::Claim { attempt: record.attempt.saturating_add(1), takeover: true }
            }
        }
        State::InProgress => {
            let same_attempt =
                record.attempt_id.is_some() && record.attempt_id == request.attempt_id;
            if record.mine || same_attempt {
                Verdict::Held
            } else {
                let remaining = |end: Timestamp| end.saturating_sub(now);
                Verdict::InProgress {
                    retry_after: record.lease_until.map_or(RETRY_AFTER, remaining),
                }
            }
        }
    }
}

/// The exception that a verdict is under `strict`; `None` for one that is not raised.
#[must_use]
pub fn strict_error(verdict: Verdict, identity: &Identity<'_>) -> Option<Error> {
    let key = identity.describe();
    let error = match verdict {
        Verdict::InProgress { retry_after } => {
            let wait = duration::describe(round_up(retry_after));
            Error::new(Code::InProgress, "the key is held by another attempt")
                .detail(format!("The work for {key} is in progress."))
                .hint(format!("Call again in {wait}, or let the call wait: wait => '{wait}'."))
        }
        Verdict::Mismatch => Error::new(Code::Mismatch, "the key was used with another request")
            .detail(format!("The request stored for {key} differs from this one."))
            .hint(
                "Send what was first sent with this key, or make a new key with SELECT \
                idempotent_new_key(). Members that differ from call to call can be left out \
                of the comparison: idempotent_operation(..., fingerprint_exclude => \
                '{sent_at}').",
            ),
        Verdict::Expired => Error::new(Code::Expired, "the key is older than the retention")
            .detail(format!(
                "Whether the work for {key} was done is no longer known: it was \
                first sent longer ago than its record is kept."
            ))
            .hint(
                "Find out whether it was done; if not, send it with a new key: SELECT \
                idempotent_new_key().",
            ),
        Verdict::Unknown => Error::new(Code::Unknown, "it is unknown whether the work was done")
            .detail(format!("An earlier attempt for {key} may have done it."))
            .hint(format!(
                "Find out, and type {}; if it failed for good 'failed', if it was never \
                    done 'absent'.",
                identity.call("idempotent_resolve", "'completed'")
            )),
        Verdict::Sealed => Error::new(Code::Sealed, "the key is sealed")
            .detail(format!("It was decided that the work for {key} never runs."))
            .hint(
                "If it is wanted after all, send it with a new key: SELECT \
                idempotent_new_key().",
            ),
        Verdict::Claim { .. } | Verdict::Held | Verdict::Replay { .. } => return None,
    };
    Some(error)
}

/// Whole seconds are enough to say when to come back, and never too early.
fn round_up(micros: Micros) -> Micros {
    let rest = micros.rem_euclid(1_000_000);
    if rest == 0 { micros } else { micros.saturating_add(1_000_000 - rest) }
}

#[cfg(test)]
#[path = "tests/claim.rs"]
pub(crate) mod tests;
