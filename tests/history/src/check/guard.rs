//! The commit guard refuses those who forgot to complete, and nobody else; and there is nothing to complete without a
//! claim.

use super::facts::{Facts, Grant};
use super::transactions::Transaction;
use super::{Rule, Violation};
use crate::history::{Call, Event, KeyId, TxnId};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for (txn, transaction) in &facts.txns {
        for &at in &transaction.events {
            let event = facts.event(at);
            match &event.call {
                Call::Complete { key, fence: None, .. } if event.outcome.is_ok() => {
                    claimed(facts, *txn, transaction, at, *key, found);
                }
                Call::Release { key, fence: None } if event.outcome.is_done("t") => {
                    claimed(facts, *txn, transaction, at, *key, found);
                }
                Call::Commit | Call::Prepare { .. } => guard(facts, *txn, transaction, at, found),
                _ => {}
            }
        }
    }
}

/// The transaction's own claims by then, latest last. What this very event undoes, as a refused commit does, was there.
fn grants<'a>(
    facts: &'a Facts<'_>,
    txn: TxnId,
    key: KeyId,
    before: usize,
) -> impl Iterator<Item = &'a Grant> + use<'a> {
    let at = facts.event(before).start;
    facts.keys.get(&key).into_iter().flat_map(|key| &key.grants).filter(move |grant| {
        grant.txn == txn
            && grant.fence.is_none()
            && grant.event < before
            && grant.undone_at.is_none_or(|undone| undone >= at)
    })
}

fn claimed(
    facts: &Facts<'_>,
    txn: TxnId,
    transaction: &Transaction,
    at: usize,
    key: KeyId,
    found: &mut Vec<Violation>,
) {
    let open = grants(facts, txn, key, at).last().is_some_and(|grant| {
        !ends(facts, transaction, grant, at, |event| matches!(event.call, Call::Release { .. }))
    });
    if !open {
        let what = format!("{:?} succeeded without a claim", facts.event(at).call);
        found.push(Violation::new(Rule::Unclaimed, key, what));
    }
}

/// Whether one of these calls ended the claim before that event.
fn ends(
    facts: &Facts<'_>,
    transaction: &Transaction,
    grant: &Grant,
    before: usize,
    which: impl Fn(&Event) -> bool,
) -> bool {
    let start = facts.event(before).start;
    transaction.events.iter().any(|&at| {
        let event = facts.event(at);
        at >= grant.event
            && at < before
            && event.call.key() == Some(grant.key)
            && event.outcome.is_ok()
            && which(event)
            && transaction.undone_at(at).is_none_or(|undone| undone >= start)
    })
}

fn guard(
    facts: &Facts<'_>,
    txn: TxnId,
    transaction: &Transaction,
    at: usize,
    found: &mut Vec<Violation>,
) {
    let finishes = |event: &Event| match event.call {
        Call::Complete { fence: None, .. } | Call::Release { fence: None, .. } => true,
        Call::Run { .. } => event.outcome.said() == "executed",
        _ => false,
    };
    let mut keys: Vec<KeyId> =
        transaction.events.iter().filter_map(|at| facts.event(*at).call.key()).collect();
    keys.sort_unstable();
    keys.dedup();
    let open = keys.iter().find(|key| {
        grants(facts, txn, **key, at)
            .last()
            .is_some_and(|grant| !ends(facts, transaction, grant, at, finishes))
    });
    let outcome = &facts.event(at).outcome;
    let committed = outcome.is_done("COMMIT") || outcome.is_done("PREPARE TRANSACTION");
    match (open, keys.first()) {
        (Some(key), _) if committed => {
            found.push(Violation::new(
                Rule::Guard,
                *key,
                format!("transaction {txn} committed with an open claim"),
            ));
        }
        (None, Some(key)) if outcome.code() == "ID009" => {
            found.push(Violation::new(
                Rule::Guard,
                *key,
                format!("transaction {txn} was refused without an open claim"),
            ));
        }
        _ => {}
    }
}
