//! Looking a record up by its id, past the executor.

use crate::domain::identity::RecordId;
use crate::store::relation::Relation;
use crate::store::{snapshot, subtransaction, uncaught};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// A palloc'd copy of the record as of now, or null: see `Records::find`.
pub fn current(table: &Relation, id: &RecordId) -> pg_sys::HeapTuple {
    let mut snapshot = snapshot::current();
    let look = Look::new(table, id, &raw mut snapshot);
    // SAFETY: an error goes on to the caller.
    let tuple = unsafe { subtransaction::call_keeping_error(|| look.first()) };
    tuple.unwrap_or_else(|error| error.resume())
}

/// The record as of now, also while it is being written.
pub fn dirty(table: &Relation, id: &RecordId) -> Seen {
    let mut snapshot = snapshot::dirty();
    let look = Look::new(table, id, &raw mut snapshot);
    // SAFETY: an error goes on to the caller.
    let seen = unsafe { subtransaction::call_keeping_error(|| look.most_telling()) };
    seen.unwrap_or_else(|error| error.resume())
}

/// What became of a version of a record, as far as can be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is none.
    Nothing,
    /// Committed, or written by this very transaction.
    Settled,
    /// Another transaction is inserting it.
    Arriving,
    /// Another transaction is deleting it, and nobody is inserting another.
    Leaving,
}

/// The version of a record that tells most, and who is writing it.
#[derive(Clone, Copy)]
pub struct Seen {
    pub kind: Kind,
    /// Of a version that is arriving or leaving.
    pub writer: pg_sys::TransactionId,
    /// A palloc'd copy, or null.
    pub tuple: pg_sys::HeapTuple,
}

/// A look-up of one record by its id. Nothing in its methods has a destructor: an error jumps over
/// their frames.
#[derive(Clone, Copy)]
struct Look {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    id: Datum,
    snapshot: pg_sys::Snapshot,
}

impl Look {
    /// It points to the id and to the snapshot, which must outlive it.
    fn new(table: &Relation, id: &RecordId, snapshot: pg_sys::Snapshot) -> Self {
        let id = Datum::from(id.0.as_ptr());
        Self { table: table.raw, index: table.primary.raw, id, snapshot }
    }

    /// A palloc'd copy of the first tuple that the snapshot sees, or null.
    fn first(self) -> pg_sys::HeapTuple {
        // SAFETY: the scan is ended, and the tuple copied before that.
        unsafe {
            let scan = self.begin();
            let mut tuple = next(scan);
            if !tuple.is_null() {
                tuple = uncaught::heap_copytuple(tuple);
            }
            uncaught::systable_endscan_ordered(scan);
            tuple
        }
    }

    /// With a dirty snapshot. A record that is being replaced has a version that leaves and one
    /// that arrives, in either order: the one that arrives tells more.
    fn most_telling(self) -> Seen {
        let mut seen = Seen {
            kind: Kind::Nothing,
            writer: pg_sys::InvalidTransactionId,
            tuple: std::ptr::null_mut(),
        };
        // SAFETY: as above; the scan fills in the snapshot for each tuple that it returns.
        unsafe {
            let scan = self.begin();
            loop {
                let tuple = next(scan);
                if tuple.is_null() {
                    break;
                }
                let (inserting, deleting) = ((*self.snapshot).xmin, (*self.snapshot).xmax);
                let (kind, writer) = if inserting != pg_sys::InvalidTransactionId {
                    (Kind::Arriving, inserting)
                } else if deleting != pg_sys::InvalidTransactionId {
                    (Kind::Leaving, deleting)
                } else {
                    (Kind::Settled, pg_sys::InvalidTransactionId)
                };
                seen = Seen { kind, writer, tuple: uncaught::heap_copytuple(tuple) };
                if kind != Kind::Leaving {
                    break;
                }
            }
            uncaught::systable_endscan_ordered(scan);
        }
        seen
    }

    /// # Safety
    /// The scan must be ended.
    unsafe fn begin(self) -> pg_sys::SysScanDesc {
        // SAFETY: table and index are open and locked, the id is a uuid as the index is, the
        // snapshot outlives the scan; the scan key is copied (genam.c).
        unsafe {
            let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
            uncaught::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::RegProcedure::from(pg_sys::F_UUID_EQ),
                self.id,
            );
            uncaught::systable_beginscan_ordered(self.table, self.index, self.snapshot, 1, &mut key)
        }
    }
}

/// # Safety
/// The scan must be open.
unsafe fn next(scan: pg_sys::SysScanDesc) -> pg_sys::HeapTuple {
    // SAFETY: as the caller says.
    unsafe { uncaught::systable_getnext_ordered(scan, pg_sys::ScanDirection::ForwardScanDirection) }
}
