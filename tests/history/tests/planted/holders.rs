//! Two holders at once: caught when both are certain, and not when one may have been over.

use history::check::Rule;
use history::history::{Call, Outcome};

use super::story::*;

#[test]
fn two_transactions_at_once_are_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let (one, other) = (story.begin(), story.begin());
    story.claim(one, key);
    story.claim(other, key);
    story.roll_back(one);
    story.roll_back(other);
    story.breaks(Rule::TwoHolders);
}

#[test]
fn one_after_the_other_is_fine() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    for _ in 0..2 {
        let txn = story.begin();
        story.claim(txn, key);
        story.claim(txn, key);
        story.roll_back(txn);
    }
    story.is_clean();
}

#[test]
fn a_run_beside_a_holder_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let holder = story.begin();
    story.claim(holder, key);
    let effect = story.number();
    story.single(run(key, effect), executed(effect));
    story.is_there(effect, key, None);
    story.roll_back(holder);
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_claim_beside_a_lease_is_caught_until_it_may_have_lapsed() {
    let after = |pause| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 50, 1);
        story.pause(pause);
        story.single(claim(key, 0, Some(50)), claimed(Some(2), 2));
        story
    };
    after(10).breaks(Rule::TwoHolders);
    after(60).is_clean();
}

#[test]
fn an_extended_lease_lasts_longer_and_one_cut_short_does_not() {
    let extended_to = |lease_ms| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 50, 1);
        story.single(Call::Extend { key, lease_ms, fence: 1 }, done("later"));
        story.pause(30);
        story.single(claim(key, 0, Some(50)), claimed(Some(2), 2));
        story
    };
    extended_to(100).breaks(Rule::TwoHolders);
    extended_to(10).is_clean();
}

#[test]
fn a_run_in_the_transaction_of_a_lease_finishes_it() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.say(txn, claim(key, 0, Some(1_000)), claimed(Some(1), 1));
    let effect = story.number();
    let mut row = executed(effect);
    if let Outcome::Row(row) = &mut row {
        row.fence = Some(1);
    }
    story.say(txn, run(key, effect), row);
    story.is_there(effect, key, None);
    story.commit(txn);
    story.single(Call::Forget { key, fence: None }, done("t"));
    story.work(key);
    story.is_clean();
}

#[test]
fn a_lease_that_is_over_is_no_hold() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 1_000, 1);
    story.single(Call::Release { key, fence: Some(1) }, done("t"));
    story.lease(key, 1_000, 2);
    story.is_clean();
}

#[test]
fn an_uncommitted_lease_counts_as_long_as_its_transaction() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.say(txn, claim(key, 0, Some(1_000)), claimed(Some(1), 1));
    story.roll_back(txn);
    story.lease(key, 1_000, 2);
    story.is_clean();
    let (txn, other) = (story.begin(), story.key(SAFE));
    story.say(txn, claim(other, 0, Some(1_000)), claimed(Some(3), 1));
    story.lease(other, 1_000, 4);
    story.roll_back(txn);
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_claim_that_was_rolled_back_to_a_savepoint_is_no_hold() {
    let story_of = |rolled_back| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let txn = story.begin();
        story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
        story.claim(txn, key);
        if rolled_back {
            story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
        }
        let other = story.begin();
        story.claim(other, key);
        story.roll_back(other);
        story.roll_back(txn);
        story
    };
    story_of(true).is_clean();
    story_of(false).breaks(Rule::TwoHolders);
}

#[test]
fn a_holder_whose_connection_is_lost_holds_nothing_for_certain() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let other = story.begin();
    story.claim(other, key);
    story.say(txn, Call::Commit, Outcome::Lost);
    story.roll_back(other);
    story.is_clean();
}

#[test]
fn a_prepared_transaction_holds_its_key_until_it_is_settled() {
    for operation in [QUICK, SAFE] {
        let mut story = Story::new();
        let key = story.key(operation);
        let txn = story.begin();
        story.claim(txn, key);
        let effect = story.effect(txn, key, None, false);
        story.complete(txn, key, effect, None);
        let gid = "g".to_owned();
        story.say(txn, Call::Prepare { gid: gid.clone() }, done("PREPARE TRANSACTION"));
        story.crash();
        let other = story.begin();
        story.claim(other, key);
        story.roll_back(other);
        story.single(Call::RollbackPrepared { gid }, done("ROLLBACK PREPARED"));
        story.breaks(Rule::TwoHolders);
    }
}
