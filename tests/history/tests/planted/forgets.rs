//! Administrators who forget keys, of holders and of nobody.

use history::check::Rule;
use history::history::{Call, KeyId, Outcome};
use history::nodes::{first_node_of, part_of};

use super::story::*;

fn forget(key: KeyId, fence: Option<i64>) -> Call {
    Call::Forget { key, fence }
}

#[test]
fn what_is_forgotten_may_run_again() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.work(key);
    story.single(forget(key, None), done("t"));
    story.single(Call::Replay { key }, said("absent"));
    let stored = story.work(key);
    story.replay(key, &stored);
    story.is_clean();
    story.work(key);
    story.breaks(Rule::SecondEffect);
}

#[test]
fn a_forget_that_was_refused_or_rolled_back_is_none() {
    for outcome in [done("f"), refused("55006")] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.work(key);
        story.single(forget(key, None), outcome);
        story.work(key);
        story.breaks(Rule::SecondEffect);
    }
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.work(key);
    let txn = story.begin();
    story.say(txn, forget(key, None), done("t"));
    story.roll_back(txn);
    story.replay(key, &stored);
    story.is_clean();
    story.single(Call::Replay { key }, said("absent"));
    story.breaks(Rule::ForgottenAnswer);
}

#[test]
fn a_forget_without_an_answer_may_have_happened() {
    for happened in [false, true] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let stored = story.work(key);
        story.single(forget(key, None), Outcome::Lost);
        if happened {
            story.work(key);
        } else {
            story.replay(key, &stored);
        }
        story.is_clean();
    }
}

#[test]
fn what_was_stored_after_the_administrator_was_answered_stays() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.single(forget(key, None), refused("55006"));
    story.commit(txn);
    story.single(forget(key, None), done("f"));
    story.is_clean();
    story.work(key);
    story.breaks(Rule::SecondEffect);
    // It says that it was forgotten, and the transaction was still open.
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.single(forget(key, None), done("t"));
    story.commit(txn);
    story.breaks(Rule::ForgetBroken);
    story.work(key);
    story.breaks(Rule::SecondEffect);
}

#[test]
fn a_lease_is_broken_by_its_fence_alone() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 500, 1);
    story.single(forget(key, None), refused("55006"));
    story.single(forget(key, Some(7)), refused("ID003"));
    story.single(forget(key, Some(1)), done("t"));
    story.lease(key, 500, 2);
    story.is_clean();
    for fence in [None, Some(1)] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 500, 3);
        story.single(forget(key, fence), done("t"));
        story.breaks(Rule::ForgetBroken);
    }
    // It has lapsed.
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 10, 1);
    story.pause(30);
    story.single(forget(key, None), done("t"));
    story.is_clean();
}

#[test]
fn a_lease_that_is_broken_while_another_node_crashes_is_broken() {
    let mut story = Story::new();
    story.history.setup.nodes = 3;
    let key = story.key(QUICK);
    story.node = first_node_of(part_of("key 0"), 3);
    story.lease(key, 500, 1);
    story.epoch = -7;
    story.single(forget(key, Some(1)), done("t"));
    story.epoch = 1;
    story.lease(key, 500, 2);
    story.is_clean();
    story.lease(key, 500, 3);
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_holder_whose_lease_was_broken_completes_nothing() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 500, 1);
    story.single(forget(key, Some(1)), done("t"));
    let txn = story.begin();
    let effect = story.effect(txn, key, Some(1), true);
    story.complete(txn, key, effect, Some(1));
    story.commit(txn);
    story.breaks(Rule::StaleFence);
}

#[test]
fn an_answer_that_comes_back_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.work(key);
    story.single(forget(key, None), done("t"));
    story.replay(key, &stored);
    story.breaks(Rule::ForgetBroken);
}

#[test]
fn a_seal_is_forgotten_by_an_administrator_alone() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.single(Call::Seal { key }, said("sealed"));
    story.single(forget(key, None), done("t"));
    story.work(key);
    story.is_clean();
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.single(Call::Seal { key }, said("sealed"));
    story.single(forget(key, None), done("f"));
    story.work(key);
    story.breaks(Rule::SealBroken);
}

#[test]
fn what_is_forgotten_within_a_transaction_is_claimed_anew_in_it() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.say(txn, forget(key, None), done("t"));
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.commit(txn);
    story.is_clean();
}
