//! Where a claim is kept while it is held.

use crate::keys::request::Request;
use crate::keys::waiting::Waiting;
use crate::pg::lock;
use crate::session::claims;
use crate::tables::records::row::Found;
use crate::tables::records::table::Records;
use rules::Micros;

/// What becomes of a claim for which the transaction's share of the lock table has no room.
#[derive(Clone, Copy)]
pub enum NoRoom {
    /// A placeholder row takes the lock's place.
    Placeholder,
    /// The caller does the work without holding the key.
    LetThrough,
}

/// Where a claim is kept while it is held.
#[derive(Clone, Copy)]
pub enum HeldBy {
    /// In a row that others see: a lease.
    Lease(Micros),
    /// In a row of this transaction, which others see as being inserted: past the transaction's
    /// share of the lock table it takes the lock's place.
    Placeholder,
    /// Nothing but in the lock, and so nothing is in its way: a record that counts as absent is
    /// deleted when the answer takes its place.
    Lock { replaces_absent: bool },
    /// In the lock, in place of a lease that has lapsed.
    Takeover,
    /// Nothing at all: see [`NoRoom::LetThrough`].
    Nothing,
}

impl HeldBy {
    pub fn of(no_room: NoRoom, request: &Request, attempt: i32, occupied: bool) -> Self {
        match request.lease {
            Some(lease) => Self::Lease(lease),
            None if !claims::is_room_for_lock(lock::fair_share()) => match no_room {
                NoRoom::Placeholder => Self::Placeholder,
                NoRoom::LetThrough => Self::Nothing,
            },
            None if attempt > 1 => Self::Takeover,
            None => Self::Lock { replaces_absent: occupied },
        }
    }

    /// As [`make_room`], where it is needed.
    pub fn make_room(
        self,
        records: &Records,
        before: Option<&Found>,
        waiting: &Waiting<'_>,
    ) -> Option<bool> {
        match self {
            Self::Lock { .. } | Self::Nothing => Some(true),
            Self::Lease(_) | Self::Placeholder | Self::Takeover => {
                make_room(records, before, waiting)
            }
        }
    }
}

/// Deletes the record that has expired or lapsed. `Some(false)`: another session did, so look
/// again; `None`: another session still may, and the wait is over.
pub fn make_room(records: &Records, before: Option<&Found>, waiting: &Waiting<'_>) -> Option<bool> {
    before.map_or(Some(true), |before| records.delete_within(before, waiting.for_a_sweep()))
}
