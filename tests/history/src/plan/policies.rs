//! The operations that are in play, and which slot belongs to which.

use super::Slot;
use crate::history::{Dating, Operation};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Shorter than a run, so that keys expire under the clients' hands.
pub const BRIEF_MS: u64 = 1_500;

/// Both durabilities, both answers to a lapse, and retentions long and short.
pub fn operations() -> Vec<Operation> {
    let operation = |name: &str, logged, unknown_on_lapse, retention_ms, stores_failures| {
        Operation { name: name.to_owned(), logged, unknown_on_lapse, retention_ms, stores_failures }
    };
    vec![
        operation("quick", false, false, DAY_MS, true),
        operation("safe", true, false, DAY_MS, false),
        operation("wary", true, true, DAY_MS, true),
        operation("wary quick", false, true, DAY_MS, false),
        operation("brief", true, false, BRIEF_MS, true),
    ]
}

/// The operation of a slot's keys.
pub fn operation_of(slot: Slot) -> usize {
    slot % operations().len()
}

/// Whether and how a slot's keys are dated: with fifteen slots every operation meets every way.
pub fn dating_of(slot: Slot, now_us: u64) -> Dating {
    match slot % 3 {
        0 => Dating::None,
        1 => Dating::Uuid,
        _ => Dating::FirstSent(now_us),
    }
}
