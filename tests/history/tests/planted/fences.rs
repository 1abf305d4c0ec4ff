//! Fences: growing, never reused, and worth nothing when it is over.

use history::check::Rule;
use history::history::{Call, Outcome, Row};

use super::story::*;

#[test]
fn a_lower_fence_is_caught_over_all_keys() {
    let mut story = Story::new();
    let (one, other) = (story.key(SAFE), story.key(QUICK));
    story.lease(one, 100, 5);
    story.lease(other, 100, 6);
    story.is_clean();
    let third = story.key(SAFE);
    story.lease(third, 100, 4);
    story.breaks(Rule::FenceOrder);
}

#[test]
fn a_fence_is_caught_that_is_reused_after_a_crash() {
    let mut story = Story::new();
    let (one, other) = (story.key(QUICK), story.key(QUICK));
    story.lease(one, 100, 5);
    story.crash();
    story.lease(other, 100, 5);
    story.breaks(Rule::FenceReused);
}

#[test]
fn a_lower_fence_after_a_crash_is_caught() {
    let mut story = Story::new();
    let (one, other) = (story.key(QUICK), story.key(QUICK));
    story.lease(one, 100, 5);
    story.crash();
    story.lease(other, 100, 4);
    story.breaks(Rule::FenceOrder);
}

#[test]
fn what_was_never_committed_may_be_granted_again_after_a_crash_and_not_before() {
    let story_of = |crash| {
        let mut story = Story::new();
        let (one, other) = (story.key(QUICK), story.key(QUICK));
        let txn = story.begin();
        story.say(txn, claim(one, 0, Some(100)), claimed(Some(5), 1));
        story.roll_back(txn);
        if crash {
            story.crash();
        }
        story.lease(other, 100, 5);
        story
    };
    story_of(true).is_clean();
    story_of(false).breaks(Rule::FenceReused);
}

#[test]
fn asking_again_by_name_is_no_reuse() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.single(named_claim(key, 100, "a"), Outcome::Lost);
    story.single(named_claim(key, 100, "a"), claimed(Some(1), 1));
    story.single(named_claim(key, 100, "a"), claimed(Some(1), 1));
    story.is_clean();
    story.single(named_claim(key, 100, "b"), claimed(Some(1), 1));
    story.breaks(Rule::FenceReused);
}

fn writes(key: u32, fence: i64) -> [(Call, Outcome); 4] {
    [
        (complete(key, 900, 901, Some(fence)), done("{}")),
        (Call::Release { key, fence: Some(fence) }, done("t")),
        (Call::Extend { key, lease_ms: 100, fence }, done("later")),
        (Call::Checkpoint { key, value: 5, fence }, done("")),
    ]
}

#[test]
fn every_write_after_a_later_fence_is_caught() {
    for at in 0..4 {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 10, 1);
        story.pause(20);
        story.single(claim(key, 0, Some(100)), claimed(Some(2), 2));
        story.is_clean();
        let (call, outcome) = writes(key, 1)[at].clone();
        story.single(call, outcome);
        story.breaks(Rule::StaleFence);
    }
}

#[test]
fn every_write_after_the_lease_is_caught() {
    for at in 0..4 {
        for (pause, lapsed) in [(5, false), (40, true)] {
            let mut story = Story::new();
            let key = story.key(SAFE);
            story.lease(key, 20, 1);
            story.pause(pause);
            let (call, outcome) = writes(key, 1)[at].clone();
            story.single(call, outcome);
            if lapsed {
                story.breaks(Rule::StaleFence);
            } else {
                story.is_clean();
            }
        }
    }
}

#[test]
fn a_refused_extension_does_not_extend_and_a_lost_one_may() {
    let with = |outcome| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 20, 1);
        story.single(Call::Extend { key, lease_ms: 100, fence: 1 }, outcome);
        story.pause(50);
        story.single(Call::Checkpoint { key, value: 5, fence: 1 }, done(""));
        story
    };
    with(done("later")).is_clean();
    with(Outcome::Lost).is_clean();
    with(refused("40001")).breaks(Rule::StaleFence);
}

#[test]
fn the_same_answer_again_is_harmless_however_late() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.leased_work(key, 1, 1);
    story.pause(500);
    let effect = stored.effect.unwrap();
    story.single(complete(key, stored.answer, effect, Some(1)), done("{}"));
    story.is_clean();
}

#[test]
fn a_fence_that_was_never_granted_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.single(Call::Extend { key, lease_ms: 5, fence: 3 }, done("later"));
    story.breaks(Rule::StaleFence);
}

fn takeover(request: u32, attempt: i64, checkpoint: Option<u64>) -> Story {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 10, 1);
    story.single(Call::Checkpoint { key, value: 8, fence: 1 }, done(""));
    story.single(Call::Checkpoint { key, value: 9, fence: 1 }, done(""));
    story.single(Call::Checkpoint { key, value: 10, fence: 1 }, refused("ID003"));
    story.pause(30);
    let row = Row {
        outcome: "claimed".to_owned(),
        fence: Some(2),
        attempt: Some(attempt),
        checkpoint: checkpoint.map(Into::into),
        ..Row::default()
    };
    story.single(claim(key, request, Some(100)), Outcome::Row(Box::new(row)));
    story
}

#[test]
fn a_takeover_continues_the_attempt_before_it() {
    takeover(0, 2, Some(9)).is_clean();
    takeover(0, 3, Some(9)).breaks(Rule::WrongAttempt);
    takeover(1, 2, Some(9)).breaks(Rule::WrongAttempt);
}

#[test]
fn a_takeover_is_caught_where_a_lapse_leads_to_unknown() {
    let mut story = Story::new();
    let key = story.key(WARY);
    story.lease(key, 10, 1);
    story.pause(30);
    story.single(claim(key, 0, Some(100)), claimed(Some(2), 2));
    story.breaks(Rule::WrongAttempt);
}

#[test]
fn a_takeover_gets_the_last_checkpoint() {
    takeover(0, 2, None).breaks(Rule::WrongAttempt);
    takeover(0, 2, Some(8)).breaks(Rule::WrongAttempt);
    takeover(0, 2, Some(10)).breaks(Rule::WrongAttempt);
    takeover(0, 2, Some(77)).breaks(Rule::WrongAttempt);
}
