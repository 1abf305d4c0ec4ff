//! Why a claim now would be answered as it would.

use crate::keys::call::Call;
use crate::keys::mode;
use crate::pg::datum::make;
use crate::pg::{clock, lock, spi};
use crate::session::claims;
use crate::tables::hold::Looked;
use crate::tables::records::row::Found;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::claim::Verdict;
use rules::dating::Age;
use rules::error::Result;
use rules::record::{Record, State};
use serde::Serialize;

#[derive(Serialize)]
pub struct Explanation {
    operation: String,
    scope: String,
    key: String,
    record_id: String,
    /// What a claim with the same request would be answered now.
    outcome: &'static str,
    because: &'static str,
    durability: &'static str,
    /// Told where a claim goes through whatever it would be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    retention_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_sent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Facts>,
    /// Backends that hold the key's lock; a prepared transaction has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held_by: Vec<i64>,
}

/// What the record says, without the answer.
#[derive(Serialize)]
struct Facts {
    state: &'static str,
    fence: Option<i64>,
    attempt: i32,
    lease_until: Option<String>,
    expires_at: Option<String>,
    evicted: bool,
}

/// Why a claim now would be answered as it would.
pub fn explain(call: &mut Call<'_>) -> Result<Explanation> {
    let records = call.open_to_read()?;
    let found = records.find(&call.owner)?;
    if found.is_none() {
        call.check_scope()?;
    }
    let now = clock::now();
    let age = call.age(&records, None, now);
    let record = found.as_ref().map(|found| found.record);
    let verdict = call.judge_same(found.as_ref(), age, now);
    let id = call.owner.id;
    let is_claimed_here = claims::get(id).is_some_and(|claim| claim.status == claims::Status::Open);
    let is_locked = lock::is_held_by_another(id)
        || matches!(records.find_locked(&call.owner)?, Looked::BeingWritten(_));
    let (outcome, because) = if is_claimed_here {
        ("claimed", "this transaction holds the claim")
    } else if is_locked && matches!(verdict, Verdict::Claim { .. }) {
        ("in_progress", "another transaction holds the key; a claim waits for it to end")
    } else {
        reason(verdict, record.as_ref(), now)
    };
    let identity = call.owner.identity;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Explanation {
        operation: text(identity.operation()),
        scope: text(identity.scope()),
        key: text(identity.key()),
        record_id: make::uuid_text(id.0),
        outcome,
        because,
        durability: call.policy.durability.as_str(),
        mode: mode::shown(&call.policy),
        retention_seconds: call.policy.retention as f64 / 1e6,
        first_sent: match age {
            Age::Fresh(date) | Age::TooOld { since: date } | Age::Lost { since: date } => {
                clock::text(date)
            }
            Age::Undated => None,
        },
        record: found.as_ref().map(facts),
        held_by: holders(id.lock_key())?,
    })
}

fn reason(
    verdict: Verdict,
    record: Option<&Record>,
    now: Timestamp,
) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Claim { takeover: true, .. } => {
            ("claimed", "the lease has lapsed; the next caller takes over")
        }
        Verdict::Claim { .. } if record.is_some_and(|record| record.expired(now)) => {
            ("claimed", "the record has expired and counts as absent")
        }
        Verdict::Claim { .. } if record.is_some() => {
            ("claimed", "it was settled that the work has not been done")
        }
        Verdict::Claim { .. } => ("claimed", "nothing is known of the key"),
        Verdict::Held => ("claimed", "this transaction holds the lease"),
        Verdict::Replay { failed: false } => ("replay", "it is done, and the answer is stored"),
        Verdict::Replay { failed: true } => ("replay", "it failed for good, and that is stored"),
        Verdict::InProgress { .. } => ("in_progress", "another caller holds a lease that lasts"),
        Verdict::Mismatch => ("mismatch", "the key was used with another request"),
        Verdict::Expired => ("expired", "the key was first sent longer ago than the retention"),
        Verdict::Unknown if record.is_none_or(|record| record.expired(now)) => {
            ("unknown", "the key is from before a reset, in which its record may have been lost")
        }
        Verdict::Unknown => ("unknown", "an attempt was lost, and it may have done the work"),
        Verdict::Sealed => ("sealed", "it was decided that this never runs"),
    }
}

fn facts(found: &Found) -> Facts {
    let record = &found.record;
    Facts {
        state: match record.state {
            State::InProgress => "in_progress",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Sealed => "sealed",
            State::Absent => "absent",
        },
        fence: record.fence,
        attempt: record.attempt,
        lease_until: record.lease_until.and_then(clock::text),
        expires_at: clock::text(record.expires_at),
        evicted: found.evicted(clock::now()),
    }
}

fn holders((high, low): (u32, u32)) -> Result<Vec<i64>> {
    let oid = |value: u32| (pg_sys::OIDOID, Some(Datum::from(value)));
    let class = (pg_sys::INT4OID, Some(Datum::from(i32::from(lock::CLASS))));
    let pids = spi::texts(
        "SELECT l.pid::text FROM pg_catalog.pg_locks AS l \
         WHERE l.locktype = 'advisory' AND l.granted \
           AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d \
               WHERE d.datname = pg_catalog.current_database()) \
           AND l.classid = $1 AND l.objid = $2 \
           AND l.objsubid = $3::int2",
        &[oid(high), oid(low), class],
    )?;
    Ok(pids.iter().filter_map(|pid| pid.parse().ok()).collect())
}
