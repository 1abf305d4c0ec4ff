//! `idempotent_result`: what a call answers, as a composite datum.

use crate::domain::error::{Code, Error, Result};
use crate::domain::{Micros, Timestamp};
use crate::entry::Returned;
use crate::store::columns::{self, Columns};
use crate::store::{subtransaction, uncaught};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
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
    if !crate::store::function::exists(function) {
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
            None => Err(columns::do_not_fit()),
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
        let descriptor = uncaught::lookup_rowtype_tupdesc(row_type, -1);
        let tuple = columns::fits(descriptor, COLUMNS).then(|| row.form(descriptor));
        if (*descriptor).tdrefcount >= 0 {
            uncaught::DecrTupleDescRefCount(descriptor);
        }
        tuple.map(|tuple| uncaught::HeapTupleHeaderGetDatum((*tuple).t_data))
    }
}

/// A text of ours with the one-byte header of a short varlena (varatt.h), on the stack: it is
/// copied into the row at once.
#[derive(Default)]
struct ShortText([u8; 16]);

fn short_text(text: &str, room: &mut ShortText) -> Datum {
    let length = text.len().min(room.0.len() - 1);
    room.0[1..=length].copy_from_slice(&text.as_bytes()[..length]);
    let with_header = (length + 1) as u8;
    room.0[0] =
        if cfg!(target_endian = "little") { (with_header << 1) | 1 } else { with_header | 0x80 };
    Datum::from(room.0.as_ptr())
}

/// A palloc'd text.
pub fn text(text: &str) -> Datum {
    let length = i32::try_from(text.len()).unwrap_or(0);
    // SAFETY: copies `length` bytes. Our own words are ASCII, so right in every encoding.
    Datum::from(unsafe { pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), length) })
}

/// A palloc'd uuid.
pub fn uuid(bytes: [u8; 16]) -> Datum {
    // SAFETY: 16 fresh bytes.
    unsafe {
        let copy: *mut [u8; 16] = pg_sys::palloc(bytes.len()).cast();
        copy.write(bytes);
        Datum::from(copy)
    }
}

/// A uuid as SQL shows it.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-")
}

fn interval(micros: Micros) -> Datum {
    // SAFETY: a fresh, fully initialised interval.
    unsafe {
        let copy: *mut pg_sys::Interval = pg_sys::palloc(size_of::<pg_sys::Interval>()).cast();
        copy.write(pg_sys::Interval { time: micros, day: 0, month: 0 });
        Datum::from(copy)
    }
}
