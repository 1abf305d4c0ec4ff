//! How long a call waits for the holder of its key, and for what.

use crate::domain::identity::RecordId;
use crate::domain::{Micros, Timestamp};
use crate::store::lock::KeyLock;
use crate::store::record::Found;
use crate::store::{clock, lock};
use pgrx::pg_sys;

/// The time that a claim may still wait, over all the waits it takes.
pub struct Waiting {
    until: Timestamp,
    nap: Micros,
}

/// Between looks at a lease: short at first, so that quick work is answered quickly.
const FIRST_NAP: Micros = 2_000;
const LONGEST_NAP: Micros = 100_000;

impl Waiting {
    pub fn for_up_to(wait: Micros) -> Self {
        // Without a wait there is no need to read the clock.
        let until = if wait > 0 { clock::now().saturating_add(wait) } else { Timestamp::MIN };
        Self { until, nap: FIRST_NAP }
    }

    pub fn remaining(&self) -> Micros {
        if self.until == Timestamp::MIN {
            return 0;
        }
        self.until.saturating_sub(clock::now()).max(0)
    }

    /// Takes the key's lock, waiting if somebody holds it.
    pub fn try_or_acquire(&self, id: RecordId) -> Option<KeyLock> {
        KeyLock::try_acquire(id).or_else(|| self.acquire(id))
    }

    fn acquire(&self, id: RecordId) -> Option<KeyLock> {
        let remaining = self.remaining();
        if remaining > 0 { KeyLock::acquire_within(id, remaining) } else { None }
    }

    pub fn transaction_ends(&self, xid: pg_sys::TransactionId) -> bool {
        let remaining = self.remaining();
        remaining > 0 && lock::transaction_ends_within(xid, remaining)
    }

    /// Sleeps until it is worth looking again at a lease. Its holder has no transaction to wait
    /// for, so this polls, with back-off.
    pub fn for_leased(&mut self, found: Option<&Found>) {
        let lapse = found.and_then(|found| found.record.lease_until).unwrap_or(Timestamp::MAX);
        let to_lapse = lapse.saturating_sub(clock::now()).max(0);
        let nap = self.nap.min(self.remaining()).min(to_lapse);
        self.nap = (self.nap * 2).min(LONGEST_NAP);
        clock::sleep(nap);
    }
}
