//! Users' handlers: a function `(jsonb) returns jsonb`, called with the caller's rights.

use crate::keys::known_handlers::{self, Known};
use crate::pg::callee::Callee;
use crate::pg::datum::text::Text;
use crate::pg::error::Kept;
use crate::pg::subtransaction::{self, Undone};
use crate::pg::{callee, catalog_changes, limit, raw};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::handler::{self, Named};
use std::ffi::CStr;
use std::ptr::NonNull;
use std::rc::Rc;

/// A handler that exists, has the right signature, and that the caller may execute.
pub struct Handler {
    function: pg_sys::Oid,
    is_strict: bool,
    /// What is kept of it from call to call.
    known: Option<Rc<Known>>,
    /// That of the catalog when it was looked up.
    generation: u64,
}

impl Handler {
    /// The handler that its caller names: in the schema named, or in the caller's search_path.
    ///
    /// # Errors
    /// As [`Self::look_up`].
    pub fn find(named: Option<Text<'_>>) -> Result<Self> {
        let generation = catalog_changes::generation();
        match named.and_then(|named| known_handlers::find(named.server)) {
            Some(known) => Ok(Self {
                function: known.function,
                is_strict: known.is_strict,
                known: Some(known),
                generation,
            }),
            None => Self::look_up(named, generation),
        }
    }

    /// # Errors
    /// 22023 for null and for another signature, 42883 if there is no such function, 42501 without
    /// EXECUTE on it or USAGE on its schema.
    fn look_up(named: Option<Text<'_>>, generation: u64) -> Result<Self> {
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
            let is_strict = pg_sys::func_strict(function);
            let known = known_handlers::remember(named.server, function, is_strict, generation);
            Ok(Self { function, is_strict, known, generation })
        }
    }

    /// A strict handler is not called for a null request, so nothing would be done once.
    pub fn check_request(&self, request: Option<Datum>) -> Result<()> {
        if request.is_some() || !self.is_strict {
            return Ok(());
        }
        Err(Error::new(Code::InvalidParameter, "request must not be null for a strict handler")
            .detail(format!("Function {} is STRICT, so it would not run.", name(self.function)))
            .hint("Pass a request, e.g. '{}', or declare the handler CALLED ON NULL INPUT."))
    }

    /// Calls the handler; the caller rethrows its error.
    ///
    /// # Errors
    /// As [`Self::check_again`].
    pub fn call(&self, request: Option<Datum>) -> Result<Returned> {
        self.check_again()?;
        Ok(self.with_callee(|function, kept| {
            // SAFETY: the caller lets the error go on, which rolls the statement back; the function
            // exists, and `kept` was looked up of it.
            unsafe { subtransaction::call_keeping_error(|| callee::call(function, kept, request)) }
        }))
    }

    /// Calls the handler; its error undoes what it did. What it did to deferred constraints is judged before
    /// this returns, so that none is left to fail the commit. They stay deferred for the rest of the
    /// transaction, and are checked again when it ends.
    ///
    /// # Errors
    /// As [`Self::check_again`].
    pub fn call_judging_constraints(&self, request: Option<Datum>) -> Result<Returned> {
        self.check_again()?;
        let returned = self.with_callee(|function, kept| {
            subtransaction::call_then_check(
                // SAFETY: the function exists, and `kept` was looked up of it.
                || unsafe { callee::call(function, kept, request) },
                set_constraints_immediate,
            )
        });
        Ok(returned.map_err(|undone| match undone {
            Undone::Failed(error) => error,
            Undone::Refused(error) => {
                check_without_handler();
                error
            }
        }))
    }

    /// The caller may have waited for its claim since the look-up.
    ///
    /// # Errors
    /// 42883 if the function was dropped meanwhile, 42501 if the caller lost the right to execute it.
    fn check_again(&self) -> Result<()> {
        if self.generation == catalog_changes::refresh() {
            return Ok(());
        }
        if !crate::pg::acl::exists(self.function) {
            return Err(handler::dropped());
        }
        // SAFETY: syscache look-ups of a function that exists.
        unsafe {
            check_signature(self.function)?;
            check_schema(self.function)?;
            check_execute(self.function)
        }
    }

    fn is_unchanged(&self) -> bool {
        self.generation == catalog_changes::generation()
    }

    /// Calls with what is kept of the function, where it is good and no outer call has it.
    fn with_callee<E>(
        &self,
        call: impl FnOnce(
            pg_sys::Oid,
            Option<NonNull<pg_sys::FmgrInfo>>,
        ) -> std::result::Result<Option<Datum>, E>,
    ) -> std::result::Result<Option<Datum>, E> {
        let callee = self.known.as_ref().and_then(|known| known.callee.as_ref());
        let callee = callee.filter(|_| self.is_unchanged());
        let kept = callee.and_then(Callee::take);
        let returned = limit::lifted(|| call(self.function, kept));
        if let (Some(callee), Some(_), Ok(_)) = (callee, kept, &returned) {
            callee.give_back();
        }
        returned
    }
}

/// What the handler returned, or the error that it raised.
type Returned = std::result::Result<Option<Datum>, Kept>;

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

/// What the transaction had done before the handler must not be taken for the handler's failure: where that
/// violates a deferred constraint, its error goes on, and nothing is stored.
fn check_without_handler() {
    if let Err(error) = subtransaction::call_undone(set_constraints_immediate) {
        error.resume();
    }
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
