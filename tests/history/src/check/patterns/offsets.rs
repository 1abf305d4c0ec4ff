//! A partition's accepted offsets grow, and none is refused that lies beyond the stored one.

use std::collections::{BTreeMap, HashMap};

use super::{calls, stood_in_its_own};
use crate::check::facts::Facts;
use crate::check::{Rule, Violation};
use crate::pattern::{Pattern, Trace, partition_subject};

/// An accepted offset: its place in the order of acceptance, the offset, and the number of its call.
type Accepted = (i64, i64, u64);

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut accepted: BTreeMap<u32, Vec<Accepted>> = BTreeMap::new();
    for trace in &facts.history.traces {
        if let Trace::Offset { partition, offset, place, number } = trace {
            accepted.entry(*partition).or_default().push((*place, *offset, *number));
        }
    }
    for (partition, accepted) in &mut accepted {
        accepted.sort_unstable();
        for pair in accepted.windows(2) {
            if let [(_, before, _), (_, after, _)] = pair
                && after <= before
            {
                let what = format!("offset {after} was accepted after {before}");
                found.push(Violation::new(Rule::OffsetOrder, partition_subject(*partition), what));
            }
        }
    }
    for trace in &facts.history.traces {
        if let Trace::Position { partition, offset } = trace {
            let last = accepted.get(partition).and_then(|all| all.last()).map(|last| last.1);
            if last.is_some_and(|last| last != *offset) {
                let what = format!("offset {offset} is stored, and {last:?} was accepted last");
                let subject = partition_subject(*partition);
                found.push(Violation::new(Rule::OffsetOrder, subject, what));
            }
        }
    }
    refused(facts, &accepted, found);
}

fn refused(facts: &Facts<'_>, accepted: &BTreeMap<u32, Vec<Accepted>>, found: &mut Vec<Violation>) {
    let by_number: HashMap<u64, usize> =
        calls(facts).filter_map(|(at, _, pattern)| Some((pattern.number()?, at))).collect();
    let mut told: BTreeMap<u32, Vec<(usize, i64)>> = BTreeMap::new();
    for (at, event, pattern) in calls(facts) {
        let Pattern::Advance { partition, offset, .. } = pattern else { continue };
        let before = told.entry(*partition).or_default();
        if event.outcome.is_done("t") {
            before.push((at, *offset));
        }
        if !event.outcome.is_done("f") {
            continue;
        }
        let reached = |other: &i64| other >= offset;
        let others = accepted.get(partition).into_iter().flatten().any(|(_, other, number)| {
            let call = by_number.get(number).map(|at| facts.event(*at));
            reached(other) && call.is_some_and(|call| call.start < event.end)
        });
        let own =
            before.iter().any(|(one, other)| reached(other) && stood_in_its_own(facts, *one, at));
        if !others && !own {
            let what = format!("offset {offset} was refused, and nobody had come that far");
            found.push(Violation::new(Rule::NoReason, partition_subject(*partition), what));
        }
    }
}
