//! A lock with a key has one holder at a time, who is refused to nobody else without a reason; its fences grow.
//!
//! Only what is certain counts: a lock lasts from the moment that it was told and committed until its time, counted from
//! when it was asked for, or until somebody asks to give it back.

use std::collections::{BTreeMap, BTreeSet};

use super::{calls, over};
use crate::check::facts::Facts;
use crate::check::transactions::Fate;
use crate::check::{MARGIN, MS, Rule, Violation};
use crate::history::{Event, Nanos, Outcome};
use crate::pattern::{Pattern, fence, other_holder, resource_subject};

/// A call that took the lock or extended it, or may have.
struct Taken<'a> {
    event: &'a Event,
    resource: u32,
    holder: u32,
    ttl: Nanos,
    /// `None`: nobody was told.
    fence: Option<i64>,
    /// From when on others must know of it; `Nanos::MAX`: never for certain.
    known: Nanos,
    fate: Fate,
}

impl Taken<'_> {
    fn may_last_at(&self, at: Nanos) -> bool {
        over(self.event).saturating_add(self.ttl).saturating_add(MARGIN) > at
    }

    fn is_of(&self, resource: u32, holder: u32) -> bool {
        self.resource == resource && self.holder == holder
    }
}

/// A call that gave a lock back, or may have.
struct Given<'a> {
    event: &'a Event,
    resource: u32,
    holder: u32,
    fence: i64,
}

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let (mut taken, mut given) = (Vec::new(), Vec::new());
    for (at, event, pattern) in calls(facts) {
        if matches!(event.outcome, Outcome::Refused(_)) {
            continue;
        }
        match *pattern {
            Pattern::Lock { resource, holder, ttl_ms }
                if other_holder(&event.outcome).is_none() =>
            {
                let txn = facts.txn(event.txn);
                let fence = fence(&event.outcome);
                let stands = fence.is_some() && txn.undone_at(at).is_none();
                taken.push(Taken {
                    event,
                    resource,
                    holder,
                    ttl: ttl_ms * MS,
                    fence,
                    known: if stands { txn.fate.known_by().max(event.end) } else { Nanos::MAX },
                    fate: txn.fate,
                });
            }
            Pattern::Unlock { resource, holder, fence } if !event.outcome.is_done("f") => {
                given.push(Given { event, resource, holder, fence });
            }
            _ => {}
        }
    }
    held(&taken, &given, found);
    refused(facts, &taken, &given, found);
    let of = |wanted: &dyn Fn(&Taken<'_>) -> bool| -> Vec<&Taken<'_>> {
        taken.iter().filter(|taken| wanted(taken)).collect()
    };
    let nodes: BTreeSet<u32> = taken.iter().map(|taken| taken.event.node).collect();
    for node in &nodes {
        ordered(&of(&|taken| taken.event.node == *node), found);
    }
    if nodes.len() > 1 {
        let resources: BTreeSet<u32> = taken.iter().map(|taken| taken.resource).collect();
        for resource in resources {
            ordered(&of(&|taken| taken.resource == resource), found);
        }
    }
    given_back(&taken, &given, found);
}

/// Nobody is granted what another certainly has, and its holder is granted it with the same fence.
fn held(taken: &[Taken<'_>], given: &[Given<'_>], found: &mut Vec<Violation>) {
    for (index, grant) in taken.iter().enumerate() {
        let Some(fence) = grant.fence else { continue };
        let granted = grant.event.end + MARGIN;
        let earlier = taken[..index].iter().filter(|one| {
            one.resource == grant.resource
                && one.known < grant.event.start
                && one.event.start + one.ttl > granted
                && one.fence != Some(fence)
        });
        for one in earlier {
            let given_back = given.iter().any(|given| {
                given.resource == one.resource
                    && Some(given.fence) == one.fence
                    && given.event.start < grant.event.end
            });
            if !given_back {
                let (rule, who) = if one.holder == grant.holder {
                    (Rule::FenceReused, "its holder got another fence")
                } else {
                    (Rule::TwoHolders, "another had it")
                };
                let what = format!(
                    "{:?} was told {:?} while {who}: {:?} was told {:?}",
                    grant.event.call, grant.event.outcome, one.event.call, one.event.outcome
                );
                found.push(Violation::new(rule, resource_subject(grant.resource), what));
            }
        }
    }
}

