//! `idempotent_result`: what a call answers, as a composite datum.

use crate::pg::arguments::Returned;
use crate::pg::datum::make::{ShortText, interval, short_text};
use crate::pg::datum::row::{self, Columns};
use crate::pg::{raw, subtransaction};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::error::{Code, Error, Result};
use rules::{Micros, Timestamp};
use std::cell::Cell;

/// The columns of `idempotent_result`; values by reference pass through as datums.
#[derive(Clone, Copy, Default)]
pub struct Answer {
    pub outcome: &'static str,
    pub fence: Option<i64>,
    pub attempt: Option<i32>,
    pub failed: Option<bool>,
    pub status: Option<i32>,
    pub headers: Option<Datum>,
    pub response: Option<Datum>,
    pub body: Option<Datum>,
    pub evicted: Option<bool>,
    pub checkpoint: Option<Datum>,
    pub retry_after: Option<Micros>,
    pub expires_at: Option<Timestamp>,
}

const COLUMNS: usize = 12;

thread_local! {
    /// The function that was called last, and the row type that it returns. OIDs of functions are
    /// not reused soon, so a dropped and recreated extension has others.
    static RESULT_TYPE: Cell<Option<(pg_sys::Oid, pg_sys::Oid)>> = const { Cell::new(None) };
}

fn result_type(function: pg_sys::Oid) -> Result<pg_sys::Oid> {
    if let Some((known, row_type)) = RESULT_TYPE.get()
        && known == function
    {
        return Ok(row_type);
    }
    if !crate::pg::acl::exists(function) {
        return Err(Error::new(Code::UndefinedFunction, "the function was dropped while it ran")
            .detail("The extension was dropped, and perhaps made again, while the call waited.")
            .hint("Call again."));
    }
    // SAFETY: a syscache look-up of a function that exists.
    let row_type = unsafe { pg_sys::get_func_rettype(function) };
    RESULT_TYPE.set(Some((function, row_type)));
    Ok(row_type)
}

impl Answer {
    /// The datum that `function` (declared to return `idempotent_result`) returns.
    pub fn into_datum(self, function: pg_sys::Oid) -> Returned {
        let mut outcome = ShortText::default();
        let columns: [Option<Datum>; COLUMNS] = [
            Some(short_text(self.outcome, &mut outcome)),
            self.fence.map(Datum::from),
            self.attempt.map(Datum::from),
            self.failed.map(Datum::from),
            self.status.map(Datum::from),
            self.headers,
            self.response,
            self.body,
            self.evicted.map(Datum::from),
            self.checkpoint,
            self.retry_after.map(interval),
            self.expires_at.map(Datum::from),
        ];
        let mut row = Columns::null();
        for (index, value) in columns.into_iter().enumerate() {
            row.set(index, value);
        }
        let row_type = result_type(function)?;
        // SAFETY: an error goes on to the caller; `compose` has no destructors.
        let composed = unsafe { subtransaction::call_keeping_error(|| compose(row_type, &row)) };
        match composed.unwrap_or_else(|error| error.resume()) {
            Some(datum) => Ok(Some(datum)),
            None => Err(row::do_not_fit()),
        }
    }
}

/// The row as a composite datum; `None` if the type was altered.
///
/// # Safety
/// As for everything in `uncaught` that may raise an error.
unsafe fn compose(row_type: pg_sys::Oid, row: &Columns) -> Option<Datum> {
    // SAFETY: the row type has these columns (sql/20_types.sql), which is checked; its descriptor
    // is pinned while the tuple is formed, which copies all values.
    unsafe {
        let descriptor = raw::lookup_rowtype_tupdesc(row_type, -1);
        let tuple = row::fits(descriptor, COLUMNS).then(|| row.form(descriptor));
        if (*descriptor).tdrefcount >= 0 {
            raw::DecrTupleDescRefCount(descriptor);
        }
        tuple.map(|tuple| raw::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}
