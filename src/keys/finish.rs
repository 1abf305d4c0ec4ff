//! `idempotent_complete`, `idempotent_fail`, `idempotent_release`: the end of a claim.

use crate::keys::call::Call;
use crate::keys::observe::{self, Keyless, take_at_once};
use crate::keys::settle::absent_row;
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::{jsonb, varlena};
use crate::pg::lock::{self, KeyLock};
use crate::pg::{clock, snapshot};
use crate::session::claims::{self, Status};
use crate::session::counts;
use crate::settings;
use crate::stats::Counter;
use crate::tables::records::row::{Found, Row, column};
use crate::tables::records::table::{Locked, Records};
use pgrx::pg_sys::Datum;
use rules::dating::{self, Age};
use rules::error::{Error, Result};
use rules::finish::{
    FenceVerdict, check_fence, fence_error, finished_before_error, other_answer_error,
};
use rules::policy::Mode;
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

pub fn idempotent_complete(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_complete()");
    finish(args, false)
}

pub fn idempotent_fail(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_fail()");
    finish(args, true)
}

fn finish(args: &Args, failed: bool) -> Returned {
    let mut call = match Call::new(args.text(0), args.text(1), args.text(4)) {
        Ok(call) => call,
        Err(error) => return Keyless::instead_of(error, args.text(0)).map(|_| args.datum(2)),
    };
    let stored = Stored {
        failed,
        status: args.int4(3),
        headers: args.datum(6),
        response: args.datum(2),
        body: args.datum(7),
        retention: args.duration(8, "retention", 1)?,
    };
    store(&mut call, args.int8(5), &stored)?;
    Ok(stored.response)
}

/// What became of a stored answer.
#[derive(Clone, Copy)]
pub struct Kept {
    pub expires_at: Timestamp,
    /// Too large: recorded without its body.
    pub evicted: bool,
}

impl Kept {
    /// The answer of who holds nothing is not stored.
    pub fn nothing() -> Self {
        Self { expires_at: clock::now(), evicted: false }
    }
}

impl Stored {
    pub fn counter(&self) -> Counter {
        if self.failed { Counter::Failed } else { Counter::Completed }
    }
}

/// Stores the answer of a key that the caller has claimed.
pub fn store(call: &mut Call<'_>, fence: Option<i64>, stored: &Stored) -> Result<Kept> {
    let done = store_as_holder(call, fence, stored);
    observe::finished(call, fence, done, Kept::nothing)
}

fn store_as_holder(call: &mut Call<'_>, fence: Option<i64>, stored: &Stored) -> Result<Kept> {
    let records = call.open_to_write()?;
    let id = call.owner.id;
    let claim = claims::get(id);
    if let Some(claim) = claim.filter(|claim| claim.status.is_passing())
        && fence.is_none()
    {
        return observe::store_if_free(call, &records, &claim, stored);
    }
    if let Some(claim) = claim.filter(|claim| claim.status == Status::Open) {
        refuse_fence(call, fence)?;
        if claim.spilled {
            delete_placeholder(call, &records)?;
        }
        if claim.over_absent {
            delete_absent(call, &records)?;
        }
        let (mut row, kept) = answer_row(call, stored, claim.first_sent);
        row.set_fingerprint(claim.fingerprint.as_ref());
        if claim.attempt > 1 {
            row.set(column::ATTEMPT, Some(Datum::from(claim.attempt)));
        }
        records.insert(&call.owner, &row)?;
        claims::close(id, Status::Finished)?;
        counts::count(&call.tally, stored.counter(), 1);
        return Ok(kept);
    }
    let kept = match take_by_fence(call, &records, fence)? {
        Held::Leased(found, _lock) => {
            let (mut row, kept) = answer_row(call, stored, None);
            for column in [
                column::FINGERPRINT,
                column::FINGERPRINT_VERSION,
                column::FENCE,
                column::ATTEMPT,
                column::ATTEMPT_ID,
                column::CLAIMED_AT,
            ] {
                row.set(column, found.row.get(column));
            }
            records.insert(&call.owner, &row)?;
            counts::count(&call.tally, stored.counter(), 1);
            kept
        }
        Held::Finished(found) if !found.record.mine => {
            return Err(finished_before_error(&call.owner.identity));
        }
        Held::Finished(found) if is_same_answer(&found, stored) => {
            Kept { expires_at: found.record.expires_at, evicted: found.evicted(clock::now()) }
        }
        Held::Finished(_) => return Err(other_answer_error(&call.owner.identity)),
    };
    Ok(kept)
}

