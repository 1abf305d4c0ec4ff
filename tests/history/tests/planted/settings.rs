//! Settings that change under the hands of callers: what was known under earlier ones stays known.

use history::check::Rule;
use history::history::{Call, Dating, Key, Outcome, Row};
use history::settings::Change;

use super::story::*;

/// The index of an operation whose settings change; it begins with a retention of 1.5 s.
const CHANGING: usize = 5;

fn configure(change: Change) -> Call {
    Call::Configure { operation: CHANGING, change }
}

fn set(story: &mut Story, change: Change) {
    story.single(configure(change), done("changing"));
}

fn retention(story: &mut Story, ms: u64) {
    set(story, Change::Retention { ms });
}

/// Work under its first retention, which is over; then the retention is raised.
fn raised(dating: Dating) -> (Story, u32) {
    let mut story = Story::new();
    let key = story.dated_key(CHANGING, dating);
    story.work(key);
    story.pause(3_000);
    retention(&mut story, 86_400_000);
    (story, key)
}

#[test]
fn a_raise_does_not_bring_back_what_was_forgotten() {
    let (mut story, key) = raised(Dating::None);
    // Without a date nothing tells that it ran.
    story.work(key);
    story.is_clean();
    let (mut story, key) = raised(Dating::FirstSent(7));
    story.single(Call::Replay { key }, said("absent"));
    story.single(claim(key, 0, None), said("expired"));
    story.is_clean();
    story.work(key);
    story.breaks(Rule::SecondEffect);
}

#[test]
fn a_failure_may_be_followed_by_another_attempt_whatever_the_date() {
    let mut story = Story::new();
    let key = story.dated_key(CHANGING, Dating::FirstSent(7));
    let txn = story.begin();
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, true);
    let answer = story.number();
    let call = Call::Complete { key, answer, effect: Some(effect), failed: true, fence: None };
    story.say(txn, call, done("{}"));
    story.commit(txn);
    story.pause(3_000);
    story.work(key);
    story.is_clean();
}

#[test]
fn what_is_stored_after_a_raise_is_kept_for_longer() {
    let mut story = Story::new();
    let key = story.key(CHANGING);
    retention(&mut story, 86_400_000);
    let stored = story.work(key);
    story.pause(3_000);
    story.replay(key, &stored);
    story.is_clean();
    story.work(key);
    story.breaks(Rule::SecondEffect);
    story.breaks(Rule::ForgottenAnswer);
}

#[test]
fn a_lower_retention_takes_nothing_from_what_is_stored() {
    let mut story = Story::new();
    let key = story.key(CHANGING);
    let stored = story.work(key);
    retention(&mut story, 300);
    story.pause(600);
    story.replay(key, &stored);
    story.is_clean();
    story.single(Call::Replay { key }, said("absent"));
    story.breaks(Rule::ForgottenAnswer);
}

#[test]
fn a_change_that_is_rolled_back_or_nobody_was_told_of_proves_nothing() {
    let mut story = Story::new();
    let key = story.key(CHANGING);
    let txn = story.begin();
    story.say(txn, configure(Change::Retention { ms: 86_400_000 }), done("changing"));
    story.roll_back(txn);
    story.work(key);
    story.pause(3_000);
    story.work(key);
    story.is_clean();
    let mut story = Story::new();
    let key = story.key(CHANGING);
    story.single(configure(Change::Retention { ms: 300 }), Outcome::Lost);
    story.work(key);
    story.pause(600);
    story.work(key);
    story.is_clean();
}

#[test]
fn a_date_that_is_ignored_refuses_nothing_and_later_does() {
    let text = "00000000-0007-7000-8000-000000000000".to_owned();
    let with_key = || {
        let mut story = Story::new();
        let key = Key { id: 0, operation: CHANGING, text: text.clone(), dating: Dating::Uuid };
        story.history.keys.push(key);
        set(&mut story, Change::KeyDates { used: false });
        story.work(0);
        story.pause(3_000);
        story
    };
    let mut story = with_key();
    story.work(0);
    story.is_clean();
    let mut story = with_key();
    story.single(claim(0, 0, None), said("expired"));
    story.breaks(Rule::NoReason);
    let mut story = with_key();
    set(&mut story, Change::KeyDates { used: true });
    story.single(claim(0, 0, None), said("expired"));
    story.is_clean();
    story.work(0);
    story.breaks(Rule::SecondEffect);
    // A lease from when it was ignored goes on, by whoever takes it over.
    let mut story = with_key();
    story.lease(0, 50, 1);
    set(&mut story, Change::KeyDates { used: true });
    story.pause(60);
    let txn = story.begin();
    story.say(txn, claim(0, 0, None), claimed(None, 2));
    let effect = story.effect(txn, 0, None, true);
    story.complete(txn, 0, effect, None);
    story.commit(txn);
    story.is_clean();
}

#[test]
fn a_key_that_is_called_too_old_too_early_is_caught() {
    let mut story = Story::new();
    story.history.setup.began_us = 1_000_000_000;
    let key = story.dated_key(CHANGING, Dating::FirstSent(1_000_000_000));
    story.pause(2_100);
    story.single(claim(key, 0, None), said("expired"));
    story.is_clean();
    let key = story.dated_key(CHANGING, Dating::FirstSent(1_000_500_000));
    story.single(claim(key, 0, None), said("expired"));
    story.breaks(Rule::NoReason);
}

fn taken_over(story: &mut Story, key: u32) {
    story.pause(30);
    let row =
        Row { outcome: "claimed".to_owned(), fence: Some(2), attempt: Some(2), ..Row::default() };
    story.single(claim(key, 0, Some(10)), Outcome::Row(Box::new(row)));
}

#[test]
fn what_a_lapse_leads_to_is_a_fact_of_the_lease() {
    // Granted under `retry`, and taken over under it.
    let mut story = Story::new();
    let key = story.key(CHANGING);
    story.lease(key, 10, 1);
    taken_over(&mut story, key);
    set(&mut story, Change::OnLapse { unknown: true });
    story.pause(30);
    story.single(claim(key, 0, Some(10)), said("unknown"));
    story.is_clean();
    // Granted under `unknown`.
    let mut story = Story::new();
    let key = story.key(CHANGING);
    set(&mut story, Change::OnLapse { unknown: true });
    story.lease(key, 10, 1);
    set(&mut story, Change::OnLapse { unknown: false });
    taken_over(&mut story, key);
    story.breaks(Rule::WrongAttempt);
    // Committed before the change.
    let mut story = Story::new();
    let key = story.key(CHANGING);
    story.lease(key, 10, 1);
    set(&mut story, Change::OnLapse { unknown: true });
    taken_over(&mut story, key);
    story.breaks(Rule::WrongAttempt);
}

#[test]
fn what_is_unknown_without_a_setting_that_leads_to_it_is_caught() {
    let mut story = Story::new();
    let key = story.key(CHANGING);
    story.lease(key, 10, 1);
    story.pause(30);
    story.single(claim(key, 0, Some(10)), said("unknown"));
    story.breaks(Rule::NoReason);
}

#[test]
fn another_set_of_exclusions_makes_no_mismatch() {
    let mut story = Story::new();
    let key = story.key(CHANGING);
    let stored = story.work(key);
    set(&mut story, Change::Exclude { more: true });
    story.single(claim(key, 0, None), stored.replayed());
    story.is_clean();
    story.single(claim(key, 0, None), said("mismatch"));
    story.breaks(Rule::NoReason);
}
