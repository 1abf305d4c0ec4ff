//! Users' handlers: a function `(jsonb) returns jsonb`, called with the caller's rights.

use crate::pg::datum::text::Text;
use crate::pg::error::Kept;
use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::handler::{self, Named};
use std::ffi::CStr;

/// A handler that exists, has the right signature, and that the caller may execute.
#[derive(Clone, Copy)]
pub struct Handler {
    function: pg_sys::Oid,
    is_strict: bool,
}

impl Handler {
    /// Looks a handler up as its caller names it: in the schema named, or in the caller's
    /// search_path. Nothing is remembered of it from call to call, so that a look-up is right whatever has
    /// changed.
    ///
    /// # Errors
    /// 22023 for null and for another signature, 42883 if there is no such function, 42501 without
    /// EXECUTE on it or USAGE on its schema.
    pub fn find(named: Option<Text<'_>>) -> Result<Self> {
        let named = named.ok_or_else(|| {
            Error::new(Code::InvalidParameter, "handler must not be null")
                .detail("A handler is a function that takes one jsonb argument and returns jsonb.")
                .hint("Pass the name of a function, e.g. 'pay' or 'app.pay'.")
        })?;
        let function = match Named::parse(named.server) {
            Some(Named::Oid(oid)) => {
                Some(pg_sys::Oid::from(oid)).filter(|oid| crate::pg::acl::exists(*oid))
            }
            Some(Named::Name(name)) => crate::pg::acl::of_name(name, pg_sys::JSONBOID),
            None => return Err(handler::other_arguments(named.utf8)),
        };
        let function = function.ok_or_else(|| handler::missing(named.utf8))?;
        // SAFETY: `function` was found just now, in this transaction, so it exists.
        unsafe {
            check_signature(function)?;
            check_schema(function)?;
            check_execute(function)?;
            Ok(Self { function, is_strict: pg_sys::func_strict(function) })
        }
    }

    /// A strict handler is not called for a null request, so nothing would be done once.
    pub fn check_request(self, request: Option<Datum>) -> Result<()> {
        if request.is_some() || !self.is_strict {
            return Ok(());
        }
        Err(Error::new(Code::InvalidParameter, "request must not be null for a strict handler")
            .detail(format!("Function {} is STRICT, so it would not run.", name(self.function)))
            .hint("Pass a request, e.g. '{}', or declare the handler CALLED ON NULL INPUT."))
    }

    /// Calls the handler; returns the handler's error for the caller to rethrow.
    pub fn call(self, request: Option<Datum>) -> std::result::Result<Option<Datum>, Kept> {
        // SAFETY: the closure is Copy, `invoke` has no destructor, and every caller resumes the error.
        unsafe { subtransaction::call_keeping_error(|| invoke(self.function, request)) }
    }

    /// Calls the handler; an error in it undoes what it did.
    pub fn call_undoing_error(
        self,
        request: Option<Datum>,
    ) -> std::result::Result<Option<Datum>, Kept> {
        subtransaction::call_undoing_error(|| invoke(self.function, request))
    }

    /// Like [`Self::call_undoing_error`], with every deferred constraint judged before it returns, so
    /// that none is left to fail the commit.
    pub fn call_judging_constraints(
        self,
        request: Option<Datum>,
    ) -> std::result::Result<Option<Datum>, Kept> {
        subtransaction::call_undoing_error(|| {
            let answer = invoke(self.function, request);
            set_constraints_immediate();
            answer
        })
    }
}

/// # Safety
/// `function` must exist.
unsafe fn check_signature(function: pg_sys::Oid) -> Result<()> {
    let mut types = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: the function exists, which this function demands; get_func_signature fills `types` with `count`
    // elements, and the first is read only if there is one.
    let fits = unsafe {
        let returns = pg_sys::get_func_signature(function, &mut types, &mut count);
        count == 1
            && *types == pg_sys::JSONBOID
            && returns == pg_sys::JSONBOID
            && !pg_sys::get_func_retset(function)
            && pg_sys::get_func_prokind(function) as u8 == pg_sys::PROKIND_FUNCTION
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidParameter,
        format!("function {} cannot be a handler", name(function)),
    )
    .detail("A handler is a function that takes one jsonb argument and returns jsonb.")
    .hint("CREATE FUNCTION handler(request jsonb) RETURNS jsonb ..."))
}

