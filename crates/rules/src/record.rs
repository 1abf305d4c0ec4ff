//! What the store knows of a key.

use crate::Timestamp;
use crate::request::fingerprint::Fingerprint;

/// What a record says of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// `p`: a caller holds a lease, or held one.
    InProgress,
    /// `c`: done, with an answer.
    Completed,
    /// `f`: done, with a final failure.
    Failed,
    /// `u`: it may have happened.
    Unknown,
    /// `s`: it never will.
    Sealed,
    /// `a`: it was found out that it has not happened, and so it may.
    Absent,
}

impl State {
    /// The state that this byte stands for in a record, if any.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'p' => Some(Self::InProgress),
            b'c' => Some(Self::Completed),
            b'f' => Some(Self::Failed),
            b'u' => Some(Self::Unknown),
            b's' => Some(Self::Sealed),
            b'a' => Some(Self::Absent),
            _ => None,
        }
    }

    /// The byte that stands for it.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::InProgress => b'p',
            Self::Completed => b'c',
            Self::Failed => b'f',
            Self::Unknown => b'u',
            Self::Sealed => b's',
            Self::Absent => b'a',
        }
    }
}

/// What the store has of a key, as far as it decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What became of the work.
    pub state: State,
    /// Of the request that it was claimed with; `None` when that was null.
    pub fingerprint: Option<Fingerprint>,
    /// The fence of the lease; `None` for a claim held by a transaction.
    pub fence: Option<i64>,
    /// 1 for the first.
    pub attempt: i32,
    /// The name that the caller gave the attempt.
    pub attempt_id: Option<[u8; 16]>,
    /// When the lease ends; `None` for a claim held by a transaction, which lasts as long as that.
    pub lease_until: Option<Timestamp>,
    /// From when on the record counts as absent.
    pub expires_at: Timestamp,
    /// Written by the calling transaction.
    pub mine: bool,
}

impl Record {
    /// Whether the record was made for the request with this fingerprint; what was settled by hand fits every request.
    #[must_use]
    pub fn is_for(&self, fingerprint: Option<Fingerprint>) -> bool {
        self.fingerprint == fingerprint || self.fingerprint == Some(Fingerprint::ANY)
    }

    /// Whether a lease has ended: one that ends now has.
    #[must_use]
    pub fn lapsed(&self, now: Timestamp) -> bool {
        self.lease_until.is_some_and(|end| end <= now)
    }

    /// Whether a lapse leaves it unknown what became of the work. That is a fact of the lease, as it was
    /// granted, whatever the operation's `on_lapse` says since: a lease that may be retried expires.
    #[must_use]
    pub fn is_unknown_once_lapsed(&self) -> bool {
        self.expires_at == Timestamp::MAX
    }

    /// Whether the record counts as absent, swept or not. A lease that lasts keeps its record,
    /// whatever `expires_at` says, and what is unknown stays so until it is resolved.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
            && match self.state {
                State::InProgress => self.lapsed(now),
                State::Unknown => false,
                State::Completed | State::Failed | State::Sealed | State::Absent => true,
            }
    }
}
