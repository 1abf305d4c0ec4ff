//! A topic with roles: who may, in which order, to one relay at a time, and not again.

use history::check::Rule;
use history::history::{Call, Outcome};
use history::pattern::topic::{How, Role, Topic};
use history::pattern::{Pattern, Trace};

use super::story::*;

fn topic(role: Role, how: How) -> Call {
    Call::Pattern(Pattern::Topic(Topic { role, how }))
}

fn put(lane: u32, number: u64) -> Call {
    topic(Role::Sender, How::Put { lane, number })
}

fn put_one(story: &mut Story, lane: u32, number: u64) {
    story.single(put(lane, number), done("an id"));
}

fn take(story: &mut Story, lease_ms: u64, fence: i64, messages: &[u64]) {
    let told: Vec<String> = messages.iter().map(|number| format!("{number}=id")).collect();
    let told = done(&format!("{fence}|{}", told.join(",")));
    story.single(topic(Role::Relay, How::Take { batch: 10, lease_ms }), told);
}

fn of(messages: &[u64]) -> Vec<(u64, String)> {
    messages.iter().map(|number| (*number, "id".to_owned())).collect()
}

fn ack(fence: i64, messages: &[u64]) -> Call {
    topic(Role::Relay, How::Ack { messages: of(messages), fence })
}

fn release(fence: i64, messages: &[u64]) -> Call {
    topic(Role::Relay, How::Release { messages: of(messages), fence })
}

/// When all is over these are there.
fn end(story: &mut Story, waiting: &[u64]) {
    story.single(Call::Sweep, done("0"));
    story.history.events.last_mut().unwrap().closing = true;
    let waiting = waiting.iter().map(|message| Trace::Waiting { message: *message });
    story.history.traces.extend(waiting);
}

#[test]
fn messages_are_put_taken_acknowledged_and_gone() {
    let mut story = Story::new();
    put_one(&mut story, 0, 1);
    put_one(&mut story, 0, 2);
    put_one(&mut story, 1, 3);
    take(&mut story, 500, 1, &[1, 3, 2]);
    story.single(ack(1, &[1, 2]), done("2"));
    story.single(release(1, &[3]), done("1"));
    take(&mut story, 500, 2, &[3]);
    end(&mut story, &[3]);
    story.is_clean();
}

#[test]
fn each_role_may_do_its_part_alone() {
    let taking = How::Take { batch: 1, lease_ms: 100 };
    let putting = How::Put { lane: 0, number: 1 };
    for (role, how) in [
        (Role::Outsider, taking.clone()),
        (Role::Outsider, putting.clone()),
        (Role::Outsider, How::Ack { messages: Vec::new(), fence: 1 }),
        (Role::Sender, taking.clone()),
        (Role::Relay, putting.clone()),
    ] {
        let mut story = Story::new();
        story.single(topic(role, how.clone()), refused("42501"));
        story.single(topic(role, how.clone()), refused("40001"));
        story.single(topic(role, how.clone()), Outcome::Lost);
        story.is_clean();
        story.single(topic(role, how), done("0"));
        story.breaks(Rule::TopicRights);
    }
    for (role, how) in [(Role::Sender, putting), (Role::Relay, taking)] {
        let mut story = Story::new();
        story.single(topic(role, how), refused("42501"));
        story.breaks(Rule::TopicRights);
    }
}

#[test]
fn a_message_that_is_given_to_two_relays_at_once_is_caught() {
    let mut story = Story::new();
    put_one(&mut story, 0, 1);
    take(&mut story, 20, 1, &[1]);
    story.pause(30);
    // The lease has lapsed.
    take(&mut story, 500, 2, &[1]);
    story.single(release(2, &[1]), done("1"));
    take(&mut story, 500, 3, &[1]);
    story.is_clean();
    take(&mut story, 500, 4, &[1]);
    story.breaks(Rule::TwoHolders);
}

