//! A replay is the first answer, as it was stored; it stays as long as it is kept, and no longer.

use super::facts::{Answer, Facts, KeyFacts};
use super::forgets::may_have_forgotten;
use super::{MARGIN, Rule, Violation, over};
use crate::history::{Call, Event, Outcome, Row};
use crate::{answer, history};

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        for &at in &key.calls {
            let event = facts.event(at);
            match event.outcome.row() {
                Some(row) if row.outcome == "replay" => replay(facts, key, at, row, found),
                Some(row) if row.outcome == "executed" => executed(key, event, row, found),
                _ => half_seen(key, event, found),
            }
        }
        for answer in key.answers.iter().filter(|answer| answer.is_committed()) {
            for &at in &key.calls {
                remembered(facts, key, answer, at, found);
            }
        }
    }
}

fn replay(facts: &Facts<'_>, key: &KeyFacts<'_>, at: usize, row: &Row, found: &mut Vec<Violation>) {
    let event = facts.event(at);
    let mut wrong = |what: String| found.push(Violation::new(Rule::WrongReplay, key.id(), what));
    let Some(number) = answer::number(row) else {
        return wrong(format!("a replay without an answer: {:?}", row.response));
    };
    let stored = key.answers.iter().filter(|answer| answer.number == number);
    let Some(stored) = stored.min_by_key(|answer| (answer.undone, answer.event)) else {
        return wrong(format!("answer {number} was never stored for this key"));
    };
    let mine = stored.txn == event.txn
        && facts.undone_at(stored.event).is_none_or(|undone| undone > event.start);
    if !mine && (stored.undone || !stored.fate.may_have_committed()) {
        return wrong(format!("answer {number} is of an attempt that never committed"));
    }
    if facts.event(stored.event).start > event.end {
        return wrong(format!("answer {number} was replayed before it was stored"));
    }
    let got = (row.response.as_ref(), row.failed, row.status, row.fence);
    let put = (Some(&stored.response), Some(stored.failed), stored.status, stored.fence);
    if got != put {
        return wrong(format!("answer {number} was stored as {put:?} and replayed as {got:?}"));
    }
    if let (Some(asked), Some(claimed)) = (event.call.request(), stored.request)
        && asked != claimed
    {
        let what = format!("request {asked} got answer {number}, which is of request {claimed}");
        found.push(Violation::new(Rule::MismatchMissed, key.id(), what));
    }
    let storing = facts.event(stored.event);
    let expired = over(storing) + key.kept_at_most(facts, storing) + MARGIN;
    if event.start > expired {
        let what = format!("answer {number} was replayed after its retention");
        found.push(Violation::new(Rule::ExpiredReplay, key.id(), what));
    }
}

/// Answer and business row are committed together, and seen together, whatever the isolation level.
fn half_seen(key: &KeyFacts<'_>, event: &Event, found: &mut Vec<Violation>) {
    if let Call::Look { effect, .. } = event.call
        && event.outcome.is_done("0")
    {
        let what =
            format!("effect {effect} is not seen by a transaction that was given its answer");
        found.push(Violation::new(Rule::HalfSeen, key.id(), what));
    }
}

/// What `run` says that it executed is what its handler did.
fn executed(key: &KeyFacts<'_>, event: &Event, row: &Row, found: &mut Vec<Violation>) {
    let Call::Run { effect, declined, .. } = event.call else { return };
    let response =
        if declined { answer::declined(effect) } else { answer::response(effect, Some(effect)) };
    if row.response.as_ref() != Some(&response) || row.failed != Some(declined) {
        let what = format!("run executed effect {effect} and said {row:?}");
        found.push(Violation::new(Rule::WrongReplay, key.id(), what));
    }
}

/// Whoever asks after an answer was acknowledged, and while it is certainly kept, gets it.
fn remembered(
    facts: &Facts<'_>,
    key: &KeyFacts<'_>,
    answer: &Answer,
    at: usize,
    found: &mut Vec<Violation>,
) {
    let event = facts.event(at);
    let storing = facts.event(answer.event);
    let kept_until = (storing.start + key.retention(facts, storing)).saturating_sub(MARGIN);
    let asks = matches!(
        event.call,
        Call::Claim { .. } | Call::Run { .. } | Call::Replay { .. } | Call::Seal { .. }
    );
    if !asks
        || event.txn == answer.txn
        || event.start <= answer.fate.known_by()
        || event.end >= kept_until
        || !key.lasts(answer.epoch, event.epoch)
        || may_have_forgotten(facts, key, answer.event, event)
    {
        return;
    }
    let number = answer.number;
    let said = match &event.outcome {
        Outcome::Row(row) => row.outcome.as_str(),
        Outcome::Refused(code) => outcome_of(code),
        Outcome::Done(_) | Outcome::Lost => return,
    };
    let (rule, what) = match said {
        "" => return,
        "replay" => match event.outcome.row().and_then(answer::number) {
            Some(other) if other != number => {
                (Rule::WrongReplay, format!("answer {other} was replayed, and {number} came first"))
            }
            _ => return,
        },
        "mismatch" => match (event.call.request(), answer.request) {
            (Some(asked), Some(claimed)) if asked == claimed => (
                Rule::NoReason,
                format!("request {asked} was called a mismatch, and has answer {number}"),
            ),
            _ => return,
        },
        said => {
            (Rule::ForgottenAnswer, format!("{said}, but answer {number} was acknowledged before"))
        }
    };
    found.push(Violation::new(rule, key.id(), what));
}

/// The outcome that an exception under `strict` stands for, or "".
fn outcome_of(code: &str) -> &'static str {
    match code {
        "ID001" => "in_progress",
        "ID002" => "mismatch",
        "ID004" => "expired",
        "ID005" => "unknown",
        "ID008" => "sealed",
        _ => "",
    }
}

/// The outcome of a call, whether as a row or as an exception; "" if it is neither.
pub fn said(event: &history::Event) -> &str {
    match &event.outcome {
        Outcome::Row(row) => &row.outcome,
        Outcome::Refused(code) => outcome_of(code),
        Outcome::Done(_) | Outcome::Lost => "",
    }
}
