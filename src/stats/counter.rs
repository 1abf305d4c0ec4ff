//! What is counted.

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
}

impl Counter {
    /// All of them, in the order of their values, as the view calls them (sql/40_statistics.sql).
    pub const ALL: [(Self, &'static str); 17] = [
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
    ];

    /// The counter of an outcome that was answered; none for `absent`, nor for `executed`, which
    /// counts when it is committed.
    pub fn of_outcome(outcome: &str) -> Option<Self> {
        Some(match outcome {
            "claimed" => Self::Claimed,
            "replay" => Self::Replayed,
            "in_progress" => Self::InProgress,
            "mismatch" => Self::Mismatched,
            "expired" => Self::Expired,
            "unknown" => Self::Unknown,
            "sealed" => Self::Sealed,
            _ => return None,
        })
    }
}
