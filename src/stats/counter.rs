//! What is counted.

use rules::Micros;
use rules::observe::Observed;
use rules::outcome::Outcome;

/// A counter of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    Claimed,
    Executed,
    Replayed,
    InProgress,
    Mismatched,
    Expired,
    Unknown,
    Sealed,
    Completed,
    Failed,
    Released,
    /// Lapsed leases that were taken over.
    Lapsed,
    GuardRefused,
    /// Calls that had to wait for a holder, and for how long in all.
    Waits,
    WaitMicros,
    Swept,
    Evicted,
    /// Calls of operations that are only observed, by what they would have been answered.
    ObservedFirst,
    ObservedDuplicate,
    ObservedMismatch,
    ObservedConcurrent,
    ObservedExpired,
    ObservedUnknown,
    ObservedSealed,
    ObservedMissingKey,
    ObservedBadKey,
    ObservedUnfinished,
    /// Of the calls that had to wait, those that waited no longer than this says, and longer than the one before.
    Waited1ms,
    Waited3ms,
    Waited10ms,
    Waited30ms,
    Waited100ms,
    Waited300ms,
    Waited1s,
    Waited3s,
    Waited10s,
    Waited30s,
    WaitedLonger,
}

impl Counter {
    /// All of them, in the order of their values, as the views call them (sql/40_statistics.sql, sql/56_observe.sql).
    pub const ALL: [(Self, &'static str); 38] = [
        (Self::Claimed, "claimed"),
        (Self::Executed, "executed"),
        (Self::Replayed, "replayed"),
        (Self::InProgress, "in_progress"),
        (Self::Mismatched, "mismatched"),
        (Self::Expired, "expired"),
        (Self::Unknown, "unknown"),
        (Self::Sealed, "sealed"),
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Released, "released"),
        (Self::Lapsed, "lapsed"),
        (Self::GuardRefused, "guard_refused"),
        (Self::Waits, "waits"),
        (Self::WaitMicros, "wait_micros"),
        (Self::Swept, "swept"),
        (Self::Evicted, "evicted"),
        (Self::ObservedFirst, "observed_first"),
        (Self::ObservedDuplicate, "observed_duplicate"),
        (Self::ObservedMismatch, "observed_mismatch"),
        (Self::ObservedConcurrent, "observed_concurrent"),
        (Self::ObservedExpired, "observed_expired"),
        (Self::ObservedUnknown, "observed_unknown"),
        (Self::ObservedSealed, "observed_sealed"),
        (Self::ObservedMissingKey, "observed_missing_key"),
        (Self::ObservedBadKey, "observed_bad_key"),
        (Self::ObservedUnfinished, "observed_unfinished"),
        (Self::Waited1ms, "waited_1ms"),
        (Self::Waited3ms, "waited_3ms"),
        (Self::Waited10ms, "waited_10ms"),
        (Self::Waited30ms, "waited_30ms"),
        (Self::Waited100ms, "waited_100ms"),
        (Self::Waited300ms, "waited_300ms"),
        (Self::Waited1s, "waited_1s"),
        (Self::Waited3s, "waited_3s"),
        (Self::Waited10s, "waited_10s"),
        (Self::Waited30s, "waited_30s"),
        (Self::WaitedLonger, "waited_longer"),
    ];

    /// The counter of an outcome that was answered; none for `absent`, nor for `executed`, which
    /// counts when it is committed.
    pub fn of_outcome(outcome: Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Claimed => Self::Claimed,
            Outcome::Replay => Self::Replayed,
            Outcome::InProgress => Self::InProgress,
            Outcome::Mismatch => Self::Mismatched,
            Outcome::Expired => Self::Expired,
            Outcome::Unknown => Self::Unknown,
            Outcome::Sealed => Self::Sealed,
            Outcome::Executed | Outcome::Absent => return None,
        })
    }

    /// The counters of the histogram of waits, by the longest that each counts.
    const WAITS: [(Micros, Self); 10] = [
        (1_000, Self::Waited1ms),
        (3_000, Self::Waited3ms),
        (10_000, Self::Waited10ms),
        (30_000, Self::Waited30ms),
        (100_000, Self::Waited100ms),
        (300_000, Self::Waited300ms),
        (1_000_000, Self::Waited1s),
        (3_000_000, Self::Waited3s),
        (10_000_000, Self::Waited10s),
        (30_000_000, Self::Waited30s),
    ];

    /// Which part of the histogram a wait belongs to.
    pub fn of_wait(waited: Micros) -> Self {
        let found = Self::WAITS.iter().find(|(longest, _)| waited <= *longest);
        found.map_or(Self::WaitedLonger, |(_, counter)| *counter)
    }

    /// The counter of what a call would have been.
    pub fn of_observed(observed: Observed) -> Self {
        match observed {
            Observed::First => Self::ObservedFirst,
            Observed::Duplicate => Self::ObservedDuplicate,
            Observed::Mismatch => Self::ObservedMismatch,
            Observed::Concurrent => Self::ObservedConcurrent,
            Observed::Expired => Self::ObservedExpired,
            Observed::Unknown => Self::ObservedUnknown,
            Observed::Sealed => Self::ObservedSealed,
            Observed::MissingKey => Self::ObservedMissingKey,
            Observed::BadKey => Self::ObservedBadKey,
            Observed::Unfinished => Self::ObservedUnfinished,
        }
    }
}
