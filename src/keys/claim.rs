//! A claim: the lock first, one look under it; a look without the lock only where another session has it.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::decision::Decision;
use crate::keys::held_by::{HeldBy, NoRoom};
use crate::keys::request::Request;
use crate::keys::waiting::{Waiting, locked_at_once};
use crate::pg::clock;
use crate::pg::lock::KeyLock;
use crate::session::claims::{self, Claim, Status};
use crate::session::undo::NOWHERE;
use crate::settings;
use crate::stats::Counter;
use crate::tables::fences;
use crate::tables::records::row::{Found, Row, column};
use crate::tables::records::table::Records;
use pgrx::pg_sys::Datum;
use rules::claim::Verdict;
use rules::error::Result;
use rules::outcome::Outcome;
use rules::record::State;
use rules::retention::lease_expires;
use rules::{Micros, Timestamp};

/// On which terms a claim is made.
#[derive(Clone, Copy)]
pub struct Terms {
    pub no_room: NoRoom,
    /// Whether the transaction must finish what it claims before it commits.
    pub guarded: bool,
}

/// Claims the key, or says why not.
///
/// Most keys that are claimed are new, so the lock comes first: one look under it decides. Where
/// another session has the lock, a look without it tells whether there is something to wait for.
pub fn claim(
    call: &Call<'_>,
    records: &Records,
    request: &Request,
    terms: Terms,
) -> Result<Decision> {
    if let Some(decision) = held_by_this_transaction(call, request)? {
        return Ok(decision);
    }
    let mut waiting = Waiting::for_up_to(request.wait, &call.tally);
    loop {
        let (lock, found) = match locked_at_once(records, &call.owner)? {
            Some((lock, found)) => (Some(lock), found),
            None => (None, records.find(&call.owner)?),
        };
        let verdict = call.judge(records, found.as_ref(), request)?;
        match verdict {
            Verdict::Claim { .. } => {}
            Verdict::InProgress { .. } if waiting.remaining() > 0 => {
                drop(lock);
                waiting.for_leased(found.as_ref());
                continue;
            }
            _ => return Ok(Decision::new(verdict, found.as_ref())),
        }
        let (lock, found, verdict) = match lock {
            Some(lock) => (lock, found, verdict),
            None => match waiting.lock_and_look(records, &call.owner)? {
                Some((lock, found)) => {
                    let verdict = call.judge(records, found.as_ref(), request)?;
                    (lock, found, verdict)
                }
                None => return told_without_lock(call, records, request),
            },
        };
        if let Verdict::Claim { attempt, .. } = verdict {
            let held_by = HeldBy::of(terms.no_room, request, attempt, found.is_some());
            match held_by.make_room(records, found.as_ref(), &waiting) {
                Some(true) => {
                    let taking = Taking { attempt, held_by, guarded: terms.guarded };
                    return take(call, records, lock, request, found.as_ref(), taking);
                }
                Some(false) => {}
                None => return Ok(Decision::in_progress()),
            }
        }
        // Another session was faster; the next look answers.
    }
}

/// The wait is over and the key still another caller's, which may have finished since the last look.
fn told_without_lock(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    let found = records.find(&call.owner)?;
    Ok(match call.judge(records, found.as_ref(), request)? {
        Verdict::Claim { .. } => Decision::in_progress(),
        other => Decision::new(other, found.as_ref()),
    })
}

/// Claiming is itself idempotent: asking again for one's own claim answers `claimed` again.
fn held_by_this_transaction(call: &Call<'_>, request: &Request) -> Result<Option<Decision>> {
    let Some(claim) = claims::get(call.owner.id).filter(|claim| claim.status == Status::Open)
    else {
        return Ok(None);
    };
    let asked = call.asked(request.fingerprint, request.document, claim.fingerprint)?;
    Ok(Some(if claim.fingerprint == asked {
        Decision::held(claim)
    } else {
        Decision::new(Verdict::Mismatch, None)
    }))
}

/// How a free key becomes the caller's.
#[derive(Clone, Copy)]
struct Taking {
    attempt: i32,
    held_by: HeldBy,
    guarded: bool,
}

