//! `idempotent_claim`: the lock first, one look under it; without the lock only where somebody else has it.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::observe::{self, Keyless};
use crate::keys::place::Place;
use crate::keys::waiting::{Waiting, locked_at_once};
use crate::pg::arguments::{Args, Returned};
use crate::pg::datum::jsonb;
use crate::pg::lock::KeyLock;
use crate::pg::{clock, snapshot};
use crate::session::claims::{self, Claim, Status};
use crate::settings;
use crate::stats::Counter;
use crate::tables::fences;
use crate::tables::records::row::{Found, Row, column};
use crate::tables::records::table::Records;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::claim::{self, RETRY_AFTER, Verdict, judge};
use rules::dating::{self, Age};
use rules::error::Result;
use rules::policy::{AfterReset, Mode, OnLapse, Policy};
use rules::record::State;
use rules::request::fingerprint::Fingerprint;
use rules::{Micros, Timestamp};

/// What a claim asks for, beyond the key.
#[derive(Clone, Copy)]
pub struct Request {
    pub fingerprint: Option<Fingerprint>,
    /// `None`: held by the transaction.
    pub lease: Option<Micros>,
    pub wait: Micros,
    pub first_sent: Option<Timestamp>,
    pub attempt_id: Option<[u8; 16]>,
}

/// How a claim was decided, and the row that says so.
pub struct Decision {
    pub verdict: Verdict,
    pub answer: Answer,
    /// Only observed: the work is to be done, and the key is not the caller's.
    pub passed: bool,
}

pub fn idempotent_claim(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_claim()");
    let lease = || args.duration(4, "lease", 1);
    let mut call = match Call::new(args.text(0), args.text(1), args.text(3)) {
        Ok(call) => call,
        Err(error) => {
            let keyless = Keyless::claim(error, args.text(0), args.text(3), args.text(1))?;
            return keyless.claimed(lease()?)?.into_datum(args.function());
        }
    };
    let records = call.open_to_write()?;
    let request = Request {
        fingerprint: match args.bytea(8) {
            Some(bytes) => Some(Fingerprint::of_bytes(bytes)),
            None => fingerprint(args.datum(2), &call.policy),
        },
        lease: lease()?.or(call.policy.lease),
        wait: wait(args.duration(5, "wait", 0)?, &call.policy),
        first_sent: args.timestamp(6),
        attempt_id: args.uuid(7),
    };
    let decision = decide(&call, &records, &request)?;
    decision.into_datum(&call, args.bool(9), args.function())
}

/// The fingerprint of a jsonb request, as the operation wants it taken.
pub fn fingerprint(request: Option<Datum>, policy: &Policy) -> Option<Fingerprint> {
    // SAFETY: the argument is declared jsonb.
    request.map(|jsonb| unsafe {
        Fingerprint::of_canonical(jsonb::canonical_digest(jsonb, &policy.exclude))
    })
}

/// How long to wait: as the call says, else as its operation, else as the setting.
pub fn wait(given: Option<Micros>, policy: &Policy) -> Micros {
    given.or(policy.wait).unwrap_or_else(settings::default_wait)
}

impl Decision {
    pub fn new(verdict: Verdict, found: Option<&Found>) -> Self {
        let answer = match (verdict, found) {
            (Verdict::Replay { failed }, Some(found)) => replay(found, failed),
            (Verdict::Held, Some(found)) => Answer {
                fence: found.record.fence,
                attempt: Some(found.record.attempt),
                checkpoint: found.row.get(column::CHECKPOINT),
                expires_at: found.record.lease_until,
                ..outcome("claimed")
            },
            (Verdict::InProgress { retry_after }, _) => {
                Answer { retry_after: Some(retry_after), ..outcome("in_progress") }
            }
            (Verdict::Claim { .. } | Verdict::Held, _) => outcome("claimed"),
            (Verdict::Mismatch, _) => outcome("mismatch"),
            (Verdict::Expired | Verdict::Future, _) => outcome("expired"),
            (Verdict::Unknown, _) => outcome("unknown"),
            (Verdict::Sealed, _) => outcome("sealed"),
            (Verdict::Replay { .. }, None) => outcome("replay"),
        };
        Self { verdict, answer, passed: false }
    }

