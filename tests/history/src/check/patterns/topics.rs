//! Who may put and take does, and nobody else. What was put is sent: in the order of its lane, to one relay at a time, and until it is
//! acknowledged; then never again.

use std::collections::{BTreeMap, BTreeSet};

use super::{calls, over};
use crate::check::facts::Facts;
use crate::check::transactions::Fate;
use crate::check::{MARGIN, MS, Rule, Violation};
use crate::history::{Event, Nanos, Outcome};
use crate::pattern::topic::{How, Topic, taken};
use crate::pattern::{Pattern, TOPIC, Trace};

/// A call that counts, or may.
struct Counting<'a> {
    event: &'a Event,
    topic: &'a Topic,
    /// From when on others must know of it; `Nanos::MAX`: never for certain.
    known: Nanos,
    fate: Fate,
    undone: bool,
}

impl Counting<'_> {
    fn may_count(&self) -> bool {
        !self.undone && self.fate.may_have_committed()
    }
}

/// A message that a relay was given.
struct Given<'a> {
    by: &'a Counting<'a>,
    fence: i64,
    /// Until then it is that relay's.
    until: Nanos,
}

/// What was said of one message.
#[derive(Default)]
struct Message<'a> {
    put: Option<(&'a Counting<'a>, u32)>,
    given: Vec<Given<'a>>,
    /// Acknowledged or given back, with which fence; and whether acknowledged.
    ended: Vec<(&'a Counting<'a>, i64, bool)>,
}

impl Message<'_> {
    /// Whether it may be gone when this call was over.
    fn may_be_acknowledged(&self, by: &Event) -> bool {
        self.ended.iter().any(|(ack, _, is_ack)| {
            *is_ack && ack.event.start < over(by) && (ack.may_count() || ack.event.txn == by.txn)
        })
    }
}

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut counting = Vec::new();
    for (at, event, pattern) in calls(facts) {
        let Pattern::Topic(topic) = pattern else { continue };
        rights(event, topic, found);
        if matches!(event.outcome, Outcome::Refused(_)) {
            continue;
        }
        let txn = facts.txn(event.txn);
        let undone = txn.undone_at(at).is_some();
        let stands = event.outcome.is_ok() && !undone;
        let known = if stands { txn.fate.known_by().max(event.end) } else { Nanos::MAX };
        counting.push(Counting { event, topic, known, fate: txn.fate, undone });
    }
    let messages = by_message(&counting);
    for (number, message) in &messages {
        let mut broken = |rule, what: String| {
            found.push(Violation::new(rule, TOPIC, format!("message {number}: {what}")))
        };
        origin(message, &mut broken);
        one_relay(message, &mut broken);
        never_again(message, &mut broken);
    }
    waiting(facts, &messages, found);
    for take in &counting {
        in_order(take, &messages, found);
    }
}