/// Whoever is said to have it has asked for it, and may still have it, or a transaction that is open has taken it or given it back for
/// that one, and stands in the way of everybody else.
fn refused(
    facts: &Facts<'_>,
    taken: &[Taken<'_>],
    given: &[Given<'_>],
    found: &mut Vec<Violation>,
) {
    for (_, event, pattern) in calls(facts) {
        let Pattern::Lock { resource, holder, .. } = *pattern else { continue };
        let Some(other) = other_holder(&event.outcome) else { continue };
        let in_the_way = |by: &Event| {
            by.txn != event.txn
                && by.start < event.end
                && facts.txn(by.txn).open_until >= event.start
        };
        let has_reason = taken.iter().filter(|taken| taken.is_of(resource, other)).any(|taken| {
            in_the_way(taken.event)
                || other != holder
                    && taken.event.start < event.end
                    && taken.may_last_at(event.start)
                    && (taken.fate.may_have_committed() || taken.event.txn == event.txn)
        }) || given.iter().any(|given| {
            given.resource == resource && given.holder == other && in_the_way(given.event)
        });
        if !has_reason {
            let what = format!("{pattern:?} was refused, and {other} did not have it");
            found.push(Violation::new(Rule::NoReason, resource_subject(resource), what));
        }
    }
}

/// A fence is one lock's, and a later one's is higher: over all locks of a node, and over all nodes of a lock.
fn ordered(taken: &[&Taken<'_>], found: &mut Vec<Violation>) {
    let mut first: BTreeMap<i64, &Taken<'_>> = BTreeMap::new();
    for grant in taken.iter().copied() {
        let Some(fence) = grant.fence else { continue };
        let of = first.entry(fence).or_insert(grant);
        // What was never committed counts within its epoch alone: a crash may take the sequence back over it.
        let counts = of.event.epoch == grant.event.epoch || of.known < Nanos::MAX;
        if of.is_of(grant.resource, grant.holder) {
            continue;
        }
        if counts {
            let what = format!(
                "fence {fence} was granted for {:?} and {:?}",
                of.event.call, grant.event.call
            );
            found.push(Violation::new(Rule::FenceReused, resource_subject(grant.resource), what));
        }
        *of = grant;
    }
    let mut settled: Vec<&Taken<'_>> =
        taken.iter().copied().filter(|one| one.known < Nanos::MAX).collect();
    settled.sort_by_key(|one| one.known);
    let mut asked: Vec<(Nanos, &Taken<'_>)> =
        first.into_values().map(|grant| (asked_at(taken, grant), grant)).collect();
    asked.sort_by_key(|(asked, _)| *asked);
    let (mut settled, mut highest) = (settled.into_iter().peekable(), i64::MIN);
    for (asked, grant) in asked {
        while let Some(next) = settled.next_if(|next| next.known < asked) {
            highest = highest.max(next.fence.unwrap_or(highest));
        }
        let fence = grant.fence.unwrap_or(i64::MAX);
        if fence < highest {
            let what = format!("fence {fence} was granted after {highest}");
            found.push(Violation::new(Rule::FenceOrder, resource_subject(grant.resource), what));
        }
    }
}

/// When the fence may have been drawn: earlier, if its holder has asked before and was not answered.
fn asked_at(taken: &[&Taken<'_>], grant: &Taken<'_>) -> Nanos {
    let mut asked = grant.event.start;
    let unanswered =
        |one: &&&Taken<'_>| one.fence.is_none() && one.is_of(grant.resource, grant.holder);
    for one in taken.iter().rev().filter(unanswered) {
        if one.event.start < asked && one.may_last_at(asked) {
            asked = one.event.start;
        }
    }
    asked
}

/// Only who has it gives it back.
fn given_back(taken: &[Taken<'_>], given: &[Given<'_>], found: &mut Vec<Violation>) {
    for given in given.iter().filter(|given| given.event.outcome.is_done("t")) {
        let of = |taken: &&Taken<'_>| taken.is_of(given.resource, given.holder);
        let may_have_it = taken.iter().filter(of).any(|taken| {
            taken.fence.is_none_or(|fence| fence == given.fence)
                && taken.event.start < given.event.end
                && taken.may_last_at(given.event.start)
        });
        let later = taken.iter().find(|taken| {
            taken.resource == given.resource
                && taken.fence.is_some_and(|fence| fence > given.fence)
                && taken.known < given.event.start
        });
        if !may_have_it || later.is_some() {
            let what = format!("{:?} succeeded, and it was not held any more", given.event.call);
            found.push(Violation::new(Rule::StaleFence, resource_subject(given.resource), what));
        }
    }
}
