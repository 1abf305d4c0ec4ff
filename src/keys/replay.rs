//! What is known of a key. Reads only, takes nothing, burns no transaction id.

use crate::keys::answer::Answer;
use crate::keys::call::Call;
use crate::pg::{clock, lock};
use crate::session::claims;
use crate::tables::hold::Looked;
use crate::tables::records::row::{Found, column};
use crate::tables::records::table::Records;
use rules::Timestamp;
use rules::claim::{RETRY_AFTER, Verdict};
use rules::dating::Age;
use rules::error::Result;
use rules::outcome::Outcome;

/// What is known of a key.
pub fn look(call: &mut Call<'_>) -> Result<Answer> {
    loop {
        let records = call.open_to_read()?;
        let found = records.find(&call.owner)?;
        if let Some(answer) = found.as_ref().and_then(|found| known(call, found)) {
            return Ok(answer);
        }
        if is_claimed(call) {
            return Ok(in_progress());
        }
        let latest = match records.find_locked(&call.owner)? {
            Looked::BeingWritten(_) => return Ok(in_progress()),
            // Perhaps replaced while we looked for the first time.
            Looked::Settled(found) => Some(*found),
            Looked::Nothing => found,
        };
        if let Some(answer) = latest.as_ref().and_then(|found| known(call, found)) {
            return Ok(answer);
        }
        // The records may just have been moved to the other table.
        if call.is_current()? {
            return Ok(free(call, &records, latest.as_ref()));
        }
    }
}

/// What is said of a key that is not held. A lease that has lapsed is still there, until a claim takes
/// it over, at once if it is made. Without one nothing is known of the key, or its record may have been
/// lost.
fn free(call: &Call<'_>, records: &Records, found: Option<&Found>) -> Answer {
    let now = clock::now();
    let live = found.filter(|found| !found.record.expired(now));
    match (live, call.age(records, None, now)) {
        (Some(found), _) if found.record.lapsed(now) => leased(found, now),
        (None, Age::Lost { .. }) => Answer::of(Outcome::Unknown),
        _ => Answer::of(Outcome::Absent),
    }
}

/// What a live record says; `None` where a claim would be given.
fn known(call: &Call<'_>, found: &Found) -> Option<Answer> {
    let now = clock::now();
    if found.record.expired(now) {
        return None;
    }
    match call.judge_same(Some(found), Age::Undated, now) {
        Verdict::Claim { .. } => None,
        // Of a lease that this transaction has taken: it lasts, as for any other reader.
        Verdict::Held | Verdict::InProgress { .. } => Some(leased(found, now)),
        verdict => Some(Answer::to(verdict, Some(found), now)),
    }
}

/// What is told of work in progress: with a lease, how far it is and until when it lasts.
fn leased(found: &Found, now: Timestamp) -> Answer {
    let lease_until = found.record.lease_until;
    let remaining = lease_until.map_or(RETRY_AFTER, |until| until.saturating_sub(now).max(0));
    Answer {
        attempt: lease_until.map(|_| found.record.attempt),
        checkpoint: found.row.get(column::CHECKPOINT),
        retry_after: Some(remaining),
        expires_at: lease_until,
        ..Answer::of(Outcome::InProgress)
    }
}

fn in_progress() -> Answer {
    Answer { retry_after: Some(RETRY_AFTER), ..Answer::of(Outcome::InProgress) }
}

/// Whether a transaction holds the key; ours counts.
fn is_claimed(call: &Call<'_>) -> bool {
    let id = call.owner.id;
    claims::get(id).is_some_and(|claim| claim.status == claims::Status::Open)
        || lock::is_held_by_another(id)
}
