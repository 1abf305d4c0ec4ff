//! A key is never given to two holders at once.
//!
//! Only what is certain counts: a holder certainly holds from the moment it was told until it sent the statement that
//! may end that, or until the earliest moment at which its lease can have ended.

use super::facts::{Facts, Grant, KeyFacts};
use super::transactions::Fate;
use super::{MARGIN, MS, Rule, Violation};
use crate::history::{Call, Nanos, Outcome};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        let held: Vec<_> =
            key.grants.iter().map(|grant| (grant, until(facts, key, grant))).collect();
        for (at, (one, one_until)) in held.iter().enumerate() {
            for (other, other_until) in &held[at + 1..] {
                let leased = one.fence.is_some() || other.fence.is_some();
                // A lease is gone with its record; a prepared transaction keeps its claim over a crash.
                if leased && !key.lasts(one.epoch, other.epoch) {
                    continue;
                }
                let overlap = one.told.max(other.told) < *(one_until.min(other_until));
                if overlap
                    || granted_within(facts, one, other, *other_until)
                    || granted_within(facts, other, one, *one_until)
                {
                    found.push(Violation::new(
                        Rule::TwoHolders,
                        key.id(),
                        format!("{} and {} at once", describe(facts, one), describe(facts, other)),
                    ));
                }
            }
        }
    }
}

fn granted_within(facts: &Facts<'_>, grant: &Grant, holder: &Grant, until: Nanos) -> bool {
    holder.told < grant.asked && facts.event(grant.event).end < until
}

fn describe(facts: &Facts<'_>, grant: &Grant) -> String {
    let client = facts.event(grant.event).client;
    match grant.fence {
        Some(fence) => format!("client {client} with fence {fence}"),
        None => format!("client {client} in transaction {}", grant.txn),
    }
}

/// How long a grant was certainly held; not after `told` if nothing is certain.
pub fn until(facts: &Facts<'_>, key: &KeyFacts<'_>, grant: &Grant) -> Nanos {
    let txn = facts.txn(grant.txn);
    let undone = grant.undone_at.unwrap_or(Nanos::MAX);
    let Some(fence) = grant.fence else {
        let given_back = key
            .calls
            .iter()
            .filter(|at| **at > grant.event)
            .map(|at| facts.event(*at))
            .find(|event| {
                event.txn == grant.txn
                    && matches!(event.call, Call::Release { fence: None, .. } | Call::Forget { .. })
                    && !matches!(event.outcome, Outcome::Refused(_))
            });
        return txn.open_until.min(undone).min(given_back.map_or(Nanos::MAX, |event| event.start));
    };
    let mut lease_end = grant.asked + grant.lease_ms * MS;
    let mut ended = if grant.fate.is_committed() { Nanos::MAX } else { txn.open_until };
    ended = ended.min(undone);
    for &at in &key.calls {
        let event = facts.event(at);
        // After a crash the record is gone, and who names its fence then means another claim, or nothing. Of several nodes that is not
        // certain while one of them crashes.
        if matches!(event.outcome, Outcome::Refused(_)) || !key.may_last(grant.epoch, event.epoch) {
            continue;
        }
        let is_certain = key.lasts(grant.epoch, event.epoch);
        match &event.call {
            Call::Extend { fence: given, lease_ms, .. } if *given == fence => {
                let extended = event.start + lease_ms * MS;
                let txn = facts.txn(event.txn);
                match txn.fate {
                    Fate::Committed { .. } if is_certain && txn.undone_at(at).is_none() => {
                        lease_end = extended;
                    }
                    Fate::Committed { .. } if is_certain => {}
                    Fate::Aborted => {}
                    Fate::Unknown | Fate::Committed { .. } => lease_end = lease_end.min(extended),
                }
            }
            Call::Complete { fence: Some(given), .. }
            | Call::Release { fence: Some(given), .. }
            | Call::Forget { fence: Some(given), .. }
                if *given == fence =>
            {
                ended = ended.min(event.start);
            }
            // In the lease's own transaction the work is done under its fence.
            Call::Run { .. }
                if event.txn == grant.txn
                    && event.outcome.row().is_some_and(|row| row.fence == Some(fence)) =>
            {
                ended = ended.min(event.start);
            }
            _ => {}
        }
    }
    ended.min(lease_end.saturating_sub(MARGIN))
}
