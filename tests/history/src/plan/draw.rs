//! Draws scripts. An endless plan for each client; the weights are chosen so that the interesting meets often.

use fastrand::Rng;

use super::{
    Asked, Beat, End, Ending, LONGEST_LEASE_MS, LONGEST_WAIT_MS, Lease, Mix, REQUESTS, Script,
    Slot, Step, patterns, policies,
};
use crate::history::Level;
use crate::settings::Change;

pub struct Plan {
    rng: Rng,
    slots: usize,
    mix: Mix,
    /// Drawn so far.
    scripts: u32,
}

impl Plan {
    pub fn new(seed: u64, client: u32, slots: usize, mix: Mix) -> Self {
        // Any odd number: the clients' seeds must differ, and those of one client over runs too.
        Self {
            rng: Rng::with_seed(seed ^ (u64::from(client) + 1).wrapping_mul(0x9e37_79b9)),
            slots,
            mix,
            scripts: 0,
        }
    }

    fn slot(&mut self) -> Slot {
        self.rng.usize(..self.slots)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn level(&mut self) -> Level {
        [Level::ReadCommitted, Level::RepeatableRead, Level::Serializable][self.rng.usize(..3)]
    }

    fn asked(&mut self) -> Asked {
        Asked {
            request: if self.one_in(12) { self.rng.u32(1..REQUESTS) } else { 0 },
            wait_ms: [0, 0, 5, 40, LONGEST_WAIT_MS][self.rng.usize(..5)],
            strict: self.one_in(12),
        }
    }

    fn lease_ms(&mut self) -> u64 {
        // From so short that it lapses under its holder's hands to long enough for most.
        [3, 15, 60, 200, LONGEST_LEASE_MS][self.rng.usize(..5)]
    }

    fn end(&mut self) -> End {
        match self.rng.u32(..20) {
            0..13 => End::Commit,
            13..16 => End::Rollback,
            16..19 => End::Prepare,
            _ => End::Abandon,
        }
    }

    fn transaction(&mut self) -> Script {
        let level = self.level();
        let mut steps = self.work();
        for _ in 0..self.rng.usize(..3) {
            let more = self.work();
            if self.rng.bool() {
                steps.extend(more);
            } else {
                steps = self.interleave(&steps, &more);
            }
        }
        Script::Transaction { level, steps, end: self.end() }
    }

    /// Both in their order, mixed. Savepoints nest by name: a rollback to one that is gone is left out when played.
    fn interleave(&mut self, left: &[Step], right: &[Step]) -> Vec<Step> {
        let (mut left, mut right) =
            (left.iter().copied().peekable(), right.iter().copied().peekable());
        let mut mixed = Vec::new();
        loop {
            let from_left = right.peek().is_none() || (left.peek().is_some() && self.rng.bool());
            match if from_left { left.next() } else { right.next() } {
                Some(step) => mixed.push(step),
                None => return mixed,
            }
        }
    }

    /// One key's part of a transaction.
    fn work(&mut self) -> Vec<Step> {
        let slot = self.slot();
        let name = self.rng.u32(..1000);
        let (savepoint, rollback) = (Step::Savepoint { name }, Step::RollbackTo { name });
        let released = Step::ReleaseSavepoint { name };
        let claim = Step::Claim { slot, asked: self.asked(), lease_ms: None };
        let (effect, finish) =
            (Step::Effect { slot }, Step::Finish { slot, failed: self.one_in(6) });
        match self.rng.u32(..26) {
            0..6 => vec![claim, effect, finish],
            6 => vec![claim, claim, effect, finish, Step::Replay { slot }, finish],
            // The claim is undone with its savepoint, so that there is nothing to complete.
            7 => vec![savepoint, claim, effect, rollback],
            8 => vec![savepoint, claim, effect, finish, rollback, claim, effect, finish],
            9 => vec![claim, savepoint, effect, finish, rollback, effect, finish],
            10 => vec![savepoint, claim, effect, released, finish],
            11 => vec![
                savepoint, claim, released, savepoint, effect, finish, rollback, effect, finish,
            ],
            // Forgotten: the commit must be refused.
            12 => vec![claim, effect],
            13 => vec![claim, savepoint, effect, finish, rollback],
            14 => vec![claim, Step::Release { slot }],
            15 => vec![claim, Step::Release { slot }, claim, effect, finish],
            16 => vec![
                Step::Claim { slot, asked: self.asked(), lease_ms: Some(self.lease_ms()) },
                effect,
                finish,
            ],
            17 => vec![
                savepoint,
                Step::Claim { slot, asked: self.asked(), lease_ms: Some(self.lease_ms()) },
                rollback,
            ],
            18..21 => vec![self.run(slot)],
            21 => vec![savepoint, self.run(slot), rollback, self.run(slot)],
            22 => vec![Step::Replay { slot }, Step::Unclaimed { slot }],
            23 => vec![self.forget(slot), claim, effect, finish],
            24 => vec![savepoint, self.forget(slot), rollback, claim, effect, finish],
            _ => vec![savepoint, Step::Seal { slot }, rollback, claim, effect, finish],
        }
    }

    fn run(&mut self, slot: Slot) -> Step {
        Step::Run { slot, asked: self.asked(), declined: self.one_in(8) }
    }

    fn forget(&mut self, slot: Slot) -> Step {
        Step::Forget { slot, breaks: self.rng.bool() }
    }

    /// In a transaction of its own, as docs/operating.md says: it may roll back.
    fn configure(&mut self) -> Script {
        let changing: Vec<usize> = (policies::operations().iter().enumerate())
            .filter(|(_, operation)| operation.changes)
            .map(|(at, _)| at)
            .collect();
        let operation = changing[self.rng.usize(..changing.len())];
        let change = match self.rng.u32(..6) {
            0..3 => Change::Retention { ms: policies::RETENTIONS_MS[self.rng.usize(..3)] },
            3 => Change::OnLapse { unknown: self.rng.bool() },
            4 => Change::KeyDates { used: self.rng.u32(..3) > 0 },
            _ => Change::Exclude { more: self.rng.bool() },
        };
        let step = Step::Configure { operation, change };
        if self.rng.bool() {
            return Script::Single(step);
        }
        let end = if self.one_in(4) { End::Rollback } else { End::Commit };
        Script::Transaction { level: self.level(), steps: vec![step], end }
    }

    /// Calls of the patterns, by themselves, or in a transaction of their own or beside a key's work.
    fn patterns(&mut self) -> Script {
        let mut steps = self.pattern();
        if steps.len() == 1 && self.rng.bool() {
            return Script::Single(steps[0]);
        }
        for _ in 0..self.rng.usize(..3) {
            steps.extend(self.pattern());
        }
        if self.one_in(3) {
            let (name, more) = (self.rng.u32(..1000), self.pattern());
            steps.insert(0, Step::Savepoint { name });
            steps.push(Step::RollbackTo { name });
            steps.extend(more);
        }
        if self.one_in(3) {
            let work = self.work();
            steps = self.interleave(&steps, &work);
        }
        // Others wait for a message until it is settled, and somebody must be left to settle it.
        let end = match self.end() {
            End::Prepare if !self.one_in(4) => End::Commit,
            end => end,
        };
        Script::Transaction { level: self.level(), steps, end }
    }

    fn pattern(&mut self) -> Vec<Step> {
        patterns::draw(&mut self.rng, self.scripts).into_iter().map(Step::Pattern).collect()
    }

    fn lease(&mut self) -> Script {
        let beats = (0..self.rng.usize(..4)).map(|_| self.beat()).collect();
        Script::Lease(Lease {
            slot: self.slot(),
            asked: self.asked(),
            lease_ms: self.lease_ms(),
            claimed_in: self.one_in(4).then(|| (self.level(), self.end())),
            named: self.one_in(3),
            beats,
            ending: match self.rng.u32(..10) {
                0..5 => {
                    Ending::Finish { level: self.level(), failed: self.one_in(6), end: self.end() }
                }
                5..7 => Ending::Zombie { level: self.level() },
                7 => Ending::Release,
                _ => Ending::Abandon,
            },
        })
    }

    fn lease_without_effect(&mut self) -> Script {
        let Script::Lease(lease) = self.lease() else { return self.transaction() };
        let slot = loop {
            let slot = self.slot();
            if !policies::operations()[policies::operation_of(slot)].logged {
                break slot;
            }
        };
        let claimed_in = self.rng.bool().then(|| (self.level(), End::Rollback));
        let ending = if self.one_in(3) { Ending::Release } else { Ending::Abandon };
        Script::Lease(Lease { slot, claimed_in, ending, ..lease })
    }

    fn beat(&mut self) -> Beat {
        match self.rng.u32(..4) {
            0 => Beat::Extend { lease_ms: self.lease_ms() },
            1 => Beat::Checkpoint,
            _ => Beat::Pause { ms: [1, 4, 20, 70][self.rng.usize(..4)] },
        }
    }
}

impl Iterator for Plan {
    type Item = Script;

