//! An administrator forgets what there is to be seen, and nothing else: what comes later stays, what is held stays with its holder,
//! and what was forgotten does not come back.

use super::answers::said;
use super::facts::{Facts, Grant, KeyFacts};
use super::{Rule, Violation, holds, over};
use crate::answer;
use crate::history::{Call, Event, Outcome};
use crate::nodes::part_of;

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for &at in &key.calls {
            let event = facts.event(at);
            let Call::Forget { fence, .. } = event.call else { continue };
            if event.outcome.is_ok() {
                held(facts, key, event, fence, found);
            }
            if event.outcome.is_done("t") && facts.undone_at(at).is_none() {
                comes_back(facts, key, event, fence, found);
            }
        }
    }
}

/// Whether an administrator may have forgotten what this event has stored, before another one was answered: in its own transaction, or
/// in one that may have committed. Not if the transaction that stored it was still open when the administrator was answered.
pub fn may_have_forgotten(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    stored: usize,
    asking: &Event,
) -> bool {
    let storing = facts.event(stored);
    let open_until = facts.txn(storing.txn).open_until;
    key.calls.iter().any(|&at| {
        let event = facts.event(at);
        let over = over(event);
        let undone = facts.undone_at(at);
        let counts = if event.txn == asking.txn {
            undone.is_none_or(|undone| undone >= asking.start)
        } else {
            undone.is_none() && facts.txn(event.txn).fate.may_have_committed()
        };
        matches!(event.call, Call::Forget { .. })
            && (event.outcome.is_done("t") || event.outcome == Outcome::Lost)
            && counts
            && event.start < asking.end
            && (event.txn == storing.txn && at > stored
                || event.txn != storing.txn && over >= open_until && over > storing.start)
    })
}

/// A key that a transaction holds is refused, and so is a lease that lasts, but for its fence.
fn held(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    event: &Event,
    fence: Option<i64>,
    found: &mut Vec<Violation>,
) {
    let holds = |grant: &&Grant| {
        let breaks = grant.fence.is_some() && grant.fence == fence;
        // A lease whose transaction is open is seen by nobody else, and the key is held by that transaction.
        grant.txn != event.txn
            && !breaks
            && grant.told < event.start
            && !moved_between(facts, key, facts.event(grant.event), event)
            && holds::until(facts, key, grant) > event.end
            && (grant.fence.is_none() || key.lasts(grant.epoch, event.epoch))
    };
    if let Some(holder) = key.grants.iter().find(holds) {
        let what = format!(
            "{:?} was told {:?} while client {} had the key, with fence {:?}",
            event.call,
            event.outcome,
            facts.event(holder.event).client,
            holder.fence
        );
        found.push(Violation::new(Rule::ForgetBroken, key.id(), what));
    }
}

/// Once it is acknowledged, no answer from before is given, and the fence is worth nothing.
fn comes_back(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    forget: &Event,
    fence: Option<i64>,
    found: &mut Vec<Violation>,
) {
    let known_by = facts.txn(forget.txn).fate.known_by();
    let before = |number: u64| {
        key.answers.iter().any(|answer| {
            answer.number == number
                && answer.is_committed()
                && answer.fate.known_by() < forget.start
        })
    };
    for event in key.calls.iter().map(|at| facts.event(*at)).filter(|event| event.start > known_by)
    {
        // What left no row comes back from where the key was before, or goes to.
        if moved_between(facts, key, forget, event) {
            continue;
        }
        let replayed = event.outcome.row().filter(|_| said(event) == "replay");
        if let Some(number) = replayed.and_then(answer::number).filter(|number| before(*number)) {
            let what = format!("answer {number} was replayed after it was forgotten");
            found.push(Violation::new(Rule::ForgetBroken, key.id(), what));
        }
        let used = match event.call {
            Call::Complete { fence, .. } => fence,
            Call::Extend { fence, .. } | Call::Checkpoint { fence, .. } => Some(fence),
            _ => None,
        };
        if used.is_some() && used == fence && event.outcome.is_ok() {
            let what = format!("{:?} succeeded after the lease was broken", event.call);
            found.push(Violation::new(Rule::StaleFence, key.id(), what));
        }
    }
}

fn moved_between(facts: &Facts<'_>, key: &KeyFacts<'_>, one: &Event, other: &Event) -> bool {
    one.node != other.node
        || facts.history.moves.iter().any(|moved| {
            moved.part == part_of(&key.key.text) && moved.start < other.end && moved.end > one.start
        })
}
