//! A door in front of a function of SQL: what the door checks with the caller's rights, a SECURITY
//! DEFINER function cannot know, as it sees its owner's.

use crate::pg::arguments::{Args, Returned};
use crate::pg::{limit, raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, DAMAGED, Error, Result};
use std::ffi::CStr;

/// Calls a function that is declared with the same arguments and result, as this call was called. The
/// caller needs no EXECUTE on it.
///
/// # Errors
/// 55000 without such a function; ID001 if it waited for longer than the call may; its other errors go on to the
/// caller.
pub fn pass_on(args: &Args, schema: &CStr, function: &CStr) -> Returned {
    pass_on_with(args, schema, function, None)
}

/// The same with another value in the place of an argument, by its position: one of its type.
pub fn pass_on_with(
    args: &Args,
    schema: &CStr,
    function: &CStr,
    instead: Option<(usize, Datum)>,
) -> Returned {
    let call = args.raw();
    // SAFETY: the call is in progress, and its flinfo was filled in by the function manager. It is the
    // door's again when the function returns or raises an error, as fmgr_security_definer does it
    // (utils/fmgr/fmgr.c), and so is the argument, which may be a constant of the plan. The closure has
    // nothing with a destructor.
    unsafe {
        let door = (*call).flinfo;
        (*call).flinfo = inner(door, schema, function)?;
        let given = args.swap(instead);
        let called = subtransaction::call_keeping_error(|| invoke(call));
        (*call).flinfo = door;
        args.swap(given);
        let datum = called.unwrap_or_else(|error| limit::told(error).resume());
        Ok((!(*call).isnull).then_some(datum))
    }
}

/// # Safety
/// The function manager must have filled in the call's flinfo.
unsafe fn invoke(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the address is there once fmgr_info has returned, the caller promises.
    unsafe {
        let address = (*(*call).flinfo).fn_addr.unwrap_unchecked();
        address(call)
    }
}

/// What the function manager knows of the function: looked up once for all calls of a statement, and
/// kept where Postgres lets a C function keep something.
///
/// # Safety
/// `door` must be that of a call in progress.
unsafe fn inner(
    door: *mut pg_sys::FmgrInfo,
    schema: &CStr,
    function: &CStr,
) -> Result<*mut pg_sys::FmgrInfo> {
    // SAFETY: fn_extra is the door's own, and null before its first call; what it points to lives in
    // fn_mcxt, as long as the door does. It is set once it is whole.
    unsafe {
        if (*door).fn_extra.is_null() {
            let target = look_up((*door).fn_oid, schema, function)?;
            let context = (*door).fn_mcxt;
            let room = pg_sys::MemoryContextAllocZero(context, size_of::<pg_sys::FmgrInfo>());
            let info: *mut pg_sys::FmgrInfo = room.cast();
            let filled = subtransaction::call_keeping_error(|| {
                raw::fmgr_info_cxt(target, info, context);
            });
            filled.unwrap_or_else(|error| error.resume());
            (*info).fn_expr = (*door).fn_expr;
            (*door).fn_extra = info.cast();
        }
        Ok((*door).fn_extra.cast())
    }
}

/// The function of this name with the arguments of `door`.
///
/// # Safety
/// `door` must exist.
unsafe fn look_up(door: pg_sys::Oid, schema: &CStr, function: &CStr) -> Result<pg_sys::Oid> {
    let (mut types, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: `door` exists, the caller promises. Syscache look-ups, with keys of the types that the
    // cache has: name, oidvector, oid; the vector is made of as many types as there are.
    let found = unsafe {
        pg_sys::get_func_signature(door, &mut types, &mut count);
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            Datum::from(function.as_ptr()),
            Datum::from(pg_sys::buildoidvector(types, count)),
            Datum::from(namespace),
            Datum::from(0),
        )
    };
    if found == pg_sys::InvalidOid {
        let name = function.to_string_lossy();
        return Err(Error::new(Code::ObjectNotReady, "a function of the extension is missing")
            .detail(format!("There is no function {}.{name}.", schema.to_string_lossy()))
            .hint(DAMAGED));
    }
    Ok(found)
}