pub fn idempotent_release(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_release()");
    let released = match Call::new(args.text(0), args.text(1), args.text(2)) {
        Ok(mut call) => release(&mut call, args.int8(3))?,
        Err(error) => Keyless::instead_of(error, args.text(0)).map(|_| true)?,
    };
    Ok(Some(Datum::from(released)))
}

fn release(call: &mut Call<'_>, fence: Option<i64>) -> Result<bool> {
    let done = release_as_holder(call, fence);
    observe::finished(call, fence, done, || true)
}

fn release_as_holder(call: &mut Call<'_>, fence: Option<i64>) -> Result<bool> {
    let records = call.open_to_write()?;
    let id = call.owner.id;
    let claim = claims::get(id);
    if let Some(claim) = claim.filter(|claim| claim.status.is_passing())
        && fence.is_none()
    {
        if claim.status == Status::Passed {
            claims::close(id, Status::Released)?;
        }
        return Ok(true);
    }
    if let Some(claim) = claim.filter(|claim| claim.status == Status::Open) {
        refuse_fence(call, fence)?;
        if claim.spilled {
            delete_placeholder(call, &records)?;
        }
        keep_settlement(call, &records, claim.spilled || claim.attempt > 1)?;
        // The lock stays: what this transaction wrote for the key is not yet undone.
        claims::close(id, Status::Released)?;
        counts::count(&call.tally, Counter::Released, 1);
        return Ok(true);
    }
    Ok(match take_by_fence(call, &records, fence)? {
        Held::Leased(..) => {
            keep_settlement(call, &records, true)?;
            counts::count(&call.tally, Counter::Released, 1);
            true
        }
        Held::Finished(_) => false,
    })
}

/// A key whose record was lost was claimed because somebody had found out that it may run. Its row
/// stood in the place of that settlement, and with the row gone the key would be unknown again.
fn keep_settlement(call: &Call<'_>, records: &Records, row_is_gone: bool) -> Result<()> {
    let is_lost = || matches!(call.age(records, None, clock::now()), Age::Lost { .. });
    if row_is_gone && is_lost() {
        records.insert(&call.owner, &absent_row(call))?;
    }
    Ok(())
}

/// A claim held by the transaction has no fence; whoever brings one means another claim.
fn refuse_fence(call: &Call<'_>, fence: Option<i64>) -> Result<()> {
    match fence {
        None => Ok(()),
        given => Err(refusal(call, &FenceVerdict::Stale { current: None }, given)),
    }
}

pub fn refusal(call: &Call<'_>, verdict: &FenceVerdict, fence: Option<i64>) -> Error {
    fence_error(verdict, &call.owner.identity, fence)
        .unwrap_or_else(|| other_answer_error(&call.owner.identity))
}

fn delete_placeholder(call: &Call<'_>, records: &Records) -> Result<()> {
    if let Some(found) = records.find(&call.owner)?.filter(|found| found.record.mine) {
        records.delete(&found);
    }
    Ok(())
}

/// The record that counted as absent when the key was claimed, unless a sweep was faster. One that
/// somebody has made count since, past the lock, stays: the insert will run into it.
fn delete_absent(call: &Call<'_>, records: &Records) -> Result<()> {
    let absent =
        |found: &Found| found.record.expired(clock::now()) || found.record.state == State::Absent;
    if let Some(found) = records.find(&call.owner)?.filter(absent) {
        records.delete(&found);
    }
    Ok(())
}

/// What a caller holds who is not the transaction that claimed.
pub enum Held {
    /// A lease that lasts, by its fence. Its row is deleted, for the one that takes its place.
    ///
    /// With it comes the key's lock, needed until that row is written: from then on others see the
    /// record being written, and a transaction may finish any number of leases.
    Leased(Box<Found>, KeyLock),
    /// Finished already, under this very claim.
    Finished(Box<Found>),
}