    fn held(claim: Claim) -> Self {
        let (attempt, checkpoint) = (Some(claim.attempt), claim.checkpoint);
        let answer = Answer { attempt, checkpoint, ..outcome("claimed") };
        Self { verdict: Verdict::Held, answer, passed: false }
    }

    /// Held by a transaction, whose end nobody can tell.
    pub fn in_progress() -> Self {
        Self::new(Verdict::InProgress { retry_after: RETRY_AFTER }, None)
    }

    /// The row to return, or under `strict` the exception. An answer is counted either way; asking
    /// for one's own claim again is not a claim.
    pub fn into_datum(self, call: &Call<'_>, strict: bool, function: pg_sys::Oid) -> Returned {
        if self.verdict != Verdict::Held {
            call.count_answer(self.answer.outcome);
        }
        if strict && let Some(error) = claim::strict_error(self.verdict, &call.owner.identity) {
            return Err(error);
        }
        self.answer.into_datum(function)
    }
}

pub fn outcome(outcome: &'static str) -> Answer {
    Answer { outcome, ..Answer::default() }
}

/// The stored answer, as far as it is still kept.
pub fn replay(found: &Found, failed: bool) -> Answer {
    let evicted = found.evicted(clock::now());
    let kept = |column| if evicted { None } else { found.row.get(column) };
    Answer {
        fence: found.record.fence,
        attempt: Some(found.record.attempt),
        failed: Some(failed),
        status: found.status(),
        headers: kept(column::HEADERS),
        response: kept(column::RESPONSE),
        body: kept(column::BODY),
        evicted: Some(evicted),
        expires_at: Some(found.record.expires_at),
        ..outcome("replay")
    }
}

/// Claims the key, or says why not; of an operation that is only observed, never why not.
pub fn decide(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    match call.policy.mode {
        Mode::Enforce => claim(call, records, request),
        Mode::Observe => observe::claim(call, records, request),
    }
}

/// Claims the key, or says why not.
///
/// Most keys that are claimed are new, so the lock comes first: one look under it decides. Where
/// somebody else has the lock, a look without it tells whether there is something to wait for.
pub fn claim(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    if let Some(decision) = held_by_this_transaction(call, request) {
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
            let place = Place::of(&call.policy, request, attempt, found.is_some());
            match place.make_room(records, found.as_ref(), &waiting) {
                Some(true) => {
                    return take(call, records, lock, request, found.as_ref(), attempt, place);
                }
                Some(false) => {}
                None => return Ok(Decision::in_progress()),
            }
        }
        // Somebody was faster; the next look answers.
    }
}

/// The wait is over and the key still somebody else's, who may have finished since the last look.
fn told_without_lock(call: &Call<'_>, records: &Records, request: &Request) -> Result<Decision> {
    let found = records.find(&call.owner)?;
    Ok(match call.judge(records, found.as_ref(), request)? {
        Verdict::Claim { .. } => Decision::in_progress(),
        other => Decision::new(other, found.as_ref()),
    })
}

/// Claiming is itself idempotent: asking again for one's own claim answers `claimed` again.
fn held_by_this_transaction(call: &Call<'_>, request: &Request) -> Option<Decision> {
    let claim = claims::get(call.owner.id)?;
    (claim.status == Status::Open).then(|| {
        if claim.fingerprint == request.fingerprint {
            Decision::held(claim)
        } else {
            Decision::new(Verdict::Mismatch, None)
        }
    })
}

