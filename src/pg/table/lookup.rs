//! Looking a row up by its primary key, past the executor.

use crate::pg::table::relation::Relation;
use crate::pg::{raw, snapshot, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::identity::RecordId;

/// A primary key: its columns, in the order of the index, and their values.
#[derive(Clone, Copy)]
pub struct Key {
    columns: [(usize, Datum); MOST],
    count: usize,
    /// The function by which all of them are compared.
    equal: u32,
}

/// No primary key of ours has more columns.
const MOST: usize = 3;

impl Key {
    /// Of a record. It points to the id, which must outlive it.
    pub fn record(id: &RecordId) -> Self {
        let id = (0, Datum::from(id.0.as_ptr()));
        Self { columns: [id; MOST], count: 1, equal: pg_sys::F_UUID_EQ }
    }

    /// Of the only row of a table whose key is `true`.
    pub fn only() -> Self {
        Self { columns: [(0, Datum::from(true)); MOST], count: 1, equal: pg_sys::F_BOOLEQ }
    }

    /// Of texts, in columns of collation "C".
    pub fn texts(texts: &[(usize, Datum)]) -> Self {
        let mut columns = [(0, Datum::from(0)); MOST];
        let count = texts.len().min(MOST);
        columns[..count].copy_from_slice(&texts[..count]);
        Self { columns, count, equal: pg_sys::F_TEXTEQ }
    }
}

/// A palloc'd copy of the row as of now, or null: see `Records::find`.
pub fn current(table: &Relation, key: Key) -> pg_sys::HeapTuple {
    let mut snapshot = snapshot::current();
    let look = Look::new(table, key, &raw mut snapshot);
    // SAFETY: `Look` is Copy, and what it points to outlives this frame; an error is resumed.
    let tuple = unsafe { subtransaction::call_keeping_error(|| look.first()) };
    tuple.unwrap_or_else(|error| error.resume())
}

/// The row as of now, also while it is being written.
pub fn dirty(table: &Relation, key: Key) -> Seen {
    let mut snapshot = snapshot::dirty();
    let look = Look::new(table, key, &raw mut snapshot);
    // SAFETY: `Look` is Copy, and what it points to outlives this frame; an error is resumed.
    let seen = unsafe { subtransaction::call_keeping_error(|| look.newest()) };
    seen.unwrap_or_else(|error| error.resume())
}

/// What became of a version of a row, as far as can be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// There is none.
    Nothing,
    /// Committed, or written by this very transaction.
    Settled,
    /// Another transaction is inserting it.
    Arriving,
    /// Another transaction is deleting it, and none is inserting another.
    Leaving,
}

/// The newest version of a row, and the transaction that is writing it.
#[derive(Clone, Copy)]
pub struct Seen {
    pub state: RowState,
    /// Of a version that is arriving or leaving.
    pub writer: pg_sys::TransactionId,
    /// A palloc'd copy, or null.
    pub tuple: pg_sys::HeapTuple,
}

/// A look-up of one row by its primary key. Nothing in its methods has a destructor: an error jumps
/// over their frames.
#[derive(Clone, Copy)]
pub struct Look {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    key: Key,
    snapshot: pg_sys::Snapshot,
}

impl Look {
    /// It points to what the key points to and to the snapshot, which must outlive it.
    pub fn new(table: &Relation, key: Key, snapshot: pg_sys::Snapshot) -> Self {
        Self { table: table.raw, index: table.primary.raw, key, snapshot }
    }

    /// A palloc'd copy of the first tuple that the snapshot sees, or null.
    fn first(self) -> pg_sys::HeapTuple {
        // SAFETY: the tuple is copied before the scan that pins it ends.
        unsafe {
            let scan = self.begin();
            let mut tuple = next(scan);
            if !tuple.is_null() {
                tuple = raw::heap_copytuple(tuple);
            }
            raw::systable_endscan_ordered(scan);
            tuple
        }
    }

    /// The newest version, by a dirty snapshot. A row that is being replaced has a version that leaves and
    /// one that arrives, in either order: the one that arrives is the newer.
    ///
    /// # Safety
    /// It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn newest(self) -> Seen {
        let mut seen = Seen {
            state: RowState::Nothing,
            writer: pg_sys::InvalidTransactionId,
            tuple: std::ptr::null_mut(),
        };
        // SAFETY: each tuple is copied before the next is asked for, which unpins it. For each tuple that it
        // returns, a scan with a dirty snapshot fills in that snapshot's xmin and xmax (snapmgr.h).
        unsafe {
            let scan = self.begin();
            loop {
                let tuple = next(scan);
                if tuple.is_null() {
                    break;
                }
                let (inserting, deleting) = ((*self.snapshot).xmin, (*self.snapshot).xmax);
                let (state, writer) = if inserting != pg_sys::InvalidTransactionId {
                    (RowState::Arriving, inserting)
                } else if deleting != pg_sys::InvalidTransactionId {
                    (RowState::Leaving, deleting)
                } else {
                    (RowState::Settled, pg_sys::InvalidTransactionId)
                };
                seen = Seen { state, writer, tuple: raw::heap_copytuple(tuple) };
                if state != RowState::Leaving {
                    break;
                }
            }
            raw::systable_endscan_ordered(scan);
        }
        seen
    }

    /// # Safety
    /// The scan must be ended.
    unsafe fn begin(self) -> pg_sys::SysScanDesc {
        // SAFETY: `new` took table and index from an open `Relation`, and its caller keeps that, the key's
        // values and the snapshot for as long as the look. ScanKeyInit fills each of the `count` keys, which
        // the scan copies (genam.c).
        unsafe {
            let mut keys: [pg_sys::ScanKeyData; MOST] = std::mem::zeroed();
            let count = self.key.count.min(MOST);
            for (key, (column, value)) in keys.iter_mut().zip(self.key.columns).take(count) {
                raw::ScanKeyInit(
                    key,
                    column as i16 + 1,
                    pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                    pg_sys::RegProcedure::from(self.key.equal),
                    value,
                );
            }
            raw::systable_beginscan_ordered(
                self.table,
                self.index,
                self.snapshot,
                count as i32,
                keys.as_mut_ptr(),
            )
        }
    }
}

/// # Safety
/// The scan must be open.
unsafe fn next(scan: pg_sys::SysScanDesc) -> pg_sys::HeapTuple {
    // SAFETY: the scan is open, which this function demands.
    unsafe { raw::systable_getnext_ordered(scan, pg_sys::ScanDirection::ForwardScanDirection) }
}
