//! Histories in which much happens, and nothing wrong.

use history::answer;
use history::history::{Call, Dating, History, Line, Outcome, Row, write};

use super::story::*;

#[test]
fn nothing_happened() {
    Story::new().is_clean();
}

#[test]
fn work_in_a_transaction_is_replayed() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let stored = story.work(key);
    story.replay(key, &stored);
    story.single(claim(key, 1, None), said("mismatch"));
    story.is_clean();
}

#[test]
fn a_lease_is_extended_checkpointed_completed_and_replayed() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 20, 1);
    story.pause(10);
    story.single(Call::Extend { key, lease_ms: 100, fence: 1 }, done("later"));
    story.pause(60);
    story.single(Call::Checkpoint { key, value: 9, fence: 1 }, done(""));
    let txn = story.begin();
    let effect = story.effect(txn, key, Some(1), true);
    let stored = story.complete(txn, key, effect, Some(1));
    story.commit(txn);
    story.replay(key, &stored);
    story.is_clean();
}

#[test]
fn a_lapsed_lease_is_taken_over_with_its_checkpoint_and_the_zombie_refused() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.lease(key, 10, 1);
    story.single(Call::Checkpoint { key, value: 9, fence: 1 }, done(""));
    story.pause(30);
    let row = Row {
        outcome: "claimed".to_owned(),
        fence: Some(2),
        attempt: Some(2),
        checkpoint: Some(9.into()),
        ..Row::default()
    };
    story.single(claim(key, 0, Some(100)), Outcome::Row(Box::new(row)));
    let zombie = story.begin();
    let effect = story.effect(zombie, key, Some(1), false);
    let answer = story.number();
    story.say(zombie, complete(key, answer, effect, Some(1)), refused("ID003"));
    story.say(zombie, Call::Commit, done("ROLLBACK"));
    story.is_clean();
}

#[test]
fn savepoints_give_back_what_was_claimed_within() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let txn = story.begin();
    story.say(txn, Call::Savepoint { name: 1 }, done("SAVEPOINT"));
    story.claim(txn, key);
    let effect = story.effect(txn, key, None, false);
    story.complete(txn, key, effect, None);
    story.say(txn, Call::RollbackTo { name: 1 }, done("ROLLBACK"));
    let stored = story.work(key);
    story.commit(txn);
    story.replay(key, &stored);
    story.is_clean();
}

#[test]
fn a_commit_without_an_answer_may_have_happened() {
    for happened in [false, true] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let txn = story.begin();
        story.claim(txn, key);
        let effect = story.effect(txn, key, None, happened);
        let stored = story.complete(txn, key, effect, None);
        story.say(txn, Call::Commit, Outcome::Lost);
        // Not yet, or never.
        story.single(Call::Replay { key }, said("absent"));
        if happened {
            story.replay(key, &stored);
        } else {
            story.work(key);
        }
        story.is_clean();
    }
}

#[test]
fn a_run_without_an_answer_may_have_happened() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    let effect = story.number();
    story.single(run(key, effect), Outcome::Lost);
    story.is_there(effect, key, None);
    let stored = Stored { answer: effect, effect: Some(effect), fence: None, status: false };
    story.replay(key, &stored);
    story.is_clean();
}

#[test]
fn a_prepared_transaction_is_settled_by_somebody_else() {
    for commits in [false, true] {
        let mut story = Story::new();
        let key = story.key(SAFE);
        let txn = story.begin();
        story.claim(txn, key);
        let effect = story.effect(txn, key, None, commits);
        let stored = story.complete(txn, key, effect, None);
        let gid = "g".to_owned();
        story.say(txn, Call::Prepare { gid: gid.clone() }, done("PREPARE TRANSACTION"));
        story.single(claim(key, 0, None), said("in_progress"));
        if commits {
            story.single(Call::CommitPrepared { gid }, done("COMMIT PREPARED"));
            story.replay(key, &stored);
        } else {
            story.single(Call::RollbackPrepared { gid }, done("ROLLBACK PREPARED"));
            story.work(key);
        }
        story.is_clean();
    }
}

#[test]
fn a_declined_handlers_failure_is_kept() {
    let mut story = Story::new();
    let key = story.key(QUICK);
    let effect = story.number();
    let failed = |outcome: &str| {
        let response = Some(answer::declined(effect));
        let row =
            Row { outcome: outcome.to_owned(), failed: Some(true), response, ..Row::default() };
        Outcome::Row(Box::new(row))
    };
    let call = Call::Run { key, request: 0, wait_ms: 0, effect, declined: true, strict: false };
    story.single(call, failed("executed"));
    story.single(Call::Replay { key }, failed("replay"));
    story.is_clean();
}

#[test]
fn an_unlogged_record_is_gone_after_a_crash() {
    let mut story = Story::new();
    let key = story.dated_key(QUICK, Dating::Uuid);
    story.lease(key, 1_000, 1);
    story.crash();
    story.leased_work(key, 40, 1);
    story.crash();
    story.single(Call::Replay { key }, said("absent"));
    story.work(key);
    story.is_clean();
}

#[test]
fn an_expired_key_runs_again() {
    let mut story = Story::new();
    let key = story.key(BRIEF);
    story.work(key);
    story.pause(2_000);
    story.single(Call::Replay { key }, said("absent"));
    let stored = story.work(key);
    story.replay(key, &stored);
    story.is_clean();
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let mut story = Story::new();
    let key = story.dated_key(SAFE, Dating::FirstSent(7));
    story.leased_work(key, 1, 1);
    story.single(Call::Replay { key }, refused("40001"));
    let mut text = Vec::new();
    write(&mut text, &Line::Setup(story.history.setup.clone())).unwrap();
    for line in (story.history.keys.iter().cloned().map(Line::Key))
        .chain(story.history.events.iter().cloned().map(Line::Call))
        .chain(story.history.effects.iter().cloned().map(Line::Effect))
    {
        write(&mut text, &line).unwrap();
    }
    let file = std::env::temp_dir().join(format!("planted-{}.jsonl", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let read = History::read(&file);
    std::fs::remove_file(&file).unwrap();
    let read = read.unwrap();
    assert_eq!(
        (read.setup, read.keys, read.events, read.effects),
        (story.history.setup, story.history.keys, story.history.events, story.history.effects)
    );
}
