//! `idempotent_seal`, `idempotent_resolve`, `idempotent_forget`: decisions about a key that are
//! somebody's, and not its holder's.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::claim::{Decision, make_room, outcome, replay, wait};
use crate::keys::finish::{Locking, Stored, answer_row, find_under_lock};
use crate::keys::waiting::Waiting;
use crate::pg::arguments::{Args, Returned};
use crate::pg::lock::KeyLock;
use crate::pg::{clock, snapshot};
use crate::session::claims::{self, Status};
use crate::settings;
use crate::tables::records::row::{Found, Row, column};
use crate::tables::records::table::Records;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::claim::{Request, Verdict, judge};
use rules::dating::Age;
use rules::error::{Code, Error, Result};
use rules::policy::OnLapse;
use rules::record::{Record, State};
use rules::request::fingerprint::Fingerprint;

pub fn idempotent_seal(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_seal()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(2))?;
    let records = call.open_to_write()?;
    seal(&call, &records)?.into_datum(&call, false, args.function())
}

/// Waits like a claim, and takes the key like one, but for good.
fn seal(call: &Call<'_>, records: &Records) -> Result<Decision> {
    if claims::get(call.owner.id).is_some_and(|claim| claim.status == Status::Open) {
        return Ok(Decision::in_progress());
    }
    let mut waiting = Waiting::for_up_to(wait(None, &call.policy), &call.tally);
    loop {
        let Some((lock, found)) = waiting.lock_and_look(records, &call.owner)? else {
            return Ok(Decision::in_progress());
        };
        match verdict(call, records, found.as_ref()) {
            Verdict::Claim { .. } => match make_room(records, found.as_ref(), &waiting) {
                Some(true) => {
                    records.insert(&call.owner, &sealed_row(call))?;
                    return Ok(Decision::new(Verdict::Sealed, None));
                }
                Some(false) => {}
                None => return Ok(Decision::in_progress()),
            },
            Verdict::InProgress { .. } if waiting.remaining() > 0 => {
                drop(lock);
                waiting.for_leased(found.as_ref());
            }
            Verdict::Held => return Ok(Decision::in_progress()),
            other => return Ok(Decision::new(other, found.as_ref())),
        }
    }
}

/// What a claim with the same request would be answered, whatever its age, except that of a key
/// whose record may have been lost: nobody can say of that one that it never ran.
fn verdict(call: &Call<'_>, records: &Records, found: Option<&Found>) -> Verdict {
    let now = clock::now();
    let record = found.map(|found| &found.record);
    let age = match call.age(records, None, now) {
        lost @ Age::Lost { .. } => lost,
        _ => Age::Undated,
    };
    let fingerprint = record.and_then(|record| record.fingerprint);
    let same = Request { fingerprint, attempt_id: None, age };
    judge(record, &same, call.policy.on_lapse, now)
}

/// It never expires: what is decided for good must not run after the retention.
fn sealed_row(call: &Call<'_>) -> Row {
    let mut row = Row::new(&call.owner);
    row.set_state(State::Sealed);
    row.set_time(column::FINISHED_AT, clock::now());
    row.set_time(column::EXPIRES_AT, Timestamp::MAX);
    row.set_time(column::SWEEP_AT, Timestamp::MAX);
    row
}

/// How an unknown is settled.
#[derive(Clone, Copy)]
enum Settlement {
    Completed,
    Failed,
    Absent,
}

pub fn idempotent_resolve(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_resolve()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(4))?;
    let settlement = match args.text(2).map(|text| text.utf8) {
        Some(b"completed") => Settlement::Completed,
        Some(b"failed") => Settlement::Failed,
        Some(b"absent") => Settlement::Absent,
        _ => {
            return Err(Error::new(
                Code::InvalidParameter,
                "verdict is not one that settles a key",
            )
            .hint("Pass verdict => 'completed', 'failed' or 'absent'."));
        }
    };
    let records = call.open_to_write()?;
    resolve(&call, &records, settlement, args.datum(3))?.into_datum(args.function())
}

