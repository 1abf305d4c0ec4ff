//! What happened, in numbers; and whether enough of it happened for the proof to mean something.

use std::collections::BTreeMap;
use std::fmt;

use crate::check::facts::Facts;
use crate::check::transactions::Fate;
use crate::history::{Call, FaultKind, History, Nanos, Outcome};

/// So many statements have what is rare among them, too.
const MANY: u64 = 200_000;

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    pub operations: u64,
    pub commits: u64,
    /// Transactions whose COMMIT, or only statement, was never answered; and how many of them had committed.
    pub unanswered: u64,
    pub unanswered_committed: u64,
    pub takeovers: u64,
    pub effects: u64,
    pub keys: u64,
    pub violations: u64,
    /// Slots that went to another node, and moves that were refused, and begun again.
    moves: u64,
    refused_moves: u64,
    moves_again: u64,
    longest_move: Nanos,
    /// Rows that went with them, by what the new node said of them.
    imported: BTreeMap<String, u64>,
    faults: BTreeMap<FaultKind, u64>,
    /// How often each outcome and each error came back.
    outcomes: BTreeMap<String, u64>,
}

impl Figures {
    pub fn add(&mut self, history: &History, violations: usize) {
        let facts = Facts::of(history);
        self.rounds += 1;
        self.violations += violations as u64;
        self.operations += history.events.len() as u64;
        self.effects += history.effects.len() as u64;
        self.keys += history.keys.len() as u64;
        for fault in &history.faults {
            *self.faults.entry(fault.kind).or_default() += 1;
        }
        for moved in &history.moves {
            if !moved.done {
                self.refused_moves += 1;
                continue;
            }
            self.moves += 1;
            self.moves_again += u64::from(moved.again);
            self.longest_move = self.longest_move.max(moved.end - moved.start);
            for (said, rows) in &moved.rows {
                *self.imported.entry(said.clone()).or_default() += rows;
            }
        }
        for event in &history.events {
            if let Some(outcome) = outcome(&event.outcome, &event.call) {
                *self.outcomes.entry(outcome).or_default() += 1;
            }
        }
        for txn in facts.txns.values() {
            match txn.fate {
                Fate::Committed { by: u64::MAX } => {
                    self.unanswered += 1;
                    self.unanswered_committed += 1;
                    self.commits += 1;
                }
                Fate::Committed { .. } => self.commits += 1,
                Fate::Unknown => self.unanswered += 1,
                Fate::Aborted => {}
            }
        }
        self.takeovers += facts
            .keys
            .values()
            .flat_map(|key| &key.grants)
            .filter(|grant| grant.attempt > 1)
            .count() as u64;
    }

    pub fn fault(&self, kind: FaultKind) -> u64 {
        self.faults.get(&kind).copied().unwrap_or(0)
    }

    fn came(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }

