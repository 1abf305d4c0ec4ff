//! Postgres' functions as they are, without pgrx's wrapper around each call.
//!
//! pgrx catches what a function throws at every call, at the price of a sigsetjmp each and of what
//! its own error type has no room for. On the hot path one catch spans a whole look-up or insert.
//!
//! # Safety
//! A function that may raise an error must be called within `subtransaction::call_keeping_error`, and
//! no frame in between may have a destructor pending: the error jumps over them. A function of ours
//! that passes such errors on has `_raw` in its name or says so under "Safety". One that cannot raise
//! an error may be called from anywhere on the backend's thread. All are declared as in the named
//! headers, the same for all supported majors.

use pgrx::pg_sys::{
    AclResult, Bitmapset, Buffer, CatalogIndexState, CmdType, CommandId, ConstraintsSetStmt, Datum,
    Expr, ExprState, FmgrInfo, FunctionCallInfo, HeapTuple, IndexInfo, IndexScanDesc, IndexTuple,
    IndexUniqueCheck, ItemPointer, JsonbContainer, JsonbIterator, JsonbIteratorToken, JsonbValue,
    LOCKMODE, LOCKTAG, List, LockAcquireResult, LockTupleMode, LockWaitPolicy, MemoryContext, Node,
    ObjectType, Oid, PgStat_FunctionCallUsage, PlanState, RegProcedure, Relation, SPIPlanPtr,
    ScanDirection, ScanKey, Snapshot, StrategyNumber, SubTransactionId, SysScanDesc,
    TM_FailureData, TM_Result, TimestampTz, TransactionId, TupleDesc, TupleTableSlot, XLTW_Oper,
    varlena,
};
use std::ffi::{c_char, c_int, c_long, c_void};