/// A name is found only in a schema that the caller may use; an OID is found in any, so the schema is
/// checked here, as Postgres does for its own calls by OID (tcop/fastpath.c).
///
/// # Safety
/// `function` must exist.
unsafe fn check_schema(function: pg_sys::Oid) -> Result<()> {
    // SAFETY: the function exists, which this function demands; the current user is that of the session.
    let closed = unsafe { crate::pg::acl::closed_schema(function, pg_sys::GetUserId()) };
    let Some(schema) = closed else { return Ok(()) };
    // SAFETY: get_namespace_name returns a palloc'd, NUL-terminated string, or null without such a schema.
    let schema = unsafe { text(pg_sys::get_namespace_name(schema)) }.unwrap_or_default();
    Err(Error::new(Code::InsufficientPrivilege, format!("permission denied for schema {schema}"))
        .detail("A handler runs with the caller's rights, and its schema is closed to the caller.")
        .hint("Ask its owner: GRANT USAGE ON SCHEMA ... TO your role."))
}

/// # Safety
/// `function` must exist.
unsafe fn check_execute(function: pg_sys::Oid) -> Result<()> {
    // SAFETY: the function exists, which this function demands; the current user is that of the session.
    if unsafe { crate::pg::acl::may_execute(function, pg_sys::GetUserId()) } {
        return Ok(());
    }
    Err(Error::new(
        Code::InsufficientPrivilege,
        format!("permission denied for function {}", name(function)),
    )
    .detail("A handler runs with the caller's rights.")
    .hint("Ask its owner: GRANT EXECUTE ON FUNCTION ... TO your role."))
}

fn name(function: pg_sys::Oid) -> String {
    // SAFETY: get_func_name returns a palloc'd, NUL-terminated string, or null without such a function.
    let name = unsafe { text(pg_sys::get_func_name(function)) };
    name.unwrap_or_else(|| u32::from(function).to_string())
}

/// # Safety
/// `name` must be null, or a NUL-terminated string in the server's encoding.
unsafe fn text(name: *const std::ffi::c_char) -> Option<String> {
    if name.is_null() {
        return None;
    }
    // SAFETY: `name` is not null, and so NUL-terminated, which this function demands; it is copied below.
    let name = unsafe { crate::pg::datum::encoding::to_utf8(CStr::from_ptr(name).to_bytes()) };
    Some(String::from_utf8_lossy(name).into_owned())
}

/// `SET CONSTRAINTS ALL IMMEDIATE`. Nothing here has a destructor: an error jumps over this frame.
fn set_constraints_immediate() {
    // SAFETY: ConstraintsSetStmt has a tag, set below, a list, for which null means all constraints, and a
    // boolean. AfterTriggerSetState reads it during the call alone; its caller catches the error.
    unsafe {
        let mut statement: pg_sys::ConstraintsSetStmt = std::mem::zeroed();
        statement.type_ = pg_sys::NodeTag::T_ConstraintsSetStmt;
        raw::AfterTriggerSetState(&mut statement);
    }
}

/// `FunctionCall1` (fmgr.h) that lets null through both ways. Nothing here has a destructor: an
/// error of the handler jumps over this frame.
fn invoke(function: pg_sys::Oid, request: Option<Datum>) -> Option<Datum> {
    #[repr(C)]
    struct OneArgument {
        base: pg_sys::FunctionCallInfoBaseData,
        argument: pg_sys::NullableDatum,
    }
    // SAFETY: zero is a value for every field of the call data; the argument follows the base, as
    // LOCAL_FCINFO lays it out, and nargs is 1. fmgr_info fills `info`, or raises an error; both live until
    // the handler returns. (It takes care of SECURITY DEFINER and SET.)
    unsafe {
        let mut info: pg_sys::FmgrInfo = std::mem::zeroed();
        raw::fmgr_info(function, &mut info);
        let mut call: OneArgument = std::mem::zeroed();
        call.base.flinfo = &mut info;
        call.base.nargs = 1;
        call.argument.value = request.unwrap_or(Datum::from(0));
        call.argument.isnull = request.is_none();
        // fmgr_info fills it in or raises an error.
        let address = info.fn_addr.unwrap_unchecked();
        let result = address(&raw mut call.base);
        (!call.base.isnull).then_some(result)
    }
}
