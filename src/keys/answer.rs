//! `idempotent_result`: what a call answers, as a composite datum or column by column.

use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::make::{ShortText, interval};
use crate::pg::datum::row::{self, Columns};
use crate::pg::datum::varlena;
use crate::pg::receiver::Receiver;
use crate::pg::{raw, subtransaction};
use crate::tables::records::row::{Found, column};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::claim::Verdict;
use rules::error::{Code, Error, Result};
use rules::outcome::Outcome;
use rules::record::State;
use rules::{Micros, Timestamp};
use std::cell::Cell;
use std::ptr::NonNull;

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

/// The types of the columns, as in sql/20_types.sql.
pub const TYPES: [pg_sys::Oid; COLUMNS] = [
    pg_sys::TEXTOID,
    pg_sys::INT8OID,
    pg_sys::INT4OID,
    pg_sys::BOOLOID,
    pg_sys::INT4OID,
    pg_sys::JSONBOID,
    pg_sys::JSONBOID,
    pg_sys::BYTEAOID,
    pg_sys::BOOLOID,
    pg_sys::JSONBOID,
    pg_sys::INTERVALOID,
    pg_sys::TIMESTAMPTZOID,
];

/// Headers, response, body and checkpoint, which may be stored out of line.
const LARGE: [usize; 4] = [5, 6, 7, 9];

/// The outcomes as texts, by their numbers.
static OUTCOMES: [ShortText; Outcome::COUNT] = {
    let mut texts = [ShortText::of(""); Outcome::COUNT];
    let mut number = 0;
    while number < Outcome::COUNT {
        let outcome = Outcome::nth(number);
        texts[outcome as usize] = ShortText::of(outcome.name());
        number += 1;
    }
    texts
};

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
    pub fn replay(found: &Found, now: Timestamp) -> Self {
        let evicted = found.evicted(now);
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
    pub fn to(verdict: Verdict, found: Option<&Found>, now: Timestamp) -> Self {
        match (verdict, found) {
            (Verdict::Replay { .. }, Some(found)) => Self::replay(found, now),
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

    /// What a function returns that is declared to return `idempotent_result`: the composite datum, or
    /// nothing if it has put the columns where the call wants them.
    pub fn into_datum(self, args: &Args) -> Returned {
        if let Some(receiver) = args.receiver() {
            self.fill(receiver);
            return Ok(Some(Datum::from(0)));
        }
        let mut row = Columns::null();
        for (index, value) in self.columns().into_iter().enumerate() {
            row.set(index, value);
        }
        let row_type = result_type(args.function())?;
        // SAFETY: the closure is Copy, `compose` has no destructor, and an error is resumed.
        let composed = unsafe { subtransaction::call_keeping_error(|| compose(row_type, &row)) };
        match composed.unwrap_or_else(|error| error.resume()) {
            Some(datum) => Ok(Some(datum)),
            None => Err(row::do_not_fit()),
        }
    }

    fn columns(&self) -> [Option<Datum>; COLUMNS] {
        [
            Some(OUTCOMES[self.outcome as usize].datum()),
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
        ]
    }

    /// What a composite datum would hold itself is fetched here, too.
    fn fill(&self, mut receiver: NonNull<Receiver>) {
        let mut columns = self.columns();
        for column in LARGE {
            // SAFETY: these columns are varlenas. They are copies that last as long as the memory of the call,
            // or, as the checkpoint of an own claim, as long as the transaction.
            columns[column] = columns[column].map(|datum| unsafe { varlena::whole(datum) });
        }
        // SAFETY: the receiver came with the call, which is in progress, and nothing else refers to it
        // meanwhile.
        unsafe { receiver.as_mut() }.fill(&columns);
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
