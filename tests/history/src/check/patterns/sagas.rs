//! A step of a saga takes effect at most once, and so does its compensation: only after its step, and in reverse order. What an
//! administrator has settled does not run. A saga that has come to its end stays there, with its answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{calls, over};
use crate::check::facts::Facts;
use crate::check::{Rule, Violation};
use crate::history::{Event, Nanos, Outcome};
use crate::pattern::saga::{STEPS, Saga, Verdict, end};
use crate::pattern::{Pattern, Trace, saga_subject};

/// One saga's part of the history.
#[derive(Default)]
struct Story<'a> {
    /// What has run, in order: the step, and whether it was undone.
    done: Vec<(u32, bool)>,
    calls: Vec<(usize, &'a Event, Saga)>,
}

impl Story<'_> {
    /// Calls that may count, or certainly do.
    fn counting(&self, facts: &Facts<'_>, certainly: bool) -> impl Iterator<Item = (&Event, Saga)> {
        self.calls.iter().filter_map(move |(at, event, saga)| {
            let fate = facts.txn(event.txn).fate;
            let counts = if certainly {
                event.outcome.is_ok() && fate.is_committed()
            } else {
                !matches!(event.outcome, Outcome::Refused(_)) && fate.may_have_committed()
            };
            (counts && facts.undone_at(*at).is_none()).then_some((*event, *saga))
        })
    }

    fn settled(&self, facts: &Facts<'_>, certainly: bool, verdict: Verdict) -> BTreeSet<u32> {
        self.counting(facts, certainly)
            .filter_map(|(_, saga)| match saga {
                Saga::Settle { step, verdict: said, .. } if said == verdict => Some(step),
                _ => None,
            })
            .collect()
    }

    /// Whether the transaction of a call had done something about the saga by then.
    fn worked_on_in(&self, call: &Event) -> bool {
        self.calls.iter().any(|(_, event, saga)| {
            event.txn == call.txn && event.start <= call.start && goes_on(*saga, &event.outcome)
        })
    }

    /// When it may have been forgotten.
    fn forgotten(&self, facts: &Facts<'_>) -> Vec<(Nanos, Nanos)> {
        self.counting(facts, false)
            .filter(|(event, saga)| {
                matches!(saga, Saga::Forget { .. }) && !event.outcome.is_done("f")
            })
            .map(|(event, _)| (event.start, facts.txn(event.txn).fate.known_by().max(over(event))))
            .collect()
    }
}

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut sagas: BTreeMap<u32, Story<'_>> = BTreeMap::new();
    let mut traces: Vec<_> = (facts.history.traces.iter())
        .filter_map(|trace| match trace {
            Trace::Saga { place, key, step, undone, .. } => Some((*place, *key, *step, *undone)),
            _ => None,
        })
        .collect();
    traces.sort_unstable();
    for (_, key, step, undone) in traces {
        sagas.entry(key).or_default().done.push((step, undone));
    }
    for (at, event, pattern) in calls(facts) {
        if let Pattern::Saga(saga) = pattern {
            sagas.entry(saga.key()).or_default().calls.push((at, event, *saga));
        }
    }
    for (key, story) in &sagas {
        let mut broken = |rule, what: String| {
            found.push(Violation::new(rule, saga_subject(*key), what));
        };
        order(facts, story, &mut broken);
        settled(facts, story, &mut broken);
        ended(facts, story, &mut broken);
    }
}

