//! Which calls in FROM are planned as a node of ours, and the plan. What is not offered stays the function
//! scan that Postgres plans, and is answered the same.

use super::{SERVED, Served, list, node};
use crate::pg::{error, raw, subtransaction};
use crate::settings;
use pgrx::pg_sys;
use pgrx::pg_sys::{
    CustomPath, CustomPathMethods, CustomScan, FuncExpr, List, Node, NodeTag, Oid, Plan,
    PlannerInfo, RangeTblEntry, RangeTblFunction, RelOptInfo, Var,
};
use std::ffi::c_void;
use std::sync::OnceLock;

static PREVIOUS: OnceLock<pg_sys::set_rel_pathlist_hook_type> = OnceLock::new();

/// The methods of a path. They have pointers in them, and only Postgres reads them.
struct Methods(CustomPathMethods);

// SAFETY: nothing writes to them; what the pointers in them point to is constant.
unsafe impl Sync for Methods {}

static METHODS: Methods = Methods(CustomPathMethods {
    CustomName: node::NAME.as_ptr(),
    PlanCustomPath: Some(on_plan),
    ReparameterizeCustomPathByChild: None,
});

/// What a path of ours, and later its plan, keeps in `custom_private`.
mod kept {
    /// The columns of the row that are wanted: Vars in the path, their numbers in the plan.
    pub const COLUMNS: usize = 0;
    /// The numbers of the parameters in the arguments that the executor sets.
    pub const PARAMETERS: usize = 1;
    /// The call; in the path alone.
    pub const CALL: usize = 2;
}

/// Sets the hook; called once.
pub fn init() {
    // SAFETY: `_PG_init` calls this on the only thread, and no statement is being planned by a hook meanwhile.
    unsafe {
        PREVIOUS.get_or_init(|| pg_sys::set_rel_pathlist_hook);
        pg_sys::set_rel_pathlist_hook = Some(on_paths);
    }
}

// The planner calls it for each relation of each query, so what is not a function in FROM is passed by at once.
unsafe extern "C-unwind" fn on_paths(
    root: *mut PlannerInfo,
    relation: *mut RelOptInfo,
    index: pg_sys::Index,
    entry: *mut RangeTblEntry,
) {
    // SAFETY: the planner calls it with a relation and its entry in the range table, after it has made the
    // relation's paths. This frame has no destructor, so the error of the previous hook may jump over it, and
    // one of `offer` is thrown from it.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS.get() {
            previous(root, relation, index, entry);
        }
        if (*entry).rtekind != pg_sys::RTEKind::RTE_FUNCTION || !settings::scan_node() {
            return;
        }
        let offered = error::catch(|| {
            offer(relation, entry);
            Ok(())
        });
        if let Err(raised) = offered {
            raised.throw()
        }
    }
}

/// Adds a path of ours beside the function scan, if the call is one that it can do.
///
/// # Safety
/// The relation must be the entry's, and its paths made.
unsafe fn offer(relation: *mut RelOptInfo, entry: *mut RangeTblEntry) {
    // SAFETY: the relation is the entry's, which this function demands. All-zero is a value of a path, which
    // makeNode begins with; `add_path` takes over what was palloc'd, and may free the path that it replaces.
    unsafe {
        let Some((rows, startup, total)) = function_scan(relation) else { return };
        let Some(call) = only_call(entry) else { return };
        if !is_plain(relation) || !is_served(call) {
            return;
        }
        let Some(columns) = columns(relation) else { return };
        let Some(parameters) = parameters(call) else { return };
        let path: *mut CustomPath = pg_sys::palloc0(size_of::<CustomPath>()).cast();
        (*path).path.type_ = NodeTag::T_CustomPath;
        (*path).path.pathtype = NodeTag::T_CustomScan;
        (*path).path.parent = relation;
        (*path).path.pathtarget = (*relation).reltarget;
        (*path).path.rows = rows;
        (*path).path.startup_cost = startup;
        // The row is not written down and read back.
        (*path).path.total_cost = startup + (total - startup) / 2.0;
        (*path).flags =
            pg_sys::CUSTOMPATH_SUPPORT_BACKWARD_SCAN | pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*path).custom_private = list_of([columns.cast(), parameters.cast(), call.cast()]);
        (*path).methods = &raw const METHODS.0;
        pg_sys::add_path(relation, path.cast());
    }
}

/// The rows and the costs of the function scan that Postgres has planned; `None` without one, as where the
/// relation was found to be empty.
///
/// # Safety
/// The relation's paths must be made.
unsafe fn function_scan(relation: *mut RelOptInfo) -> Option<(f64, f64, f64)> {
    // SAFETY: pathlist is a list of paths, which this function demands.
    unsafe {
        let paths = (*relation).pathlist;
        (0..list::length(paths))
            .map(|at| list::pointer::<pg_sys::Path>(paths, at))
            .find(|path| (**path).pathtype == NodeTag::T_FunctionScan)
            .map(|path| ((*path).rows, (*path).startup_cost, (*path).total_cost))
    }
}

