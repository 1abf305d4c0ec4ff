//! What EXPLAIN says of the node, in the words of a function scan.

use super::list;
use crate::pg::error;
use pgrx::pg_sys;
use pgrx::pg_sys::{CustomScan, CustomScanState, ExplainState, FuncExpr, List};

pub unsafe extern "C-unwind" fn on_explain(
    node: *mut CustomScanState,
    ancestors: *mut List,
    shown: *mut ExplainState,
) {
    // SAFETY: EXPLAIN calls it with a node that was begun. This frame has no destructor.
    unsafe {
        let explained = error::catch(|| {
            explain(node, ancestors, shown);
            Ok(())
        });
        if let Err(raised) = explained {
            raised.throw()
        }
    }
}

/// # Safety
/// The node must be one of ours, of the statement that is explained.
unsafe fn explain(node: *mut CustomScanState, ancestors: *mut List, shown: *mut ExplainState) {
    // SAFETY: the plan is one of ours, with the call as its only expression. get_func_name returns a palloc'd
    // name, or null where the function was dropped since the plan began.
    unsafe {
        let plan: *mut CustomScan = (*node).ss.ps.plan.cast();
        let call: *mut FuncExpr = list::pointer((*plan).custom_exprs, 0);
        let name = pg_sys::get_func_name((*call).funcid);
        if !name.is_null() {
            pg_sys::ExplainPropertyText(c"Function Name".as_ptr(), name, shown);
        }
        if (*shown).verbose {
            let names =
                pg_sys::set_deparse_context_plan((*shown).deparse_cxt, plan.cast(), ancestors);
            let call = pg_sys::deparse_expression(call.cast(), names, true, false);
            pg_sys::ExplainPropertyText(c"Function Call".as_ptr(), call, shown);
        }
    }
}
