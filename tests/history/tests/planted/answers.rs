//! Answers: the first one, as it was stored, as long as it is kept.

use history::check::Rule;
use history::history::{Call, Dating, Outcome, Row};

use super::story::*;

fn replay_of(change: impl Fn(&mut Row)) -> Story {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.leased_work(key, 1, 1);
    let mut row = stored.row();
    change(&mut row);
    story.single(Call::Replay { key }, Outcome::Row(Box::new(row)));
    story
}

#[test]
fn a_replay_that_is_not_as_it_was_stored_is_caught() {
    replay_of(|_| ()).is_clean();
    replay_of(|row| row.failed = Some(true)).breaks(Rule::WrongReplay);
    replay_of(|row| row.status = None).breaks(Rule::WrongReplay);
    replay_of(|row| row.fence = Some(2)).breaks(Rule::WrongReplay);
    replay_of(|row| row.response = None).breaks(Rule::WrongReplay);
    replay_of(|row| {
        if let Some(response) = &mut row.response {
            response["check"] = 0.into();
        }
    })
    .breaks(Rule::WrongReplay);
}

#[test]
fn an_answer_of_another_key_is_caught() {
    let mut story = Story::new();
    let (one, other) = (story.key(SAFE), story.key(SAFE));
    let stored = story.work(one);
    story.replay(other, &stored);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn an_answer_that_was_rolled_back_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, false);
    let stored = story.complete(txn, key, effect, None);
    // To the transaction itself it is an answer.
    story.say(txn, Call::Replay { key }, stored.replayed());
    story.roll_back(txn);
    story.is_clean();
    story.replay(key, &stored);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn an_answer_of_a_savepoint_that_was_rolled_back_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
    let first = story.complete(txn, key, effect, None);
    story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
    let second = story.complete(txn, key, effect, None);
    story.commit(txn);
    story.replay(key, &second);
    story.is_clean();
    story.replay(key, &first);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn another_answer_than_the_first_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.work(key);
    let second = story.work(key);
    story.replay(key, &second);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn a_handlers_answer_that_is_not_its_own_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let effect = story.number();
    story.single(run(key, effect), executed(effect + 1));
    story.is_there(effect, key, None);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn an_answer_that_was_acknowledged_and_is_forgotten_is_caught() {
    for outcome in ["absent", "in_progress", "unknown", "sealed"] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.work(key);
        story.single(Call::Replay { key }, said(outcome));
        story.breaks(Rule::ForgottenAnswer);
    }
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.work(key);
    let strict = |strict| Call::Claim {
        key,
        request: 0,
        lease_ms: None,
        wait_ms: 0,
        attempt_id: None,
        strict,
    };
    story.single(strict(true), refused("ID001"));
    story.breaks(Rule::ForgottenAnswer);
}

#[test]
fn an_answer_without_its_business_row_is_caught() {
    for (seen, clean) in [("1", true), ("0", false)] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let stored = story.work(key);
        let txn = story.begin();
        story.say(txn, claim(key, 0, None), stored.replayed());
        let effect = stored.effect.unwrap();
        story.say(txn, Call::Look { key, effect }, done(seen));
        story.roll_back(txn);
        if clean { story.is_clean() } else { story.breaks(Rule::HalfSeen) }
    }
}

#[test]
fn an_answer_past_its_retention_is_caught() {
    let mut story = Story::new();
    let key = story.key(BRIEF);
    let stored = story.work(key);
    story.pause(1_400);
    story.replay(key, &stored);
    story.is_clean();
    story.pause(200);
    story.replay(key, &stored);
    story.breaks(Rule::ExpiredReplay);
}

/// The server may go on with what its client has given up.
#[test]
fn the_retention_of_an_answer_that_was_lost_begins_when_the_server_stored_it() {
    let mut story = Story::new();
    let key = story.key(BRIEF);
    let effect = story.number();
    story.single(run(key, effect), Outcome::Lost);
    story.pause(1_000);
    story.is_there(effect, key, None);
    story.pause(600);
    let stored = Stored { answer: effect, effect: Some(effect), fence: None, status: false };
    story.replay(key, &stored);
    story.is_clean();
    story.pause(6_500);
    story.replay(key, &stored);
    story.breaks(Rule::ExpiredReplay);
}

/// A second completion in the same transaction is answered by the first, and stores nothing.
#[test]
fn an_answer_that_is_gone_too_early_is_caught_and_is_kept_from_its_first_completion() {
    let gone_after = |ms| {
        let mut story = Story::new();
        let key = story.key(BRIEF);
        let txn = story.begin();
        story.claim(txn, key);
        let effect = story.effect(txn, key, None, true);
        let stored = story.complete(txn, key, effect, None);
        story.pause(500);
        story.say(txn, complete(key, stored.answer, effect, None), done("{}"));
        story.commit(txn);
        story.pause(ms);
        story.single(Call::Replay { key }, said("absent"));
        story
    };
    gone_after(1_100).is_clean();
    gone_after(900).breaks(Rule::ForgottenAnswer);
}

#[test]
fn a_replay_for_another_request_is_caught() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.work(key);
    story.single(claim(key, 1, None), stored.replayed());
    story.breaks(Rule::MismatchMissed);
}

#[test]
fn another_request_than_the_leased_one_is_a_mismatch_and_nothing_else() {
    let with = |request, outcome| {
        let mut story = Story::new();
        let key = story.key(SAFE);
        story.lease(key, 100, 1);
        story.single(claim(key, request, None), said(outcome));
        story
    };
    with(1, "mismatch").is_clean();
    with(0, "in_progress").is_clean();
    with(1, "in_progress").breaks(Rule::MismatchMissed);
    with(0, "mismatch").breaks(Rule::NoReason);
}

#[test]
fn an_outcome_out_of_nowhere_is_caught() {
    for outcome in ["mismatch", "unknown", "sealed", "expired"] {
        let mut story = Story::new();
        let key = story.key(WARY);
        story.single(claim(key, 0, None), said(outcome));
        story.breaks(Rule::NoReason);
    }
    let mut story = Story::new();
    let key = story.dated_key(WARY, Dating::Uuid);
    story.lease(key, 10, 1);
    story.pause(20);
    story.single(claim(key, 0, None), said("unknown"));
    story.single(Call::Resolve { key, answer: None }, said("absent"));
    story.single(Call::Seal { key }, said("sealed"));
    story.single(claim(key, 0, None), said("sealed"));
    story.is_clean();
}

#[test]
fn what_is_resolved_as_completed_is_replayed() {
    let mut story = Story::new();
    let key = story.key(WARY);
    story.lease(key, 10, 1);
    story.pause(20);
    let stored = Stored { answer: story.number(), effect: None, fence: None, status: false };
    let resolve = Call::Resolve { key, answer: Some(stored.answer) };
    story.single(resolve, stored.replayed());
    story.replay(key, &stored);
    story.is_clean();
    story.single(claim(key, 0, None), claimed(None, 2));
    story.breaks(Rule::ForgottenAnswer);
}
