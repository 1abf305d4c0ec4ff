//! The node at work: it calls the function when its row is first asked for, and hands that out.
//!
//! Postgres' executor calls what is here, for every statement: so nothing is caught. No frame has a destructor
//! and none panics, so that an error of the function's or of Postgres' may jump over them to the executor's own
//! handler. That is why every function of `pg::raw` may be called here.

use super::offer::kept_in;
use super::{list, show};
use crate::pg::receiver::Receiver;
use crate::pg::{error, raw};
use pgrx::pg_sys;
use pgrx::pg_sys::{
    CustomExecMethods, CustomScan, CustomScanMethods, CustomScanState, Datum, EState, ExprState,
    FmgrInfo, FuncExpr, FunctionCallInfoBaseData, List, MemoryContext, Node, NodeTag,
    NullableDatum, ProjectionInfo, TupleTableSlot,
};
use rules::error::{Code, Error};
use std::ffi::{CStr, c_int};

/// As EXPLAIN shows it.
pub const NAME: &CStr = c"IdempotentCall";

/// Tables of functions for Postgres.
struct Methods<T>(T);

// SAFETY: nothing writes to them; what the pointers in them point to is constant.
unsafe impl<T> Sync for Methods<T> {}

static PLANNED: Methods<CustomScanMethods> = Methods(CustomScanMethods {
    CustomName: NAME.as_ptr(),
    CreateCustomScanState: Some(on_create),
});

