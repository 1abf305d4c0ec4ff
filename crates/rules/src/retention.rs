//! Every rule about time: until when a record counts, when a sweep looks at it, and what it does then.

use crate::dating::Dates;
use crate::policy::{OnLapse, Policy};
use crate::record::{Record, State};
use crate::{Micros, Timestamp};

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

/// When the record of an answer expires that is stored at `now`.
///
/// `given` is the retention that the call names. A failure is kept for a while, so that the key may
/// run again. The answer of a key with `dates` is kept until those alone refuse it.
#[must_use]
pub fn answer_expires(
    policy: &Policy,
    failed: bool,
    given: Option<Micros>,
    dates: Dates,
    now: Timestamp,
    skew: Micros,
) -> Timestamp {
    match given {
        Some(retention) => now.saturating_add(retention),
        None if failed => now.saturating_add(policy.failure_retention),
        None => dates.kept_until(now, policy.retention, skew),
    }
}

/// When a sweep looks at the record of an answer next: to evict its body, or to delete it.
#[must_use]
pub fn answer_due(policy: &Policy, now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let evict_at = policy.response_retention.map(|kept| now.saturating_add(kept));
    evict_at.filter(|evict_at| *evict_at < expires_at).unwrap_or_else(|| after(expires_at, now))
}

/// When the record of a lease expires that is granted now: long after a lapse that may be retried, and
/// not before the dates of its key refuse that; never where a lapse leaves unknown what became of the
/// work ([`Record::is_unknown_once_lapsed`]).
#[must_use]
pub fn lease_expires(
    policy: &Policy,
    lease_until: Timestamp,
    dates: Dates,
    skew: Micros,
) -> Timestamp {
    match policy.on_lapse {
        // The last moment before the end of time, which stands for never.
        OnLapse::Retry => {
            dates.kept_until(lease_until, policy.retention, skew).min(Timestamp::MAX - 1)
        }
        OnLapse::Unknown => Timestamp::MAX,
    }
}

/// When the record of a lease expires that is extended, and expired at `granted` before: what a lapse leaves unknown stays so, whatever
/// `on_lapse` says since.
#[must_use]
pub fn extended_lease_expires(
    granted: Timestamp,
    policy: &Policy,
    lease_until: Timestamp,
    dates: Dates,
    skew: Micros,
) -> Timestamp {
    if granted == Timestamp::MAX {
        Timestamp::MAX
    } else {
        lease_expires(policy, lease_until, dates, skew)
    }
}

/// When a sweep looks at the record of a lease that is extended at `now` and then expires at `expires_at`: as `before`,
/// unless that is too early by more than an eighth of the time in between. A heartbeat that leaves it as it is
/// leaves the index as it is, too; a look that comes too early finds nothing to do.
#[must_use]
pub fn extended_lease_due(before: Timestamp, expires_at: Timestamp, now: Timestamp) -> Timestamp {
    let early = expires_at.saturating_sub(before);
    let is_near = (0..=expires_at.saturating_sub(now) / 8).contains(&early);
    if is_near { before } else { expires_at }
}

/// When a settlement as absent expires: the key may run until its own date refuses it.
#[must_use]
pub fn absent_expires(policy: &Policy, now: Timestamp, skew: Micros) -> Timestamp {
    now.saturating_add(policy.retention).saturating_add(skew)
}

/// Whether the body of an answer is past `response_retention` at `now`, swept or not.
#[must_use]
pub fn body_is_over(sweep_at: Timestamp, expires_at: Timestamp, now: Timestamp) -> bool {
    sweep_at < expires_at && sweep_at <= now
}

/// However often a visit of the sweeper fails, the next comes within an hour, or the interval that is
/// set if that is longer.
const LONGEST_BACK_OFF: Micros = 3600 * 1_000_000;

/// How long the sweeper leaves a database alone after so many failed visits in a row.
#[must_use]
pub fn back_off(interval: Micros, failures: u32) -> Micros {
    let factor = 1_i64.checked_shl(failures).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
    interval.saturating_mul(factor).clamp(0, LONGEST_BACK_OFF.max(interval))
}

#[cfg(test)]
#[path = "tests/retention.rs"]
mod tests;
