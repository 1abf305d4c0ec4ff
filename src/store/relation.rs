//! Open relations and index scans over one key, closed whatever happens.

use crate::store::catalog::Table;
use pgrx::pg_sys;

/// A table opened under a lock that lasts to the end of the transaction, as that of any DML does:
/// whoever moves or drops records waits for us, and we for them.
pub struct Relation {
    pub raw: pg_sys::Relation,
    index: pg_sys::Oid,
}

impl Relation {
    pub fn open_to_read(table: Table) -> Self {
        Self::open(table, pg_sys::AccessShareLock)
    }

    pub fn open_to_write(table: Table) -> Self {
        Self::open(table, pg_sys::RowExclusiveLock)
    }

    fn open(table: Table, lock: u32) -> Self {
        // SAFETY: raises an error if the table is gone.
        let raw = unsafe { pg_sys::table_open(table.heap, lock as pg_sys::LOCKMODE) };
        Self { raw, index: table.index }
    }

    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.raw).rd_att }
    }

    /// Calls `visit` with each tuple under `key` that `snapshot` sees (null: the newest snapshot)
    /// until it answers with something.
    ///
    /// # Safety
    /// `snapshot` is null or valid for the call, and `key` is of the type that `compare` (the OID
    /// of an equality function) takes. The tuple lives only as long as the visit.
    pub unsafe fn scan<T>(
        &self,
        compare: u32,
        key: pg_sys::Datum,
        snapshot: pg_sys::Snapshot,
        mut visit: impl FnMut(pg_sys::HeapTuple) -> Option<T>,
    ) -> Option<T> {
        // SAFETY: the scan key is initialised before use and outlives the scan; the relation is
        // open and locked. A null snapshot makes genam.c take a fresh catalog snapshot: our tables
        // have no syscache, so it is never an older one.
        unsafe {
            let mut scan_key: pg_sys::ScanKeyData = std::mem::zeroed();
            pg_sys::ScanKeyInit(
                &mut scan_key,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::RegProcedure::from(compare),
                key,
            );
            let scan = Scan(pg_sys::systable_beginscan(
                self.raw,
                self.index,
                true,
                snapshot,
                1,
                &mut scan_key,
            ));
            loop {
                let tuple = pg_sys::systable_getnext(scan.0);
                if tuple.is_null() {
                    return None;
                }
                if let Some(found) = visit(tuple) {
                    return Some(found);
                }
            }
        }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        // SAFETY: opened by us; the lock stays until the transaction ends. While an error unwinds,
        // Postgres' resource owner closes what is open.
        if !std::thread::panicking() {
            unsafe { pg_sys::table_close(self.raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

struct Scan(pg_sys::SysScanDesc);

impl Drop for Scan {
    fn drop(&mut self) {
        // SAFETY: begun by us; as for the relation, an error leaves it to the resource owner.
        if !std::thread::panicking() {
            unsafe { pg_sys::systable_endscan(self.0) };
        }
    }
}
