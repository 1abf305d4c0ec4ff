//! Whether a caller that wants to finish (complete, fail, release, extend, checkpoint) still may.

use crate::Timestamp;
use crate::error::{Code, Error};
use crate::identity::Identity;
use crate::record::{Record, State};

/// What the fence that a caller gives is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceVerdict {
    /// The claim is the caller's and lasts.
    Valid,
    /// The caller has finished before. The same answer again is harmless; for another one there is
    /// [`other_answer_error`].
    AlreadyFinished,
    /// `ID003`: the claim has a lease and no fence was given.
    Missing,
    /// `ID003`: the claim is not, or no longer, the one with that fence.
    Stale {
        /// The fence of the record now; `None` when there is no record, or none with a lease.
        current: Option<i64>,
    },
    /// `ID003`: the fence was right, but its lease has ended.
    Lapsed,
    /// `ID007`: nothing is claimed, or another caller has finished it, and no fence was given.
    NoClaim,
    /// `ID003`: it was decided that this never runs.
    Sealed,
}

/// Judges a fence (`None` is null) against the record of the key, under the record's lock.
///
/// A lease is valid while it lasts: once lapsed, its holder is refused, whether or not another caller
/// has taken over. An expired record counts as none ([`Record::expired`]).
#[must_use]
pub fn check_fence(record: Option<&Record>, given: Option<i64>, now: Timestamp) -> FenceVerdict {
    let Some(record) = record.filter(|record| !record.expired(now)) else {
        return match given {
            Some(_) => FenceVerdict::Stale { current: None },
            None => FenceVerdict::NoClaim,
        };
    };
    match record.state {
        State::Absent if given.is_some() => FenceVerdict::Stale { current: None },
        State::Absent => FenceVerdict::NoClaim,
        State::Sealed => FenceVerdict::Sealed,
        State::InProgress => in_progress(record, given, now),
        State::Completed | State::Failed => match given {
            Some(_) if given == record.fence => FenceVerdict::AlreadyFinished,
            Some(_) => FenceVerdict::Stale { current: record.fence },
            // Without a fence only the transaction that wrote the record can be its author.
            None if record.mine && record.fence.is_none() => FenceVerdict::AlreadyFinished,
            None => FenceVerdict::NoClaim,
        },
        // It is not held, but a caller that lost it to a lapse is told that.
        State::Unknown => match given {
            Some(_) if given == record.fence => FenceVerdict::Lapsed,
            Some(_) => FenceVerdict::Stale { current: record.fence },
            None => FenceVerdict::NoClaim,
        },
    }
}

fn in_progress(record: &Record, given: Option<i64>, now: Timestamp) -> FenceVerdict {
    match (record.fence, given) {
        (Some(_), None) => FenceVerdict::Missing,
        (None, None) if !record.mine => FenceVerdict::NoClaim,
        (current, Some(_)) if current != given => FenceVerdict::Stale { current },
        _ if record.lapsed(now) => FenceVerdict::Lapsed,
        _ => FenceVerdict::Valid,
    }
}

/// The exception that a verdict is; `None` for [`FenceVerdict::Valid`] and
/// [`FenceVerdict::AlreadyFinished`].
#[must_use]
pub fn fence_error(
    verdict: &FenceVerdict,
    identity: &Identity<'_>,
    given: Option<i64>,
) -> Option<Error> {
    let key = identity.describe();
    let given = given.map_or_else(|| "null".to_owned(), |fence| fence.to_string());
    let lost = |message: &str, detail: String| {
        Error::new(Code::Fence, message).detail(detail).hint(
            "Do not commit the work as this attempt's: ROLLBACK. Then claim the key again, \
                and do what the outcome says.",
        )
    };
    let error = match verdict {
        FenceVerdict::Valid | FenceVerdict::AlreadyFinished => return None,
        FenceVerdict::Missing => Error::new(Code::Fence, "a claim with a lease needs its fence")
            .detail(format!("No fence was given for {key}."))
            .hint("Pass the fence that idempotent_claim returned: fence => ..."),
        // Not which one is current: with that the caller could finish another's lease.
        FenceVerdict::Stale { current: Some(_) } => lost(
            "the fence is stale",
            format!("For {key} fence {given} was given, and it is not the last one granted."),
        ),
        FenceVerdict::Stale { current: None } => lost(
            "the claim is lost",
            format!("For {key} fence {given} was given, and no claim with a lease is known."),
        ),
        FenceVerdict::Lapsed => lost(
            "the lease has lapsed",
            format!("The lease with fence {given} for {key} ended before this call."),
        ),
        FenceVerdict::Sealed => {
            lost("the key is sealed", format!("It was decided that the work for {key} never runs."))
        }
        FenceVerdict::NoClaim => Error::new(Code::NoClaim, "the key is not claimed")
            .detail(format!("This transaction holds no claim for {key}."))
            .hint(format!(
                "Claim it first, in the same transaction: {}; with a lease, pass its fence.",
                identity.call("idempotent_claim", "")
            )),
    };
    Some(error)
}

/// The refusal of an answer to a key that an earlier transaction has finished: `ID007`.
///
/// Also when it is the same answer. A caller that repeats a transaction because COMMIT went unanswered
/// repeats the business rows with it, and they would be there twice.
#[must_use]
pub fn finished_before_error(identity: &Identity<'_>) -> Error {
    Error::new(Code::NoClaim, "the key is finished already")
        .detail(format!("An earlier transaction has stored an answer for {}.", identity.describe()))
        .hint(format!(
            "ROLLBACK: what this transaction repeats is done. Read the stored answer: {}.",
            identity.call("idempotent_replay", "")
        ))
}

/// The refusal of a second answer that differs from the first: `ID007`.
#[must_use]
pub fn other_answer_error(identity: &Identity<'_>) -> Error {
    Error::new(Code::NoClaim, "the key is finished with another answer")
        .detail(format!("An answer for {} is stored, and it stays as it is.", identity.describe()))
        .hint(format!("Read the stored answer: {}.", identity.call("idempotent_replay", "")))
}

#[cfg(test)]
#[path = "tests/finish.rs"]
mod tests;