/// The call, if the entry is nothing but one: no ROWS FROM of several, no ORDINALITY, no column definitions,
/// and no set of rows.
///
/// # Safety
/// The entry must be of a function in FROM.
unsafe fn only_call(entry: *mut RangeTblEntry) -> Option<*mut FuncExpr> {
    // SAFETY: `functions` is a list of RangeTblFunctions, and a node begins with its tag.
    unsafe {
        let functions = (*entry).functions;
        if (*entry).funcordinality || list::length(functions) != 1 {
            return None;
        }
        let function: *mut RangeTblFunction = list::pointer(functions, 0);
        let expression = (*function).funcexpr;
        if !(*function).funccolnames.is_null() || (*expression).type_ != NodeTag::T_FuncExpr {
            return None;
        }
        let call: *mut FuncExpr = expression.cast();
        (!(*call).funcretset).then_some(call)
    }
}

/// Whether nothing is asked of the relation but its columns: it is no member of a UNION, has no filter, refers
/// to no other relation (LATERAL), and is left out of parallel plans.
///
/// # Safety
/// The relation must be the planner's.
unsafe fn is_plain(relation: *mut RelOptInfo) -> bool {
    // SAFETY: the relation is the planner's; an empty set may be null or not, and either is right to be declined.
    unsafe {
        (*relation).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL
            && (*relation).baserestrictinfo.is_null()
            && (*relation).lateral_relids.is_null()
            && !(*relation).consider_parallel
    }
}

/// Whether the function is one of ours as CREATE EXTENSION made it. Its address says so: that of a function
/// with SET or SECURITY DEFINER, or that another extension watches, is the function manager's (fmgr.c).
///
/// # Safety
/// The call must be the planner's.
unsafe fn is_served(call: *mut FuncExpr) -> bool {
    let Some(served) = SERVED.get() else { return false };
    // SAFETY: the call is the planner's, so its function exists, or fmgr_info raises the error that the executor
    // would. It fills in the zeroed FmgrInfo.
    unsafe {
        if !has_our_columns((*call).funcresulttype, served) {
            return false;
        }
        let mut function: pg_sys::FmgrInfo = std::mem::zeroed();
        pg_sys::fmgr_info((*call).funcid, &mut function);
        let address = function.fn_addr.map(|address| address as usize);
        served.functions.iter().any(|ours| Some(*ours as usize) == address)
    }
}

/// Whether a type has the columns of ours and no other.
fn has_our_columns(row_type: Oid, served: &Served) -> bool {
    // SAFETY: with `noError` the function takes any OID, and returns null for what is no row type. The
    // descriptor has `natts` attributes, and is given back.
    unsafe {
        let descriptor = pg_sys::lookup_rowtype_tupdesc_noerror(row_type, -1, true);
        if descriptor.is_null() {
            return false;
        }
        let there = (*descriptor).natts as usize;
        let ours = there == served.columns.len()
            && served.columns.iter().enumerate().all(|(at, column)| {
                let attribute = attribute(descriptor, at);
                !(*attribute).attisdropped && (*attribute).atttypid == *column
            });
        if (*descriptor).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(descriptor);
        }
        ours
    }
}

/// `TupleDescAttr` (access/tupdesc.h); since 18 compact attributes stand before the whole ones.
///
/// # Safety
/// The descriptor must have more attributes than `at`.
unsafe fn attribute(
    descriptor: pg_sys::TupleDesc,
    at: usize,
) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the descriptor has such an attribute, which this function demands.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*descriptor).attrs.as_ptr().add(at);
        #[cfg(feature = "pg18")]
        return pg_sys::TupleDescAttr(descriptor, at as std::ffi::c_int);
    }
}

/// The columns that the query wants of the relation, as Vars; `None` if it wants anything else of it: the row
/// as a whole, which a recheck of a changed row (EvalPlanQual) wants too, or an expression.
///
/// They are copied now: the planner may put what the whole query returns in their place.
///
/// # Safety
/// The relation must be the planner's.
unsafe fn columns(relation: *mut RelOptInfo) -> Option<*mut List> {
    // SAFETY: reltarget is the relation's, and a list of expressions; a node begins with its tag.
    unsafe {
        let wanted = (*(*relation).reltarget).exprs;
        for at in 0..list::length(wanted) {
            let var: *mut Var = list::pointer(wanted, at);
            if (*var).xpr.type_ != NodeTag::T_Var
                || (*var).varno as pg_sys::Index != (*relation).relid
                || (*var).varattno < 1
            {
                return None;
            }
        }
        Some(pg_sys::copyObjectImpl(wanted.cast()).cast())
    }
}

