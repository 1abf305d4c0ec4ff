//! Open tables and index scans over one key, closed whatever happens.

use crate::pg::datum::row::{self, Columns};
use crate::pg::error::Kept;
use crate::pg::limit::in_the_way;
use crate::pg::table::index::{self, Index};
use crate::pg::table::insert;
use crate::pg::table::opening::{Attempt, attempt};
use crate::pg::{lock, raw, subtransaction};
use pgrx::{PgList, pg_sys};
use rules::error::Result;

/// What became of a write (access/tableam.h).
pub type WriteResult = pg_sys::TM_Result::Type;

/// A table opened under a lock that lasts to the end of the transaction, as that of any DML does:
/// a session that moves or drops records waits for this one, and this one for it.
pub struct Relation {
    pub raw: pg_sys::Relation,
    /// The index of its primary key.
    pub primary: Index,
    lock: pg_sys::LOCKMODE,
}

/// What came of opening a table without waiting for a lock.
pub enum AtOnce {
    Open(Relation),
    /// There is no such table (any more).
    Gone,
    /// Another session has a lock on the table, or on its index, that keeps this one out. Nothing is held.
    InTheWay,
}

impl Relation {
    /// Locks and opens a table, without waiting, and learns what other sessions have changed until then. All in
    /// one catch, as this is the beginning of every call.
    ///
    /// # Errors
    /// 55000 if it does not have the columns this library knows.
    pub fn open_at_once(
        table: pg_sys::Oid,
        lock: pg_sys::LOCKMODE,
        known: &[pg_sys::Oid],
    ) -> Result<AtOnce> {
        let owner = lock::TransactionOwner::keep();
        // SAFETY: `Attempt` and the closure are Copy. An error is resumed, whereupon `owner` is dropped.
        let attempt = unsafe { subtransaction::call_keeping_error(|| attempt(table, lock)) };
        let attempt = attempt.unwrap_or_else(|error| error.resume());
        drop(owner);
        let (raw, primary) = match attempt {
            Attempt::Open { raw, primary } => (raw, Index { raw: primary }),
            Attempt::IsLocked => return Ok(AtOnce::InTheWay),
            Attempt::Gone => {
                lock::release_relation(table, lock);
                return Ok(AtOnce::Gone);
            }
            Attempt::IndexIsLocked(raw) => {
                // SAFETY: `attempt` gave this reference away; nothing uses it any more.
                unsafe { raw::table_close(raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
                lock::release_relation(table, lock);
                return Ok(AtOnce::InTheWay);
            }
            Attempt::NoPrimaryKey(raw) => {
                // SAFETY: `attempt` gave this reference away; nothing uses it any more.
                unsafe { raw::table_close(raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
                return Err(index::no_primary_key(table));
            }
        };
        Self { raw, primary, lock }.fitting(known).map(AtOnce::Open)
    }

    /// Opens a table whose lock the transaction has taken already, in this mode; `None` if there is no such
    /// table (any more).
    ///
    /// # Errors
    /// 55000 if it does not have the columns this library knows.
    ///
    /// # Safety
    /// The transaction must hold a lock of that mode on the table.
    pub unsafe fn open_locked(
        table: pg_sys::Oid,
        lock: pg_sys::LOCKMODE,
        known: &[pg_sys::Oid],
    ) -> Result<Option<Self>> {
        // SAFETY: try_table_open takes any OID: it returns null if there is no relation, and raises an error
        // if it is not a table.
        let raw = unsafe { pg_sys::try_table_open(table, pg_sys::NoLock as pg_sys::LOCKMODE) };
        if raw.is_null() {
            return Ok(None);
        }
        // SAFETY: `raw` is not null, so the table is open; it is locked, which this function demands.
        unsafe { Self::opened(raw, lock, known) }.map(Some)
    }

    /// # Safety
    /// The relation must be open, and locked in this mode.
    unsafe fn opened(
        raw: pg_sys::Relation,
        lock: pg_sys::LOCKMODE,
        known: &[pg_sys::Oid],
    ) -> Result<Self> {
        // SAFETY: the relation is open and locked, which this function demands, so its primary key stays.
        let Some(primary) = (unsafe { primary_key(raw) }) else {
            // SAFETY: the caller gave this reference away; nothing uses it after this.
            let table = unsafe {
                let table = (*raw).rd_id;
                pg_sys::table_close(raw, pg_sys::NoLock as pg_sys::LOCKMODE);
                table
            };
            return Err(index::no_primary_key(table));
        };
        if !lock::relation(primary, lock) {
            // SAFETY: the caller gave this reference away; nothing uses it any more.
            unsafe { pg_sys::table_close(raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
            return Err(in_the_way("an index of the extension is locked"));
        }
        // SAFETY: the index exists and is locked, and so is its table.
        let primary = unsafe { Index::open(primary, pg_sys::NoLock as pg_sys::LOCKMODE) };
        Self { raw, primary, lock }.fitting(known)
    }

    fn fitting(self, known: &[pg_sys::Oid]) -> Result<Self> {
        // SAFETY: the relation is open, and its descriptor lives as long.
        if unsafe { row::has(self.descriptor(), known) } {
            Ok(self)
        } else {
            Err(row::do_not_fit())
        }
    }

    /// A plain B-tree that begins with this column, if there is one.
    pub fn index_on(&self, column: usize) -> Option<Index> {
        // SAFETY: `opened` has opened the table under a lock that the transaction keeps, so its indexes stay.
        unsafe {
            let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(self.raw));
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let mut open = indexes.iter_oid().map(|index| Index::open(index, lock));
            open.find(|index| index.orders_by(column))
        }
    }

    /// Closes the table and gives its lock back at once.
    pub fn give_back(self) {
        lock::release_relation(self.primary.oid(), self.lock);
        lock::release_relation(self.oid(), self.lock);
    }

    /// The first index that an insert of ours cannot maintain: one with an expression, a predicate,
    /// an exclusion or a deferred constraint.
    pub fn unfit_index(&self) -> Option<pg_sys::Oid> {
        // SAFETY: `opened` has opened the table under a lock that the transaction keeps, so its indexes stay.
        unsafe {
            let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(self.raw));
            indexes.iter_oid().find(|index| !index::is_plain(*index))
        }
    }

    /// Inserts a row, into every index.
    ///
    /// # Safety
    /// The table must have plain indexes only (`unfit_index` finds none), and the row's values be of their
    /// columns' types.
    pub unsafe fn insert(&self, row: &Columns) -> std::result::Result<(), Kept> {
        // SAFETY: the indexes are plain and the values of their types, which this function demands. The
        // closure is Copy, and the caller gets the error.
        unsafe { subtransaction::call_keeping_error(|| self.insert_raw(row)) }
    }

    /// Like `insert`, for callers that catch its errors themselves.
    ///
    /// # Safety
    /// As for `insert`. It may raise an error past Rust: call it as `pg::raw` says.
    pub unsafe fn insert_raw(&self, row: &Columns) {
        // SAFETY: `opened` has opened the table and its primary key; the indexes are plain and the values of
        // their types, which this function demands.
        unsafe { insert::insert(self.raw, self.primary.raw, row) };
    }

    /// Puts another version in the place of a tuple, as `delete` would delete it: see `insert::replace`.
    ///
    /// # Safety
    /// As for `insert`; the tuple must be there, if only as another transaction's delete.
    pub unsafe fn replace(
        &self,
        tid: pg_sys::ItemPointerData,
        row: &Columns,
        wait: bool,
    ) -> std::result::Result<WriteResult, Kept> {
        let replace = || {
            // SAFETY: the tuple is there, the indexes are plain and the values of their types, which `replace` demands;
            // `opened` has opened the table and its primary key.
            unsafe { insert::replace(self.raw, self.primary.raw, tid, row, wait) }
        };
        // SAFETY: the closure is Copy, and the caller gets the error.
        unsafe { subtransaction::call_keeping_error(replace) }
    }

    /// Deletes a tuple. If another transaction is writing it, or has locked it, this waits for that
    /// transaction if it may `wait`, and else answers `TM_BeingModified`; so it does then where this very
    /// transaction has locked the row (see `lock_row`).
    ///
    /// # Safety
    /// The tuple must be there, if only as another transaction's delete.
    pub unsafe fn delete(&self, tid: pg_sys::ItemPointerData, wait: bool) -> WriteResult {
        let delete = || {
            // SAFETY: the tuple is there, which `delete` demands; the error is caught below.
            unsafe { self.delete_raw(tid, wait) }
        };
        // SAFETY: the closure is Copy, and an error is resumed.
        let outcome = unsafe { subtransaction::call_keeping_error(delete) };
        outcome.unwrap_or_else(|error| error.resume())
    }

    /// Like `delete`, for callers that catch its errors themselves.
    ///
    /// # Safety
    /// The tuple must be there, if only as another transaction's delete. It may raise an error past Rust:
    /// call it as `pg::raw` says.
    pub unsafe fn delete_raw(&self, tid: pg_sys::ItemPointerData, wait: bool) -> WriteResult {
        let mut tid = tid;
        // SAFETY: the tuple is there, which this function demands, and the table is open. All-zero is a value
        // of TM_FailureData, which heap_delete fills in.
        unsafe {
            insert::check_publications(self.raw, pg_sys::CmdType::CMD_DELETE);
            let command = raw::GetCurrentCommandId(true);
            let mut failure: pg_sys::TM_FailureData = std::mem::zeroed();
            let outcome = raw::heap_delete(
                self.raw,
                &mut tid,
                command,
                std::ptr::null_mut(),
                wait,
                &mut failure,
                false,
            );
            raw::CommandCounterIncrement();
            outcome
        }
    }

    /// Waits for a transaction that has locked a row without changing it, as FOR KEY SHARE does, and
    /// locks the row. Whether no other can change it now; if not, another has. To be called without
    /// the lock of its key: that transaction may be about to ask for it.
    ///
    /// # Safety
    /// The tuple must be there, if only as another transaction's delete.
    pub unsafe fn lock_row(&self, tid: pg_sys::ItemPointerData) -> bool {
        let lock = || {
            // SAFETY: the tuple is there, which `lock_row` demands; the error is caught below.
            unsafe { self.lock_row_raw(tid) }
        };
        // SAFETY: the closure is Copy, and an error is resumed.
        let locked = unsafe { subtransaction::call_keeping_error(lock) };
        locked.unwrap_or_else(|error| error.resume())
    }

    /// Like `lock_row`, for callers that catch its errors themselves.
    ///
    /// # Safety
    /// The tuple must be there, if only as another transaction's delete. It may raise an error past Rust:
    /// call it as `pg::raw` says.
    pub unsafe fn lock_row_raw(&self, tid: pg_sys::ItemPointerData) -> bool {
        // SAFETY: the tuple is there, which this function demands, and the table is open. All-zero is a value
        // of HeapTupleData and TM_FailureData; heap_lock_tuple reads `t_self` and fills in the rest, and
        // returns with the buffer pinned.
        unsafe {
            let mut tuple: pg_sys::HeapTupleData = std::mem::zeroed();
            tuple.t_self = tid;
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            let mut failure: pg_sys::TM_FailureData = std::mem::zeroed();
            let result = raw::heap_lock_tuple(
                self.raw,
                &mut tuple,
                raw::GetCurrentCommandId(true),
                pg_sys::LockTupleMode::LockTupleExclusive,
                pg_sys::LockWaitPolicy::LockWaitBlock,
                false,
                &mut buffer,
                &mut failure,
            );
            raw::ReleaseBuffer(buffer);
            // A lock that was free a moment ago takes no look at them.
            subtransaction::serve_interrupts();
            result == pg_sys::TM_Result::TM_Ok
        }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: `opened` demands an open relation, and only `drop` closes it.
        unsafe { (*self.raw).rd_id }
    }

    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: `opened` demands an open relation, and only `drop` closes it.
        unsafe { (*self.raw).rd_att }
    }

    /// Calls `visit` with each tuple under `key`, as of now, until it answers with something.
    ///
    /// # Safety
    /// `key` must be of the type that `compare` (the OID of an equality function) takes. The tuple
    /// lives only as long as the visit.
    pub unsafe fn scan<T>(
        &self,
        compare: u32,
        key: pg_sys::Datum,
        mut visit: impl FnMut(pg_sys::HeapTuple) -> Option<T>,
    ) -> Option<T> {
        // SAFETY: `opened` has opened and locked the table and its primary key. ScanKeyInit fills the scan
        // key, whose value is of the type that `compare` takes, which this function demands. A tuple is
        // pinned until the next is asked for. (Without a snapshot genam.c takes a fresh catalog snapshot:
        // our tables have no syscache, so it is never an older one.)
        unsafe {
            let mut scan_key: pg_sys::ScanKeyData = std::mem::zeroed();
            pg_sys::ScanKeyInit(
                &mut scan_key,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::RegProcedure::from(compare),
                key,
            );
            let scan = Scan(pg_sys::systable_beginscan_ordered(
                self.raw,
                self.primary.raw,
                std::ptr::null_mut(),
                1,
                &mut scan_key,
            ));
            loop {
                let tuple = pg_sys::systable_getnext_ordered(
                    scan.0,
                    pg_sys::ScanDirection::ForwardScanDirection,
                );
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
        // The lock stays until the transaction ends. While an error unwinds, Postgres' resource owner closes
        // what is open.
        if !std::thread::panicking() {
            // SAFETY: `opened` was given the reference that this gives back; nothing uses it any more.
            unsafe { raw::table_close(self.raw, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// The primary key's index, as of the lock: REINDEX CONCURRENTLY gives it another OID.
///
/// # Safety
/// The relation must be open and locked.
unsafe fn primary_key(relation: pg_sys::Relation) -> Option<pg_sys::Oid> {
    // SAFETY: the relation is open, which this function demands; listing the indexes fills in rd_pkindex
    // (utils/relcache.c), and the list is ours to free.
    let index = unsafe {
        if !(*relation).rd_indexvalid {
            pg_sys::list_free(pg_sys::RelationGetIndexList(relation));
        }
        (*relation).rd_pkindex
    };
    (index != pg_sys::InvalidOid).then_some(index)
}

struct Scan(pg_sys::SysScanDesc);

impl Drop for Scan {
    fn drop(&mut self) {
        // While an error unwinds, Postgres' resource owner closes what is open.
        if !std::thread::panicking() {
            // SAFETY: `Relation::scan` began the scan, and returns no tuple of it.
            unsafe { pg_sys::systable_endscan_ordered(self.0) };
        }
    }
}
