//! Work under a lease: claim, heartbeats, and the end of it, each in its own transaction.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::session::Session;
use super::slots::Slots;
use super::transaction;
use crate::history::{Call, Key, Level, Outcome};
use crate::plan::{Beat, End, Ending, Lease};

pub fn play(session: &mut Session<'_>, slots: &Slots, lease: &Lease) {
    let key = slots.key(lease.slot);
    let Some(fence) = claim(session, slots, lease, &key) else { return };
    for beat in &lease.beats {
        if !session.connect() {
            return;
        }
        match *beat {
            Beat::Extend { lease_ms } => {
                session.call(Call::Extend { key: key.id, lease_ms, fence }, Some(&key));
            }
            Beat::Checkpoint => {
                let value = session.number();
                session.call(Call::Checkpoint { key: key.id, value, fence }, Some(&key));
            }
            Beat::Pause { ms } => work_for(ms),
        }
    }
    if !session.connect() {
        return;
    }
    match lease.ending {
        Ending::Finish { level, failed, end } => {
            let outcome = finish(session, &key, fence, level, failed, end);
            // The answer to COMMIT is lost: once more, as somebody would who does not know. An abandoned one is
            // left alone.
            if outcome == Some(Outcome::Lost) && end == End::Commit && session.connect() {
                finish(session, &key, fence, level, failed, end);
            }
        }
        Ending::Zombie { level } => zombie(session, &key, fence, level, lease.lease_ms),
        Ending::Release => {
            session.call(Call::Release { key: key.id, fence: Some(fence) }, Some(&key));
        }
        Ending::Abandon => {}
    }
}

/// The time that the work takes. Nothing is synchronised by it.
fn work_for(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// The fence of the claim, if it is ours and committed.
fn claim(session: &mut Session<'_>, slots: &Slots, lease: &Lease, key: &Arc<Key>) -> Option<i64> {
    let call = Call::Claim {
        key: key.id,
        request: lease.asked.request,
        lease_ms: Some(lease.lease_ms),
        wait_ms: lease.asked.wait_ms,
        attempt_id: lease.named.then(|| session.attempt_id()),
        strict: lease.asked.strict,
    };
    let (outcome, committed) = match lease.claimed_in {
        None => {
            let outcome = session.call(call.clone(), Some(key));
            let committed = outcome.is_ok();
            (outcome, committed)
        }
        Some((level, end)) => {
            session.face(&key.text);
            if !session.connect() || !session.call(Call::Begin { level }, None).is_ok() {
                return None;
            }
            let outcome = session.call(call.clone(), Some(key));
            if outcome == Outcome::Lost {
                return None;
            }
            let ended = transaction::end(session, end);
            // Prepared: it may lapse before anybody commits it, and every call of ours would wait for that.
            if end == End::Prepare {
                return None;
            }
            (outcome, ended.is_done("COMMIT"))
        }
    };
    if committed {
        slots.wear(lease.slot, key, outcome.said());
        if outcome.said() == "unknown" {
            session.settle_unknown(key);
        }
        let fence = outcome.row().filter(|row| row.outcome == "claimed").and_then(|row| row.fence);
        if let Some(fence) = fence {
            slots.note_lease(key, fence);
        }
        return fence;
    }
    // Lost, and perhaps ours: under the same name the claim is recognised.
    if session.is_connected() || !lease.named || !session.connect() {
        return None;
    }
    let again = session.call(call, Some(key));
    again.row().filter(|row| row.outcome == "claimed").and_then(|row| row.fence)
}

/// The outcome of the end; `None` if it did not come to that.
fn finish(
    session: &mut Session<'_>,
    key: &Arc<Key>,
    fence: i64,
    level: Level,
    failed: bool,
    end: End,
) -> Option<Outcome> {
    session.face(&key.text);
    if !session.connect() || !session.call(Call::Begin { level }, None).is_ok() {
        return None;
    }
    let effect = session.number();
    let call = Call::Effect { key: key.id, effect, fence: Some(fence) };
    if session.call(call, Some(key)) == Outcome::Lost {
        return None;
    }
    let answer = session.number();
    let call =
        Call::Complete { key: key.id, answer, effect: Some(effect), failed, fence: Some(fence) };
    if session.call(call, Some(key)) == Outcome::Lost {
        return None;
    }
    Some(transaction::end(session, end))
}

/// Sleeps over its lease, and knows nothing of it.
fn zombie(session: &mut Session<'_>, key: &Arc<Key>, fence: i64, level: Level, lease_ms: u64) {
    if lease_ms <= 200 {
        work_for(lease_ms + 10);
    }
    finish(session, key, fence, level, false, End::Commit);
    let value = session.number();
    for call in [
        Call::Extend { key: key.id, lease_ms, fence },
        Call::Checkpoint { key: key.id, value, fence },
        Call::Release { key: key.id, fence: Some(fence) },
    ] {
        if !session.connect() {
            return;
        }
        session.call(call, Some(key));
    }
}
