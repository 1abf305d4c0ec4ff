//! Slots that go from node to node, in the steps of docs/scale.md: given up, exported, imported, taken. A node that crashes meanwhile
//! lets the step begin again.

use rules::{Micros, Timestamp};

use crate::SECOND;
use crate::ledger::{Ledger, Rule};
use crate::node::Node;
use crate::plant::Plant;
use crate::table::{Arrival, arrive};

/// So long may slots be away: the longest lease, transaction and crash, and the copy.
pub const LONGEST: Micros = 180 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The old node is told to give the slots up.
    GiveUp,
    /// It waits for claims that are open.
    Wait,
    /// What it knows is with the new node.
    Carried,
}

#[derive(Clone, Debug)]
pub struct Move {
    pub from: usize,
    pub to: usize,
    /// Sorted.
    pub slots: Vec<u16>,
    pub step: Step,
    pub began: Timestamp,
    /// Broken off on its way, and begun again, so often.
    pub again: u32,
}

/// What came of a step.
pub enum Next {
    /// Look again then, at the step that the move says.
    At(Timestamp),
    /// The new node answers for the slots.
    Done,
}

/// Does the step that is due.
pub fn step(
    moved: &mut Move,
    nodes: &mut [Node],
    now: Timestamp,
    copy: Micros,
    ledger: &mut Ledger,
    plant: Option<Plant>,
) -> Next {
    let down = [moved.from, moved.to].into_iter().filter_map(|node| nodes[node].back_at).max();
    if let Some(back_at) = down {
        return Next::At(back_at + 1);
    }
    match moved.step {
        Step::GiveUp => {
            if plant == Some(Plant::OwnWithoutWaiting) {
                nodes[moved.from].own(&moved.slots, false);
                moved.step = Step::Carried;
                carry(moved, nodes, now, ledger, plant);
                return Next::At(now + copy);
            }
            nodes[moved.from].announce(moved.slots.clone());
            moved.step = Step::Wait;
            Next::At(now)
        }
        // It crashed meanwhile: as if nothing had been said.
        Step::Wait if !nodes[moved.from].is_announcing() => {
            moved.step = Step::GiveUp;
            Next::At(now)
        }
        Step::Wait => {
            if let Some(until) = nodes[moved.from].open_until(&moved.slots, now) {
                return Next::At(until);
            }
            nodes[moved.from].own(&moved.slots, false);
            moved.step = Step::Carried;
            if plant == Some(Plant::TakenTooEarly) {
                nodes[moved.to].own(&moved.slots, true);
            } else {
                carry(moved, nodes, now, ledger, plant);
            }
            Next::At(now + copy)
        }
        // Broken off, and begun again.
        Step::Carried => {
            carry(moved, nodes, now, ledger, plant);
            if moved.again > 0 {
                moved.again -= 1;
                return Next::At(now + copy);
            }
            nodes[moved.to].own(&moved.slots, true);
            let away = now - moved.began;
            if away > LONGEST {
                ledger.violate(Rule::Away, || {
                    format!("{} slots were away for {} s", moved.slots.len(), away / SECOND)
                });
            }
            Next::Done
        }
    }
}

/// Export and import.
fn carry(
    moved: &Move,
    nodes: &mut [Node],
    now: Timestamp,
    ledger: &mut Ledger,
    plant: Option<Plant>,
) {
    if plant == Some(Plant::MoveWithoutExport) {
        return;
    }
    let Ok([from, to]) = nodes.get_disjoint_mut([moved.from, moved.to]) else { return };
    if plant != Some(Plant::FencesStay) {
        to.stay_above(from.fence());
    }
    if plant != Some(Plant::LossesStay) {
        for (here, there) in to.lost_before.iter_mut().zip(from.lost_before) {
            *here = (*here).max(there);
        }
    }
    let owned: Vec<bool> = moved.slots.iter().map(|slot| to.owns(*slot)).collect();
    let mut conflicts = 0;
    for (source, target) in [(&from.unlogged, &mut to.unlogged), (&from.logged, &mut to.logged)] {
        for (id, stored) in source {
            let Some(at) = moved.slots.binary_search(&stored.slot).ok() else {
                continue;
            };
            if plant == Some(Plant::LeftBehindCounts) && target.contains_key(id) {
                continue;
            }
            conflicts +=
                u64::from(arrive(target, *id, stored, owned[at], now) == Arrival::Conflict);
        }
    }
    if conflicts > 0 {
        ledger.violate(Rule::Conflict, || {
            format!("{conflicts} records of a move are at its new node already, and otherwise")
        });
    }
}
