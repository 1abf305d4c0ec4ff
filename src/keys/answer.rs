//! `idempotent_result`: what a call answers, as a composite datum.

use crate::pg::arguments::Returned;
use crate::pg::datum::make::{ShortText, interval, short_text};
use crate::pg::datum::row::{self, Columns};
use crate::pg::{clock, raw, subtransaction};
use crate::tables::records::row::{Found, column};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::claim::Verdict;
use rules::error::{Code, Error, Result};
use rules::outcome::Outcome;
use rules::record::State;
use rules::{Micros, Timestamp};
use std::cell::Cell;

/// The columns of `idempotent_result`; values by reference pass through as datums.
#[derive(Clone, Copy)]
pub struct Answer {
    pub outcome: Outcome,
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
    // SAFETY: get_func_rettype raises an error for a function that does not exist; `exists` has found it.
    let row_type = unsafe { pg_sys::get_func_rettype(function) };
    RESULT_TYPE.set(Some((function, row_type)));
    Ok(row_type)
}

impl Answer {
    /// An outcome, and nothing else.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            fence: None,
            attempt: None,
            failed: None,
            status: None,
            headers: None,
            response: None,
            body: None,
            evicted: None,
            checkpoint: None,
            retry_after: None,
            expires_at: None,
        }
    }

    /// The stored answer, as far as it is still kept.
    pub fn replay(found: &Found) -> Self {
        let evicted = found.evicted(clock::now());
        let kept = |column| if evicted { None } else { found.row.get(column) };
        Self {
            fence: found.record.fence,
            attempt: Some(found.record.attempt),
            failed: Some(found.record.state == State::Failed),
            status: found.status(),
            headers: found.headers(evicted),
            response: kept(column::RESPONSE),
            body: kept(column::BODY),
            evicted: Some(evicted),
            expires_at: Some(found.record.expires_at),
            ..Self::of(Outcome::Replay)
        }
    }

    /// What a verdict is told as, with what was found.
    pub fn to(verdict: Verdict, found: Option<&Found>) -> Self {
        match (verdict, found) {
            (Verdict::Replay { .. }, Some(found)) => Self::replay(found),
            (Verdict::Held, Some(found)) => Self {
                fence: found.record.fence,
                attempt: Some(found.record.attempt),
                checkpoint: found.row.get(column::CHECKPOINT),
                expires_at: found.record.lease_until,
                ..Self::of(Outcome::Claimed)
            },
            (Verdict::InProgress { retry_after }, _) => {
                Self { retry_after: Some(retry_after), ..Self::of(Outcome::InProgress) }
            }
            (verdict, _) => Self::of(verdict.outcome()),
        }
    }

    /// The datum that `function` (declared to return `idempotent_result`) returns.
    pub fn into_datum(self, function: pg_sys::Oid) -> Returned {
        let mut outcome = ShortText::default();
        let columns: [Option<Datum>; COLUMNS] = [
            Some(short_text(self.outcome.name(), &mut outcome)),
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
        // SAFETY: the closure is Copy, `compose` has no destructor, and an error is resumed.
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
/// `row_type` must be a row type. It may raise an error past Rust: call it as `pg::raw` says.
unsafe fn compose(row_type: pg_sys::Oid, row: &Columns) -> Option<Datum> {
    // SAFETY: lookup_rowtype_tupdesc returns the descriptor of the row type, pinned if it is counted, until
    // DecrTupleDescRefCount. `fits` compares it with the columns known, whose types are those of
    // sql/20_types.sql; `form` copies the values.
    unsafe {
        let descriptor = raw::lookup_rowtype_tupdesc(row_type, -1);
        let tuple = row::fits(descriptor, COLUMNS).then(|| row.form(descriptor));
        if (*descriptor).tdrefcount >= 0 {
            raw::DecrTupleDescRefCount(descriptor);
        }
        tuple.map(|tuple| raw::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}