impl Call<'_> {
    fn judge(
        &self,
        records: &Records,
        found: Option<&Found>,
        request: &Request,
    ) -> Result<Verdict> {
        let now = clock::now();
        let asked = claim::Request {
            fingerprint: request.fingerprint,
            attempt_id: request.attempt_id,
            age: self.age(records, request.first_sent, now),
        };
        let record = found.map(|found| &found.record);
        match judge(record, &asked, self.policy.on_lapse, now) {
            Verdict::Future => Err(claim::future_error(&self.owner.identity)),
            verdict => Ok(verdict),
        }
    }

    /// When records of the operation were last lost; `Timestamp::MIN` for never.
    pub fn lost_before(&self, records: &Records) -> Timestamp {
        records.lost_before().max(self.policy.lost_before)
    }

    /// How old the key says it is.
    pub fn age(&self, records: &Records, first_sent: Option<Timestamp>, now: Timestamp) -> Age {
        let lost_before = match self.policy.after_reset {
            AfterReset::Unknown => self.lost_before(records),
            AfterReset::Execute => Timestamp::MIN,
        };
        let (key, skew) = (self.owner.identity.key(), settings::clock_skew());
        dating::date(first_sent, key, now, self.policy.retention, skew, lost_before)
    }
}

/// When a lease's record counts as absent: long after a lapse that may be retried, and never while
/// it is unknown what became of the work.
pub fn lease_expiry(policy: &Policy, lease_until: Timestamp) -> Timestamp {
    match policy.on_lapse {
        OnLapse::Retry => lease_until.saturating_add(policy.retention),
        OnLapse::Unknown => Timestamp::MAX,
    }
}

/// Deletes the record that has expired or lapsed. `Some(false)`: somebody else did, so look again;
/// `None`: somebody still may, and the wait is over.
pub fn make_room(records: &Records, before: Option<&Found>, waiting: &Waiting<'_>) -> Option<bool> {
    before.map_or(Some(true), |before| records.delete_within(before, waiting.for_a_sweep()))
}

/// The key is free and locked: makes it the caller's.
fn take(
    call: &Call<'_>,
    records: &Records,
    lock: KeyLock,
    request: &Request,
    before: Option<&Found>,
    attempt: i32,
    place: Place,
) -> Result<Decision> {
    let checkpoint =
        before.filter(|_| attempt > 1).and_then(|before| before.row.get(column::CHECKPOINT));
    let taken = Answer { attempt: Some(attempt), checkpoint, ..outcome("claimed") };
    if attempt > 1 {
        call.tally.add(Counter::Lapsed, 1);
    }
    let answer = match place {
        // From here on the row stands for the claim, seen by others as being inserted.
        Place::Lease(lease) => grant_lease(call, records, request, lease, taken)?,
        Place::Placeholder => {
            insert_placeholder(call, records, request)?;
            remember(call, request, &taken, true, false)?;
            taken
        }
        Place::Nowhere => {
            claims::open(call.owner.id, &call.owner.identity, observe::passing(request))?;
            taken
        }
        Place::Lock { .. } | Place::Takeover => {
            lock.keep();
            let over_absent = matches!(place, Place::Lock { over_absent: true });
            remember(call, request, &taken, false, over_absent)?;
            taken
        }
    };
    let verdict = Verdict::Claim { attempt, takeover: attempt > 1 };
    Ok(Decision { verdict, answer, passed: matches!(place, Place::Nowhere) })
}

fn grant_lease(
    call: &Call<'_>,
    records: &Records,
    request: &Request,
    lease: Micros,
    taken: Answer,
) -> Result<Answer> {
    let fence = fences::next()?;
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
    row.set_time(column::LEASE_UNTIL, lease_until);
    row.set_time(column::EXPIRES_AT, lease_expiry(&call.policy, lease_until));
    row.set_time(column::SWEEP_AT, lease_expiry(&call.policy, lease_until));
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

fn remember(
    call: &Call<'_>,
    request: &Request,
    taken: &Answer,
    spilled: bool,
    over_absent: bool,
) -> Result<()> {
    let claim = Claim {
        status: Status::Open,
        fingerprint: request.fingerprint,
        attempt: taken.attempt.unwrap_or(1),
        checkpoint: taken.checkpoint,
        spilled,
        first_sent: request.first_sent,
        over_absent,
        observed: call.policy.mode == Mode::Observe,
    };
    claims::open(call.owner.id, &call.owner.identity, claim)
}
