//! At most one committed effect per key and retention; and the effects are those of the transactions that committed.

use std::collections::HashMap;

use super::facts::{Answer, Facts, KeyFacts};
use super::forgets::may_have_forgotten;
use super::transactions::Fate;
use super::{Options, Rule, Violation};
use crate::answer;
use crate::history::{Call, Effect, Outcome};

pub fn check(facts: &Facts<'_>, options: Options, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for pair in key.effects.windows(2) {
            if let [first, second] = pair {
                second_effect(facts, key, first, second, options, found);
            }
        }
    }
    as_committed(facts, found);
}

/// The second begins after its claim, and the claim was given after the first one's record had expired, or was forgotten. The date of
/// a key refuses it from then on, whatever the settings were and are.
fn second_effect(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    first: &Effect,
    second: &Effect,
    options: Options,
    found: &mut Vec<Violation>,
) {
    let (Some(one), Some(other)) = (key.done_by(facts, first), key.done_by(facts, second)) else {
        return;
    };
    let (done, again) = (facts.event(one), facts.event(other));
    let kept = key.operation.logged
        || first.epoch == second.epoch
        // The key is dated no later than its first effect, and so from before the reset.
        || options.reset_detection && key.counts_date(facts, again);
    if !kept || may_have_forgotten(facts, key, one, again) {
        return;
    }
    let apart = second.at_us.saturating_sub(first.at_us) * 1000;
    let has_failed = |answer: &Answer| {
        answer.failed && answer::effect_of(&answer.response) == Some(first.effect)
    };
    let within = if apart < key.retention(facts, done) {
        "within its retention"
    } else if counts_date(facts, key, one, other) && !key.answers.iter().any(has_failed) {
        "although its date refuses it"
    } else {
        return;
    };
    let (first, second) = (first.effect, second.effect);
    let what = format!("effects {first} and {second} of \"{}\" {within}", key.key.text);
    found.push(Violation::new(Rule::SecondEffect, key.id(), what));
}

/// Whether the date certainly counted for what was done again: also for the leases before it whose work that takes over.
fn counts_date(facts: &Facts<'_>, key: &KeyFacts<'_>, one: usize, other: usize) -> bool {
    let again = facts.event(other);
    let since: Vec<_> =
        key.grants.iter().filter(|grant| grant.event > one && grant.event <= other).collect();
    let takes_over =
        since.iter().rfind(|grant| grant.txn == again.txn).map_or(1, |grant| grant.attempt);
    key.counts_date(facts, again)
        && since
            .iter()
            .filter(|grant| grant.fence.is_some() && grant.attempt < takes_over)
            .all(|grant| key.counts_date(facts, facts.event(grant.event)))
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
