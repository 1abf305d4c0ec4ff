//! What a finished key leaves: the answer, its row, and the rows of settlements.

use crate::keys::call::Call;
use crate::pg::clock;
use crate::pg::datum::{jsonb, varlena};
use crate::settings;
use crate::stats::Counter;
use crate::tables::records::row::{Found, Row, column, outlive_the_body};
use pgrx::pg_sys::Datum;
use rules::record::State;
use rules::{Micros, Timestamp, retention};

/// An answer to store.
#[derive(Clone, Copy, Default)]
pub struct Stored {
    pub failed: bool,
    pub status: Option<i32>,
    pub headers: Option<Datum>,
    pub response: Option<Datum>,
    pub body: Option<Datum>,
    /// `None`: as the operation says.
    pub retention: Option<Micros>,
}

/// What became of a stored answer.
#[derive(Clone, Copy)]
pub struct Recorded {
    pub expires_at: Timestamp,
    /// Too large: recorded without its body.
    pub evicted: bool,
}

impl Recorded {
    /// The answer of a caller that holds nothing is not stored.
    pub fn nothing() -> Self {
        Self { expires_at: clock::now(), evicted: false }
    }
}

impl Stored {
    pub fn counter(&self) -> Counter {
        if self.failed { Counter::Failed } else { Counter::Completed }
    }
}

/// The row of a finished record; an answer that is too large leaves its body out.
pub fn answer_row(
    call: &Call<'_>,
    stored: &Stored,
    first_sent: Option<Timestamp>,
) -> (Row, Recorded) {
    let now = clock::now();
    let dates = call.dates(first_sent);
    let (failed, given) = (stored.failed, stored.retention);
    let skew = settings::clock_skew();
    let expires_at = retention::answer_expires(&call.policy, failed, given, dates, now, skew);
    let mut row = Row::new(&call.owner);
    row.set_state(if stored.failed { State::Failed } else { State::Completed });
    row.set(column::STATUS, stored.status.map(Datum::from));
    row.set_time(column::FINISHED_AT, now);
    row.set_time(column::EXPIRES_AT, expires_at);
    row.set_time(column::SWEEP_AT, retention::answer_due(&call.policy, now, expires_at));
    let evicted = is_too_large(call, stored);
    let headers = stored.headers.filter(|headers| !evicted || outlive_the_body(*headers));
    row.set(column::HEADERS, headers);
    if evicted {
        row.set(column::EVICTED, Some(Datum::from(true)));
    } else {
        row.set(column::RESPONSE, stored.response);
        row.set(column::BODY, stored.body);
    }
    (row, Recorded { expires_at, evicted })
}

/// An oversize answer must never lead to a second execution: the record is kept without it.
fn is_too_large(call: &Call<'_>, stored: &Stored) -> bool {
    let limit = call.policy.largest_answer();
    let parts = [stored.headers, stored.response, stored.body];
    // SAFETY: headers and response are declared jsonb, body bytea: all three are varlenas.
    let size: usize =
        parts.into_iter().flatten().map(|part| unsafe { varlena::raw_size(part) }).sum();
    if size <= limit {
        return false;
    }
    pgrx::ereport!(
        pgrx::PgLogLevel::NOTICE,
        pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("the answer of {size} bytes is recorded without its body"),
        format!(
            "{} is {limit}. Replays will say so with evicted; the work is not done again.",
            call.policy.limit_of_answers()
        )
    );
    true
}

pub fn is_same_answer(found: &Found, stored: &Stored) -> bool {
    let same_head =
        (found.record.state == State::Failed) == stored.failed && found.status() == stored.status;
    // What is gone cannot be compared; that it was stored under this claim is enough.
    same_head
        && (found.evicted(clock::now())
            || (same(found.row.get(column::RESPONSE), stored.response, json_equal)
                && same(found.row.get(column::HEADERS), stored.headers, json_equal)
                && same(found.row.get(column::BODY), stored.body, bytes_equal)))
}

fn same(left: Option<Datum>, right: Option<Datum>, equal: fn(Datum, Datum) -> bool) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => equal(left, right),
        _ => false,
    }
}

fn json_equal(left: Datum, right: Datum) -> bool {
    // SAFETY: both callers compare a column of the record with an argument, both declared jsonb.
    unsafe { jsonb::equal(left, right) }
}

fn bytes_equal(left: Datum, right: Datum) -> bool {
    // SAFETY: the caller compares the record's body with the argument, both declared bytea.
    unsafe { varlena::equal(left, right) }
}

/// The row of a sealed key. It never expires: what is decided for good must not run after the retention.
pub fn sealed_row(call: &Call<'_>) -> Row {
    let mut row = Row::new(&call.owner);
    row.set_state(State::Sealed);
    row.set_time(column::FINISHED_AT, clock::now());
    row.set_time(column::EXPIRES_AT, Timestamp::MAX);
    row.set_time(column::SWEEP_AT, Timestamp::MAX);
    row
}

/// The row of a key of which it was found out that it may run: once more, until the key's own date refuses it.
pub fn absent_row(call: &Call<'_>) -> Row {
    let now = clock::now();
    let until = retention::absent_expires(&call.policy, now, settings::clock_skew());
    let mut row = Row::new(&call.owner);
    row.set_state(State::Absent);
    row.set_time(column::FINISHED_AT, now);
    row.set_time(column::EXPIRES_AT, until);
    row.set_time(column::SWEEP_AT, until);
    row
}
