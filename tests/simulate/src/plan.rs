//! What is simulated: how many nodes, for how long, and what befalls them.

use rules::policy::{Durability, Policy};
use rules::{Micros, Timestamp};

use crate::{HOUR, SECOND};

/// When the model begins: any day.
pub const BEGIN: Timestamp = 820_000_000 * SECOND;
/// The default of `idempotent.clock_skew`.
pub const SKEW: Micros = 5 * SECOND;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// New keys a second, in all.
    pub rate: u64,
    /// One in so many keys is played.
    pub sample: u64,
    pub hours: i64,
    /// Between two crashes of one node.
    pub crash_every: Micros,
    /// Between two failovers, of any node.
    pub failover_every: Micros,
    /// Between two moves of slots, beside the growth.
    pub move_every: Micros,
}

impl Plan {
    /// One million keys a second for a day, on fifty nodes that become fifty-one.
    pub fn internet() -> Self {
        Self {
            seed: 1,
            nodes: 50,
            rate: 1_000_000,
            sample: 100_000,
            hours: 24,
            crash_every: 12 * HOUR,
            failover_every: 2 * HOUR,
            move_every: HOUR / 12,
        }
    }

    /// An hour of few nodes that have much to bear: for a test of a second or two.
    pub fn short() -> Self {
        Self {
            seed: 1,
            nodes: 4,
            rate: 80_000,
            sample: 8_000,
            hours: 1,
            crash_every: HOUR / 5,
            failover_every: HOUR / 10,
            move_every: HOUR / 120,
        }
    }

    pub fn end(&self) -> Timestamp {
        BEGIN + self.hours * HOUR
    }

    /// Between two keys that are played.
    pub fn pause(&self) -> Micros {
        SECOND * i64::try_from(self.sample).unwrap_or(i64::MAX)
            / i64::try_from(self.rate).unwrap_or(1)
    }
}

/// An operation of the model.
pub struct Operation {
    pub name: &'static str,
    pub policy: Policy,
    /// Whether keys are `UUIDv7`.
    pub dated: bool,
    /// Of one hundred keys.
    pub share: u32,
}

/// Both durabilities, both ways to hold a claim, keys with and without a date, retentions long and short.
pub fn operations() -> Vec<Operation> {
    let operation = |name, share, dated, durability, lease: Option<Micros>, retention| Operation {
        name,
        policy: Policy { durability, lease, retention, ..Policy::default() },
        dated,
        share,
    };
    let (logged, unlogged, lease) = (Durability::Logged, Durability::Unlogged, Some(30 * SECOND));
    vec![
        operation("charge", 40, true, logged, None, 24 * HOUR),
        operation("order", 15, false, logged, None, 24 * HOUR),
        operation("mail", 15, true, unlogged, None, HOUR / 4),
        operation("view", 10, false, unlogged, None, HOUR / 4),
        operation("card", 10, true, logged, lease, 24 * HOUR),
        operation("export", 5, true, unlogged, lease, HOUR / 4),
        operation("scan", 5, false, logged, lease, HOUR / 4),
    ]
}
