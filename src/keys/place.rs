//! Where a claim is kept while it is held.

use crate::keys::claim::{Request, make_room};
use crate::keys::waiting::Waiting;
use crate::pg::lock;
use crate::session::claims;
use crate::tables::records::row::Found;
use crate::tables::records::table::Records;
use rules::Micros;
use rules::policy::{Mode, Policy};

/// Where a claim is kept while it is held.
#[derive(Clone, Copy)]
pub enum Place {
    /// In a row that others see: a lease.
    Lease(Micros),
    /// In a row of this transaction, which others see as being inserted: past the transaction's
    /// share of the lock table it takes the lock's place.
    Placeholder,
    /// Nowhere but in the lock, and so nothing is in its way: a record that counts as absent is
    /// deleted when the answer takes its place.
    Lock { over_absent: bool },
    /// In the lock, in place of a lease that has lapsed.
    Takeover,
    /// Only observed: the transaction may commit without an answer, and must not leave a placeholder.
    Nowhere,
}

impl Place {
    pub fn of(policy: &Policy, request: &Request, attempt: i32, occupied: bool) -> Self {
        match request.lease {
            Some(lease) => Self::Lease(lease),
            None if claims::must_spill(lock::fair_share()) => match policy.mode {
                Mode::Enforce => Self::Placeholder,
                Mode::Observe => Self::Nowhere,
            },
            None if attempt > 1 => Self::Takeover,
            None => Self::Lock { over_absent: occupied },
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
            Self::Lock { .. } | Self::Nowhere => Some(true),
            Self::Lease(_) | Self::Placeholder | Self::Takeover => {
                make_room(records, before, waiting)
            }
        }
    }
}
