//! Operations that are only observed (`mode => 'observe'`): every call goes through, and what it
//! would have been answered is counted, and sampled.
//!
//! The first call holds the key as ever, so that the next are recognised, and stores the answer. A
//! call that would have been answered otherwise is told `claimed`, too, and is *let through*: it holds
//! nothing, its answer is stored only if no other is there, and it waits for no session.
//!
//! This file drives the binding protocol (`claim`, `finish`, `lease`), which knows nothing of it.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::claim::{self, Terms};
use crate::keys::decision::{Decision, Opened};
use crate::keys::finish::{self, Successor, Taken, refusal};
use crate::keys::held_by::NoRoom;
use crate::keys::lease;
use crate::keys::request::Request;
use crate::keys::stored::{Recorded, Stored, answer_row};
use crate::pg::clock;
use crate::pg::limit::Limit;
use crate::pg::lock::{self, KeyLock};
use crate::pg::wait_event::Sleep;
use crate::session::claims::{self, Claim, Status};
use crate::session::counts;
use crate::session::observed::{self, Answered};
use crate::session::undo::NOWHERE;
use crate::stats::{Counter, Tally, samples};
use crate::tables::fences;
use crate::tables::hold::{self, AtOnce, Patience, hold};
use crate::tables::records::row::{Found, Row};
use crate::tables::records::table::Records;
use pgrx::pg_sys;
use rules::Micros;
use rules::claim::Verdict;
use rules::error::{Code, Error, Result};
use rules::finish::{FenceVerdict, check_fence};
use rules::identity::RecordId;
use rules::observe::Observed;
use rules::outcome::Outcome;
use rules::request::fingerprint::Fingerprint;

/// A call that is only observed may forget to complete, and must not leave a placeholder.
const TERMS: Terms = Terms { no_room: NoRoom::LetThrough, guarded: false };

/// Opens the table for a claim, or lets the caller do the work without: no call that is only observed waits.
pub fn open(call: &mut Call<'_>, lease: Option<Micros>) -> Result<Opened> {
    match open_at_once(call)? {
        Some(records) => Ok(Opened::Records(records)),
        None => {
            count(call, Observed::Concurrent);
            let verdict = Verdict::Claim { attempt: 1, takeover: false };
            let lease = call.allowed_lease(lease)?.or(call.policy.lease);
            let answer = claimed(holding_nothing(None, lease)?);
            Ok(Opened::InTheWay(Decision { verdict, answer, let_through: true }))
        }
    }
}

fn open_at_once(call: &mut Call<'_>) -> Result<Option<Records>> {
    let _limit = Limit::begin(0);
    match call.open_to_write() {
        Ok(records) => Ok(Some(records)),
        Err(error) if error.code == Code::InProgress => Ok(None),
        Err(error) => Err(error),
    }
}

/// Claims the key if it is free, and lets the caller do the work if it is not.
pub fn claim(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    let id = call.owner.id;
    let again =
        || Ok(Decision { verdict: Verdict::Held, answer: answer(id, request)?, let_through: true });
    if let_through_before(id, request).is_some() {
        return again();
    }
    if let Some(own) = claims::get(id).filter(|own| own.status.is_unfinished()) {
        let asked = call.asked(request.fingerprint, request.document, own.fingerprint)?;
        if own.fingerprint != asked {
            return let_through(call, request, Observed::Mismatch);
        }
        if own.status != Status::Open {
            return again();
        }
    }
    let at_once = Request { wait: 0, ..*request };
    let decision = match claim::claim(call, records, &at_once, TERMS) {
        Ok(decision) => decision,
        // Another session was faster, and the transaction's snapshot does not show it.
        Err(error) if error.code == Code::SerializationFailure => {
            return let_through(call, request, Observed::Concurrent);
        }
        Err(error) => return Err(error),
    };
    match Observed::of(decision.verdict) {
        None => Ok(decision),
        Some(Observed::First) => {
            count(call, Observed::First);
            if decision.let_through {
                claims::open(id, &call.owner.identity, claim_of(request))?;
            }
            Ok(decision)
        }
        Some(observed) => let_through(call, request, observed),
    }
}

/// Would have been answered otherwise, and does the work all the same.
fn let_through(call: &Call<'_>, request: &Request, observed: Observed) -> Result<Decision> {
    count(call, observed);
    // With a lease the work outlives the transaction, what is remembered does not, and a fence tells
    // whose answer comes.
    let id = call.owner.id;
    if request.lease.is_none() {
        match claims::get(id) {
            None => claims::open(id, &call.owner.identity, claim_of(request))?,
            Some(own) if own.status.is_unfinished() => claims::close(id, Status::Ambiguous)?,
            Some(_) => {}
        }
    }
    let verdict = Verdict::Claim { attempt: 1, takeover: false };
    Ok(Decision { verdict, answer: answer(id, request)?, let_through: true })
}

