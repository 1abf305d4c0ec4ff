//! How long a call waits for the holder of its key, and for what.

use crate::pg::lock::{self, KeyLock};
use crate::pg::table::relation::Relation;
use crate::pg::wait_event::Sleep;
use crate::pg::{clock, limit};
use crate::stats::{Counter, Tally};
use crate::tables::hold::{AtOnce, Patience, RowPatience, hold};
use crate::tables::records::row::{Found, Owner};
use crate::tables::records::table::Records;
use pgrx::pg_sys;
use rules::error::Result;
use rules::{Micros, Timestamp};
use std::cell::Cell;

/// The time that a claim may still wait, over all the waits it takes.
pub struct Waiting<'a> {
    until: Timestamp,
    nap: Micros,
    /// When the first wait began, if there was one.
    began: Cell<Option<Timestamp>>,
    tally: Option<&'a Tally>,
}

/// Between looks at a lease: short at first, so that quick work is answered quickly.
const FIRST_NAP: Micros = 2_000;
const LONGEST_NAP: Micros = 100_000;
const SWEEP: Micros = 100_000;

/// The key's lock, and the record if there is one.
type Locked = (KeyLock, Option<Found>);

/// The lock of a key that no other session has, and what is there under it; `None` where there is
/// something to wait for.
pub fn locked_at_once(records: &Records, owner: &Owner<'_>) -> Result<Option<Locked>> {
    held(records, owner, &AtOnce)
}

fn held(records: &Records, owner: &Owner<'_>, patience: &impl Patience) -> Result<Option<Locked>> {
    let held = hold(lock::tag(owner.id), patience, || records.find_locked(owner))?;
    Ok(held.map(|held| (held.lock, held.row.map(|found| *found))))
}

impl<'a> Waiting<'a> {
    /// As long as the call may (`pg/limit.rs`), of which `wait` is the whole.
    pub fn for_up_to(wait: Micros, tally: &'a Tally) -> Self {
        let mut waiting = Self::uncounted(wait);
        waiting.tally = Some(tally);
        waiting
    }

    /// The same, for what has no counters.
    pub fn uncounted(wait: Micros) -> Self {
        // Without a wait there is no need to read the clock.
        let until = match wait {
            0 => Timestamp::MIN,
            _ => limit::until().unwrap_or_else(|| clock::now().saturating_add(wait)),
        };
        Self { until, nap: FIRST_NAP, began: Cell::new(None), tally: None }
    }

    fn begin(&self) {
        self.began.set(self.began.get().or_else(|| Some(clock::now())));
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

    /// Takes the key's lock, and looks at a record that no transaction is writing; `None` if the wait
    /// was not enough for both.
    pub fn lock_and_look(&self, records: &Records, owner: &Owner<'_>) -> Result<Option<Locked>> {
        held(records, owner, self)
    }

    /// Takes a lock of the outbox until the transaction ends; whether it came in time.
    pub fn hold_for_outbox(&self, number: i64, shared: bool) -> bool {
        lock::try_outbox(number, shared) || {
            let remaining = self.remaining();
            if remaining == 0 {
                return false;
            }
            self.begin();
            lock::outbox_within(number, shared, remaining)
        }
    }

    /// Sleeps until it is worth looking again at a lease. Its holder has no transaction to wait
    /// for, so this polls, with back-off.
    pub fn for_leased(&mut self, found: Option<&Found>) {
        self.begin();
        let lapse = found.and_then(|found| found.record.lease_until).unwrap_or(Timestamp::MAX);
        let to_lapse = lapse.saturating_sub(clock::now()).max(0);
        let nap = self.nap.min(self.remaining()).min(to_lapse);
        self.nap = (self.nap * 2).min(LONGEST_NAP);
        clock::sleep(nap, Sleep::Lease);
    }
}

impl Patience for Waiting<'_> {
    fn lock(&self, tag: pg_sys::LOCKTAG) -> Option<KeyLock> {
        KeyLock::try_acquire(tag).or_else(|| {
            let remaining = self.remaining();
            if remaining == 0 {
                return None;
            }
            self.begin();
            KeyLock::acquire_within(tag, remaining)
        })
    }

    fn transaction_ends(&self, xid: pg_sys::TransactionId) -> bool {
        let remaining = self.remaining();
        if remaining == 0 {
            return false;
        }
        self.begin();
        lock::transaction_ends_within(xid, remaining)
    }
}

impl RowPatience for Waiting<'_> {
    unsafe fn lock_row(&self, table: &Relation, tid: pg_sys::ItemPointerData) -> Option<bool> {
        let remaining = self.remaining();
        if remaining == 0 {
            return None;
        }
        self.begin();
        // SAFETY: the tuple is there, which this function demands; `held_within` catches the error, and the
        // closure is Copy.
        lock::held_within(remaining, || unsafe { table.lock_row_raw(tid) })
    }
}

impl Drop for Waiting<'_> {
    /// Also when an error ended the wait: counting cannot raise another.
    fn drop(&mut self) {
        if let Some(began) = self.began.get() {
            let waited = clock::now().saturating_sub(began);
            if let Some(tally) = self.tally {
                tally.add(Counter::Waits, 1);
                tally.add(Counter::WaitMicros, u64::try_from(waited).unwrap_or(0));
                tally.add(Counter::of_wait(waited), 1);
            }
        }
    }
}