/// The key is free and locked: makes it the caller's.
fn take(
    call: &Call<'_>,
    records: &Records,
    lock: KeyLock,
    request: &Request,
    before: Option<&Found>,
    Taking { attempt, held_by, guarded }: Taking,
) -> Result<Decision> {
    let lapsed = before.filter(|_| attempt > 1);
    let checkpoint = lapsed.and_then(|before| before.row.get(column::CHECKPOINT));
    // The caller that sent it later may send it again: the later date keeps the answer for longer.
    let first_sent = request.first_sent.max(lapsed.and_then(Found::first_sent));
    let request = &Request { first_sent, ..*request };
    let taken = Answer { attempt: Some(attempt), checkpoint, ..Answer::of(Outcome::Claimed) };
    if attempt > 1 {
        call.tally.add(Counter::Lapsed, 1);
    }
    let answer = match held_by {
        // From here on the row stands for the claim, seen by others as being inserted.
        HeldBy::Lease(lease) => {
            let last = before.and_then(|before| before.record.fence);
            grant_lease(call, records, request, lease, taken, last)?
        }
        HeldBy::Placeholder => {
            insert_placeholder(call, records, request)?;
            remember(
                call,
                request,
                &taken,
                Memory { lockless: true, replaces_absent: false, guarded },
            )?;
            taken
        }
        HeldBy::Nothing => taken,
        HeldBy::Lock { .. } | HeldBy::Takeover => {
            lock.keep();
            let replaces_absent = matches!(held_by, HeldBy::Lock { replaces_absent: true });
            remember(call, request, &taken, Memory { lockless: false, replaces_absent, guarded })?;
            taken
        }
    };
    let verdict = Verdict::Claim { attempt, takeover: attempt > 1 };
    Ok(Decision { verdict, answer, let_through: matches!(held_by, HeldBy::Nothing) })
}

fn grant_lease(
    call: &Call<'_>,
    records: &Records,
    request: &Request,
    lease: Micros,
    taken: Answer,
    last: Option<i64>,
) -> Result<Answer> {
    let fence = fences::next(last)?;
    let now = clock::now();
    let lease_until = now.saturating_add(lease);
    let mut row = Row::new(&call.owner);
    row.set_state(State::InProgress);
    row.set_fingerprint(request.fingerprint.as_ref());
    row.set(column::FENCE, Some(Datum::from(fence)));
    row.set(column::ATTEMPT, taken.attempt.map(Datum::from));
    let attempt_id = request.attempt_id.as_ref();
    row.set(column::ATTEMPT_ID, attempt_id.map(|id| Datum::from(id.as_ptr())));
    row.set(column::CHECKPOINT, taken.checkpoint);
    row.set_time(column::CLAIMED_AT, now);
    row.set(column::FIRST_SENT, request.first_sent.map(Datum::from));
    row.set_time(column::LEASE_UNTIL, lease_until);
    let dates = call.dates(request.first_sent);
    let expires_at = lease_expires(&call.policy, lease_until, dates, settings::clock_skew());
    row.set_time(column::EXPIRES_AT, expires_at);
    row.set_time(column::SWEEP_AT, expires_at);
    records.insert(&call.owner, &row)?;
    Ok(Answer { fence: Some(fence), expires_at: Some(lease_until), ..taken })
}

fn insert_placeholder(call: &Call<'_>, records: &Records, request: &Request) -> Result<()> {
    let mut row = Row::new(&call.owner);
    row.set_state(State::InProgress);
    row.set_fingerprint(request.fingerprint.as_ref());
    row.set_time(column::EXPIRES_AT, Timestamp::MAX);
    row.set_time(column::SWEEP_AT, Timestamp::MAX);
    records.insert(&call.owner, &row)
}

/// What else is remembered of a claim.
struct Memory {
    lockless: bool,
    replaces_absent: bool,
    guarded: bool,
}

fn remember(call: &Call<'_>, request: &Request, taken: &Answer, memory: Memory) -> Result<()> {
    let claim = Claim {
        status: Status::Open,
        fingerprint: request.fingerprint,
        attempt: taken.attempt.unwrap_or(1),
        checkpoint: taken.checkpoint,
        lockless: memory.lockless,
        locked_in: NOWHERE,
        first_sent: request.first_sent,
        replaces_absent: memory.replaces_absent,
        guarded: memory.guarded,
    };
    claims::open(call.owner.id, &call.owner.identity, claim)
}
