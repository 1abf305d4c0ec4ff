//! A walk along an index, entry by entry: the caller gets its turn also at entries whose rows are gone, of
//! which an old snapshot may keep millions.

use crate::pg::raw;
use crate::pg::table::index::Index;
use crate::pg::table::relation::Relation;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// Where a row stands in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace {
    block: u32,
    number: u16,
}

/// A walk by the first column of an index, within two bounds. Nothing in its methods has a destructor: an
/// error jumps over their frames.
#[derive(Clone, Copy)]
pub struct IndexWalk {
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

impl IndexWalk {
    /// Entries whose first column is between the bounds, both included, in order.
    ///
    /// # Safety
    /// The index must be a btree of the table, and its first column a timestamptz. Table, index and snapshot must
    /// outlive the walk, which must be ended. It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn begin(
        table: &Relation,
        index: &Index,
        snapshot: pg_sys::Snapshot,
        (from, to): (i64, i64),
    ) -> Self {
        let bounds = [
            (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_TIMESTAMPTZ_GE, from),
            (pg_sys::BTLessEqualStrategyNumber, pg_sys::F_TIMESTAMPTZ_LE, to),
        ];
        // SAFETY: table, index and snapshot are there, which this function demands. ScanKeyInit fills both keys, whose
        // values are of the column's type, and the rescan copies them. A btree returns its own tuple of each
        // entry if that is wanted before the first rescan (nbtree.c).
        unsafe {
            let mut keys: [pg_sys::ScanKeyData; 2] = std::mem::zeroed();
            for (key, (strategy, compare, bound)) in keys.iter_mut().zip(bounds) {
                let (strategy, compare) = (strategy as u16, pg_sys::RegProcedure::from(compare));
                raw::ScanKeyInit(key, 1, strategy, compare, Datum::from(bound));
            }
            let scan = raw::index_beginscan(table.raw, index.raw, snapshot, 2);
            (*scan).xs_want_itup = true;
            raw::index_rescan(scan, keys.as_mut_ptr(), 2, std::ptr::null_mut(), 0);
            Self { scan, slot: raw::table_slot_create(table.raw, std::ptr::null_mut()) }
        }
    }

    /// Goes on to the next entry, or to another version of the row of this one; false at the end.
    ///
    /// # Safety
    /// The walk must not be ended. It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn advance(self) -> bool {
        // SAFETY: the scan is open, which this function demands. Where a row may have more versions that the
        // snapshot sees, the scan says so, and the next fetch is of these (indexam.c).
        unsafe {
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            (*self.scan).xs_heap_continue || !raw::index_getnext_tid(self.scan, forward).is_null()
        }
    }

    /// The value of the entry in the first column, and where its row stands.
    ///
    /// # Safety
    /// As for `advance`, which must have returned true.
    pub unsafe fn entry(self) -> (i64, RowPlace) {
        // SAFETY: the scan is at an entry, whose tuple it has been asked for and keeps until it goes on. An index
        // has at most INDEX_MAX_KEYS columns.
        unsafe {
            let mut values = [Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
            let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
            let (tuple, descriptor) = ((*self.scan).xs_itup, (*self.scan).xs_itupdesc);
            raw::index_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let tid = (*self.scan).xs_heaptid;
            let block = (u32::from(tid.ip_blkid.bi_hi) << 16) | u32::from(tid.ip_blkid.bi_lo);
            (values[0].value() as i64, RowPlace { block, number: tid.ip_posid })
        }
    }

    /// The row of the entry, pinned until the walk goes on; null if the snapshot does not see it.
    ///
    /// # Safety
    /// As for `entry`.
    pub unsafe fn fetch(self) -> pg_sys::HeapTuple {
        // SAFETY: the scan is at an entry, and the slot was made for the table; a tuple that the slot keeps is freed
        // by it.
        unsafe {
            if !raw::index_fetch_heap(self.scan, self.slot) {
                return std::ptr::null_mut();
            }
            let mut is_copy = false;
            raw::ExecFetchSlotHeapTuple(self.slot, false, &mut is_copy)
        }
    }

    /// # Safety
    /// As for `advance`; the walk is then ended.
    pub unsafe fn end(self) {
        // SAFETY: slot and scan are there, which this function demands.
        unsafe {
            raw::ExecDropSingleTupleTableSlot(self.slot);
            raw::index_endscan(self.scan);
        }
    }
}