/// What is remembered of a call that is let through.
fn claim_of(request: &Request) -> Claim {
    Claim {
        status: Status::LetThrough,
        fingerprint: request.fingerprint,
        attempt: 1,
        checkpoint: None,
        lockless: true,
        locked_in: NOWHERE,
        first_sent: request.first_sent,
        replaces_absent: false,
        guarded: false,
    }
}

fn let_through_before(id: RecordId, request: &Request) -> Option<Answered> {
    observed::get(id).filter(|before| before.fingerprint == request.fingerprint)
}

/// What a call that is let through is answered. Asking again is answered the same, with the fence of the
/// first that wanted a lease.
fn answer(id: RecordId, request: &Request) -> Result<Answer> {
    let before = let_through_before(id, request);
    let answered = match before.filter(|before| before.fence.is_some() || request.lease.is_none()) {
        Some(before) => before,
        None => {
            let first = holding_nothing(request.fingerprint, request.lease)?;
            observed::remember(id, first)?;
            first
        }
    };
    Ok(claimed(answered))
}

/// A claim that holds nothing; with a lease it has a fence all the same, which no other has.
pub fn holding_nothing(
    fingerprint: Option<Fingerprint>,
    lease: Option<Micros>,
) -> Result<Answered> {
    let fence = lease.map(|_| fences::next(None)).transpose()?;
    let expires_at = lease.map(|lease| clock::now().saturating_add(lease));
    Ok(Answered { fingerprint, fence, expires_at })
}

pub fn claimed(Answered { fence, expires_at, .. }: Answered) -> Answer {
    Answer { attempt: Some(1), fence, expires_at, ..Answer::of(Outcome::Claimed) }
}

fn count(call: &Call<'_>, observed: Observed) {
    let identity = &call.owner.identity;
    let parts = [identity.operation(), identity.scope(), identity.key()];
    note(&call.tally, observed, parts);
}

pub fn note(tally: &Tally, observed: Observed, parts: [&[u8]; 3]) {
    tally.add(Counter::of_observed(observed), 1);
    if observed.is_sampled() {
        samples::keep(observed, clock::now(), parts);
    }
}

/// The claim of a call that was let through, and that comes back without a fence.
fn claim_let_through(call: &Call<'_>, fence: Option<i64>) -> Option<Claim> {
    claims::get(call.owner.id).filter(|claim| claim.status.is_let_through() && fence.is_none())
}

/// Stores the answer of a call that is only observed.
pub fn store(call: &mut Call<'_>, fence: Option<i64>, stored: &Stored) -> Result<Recorded> {
    let Some(records) = open_at_once(call)? else { return Ok(Recorded::nothing()) };
    let done = match claim_let_through(call, fence) {
        Some(claim) => store_if_free(call, &records, &claim, stored),
        None => finish::store(call, &records, fence, stored, take_at_once),
    };
    finished(call, fence, done, Recorded::nothing)
}

/// Gives back the key of a call that is only observed.
pub fn release(call: &mut Call<'_>, fence: Option<i64>) -> Result<bool> {
    let Some(records) = open_at_once(call)? else { return Ok(true) };
    let done = match claim_let_through(call, fence) {
        Some(claim) if claim.status == Status::LetThrough => {
            claims::close(call.owner.id, Status::Released).map(|()| true)
        }
        Some(_) => Ok(true),
        None => finish::release(call, &records, fence, take_at_once),
    };
    finished(call, fence, done, || true)
}

/// What a call that is only observed changes of a lease; `as_if` if it held none.
pub fn change<T>(
    call: &mut Call<'_>,
    fence: Option<i64>,
    change: impl Fn(&mut Row) -> T,
    as_if: impl FnOnce() -> T,
) -> Result<T> {
    let Some(records) = open_at_once(call)? else { return Ok(as_if()) };
    lease::change(call, &records, fence, take_at_once, change)
        .or_else(|error| if forgives(&error) { Ok(as_if()) } else { Err(error) })
}

/// What `idempotent_run` still has to do with the answer of its handler.
pub enum Left {
    /// The handler's answer is another call's to store, or not stored at all.
    Nothing,
    /// An answer is stored already: that is the one.
    Stored,
    ToStore,
}

/// What a handler has left, whose call was let through or held the key.
pub fn left(call: &Call<'_>, let_through: bool, fence: Option<i64>) -> Left {
    let id = call.owner.id;
    match claims::get(id).map(|claim| claim.status) {
        // Beside a claim that is another call's: what is stored, or will be, is its answer.
        status if let_through && status != Some(Status::LetThrough) => {
            observed::forget(id, fence);
            Left::Nothing
        }
        Some(Status::Finished) => Left::Stored,
        // The handler gave the key back, or used it for another request.
        Some(Status::Released | Status::Ambiguous) => Left::Nothing,
        Some(Status::Open | Status::LetThrough) | None => Left::ToStore,
    }
}

