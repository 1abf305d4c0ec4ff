//! A key belongs to the request that it was claimed with; and no outcome comes out of nowhere.

use super::answers::said;
use super::facts::{Facts, KeyFacts};
use super::{Rule, Violation, holds};
use crate::history::{Call, Event, Outcome};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let epochs = {
        let mut epochs: Vec<i64> = facts.history.events.iter().map(|event| event.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.len()
    };
    for key in facts.keys.values() {
        while_leased(facts, key, found);
        for &at in &key.calls {
            no_reason(facts, key, facts.event(at), epochs > 1, found);
        }
    }
}

/// While a lease lasts its request is stored: another is a mismatch, the same is in progress.
fn while_leased(facts: &Facts<'_>, key: &KeyFacts<'_>, found: &mut Vec<Violation>) {
    for grant in
        key.grants.iter().filter(|grant| grant.fence.is_some() && grant.undone_at.is_none())
    {
        let (from, until) =
            (grant.fate.known_by().max(grant.told), holds::until(facts, key, grant));
        for event in key.calls.iter().map(|at| facts.event(*at)) {
            let Some(request) = event.call.request() else { continue };
            if event.start <= from || event.end >= until || !key.lasts(grant.epoch, event.epoch) {
                continue;
            }
            let said = said(event);
            let what =
                format!("{said} for request {request} while request {} is leased", grant.request);
            if request != grant.request && !["", "mismatch"].contains(&said) {
                found.push(Violation::new(Rule::MismatchMissed, key.id(), what));
            } else if request == grant.request && said == "mismatch" {
                found.push(Violation::new(Rule::NoReason, key.id(), what));
            }
        }
    }
}

fn no_reason(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    event: &Event,
    reset: bool,
    found: &mut Vec<Violation>,
) {
    let earlier = || {
        key.calls
            .iter()
            .map(|at| facts.event(*at))
            .filter(|other| other.start < event.end && *other != event)
    };
    let given = |other: &Event| {
        ["claimed", "executed"].contains(&other.outcome.said()) || other.outcome == Outcome::Lost
    };
    let said = said(event);
    let reason = match said {
        "mismatch" => earlier().any(|other| {
            given(other)
                && other.call.request().is_some_and(|request| Some(request) != event.call.request())
        }),
        "unknown" => {
            let lapsed = key.settings.may_be_unknown(event.end)
                && earlier().any(|other| {
                    given(other) && matches!(other.call, Call::Claim { lease_ms: Some(_), .. })
                });
            lapsed || reset && key.may_count_date(facts, event) && !key.operation.logged
        }
        "sealed" => {
            matches!(event.call, Call::Seal { .. })
                || earlier().any(|other| {
                    matches!(other.call, Call::Seal { .. })
                        && (other.outcome.said() == "sealed" || other.outcome == Outcome::Lost)
                        && (other.txn == event.txn
                            || facts.txn(other.txn).fate.may_have_committed())
                })
        }
        "expired" => key.may_count_date(facts, event) && key.may_be_too_old(facts, event),
        _ => true,
    };
    if !reason {
        let what = format!("{said}, but nothing happened that could lead to it");
        found.push(Violation::new(Rule::NoReason, key.id(), what));
    }
}