// They cannot raise an error: reads of this backend's state, and of a tuple whose descriptor has no missing
// values (see `row::Columns::of`).
unsafe extern "C-unwind" {
    // utils/timestamp.h
    pub fn GetCurrentTimestamp() -> TimestampTz;
    // miscadmin.h
    pub fn GetUserId() -> Oid;
    // access/xact.h
    pub fn GetCurrentSubTransactionId() -> SubTransactionId;
    pub fn TransactionIdIsCurrentTransactionId(xid: TransactionId) -> bool;
    pub fn IsInParallelMode() -> bool;
    // access/xlog.h
    pub fn RecoveryInProgress() -> bool;
    // access/table.h, access/genam.h; they forget a reference that is there
    pub fn table_close(relation: Relation, mode: LOCKMODE);
    pub fn index_close(index: Relation, mode: LOCKMODE);
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
    // commands/trigger.h
    pub fn AfterTriggerSetState(statement: *mut ConstraintsSetStmt);
    // access/genam.h, access/skey.h
    pub fn ScanKeyInit(
        key: ScanKey,
        attribute: i16,
        strategy: StrategyNumber,
        procedure: RegProcedure,
        argument: Datum,
    );
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
    // utils/relcache.h, pgstat.h, utils/inval.h
    fn RelationIdGetRelation(relation: Oid) -> Relation;
    fn pgstat_init_relation(relation: Relation);
    pub fn AcceptInvalidationMessages();
    // access/genam.h
    pub fn index_open(index: Oid, mode: LOCKMODE) -> Relation;
    pub fn index_insert(
        index: Relation,
        values: *mut Datum,
        nulls: *mut bool,
        tid: ItemPointer,
        table: Relation,
        check: IndexUniqueCheck::Type,
        unchanged: bool,
        info: *mut IndexInfo,
    ) -> bool;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    pub fn index_insert_cleanup(index: Relation, info: *mut IndexInfo);
    #[cfg(not(feature = "pg18"))]
    #[link_name = "index_beginscan"]
    fn begin_index_scan(
        table: Relation,
        index: Relation,
        snapshot: Snapshot,
        keys: c_int,
        orderings: c_int,
    ) -> IndexScanDesc;
    #[cfg(feature = "pg18")]
    #[link_name = "index_beginscan"]
    fn begin_index_scan(
        table: Relation,
        index: Relation,
        snapshot: Snapshot,
        instrument: *mut c_void,
        keys: c_int,
        orderings: c_int,
    ) -> IndexScanDesc;
    pub fn index_rescan(
        scan: IndexScanDesc,
        keys: ScanKey,
        number: c_int,
        orderings: ScanKey,
        orderings_number: c_int,
    );
    pub fn index_getnext_tid(scan: IndexScanDesc, direction: ScanDirection::Type) -> ItemPointer;
    pub fn index_fetch_heap(scan: IndexScanDesc, slot: *mut TupleTableSlot) -> bool;
    pub fn index_endscan(scan: IndexScanDesc);
    // access/itup.h
    pub fn index_deform_tuple(
        tuple: IndexTuple,
        descriptor: TupleDesc,
        values: *mut Datum,
        nulls: *mut bool,
    );
    // access/tableam.h, executor/tuptable.h
    pub fn table_slot_create(table: Relation, list: *mut *mut List) -> *mut TupleTableSlot;
    pub fn ExecFetchSlotHeapTuple(
        slot: *mut TupleTableSlot,
        materialize: bool,
        is_copy: *mut bool,
    ) -> HeapTuple;
    pub fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
    // catalog/index.h
    pub fn BuildIndexInfo(index: Relation) -> *mut IndexInfo;
    // catalog/indexing.h
    pub fn CatalogOpenIndexes(relation: Relation) -> CatalogIndexState;
    pub fn CatalogCloseIndexes(indexes: CatalogIndexState);
    pub fn CatalogTupleInsertWithInfo(
        relation: Relation,
        tuple: HeapTuple,
        indexes: CatalogIndexState,
    );
    // utils/relcache.h, nodes/pg_list.h
    pub fn RelationGetIndexList(table: Relation) -> *mut List;
    pub fn list_free(list: *mut List);
    // executor/executor.h
    pub fn CheckCmdReplicaIdentity(table: Relation, command: CmdType::Type);
    // access/heapam.h
    pub fn simple_heap_insert(table: Relation, tuple: HeapTuple);
    pub fn heap_delete(
        relation: Relation,
        tid: ItemPointer,
        command: CommandId,
        crosscheck: Snapshot,
        wait: bool,
        failure: *mut TM_FailureData,
        changing_partition: bool,
    ) -> TM_Result::Type;
    #[cfg(feature = "pg15")]
    #[link_name = "heap_update"]
    fn update_heap_tuple(
        relation: Relation,
        tid: ItemPointer,
        tuple: HeapTuple,
        command: CommandId,
        crosscheck: Snapshot,
        wait: bool,
        failure: *mut TM_FailureData,
        mode: *mut LockTupleMode::Type,
    ) -> TM_Result::Type;
    #[cfg(not(feature = "pg15"))]
    #[link_name = "heap_update"]
    fn update_heap_tuple(
        relation: Relation,
        tid: ItemPointer,
        tuple: HeapTuple,
        command: CommandId,
        crosscheck: Snapshot,
        wait: bool,
        failure: *mut TM_FailureData,
        mode: *mut LockTupleMode::Type,
        indexes: *mut c_int,
    ) -> TM_Result::Type;
    pub fn heap_lock_tuple(
        relation: Relation,
        tuple: HeapTuple,
        command: CommandId,
        mode: LockTupleMode::Type,
        wait: LockWaitPolicy::Type,
        follow_updates: bool,
        buffer: *mut Buffer,
        failure: *mut TM_FailureData,
    ) -> TM_Result::Type;
    // storage/bufmgr.h
    pub fn ReleaseBuffer(buffer: Buffer);
    // fmgr.h, utils/jsonb.h
    pub fn pg_detoast_datum(datum: *mut varlena) -> *mut varlena;
    pub fn JsonbIteratorInit(container: *mut JsonbContainer) -> *mut JsonbIterator;
    pub fn JsonbIteratorNext(
        iterator: *mut *mut JsonbIterator,
        value: *mut JsonbValue,
        skip_nested: bool,
    ) -> JsonbIteratorToken::Type;
    // mb/pg_wchar.h
    pub fn pg_server_to_any(text: *const c_char, length: c_int, encoding: c_int) -> *mut c_char;
    // utils/palloc.h, utils/memutils.h
    pub fn palloc0(size: usize) -> *mut c_void;
    pub fn AllocSetContextCreateInternal(
        parent: MemoryContext,
        name: *const c_char,
        minimum: usize,
        initial: usize,
        maximum: usize,
    ) -> MemoryContext;
    pub fn pfree(pointer: *mut c_void);
    pub fn MemoryContextReset(context: MemoryContext);
    // access/xact.h
    pub fn CommandCounterIncrement();
    pub fn GetCurrentCommandId(used: bool) -> CommandId;
    // storage/lock.h, storage/lmgr.h
    pub fn LockAcquire(
        tag: *const LOCKTAG,
        mode: LOCKMODE,
        session: bool,
        only_if_free: bool,
    ) -> LockAcquireResult::Type;
    pub fn LockRelease(tag: *const LOCKTAG, mode: LOCKMODE, session: bool) -> bool;
    pub fn LockRelationOid(relation: Oid, mode: LOCKMODE);
    pub fn ConditionalLockRelationOid(relation: Oid, mode: LOCKMODE) -> bool;
    pub fn WaitForLockers(tag: LOCKTAG, mode: LOCKMODE, progress: bool);
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
    pub fn fmgr_info_cxt(function: Oid, info: *mut FmgrInfo, context: MemoryContext);
    // catalog/objectaccess.h
    fn RunFunctionExecuteHook(function: Oid);
    // utils/acl.h
    #[cfg(feature = "pg15")]
    fn pg_proc_aclcheck(function: Oid, role: Oid, mode: u32) -> AclResult::Type;
    #[cfg(not(feature = "pg15"))]
    fn object_aclcheck(class: Oid, object: Oid, role: Oid, mode: u64) -> AclResult::Type;
    fn aclcheck_error(result: AclResult::Type, kind: ObjectType::Type, name: *const c_char);
    // utils/lsyscache.h
    fn get_func_name(function: Oid) -> *mut c_char;
    // executor/executor.h, pgstat.h
    pub fn ExecInitExpr(expression: *mut Expr, parent: *mut PlanState) -> *mut ExprState;
    pub fn pgstat_init_function_usage(call: FunctionCallInfo, usage: *mut PgStat_FunctionCallUsage);
    pub fn pgstat_end_function_usage(usage: *mut PgStat_FunctionCallUsage, finalize: bool);
    // nodes/bitmapset.h, nodes/pg_list.h, nodes/nodeFuncs.h
    pub fn bms_is_member(member: c_int, set: *const Bitmapset) -> bool;
    pub fn lappend_int(list: *mut List, number: c_int) -> *mut List;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(
        node: *mut Node,
        walker: unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
    // access/detoast.h
    pub fn detoast_attr(value: *mut varlena) -> *mut varlena;
    // executor/spi.h
    pub fn SPI_execute_with_args(
        statement: *const c_char,
        count: c_int,
        types: *mut Oid,
        values: *mut Datum,
        nulls: *const c_char,
        read_only: bool,
        limit: c_long,
    ) -> c_int;
    pub fn SPI_execute_plan(
        plan: SPIPlanPtr,
        values: *mut Datum,
        nulls: *const c_char,
        read_only: bool,
        limit: c_long,
    ) -> c_int;
    // utils/typcache.h, access/tupdesc.h, executor/executor.h
    pub fn lookup_rowtype_tupdesc(row_type: Oid, typmod: i32) -> TupleDesc;
    pub fn DecrTupleDescRefCount(descriptor: TupleDesc);
    pub fn HeapTupleHeaderGetDatum(tuple: pgrx::pg_sys::HeapTupleHeader) -> Datum;
}

/// `try_relation_open` (access/relation.h) of a relation that is locked, and so either is gone already or stays:
/// the relation cache knows which, and the look into the system cache before that can be saved. Null if it is gone.
///
/// # Safety
/// The relation must be locked, and be no temporary one. It may raise an error, as the functions above.
pub unsafe fn open_locked(relation: Oid) -> Relation {
    // SAFETY: RelationIdGetRelation takes any OID, and returns null without a row of pg_class (utils/relcache.c).
    unsafe {
        let opened = RelationIdGetRelation(relation);
        if !opened.is_null() {
            pgstat_init_relation(opened);
        }
        opened
    }
}

/// `index_beginscan` (access/genam.h), without orderings; since 18 it takes an argument more, for EXPLAIN.
///
/// # Safety
/// It may raise an error, as the functions above.
pub unsafe fn index_beginscan(
    table: Relation,
    index: Relation,
    snapshot: Snapshot,
    keys: c_int,
) -> IndexScanDesc {
    // SAFETY: declared as in the header of each major; no instrument is wanted.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return begin_index_scan(table, index, snapshot, keys, 0);
        #[cfg(feature = "pg18")]
        return begin_index_scan(table, index, snapshot, std::ptr::null_mut(), keys, 0);
    }
}