    /// What should have happened and never did: without it the proof is of nothing.
    pub fn missing(&self, with_faults: bool, nodes: u32) -> Vec<&'static str> {
        let outcomes = [
            "claimed",
            "executed",
            "replay",
            "in_progress",
            "mismatch",
            "unknown",
            "sealed",
            "expired",
            "absent",
            "ID003",
            "ID007",
            "ID009",
            "40001",
            "new",
            "seen",
            "advanced",
            "behind",
            "locked",
            "locked by another",
            "unlocked",
            "not unlocked",
            "observed",
            "forgotten",
            "nothing to forget",
            "55006",
            "42501",
            "message put",
            "messages taken",
            "messages acknowledged",
            "step done",
            "saga ended",
            "saga replayed",
        ];
        let mut missing: Vec<_> =
            outcomes.into_iter().filter(|outcome| self.came(outcome) == 0).collect();
        if self.operations >= MANY {
            let rare = ["messages given back", "saga settled", "saga given up", "saga forgotten"];
            // Of several nodes none forgets a saga.
            let rare = &rare[..if nodes > 1 { 3 } else { 4 }];
            missing.extend(rare.iter().filter(|outcome| self.came(outcome) == 0));
        }
        if self.takeovers == 0 {
            missing.push("a lapsed lease that was taken over");
        }
        if nodes == 1 && self.came("configured") == 0 {
            missing.push("a change of settings");
        }
        if nodes > 1 {
            let seen = [
                (self.moves, "slots that went to another node"),
                (self.came("ID010"), "a call of a slot that was another node's"),
                (self.imported.get("new").copied().unwrap_or(0), "a row that a node imported"),
            ];
            missing.extend(seen.iter().filter(|(times, _)| *times == 0).map(|(_, words)| *words));
        }
        if with_faults {
            let faults = [
                (FaultKind::Cut, "a socket that was cut"),
                (FaultKind::Terminate, "a backend that was terminated"),
                (FaultKind::Kill, "a backend that was killed"),
                (FaultKind::Immediate, "an immediate stop"),
            ];
            missing.extend(
                faults.iter().filter(|(kind, _)| self.fault(*kind) == 0).map(|(_, words)| *words),
            );
            if self.unanswered_committed == 0 {
                missing.push("a commit whose answer was lost");
            }
        }
        missing
    }
}

fn outcome(outcome: &Outcome, call: &Call) -> Option<String> {
    if let Call::Pattern(pattern) = call
        && let Some(said) = pattern.said(outcome)
    {
        return Some(said.to_owned());
    }
    match (call, outcome) {
        (Call::Forget { .. }, Outcome::Done(done)) if done == "t" => {
            return Some("forgotten".to_owned());
        }
        (Call::Forget { .. }, Outcome::Done(_)) => return Some("nothing to forget".to_owned()),
        (Call::Configure { .. }, Outcome::Done(_)) => return Some("configured".to_owned()),
        _ => {}
    }
    match outcome {
        Outcome::Row(row) => Some(row.outcome.clone()),
        Outcome::Refused(code) => Some(code.clone()),
        Outcome::Lost => Some("lost".to_owned()),
        // The tag of a transaction that had failed already is ROLLBACK.
        Outcome::Done(tag) => (matches!(call, Call::Prepare { .. })
            && tag == "PREPARE TRANSACTION")
            .then(|| "prepared".to_owned()),
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  {:>9} statements in {} rounds", self.operations, self.rounds)?;
        writeln!(
            out,
            "  {:>9} commits; {} transactions without an answer, {} of which had committed",
            self.commits, self.unanswered, self.unanswered_committed
        )?;
        writeln!(
            out,
            "  {:>9} crashes of the server ({} backends killed, {} immediate stops)",
            self.fault(FaultKind::Kill) + self.fault(FaultKind::Immediate),
            self.fault(FaultKind::Kill),
            self.fault(FaultKind::Immediate)
        )?;
        writeln!(out, "  {:>9} backends terminated", self.fault(FaultKind::Terminate))?;
        writeln!(out, "  {:>9} sockets cut", self.fault(FaultKind::Cut))?;
        writeln!(out, "  {:>9} lapsed leases taken over", self.takeovers)?;
        writeln!(out, "  {:>9} keys checked, {} effects", self.keys, self.effects)?;
        if self.moves > 0 {
            writeln!(
                out,
                "  {:>9} moves of slots, the longest {} ms; begun again {} times, {} refused; rows:{}",
                self.moves,
                self.longest_move / 1_000_000,
                self.moves_again,
                self.refused_moves,
                self.imported
                    .iter()
                    .map(|(said, rows)| format!(" {said} {rows}"))
                    .collect::<String>()
            )?;
        }
        write!(out, "            outcomes:")?;
        for (outcome, times) in &self.outcomes {
            write!(out, " {outcome} {times}")?;
        }
        writeln!(out)?;
        write!(out, "  {:>9} violations", self.violations)
    }
}