/// Checks the fence under the record's lock, and takes the leased row.
///
/// # Errors
/// ID003 for a fence that is missing, stale, lapsed or lost; ID007 without a claim.
pub fn take_by_fence(call: &Call<'_>, records: &Records, fence: Option<i64>) -> Result<Held> {
    if call.policy.mode == Mode::Observe {
        return take_at_once(call, records, fence);
    }
    loop {
        let (lock, found) = if fence.is_none() {
            // Without a fence nothing of another transaction's can be held, so there is nothing
            // to wait for.
            (None, records.find(&call.owner)?.map(Box::new))
        } else {
            let (lock, found) = find_under_lock(call, records)?;
            (Some(lock), found)
        };
        let record = found.as_ref().map(|found| &found.record);
        match (check_fence(record, fence, clock::now()), found, lock) {
            (FenceVerdict::Valid, Some(found), Some(lock)) => {
                if !records.delete(&found) {
                    // Deleted meanwhile by somebody without the lock: what is there now decides.
                    continue;
                }
                if found.record.lapsed(clock::now()) {
                    return Err(refusal(call, &FenceVerdict::Lapsed, fence));
                }
                return Ok(Held::Leased(found, lock));
            }
            (FenceVerdict::AlreadyFinished, Some(found), _) => return Ok(Held::Finished(found)),
            (verdict, ..) => return Err(refusal(call, &verdict, fence)),
        }
    }
}

/// The key's lock, and the record if there is one.
pub type Locking = (KeyLock, Option<Box<Found>>);

pub fn find_under_lock(call: &Call<'_>, records: &Records) -> Result<Locking> {
    loop {
        let lock = KeyLock::acquire(call.owner.id);
        match records.find_locked(&call.owner)? {
            // A sweep that evicts takes no lock, and a row it replaces during the look can be
            // missed in both places: to lose a claim over that would be a pity.
            Locked::Nothing => {
                let found = records.find(&call.owner)?;
                return Ok((lock, found.map(Box::new)));
            }
            Locked::Found(found) => return Ok((lock, Some(found))),
            Locked::BeingWritten(xid) => {
                drop(lock);
                lock::transaction_ends(xid);
            }
        }
    }
}

/// The row of a finished record; an answer that is too large leaves its body out.
pub fn answer_row(call: &Call<'_>, stored: &Stored, first_sent: Option<Timestamp>) -> (Row, Kept) {
    let now = clock::now();
    let expires_at = expires_at(call, stored, first_sent, now);
    let mut row = Row::new(&call.owner);
    row.set_state(if stored.failed { State::Failed } else { State::Completed });
    row.set(column::STATUS, stored.status.map(Datum::from));
    row.set_time(column::FINISHED_AT, now);
    row.set_time(column::EXPIRES_AT, expires_at);
    row.set_time(column::SWEEP_AT, sweep_at(call, now, expires_at));
    let evicted = is_too_large(call, stored);
    if evicted {
        row.set(column::EVICTED, Some(Datum::from(true)));
    } else {
        row.set(column::HEADERS, stored.headers);
        row.set(column::RESPONSE, stored.response);
        row.set(column::BODY, stored.body);
    }
    (row, Kept { expires_at, evicted })
}

fn expires_at(
    call: &Call<'_>,
    stored: &Stored,
    first_sent: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    match stored.retention {
        Some(retention) => now.saturating_add(retention),
        // A failure is kept for a while, so that the key may run again.
        None if stored.failed => now.saturating_add(call.policy.failure_retention),
        None => {
            let sent = dating::sent(first_sent, call.owner.identity.key(), now);
            dating::kept_until(sent, now, call.policy.retention, settings::clock_skew())
        }
    }
}

fn sweep_at(call: &Call<'_>, now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let evict_at = call.policy.response_retention.map(|kept| now.saturating_add(kept));
    evict_at
        .filter(|evict_at| *evict_at < expires_at)
        .unwrap_or_else(|| retention::after(expires_at, now))
}

/// An oversize answer must never lead to a second execution: the record is kept without it.
fn is_too_large(call: &Call<'_>, stored: &Stored) -> bool {
    let limit = call.policy.largest_answer();
    let parts = [stored.headers, stored.response, stored.body];
    // SAFETY: all three are varlena types.
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

fn is_same_answer(found: &Found, stored: &Stored) -> bool {
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
    // SAFETY: both are declared jsonb.
    unsafe { jsonb::equal(left, right) }
}

fn bytes_equal(left: Datum, right: Datum) -> bool {
    // SAFETY: both are declared bytea.
    unsafe { varlena::equal(left, right) }
}
