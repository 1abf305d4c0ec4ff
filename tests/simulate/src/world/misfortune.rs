//! What befalls nodes: crashes, failovers, loss for good; and what operators do: a node more, slots that move.

use rules::Timestamp;
use rules::slot::{SLOTS, shard};

use super::{Event, World};
use crate::SECOND;
use crate::moves::{self, Move, Next, Step};
use crate::node::Node;
use crate::plant::Plant;

/// So many slots of a node move at a time, from the first ones on, of which so many may be passed.
const MOVED: usize = 256;
const PASSED: usize = 64;
/// So far is a standby behind that should not be.
const BEHIND: rules::Micros = 30 * SECOND;

impl World {
    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].back_at.is_none() {
            let down = self.rng.i64(5 * SECOND..60 * SECOND);
            self.figures.crashes += 1;
            self.nodes[node].crash(self.now, self.now + down, &mut self.ledger, self.plant);
            self.after(down, Event::Back { node });
        }
        self.again(self.plan.crash_every, Event::Crash { node });
    }

    pub(super) fn fail_over(&mut self) {
        let node = self.rng.usize(..self.nodes.len());
        if self.nodes[node].back_at.is_none() {
            let down = self.rng.i64(2 * SECOND..20 * SECOND);
            let behind = if self.plant == Some(Plant::StandbyBehind) { BEHIND } else { 0 };
            self.figures.failovers += 1;
            self.nodes[node].fail_over(
                self.now,
                self.now + down,
                behind,
                &mut self.ledger,
                self.plant,
            );
            self.after(down, Event::Back { node });
        }
        self.again(self.plan.failover_every, Event::FailOver);
    }

    /// Its slots go to the node beside it, which does not know their keys.
    pub(super) fn lose(&mut self) {
        let lost = self.rng.usize(..self.nodes.len());
        let is_moving = self.moves.values().any(|moved| [moved.from, moved.to].contains(&lost));
        let heir = (lost + 1) % self.nodes.len();
        let heir_is_busy = self.moves.values().any(|moved| [moved.from, moved.to].contains(&heir));
        let out = self.nodes[lost].back_at.is_some() || self.nodes[heir].back_at.is_some();
        if is_moving || heir_is_busy || out {
            return self.again(SECOND, Event::Lose);
        }
        self.figures.lost_nodes += 1;
        self.nodes[lost].lose(self.now, &mut self.ledger, self.plant);
        let slots: Vec<u16> =
            (0..SLOTS).filter(|slot| self.owner[usize::from(*slot)] == lost).collect();
        self.has_new_owner(&slots, heir);
        self.nodes[heir].own(&slots, true);
        // Above all that the lost node can have granted, as the operator is told to say.
        let fence = self.nodes[lost].fence();
        self.nodes[heir].stay_above(fence);
        if self.plant != Some(Plant::NotIgnorant) {
            self.nodes[heir].lost_before = [self.now; 2];
        }
    }

    /// One more node takes its part of each of the others.
    pub(super) fn grow(&mut self) {
        let to = self.nodes.len();
        let shards = u32::try_from(to + 1).unwrap_or(u32::MAX);
        self.nodes.push(Node::new(&[]));
        if self.plant == Some(Plant::NoGuard) {
            self.nodes[to].has_no_guard();
        }
        let taken: Vec<u16> =
            (0..SLOTS).filter(|slot| usize::try_from(shard(*slot, shards)) == Ok(to)).collect();
        for from in 0..to {
            let slots: Vec<u16> = taken
                .iter()
                .copied()
                .filter(|slot| self.owner[usize::from(*slot)] == from)
                .collect();
            self.begin_move(from, to, slots);
        }
    }

    /// Slots go to another node, or back to where they were.
    pub(super) fn rebalance(&mut self) {
        let back = self.rng.u32(..3) == 0 && !self.gone.is_empty();
        let (from, to, slots) = if back {
            let last = self.rng.usize(..self.gone.len());
            let (from, to, slots) = self.gone.swap_remove(last);
            (to, from, slots)
        } else {
            let from = self.rng.usize(..self.nodes.len());
            let to = (from + self.rng.usize(1..self.nodes.len())) % self.nodes.len();
            let slots: Vec<u16> = (0..SLOTS)
                .filter(|slot| self.owner[usize::from(*slot)] == from)
                .skip(self.rng.usize(..PASSED))
                .take(MOVED)
                .collect();
            (from, to, slots)
        };
        self.begin_move(from, to, slots);
        self.again(self.plan.move_every, Event::Rebalance);
    }

    /// One move of a node at a time, as `idempotent_own` has it; what has another owner meanwhile stays.
    fn begin_move(&mut self, from: usize, to: usize, mut slots: Vec<u16>) {
        slots.retain(|slot| self.owner[usize::from(*slot)] == from);
        let busy = self.moves.values().any(|moved| [moved.from, moved.to].contains(&from));
        let gone = |node: usize| self.nodes[node].back_at == Some(Timestamp::MAX);
        if slots.is_empty() || busy || gone(from) || gone(to) {
            return;
        }
        self.scheduled += 1;
        let id = self.scheduled;
        let again = u32::from(self.rng.u32(..4) == 0);
        self.moves.insert(id, Move { from, to, slots, step: Step::GiveUp, began: self.now, again });
        self.after(0, Event::Moving { id });
    }

    pub(super) fn moving(&mut self, id: u64) {
        let Some(mut moved) = self.moves.remove(&id) else { return };
        let gone = |node: usize| self.nodes[node].back_at == Some(Timestamp::MAX);
        if gone(moved.from) || gone(moved.to) {
            return;
        }
        if self.plant == Some(Plant::NoGuard) {
            moved.step = Step::Carried;
        }
        let copy = self.rng.i64(SECOND / 2..3 * SECOND);
        match moves::step(&mut moved, &mut self.nodes, self.now, copy, &mut self.ledger, self.plant)
        {
            Next::At(time) => {
                if self.plant == Some(Plant::TakenTooEarly) && moved.step == Step::Carried {
                    self.has_new_owner(&moved.slots, moved.to);
                }
                self.moves.insert(id, moved);
                self.at(time, Event::Moving { id });
            }
            Next::Done => {
                self.has_new_owner(&moved.slots, moved.to);
                if self.plant == Some(Plant::NoGuard) {
                    self.nodes[moved.from].has_no_guard();
                }
                // One router hears of it at once, and the others when they are refused.
                let router = self.rng.usize(..super::ROUTERS);
                self.routers[router].clone_from(&self.owner);
                self.figures.note_move(self.now - moved.began, moved.slots.len());
                self.gone.push((moved.from, moved.to, moved.slots));
            }
        }
    }

    fn has_new_owner(&mut self, slots: &[u16], node: usize) {
        for slot in slots {
            self.owner[usize::from(*slot)] = node;
        }
    }
}
