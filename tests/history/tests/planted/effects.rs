//! Effects: at most one, and of those who committed.

use history::check::{Options, Rule};
use history::history::{Call, Dating, Outcome};

use super::story::*;

const DETECTING: Options = Options { reset_detection: true };

#[test]
fn a_second_effect_is_caught() {
    for operation in [QUICK, SAFE, BRIEF] {
        let mut story = Story::new();
        let key = story.key(operation);
        story.work(key);
        story.work(key);
        story.breaks(Rule::SecondEffect);
    }
}

#[test]
fn a_second_effect_is_caught_whoever_did_it() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.leased_work(key, 1, 1);
    let effect = story.number();
    story.single(run(key, effect), Outcome::Lost);
    story.is_there(effect, key, None);
    story.breaks(Rule::SecondEffect);
}

#[test]
fn over_a_crash_a_logged_key_has_one_effect_and_an_unlogged_one_may_have_two() {
    let story_of = |operation, dating| {
        let mut story = Story::new();
        let key = story.dated_key(operation, dating);
        story.work(key);
        story.crash();
        story.work(key);
        story
    };
    story_of(SAFE, Dating::None).breaks(Rule::SecondEffect);
    story_of(QUICK, Dating::None).is_clean();
    story_of(QUICK, Dating::Uuid).is_clean();
    // The extension can tell, once it detects resets.
    story_of(QUICK, Dating::None).is_clean_with(DETECTING);
    story_of(QUICK, Dating::Uuid).breaks_with(Rule::SecondEffect, DETECTING);
    story_of(QUICK, Dating::FirstSent(1)).breaks_with(Rule::SecondEffect, DETECTING);
}

#[test]
fn a_committed_effect_that_is_not_there_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.work(key);
    story.history.effects.clear();
    story.breaks(Rule::LostEffect);
}

#[test]
fn half_a_transaction_is_caught() {
    let mut story = Story::new();
    let (one, other) = (story.key(SAFE), story.key(SAFE));
    let txn = story.begin();
    for (key, there) in [(one, true), (other, false)] {
        story.claim(txn, key);
        let effect = story.effect(txn, key, None, there);
        story.complete(txn, key, effect, None);
    }
    story.say(txn, Call::Commit, Outcome::Lost);
    let found = history::check::check(&story.history, Options::default());
    assert!(
        found.iter().any(|found| [Rule::LostEffect, Rule::GhostEffect].contains(&found.rule)),
        "{found:?}"
    );
}

#[test]
fn an_effect_that_was_rolled_back_and_is_there_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    story.effect(txn, key, None, true);
    story.roll_back(txn);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn an_effect_of_a_savepoint_that_was_rolled_back_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
    story.commit(txn);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn an_effect_of_a_connection_lost_before_commit_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    let answer = story.number();
    story.say(txn, complete(key, answer, effect, None), Outcome::Lost);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn an_effect_of_a_handler_that_was_not_to_run_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.work(key);
    let effect = story.number();
    story.single(run(key, effect), stored.replayed());
    story.is_there(effect, key, None);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn an_effect_of_a_declined_handler_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let effect = story.number();
    let call = Call::Run { key, request: 0, wait_ms: 0, effect, declined: true, strict: false };
    story.single(call, refused("P0001"));
    story.is_there(effect, key, None);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn an_effect_of_nobody_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.is_there(77, key, None);
    story.breaks(Rule::GhostEffect);
}
