//! `idempotent_replay`: what is known of a key. Reads only, takes nothing, burns no transaction id.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::keys::claim::{outcome, replay};
use crate::keys::observe::Keyless;
use crate::pg::arguments::{Args, Returned};
use crate::pg::{clock, lock};
use crate::session::claims;
use crate::tables::records::row::Found;
use crate::tables::records::table::{Locked, Records};
use rules::claim::RETRY_AFTER;
use rules::dating::Age;
use rules::error::Result;
use rules::policy::OnLapse;
use rules::record::State;

pub fn idempotent_replay(args: &Args) -> Returned {
    let mut call = match Call::new(args.text(0), args.text(1), args.text(2)) {
        Ok(call) => call,
        Err(error) => {
            Keyless::instead_of(error, args.text(0))?;
            return outcome("absent").into_datum(args.function());
        }
    };
    let answer = look(&mut call)?;
    call.count_answer(answer.outcome);
    answer.into_datum(args.function())
}

fn look(call: &mut Call<'_>) -> Result<Answer> {
    loop {
        let records = call.open_to_read()?;
        let found = records.find(&call.owner)?;
        if let Some(answer) = found.as_ref().and_then(|found| known(call, found)) {
            return Ok(answer);
        }
        if is_claimed(call) {
            return Ok(in_progress());
        }
        match records.find_locked(&call.owner)? {
            Locked::BeingWritten(_) => return Ok(in_progress()),
            // Replaced while we looked for the first time.
            Locked::Found(found) => {
                if let Some(answer) = known(call, &found) {
                    return Ok(answer);
                }
            }
            Locked::Nothing => {}
        }
        // The records may just have been moved to the other table.
        if call.is_current()? {
            return Ok(outcome(nothing(call, &records, found.as_ref())));
        }
    }
}

/// What is said of a key without a live record: nothing is known of it, or its record may have been
/// lost.
fn nothing(call: &Call<'_>, records: &Records, found: Option<&Found>) -> &'static str {
    let now = clock::now();
    let age = call.age(records, None, now);
    let settled = found.is_some_and(|found| !found.record.expired(now));
    if matches!(age, Age::Lost { .. }) && !settled { "unknown" } else { "absent" }
}

/// What a live record says; `None` where a claim would be given.
fn known(call: &Call<'_>, found: &Found) -> Option<Answer> {
    let now = clock::now();
    let record = &found.record;
    if record.expired(now) {
        return None;
    }
    match record.state {
        State::Completed => Some(replay(found, false)),
        State::Failed => Some(replay(found, true)),
        State::Sealed => Some(outcome("sealed")),
        State::Absent => None,
        State::Unknown => Some(outcome("unknown")),
        State::InProgress if !record.lapsed(now) => {
            let remaining = record.lease_until.map(|until| until.saturating_sub(now));
            let retry_after = Some(remaining.unwrap_or(RETRY_AFTER));
            Some(Answer { retry_after, ..outcome("in_progress") })
        }
        State::InProgress => match call.policy.on_lapse {
            OnLapse::Retry => None,
            OnLapse::Unknown => Some(outcome("unknown")),
        },
    }
}

fn in_progress() -> Answer {
    Answer { retry_after: Some(RETRY_AFTER), ..outcome("in_progress") }
}

/// Whether a transaction holds the key; ours counts.
fn is_claimed(call: &Call<'_>) -> bool {
    let id = call.owner.id;
    claims::get(id).is_some_and(|claim| claim.status == claims::Status::Open)
        || lock::is_held_by_another(id)
}
