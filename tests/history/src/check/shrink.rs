//! The shortest part of a history that still shows a violation: whole transactions are left out for as long as the
//! checker goes on to say the same, then statements about other keys.

use std::collections::BTreeSet;

use super::{Options, Violation, check};
use crate::history::{Call, Event, History, TxnId};

pub fn shrink(history: &History, violation: &Violation, options: Options) -> History {
    let mut txns: Vec<TxnId> = concerned(history, violation).into_iter().collect();
    let mut part = keep(history, violation, &txns);
    // Halves first, then quarters, down to one at a time.
    let mut size = txns.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < txns.len() {
            let mut fewer = txns.clone();
            fewer.drain(from..(from + size).min(txns.len()));
            let tried = keep(history, violation, &fewer);
            if shows(&tried, violation, options) {
                (txns, part) = (fewer, tried);
            } else {
                from += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    let about = |event: &Event| event.call.key().is_none_or(|key| violation.keys.contains(&key));
    let mut tried = part.clone();
    tried.events.retain(about);
    tried.keys.retain(|key| violation.keys.contains(&key.id));
    if shows(&tried, violation, options) { tried } else { part }
}

fn shows(part: &History, violation: &Violation, options: Options) -> bool {
    check(part, options).contains(violation)
}

/// The transactions that speak of the keys, and those that settled them.
fn concerned(history: &History, violation: &Violation) -> BTreeSet<TxnId> {
    let mut txns: BTreeSet<TxnId> = history
        .events
        .iter()
        .filter(|event| {
            violation.keys.is_empty()
                || event.call.key().is_some_and(|key| violation.keys.contains(&key))
        })
        .map(|event| event.txn)
        .collect();
    let prepared: BTreeSet<&String> = history
        .events
        .iter()
        .filter(|event| txns.contains(&event.txn))
        .filter_map(|event| gid(&event.call))
        .collect();
    let settling = history
        .events
        .iter()
        .filter(|event| gid(&event.call).is_some_and(|gid| prepared.contains(gid)));
    let settling: Vec<TxnId> = settling.map(|event| event.txn).collect();
    txns.extend(settling);
    txns
}

fn gid(call: &Call) -> Option<&String> {
    match call {
        Call::Prepare { gid } | Call::CommitPrepared { gid } | Call::RollbackPrepared { gid } => {
            Some(gid)
        }
        _ => None,
    }
}

fn keep(history: &History, violation: &Violation, txns: &[TxnId]) -> History {
    let txns: BTreeSet<&TxnId> = txns.iter().collect();
    let events: Vec<Event> =
        history.events.iter().filter(|event| txns.contains(&event.txn)).cloned().collect();
    // An effect goes with the transaction that did it; one that is nobody's stays.
    let known = |effect: u64, events: &[Event]| {
        events.iter().any(|event| match &event.call {
            Call::Effect { effect: number, .. } | Call::Run { effect: number, .. } => {
                *number == effect
            }
            _ => false,
        })
    };
    let concerns = |key| violation.keys.is_empty() || violation.keys.contains(&key);
    let effects = history
        .effects
        .iter()
        .filter(|effect| concerns(effect.key))
        .filter(|effect| known(effect.effect, &events) || !known(effect.effect, &history.events))
        .cloned()
        .collect();
    let left = |number: u64, events: &[Event]| {
        events.iter().any(|event| match &event.call {
            Call::Pattern(pattern) => pattern.number() == Some(number),
            _ => false,
        })
    };
    let traces = history
        .traces
        .iter()
        .filter(|trace| trace.subject().is_none_or(concerns))
        .filter(|trace| {
            trace
                .number()
                .is_none_or(|number| left(number, &events) || !left(number, &history.events))
        })
        .cloned()
        .collect();
    let keys = history
        .keys
        .iter()
        .filter(|key| {
            concerns(key.id) || events.iter().any(|event| event.call.key() == Some(key.id))
        })
        .cloned()
        .collect();
    // All of them: which node has what follows from them.
    let moves = history.moves.clone();
    History {
        setup: history.setup.clone(),
        keys,
        events,
        faults: Vec::new(),
        moves,
        effects,
        traces,
    }
}
