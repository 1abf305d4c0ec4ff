//! No other errors than the contract's, and those where they belong.

use super::facts::Facts;
use super::{Rule, Violation};
use crate::history::{Call, Event, Level, Outcome};
use crate::pattern::Pattern;
use crate::settings::Change;

/// May befall any statement: retry, deadlock, our own statement_timeout.
const ANYWHERE: [&str; 3] = ["40001", "40P01", "57014"];
/// The slot is another node's.
const ANOTHER_NODES: &str = "ID010";
const UNDER_STRICT: [&str; 5] = ["ID001", "ID002", "ID004", "ID005", "ID008"];

/// Whether all statements of the transaction see the same.
fn is_frozen(facts: &Facts<'_>, event: &Event) -> bool {
    facts.txn(event.txn).events.iter().any(|at| {
        matches!(&facts.event(*at).call, Call::Begin { level } if *level != Level::ReadCommitted)
    })
}

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for event in &facts.history.events {
        let Outcome::Refused(code) = &event.outcome else { continue };
        let code = code.as_str();
        let of_call = match &event.call {
            Call::Claim { strict, .. } => *strict && UNDER_STRICT.contains(&code),
            Call::Run { strict, declined, key, .. } => {
                let stored = facts.keys.get(key).is_some_and(|key| key.operation.stores_failures);
                *strict && UNDER_STRICT.contains(&code) || code == "P0001" && *declined && !stored
            }
            Call::Complete { .. } | Call::Release { .. } => ["ID003", "ID007"].contains(&code),
            Call::Extend { .. } | Call::Checkpoint { .. } => ["ID003", "ID007"].contains(&code),
            Call::Commit => code == "ID009",
            // 53400: as many as the server can remember are prepared already.
            Call::Prepare { .. } => ["ID009", "53400"].contains(&code),
            // Settled already, or by somebody else at this moment.
            Call::CommitPrepared { .. } | Call::RollbackPrepared { .. } => {
                ["42704", "55000"].contains(&code)
            }
            Call::Resolve { .. } => code == "55000",
            // The leases that it counts for could not all be seen.
            Call::Configure { change: Change::OnLapse { unknown: true }, .. } => {
                code == "0A000" && is_frozen(facts, event)
            }
            // Held, or leased with another fence.
            Call::Forget { .. } => ["55006", "ID003"].contains(&code),
            // Another transaction had one of the messages for longer than the consumer's operation waits.
            Call::Pattern(Pattern::First { .. }) => code == "ID001",
            // 42501 is another rule's business. Another transaction puts into the lane; another relay has it.
            Call::Pattern(Pattern::Topic(_)) => ["42501", "ID001", "ID003"].contains(&code),
            // A handler is out of luck; the saga is not there, or not where the administrator thinks; or another session works on it.
            Call::Pattern(Pattern::Saga(_)) => {
                ["HT001", "ID001", "02000", "42704", "55000"].contains(&code)
            }
            // Another rule's business.
            Call::Pattern(Pattern::Watched { .. }) => true,
            _ => false,
        };
        let elsewhere =
            facts.history.setup.nodes > 0 && event.call.key().is_some() && code == ANOTHER_NODES;
        if !of_call && !elsewhere && !ANYWHERE.contains(&code) {
            let what = format!("{:?} was refused with {code}", event.call);
            let keys = event.call.key().into_iter().collect();
            found.push(Violation { rule: Rule::WrongError, keys, what });
        }
    }
}
