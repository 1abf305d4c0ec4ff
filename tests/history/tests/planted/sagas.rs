//! Sagas: steps and compensations, settled by administrators and forgotten.

use history::check::Rule;
use history::history::{Call, Outcome};
use history::pattern::saga::{Saga, Verdict};
use history::pattern::{Pattern, Trace};

use super::story::*;

const KEY: u32 = 5;
const ALL_DONE: &str = "f {all} ";

fn saga(saga: Saga) -> Call {
    Call::Pattern(Pattern::Saga(saga))
}

/// A handler has run, within a call of several steps.
fn ran(story: &mut Story, step: u32, undone: bool) {
    ran_in(story, step, undone, None);
}

fn ran_in(story: &mut Story, step: u32, undone: bool, number: Option<u64>) {
    let place = i64::try_from(story.history.traces.len()).unwrap();
    story.history.traces.push(Trace::Saga { place, key: KEY, step, undone, number });
}

/// One call that is answered with the end.
fn run(story: &mut Story, outcome: &str, answer: &str) {
    story.single(saga(Saga::Run { key: KEY }), done(&format!("{outcome}|{answer}")));
}

fn settle(story: &mut Story, step: u32, verdict: Verdict) {
    story.single(saga(Saga::Settle { key: KEY, step, verdict }), done("running"));
}

/// A story in which these have run, in this order: (step, undone).
fn with(steps: &[(u32, bool)]) -> Story {
    let mut story = Story::new();
    for (step, undone) in steps {
        ran(&mut story, *step, *undone);
    }
    story
}

#[test]
fn a_saga_runs_forward_once_and_is_replayed() {
    let mut story = with(&[(0, false), (1, false), (2, false)]);
    run(&mut story, "executed", ALL_DONE);
    run(&mut story, "replay", ALL_DONE);
    let step = Saga::Step { key: KEY, number: 900 };
    story.single(saga(step), done(&format!("f|replay|{ALL_DONE}|at|completed|")));
    story.is_clean();
}

#[test]
fn a_saga_runs_back_in_reverse_order() {
    with(&[(0, false), (1, false), (1, true), (0, true)]).is_clean();
    // It stands there yet.
    with(&[(0, false), (1, false), (1, true)]).is_clean();
    for steps in [
        &[(0, false), (0, false)][..],
        &[(0, false), (1, false), (0, true), (1, true)],
        &[(0, false), (1, false), (0, true)],
        &[(0, false), (0, true), (0, true)],
        &[(0, false), (0, true), (1, false)],
        &[(1, false)],
        &[(0, true)],
        &[(0, false), (1, true)],
    ] {
        with(steps).breaks(Rule::SagaOrder);
    }
}

#[test]
fn what_is_forgotten_runs_anew() {
    let steps = [(0, false), (1, false), (2, false), (0, false)];
    let mut story = with(&steps);
    story.single(saga(Saga::Forget { key: KEY, unfinished: false }), done("t"));
    story.is_clean();
    let mut story = with(&steps);
    story.single(saga(Saga::Forget { key: KEY, unfinished: false }), refused("55000"));
    story.breaks(Rule::SagaOrder);
}

#[test]
fn a_step_is_left_out_if_it_was_settled() {
    let steps = [(0, false), (2, false)];
    let mut story = with(&steps);
    settle(&mut story, 1, Verdict::Completed);
    story.is_clean();
    with(&steps).breaks(Rule::SagaOrder);
    // It is undone as one that has run.
    let mut story = with(&[(0, false), (1, true), (0, true)]);
    settle(&mut story, 1, Verdict::Completed);
    story.is_clean();
    let steps = [(0, false), (1, false), (0, true)];
    let mut story = with(&steps);
    settle(&mut story, 1, Verdict::Compensated);
    story.is_clean();
}

#[test]
fn what_was_settled_and_runs_all_the_same_is_caught() {
    for (steps, settled, verdict) in [
        (&[(0, false), (1, false)][..], 1, Verdict::Completed),
        (&[(0, false), (1, false)], 1, Verdict::Failed),
        (&[(0, false), (1, false), (2, false)], 1, Verdict::Failed),
        (&[(0, false), (0, true)], 0, Verdict::Compensated),
        (&[(0, false), (0, true)], 0, Verdict::Uncompensated),
    ] {
        let mut story = with(steps);
        settle(&mut story, settled, verdict);
        story.breaks(Rule::SagaSettled);
        // Refused, it settles nothing.
        let mut story = with(steps);
        let settle = saga(Saga::Settle { key: KEY, step: settled, verdict });
        story.single(settle, refused("55000"));
        story.is_clean();
    }
}

#[test]
fn an_answer_that_changes_is_caught() {
    for (outcome, answer) in [("replay", "f {other} "), ("executed", ALL_DONE)] {
        let mut story = with(&[(0, false), (1, false), (2, false)]);
        run(&mut story, "executed", ALL_DONE);
        run(&mut story, outcome, answer);
        story.breaks(Rule::SagaAnswer);
    }
    let mut story = with(&[(0, false), (1, false), (2, false)]);
    run(&mut story, "executed", ALL_DONE);
    story.single(saga(Saga::Abandon { key: KEY }), done("compensating"));
    story.breaks(Rule::SagaAnswer);
    let mut story = with(&[(0, false), (1, false), (2, false)]);
    run(&mut story, "executed", ALL_DONE);
    story.single(saga(Saga::Forget { key: KEY, unfinished: false }), Outcome::Lost);
    run(&mut story, "executed", "f {other} ");
    story.is_clean();
}

#[test]
fn what_a_step_was_told_that_was_undone_is_void() {
    for undone in [true, false] {
        let mut story = with(&[(0, false), (1, false), (2, false)]);
        run(&mut story, "executed", ALL_DONE);
        let waiting = story.history.events.len() - 1;
        let txn = story.begin();
        story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
        let step = Saga::Step { key: KEY, number: story.number() };
        story.say(txn, saga(step), done("f|executed|f {other} |at|completed|"));
        story.say(txn, saga(step), done("f|replay|f {other} |at|completed|"));
        if undone {
            story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
        }
        story.commit(txn);
        // It began before the step, and waited for its transaction.
        story.history.events[waiting].end = story.now;
        if undone {
            story.is_clean();
        } else {
            story.breaks(Rule::SagaAnswer);
        }
    }
}

#[test]
fn a_step_is_that_of_a_transaction_that_committed() {
    let step = |number| saga(Saga::Step { key: KEY, number });
    let told = "t|| {s0} |at|running|s1";
    let mut story = Story::new();
    let number = story.number();
    story.single(step(number), done(told));
    story.breaks(Rule::LostEffect);
    ran_in(&mut story, 0, false, Some(number));
    story.is_clean();
    let mut story = Story::new();
    let (txn, number) = (story.begin(), story.number());
    story.say(txn, step(number), done(told));
    story.roll_back(txn);
    story.is_clean();
    ran_in(&mut story, 0, false, Some(number));
    story.breaks(Rule::GhostEffect);
}
