//! The way in: what `PG_FUNCTION_INFO_V1` and `PG_GETARG_*` are to C.
//!
//! `#[pg_extern]` is not used, because of the errors (see `pg::error`), because the SQL of the
//! functions is written by hand in `sql/`, and because jsonb and text pass through as datums.

use crate::pg::arguments::{Args, Returned};
use crate::pg::error;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;

/// A function as the function manager calls it.
pub type Symbol = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> Datum;

/// Exports each `symbol` as a version-1 C function that runs `body`.
macro_rules! sql_functions {
    ($($symbol:ident => $body:path),* $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $symbol(
                fcinfo: ::pgrx::pg_sys::FunctionCallInfo,
            ) -> ::pgrx::pg_sys::Datum {
                // SAFETY: only the function manager calls this symbol, with the fcinfo of the call; the frame
                // has no variable but that pointer.
                unsafe { $crate::pg::function::enter(fcinfo, $body) }
            }
            const _: () = {
                #[unsafe(export_name = concat!("pg_finfo_", stringify!($symbol)))]
                extern "C" fn finfo() -> &'static ::pgrx::pg_sys::Pg_finfo_record {
                    &::pgrx::pg_sys::Pg_finfo_record { api_version: 1 }
                }
            };
        )*
    };
}
pub(crate) use sql_functions;

/// Runs a function's body and throws its error only after everything of Rust's is gone.
///
/// # Safety
/// `fcinfo` must be that of a call in progress, and the caller must have no destructor pending.
pub unsafe fn enter(fcinfo: pg_sys::FunctionCallInfo, body: fn(&Args) -> Returned) -> Datum {
    // SAFETY: `fcinfo` is that of a call in progress, which this function demands; the arguments end
    // with this frame.
    let arguments = unsafe { Args::of(fcinfo) };
    match error::catch(|| body(&arguments)) {
        Ok(Some(datum)) => datum,
        Ok(None) => {
            // SAFETY: `fcinfo` is that of a call in progress, which this function demands.
            unsafe { (*fcinfo).isnull = true };
            Datum::from(0)
        }
        // SAFETY: this function demands that its caller has no destructor pending; `Args` is a pointer
        // without one, and `catch` has dropped everything of the body's.
        Err(raised) => unsafe { raised.throw() },
    }
}
