//! What is shown of a violation is short, and still shows it.

use history::check::{Options, Rule, check, shrink};

use super::story::*;

#[test]
fn a_violation_is_shown_without_what_has_nothing_to_do_with_it() {
    let mut story = Story::new();
    let (key, other) = (story.key(SAFE), story.key(SAFE));
    let stored = story.work(other);
    let first = story.work(key);
    for _ in 0..20 {
        story.replay(other, &stored);
        story.replay(key, &first);
        story.single(claim(key, 1, None), said("mismatch"));
    }
    // Another key in the same transaction.
    let txn = story.begin();
    story.claim(txn, key);
    story.say(txn, claim(other, 0, None), stored.replayed());
    let effect = story.effect(txn, key, None, true);
    story.complete(txn, key, effect, None);
    story.commit(txn);

    let options = Options::default();
    let violation = check(&story.history, options)
        .into_iter()
        .find(|found| found.rule == Rule::SecondEffect)
        .expect("it is caught");
    let part = shrink(&story.history, &violation, options);
    assert!(check(&part, options).contains(&violation));
    assert_eq!(part.keys.len(), 1);
    assert_eq!(part.effects.len(), 2);
    assert_eq!(part.events.len(), 10, "the two transactions, whole: {:?}", part.events);
}