/// The parameters in the arguments that the executor sets, as a list of numbers: when one of them changes, the
/// function is called again. `None` for arguments with a sub-select that is evaluated for each call, whose
/// parameters are not known yet.
///
/// # Safety
/// The call must be the planner's.
unsafe fn parameters(call: *mut FuncExpr) -> Option<*mut List> {
    // SAFETY: the call is an expression of the planner's. The closure is Copy, and an error is resumed; `found`
    // outlives the walk.
    unsafe {
        if pg_sys::contain_subplans(call.cast()) {
            return None;
        }
        let mut found: *mut List = std::ptr::null_mut();
        let context: *mut c_void = (&raw mut found).cast();
        let walked = subtransaction::call_keeping_error(|| note_parameter(call.cast(), context));
        walked.unwrap_or_else(|error| error.resume());
        Some(found)
    }
}

// Called for every node of an expression. It raises errors past its own frame, which has no destructor.
unsafe extern "C-unwind" fn note_parameter(node: *mut Node, found: *mut c_void) -> bool {
    // SAFETY: expression_tree_walker calls it with a node of the expression or null, and with the context that
    // `parameters` gave it, a list.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == NodeTag::T_Param {
            let parameter: *mut pg_sys::Param = node.cast();
            if (*parameter).paramkind == pg_sys::ParamKind::PARAM_EXEC {
                let list: *mut *mut List = found.cast();
                *list = raw::lappend_int(*list, (*parameter).paramid);
            }
            return false;
        }
        raw::expression_tree_walker(node, note_parameter, found)
    }
}

unsafe extern "C-unwind" fn on_plan(
    root: *mut PlannerInfo,
    _: *mut RelOptInfo,
    path: *mut CustomPath,
    targets: *mut List,
    _: *mut List,
    _: *mut List,
) -> *mut Plan {
    // SAFETY: the planner calls it with a path of ours that it has chosen. This frame has no destructor.
    unsafe {
        match error::catch(|| Ok(plan(root, path, targets))) {
            Ok(plan) => plan,
            Err(raised) => raised.throw(),
        }
    }
}

/// The plan of a path. It has the whole call in it, so that it is made anew when the function changes, and
/// depends on the row type, so that it is when that gets other columns.
///
/// # Safety
/// The path must be one of ours, and chosen.
unsafe fn plan(root: *mut PlannerInfo, path: *mut CustomPath, targets: *mut List) -> *mut Plan {
    // SAFETY: `offer` made the path. All-zero is a value of a plan, which makeNode begins with. The list of
    // relations that a plan depends on is the planner's, which adds to it in the same way.
    unsafe {
        let call: *mut FuncExpr = list::pointer((*path).custom_private, kept::CALL);
        let columns: *mut List = list::pointer((*path).custom_private, kept::COLUMNS);
        let parameters: *mut List = list::pointer((*path).custom_private, kept::PARAMETERS);
        let scan: *mut CustomScan = pg_sys::palloc0(size_of::<CustomScan>()).cast();
        (*scan).scan.plan.type_ = NodeTag::T_CustomScan;
        (*scan).scan.plan.targetlist = targets;
        (*scan).flags = (*path).flags;
        (*scan).custom_exprs = list_of([call.cast()]);
        let mut numbers: *mut List = std::ptr::null_mut();
        for at in 0..list::length(columns) {
            let var: *mut Var = list::pointer(columns, at);
            let position = (at + 1) as pg_sys::AttrNumber;
            let entry = pg_sys::makeTargetEntry(var.cast(), position, std::ptr::null_mut(), false);
            (*scan).custom_scan_tlist = pg_sys::lappend((*scan).custom_scan_tlist, entry.cast());
            numbers = pg_sys::lappend_int(numbers, (*var).varattno.into());
        }
        (*scan).custom_private = list_of([numbers.cast(), parameters.cast()]);
        (*scan).methods = node::methods();
        let row = pg_sys::get_typ_typrelid((*call).funcresulttype);
        let planned = (*root).glob;
        (*planned).relationOids = pg_sys::lappend_oid((*planned).relationOids, row);
        scan.cast()
    }
}

/// The columns, and the parameters, that a plan was made with.
///
/// # Safety
/// The plan must be one of ours.
pub unsafe fn kept_in(scan: *const CustomScan) -> (*mut List, *mut List) {
    // SAFETY: `plan` has made the list of two.
    unsafe {
        let kept = (*scan).custom_private;
        (list::pointer(kept, kept::COLUMNS), list::pointer(kept, kept::PARAMETERS))
    }
}

/// # Safety
/// The elements must be what Postgres takes into a list of nodes: nodes, lists, or null.
unsafe fn list_of<const N: usize>(elements: [*mut c_void; N]) -> *mut List {
    elements
        .into_iter()
        // SAFETY: a list of ours or the empty one, and a node.
        .fold(std::ptr::null_mut(), |list, element| unsafe { pg_sys::lappend(list, element) })
}
