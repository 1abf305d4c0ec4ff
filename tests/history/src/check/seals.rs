//! What is sealed has not run, and never will.

use super::answers::said;
use super::facts::{Facts, KeyFacts};
use super::{MARGIN, Rule, Violation};
use crate::history::{Call, Event, Nanos};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for &at in &key.calls {
            let event = facts.event(at);
            let committed = facts.txn(event.txn).fate;
            let sealed =
                matches!(event.call, Call::Seal { .. }) && event.outcome.said() == "sealed";
            if sealed && committed.is_committed() && facts.undone_at(at).is_none() {
                effects(facts, key, event, committed.known_by(), found);
                outcomes(facts, key, event, committed.known_by(), found);
            }
        }
    }
}

fn effects(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    seal: &Event,
    known_by: Nanos,
    found: &mut Vec<Violation>,
) {
    for effect in &key.effects {
        let done = key.calls.iter().map(|at| facts.event(*at)).find(|event| match &event.call {
            Call::Effect { effect: number, .. } | Call::Run { effect: number, .. } => {
                *number == effect.effect
            }
            _ => false,
        });
        let Some(done) = done.filter(|_| key.lasts(seal.epoch, effect.epoch)) else { continue };
        let still_kept = seal.end + MARGIN < done.start + key.retention();
        if done.start > known_by || still_kept {
            let what = format!("sealed, and effect {} is there", effect.effect);
            found.push(Violation::new(Rule::SealBroken, key.id(), what));
        }
    }
}

fn outcomes(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    seal: &Event,
    known_by: Nanos,
    found: &mut Vec<Violation>,
) {
    for event in key.calls.iter().map(|at| facts.event(*at)) {
        let asks = matches!(
            event.call,
            Call::Claim { .. } | Call::Run { .. } | Call::Replay { .. } | Call::Seal { .. }
        );
        if asks
            && event.start > known_by
            && key.lasts(seal.epoch, event.epoch)
            && !["", "sealed"].contains(&said(event))
        {
            let what = format!("{} after it was sealed", said(event));
            found.push(Violation::new(Rule::SealBroken, key.id(), what));
        }
    }
}
