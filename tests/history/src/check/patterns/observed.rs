//! An operation that is only observed is in nobody's way: no call is refused, and none waits for another.

use super::calls;
use crate::check::facts::Facts;
use crate::check::{Rule, Violation};
use crate::history::{Call, Event, Level, Outcome};
use crate::pattern::{Pattern, Watched};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (_, event, pattern) in calls(facts) {
        let Pattern::Watched { how, .. } = pattern else { continue };
        let fine = match &event.outcome {
            Outcome::Done(done) => went_through(how, done, facts.txn(event.txn).explicit),
            // The server picks whom it likes among transactions that could not have come one after the other. A wait
            // for others would end in a deadlock, or with the statement_timeout.
            Outcome::Refused(code) => {
                code == "40001" && is_serializable(facts, event)
                    || code == "ID010" && facts.history.setup.nodes > 0
            }
            Outcome::Row(_) => false,
            Outcome::Lost => true,
        };
        if !fine {
            let what = format!("{pattern:?} was told {:?}", event.outcome);
            found.push(Violation::new(Rule::ObservedInTheWay, pattern.subject(), what));
        }
    }
}

fn went_through(how: &Watched, done: &str, in_transaction: bool) -> bool {
    match how {
        Watched::Claim { lease_ms, .. } => {
            let (outcome, fenced) =
                done.split_once(' ').map_or((done, false), |(outcome, _)| (outcome, true));
            // What its own transaction has claimed already is claimed again, as it was.
            outcome == "claimed" && (in_transaction || fenced == lease_ms.is_some())
        }
        Watched::Run { .. } => done == "executed",
        Watched::Release { .. } => done == "t" || done == "f",
        Watched::Complete { .. } => true,
    }
}

fn is_serializable(facts: &Facts<'_>, event: &Event) -> bool {
    facts
        .txn(event.txn)
        .events
        .iter()
        .any(|at| matches!(facts.event(*at).call, Call::Begin { level: Level::Serializable }))
}