/// Forward, and then back; anew only if it was forgotten. What is left out was settled.
fn order(facts: &Facts<'_>, story: &Story<'_>, broken: &mut impl FnMut(Rule, String)) {
    let of = |verdict| story.settled(facts, false, verdict);
    let (completed, compensated) = (of(Verdict::Completed), {
        let mut compensated = of(Verdict::Compensated);
        compensated.extend(of(Verdict::Uncompensated));
        compensated
    });
    let mut forgets = story.forgotten(facts).len();
    let (mut done, mut back): (BTreeSet<u32>, Option<u32>) = (BTreeSet::new(), None);
    for (step, undone) in &story.done {
        let left_out = |from: u32, to: u32, settled: &BTreeSet<u32>| {
            (from..to).all(|other| settled.contains(&other))
        };
        let fits = if *undone {
            let last = back.unwrap_or(STEPS);
            let by_hand = completed.contains(step);
            // Steps above that were done, or may have been settled as done, were undone by hand.
            let above = (step + 1..last).filter(|other| done.contains(other));
            *step < last
                && (done.contains(step) || by_hand)
                && above.into_iter().all(|other| compensated.contains(&other))
        } else {
            let next = done.last().map_or(0, |last| last + 1);
            back.is_none() && *step >= next && left_out(next, *step, &completed)
        };
        if !fits && !*undone && forgets > 0 && left_out(0, *step, &completed) {
            forgets -= 1;
            (done, back) = (BTreeSet::new(), None);
        } else if !fits {
            let what = format!("step {step}, undone: {undone}, in {:?}", story.done);
            return broken(Rule::SagaOrder, what);
        }
        if *undone {
            back = Some(*step);
        } else {
            done.insert(*step);
        }
    }
}

/// It was the next one when it was settled, and so had not run.
fn settled(facts: &Facts<'_>, story: &Story<'_>, broken: &mut impl FnMut(Rule, String)) {
    if !story.forgotten(facts).is_empty() {
        return;
    }
    let of = |verdict| story.settled(facts, true, verdict);
    let failed = of(Verdict::Failed).first().copied().unwrap_or(STEPS);
    let (completed, compensated, uncompensated) =
        (of(Verdict::Completed), of(Verdict::Compensated), of(Verdict::Uncompensated));
    for (step, undone) in &story.done {
        let by_hand = if *undone {
            compensated.contains(step) || uncompensated.contains(step)
        } else {
            completed.contains(step) || *step >= failed
        };
        if by_hand {
            let what = format!("step {step}, undone: {undone}, was settled and has run");
            broken(Rule::SagaSettled, what);
        }
    }
}

/// The answer is the same for everybody, and whoever asks once it was given is given it.
fn ended(facts: &Facts<'_>, story: &Story<'_>, broken: &mut impl FnMut(Rule, String)) {
    let forgotten = story.forgotten(facts);
    let mut first: Option<(&Event, &str, Nanos)> = None;
    for (at, event, saga) in &story.calls {
        let stands = facts.undone_at(*at).is_none() && facts.txn(event.txn).fate.is_committed();
        if !stands && story.worked_on_in(event) {
            // What it was told rests on its own work, which is not there.
            continue;
        }
        let told = end(*saga, &event.outcome);
        if let Some((given, answer, known)) = first {
            let forgotten_between =
                forgotten.iter().any(|(from, by)| *from < event.end && *by > given.start);
            if forgotten_between {
                first = None;
            } else if let Some((_, other)) = told.filter(|(_, other)| *other != answer) {
                let what = format!("{saga:?} was told {other}, and {:?} before", given.outcome);
                broken(Rule::SagaAnswer, what);
            } else if event.start > known && goes_on(*saga, &event.outcome) {
                let what = format!("{saga:?} was told {:?} after {answer}", event.outcome);
                broken(Rule::SagaAnswer, what);
            }
        }
        if let Some((_, answer)) = told.filter(|_| first.is_none() && stands) {
            first = Some((event, answer, facts.txn(event.txn).fate.known_by()));
        }
    }
}

/// Something was done about the saga.
fn goes_on(saga: Saga, outcome: &Outcome) -> bool {
    match (saga, outcome) {
        (Saga::Run { .. }, Outcome::Done(done)) => done.starts_with("executed"),
        (Saga::Step { .. } | Saga::Resume { .. }, Outcome::Done(done)) => {
            done.starts_with("t|") || done.starts_with("f|executed")
        }
        (Saga::Abandon { .. } | Saga::Settle { .. }, Outcome::Done(_)) => true,
        _ => false,
    }
}
