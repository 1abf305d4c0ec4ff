//! Proves from a history that no promise was broken, or shows which one was.
//!
//! Nothing here asks a server: the record, the effects that are there in the end, and the contract's rules, each in a
//! file of its own. What nobody can know (a COMMIT whose answer was lost) is held against nobody: it may have happened,
//! and it may not have.

mod answers;
mod attempts;
mod effects;
mod errors;
pub mod facts;
mod fences;
mod forgets;
mod guard;
mod holds;
mod mismatches;
pub mod nodes;
mod patterns;
mod seals;
mod settings;
mod shrink;
mod stuck;
pub mod transactions;

pub use shrink::shrink;

use std::fmt;

use crate::history::{Event, History, KeyId, Nanos, Outcome};
use facts::Facts;

/// Two readings of clocks that differ by less say nothing of what came first: one of them is the database's.
pub(crate) const MARGIN: Nanos = 5_000_000;
pub(crate) const MS: Nanos = 1_000_000;
/// The statement_timeout of the clients, and a little more: so long may a server go on with what its client has given up.
pub(crate) const AFTERWARDS: Nanos = 6_000 * MS;

/// When a call was over in the server, at the latest.
pub(crate) fn over(event: &Event) -> Nanos {
    match event.outcome {
        Outcome::Lost => event.end.saturating_add(AFTERWARDS),
        _ => event.end,
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether dated keys of unlogged operations are expected to have one effect over resets, too.
    pub reset_detection: bool,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// More than one effect of a key within its retention.
    SecondEffect,
    /// What was acknowledged is not there.
    LostEffect,
    /// What was rolled back, refused or never asked for is there.
    GhostEffect,
    /// An answer that nobody stored, or that is not as it was stored.
    WrongReplay,
    /// An answer without the business row that belongs to it.
    HalfSeen,
    /// The key was answered, and is not any more.
    ForgottenAnswer,
    /// An answer past its retention.
    ExpiredReplay,
    /// A fence that is not higher than one granted before.
    FenceOrder,
    /// The same fence for two claims.
    FenceReused,
    /// A write by a holder who was one no more.
    StaleFence,
    /// Two holders at once.
    TwoHolders,
    /// Another request was let in.
    MismatchMissed,
    /// An outcome for which there is no reason.
    NoReason,
    /// A takeover without an attempt before it, or with another's checkpoint.
    WrongAttempt,
    /// Sealed, and done all the same.
    SealBroken,
    /// An administrator's forget took what is held, or did not take what there was.
    ForgetBroken,
    /// Committed with an open claim, or refused without one.
    Guard,
    /// Completed or released without a claim.
    Unclaimed,
    /// An error that is none of the contract's.
    WrongError,
    /// No answer within lease and wait.
    Stuck,
    /// A message that was new to a consumer twice within its retention.
    SecondFirst,
    /// An offset that was accepted after one that is no less.
    OffsetOrder,
    /// A role that may not put or take did, or one that may was refused.
    TopicRights,
    /// A message was given while one before it waited.
    TopicOrder,
    /// A message was given or is there after it was acknowledged.
    SentAgain,
    /// A step of a saga, or a compensation, has run twice, or out of order.
    SagaOrder,
    /// What an administrator has settled has run all the same.
    SagaSettled,
    /// A saga that had come to its end has another answer, or goes on.
    SagaAnswer,
    /// A call of an operation that is only observed was refused, or had to wait.
    ObservedInTheWay,
    /// A node has answered for a slot that another one has.
    Misrouted,
    /// A node has refused a slot that it has, or a slot was away for too long.
    Away,
    /// Two nodes have written something about the same, and it is not the same.
    Conflict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// The keys that it is about, or what has a number like one (`Pattern::subject`).
    pub keys: Vec<KeyId>,
    pub what: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, key: KeyId, what: impl Into<String>) -> Self {
        Self { rule, keys: vec![key], what: what.into() }
    }

    pub(crate) fn of_two(rule: Rule, keys: [KeyId; 2], what: impl Into<String>) -> Self {
        let mut keys = keys.to_vec();
        keys.dedup();
        Self { rule, keys, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} {:?}: {}", self.rule, self.keys, self.what)
    }
}

pub fn check(history: &History, options: Options) -> Vec<Violation> {
    let facts = Facts::of(history);
    let mut found = Vec::new();
    effects::check(&facts, options, &mut found);
    answers::check(&facts, &mut found);
    fences::check(&facts, &mut found);
    holds::check(&facts, &mut found);
    mismatches::check(&facts, &mut found);
    attempts::check(&facts, &mut found);
    seals::check(&facts, &mut found);
    forgets::check(&facts, &mut found);
    guard::check(&facts, &mut found);
    errors::check(&facts, &mut found);
    stuck::check(&facts, &mut found);
    patterns::check(&facts, &mut found);
    nodes::check(&facts, &mut found);
    found.sort_by(|a, b| (a.rule, &a.keys).cmp(&(b.rule, &b.keys)));
    found
}
