//! Histories as stories: who said what, one after the other, a millisecond each.

use history::answer;
use history::check::{Options, Rule, check};
use history::history::{
    Call, Dating, Effect, Event, History, Key, KeyId, Level, Nanos, Outcome, Row, Setup, TxnId,
};
use history::pattern::{Pattern, Trace};
use history::plan::policies::operations;

pub const MS: Nanos = 1_000_000;

/// Indexes of `policies::operations()`.
pub const QUICK: usize = 0;
pub const SAFE: usize = 1;
pub const WARY: usize = 2;
pub const BRIEF: usize = 4;

pub struct Story {
    pub history: History,
    pub now: Nanos,
    pub epoch: i64,
    /// Which is asked from now on.
    pub node: u32,
    txns: TxnId,
    numbers: u64,
}

impl Story {
    pub fn new() -> Self {
        let setup = Setup { clients: 2, operations: operations(), ..Setup::default() };
        let history = History { setup, ..History::default() };
        Self { history, now: 0, epoch: 1, node: 0, txns: 0, numbers: 0 }
    }

    pub fn key(&mut self, operation: usize) -> KeyId {
        self.dated_key(operation, Dating::None)
    }

    pub fn dated_key(&mut self, operation: usize, dating: Dating) -> KeyId {
        let id = u32::try_from(self.history.keys.len()).unwrap();
        self.history.keys.push(Key { id, operation, text: format!("key {id}"), dating });
        id
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn pause(&mut self, ms: u64) {
        self.now += ms * MS;
    }

    /// The server crashes: unlogged records are gone.
    pub fn crash(&mut self) {
        self.epoch += 1;
        self.pause(100);
    }

    pub fn txn(&mut self) -> TxnId {
        self.txns += 1;
        self.txns
    }

    pub fn say(&mut self, txn: TxnId, call: Call, outcome: Outcome) {
        let (start, end) = (self.now, self.now + MS / 2);
        self.now += MS;
        self.history.events.push(Event {
            start,
            end,
            client: u32::try_from(txn).unwrap(),
            node: self.node,
            epoch: self.epoch,
            txn,
            closing: false,
            call,
            outcome,
        });
    }

    pub fn begin(&mut self) -> TxnId {
        let txn = self.txn();
        self.say(txn, Call::Begin { level: Level::ReadCommitted }, done("BEGIN"));
        txn
    }

    pub fn commit(&mut self, txn: TxnId) {
        self.say(txn, Call::Commit, done("COMMIT"));
    }

    pub fn roll_back(&mut self, txn: TxnId) {
        self.say(txn, Call::Rollback, done("ROLLBACK"));
    }

    /// A statement that commits by itself.
    pub fn single(&mut self, call: Call, outcome: Outcome) {
        let txn = self.txn();
        self.say(txn, call, outcome);
    }

    pub fn claim(&mut self, txn: TxnId, key: KeyId) {
        self.say(txn, claim(key, 0, None), claimed(None, 1));
    }

    /// The business row; `there`: whether it is in the database in the end.
    pub fn effect(&mut self, txn: TxnId, key: KeyId, fence: Option<i64>, there: bool) -> u64 {
        let effect = self.number();
        self.say(txn, Call::Effect { key, effect, fence }, done("INSERT 0 1"));
        if there {
            self.is_there(effect, key, fence);
        }
        effect
    }

    pub fn is_there(&mut self, effect: u64, key: KeyId, fence: Option<i64>) {
        let at_us = self.now / 1000;
        let epoch = self.epoch;
        self.history.effects.push(Effect { effect, key, client: 0, fence, epoch, at_us });
    }

    pub fn complete(&mut self, txn: TxnId, key: KeyId, effect: u64, fence: Option<i64>) -> Stored {
        let answer = self.number();
        self.say(txn, complete(key, answer, effect, fence), done("{}"));
        Stored { answer, effect: Some(effect), fence, status: true }
    }

    /// Claim, effect, completion, COMMIT.
    pub fn work(&mut self, key: KeyId) -> Stored {
        let txn = self.begin();
        self.claim(txn, key);
        let effect = self.effect(txn, key, None, true);
        let stored = self.complete(txn, key, effect, None);
        self.commit(txn);
        stored
    }

    /// The same under a lease, in two transactions.
    pub fn leased_work(&mut self, key: KeyId, fence: i64, attempt: i64) -> Stored {
        self.single(claim(key, 0, Some(100)), claimed(Some(fence), attempt));
        let txn = self.begin();
        let effect = self.effect(txn, key, Some(fence), true);
        let stored = self.complete(txn, key, effect, Some(fence));
        self.commit(txn);
        stored
    }

    pub fn lease(&mut self, key: KeyId, ms: u64, fence: i64) {
        self.single(claim(key, 0, Some(ms)), claimed(Some(fence), 1));
    }

    pub fn replay(&mut self, key: KeyId, stored: &Stored) {
        self.single(Call::Replay { key }, stored.replayed());
    }

    /// A call of a pattern that commits by itself.
    pub fn pattern(&mut self, pattern: Pattern, told: &str) {
        self.single(Call::Pattern(pattern), done(told));
    }

    /// A batch of messages, of which these are new, and leave their traces.
    pub fn first(&mut self, consumer: usize, asked: &[u32], new: &[u32]) {
        let txn = self.txn();
        self.first_in(txn, consumer, asked, new, true);
    }

    pub fn first_in(
        &mut self,
        txn: TxnId,
        consumer: usize,
        asked: &[u32],
        new: &[u32],
        there: bool,
    ) {
        let (consumer, number) = (u32::try_from(consumer).unwrap(), self.number());
        let told: Vec<String> = new.iter().map(u32::to_string).collect();
        let call = Pattern::First { consumer, messages: asked.to_vec(), number };
        self.say(txn, Call::Pattern(call), done(&told.join(",")));
        for message in new.iter().filter(|_| there) {
            self.history.traces.push(Trace::Message { consumer, message: *message, number });
        }
    }

    /// An offset that is accepted, and leaves its trace.
    pub fn advance(&mut self, partition: u32, offset: i64) {
        let number = self.number();
        self.pattern(Pattern::Advance { partition, offset, number }, "t");
        let place = i64::try_from(number).unwrap();
        self.history.traces.push(Trace::Offset { partition, offset, place, number });
    }

    #[track_caller]
    pub fn is_clean(&self) {
        self.is_clean_with(Options::default());
    }

    #[track_caller]
    pub fn is_clean_with(&self, options: Options) {
        assert_eq!(check(&self.history, options), [], "flagged without a reason");
    }

    #[track_caller]
    pub fn breaks(&self, rule: Rule) {
        self.breaks_with(rule, Options::default());
    }

    #[track_caller]
    pub fn breaks_with(&self, rule: Rule, options: Options) {
        let found = check(&self.history, options);
        assert!(
            found.iter().any(|found| found.rule == rule),
            "{rule:?} is not caught, but {found:?}"
        );
    }
}

pub struct Stored {
    pub answer: u64,
    pub effect: Option<u64>,
    pub fence: Option<i64>,
    pub status: bool,
}

impl Stored {
    pub fn row(&self) -> Row {
        Row {
            outcome: "replay".to_owned(),
            fence: self.fence,
            attempt: Some(1),
            failed: Some(false),
            status: self.status.then(|| answer::status(self.answer)),
            response: Some(answer::response(self.answer, self.effect)),
            checkpoint: None,
        }
    }