    fn next(&mut self) -> Option<Script> {
        if self.mix == Mix::Leases {
            return Some(self.lease_without_effect());
        }
        self.scripts += 1;
        let slot = self.slot();
        Some(match self.rng.u32(..100) {
            0..30 => self.transaction(),
            30..46 => self.patterns(),
            46..64 => self.lease(),
            64..80 => Script::Single(self.run(slot)),
            80..89 => Script::Single(Step::Replay { slot }),
            89 if self.rng.bool() => Script::Single(Step::Seal { slot }),
            90 => Script::Single(Step::Sweep),
            91 => Script::Single(Step::Unclaimed { slot }),
            92 => Script::Single(self.forget(slot)),
            93 if self.one_in(3) => self.configure(),
            _ => Script::Settle { commit: self.rng.u32(..3) > 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_function_of_the_seed_and_the_client() {
        let plan = |seed, client| {
            Plan::new(seed, client, 21, Mix::Everything).take(500).collect::<Vec<_>>()
        };
        assert_eq!(plan(7, 0), plan(7, 0));
        assert_ne!(plan(7, 0), plan(7, 1));
        assert_ne!(plan(7, 0), plan(8, 0));
    }

    #[test]
    fn every_kind_of_script_step_and_ending_is_drawn() {
        let drawn =
            format!("{:?}", Plan::new(1, 0, 21, Mix::Everything).take(20_000).collect::<Vec<_>>());
        for kind in [
            "Settle",
            "Sweep",
            "Seal",
            "Unclaimed",
            "Zombie",
            "Abandon",
            "Prepare",
            "Release ",
            "RollbackTo",
            "ReleaseSavepoint",
            "declined: true",
            "strict: true",
            "request: 2",
            "named: true",
            "Extend",
            "Checkpoint",
            "Serializable",
            "RepeatableRead",
            "failed: true",
            "First",
            "Advance",
            "Unlock",
            "WatchedClaim",
            "WatchedComplete",
            "WatchedRelease",
            "WatchedRun",
            "Resume",
            "Topic(Sender, Put",
            "Topic(Relay, Take",
            "Topic(Relay, Ack",
            "Topic(Relay, Release",
            "Topic(Outsider, Put",
            "Topic(Outsider, Take",
            "Topic(Sender, Take",
            "Topic(Relay, Put",
            "Abandon {",
            "Settle { key",
            "Uncompensated",
            "unfinished: true",
            "breaks: true",
            "Retention",
            "OnLapse",
            "KeyDates",
            "Exclude",
        ] {
            assert!(drawn.contains(kind), "{kind} is never drawn");
        }
    }
}