static RUNNING: Methods<CustomExecMethods> = Methods(CustomExecMethods {
    CustomName: NAME.as_ptr(),
    BeginCustomScan: Some(on_begin),
    ExecCustomScan: Some(on_next),
    EndCustomScan: Some(on_end),
    ReScanCustomScan: Some(on_rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(show::on_explain),
});

/// Registers the name; called once.
pub fn init() {
    // SAFETY: the methods last as long as the library, which Postgres never unloads.
    unsafe { pg_sys::RegisterCustomScanMethods(methods()) };
}

/// The methods of a plan.
pub fn methods() -> *const CustomScanMethods {
    &raw const PLANNED.0
}

/// A node while its statement runs.
#[repr(C)]
struct CallState {
    /// What Postgres knows of it; it goes first.
    custom: CustomScanState,
    function: FmgrInfo,
    call: *mut FunctionCallInfoBaseData,
    /// What is evaluated for each call.
    arguments: *mut Argument,
    argument_count: usize,
    /// The columns of the row that are wanted, counted from 1.
    columns: *mut List,
    /// The parameters in the arguments.
    parameters: *mut List,
    receiver: Receiver,
    /// What the row is in, and whatever else the call leaves: for a function that may be called again, made
    /// for its first call. Another one's row is in the memory of the statement.
    memory: MemoryContext,
    /// Whether the function was called: its row is remembered until an argument changes.
    is_called: bool,
    position: Position,
}

/// An argument that is no constant.
#[derive(Clone, Copy)]
struct Argument {
    at: usize,
    /// Ready to be evaluated.
    expression: *mut ExprState,
}

/// Where a scan of one row is, as the read pointer of a tuplestore with one row would be.
#[derive(Clone, Copy)]
enum Position {
    Before,
    /// The row was returned last.
    On,
    After,
}

impl Position {
    /// The next position, and whether it is the row's.
    fn step(self, forward: bool) -> (Self, bool) {
        match (self, forward) {
            (Self::Before, true) | (Self::After, false) => (Self::On, true),
            (Self::On | Self::After, true) => (Self::After, false),
            (Self::Before | Self::On, false) => (Self::Before, false),
        }
    }
}

unsafe extern "C-unwind" fn on_create(_: *mut CustomScan) -> *mut Node {
    // SAFETY: palloc0 gives zeroed memory of the size, which is a value for what Postgres fills in; the rest is
    // written here, and is never dropped.
    unsafe {
        let state: *mut CallState = raw::palloc0(size_of::<CallState>()).cast();
        (*state).custom.ss.ps.type_ = NodeTag::T_CustomScanState;
        (*state).custom.methods = &raw const RUNNING.0;
        (&raw mut (*state).receiver).write(Receiver::empty());
        (&raw mut (*state).position).write(Position::Before);
        state.cast()
    }
}

/// What ExecInitFunctionScan does: whether the call is allowed is asked now, also for EXPLAIN.
unsafe extern "C-unwind" fn on_begin(node: *mut CustomScanState, _: *mut EState, _: c_int) {
    // SAFETY: the executor calls it once with the state that `on_create` made and has filled in its own part.
    // The plan is one of ours, with the call as its only expression. The call's data has room for its arguments.
    unsafe {
        let state: *mut CallState = node.cast();
        let plan: *mut CustomScan = (*node).ss.ps.plan.cast();
        let expression: *mut FuncExpr = list::pointer((*plan).custom_exprs, 0);
        raw::check_may_execute((*expression).funcid);
        raw::invoke_execute_hook((*expression).funcid);
        let memory = (*(*node).ss.ps.ps_ExprContext).ecxt_per_query_memory;
        raw::fmgr_info_cxt((*expression).funcid, &raw mut (*state).function, memory);
        (*state).function.fn_expr = expression.cast();
        let count = list::length((*expression).args);
        let size = size_of::<FunctionCallInfoBaseData>() + count * size_of::<NullableDatum>();
        let call: *mut FunctionCallInfoBaseData = raw::palloc0(size).cast();
        (*call).flinfo = &raw mut (*state).function;
        (*call).resultinfo = (*state).receiver.node();
        (*call).fncollation = (*expression).inputcollid;
        (*call).nargs = count as i16;
        (*state).call = call;
        prepare_arguments(state, (*expression).args);
        ((*state).columns, (*state).parameters) = kept_in(plan);
    }
}

unsafe extern "C-unwind" fn on_next(node: *mut CustomScanState) -> *mut TupleTableSlot {
    // SAFETY: the executor calls it between `on_begin` and `on_end`. The slots are the node's, and hold nothing
    // that the memory of a row passed out before is still needed for.
    unsafe {
        let state: *mut CallState = node.cast();
        if !(*state).is_called {
            call(state);
        }
        let scan = &raw mut (*node).ss;
        let forward =
            (*(*scan).ps.state).es_direction == pg_sys::ScanDirection::ForwardScanDirection;
        let (position, is_row) = (*state).position.step(forward);
        (*state).position = position;
        let (slot, projection) = ((*scan).ss_ScanTupleSlot, (*scan).ps.ps_ProjInfo);
        let context = (*scan).ps.ps_ExprContext;
        raw::MemoryContextReset((*context).ecxt_per_tuple_memory);
        clear(slot);
        if is_row {
            fill(slot, state);
        }
        if projection.is_null() {
            return slot;
        }
        let result = (*projection).pi_state.resultslot;
        clear(result);
        if is_row {
            (*context).ecxt_scantuple = slot;
            project(projection);
            mark_filled(result);
        }
        result
    }
}

/// The row is kept, as a function scan keeps its tuplestore, unless an argument has another value now.
unsafe extern "C-unwind" fn on_rescan(node: *mut CustomScanState) {
    // SAFETY: the executor calls it between `on_begin` and `on_end`. The list of parameters is the plan's.
    unsafe {
        let state: *mut CallState = node.cast();
        let scan = &raw mut (*node).ss;
        clear((*scan).ss_ScanTupleSlot);
        if !(*scan).ps.ps_ResultTupleSlot.is_null() {
            clear((*scan).ps.ps_ResultTupleSlot);
        }
        (*state).position = Position::Before;
        let (changed, parameters) = ((*scan).ps.chgParam, (*state).parameters);
        for at in 0..list::length(parameters) {
            if raw::bms_is_member(list::number(parameters, at), changed) {
                (*state).is_called = false;
            }
        }
    }
}

// What a node has is in the memory of its statement and goes with it.
unsafe extern "C-unwind" fn on_end(_: *mut CustomScanState) {}

/// Calls the function, as ExecMakeTableFunctionResult does, and keeps its row.
///
/// # Safety
/// `on_begin` must have been called. It may raise an error past Rust.
unsafe fn call(state: *mut CallState) {
    // SAFETY: `on_begin` has filled in the state, which this function demands, and fmgr_info_cxt the address. The
    // memory of the row before is reset when no slot refers to it: `on_rescan` has cleared both.
    unsafe {
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = memory_of_call(state);
        (*state).receiver.clear();
        let has_null = evaluate(state);
        if !(has_null && (*state).function.fn_strict) {
            let call = (*state).call;
            let mut usage: pg_sys::PgStat_FunctionCallUsage = std::mem::zeroed();
            raw::pgstat_init_function_usage(call, &raw mut usage);
            (*call).isnull = false;
            let address = (*state).function.fn_addr.unwrap_unchecked();
            address(call);
            raw::pgstat_end_function_usage(&raw mut usage, true);
            if !(*state).receiver.is_filled() {
                refuse_another_function();
            }
        }
        pg_sys::CurrentMemoryContext = before;
        (*state).is_called = true;
    }
}

/// The memory for a call, without what the call before has left.
///
/// # Safety
/// As for `call`.
unsafe fn memory_of_call(state: *mut CallState) -> MemoryContext {
    // SAFETY: the parent is the statement's, and the name a constant, as the function demands. The sizes are
    // ALLOCSET_DEFAULT_SIZES (utils/memutils.h), whose contexts Postgres keeps for the next that want one.
    unsafe {
        let of_statement = (*(*state).custom.ss.ps.ps_ExprContext).ecxt_per_query_memory;
        if (*state).parameters.is_null() {
            return of_statement;
        }
        if (*state).memory.is_null() {
            let (name, initial, maximum) = (c"pg_idempotent call", 8 * 1024, 8 * 1024 * 1024);
            (*state).memory = raw::AllocSetContextCreateInternal(
                of_statement,
                name.as_ptr(),
                0,
                initial,
                maximum,
            );
        } else {
            raw::MemoryContextReset((*state).memory);
        }
        (*state).memory
    }
}

/// Puts the constants among the arguments into the call's data, for every call, and makes the others ready to be
/// evaluated.
///
/// # Safety
/// The call's data must have room for the arguments. It may raise an error past Rust.
unsafe fn prepare_arguments(state: *mut CallState, expressions: *mut List) {
    // SAFETY: the list has the expressions of the arguments, and a node begins with its tag. `arguments` has room
    // for all of them. A constant lasts as long as the plan.
    unsafe {
        let count = list::length(expressions);
        let values = (*(*state).call).args.as_mut_ptr();
        (*state).arguments = raw::palloc0(count * size_of::<Argument>()).cast();
        for at in 0..count {
            let expression: *mut Node = list::pointer(expressions, at);
            if (*expression).type_ == NodeTag::T_Const {
                let constant: *mut pg_sys::Const = expression.cast();
                (*values.add(at)).value = (*constant).constvalue;
                (*values.add(at)).isnull = (*constant).constisnull;
                continue;
            }
            let parent = &raw mut (*state).custom.ss.ps;
            let expression = raw::ExecInitExpr(expression.cast(), parent);
            (*state).arguments.add((*state).argument_count).write(Argument { at, expression });
            (*state).argument_count += 1;
        }
    }
}

/// Evaluates the arguments into the call's data; whether one of all of them is null.
///
/// # Safety
/// As for `call`.
unsafe fn evaluate(state: *mut CallState) -> bool {
    // SAFETY: `prepare_arguments` has made so many arguments ready, each with a place in the call's data.
    unsafe {
        let context = (*state).custom.ss.ps.ps_ExprContext;
        let call = (*state).call;
        let values = (*call).args.as_mut_ptr();
        for number in 0..(*state).argument_count {
            let Argument { at, expression } = *(*state).arguments.add(number);
            let value = values.add(at);
            let evaluate = (*expression).evalfunc.unwrap_unchecked();
            (*value).value = evaluate(expression, context, &raw mut (*value).isnull);
        }
        (0..(*call).nargs as usize).any(|at| (*values.add(at)).isnull)
    }
}

/// A plan is made anew before it runs if its function was replaced. But a recheck of a changed row begins the
/// nodes of a running statement once more.
///
/// # Safety
/// The caller must have no destructor pending.
unsafe fn refuse_another_function() {
    let refused = error::catch(|| -> Result<(), Error> {
        Err(Error::new(Code::ObjectNotReady, "a function was replaced while a statement called it")
            .detail("It returns no row of pg_idempotent's any more.")
            .hint("Run the statement again."))
    });
    if let Err(raised) = refused {
        // SAFETY: no caller of this has a destructor pending, which it demands.
        unsafe { raised.throw() }
    }
}

/// Puts the columns that are wanted into the slot.
///
/// # Safety
/// The function must have been called, and the slot be the node's own, and clear.
unsafe fn fill(slot: *mut TupleTableSlot, state: *mut CallState) {
    // SAFETY: the slot has a column for each that is wanted: both were made from the same list of the plan.
    unsafe {
        let (columns, row) = ((*state).columns, (*state).receiver.row());
        for at in 0..list::length(columns) {
            let value = row.get((list::number(columns, at) - 1) as usize);
            *(*slot).tts_values.add(at) = value.unwrap_or(Datum::from(0));
            *(*slot).tts_isnull.add(at) = value.is_none();
        }
        mark_filled(slot);
    }
}

/// `ExecClearTuple` (executor/tuptable.h).
///
/// # Safety
/// The slot must be one. It may raise an error past Rust.
unsafe fn clear(slot: *mut TupleTableSlot) {
    // SAFETY: every kind of slot has a function to clear it.
    unsafe { (*(*slot).tts_ops).clear.unwrap_unchecked()(slot) }
}

/// `ExecStoreVirtualTuple` (executor/tuptable.h), in place as in ExecProject.
///
/// # Safety
/// The slot must be a virtual one whose values were all set.
unsafe fn mark_filled(slot: *mut TupleTableSlot) {
    // SAFETY: the slot has a descriptor.
    unsafe {
        (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
        (*slot).tts_nvalid = (*(*slot).tts_tupleDescriptor).natts as pg_sys::AttrNumber;
    }
}

/// What ExecProject (executor/executor.h) evaluates; since 18 it has no value of its own.
///
/// # Safety
/// The projection must be the node's, and its result slot clear. It may raise an error past Rust.
unsafe fn project(projection: *mut ProjectionInfo) {
    // SAFETY: ExecInitCustomScan has made the projection, in whose context the scan tuple is set.
    unsafe {
        let (state, context) = (&raw mut (*projection).pi_state, (*projection).pi_exprContext);
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = (*context).ecxt_per_tuple_memory;
        #[cfg(not(feature = "pg18"))]
        let mut is_null = false;
        #[cfg(not(feature = "pg18"))]
        let is_null = &raw mut is_null;
        #[cfg(feature = "pg18")]
        let is_null = std::ptr::null_mut();
        (*state).evalfunc.unwrap_unchecked()(state, context, is_null);
        pg_sys::CurrentMemoryContext = before;
    }
}