#[test]
fn a_take_that_is_rolled_back_holds_nothing() {
    let mut story = Story::new();
    put_one(&mut story, 0, 1);
    let txn = story.begin();
    let taking = topic(Role::Relay, How::Take { batch: 1, lease_ms: 500 });
    story.say(txn, taking, done("1|1=id"));
    story.roll_back(txn);
    take(&mut story, 500, 2, &[1]);
    story.is_clean();
}

#[test]
fn a_late_relay_that_ends_what_another_has_is_caught() {
    for late in [ack(1, &[1]), release(1, &[1])] {
        let mut story = Story::new();
        put_one(&mut story, 0, 1);
        take(&mut story, 20, 1, &[1]);
        story.pause(30);
        take(&mut story, 500, 2, &[1]);
        story.single(late.clone(), refused("ID003"));
        story.is_clean();
        story.single(late, done("1"));
        story.breaks(Rule::StaleFence);
    }
}

#[test]
fn what_was_acknowledged_and_is_sent_again_is_caught() {
    let acknowledged = || {
        let mut story = Story::new();
        put_one(&mut story, 0, 1);
        take(&mut story, 20, 1, &[1]);
        story.single(ack(1, &[1]), done("1"));
        story
    };
    let mut story = acknowledged();
    take(&mut story, 20, 2, &[1]);
    story.breaks(Rule::SentAgain);
    let mut story = acknowledged();
    end(&mut story, &[1]);
    story.breaks(Rule::SentAgain);
    // Nobody was told.
    let mut story = Story::new();
    put_one(&mut story, 0, 1);
    take(&mut story, 20, 1, &[1]);
    story.single(ack(1, &[1]), Outcome::Lost);
    story.pause(30);
    take(&mut story, 20, 2, &[1]);
    end(&mut story, &[1]);
    story.is_clean();
}

#[test]
fn a_message_that_is_lost_is_caught() {
    let mut story = Story::new();
    put_one(&mut story, 0, 1);
    take(&mut story, 20, 1, &[1]);
    end(&mut story, &[]);
    story.breaks(Rule::LostEffect);
    // It may never have been put.
    let mut story = Story::new();
    story.single(put(0, 1), Outcome::Lost);
    end(&mut story, &[]);
    story.is_clean();
}

#[test]
fn a_message_of_a_transaction_that_rolled_back_is_caught() {
    let rolled_back = || {
        let mut story = Story::new();
        let txn = story.begin();
        story.say(txn, put(0, 1), done("an id"));
        story.roll_back(txn);
        story
    };
    let mut story = rolled_back();
    end(&mut story, &[]);
    story.is_clean();
    let mut story = rolled_back();
    end(&mut story, &[1]);
    story.breaks(Rule::GhostEffect);
    let mut story = rolled_back();
    take(&mut story, 20, 1, &[1]);
    story.breaks(Rule::GhostEffect);
}

#[test]
fn a_message_that_overtakes_another_is_caught() {
    let two = || {
        let mut story = Story::new();
        put_one(&mut story, 0, 1);
        put_one(&mut story, 0, 2);
        put_one(&mut story, 1, 3);
        story
    };
    let mut story = two();
    take(&mut story, 500, 1, &[1]);
    take(&mut story, 500, 2, &[3]);
    story.is_clean();
    // The first one is with another relay.
    take(&mut story, 500, 3, &[2]);
    story.breaks(Rule::TopicOrder);
    let mut story = two();
    take(&mut story, 500, 1, &[2, 1]);
    story.breaks(Rule::TopicOrder);
    let mut story = two();
    take(&mut story, 500, 1, &[1]);
    story.single(ack(1, &[1]), Outcome::Lost);
    take(&mut story, 500, 2, &[2]);
    story.is_clean();
    // The order is that of the commits.
    let mut story = Story::new();
    let txn = story.begin();
    story.say(txn, put(0, 1), done("an id"));
    put_one(&mut story, 0, 2);
    take(&mut story, 500, 1, &[2]);
    story.commit(txn);
    story.is_clean();
}
