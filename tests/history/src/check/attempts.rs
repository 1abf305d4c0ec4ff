//! A takeover continues an attempt of the same request, and gets what that left.

use serde_json::Value;

use super::facts::{Facts, Grant, KeyFacts};
use super::{Rule, Violation};
use crate::history::{Call, Nanos, Outcome};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for grant in &key.grants {
            if grant.attempt > 1 && !has_predecessor(facts, key, grant) {
                let what = format!(
                    "attempt {} of request {} has none before it",
                    grant.attempt, grant.request
                );
                found.push(Violation::new(Rule::WrongAttempt, key.id(), what));
            }
            // It is resolved first, and then starts from one.
            if grant.attempt > 1 && is_unknown(facts, key, grant) {
                let what = format!("attempt {} where a lapse leads to unknown", grant.attempt);
                found.push(Violation::new(Rule::WrongAttempt, key.id(), what));
            }
            // `run` does not show its handler what was left.
            if matches!(facts.event(grant.event).call, Call::Claim { .. }) {
                checkpoint(facts, key, grant, found);
            }
        }
    }
}

/// Whether a lapse of every attempt that may have been the one before leads to `unknown`.
fn is_unknown(facts: &Facts<'_>, key: &KeyFacts<'_>, grant: &Grant) -> bool {
    let mut before =
        key.grants.iter().filter(|before| is_predecessor(key, before, grant)).peekable();
    let taken = facts.span(facts.event(grant.event)).0;
    if key.settings.is_always_unknown(grant.told) {
        return true;
    }
    before.peek().is_some()
        && before.all(|before| {
            let asked = facts.span(facts.event(before.event)).0;
            key.settings.is_unknown(asked, before.told, before.fate.known_by(), taken)
        })
        && !is_lost_predecessor_possible(facts, key, grant, 0)
}

fn is_predecessor(key: &KeyFacts<'_>, before: &Grant, grant: &Grant) -> bool {
    before.attempt == grant.attempt - 1
        && before.fence.is_some()
        && before.request == grant.request
        && (before.txn == grant.txn || before.fate.may_have_committed())
        && key.may_last(before.epoch, grant.epoch)
}

fn has_predecessor(facts: &Facts<'_>, key: &KeyFacts<'_>, grant: &Grant) -> bool {
    key.grants.iter().any(|before| is_predecessor(key, before, grant))
        || is_lost_predecessor_possible(facts, key, grant, 0)
}

/// A claim whose answer was lost may have been the attempt before.
fn is_lost_predecessor_possible(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    grant: &Grant,
    since: Nanos,
) -> bool {
    key.calls.iter().map(|at| facts.event(*at)).any(|event| {
        event.outcome == Outcome::Lost
            && event.start >= since
            && event.start < grant.told
            && matches!(&event.call, Call::Claim { lease_ms: Some(_), request, .. } if *request == grant.request)
    })
}

fn checkpoint(facts: &Facts<'_>, key: &KeyFacts<'_>, grant: &Grant, found: &mut Vec<Violation>) {
    let got = facts
        .event(grant.event)
        .outcome
        .row()
        .and_then(|row| row.checkpoint.as_ref())
        .and_then(Value::as_u64);
    let mut wrong = |what| found.push(Violation::new(Rule::WrongAttempt, key.id(), what));
    let left: Vec<_> = key
        .calls
        .iter()
        .filter(|at| facts.event(**at).start < grant.told && facts.undone_at(**at).is_none())
        .filter_map(|at| match (&facts.event(*at).call, &facts.event(*at).outcome) {
            (_, Outcome::Refused(_)) => None,
            (Call::Checkpoint { value, fence, .. }, outcome) => {
                Some((facts.event(*at), *value, *fence, outcome))
            }
            _ => None,
        })
        .filter(|(event, ..)| facts.txn(event.txn).fate.may_have_committed())
        .collect();
    if let Some(got) = got
        && !left.iter().any(|(_, value, ..)| *value == got)
    {
        return wrong(format!("checkpoint {got} was left by nobody"));
    }
    let mut before = key.grants.iter().filter(|before| is_predecessor(key, before, grant));
    let (Some(before), None) = (before.next(), before.next()) else { return };
    if is_lost_predecessor_possible(facts, key, grant, before.asked) {
        return;
    }
    let last = left.iter().rfind(|(event, _, fence, _)| {
        Some(*fence) == before.fence
            && facts.txn(event.txn).fate.known_by() < grant.asked
            && key.lasts(event.epoch, grant.epoch)
    });
    if let Some((event, value, ..)) = last
        && grant.attempt > 1
        && !left.iter().any(|(other, value, ..)| other.start >= event.start && Some(*value) == got)
    {
        wrong(format!(
            "checkpoint {value} was left by attempt {}, and {got:?} handed over",
            before.attempt
        ));
    }
}
