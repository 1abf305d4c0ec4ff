//! The promises of the patterns: messages, offsets, locks with a key, observation.

mod locks;
mod messages;
mod observed;
mod offsets;
mod sagas;
mod topics;
mod traces;

use super::facts::Facts;
use super::{Violation, over};
use crate::history::{Call, Event};
use crate::pattern::Pattern;

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    traces::check(facts, found);
    messages::check(facts, found);
    offsets::check(facts, found);
    locks::check(facts, found);
    observed::check(facts, found);
    sagas::check(facts, found);
    topics::check(facts, found);
}

/// The calls of patterns, in order, with their places in the history.
fn calls<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (usize, &'a Event, &'a Pattern)> {
    facts.history.events.iter().enumerate().filter_map(|(at, event)| match &event.call {
        Call::Pattern(pattern) => Some((at, event, pattern)),
        _ => None,
    })
}

/// Whether a transaction was told the one before the other, and it stood when the other was asked.
fn stood_in_its_own(facts: &Facts<'_>, one: usize, other: usize) -> bool {
    let (earlier, later) = (facts.event(one), facts.event(other));
    earlier.txn == later.txn
        && one < other
        && facts.undone_at(one).is_none_or(|undone| undone > later.start)
}
