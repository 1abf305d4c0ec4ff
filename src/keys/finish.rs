//! The end of a claim: the answer is stored, or the key is given back.

use crate::keys::call::Call;
use crate::keys::stored::{Recorded, Stored, absent_row, answer_row, is_same_answer};
use crate::pg::lock::KeyLock;
use crate::pg::{clock, lock};
use crate::session::claims::{self, Claim, Status};
use crate::session::counts;
use crate::stats::Counter;
use crate::tables::hold::{self, AsLongAsItTakes, hold};
use crate::tables::own;
use crate::tables::records::row::{Found, Row, column};
use crate::tables::records::table::Records;
use pgrx::pg_sys::Datum;
use rules::dating::Age;
use rules::error::{Error, Result};
use rules::finish::{
    FenceVerdict, check_fence, fence_error, finished_before_error, other_answer_error,
};
use rules::record::State;

/// Stores the answer of a key that the caller has claimed; `take` takes the row of a lease.
///
/// # Errors
/// Those of `take`; ID003 if the key is held by the transaction, and a fence is given.
pub fn store(
    call: &Call<'_>,
    records: &Records,
    fence: Option<i64>,
    stored: &Stored,
    take: Take,
) -> Result<Recorded> {
    if let Some(claim) = begin_to_finish(call, records, fence)? {
        if claim.replaces_absent {
            delete_absent(call, records)?;
        }
        let (mut row, kept) = answer_row(call, stored, claim.first_sent);
        row.set_fingerprint(claim.fingerprint.as_ref());
        if claim.attempt > 1 {
            row.set(column::ATTEMPT, Some(Datum::from(claim.attempt)));
        }
        records.insert(&call.owner, &row)?;
        claims::close(call.owner.id, Status::Finished)?;
        counts::count(&call.tally, stored.counter(), 1);
        return Ok(kept);
    }
    let kept = match take(call, records, fence, &nothing)? {
        Taken::Leased(found, _lock) => {
            let (mut row, kept) = answer_row(call, stored, found.first_sent());
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
        Taken::Finished(found) if !found.record.mine => {
            return Err(finished_before_error(&call.owner.identity));
        }
        Taken::Finished(found) if is_same_answer(&found, stored) => {
            Recorded { expires_at: found.record.expires_at, evicted: found.evicted(clock::now()) }
        }
        Taken::Finished(_) => return Err(other_answer_error(&call.owner.identity)),
    };
    Ok(kept)
}

/// Gives a key back that the caller has claimed; `take` takes the row of a lease.
///
/// # Errors
/// Like `store`.
pub fn release(call: &Call<'_>, records: &Records, fence: Option<i64>, take: Take) -> Result<bool> {
    if let Some(claim) = begin_to_finish(call, records, fence)? {
        keep_settlement(call, records, claim.lockless || claim.attempt > 1)?;
        // The lock stays: what this transaction wrote for the key is not yet undone.
        claims::close(call.owner.id, Status::Released)?;
        counts::count(&call.tally, Counter::Released, 1);
        return Ok(true);
    }
    Ok(match take(call, records, fence, &nothing)? {
        Taken::Leased(..) => {
            keep_settlement(call, records, true)?;
            counts::count(&call.tally, Counter::Released, 1);
            true
        }
        Taken::Finished(_) => false,
    })
}

/// The claim that the transaction holds and has not finished, with its placeholder row deleted; `None` if
/// there is none.
///
/// # Errors
/// ID003 if a fence is given.
fn begin_to_finish(
    call: &Call<'_>,
    records: &Records,
    fence: Option<i64>,
) -> Result<Option<Claim>> {
    let claim = claims::get(call.owner.id).filter(|claim| claim.status == Status::Open);
    if let Some(claim) = claim {
        refuse_fence(call, fence)?;
        if claim.lockless {
            delete_placeholder(call, records)?;
        }
    }
    Ok(claim)
}

/// A key whose record was lost was claimed because an administrator had found out that it may run. Its row
/// stood in the place of that settlement, and with the row gone the key would be unknown again.
fn keep_settlement(call: &Call<'_>, records: &Records, row_is_gone: bool) -> Result<()> {
    let is_lost = || matches!(call.age(records, None, clock::now()), Age::Lost { .. });
    if row_is_gone && is_lost() {
        records.insert(&call.owner, &absent_row(call))?;
    }
    Ok(())
}

/// A claim held by the transaction has no fence; a caller that brings one means another claim.
fn refuse_fence(call: &Call<'_>, fence: Option<i64>) -> Result<()> {
    match fence {
        None => Ok(()),
        given => Err(refusal(call, &FenceVerdict::Stale { current: None }, given)),
    }
}

pub fn refusal(call: &Call<'_>, verdict: &FenceVerdict, fence: Option<i64>) -> Error {
    let identity = &call.owner.identity;
    // Nothing is known of it here, because it is another node's.
    if let Err(error) = own::check(identity.scope(), identity.key()) {
        return error;
    }
    // Nor is anything known of a key whose scope was forgotten, while what was claimed without one goes on.
    if let FenceVerdict::NoClaim | FenceVerdict::Stale { current: None } = verdict
        && let Err(error) = call.check_scope()
    {
        return error;
    }
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
/// another session has made count since, past the lock, stays: the insert will run into it.
fn delete_absent(call: &Call<'_>, records: &Records) -> Result<()> {
    let absent =
        |found: &Found| found.record.expired(clock::now()) || found.record.state == State::Absent;
    if let Some(found) = records.find(&call.owner)?.filter(absent) {
        records.delete(&found);
    }
    Ok(())
}

/// What a caller holds that is not the transaction that claimed.
pub enum Taken {
    /// A lease that lasts, by its fence. Its row is deleted, or its successor is in its place.
    ///
    /// With it comes the key's lock, needed until that row is written: from then on others see the
    /// record being written, and a transaction may finish any number of leases.
    Leased(Box<Found>, KeyLock),
    /// Finished already, under this very claim.
    Finished(Box<Found>),
}

/// What takes the place of a leased row; `None`: it is deleted.
pub type Successor<'a> = dyn Fn(&Found) -> Option<Row> + 'a;

/// How the row of a lease is taken, by its fence.
pub type Take = fn(&Call<'_>, &Records, Option<i64>, &Successor<'_>) -> Result<Taken>;

/// The successor of a row that another one is inserted for, or none.
pub fn nothing(_: &Found) -> Option<Row> {
    None
}

/// Checks the fence under the record's lock, and takes the leased row.
///
/// # Errors
/// ID003 for a fence that is missing, stale, lapsed or lost; ID007 without a claim.
pub fn take_by_fence(
    call: &Call<'_>,
    records: &Records,
    fence: Option<i64>,
    successor: &Successor<'_>,
) -> Result<Taken> {
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
                let is_taken = match successor(&found) {
                    Some(row) => records.replace(&call.owner, &found, &row, true)?,
                    None => records.delete(&found),
                };
                if !is_taken {
                    // Deleted meanwhile by a session without the lock: what is there now decides.
                    continue;
                }
                if found.record.lapsed(clock::now()) {
                    return Err(refusal(call, &FenceVerdict::Lapsed, fence));
                }
                return Ok(Taken::Leased(found, lock));
            }
            (FenceVerdict::AlreadyFinished, Some(found), _) => return Ok(Taken::Finished(found)),
            (verdict, ..) => return Err(refusal(call, &verdict, fence)),
        }
    }
}

/// The key's lock, and the record if there is one.
pub type Locking = (KeyLock, Option<Box<Found>>);

/// Waits for the key's lock, and for a transaction that is writing the record.
///
/// # Errors
/// As [`Records::find`].
pub fn find_under_lock(call: &Call<'_>, records: &Records) -> Result<Locking> {
    let tag = lock::tag(call.owner.id);
    loop {
        let look = || records.find_locked(&call.owner);
        let Some(hold::Held { lock, row }) = hold(tag, &AsLongAsItTakes, look)? else {
            continue;
        };
        // A sweep that evicts takes no lock, and a row that it replaces during the look can be missed in
        // both places: to lose a claim over that would be a pity.
        let found = match row {
            Some(found) => Some(found),
            None => records.find(&call.owner)?.map(Box::new),
        };
        return Ok((lock, found));
    }
}
