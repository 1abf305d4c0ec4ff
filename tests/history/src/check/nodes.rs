//! A slot is one node's at a time: no other answers for it, and that one does, but for the time of a move, which is short.

use super::facts::Facts;
use super::{MS, Rule, Violation};
use crate::history::{Call, Event, Nanos, Outcome};
use crate::nodes::{Move, PARTS, first_node_of, part_of};
use crate::pattern::Pattern;
use crate::pattern::saga::Saga;

/// A move may take so long, even if nodes crash meanwhile, on a machine that has other work.
pub const LONGEST_MOVE: Nanos = 60_000 * MS;

/// A node certainly answers for a part from the first moment to the second.
struct Holds {
    node: u32,
    from: Nanos,
    until: Nanos,
}

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let setup = &facts.history.setup;
    if setup.nodes == 0 {
        return;
    }
    facts.history.moves.iter().for_each(|moved| whole(moved, found));
    let timelines: Vec<Vec<Holds>> =
        (0..PARTS).map(|part| timeline(part, setup.nodes, &facts.history.moves)).collect();
    for event in &facts.history.events {
        let Some(owner) = owner(facts, event) else { continue };
        let part = part_of(&owner);
        let certain = timelines[part]
            .iter()
            .find(|holds| holds.from <= event.start && event.end <= holds.until);
        let keys: Vec<_> = event.call.key().into_iter().collect();
        let mut wrong =
            |rule, what: String| found.push(Violation { rule, keys: keys.clone(), what });
        match certain {
            Some(holds) if holds.node == event.node && event.outcome.code() == "ID010" => {
                wrong(
                    Rule::Away,
                    format!(
                        "{:?} was refused by node {}, which has part {part}",
                        event.call, event.node
                    ),
                );
            }
            Some(holds) if holds.node != event.node && begins(event) => {
                wrong(
                    Rule::Misrouted,
                    format!(
                        "node {} answered {:?}, and node {} has part {part}",
                        event.node, event.call, holds.node
                    ),
                );
            }
            _ => {}
        }
    }
}

fn whole(moved: &Move, found: &mut Vec<Violation>) {
    let mut wrong = |rule, what| found.push(Violation { rule, keys: Vec::new(), what });
    let Move { part, from, to, start, end, .. } = moved;
    if end - start > LONGEST_MOVE {
        wrong(
            Rule::Away,
            format!("part {part} went from node {from} to {to} in {} ms", (end - start) / MS),
        );
    }
    if let Some(conflicts) = moved.rows.get("conflict") {
        wrong(
            Rule::Conflict,
            format!(
                "{conflicts} rows of part {part} were at node {to} already, and otherwise than at {from}"
            ),
        );
    }
}

fn timeline(part: usize, nodes: u32, moves: &[Move]) -> Vec<Holds> {
    let mut timeline = vec![Holds { node: first_node_of(part, nodes), from: 0, until: Nanos::MAX }];
    for moved in moves.iter().filter(|moved| moved.part == part) {
        if let Some(before) = timeline.last_mut() {
            before.until = moved.start;
        }
        let node = if moved.done { moved.to } else { moved.from };
        timeline.push(Holds { node, from: moved.end, until: Nanos::MAX });
    }
    timeline
}

fn owner(facts: &Facts<'_>, event: &Event) -> Option<String> {
    match &event.call {
        Call::Pattern(pattern) => pattern.owner(),
        call => Some(facts.keys.get(&call.key()?)?.key.text.clone()),
    }
}

/// Calls that were accepted and that only the node of the slot may accept.
fn begins(event: &Event) -> bool {
    let accepted = matches!(event.outcome, Outcome::Row(_) | Outcome::Done(_));
    let call = match &event.call {
        Call::Claim { .. } | Call::Run { .. } | Call::Replay { .. } | Call::Seal { .. } => true,
        Call::Pattern(pattern) => matches!(
            pattern,
            Pattern::First { .. }
                | Pattern::Advance { .. }
                | Pattern::Lock { .. }
                | Pattern::Saga(Saga::Run { .. } | Saga::Step { .. } | Saga::Resume { .. })
        ),
        _ => false,
    };
    accepted && call
}
