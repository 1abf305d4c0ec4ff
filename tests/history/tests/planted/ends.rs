//! The ends of it: seals, the guard, errors, and keys that are stuck.

use history::check::Rule;
use history::history::{Call, Outcome};

use super::story::*;

#[test]
fn work_on_a_sealed_key_is_caught() {
    for outcome in ["claimed", "executed", "in_progress", "absent", "mismatch"] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.single(Call::Seal { key }, said("sealed"));
        story.single(claim(key, 0, None), said("sealed"));
        story.is_clean();
        story.single(claim(key, 0, None), said(outcome));
        story.breaks(Rule::SealBroken);
    }
}

#[test]
fn a_seal_beside_an_effect_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.single(Call::Seal { key }, said("sealed"));
    story.commit(txn);
    story.breaks(Rule::SealBroken);
}

#[test]
fn a_seal_that_was_rolled_back_binds_nobody() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.say(txn, Call::Seal { key }, said("sealed"));
    story.roll_back(txn);
    story.work(key);
    story.is_clean();
}

#[test]
fn an_unlogged_seal_is_gone_after_a_crash() {
    let story_of = |operation| {
        let mut story = Story::new();
        let key = story.key(operation);
        story.single(Call::Seal { key }, said("sealed"));
        story.crash();
        story.work(key);
        story
    };
    story_of(QUICK).is_clean();
    story_of(SAFE).breaks(Rule::SealBroken);
}

#[test]
fn a_commit_with_an_open_claim_is_caught() {
    for (call, tag) in
        [(Call::Commit, "COMMIT"), (Call::Prepare { gid: "g".to_owned() }, "PREPARE TRANSACTION")]
    {
        for (outcome, allowed) in [(done(tag), false), (refused("ID009"), true)] {
            let mut story = Story::new();
            let key = story.key(SAFE);
            let txn = story.begin();
            story.claim(txn, key);
            story.say(txn, call.clone(), outcome);
            if allowed { story.is_clean() } else { story.breaks(Rule::Guard) }
        }
    }
}

#[test]
fn a_completion_that_was_rolled_back_leaves_the_claim_open() {
    for (outcome, allowed) in [(done("COMMIT"), false), (refused("ID009"), true)] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let txn = story.begin();
        story.claim(txn, key);
        story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
        let effect = story.effect(txn, key, None, false);
        story.complete(txn, key, effect, None);
        story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
        story.say(txn, Call::Commit, outcome);
        if allowed { story.is_clean() } else { story.breaks(Rule::Guard) }
    }
}

#[test]
fn a_guard_that_refuses_without_a_reason_is_caught() {
    let with = |outcome| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let txn = story.begin();
        story.claim(txn, key);
        story.say(txn, Call::Release { key, fence: None }, done("t"));
        story.say(txn, Call::Commit, outcome);
        story
    };
    with(done("COMMIT")).is_clean();
    with(refused("ID009")).breaks(Rule::Guard);
}

#[test]
fn a_completion_without_a_claim_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let answer = story.number();
    story.single(complete(key, answer, 0, None), refused("ID007"));
    story.is_clean();
    story.single(complete(key, answer, 0, None), done("{}"));
    story.breaks(Rule::Unclaimed);
}

#[test]
fn a_completion_after_a_release_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    story.say(txn, Call::Release { key, fence: None }, done("t"));
    let answer = story.number();
    story.say(txn, complete(key, answer, 0, None), done("{}"));
    story.roll_back(txn);
    story.breaks(Rule::Unclaimed);
}

#[test]
fn errors_that_are_none_of_the_contracts_are_caught() {
    for code in ["XX000", "23505", "ID006", "22P02", "57P01"] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.single(claim(key, 0, None), refused("40001"));
        story.is_clean();
        story.single(claim(key, 0, None), refused(code));
        story.breaks(Rule::WrongError);
    }
}

#[test]
fn errors_in_the_wrong_place_are_caught() {
    let with = |call: fn(u32) -> Call, code| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.single(call(key), refused(code));
        story
    };
    // Not under `strict`.
    with(|key| claim(key, 0, None), "ID001").breaks(Rule::WrongError);
    with(|key| Call::Replay { key }, "ID003").breaks(Rule::WrongError);
    with(|_| Call::Commit, "23505").breaks(Rule::WrongError);
    with(|key| Call::Release { key, fence: Some(1) }, "ID003").is_clean();
}

#[test]
fn a_key_that_nobody_can_bring_to_an_answer_is_caught() {
    let ends_with = |outcomes: &[&str]| {
        let mut story = Story::new();
        let key = story.key(WARY);
        story.single(claim(key, 1, Some(10)), Outcome::Lost);
        for outcome in outcomes {
            let effect = story.number();
            let outcome = if *outcome == "executed" { executed(effect) } else { said(outcome) };
            if outcome.said() == "executed" {
                story.is_there(effect, key, None);
            }
            story.single(run(key, effect), outcome);
            story.history.events.last_mut().unwrap().closing = true;
        }
        story
    };
    ends_with(&["in_progress", "executed"]).is_clean();
    ends_with(&["in_progress", "unknown"]).is_clean();
    ends_with(&["in_progress", "in_progress"]).breaks(Rule::Stuck);
    ends_with(&["mismatch", "mismatch"]).breaks(Rule::Stuck);
}