fn resolve(
    call: &Call<'_>,
    records: &Records,
    settlement: Settlement,
    response: Option<Datum>,
) -> Result<Answer> {
    let Some((_lock, before)) = take_unknown(call, records)? else {
        return Err(Error::new(Code::ObjectNotReady, "there is nothing to resolve")
            .detail(format!("It is not unknown what became of {}.", call.owner.identity.describe()))
            .hint(format!(
                "See what is known: {}.",
                call.owner.identity.call("idempotent_explain", "")
            )));
    };
    let failed = match settlement {
        Settlement::Absent => {
            // Without a record the key's date would make it unknown again.
            if before.is_none() || call.lost_before(records) > Timestamp::MIN {
                records.insert(&call.owner, &absent_row(call))?;
            }
            return Ok(outcome("absent"));
        }
        Settlement::Completed => false,
        Settlement::Failed => true,
    };
    // A failure found out about later is as final as an answer: it must not run again in minutes.
    let retention = Some(call.policy.retention);
    let stored = Stored { failed, response, retention, ..Stored::default() };
    let (mut row, _) = answer_row(call, &stored, None);
    // Without the fence: whoever held it comes too late now. What was asked is lost with a record.
    let fingerprint = before.as_ref().map_or(Some(Fingerprint::ANY), |it| it.record.fingerprint);
    row.set_fingerprint(fingerprint.as_ref());
    row.set(column::ATTEMPT, before.as_ref().and_then(|before| before.row.get(column::ATTEMPT)));
    records.insert(&call.owner, &row)?;
    let found = records.find(&call.owner)?;
    Ok(found.map_or_else(|| outcome("absent"), |found| replay(&found, failed)))
}

/// The key's lock, and its record if there is one, deleted; `None` if there is nothing to settle.
fn take_unknown(call: &Call<'_>, records: &Records) -> Result<Option<Locking>> {
    loop {
        let (lock, found) = find_under_lock(call, records)?;
        let live = found.as_ref().filter(|found| !found.record.expired(clock::now()));
        let is_unknown = match live {
            Some(found) => is_unknown(call, &found.record),
            // Whoever saw the key before a reset knows more than we do, dated or not.
            None => call.lost_before(records) > Timestamp::MIN,
        };
        if !is_unknown {
            return Ok(None);
        }
        let is_live = live.is_some();
        match found {
            Some(found) if !records.delete(&found) => {}
            found => return Ok(Some((lock, found.filter(|_| is_live)))),
        }
    }
}

/// It may run once more, until the key's own date refuses it.
pub fn absent_row(call: &Call<'_>) -> Row {
    let now = clock::now();
    let until = now.saturating_add(call.policy.retention).saturating_add(settings::clock_skew());
    let mut row = Row::new(&call.owner);
    row.set_state(State::Absent);
    row.set_time(column::FINISHED_AT, now);
    row.set_time(column::EXPIRES_AT, until);
    row.set_time(column::SWEEP_AT, until);
    row
}

fn is_unknown(call: &Call<'_>, record: &Record) -> bool {
    match record.state {
        State::Unknown => true,
        State::InProgress => {
            call.policy.on_lapse == OnLapse::Unknown && record.lapsed(clock::now())
        }
        State::Completed | State::Failed | State::Sealed | State::Absent => false,
    }
}

pub fn idempotent_forget(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_forget()");
    let mut call = Call::new(args.text(0), args.text(1), args.text(2))?;
    let records = call.open_to_write()?;
    let forgotten = take(&call, &records, |_| true)?.is_some();
    Ok(Some(Datum::from(forgotten)))
}

/// Deletes the record if it is `wanted`, and hands it over with the key's lock.
fn take(
    call: &Call<'_>,
    records: &Records,
    wanted: impl Fn(&Found) -> bool,
) -> Result<Option<(Box<Found>, KeyLock)>> {
    loop {
        let (lock, found) = find_under_lock(call, records)?;
        let Some(found) = found.filter(|found| wanted(found)) else {
            return Ok(None);
        };
        // If somebody without the lock was faster (a sweep that evicts), what is there now decides.
        if records.delete(&found) {
            return Ok(Some((found, lock)));
        }
    }
}
