//! A node's records, and what becomes of one that arrives from another node.

use std::collections::BTreeMap;

use rules::Timestamp;
use rules::identity::RecordId;
use rules::record::{Record, State};
use rules::retention::{Due, due};

use crate::ledger::KeyId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: KeyId,
    pub slot: u16,
    /// That the key carries.
    pub date: Option<Timestamp>,
    pub record: Record,
    /// The number of the answer.
    pub answer: u64,
    /// When it was claimed, or finished.
    pub at: Timestamp,
    pub sweep_at: Timestamp,
}

pub type Table = BTreeMap<RecordId, Stored>;

/// What is said of a row that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    New,
    Same,
    Older,
    Conflict,
}

/// As `idempotent.import_record`: what is here was left behind, unless this node answers for it, and the later of two gives way to none.
pub fn arrive(
    table: &mut Table,
    id: RecordId,
    arriving: &Stored,
    owns: bool,
    now: Timestamp,
) -> Arrival {
    if arriving.record.expired(now) {
        return Arrival::Older;
    }
    let said = match table.get(&id) {
        None => Arrival::New,
        Some(present) if present.record.expired(now) => Arrival::New,
        Some(present) if present.record == arriving.record && present.answer == arriving.answer => {
            Arrival::Same
        }
        // An attempt that was lost was followed by another.
        Some(present) if present.record.lapsed(now) && arriving.at > present.at => Arrival::New,
        Some(present) if arriving.record.lapsed(now) && arriving.at < present.at => Arrival::Older,
        Some(_) if owns => Arrival::Conflict,
        Some(present) if arriving.at > present.at => Arrival::New,
        Some(_) => Arrival::Older,
    };
    if said == Arrival::New {
        table.insert(id, arriving.clone());
    }
    said
}

/// Deletes what has expired; how many there were.
pub fn sweep(table: &mut Table, now: Timestamp) -> usize {
    let before = table.len();
    table.retain(|_, stored| {
        stored.sweep_at > now || due(&stored.record, false, now) != Due::Delete
    });
    before - table.len()
}

/// A lease that lasts: its holder may finish here.
pub fn is_leased(stored: &Stored, now: Timestamp) -> bool {
    stored.record.state == State::InProgress && !stored.record.lapsed(now)
}
