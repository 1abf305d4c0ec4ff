//! Several nodes: a slot is one node's at a time, and what is known of its keys goes with it.

use history::check::Rule;
use history::history::{Call, KeyId, Outcome};
use history::nodes::{Move, first_node_of, part_of};
use history::pattern::Pattern;

use super::story::*;

const NODES: u32 = 3;

/// Three nodes; the one that has the key is asked.
fn on_nodes(operation: usize) -> (Story, KeyId) {
    let mut story = Story::new();
    story.history.setup.nodes = NODES;
    let key = story.key(operation);
    story.node = home(&story, key);
    (story, key)
}

fn part(story: &Story, key: KeyId) -> usize {
    part_of(&story.history.keys[usize::try_from(key).unwrap()].text)
}

fn home(story: &Story, key: KeyId) -> u32 {
    first_node_of(part(story, key), NODES)
}

/// A key that another node has than this one.
fn elsewhere(story: &mut Story, operation: usize) -> KeyId {
    loop {
        let key = story.key(operation);
        if home(story, key) != story.node {
            return key;
        }
    }
}

/// The key's slot goes to the next node in so many milliseconds, and that is asked from now on.
fn goes(story: &mut Story, key: KeyId, ms: u64) {
    let (start, from) = (story.now, story.node);
    story.pause(ms);
    let (end, to) = (story.now, (from + 1) % NODES);
    story.history.moves.push(Move {
        part: part(story, key),
        from,
        to,
        start,
        end,
        done: true,
        ..Move::default()
    });
    story.pause(1);
    story.node = to;
}

#[test]
fn a_second_effect_at_another_node_is_caught() {
    for operation in [QUICK, SAFE] {
        let (mut story, key) = on_nodes(operation);
        story.work(key);
        goes(&mut story, key, 20);
        story.is_clean();
        story.work(key);
        story.breaks(Rule::SecondEffect);
    }
}

#[test]
fn an_answer_that_a_move_has_lost_or_changed_is_caught() {
    let (mut story, key) = on_nodes(SAFE);
    let stored = story.work(key);
    goes(&mut story, key, 20);
    story.replay(key, &stored);
    story.is_clean();
    story.single(Call::Replay { key }, said("absent"));
    story.breaks(Rule::ForgottenAnswer);

    let (mut story, key) = on_nodes(SAFE);
    let stored = story.work(key);
    goes(&mut story, key, 20);
    let other = Stored { answer: stored.answer + 1, ..stored };
    story.replay(key, &other);
    story.breaks(Rule::WrongReplay);
}

#[test]
fn a_fence_grows_over_a_move_and_nodes_have_fences_of_their_own() {
    for (fence, is_higher) in [(9, true), (4, false), (5, false)] {
        let (mut story, key) = on_nodes(SAFE);
        story.lease(key, 10, 5);
        story.pause(20);
        goes(&mut story, key, 20);
        story.single(claim(key, 0, Some(100)), claimed(Some(fence), 2));
        match fence {
            _ if is_higher => story.is_clean(),
            5 => story.breaks(Rule::FenceReused),
            _ => story.breaks(Rule::FenceOrder),
        }
    }
    // Another key, of another node.
    for fence in [5, 4] {
        let (mut story, key) = on_nodes(SAFE);
        story.lease(key, 10, 5);
        let other = elsewhere(&mut story, SAFE);
        story.node = home(&story, other);
        story.lease(other, 10, fence);
        story.is_clean();
    }
    // Another key, of the same.
    let (mut story, key) = on_nodes(SAFE);
    story.lease(key, 10, 5);
    let other = story.key(SAFE);
    story.history.keys[1].text = story.history.keys[0].text.clone();
    story.lease(other, 10, 4);
    story.breaks(Rule::FenceOrder);
}

