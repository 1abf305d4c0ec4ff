//! Locks with a key: the holder of a resource.

use crate::{Micros, Timestamp};

/// What is known of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock<'a> {
    /// The key of its holder.
    pub holder: &'a [u8],
    /// What recognises the holder.
    pub fence: i64,
    /// From then on it has no holder.
    pub expires_at: Timestamp,
}

/// What a caller that asks for a resource is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It had no holder: it is the caller's, with a new fence.
    Granted {
        /// Until when.
        until: Timestamp,
    },
    /// It is the caller's already, with the same fence.
    Extended {
        /// Until when: later than before, or as before. Asking again never shortens.
        until: Timestamp,
    },
    /// It is another holder's, until then.
    Refused,
}

/// Decides whether a caller gets a resource: the first one, until its lock ends, and again with the same
/// key.
#[must_use]
pub fn ask(lock: Option<&Lock<'_>>, key: &[u8], ttl: Micros, now: Timestamp) -> Answer {
    let until = now.saturating_add(ttl);
    match lock.filter(|lock| lock.expires_at > now) {
        None => Answer::Granted { until },
        Some(lock) if lock.holder == key => Answer::Extended { until: until.max(lock.expires_at) },
        Some(_) => Answer::Refused,
    }
}

/// Whether the caller holds the resource: with this key and this fence, and still.
#[must_use]
pub fn is_held(lock: Option<&Lock<'_>>, key: &[u8], fence: i64, now: Timestamp) -> bool {
    lock.is_some_and(|lock| lock.expires_at > now && lock.holder == key && lock.fence == fence)
}

#[cfg(test)]
#[path = "tests/lock.rs"]
mod tests;