    pub fn replayed(&self) -> Outcome {
        Outcome::Row(Box::new(self.row()))
    }
}

pub fn done(value: &str) -> Outcome {
    Outcome::Done(value.to_owned())
}

pub fn refused(code: &str) -> Outcome {
    Outcome::Refused(code.to_owned())
}

pub fn said(outcome: &str) -> Outcome {
    Outcome::Row(Box::new(Row { outcome: outcome.to_owned(), ..Row::default() }))
}

pub fn claimed(fence: Option<i64>, attempt: i64) -> Outcome {
    let row =
        Row { outcome: "claimed".to_owned(), fence, attempt: Some(attempt), ..Row::default() };
    Outcome::Row(Box::new(row))
}

pub fn executed(effect: u64) -> Outcome {
    Outcome::Row(Box::new(Row {
        outcome: "executed".to_owned(),
        attempt: Some(1),
        failed: Some(false),
        response: Some(answer::response(effect, Some(effect))),
        ..Row::default()
    }))
}

pub fn claim(key: KeyId, request: u32, lease_ms: Option<u64>) -> Call {
    Call::Claim { key, request, lease_ms, wait_ms: 0, attempt_id: None, strict: false }
}

pub fn named_claim(key: KeyId, lease_ms: u64, name: &str) -> Call {
    let (lease_ms, attempt_id) = (Some(lease_ms), Some(name.to_owned()));
    Call::Claim { key, request: 0, lease_ms, wait_ms: 0, attempt_id, strict: false }
}

pub fn run(key: KeyId, effect: u64) -> Call {
    Call::Run { key, request: 0, wait_ms: 0, effect, declined: false, strict: false }
}

pub fn complete(key: KeyId, answer: u64, effect: u64, fence: Option<i64>) -> Call {
    Call::Complete { key, answer, effect: Some(effect), failed: false, fence }
}
