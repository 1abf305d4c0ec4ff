//! The traces are those of the transactions that committed, whole.

use std::collections::BTreeMap;

use super::calls;
use crate::check::facts::Facts;
use crate::check::transactions::Fate;
use crate::check::{Rule, Violation};
use crate::history::{Event, Outcome};
use crate::pattern::{Pattern, Trace, told};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut there: BTreeMap<u64, Vec<&Trace>> = BTreeMap::new();
    for trace in &facts.history.traces {
        if let Some(number) = trace.number() {
            there.entry(number).or_default().push(trace);
        }
    }
    for (at, event, pattern) in calls(facts) {
        let Some(number) = pattern.number() else { continue };
        let left = there.remove(&number).unwrap_or_default();
        let txn = facts.txn(event.txn);
        let undone = txn.undone_at(at).is_some() || txn.fate == Fate::Aborted;
        let lost = event.outcome == Outcome::Lost && !txn.explicit;
        let done = pattern.leaves_a_trace(&event.outcome);
        let wrong = if left.is_empty() {
            (done && !undone && txn.fate.is_committed()).then_some(Rule::LostEffect)
        } else {
            let stays = !undone && (lost || pattern.may_leave_a_trace(&event.outcome));
            (!stays || !is_as_told(event, pattern, &left)).then_some(Rule::GhostEffect)
        };
        if let Some(rule) = wrong {
            let what = format!("{pattern:?} was told {:?} and left {left:?}", event.outcome);
            found.push(Violation::new(rule, pattern.subject(), what));
        }
    }
    for trace in there.into_values().flatten() {
        let keys = trace.subject().into_iter().collect();
        let what = format!("{trace:?} is nobody's");
        found.push(Violation { rule: Rule::GhostEffect, keys, what });
    }
}

fn is_as_told(event: &Event, pattern: &Pattern, left: &[&Trace]) -> bool {
    if event.outcome == Outcome::Lost {
        return true;
    }
    match pattern {
        Pattern::First { consumer, .. } => {
            let mut expected = told(&event.outcome);
            let mut seen: Vec<u32> = left
                .iter()
                .filter_map(|trace| match trace {
                    Trace::Message { consumer: of, message, .. } if of == consumer => {
                        Some(*message)
                    }
                    _ => None,
                })
                .collect();
            expected.sort_unstable();
            seen.sort_unstable();
            expected == seen
        }
        Pattern::Advance { partition, offset, .. } => matches!(
            left,
            [Trace::Offset { partition: of, offset: to, .. }] if of == partition && to == offset
        ),
        _ => left.len() == 1,
    }
}