/// Stores the answer of a call that was let through, if there is no other and no other session is at it.
fn store_if_free(
    call: &Call<'_>,
    records: &Records,
    claim: &Claim,
    stored: &Stored,
) -> Result<Recorded> {
    if claim.status == Status::Ambiguous {
        return Ok(Recorded::nothing());
    }
    let (mut row, kept) = answer_row(call, stored, claim.first_sent);
    row.set_fingerprint(claim.fingerprint.as_ref());
    let id = call.owner.id;
    let look = || records.find_locked(&call.owner);
    if let Some(Some(held)) = newest(hold(lock::tag(id), &AtOnce, look).map(Some))?
        && is_free(records, held.row.as_deref())
    {
        records.insert(&call.owner, &row)?;
        counts::count(&call.tally, stored.counter(), 1);
    }
    claims::close(id, Status::Finished)?;
    Ok(kept)
}

fn is_free(records: &Records, found: Option<&Found>) -> bool {
    found.is_none_or(|found| {
        found.record.expired(clock::now()) && records.delete_within(found, 0) == Some(true)
    })
}

/// Like `finish::take_by_fence`, for a call that is forgiven if it fails: it waits for no session, and
/// deletes nothing that it does not take.
///
/// # Errors
/// As `take_by_fence`; a stale fence also where another session is at the key.
fn take_at_once(
    call: &Call<'_>,
    records: &Records,
    fence: Option<i64>,
    successor: &Successor<'_>,
) -> Result<Taken> {
    let judge = |found: Option<&Found>| {
        let record = found.map(|found| &found.record);
        match check_fence(record, fence, clock::now()) {
            FenceVerdict::Valid if fence.is_none() => FenceVerdict::NoClaim,
            verdict => verdict,
        }
    };
    // Without the lock this is only a glance, but a caller that sees another fence there has lost.
    let glance = newest(records.find(&call.owner))?;
    match (judge(glance.as_ref()), glance) {
        (FenceVerdict::Valid, _) => {}
        (FenceVerdict::AlreadyFinished, Some(found)) => {
            return Ok(Taken::Finished(Box::new(found)));
        }
        (verdict, _) => return Err(refusal(call, &verdict, fence)),
    }
    let look = || records.find_locked(&call.owner);
    let held = newest(hold(lock::tag(call.owner.id), &InAMoment, look).map(Some))?.flatten();
    if let Some(hold::Held { lock, row: Some(found) }) = held
        && judge(Some(&found)) == FenceVerdict::Valid
        && match successor(&found) {
            Some(row) => records.replace(&call.owner, &found, &row, false)?,
            None => records.delete_within(&found, 0) == Some(true),
        }
    {
        return Ok(Taken::Leased(found, lock));
    }
    Err(refusal(call, &FenceVerdict::Stale { current: None }, fence))
}

/// What is newer than the transaction's snapshot is another's, and so as good as nothing.
fn newest<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(error) if error.code == Code::SerializationFailure => Ok(None),
        found => found,
    }
}

/// For the lock of a key with a lease that lasts. Another session that has it only glances at the lease,
/// so it is tried a few times; the lock manager's queue, in which there are deadlocks, is not entered.
struct InAMoment;

impl Patience for InAMoment {
    fn lock(&self, tag: pg_sys::LOCKTAG) -> Option<KeyLock> {
        const NAPS: u32 = 20;
        const NAP: Micros = 1_000;
        KeyLock::try_acquire(tag).or_else(|| {
            (0..NAPS).find_map(|_| {
                clock::sleep(NAP, Sleep::Lease);
                KeyLock::try_acquire(tag)
            })
        })
    }

    fn transaction_ends(&self, _: pg_sys::TransactionId) -> bool {
        false
    }
}

/// What becomes of a call that finishes a claim: a call that was only let through holds nothing, and what it
/// brings is not needed.
fn finished<T>(
    call: &Call<'_>,
    fence: Option<i64>,
    done: Result<T>,
    as_if: impl FnOnce() -> T,
) -> Result<T> {
    observed::forget(call.owner.id, fence);
    match done {
        Err(error) if forgives(&error) => Ok(as_if()),
        done => done,
    }
}

/// Whether a refusal to finish is forgiven: a call that was let through with a lease comes back with a fence that
/// no other call was given, and may find anything; so does one that was let through without the scope that it needs.
fn forgives(error: &Error) -> bool {
    matches!(error.code, Code::Fence | Code::NoClaim | Code::BadKey)
}
