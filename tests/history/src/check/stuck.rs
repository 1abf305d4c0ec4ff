//! No key is stuck: when all is over, each is brought to an answer within lease and wait.

use super::facts::Facts;
use super::{Rule, Violation};

const ANSWERS: [&str; 5] = ["executed", "replay", "sealed", "expired", "unknown"];

pub fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    for key in facts.keys.values() {
        let mut closing =
            key.calls.iter().map(|at| facts.event(*at)).filter(|event| event.closing).peekable();
        let Some(first) = closing.peek().map(|event| event.start) else { continue };
        let mut last = first;
        if !closing
            .inspect(|event| last = event.end)
            .any(|event| ANSWERS.contains(&event.outcome.said()))
        {
            let what = format!("no answer in {} ms", (last - first) / super::MS);
            found.push(Violation::new(Rule::Stuck, key.id(), what));
        }
    }
}