#[test]
fn a_lock_has_one_holder_over_a_move_and_its_fences_grow() {
    let lock = |holder| Pattern::Lock { resource: 1, holder, ttl_ms: 1_000 };
    let moved = |second: &str, pause| {
        let (mut story, _) = on_nodes(SAFE);
        story.history.keys[0].text = "1".to_owned();
        story.node = home(&story, 0);
        story.pattern(lock(1), "fence 7");
        goes(&mut story, 0, 20);
        story.pause(pause);
        story.pattern(lock(2), second);
        story
    };
    moved("holder 1", 0).is_clean();
    moved("fence 8", 0).breaks(Rule::TwoHolders);
    moved("fence 8", 2_000).is_clean();
    moved("fence 6", 2_000).breaks(Rule::FenceOrder);
}

#[test]
fn a_node_that_answers_for_anothers_slot_is_caught() {
    let calls = |key| {
        [
            (claim(key, 0, Some(100)), claimed(Some(1), 1)),
            (claim(key, 0, None), said("in_progress")),
            (Call::Replay { key }, said("absent")),
            (Call::Seal { key }, said("sealed")),
            (Call::Pattern(Pattern::Lock { resource: 1, holder: 1, ttl_ms: 1 }), done("fence 1")),
        ]
    };
    for at in 0..5 {
        let (mut story, key) = on_nodes(SAFE);
        story.history.keys[0].text = "1".to_owned();
        story.node = (home(&story, key) + 1) % NODES;
        let (call, outcome) = calls(key)[at].clone();
        story.single(call.clone(), refused("ID010"));
        story.single(call.clone(), Outcome::Lost);
        story.is_clean();
        story.single(call, outcome);
        story.breaks(Rule::Misrouted);
    }
    // Before a move, and after it.
    for late in [false, true] {
        let (mut story, key) = on_nodes(SAFE);
        let before = story.node;
        goes(&mut story, key, 20);
        if late {
            story.node = before;
        }
        story.single(Call::Replay { key }, said("absent"));
        if late { story.breaks(Rule::Misrouted) } else { story.is_clean() }
    }
}

#[test]
fn a_holder_finishes_at_the_old_node() {
    let (mut story, key) = on_nodes(SAFE);
    story.lease(key, 1_000, 5);
    let before = story.node;
    goes(&mut story, key, 20);
    story.node = before;
    story.single(Call::Release { key, fence: Some(5) }, done("t"));
    story.is_clean();
}

#[test]
fn a_key_that_is_away_without_a_move_or_for_too_long_is_caught() {
    let (mut story, key) = on_nodes(SAFE);
    story.single(Call::Replay { key }, refused("ID010"));
    story.breaks(Rule::Away);

    // The move began while the call was on its way.
    let (mut story, key) = on_nodes(SAFE);
    story.single(Call::Replay { key }, refused("ID010"));
    story.now -= MS;
    goes(&mut story, key, 20);
    story.is_clean();

    // A move that was refused: as it was, before and after.
    let (mut story, key) = on_nodes(SAFE);
    goes(&mut story, key, 20);
    let moved = &mut story.history.moves[0];
    (moved.done, story.node) = (false, moved.from);
    story.single(Call::Replay { key }, said("absent"));
    story.is_clean();
    story.single(Call::Replay { key }, refused("ID010"));
    story.breaks(Rule::Away);

    let (mut story, key) = on_nodes(SAFE);
    goes(&mut story, key, 61_000);
    story.breaks(Rule::Away);
}

#[test]
fn one_server_refuses_no_slot() {
    let mut story = Story::new();
    let key = story.key(SAFE);
    story.single(Call::Replay { key }, refused("ID010"));
    story.breaks(Rule::WrongError);
}

#[test]
fn a_conflict_is_caught() {
    let (mut story, key) = on_nodes(SAFE);
    goes(&mut story, key, 20);
    story.history.moves[0].rows = [("new".to_owned(), 3), ("older".to_owned(), 1)].into();
    story.is_clean();
    story.history.moves[0].rows.insert("conflict".to_owned(), 1);
    story.breaks(Rule::Conflict);
}
