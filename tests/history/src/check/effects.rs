//! At most one committed effect per key and retention; and the effects are those of the transactions that committed.

use std::collections::HashMap;

use super::facts::{Facts, KeyFacts};
use super::transactions::Fate;
use super::{Options, Rule, Violation};
use crate::history::{Call, Effect, Outcome};

pub fn check(facts: &Facts<'_>, options: Options, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for pair in key.effects.windows(2) {
            if let [first, second] = pair {
                second_effect(key, first, second, options, found);
            }
        }
    }
    as_committed(facts, found);
}

/// The second begins after its claim, and the claim was given after the first one's record had expired.
fn second_effect(
    key: &KeyFacts<'_>,
    first: &Effect,
    second: &Effect,
    options: Options,
    found: &mut Vec<Violation>,
) {
    let kept = key.operation.logged
        || first.epoch == second.epoch
        // The key is dated no later than its first effect, and so from before the reset.
        || options.reset_detection && key.is_dated();
    if kept && second.at_us.saturating_sub(first.at_us) < key.operation.retention_ms * 1000 {
        let (first, second) = (first.effect, second.effect);
        found.push(Violation::new(
            Rule::SecondEffect,
            key.id(),
            format!("effects {first} and {second} of \"{}\" within its retention", key.key.text),
        ));
    }
}

fn as_committed(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut there: HashMap<u64, &Effect> =
        facts.history.effects.iter().map(|effect| (effect.effect, effect)).collect();
    for (at, event) in facts.history.events.iter().enumerate() {
        let (key, effect, executes) = match &event.call {
            Call::Effect { key, effect, .. } => (*key, *effect, true),
            Call::Run { key, effect, declined, .. } => (*key, *effect, !declined),
            _ => continue,
        };
        let txn = facts.txn(event.txn);
        let done = match &event.outcome {
            Outcome::Row(row) => row.outcome == "executed" && executes,
            Outcome::Done(_) => true,
            Outcome::Refused(_) => false,
            // It may have been done, unless the transaction was still open then.
            Outcome::Lost => executes && !txn.explicit,
        };
        let stays = done && txn.undone_at(at).is_none();
        match there.remove(&effect) {
            Some(_) if !stays || txn.fate == Fate::Aborted => found.push(Violation::new(
                Rule::GhostEffect,
                key,
                format!("effect {effect} is there, but was rolled back, refused or not asked for"),
            )),
            None if stays && event.outcome.is_ok() && txn.fate.is_committed() => {
                found.push(Violation::new(
                    Rule::LostEffect,
                    key,
                    format!("effect {effect} was committed and is not there"),
                ))
            }
            _ => {}
        }
    }
    for effect in there.values() {
        let what = format!("effect {} is nobody's", effect.effect);
        found.push(Violation::new(Rule::GhostEffect, effect.key, what));
    }
}
