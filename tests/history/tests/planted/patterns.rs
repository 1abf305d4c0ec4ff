//! The patterns: messages, offsets, locks with a key, and an operation that is only observed.

use history::check::{Options, Rule, check, shrink};
use history::history::{Call, Level, Outcome};
use history::pattern::{Pattern, Trace, Watched};

use super::story::*;

#[test]
fn a_message_is_new_once_to_each_consumer() {
    let mut story = Story::new();
    story.first(QUICK, &[1], &[1]);
    story.first(QUICK, &[2, 1, 3, 2], &[2, 3]);
    story.first(QUICK, &[3], &[]);
    story.first(BRIEF, &[3, 1], &[3, 1]);
    // Past the retention of that consumer.
    story.pause(2_000);
    story.first(BRIEF, &[3], &[3]);
    story.is_clean();
    story.first(QUICK, &[4, 1], &[4, 1]);
    story.breaks(Rule::SecondFirst);
}

#[test]
fn a_message_is_caught_that_is_new_again_before_its_retention_is_over_or_after_a_crash() {
    let mut story = Story::new();
    story.first(BRIEF, &[1], &[1]);
    story.pause(1_000);
    story.first(BRIEF, &[1], &[1]);
    story.breaks(Rule::SecondFirst);
    let mut story = Story::new();
    story.first(QUICK, &[1], &[1]);
    story.crash();
    story.first(QUICK, &[1], &[1]);
    story.breaks(Rule::SecondFirst);
}

#[test]
fn a_message_goes_back_with_its_transaction() {
    let mut story = Story::new();
    let txn = story.begin();
    story.first_in(txn, QUICK, &[1], &[1], false);
    // Its own transaction has seen it.
    story.first_in(txn, QUICK, &[1], &[], false);
    story.roll_back(txn);
    story.first(QUICK, &[1], &[1]);
    story.is_clean();
}

#[test]
fn a_message_is_caught_that_is_called_seen_and_nobody_has_it() {
    let mut story = Story::new();
    story.first(QUICK, &[1], &[]);
    story.breaks(Rule::NoReason);
    // Whoever had it has rolled back.
    let mut story = Story::new();
    let txn = story.begin();
    story.first_in(txn, QUICK, &[1], &[1], false);
    story.roll_back(txn);
    story.first(QUICK, &[1], &[]);
    story.breaks(Rule::NoReason);
}

#[test]
fn a_message_is_caught_that_is_called_seen_after_its_retention() {
    let mut story = Story::new();
    story.first(BRIEF, &[1], &[1]);
    story.pause(1_000);
    story.first(BRIEF, &[1], &[]);
    story.is_clean();
    story.pause(1_000);
    story.first(BRIEF, &[1], &[]);
    story.breaks(Rule::NoReason);
}

#[test]
fn a_batch_in_another_order_is_caught() {
    let mut story = Story::new();
    story.first(QUICK, &[1, 2], &[2, 1]);
    story.breaks(Rule::NoReason);
}

