//! How long a call waits for the holder of its key, and for what.

use crate::domain::error::Result;
use crate::domain::identity::RecordId;
use crate::domain::{Micros, Timestamp};
use crate::store::lock::KeyLock;
use crate::store::record::{Found, Locked, Owner, Records};
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
const SWEEP: Micros = 100_000;

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

    /// What an expired record is deleted within, for a row that takes its place at once. A sweep
    /// that is at it commits within milliseconds, and is no holder to be told of.
    pub fn for_a_sweep(&self) -> Micros {
        self.remaining().max(SWEEP)
    }

    /// Takes the key's lock, and looks at a record that nobody is writing; `None` if the wait was
    /// not enough for both.
    pub fn lock_and_look(
        &self,
        records: &Records,
        owner: &Owner<'_>,
    ) -> Result<Option<(KeyLock, Option<Found>)>> {
        loop {
            let Some(lock) = KeyLock::try_acquire(owner.id).or_else(|| self.acquire(owner.id))
            else {
                return Ok(None);
            };
            match records.find_locked(owner)? {
                Locked::Nothing => return Ok(Some((lock, None))),
                Locked::Found(found) => return Ok(Some((lock, Some(*found)))),
                Locked::BeingWritten(xid) => {
                    drop(lock);
                    if !self.transaction_ends(xid) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn acquire(&self, id: RecordId) -> Option<KeyLock> {
        let remaining = self.remaining();
        if remaining > 0 { KeyLock::acquire_within(id, remaining) } else { None }
    }

    fn transaction_ends(&self, xid: pg_sys::TransactionId) -> bool {
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