/// `heap_update` (access/heapam.h); since 16 it also says which indexes want an entry, which the tuple says as well.
///
/// # Safety
/// It may raise an error, as the functions above.
pub unsafe fn heap_update(
    table: Relation,
    tid: ItemPointer,
    tuple: HeapTuple,
    wait: bool,
) -> TM_Result::Type {
    // SAFETY: declared as in the header of each major. All-zero is a value of TM_FailureData, and 0 one of both
    // enums; they are filled in.
    unsafe {
        let mut failure: TM_FailureData = std::mem::zeroed();
        let mut mode: LockTupleMode::Type = 0;
        #[cfg(not(feature = "pg15"))]
        let mut indexes: c_int = 0;
        update_heap_tuple(
            table,
            tid,
            tuple,
            GetCurrentCommandId(true),
            std::ptr::null_mut(),
            wait,
            &mut failure,
            &mut mode,
            #[cfg(not(feature = "pg15"))]
            &mut indexes,
        )
    }
}

/// `InvokeFunctionExecuteHook` (catalog/objectaccess.h): tells an auditor or a label provider that a
/// function is about to be executed, as Postgres does for every call of its own.
///
/// # Safety
/// It may raise an error, as the functions above.
pub unsafe fn invoke_execute_hook(function: Oid) {
    // SAFETY: the hook is there; the caller lets its error through.
    unsafe {
        if (&raw const pgrx::pg_sys::object_access_hook).read().is_some() {
            RunFunctionExecuteHook(function);
        }
    }
}

/// Refuses with 42501 if the current role may not execute a function, as Postgres does before a call of its own.
///
/// # Safety
/// It may raise an error, as the functions above.
pub unsafe fn check_may_execute(function: Oid) {
    // SAFETY: declared as in the header of each major; any OIDs may be asked about. Postgres 16 made one function
    // of those per catalog.
    unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_proc_aclcheck(function, GetUserId(), pgrx::pg_sys::ACL_EXECUTE);
        #[cfg(not(feature = "pg15"))]
        let result = object_aclcheck(
            pgrx::pg_sys::ProcedureRelationId,
            function,
            GetUserId(),
            u64::from(pgrx::pg_sys::ACL_EXECUTE),
        );
        if result != AclResult::ACLCHECK_OK {
            aclcheck_error(result, ObjectType::OBJECT_FUNCTION, get_func_name(function));
        }
    }
}