#[test]
fn traces_are_those_of_who_committed() {
    let mut story = Story::new();
    let txn = story.begin();
    story.first_in(txn, QUICK, &[1, 2], &[1, 2], true);
    story.say(txn, Call::Commit, Outcome::Lost);
    story.is_clean();
    // Half of them.
    story.history.traces.pop();
    story.breaks(Rule::GhostEffect);

    let mut story = Story::new();
    story.first(QUICK, &[1], &[1]);
    story.history.traces.clear();
    story.breaks(Rule::LostEffect);

    let mut story = Story::new();
    let txn = story.begin();
    story.first_in(txn, QUICK, &[1], &[1], true);
    story.roll_back(txn);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn accepted_offsets_grow() {
    let mut story = Story::new();
    story.advance(0, 5);
    story.advance(1, 3);
    story.advance(0, 9);
    let number = story.number();
    story.pattern(Pattern::Advance { partition: 0, offset: 9, number }, "f");
    story.history.traces.push(Trace::Position { partition: 0, offset: 9 });
    story.is_clean();
    story.advance(1, 3);
    story.breaks(Rule::OffsetOrder);
}

#[test]
fn a_position_is_caught_that_is_not_the_last_one() {
    let mut story = Story::new();
    story.advance(0, 5);
    story.history.traces.push(Trace::Position { partition: 0, offset: 4 });
    story.breaks(Rule::OffsetOrder);
}

#[test]
fn an_offset_that_is_refused_without_a_reason_is_caught() {
    let mut story = Story::new();
    story.advance(0, 5);
    let number = story.number();
    story.pattern(Pattern::Advance { partition: 0, offset: 6, number }, "f");
    story.breaks(Rule::NoReason);
}

fn lock(holder: u32, ttl_ms: u64) -> Pattern {
    Pattern::Lock { resource: 0, holder, ttl_ms }
}

fn unlock(holder: u32, fence: i64) -> Pattern {
    Pattern::Unlock { resource: 0, holder, fence }
}

#[test]
fn a_lock_has_one_holder_at_a_time() {
    let mut story = Story::new();
    story.pattern(lock(1, 100), "fence 1");
    story.pattern(lock(2, 100), "holder 1");
    story.pattern(lock(1, 100), "fence 1");
    story.pattern(unlock(1, 1), "t");
    story.pattern(lock(2, 20), "fence 2");
    story.pattern(unlock(1, 1), "f");
    story.pause(30);
    story.pattern(lock(3, 100), "fence 3");
    story.is_clean();
    story.pattern(lock(2, 100), "fence 4");
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_lock_outlives_a_crash_and_an_extension_counts() {
    let mut story = Story::new();
    story.pattern(lock(1, 300), "fence 1");
    story.crash();
    story.pattern(lock(2, 100), "fence 2");
    story.breaks(Rule::TwoHolders);

    let mut story = Story::new();
    story.pattern(lock(1, 10), "fence 1");
    story.pattern(lock(1, 100), "fence 1");
    story.pause(20);
    story.pattern(lock(2, 100), "fence 2");
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_lock_of_a_transaction_that_is_rolled_back_was_never_had() {
    let mut story = Story::new();
    let txn = story.begin();
    story.say(txn, Call::Pattern(lock(1, 300)), done("fence 1"));
    story.roll_back(txn);
    story.pattern(lock(2, 100), "fence 2");
    story.is_clean();
    story.pattern(lock(3, 100), "holder 1");
    story.breaks(Rule::NoReason);
}

#[test]
fn a_takeover_with_the_fence_of_before_is_caught() {
    let mut story = Story::new();
    story.pattern(lock(1, 10), "fence 1");
    story.pause(30);
    story.pattern(lock(2, 100), "fence 1");
    story.breaks(Rule::FenceReused);
}

#[test]
fn a_lower_fence_of_a_lock_is_caught_over_all_resources() {
    let mut story = Story::new();
    story.pattern(lock(1, 10), "fence 5");
    story.pattern(Pattern::Lock { resource: 1, holder: 1, ttl_ms: 10 }, "fence 4");
    story.breaks(Rule::FenceOrder);
}

#[test]
fn a_holder_that_is_given_another_fence_is_caught() {
    let mut story = Story::new();
    story.pattern(lock(1, 100), "fence 1");
    story.pattern(lock(1, 100), "fence 2");
    story.breaks(Rule::FenceReused);
}

#[test]
fn giving_back_what_one_does_not_have_is_caught() {
    // Lapsed, and taken by another.
    let mut story = Story::new();
    story.pattern(lock(1, 10), "fence 1");
    story.pause(20);
    story.pattern(lock(2, 100), "fence 2");
    story.pattern(unlock(1, 1), "t");
    story.breaks(Rule::StaleFence);
    // Lapsed.
    let mut story = Story::new();
    story.pattern(lock(1, 10), "fence 1");
    story.pause(50);
    story.pattern(unlock(1, 1), "t");
    story.breaks(Rule::StaleFence);
}

fn watched(how: Watched) -> Call {
    Call::Pattern(Pattern::Watched { key: 7, how })
}

#[test]
fn what_is_observed_goes_through() {
    let mut story = Story::new();
    let claim = Watched::Claim { request: 0, lease_ms: None };
    let txn = story.begin();
    story.say(txn, watched(claim), done("claimed"));
    for _ in 0..2 {
        story.single(watched(claim), done("claimed"));
        let number = story.number();
        story.single(watched(Watched::Run { request: 1, number }), done("executed"));
        story.history.traces.push(Trace::Watched { number });
    }
    story.say(txn, watched(Watched::Complete { fence: None }), done("{}"));
    story.commit(txn);
    story.is_clean();
}

#[test]
fn what_is_observed_and_answered_otherwise_is_caught() {
    let claim = Watched::Claim { request: 0, lease_ms: None };
    for (how, outcome) in [
        (claim, done("replay")),
        (claim, done("in_progress")),
        (claim, refused("40001")),
        // It has waited for somebody.
        (claim, refused("57014")),
        (claim, refused("40P01")),
        (Watched::Complete { fence: None }, refused("ID007")),
        (Watched::Run { request: 0, number: 1 }, done("replay")),
    ] {
        let mut story = Story::new();
        story.single(watched(how), outcome);
        story.breaks(Rule::ObservedInTheWay);
    }
    let mut story = Story::new();
    let txn = story.txn();
    story.say(txn, Call::Begin { level: Level::Serializable }, done("BEGIN"));
    story.say(txn, watched(claim), refused("40001"));
    story.roll_back(txn);
    story.is_clean();
}

#[test]
fn a_run_that_was_observed_and_left_nothing_is_caught() {
    let mut story = Story::new();
    let number = story.number();
    story.single(watched(Watched::Run { request: 0, number }), done("executed"));
    story.breaks(Rule::LostEffect);
}

#[test]
fn a_violation_of_a_pattern_is_shown_without_the_rest() {
    let mut story = Story::new();
    story.first(QUICK, &[1], &[1]);
    for message in 10..30 {
        let key = story.key(SAFE);
        story.work(key);
        story.first(QUICK, &[message], &[message]);
        story.advance(0, i64::from(message));
    }
    story.first(QUICK, &[1, 40], &[1, 40]);
    let options = Options::default();
    let found = check(&story.history, options);
    let violation = found.iter().find(|found| found.rule == Rule::SecondFirst).unwrap();
    let part = shrink(&story.history, violation, options);
    assert!(check(&part, options).contains(violation));
    assert_eq!(part.events.len(), 2, "the two calls: {:?}", part.events);
    assert_eq!(part.traces.len(), 3);
}
