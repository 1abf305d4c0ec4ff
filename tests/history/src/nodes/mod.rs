//! Several nodes, each with slots of its own: which of them has which, and how slots move.

pub mod mover;
pub mod routing;

use std::collections::BTreeMap;

use rules::slot;
use serde::{Deserialize, Serialize};

use crate::history::Nanos;

/// Slots move in parts, all of the same size.
pub const PARTS: usize = 8;

/// The part that an owner's slot is in.
pub fn part_of(owner: &str) -> usize {
    usize::from(slot::of(owner.as_bytes())) * PARTS / usize::from(slot::SLOTS)
}

/// The node that has a part when a round begins.
pub fn first_node_of(part: usize, nodes: u32) -> u32 {
    u32::try_from(part).unwrap_or(0) % nodes.max(1)
}

/// The slots of these parts, as an `int4multirange`.
pub fn slots_of(parts: impl Iterator<Item = usize>) -> String {
    let size = usize::from(slot::SLOTS) / PARTS;
    let ranges: Vec<String> =
        parts.map(|part| format!("[{},{})", part * size, (part + 1) * size)).collect();
    format!("{{{}}}", ranges.join(","))
}

/// Slots went from one node to another, or should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub part: usize,
    pub from: u32,
    pub to: u32,
    /// Before the old node was told to give them up.
    pub start: Nanos,
    /// After the new node was told to answer for them; of a move that was refused, after that was told.
    pub end: Nanos,
    /// Whether they went. If not, something was open for too long, and nothing has changed.
    pub done: bool,
    /// How often it was begun again: broken off, or by a crash.
    pub again: u32,
    /// What was said of the rows that were imported, in all attempts.
    pub rows: BTreeMap<String, u64>,
}
