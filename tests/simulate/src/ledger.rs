//! What must hold, judged from commits and answers alone: it sees what clients and an auditor would see, and no record.

use std::collections::BTreeMap;

use rules::{Micros, Timestamp};

/// The number of a key that is played.
pub type KeyId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A key has a second effect within what is promised.
    SecondEffect,
    /// A client was given another answer than the first.
    OtherAnswer,
    /// Two attempts were told to work at the same time.
    TwoHolders,
    /// A fence that is not above one that was granted for the key.
    Fence,
    /// A slot was away for too long.
    Away,
    /// Two nodes have said something about one key, and it is not the same.
    Conflict,
}

/// What became of a key.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The number of the answer that was committed first, and when.
    answer: Option<(u64, Timestamp)>,
    /// Its record was lost, and nobody has promised to notice.
    excused: bool,
    fence: i64,
    /// Attempts at work: until when each certainly holds.
    holders: Vec<(u64, Timestamp)>,
}

/// How a key is kept, as far as it decides what is promised.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub dated: bool,
    pub retention: Micros,
}

#[derive(Debug, Default)]
pub struct Ledger {
    stories: Vec<Story>,
    /// The first of each rule, and how many there are.
    violations: BTreeMap<Rule, (String, u64)>,
    pub effects: u64,
    /// Second effects of what nothing was promised of: keys without a date, or with one ahead, whose record was lost, or has expired.
    pub excused: u64,
}

impl Ledger {
    pub fn begin(&mut self) -> KeyId {
        self.stories.push(Story::default());
        self.stories.len() - 1
    }

    pub fn violations(&self) -> impl Iterator<Item = (Rule, &str, u64)> {
        self.violations.iter().map(|(rule, (what, times))| (*rule, what.as_str(), *times))
    }

    pub fn broken(&self) -> u64 {
        self.violations.values().map(|(_, times)| times).sum()
    }

    pub fn breaks(&self, rule: Rule) -> bool {
        self.violations.contains_key(&rule)
    }

    pub fn violate(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        self.violations.entry(rule).or_insert_with(|| (what(), 0)).1 += 1;
    }

    /// An attempt was told to work, and holds the key until then unless it ends before.
    pub fn begins(&mut self, key: KeyId, attempt: u64, now: Timestamp, until: Timestamp) {
        let story = &mut self.stories[key];
        story.holders.retain(|(other, until)| *other != attempt && *until > now);
        let beside = story.holders.len();
        story.holders.push((attempt, until));
        if beside > 0 {
            self.violate(Rule::TwoHolders, || {
                format!("key {key} was given to attempt {attempt} while another held it")
            });
        }
    }

    /// It holds the key no more.
    pub fn ends(&mut self, key: KeyId, attempt: u64) {
        self.stories[key].holders.retain(|(other, _)| *other != attempt);
    }

    pub fn granted(&mut self, key: KeyId, fence: i64) {
        let highest = self.stories[key].fence;
        if fence <= highest {
            self.violate(Rule::Fence, || {
                format!("fence {fence} was granted for key {key} after {highest}")
            });
        }
        self.stories[key].fence = highest.max(fence);
    }

    /// A transaction with the work of a key and its answer has committed.
    pub fn committed(&mut self, key: KeyId, answer: u64, now: Timestamp, promise: Promise) {
        self.effects += 1;
        let Some((_, first)) = self.stories[key].answer else {
            self.stories[key].answer = Some((answer, now));
            return;
        };
        let expired = !promise.dated && now - first >= promise.retention;
        if self.stories[key].excused || expired {
            self.excused += 1;
            let story = &mut self.stories[key];
            (story.answer, story.excused) = (Some((answer, now)), false);
        } else {
            self.violate(Rule::SecondEffect, || {
                format!("key {key} has a second effect {} ms after the first", (now - first) / 1000)
            });
        }
    }

    /// A client was given an answer.
    pub fn answered(&mut self, key: KeyId, answer: u64) {
        let first = self.stories[key].answer.map(|(first, _)| first);
        if first != Some(answer) {
            self.violate(Rule::OtherAnswer, || {
                format!("key {key} was answered {answer}, and {first:?} came first")
            });
        }
    }

    /// The record of a key is gone, and not by a sweep. A date from before then tells. Without one it runs again, as the pages say, and so
    /// does a key of a client whose clock was ahead.
    pub fn lost(&mut self, key: KeyId, is_told: bool) {
        self.stories[key].excused |= !is_told;
    }
}
