//! The operations that are in play, and which slot belongs to which.

use super::Slot;
use crate::history::{Dating, Operation};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Shorter than a run, so that keys expire under the clients' hands.
pub const BRIEF_MS: u64 = 1_500;

/// What administrators choose from: answers that are gone while their keys are in play, and such that stay.
pub const RETENTIONS_MS: [u64; 3] = [300, BRIEF_MS, DAY_MS];

/// Both durabilities, both answers to a lapse, and retentions long and short; and two operations whose settings change.
pub fn operations() -> Vec<Operation> {
    let operation = |name: &str, logged, unknown_on_lapse, retention_ms, stores_failures| {
        let changes = name.starts_with("changing");
        Operation {
            name: name.to_owned(),
            logged,
            unknown_on_lapse,
            retention_ms,
            stores_failures,
            changes,
        }
    };
    vec![
        operation("quick", false, false, DAY_MS, true),
        operation("safe", true, false, DAY_MS, false),
        operation("wary", true, true, DAY_MS, true),
        operation("wary quick", false, true, DAY_MS, false),
        operation("brief", true, false, BRIEF_MS, true),
        operation("changing", true, false, BRIEF_MS, true),
        operation("changing quick", false, false, BRIEF_MS, false),
    ]
}

/// The operation of a slot's keys.
pub fn operation_of(slot: Slot) -> usize {
    slot % operations().len()
}

/// Whether and how a slot's keys are dated: with three slots for each operation every operation meets every way.
pub fn dating_of(slot: Slot, now_us: u64) -> Dating {
    match slot % 3 {
        0 => Dating::None,
        1 => Dating::Uuid,
        _ => Dating::FirstSent(now_us),
    }
}
