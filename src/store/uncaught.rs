//! Postgres' functions as they are, without pgrx's wrapper around each call.
//!
//! pgrx catches what a function throws at every call, at the price of a sigsetjmp each and of what
//! its own error type has no room for. On the hot path one catch spans a whole look-up or insert.
//!
//! # Safety
//! Those that may raise an error are called only within `subtransaction::call_keeping_error`, from
//! frames without destructors; those that cannot, from anywhere on the backend's thread. Declared
//! as in the named headers, the same for all supported majors.

use pgrx::pg_sys::{
    CommandId, Datum, FmgrInfo, HeapTuple, ItemPointer, LOCKMODE, LOCKTAG, LockAcquireResult,
    MemoryContext, Oid, RegProcedure, Relation, ScanDirection, ScanKey, Snapshot, StrategyNumber,
    SubTransactionId, SysScanDesc, TM_FailureData, TM_Result, TimestampTz, TransactionId,
    TupleDesc, XLTW_Oper,
};
use std::ffi::c_int;

// They cannot raise an error: reads of this backend's state.
unsafe extern "C-unwind" {
    // utils/timestamp.h
    pub fn GetCurrentTimestamp() -> TimestampTz;
    // access/xact.h
    pub fn GetCurrentSubTransactionId() -> SubTransactionId;
    pub fn TransactionIdIsCurrentTransactionId(xid: TransactionId) -> bool;
    // access/table.h; forgets a reference that is there
    pub fn table_close(relation: Relation, mode: LOCKMODE);
    // mb/pg_wchar.h
    pub fn GetDatabaseEncoding() -> c_int;
    // access/htup_details.h
    pub fn heap_deform_tuple(
        tuple: HeapTuple,
        descriptor: TupleDesc,
        values: *mut Datum,
        nulls: *mut bool,
    );
}

// They may raise an error.
unsafe extern "C-unwind" {
    // access/genam.h, access/skey.h
    pub fn ScanKeyInit(
        key: ScanKey,
        attribute: i16,
        strategy: StrategyNumber,
        procedure: RegProcedure,
        argument: Datum,
    );
    pub fn systable_beginscan(
        relation: Relation,
        index: Oid,
        index_ok: bool,
        snapshot: Snapshot,
        keys: c_int,
        key: ScanKey,
    ) -> SysScanDesc;
    pub fn systable_getnext(scan: SysScanDesc) -> HeapTuple;
    pub fn systable_endscan(scan: SysScanDesc);
    pub fn systable_beginscan_ordered(
        relation: Relation,
        index: Relation,
        snapshot: Snapshot,
        keys: c_int,
        key: ScanKey,
    ) -> SysScanDesc;
    pub fn systable_getnext_ordered(scan: SysScanDesc, direction: ScanDirection::Type)
    -> HeapTuple;
    pub fn systable_endscan_ordered(scan: SysScanDesc);
    // access/htup_details.h
    pub fn heap_copytuple(tuple: HeapTuple) -> HeapTuple;
    pub fn heap_freetuple(tuple: HeapTuple);
    pub fn heap_form_tuple(
        descriptor: TupleDesc,
        values: *const Datum,
        nulls: *const bool,
    ) -> HeapTuple;
    // catalog/indexing.h
    pub fn CatalogTupleInsert(relation: Relation, tuple: HeapTuple);
    // access/heapam.h
    pub fn heap_delete(
        relation: Relation,
        tid: ItemPointer,
        command: CommandId,
        crosscheck: Snapshot,
        wait: bool,
        failure: *mut TM_FailureData,
        changing_partition: bool,
    ) -> TM_Result::Type;
    // utils/memutils.h
    pub fn MemoryContextReset(context: MemoryContext);
    // access/xact.h
    pub fn CommandCounterIncrement();
    // storage/lock.h, storage/lmgr.h
    pub fn LockAcquire(
        tag: *const LOCKTAG,
        mode: LOCKMODE,
        session: bool,
        only_if_free: bool,
    ) -> LockAcquireResult::Type;
    pub fn LockRelationOid(relation: Oid, mode: LOCKMODE);
    pub fn XactLockTableWait(
        xid: TransactionId,
        relation: Relation,
        tuple: ItemPointer,
        operation: XLTW_Oper::Type,
    );
    // miscadmin.h
    pub fn ProcessInterrupts();
    // fmgr.h
    pub fn fmgr_info(function: Oid, info: *mut FmgrInfo);
    // utils/typcache.h, access/tupdesc.h, executor/executor.h
    pub fn lookup_rowtype_tupdesc(row_type: Oid, typmod: i32) -> TupleDesc;
    pub fn DecrTupleDescRefCount(descriptor: TupleDesc);
    pub fn HeapTupleHeaderGetDatum(tuple: pgrx::pg_sys::HeapTupleHeader) -> Datum;
}
