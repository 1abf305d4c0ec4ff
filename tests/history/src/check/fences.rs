//! Fences only grow, over all keys of a node, and over all nodes of a key; none is given twice; and none is worth anything after a
//! later one, or after its lease.

use std::collections::{HashMap, HashSet};

use super::facts::{Facts, Grant, KeyFacts};
use super::{MARGIN, MS, Rule, Violation};
use crate::history::{Call, Event, Nanos, Outcome};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let leased: Vec<&Grant> = facts
        .keys
        .values()
        .flat_map(|key| &key.grants)
        .filter(|grant| grant.fence.is_some())
        .collect();
    let before = found.len();
    let mut nodes: Vec<u32> = leased.iter().map(|grant| grant.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    for node in &nodes {
        let of_node: Vec<&Grant> =
            leased.iter().copied().filter(|grant| grant.node == *node).collect();
        grow(&of_node, found);
    }
    if nodes.len() > 1 {
        for key in facts.keys.values() {
            let of_key: Vec<&Grant> =
                key.grants.iter().filter(|grant| grant.fence.is_some()).collect();
            grow(&of_key, found);
        }
        // What is wrong with two of a key at one node was found twice.
        let mut seen = HashSet::new();
        let mut at = 0;
        found.retain(|violation| {
            at += 1;
            at <= before || seen.insert(violation.what.clone())
        });
    }
    for key in facts.keys.values() {
        for &at in &key.calls {
            let event = facts.event(at);
            if let Some(fence) = used(event) {
                after_a_later_one(key, event, fence, found);
                after_its_lease(facts, key, at, fence, found);
            }
        }
    }
}

fn grow(leased: &[&Grant], found: &mut Vec<Violation>) {
    reused(leased, found);
    ordered(leased, found);
}

/// The fence of a write that succeeded.
fn used(event: &Event) -> Option<i64> {
    match (&event.call, &event.outcome) {
        (Call::Complete { fence, .. }, Outcome::Done(_)) => *fence,
        (Call::Release { fence, .. }, Outcome::Done(done)) if done == "t" => *fence,
        (Call::Extend { fence, .. } | Call::Checkpoint { fence, .. }, Outcome::Done(_)) => {
            Some(*fence)
        }
        _ => None,
    }
}

/// What was never committed counts within its epoch alone: a crash may take the sequence back over it.
fn counts(one: &Grant, other: &Grant) -> bool {
    one.epoch == other.epoch || one.fate.is_committed() && one.undone_at.is_none()
}

fn reused(leased: &[&Grant], found: &mut Vec<Violation>) {
    let mut seen: HashMap<i64, Vec<&Grant>> = HashMap::new();
    for grant in leased {
        let Some(fence) = grant.fence else { continue };
        let before = seen.entry(fence).or_default();
        if let Some(other) =
            before.iter().find(|other| counts(other, grant) && counts(grant, other))
        {
            found.push(Violation::of_two(
                Rule::FenceReused,
                [other.key, grant.key],
                format!("fence {fence} was granted for keys {} and {}", other.key, grant.key),
            ));
        }
        before.push(grant);
    }
}

/// A grant that was asked for after another was told has the higher fence.
fn ordered(leased: &[&Grant], found: &mut Vec<Violation>) {
    let mut asked: Vec<&Grant> = leased.to_vec();
    asked.sort_by_key(|grant| grant.asked);
    let mut epochs: Vec<i64> = leased.iter().map(|grant| grant.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    for epoch in epochs {
        let told = |grant: &&Grant| if grant.epoch == epoch { grant.told } else { Nanos::MAX };
        sweep(&asked, told, |grant| grant.epoch == epoch, found);
    }
    let acknowledged = |grant: &&Grant| {
        if grant.undone_at.is_none() { grant.fate.known_by().max(grant.told) } else { Nanos::MAX }
    };
    sweep(&asked, acknowledged, |_| true, found);
}

fn sweep(
    asked: &[&Grant],
    settled: impl Fn(&&Grant) -> Nanos,
    concerns: impl Fn(&Grant) -> bool,
    found: &mut Vec<Violation>,
) {
    let mut by_settled: Vec<&Grant> = asked.to_vec();
    by_settled.sort_by_key(&settled);
    let mut earlier = by_settled.iter().peekable();
    let mut highest: Option<&Grant> = None;
    for grant in asked.iter().filter(|grant| concerns(grant)) {
        while let Some(next) = earlier.next_if(|next| settled(next) < grant.asked) {
            if highest.is_none_or(|highest| next.fence > highest.fence) {
                highest = Some(next);
            }
        }
        // The same fence is the other rule's business.
        if let Some(highest) = highest.filter(|highest| highest.fence > grant.fence) {
            found.push(Violation::of_two(
                Rule::FenceOrder,
                [highest.key, grant.key],
                format!(
                    "fence {:?} was granted after {:?}",
                    grant.fence.unwrap_or_default(),
                    highest.fence.unwrap_or_default()
                ),
            ));
        }
    }
}

fn after_a_later_one(key: &KeyFacts<'_>, event: &Event, fence: i64, found: &mut Vec<Violation>) {
    let later = key.grants.iter().find(|grant| {
        grant.fence.is_some_and(|other| other > fence)
            && grant.undone_at.is_none()
            && grant.fate.known_by() < event.start
    });
    if let Some(later) = later.and_then(|grant| grant.fence) {
        let what =
            format!("{:?} succeeded with fence {fence} after {later} was granted", event.call);
        found.push(Violation::new(Rule::StaleFence, key.id(), what));
    }
}

fn after_its_lease(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    at: usize,
    fence: i64,
    found: &mut Vec<Violation>,
) {
    let event = facts.event(at);
    let Some(grant) = key.grants.iter().rfind(|grant| grant.fence == Some(fence)) else {
        let what = format!("{:?} succeeded with a fence that was never granted", event.call);
        return found.push(Violation::new(Rule::StaleFence, key.id(), what));
    };
    let mut end = grant.told + grant.lease_ms * MS;
    for other in
        key.calls.iter().map(|at| facts.event(*at)).filter(|other| other.start < event.start)
    {
        match (&other.call, &other.outcome) {
            (Call::Extend { fence: given, lease_ms, .. }, Outcome::Done(_)) if *given == fence => {
                end = end.max(other.end + lease_ms * MS);
            }
            // Nobody knows when it was done, if it was.
            (Call::Extend { fence: given, .. }, Outcome::Lost) if *given == fence => return,
            // The same answer again is harmless, however late.
            (Call::Complete { answer, .. }, Outcome::Done(_)) if matches!(&event.call, Call::Complete { answer: again, .. } if again == answer) =>
            {
                return;
            }
            _ => {}
        }
    }
    if event.start > end + MARGIN {
        let late = (event.start - end) / MS;
        let what = format!("{:?} succeeded {late} ms after the lease had ended", event.call);
        found.push(Violation::new(Rule::StaleFence, key.id(), what));
    }
}
