//! What is sealed has not run, and never will.

use super::answers::said;
use super::facts::{Facts, KeyFacts};
use super::forgets::may_have_forgotten;
use super::{MARGIN, Rule, Violation};
use crate::history::{Call, Nanos};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for &at in &key.calls {
            let event = facts.event(at);
            let committed = facts.txn(event.txn).fate;
            let sealed =
                matches!(event.call, Call::Seal { .. }) && event.outcome.said() == "sealed";
            if sealed && committed.is_committed() && facts.undone_at(at).is_none() {
                effects(facts, key, at, committed.known_by(), found);
                outcomes(facts, key, at, committed.known_by(), found);
            }
        }
    }
}

fn effects(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    at: usize,
    known_by: Nanos,
    found: &mut Vec<Violation>,
) {
    let seal = facts.event(at);
    for effect in &key.effects {
        let Some(place) = key.done_by(facts, effect) else { continue };
        let done = facts.event(place);
        if !key.lasts(seal.epoch, effect.epoch) {
            continue;
        }
        let breaks = if done.start > known_by {
            !may_have_forgotten(facts, key, at, done)
        } else {
            seal.end + MARGIN < done.start + key.retention(facts, done)
                && !may_have_forgotten(facts, key, place, seal)
        };
        if breaks {
            let what = format!("sealed, and effect {} is there", effect.effect);
            found.push(Violation::new(Rule::SealBroken, key.id(), what));
        }
    }
}

fn outcomes(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    at: usize,
    known_by: Nanos,
    found: &mut Vec<Violation>,
) {
    let seal = facts.event(at);
    for event in key.calls.iter().map(|at| facts.event(*at)) {
        let asks = matches!(
            event.call,
            Call::Claim { .. } | Call::Run { .. } | Call::Replay { .. } | Call::Seal { .. }
        );
        if asks
            && event.start > known_by
            && key.lasts(seal.epoch, event.epoch)
            && !["", "sealed"].contains(&said(event))
            && !may_have_forgotten(facts, key, at, event)
        {
            let what = format!("{} after it was sealed", said(event));
            found.push(Violation::new(Rule::SealBroken, key.id(), what));
        }
    }
}
