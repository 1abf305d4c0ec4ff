//! A message is new to a consumer at most once within its retention, and is not called seen unless somebody has it.

use std::collections::{BTreeMap, HashMap};

use super::{calls, over, stood_in_its_own};
use crate::check::facts::Facts;
use crate::check::{MARGIN, MS, Rule, Violation};
use crate::history::{Event, Nanos};
use crate::pattern::{Pattern, Trace, consumer_subject, told};

/// A message of a consumer.
type Message = (u32, u32);

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let by_number: HashMap<u64, usize> =
        calls(facts).filter_map(|(at, _, pattern)| Some((pattern.number()?, at))).collect();
    let mut traces: BTreeMap<Message, Vec<usize>> = BTreeMap::new();
    for trace in &facts.history.traces {
        if let Trace::Message { consumer, message, number } = trace
            && let Some(at) = by_number.get(number)
        {
            traces.entry((*consumer, *message)).or_default().push(*at);
        }
    }
    for (message, calls) in &traces {
        twice(facts, *message, calls, found);
    }
    let mut told_before: HashMap<Message, Vec<usize>> = HashMap::new();
    for (at, event, pattern) in calls(facts) {
        let Pattern::First { consumer, messages, .. } = pattern else { continue };
        if !event.outcome.is_ok() {
            continue;
        }
        let new = told(&event.outcome);
        if !is_in_order(&new, messages) {
            let what = format!("of {messages:?} {new:?} were new: not as they were given");
            found.push(Violation::new(Rule::NoReason, consumer_subject(*consumer), what));
        }
        for message in messages.iter().filter(|message| !new.contains(message)) {
            let message = (*consumer, *message);
            let lasts = |by: &Event| {
                by.start < event.end
                    && over(by).saturating_add(retention(facts, message.0)) + MARGIN > event.start
            };
            let marked = traces.get(&message).into_iter().flatten();
            let own = told_before.get(&message).into_iter().flatten();
            let has_reason = marked.clone().any(|by| lasts(facts.event(*by)))
                || own.clone().any(|one| stood_in_its_own(facts, *one, at));
            if !has_reason {
                let what =
                    format!("message {} was called seen, and nobody has it, or no more", message.1);
                found.push(Violation::new(Rule::NoReason, consumer_subject(*consumer), what));
            }
        }
        for message in new {
            told_before.entry((*consumer, message)).or_default().push(at);
        }
    }
}

/// Each once, and in the order given.
fn is_in_order(new: &[u32], given: &[u32]) -> bool {
    let mut first_seen: Vec<u32> = Vec::new();
    for message in given {
        if !first_seen.contains(message) {
            first_seen.push(*message);
        }
    }
    let mut rest = first_seen.iter();
    new.iter().all(|message| rest.any(|given| given == message))
}

fn twice(facts: &Facts<'_>, message: Message, calls: &[usize], found: &mut Vec<Violation>) {
    let retention = retention(facts, message.0);
    for (index, one) in calls.iter().enumerate() {
        for other in &calls[index + 1..] {
            let (one, other) = (facts.event(*one), facts.event(*other));
            // Whichever was first: a record lasts from the moment of its call.
            let apart = apart(one, other).max(apart(other, one));
            if apart + MARGIN < retention {
                let what = format!(
                    "message {} was new twice, at most {} ms apart: {:?} and {:?}",
                    message.1,
                    apart / MS,
                    one.call,
                    other.call
                );
                found.push(Violation::new(Rule::SecondFirst, consumer_subject(message.0), what));
            }
        }
    }
}

/// At most, if the first is the earlier one.
fn apart(earlier: &Event, later: &Event) -> Nanos {
    over(later).saturating_sub(earlier.start)
}

fn retention(facts: &Facts<'_>, consumer: u32) -> Nanos {
    let operation =
        usize::try_from(consumer).ok().and_then(|at| facts.history.setup.operations.get(at));
    operation.map_or(Nanos::MAX / 2, |operation| operation.retention_ms * MS)
}
