//! Decisions about a key that are an administrator's, and not its holder's: seal, resolve, forget.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::decision::Decision;
use crate::keys::finish::{Locking, find_under_lock};
use crate::keys::held_by::make_room;
use crate::keys::request::wait;
use crate::keys::stored::{Stored, absent_row, answer_row, sealed_row};
use crate::keys::waiting::Waiting;
use crate::pg::clock;
use crate::session::claims::{self, Status};
use crate::tables::records::row::{Found, column};
use crate::tables::records::table::Records;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::claim::Verdict;
use rules::dating::Age;
use rules::error::{Code, Error, Result};
use rules::outcome::Outcome;
use rules::request::fingerprint::Fingerprint;

/// Waits like a claim, and takes the key like one, but for good.
pub fn seal(call: &Call<'_>, records: &Records) -> Result<Decision> {
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
/// whose record may have been lost: no caller can say of that one that it never ran.
fn verdict(call: &Call<'_>, records: &Records, found: Option<&Found>) -> Verdict {
    let now = clock::now();
    let age = match call.age(records, None, now) {
        lost @ Age::Lost { .. } => lost,
        _ => Age::Undated,
    };
    call.judge_same(found, age, now)
}

/// How an unknown is settled.
#[derive(Clone, Copy)]
pub enum Settlement {
    Completed,
    Failed,
    Absent,
}

/// Settles what is unknown.
///
/// # Errors
/// 55000 if it is not unknown what became of the key, or this transaction itself holds it.
pub fn resolve(
    call: &Call<'_>,
    records: &Records,
    settlement: Settlement,
    response: Option<Datum>,
) -> Result<Answer> {
    // Its answer is yet to come, and is not to find another one in its place.
    let is_held = claims::get(call.owner.id).is_some_and(|claim| claim.status == Status::Open);
    let unknown = if is_held { None } else { take_unknown(call, records)? };
    let Some((_lock, before)) = unknown else {
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
            return Ok(Answer::of(Outcome::Absent));
        }
        Settlement::Completed => false,
        Settlement::Failed => true,
    };
    // A failure found out about later is as final as an answer: it must not run again in minutes.
    let retention = Some(call.policy.retention);
    let stored = Stored { failed, response, retention, ..Stored::default() };
    let (mut row, _) = answer_row(call, &stored, None);
    // Without the fence: its holder comes too late now. What was asked is lost with a record.
    let fingerprint = before.as_ref().map_or(Some(Fingerprint::ANY), |it| it.record.fingerprint);
    row.set_fingerprint(fingerprint.as_ref());
    row.set(column::ATTEMPT, before.as_ref().and_then(|before| before.row.get(column::ATTEMPT)));
    records.insert(&call.owner, &row)?;
    let found = records.find(&call.owner)?;
    Ok(found
        .map_or_else(|| Answer::of(Outcome::Absent), |found| Answer::replay(&found, clock::now())))
}

/// The key's lock, and its record if there is one, deleted; `None` if there is nothing to settle.
fn take_unknown(call: &Call<'_>, records: &Records) -> Result<Option<Locking>> {
    loop {
        let (lock, found) = find_under_lock(call, records)?;
        let live = found.as_ref().filter(|found| !found.record.expired(clock::now()));
        let is_unknown = match live {
            Some(found) => {
                let now = clock::now();
                call.judge_same(Some(found), Age::Undated, now) == Verdict::Unknown
            }
            // A person who saw the key before a reset knows more than the store, dated or not.
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