fn by_message<'a>(counting: &'a [Counting<'a>]) -> BTreeMap<u64, Message<'a>> {
    let mut messages: BTreeMap<u64, Message<'a>> = BTreeMap::new();
    for call in counting {
        match &call.topic.how {
            How::Put { lane, number } => {
                messages.entry(*number).or_default().put = Some((call, *lane))
            }
            How::Take { lease_ms, .. } => {
                let Some((fence, taken)) = taken(&call.event.outcome) else { continue };
                let until = call.event.start + lease_ms * MS;
                for (number, _) in taken {
                    let given = Given { by: call, fence, until };
                    messages.entry(number).or_default().given.push(given);
                }
            }
            How::Ack { messages: ended, fence } | How::Release { messages: ended, fence } => {
                let is_ack = matches!(call.topic.how, How::Ack { .. });
                for (number, _) in ended {
                    messages.entry(*number).or_default().ended.push((call, *fence, is_ack));
                }
            }
        }
    }
    messages
}

/// Before anything is looked up.
fn rights(event: &Event, topic: &Topic, found: &mut Vec<Violation>) {
    let refused = event.outcome.code() == "42501";
    if topic.is_allowed() == refused || !topic.is_allowed() && event.outcome.is_ok() {
        // A deadlock or a lost connection may come first.
        let other = matches!(event.outcome, Outcome::Lost | Outcome::Refused(_)) && !refused;
        if !other {
            let what = format!("{topic:?} was told {:?}", event.outcome);
            found.push(Violation::new(Rule::TopicRights, TOPIC, what));
        }
    }
}

/// It was put, by a transaction that may have committed, and not later.
fn origin(message: &Message<'_>, broken: &mut impl FnMut(Rule, String)) {
    for given in &message.given {
        let is_there = message.put.is_some_and(|(put, _)| {
            put.event.start < given.by.event.end
                && (put.may_count() || put.event.txn == given.by.event.txn)
        });
        if !is_there {
            broken(Rule::GhostEffect, format!("{:?} got it, and nobody put it", given.by.topic));
        }
    }
}

fn one_relay(message: &Message<'_>, broken: &mut impl FnMut(Rule, String)) {
    for first in &message.given {
        for second in &message.given {
            let ended = message.ended.iter().any(|(call, fence, _)| {
                *fence == first.fence && call.event.start < second.by.event.end
            });
            if first.by.known < second.by.event.start
                && second.by.event.end + MARGIN < first.until
                && !ended
            {
                let what = format!("fences {} and {} at once", first.fence, second.fence);
                broken(Rule::TwoHolders, what);
            }
        }
        // Who comes too late, once another has it, ends nothing.
        for (call, fence, _) in &message.ended {
            if *fence < first.fence
                && first.by.known < call.event.start
                && call.topic.did_all(&call.event.outcome)
            {
                let what = format!("{:?} counted after fence {}", call.topic, first.fence);
                broken(Rule::StaleFence, what);
            }
        }
    }
}

fn never_again(message: &Message<'_>, broken: &mut impl FnMut(Rule, String)) {
    for (ack, ..) in message.ended.iter().filter(|(.., is_ack)| *is_ack) {
        if !ack.topic.did_all(&ack.event.outcome) {
            continue;
        }
        for given in message.given.iter().filter(|given| given.by.event.start > ack.known) {
            let what = format!("fence {} got it after it was acknowledged", given.fence);
            broken(Rule::SentAgain, what);
        }
    }
}

/// When all is over there is what was put and not acknowledged.
fn waiting(facts: &Facts<'_>, messages: &BTreeMap<u64, Message<'_>>, found: &mut Vec<Violation>) {
    // Without the end of the history nothing is known of it.
    if !facts.history.events.iter().any(|event| event.closing) {
        return;
    }
    let there: BTreeSet<u64> = (facts.history.traces.iter())
        .filter_map(|trace| match trace {
            Trace::Waiting { message } => Some(*message),
            _ => None,
        })
        .collect();
    for (number, message) in messages {
        let Some((put, _)) = message.put else { continue };
        let is_gone = message.ended.iter().any(|(ack, _, is_ack)| *is_ack && ack.may_count());
        let certainly_gone = message.ended.iter().any(|(ack, _, is_ack)| {
            *is_ack && ack.known < Nanos::MAX && ack.topic.did_all(&ack.event.outcome)
        });
        let (rule, what) = match there.contains(number) {
            false if put.known < Nanos::MAX && !is_gone => {
                (Rule::LostEffect, "was put, and is lost")
            }
            true if !put.may_count() => (Rule::GhostEffect, "is there, and its transaction is not"),
            true if certainly_gone => (Rule::SentAgain, "was acknowledged, and is there"),
            _ => continue,
        };
        found.push(Violation::new(rule, TOPIC, format!("message {number} {what}")));
    }
}

/// Nothing of a lane is given while something before it waits, or is with another relay.
fn in_order(
    take: &Counting<'_>,
    messages: &BTreeMap<u64, Message<'_>>,
    found: &mut Vec<Violation>,
) {
    let Some((_, given)) = taken(&take.event.outcome) else { return };
    for (place, (number, _)) in given.iter().enumerate() {
        let Some((put, lane)) = messages.get(number).and_then(|message| message.put) else {
            continue;
        };
        let before = messages.iter().find(|(other, message)| {
            let with_it = given[..place].iter().any(|(earlier, _)| earlier == *other);
            !with_it
                && message
                    .put
                    .is_some_and(|(earlier, of)| of == lane && earlier.known < put.event.start)
                && !message.may_be_acknowledged(take.event)
        });
        if let Some((other, _)) = before {
            let what = format!("message {number} of lane {lane} was given before message {other}");
            found.push(Violation::new(Rule::TopicOrder, TOPIC, what));
        }
    }
}
