//! What administrators change of an operation while its callers are at work.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Of answers and failures alike.
    Retention { ms: u64 },
    /// What a lapsed lease leads to: `unknown`, or the next attempt.
    OnLapse { unknown: bool },
    /// Whether the date in a `UUIDv7` counts.
    KeyDates { used: bool },
    /// Whether a member that no request has is left out of fingerprints, too.
    Exclude { more: bool },
}
