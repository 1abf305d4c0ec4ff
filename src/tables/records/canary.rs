//! The marker: a row by which a table of records knows that it was emptied.
//!
//! Postgres empties the unlogged table after a crash, on promotion and in a restored backup; an
//! administrator may TRUNCATE either. A backend that opens a table to write and finds it without its
//! marker makes a new one, and notes in the logged table `idempotent.reset` when the old one went.
//! A dated key from before that time may have had a record, and nothing can tell (rules/dating.rs).

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::table::lookup::{self, Key, RowState};
use crate::pg::table::relation::Relation;
use crate::pg::{lock, raw};
use crate::stats::visits;
use crate::tables::hold::{AsLongAsItTakes, AtOnce, Held, Looked, Patience, hold};
use crate::tables::records::row::column;
use crate::tables::resets::{self, emptied_at};
use crate::tables::{catalog, open};
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::error::Result;
use rules::identity::RecordId;
use rules::policy::Durability;
use std::cell::Cell;

/// No key has an id like these: it would have to be the digest of something. One marker is enough,
/// unless the transaction that made it may yet take it back: a transaction that writes meanwhile makes another.
/// Beyond so many transactions at once the note that each of them leaves has to do.
const MARKERS: u8 = 8;

/// The last byte tells such rows apart.
pub(super) const fn marker_id(number: u8) -> RecordId {
    let mut id = [0; 16];
    id[15] = number;
    RecordId(id)
}

/// Not one of the states of a record (rules/record.rs): nothing reads the marker as one.
const STATE: u8 = b'e';

/// No owner has this slot: what is published, copied or moved by slots leaves such rows where they are.
const NO_SLOT: i16 = -1;

/// When nothing was ever lost.
const NEVER: Timestamp = Timestamp::MIN;

/// What is known of a table, until something about the tables changes: (table, generation, time).
type Known = (pg_sys::Oid, u64, Timestamp);

thread_local! {
    static KNOWN: Cell<[Known; 2]> = const { Cell::new([(pg_sys::InvalidOid, 0, NEVER); 2]) };
}

/// Since when a table, open to be read, has lost no record.
pub fn lost_before(table: &Relation, durability: Durability) -> Result<Timestamp> {
    if let Some(known) = remembered(table) {
        return Ok(known);
    }
    match look(table) {
        Some(seen) => Ok(seen.remember(table)),
        // Only a writer may note it; the answer is the same.
        None => {
            let noted = resets::last_noted(durability)?;
            Ok(noted.map_or(NEVER, |noted| emptied_at(table, noted)))
        }
    }
}

/// Since when a table, open to be written, has lost no record. If it has lost its marker, notes
/// that, once, and warns.
pub fn keep(table: &Relation, durability: Durability) -> Result<Timestamp> {
    if let Some(known) = remembered(table) {
        return Ok(known);
    }
    visits::is_in_use();
    if let Some(seen) = look(table)
        && seen.needs_no_note(durability)?
    {
        return Ok(seen.remember(table));
    }
    // Held for the moment of writing: from then on the marker is seen as being inserted, and the
    // second transaction waits for no other. Nor do two notes bear the same time, by which the log tells
    // them apart.
    let Some(held) = held(&AsLongAsItTakes, table)? else {
        return keep(table, durability);
    };
    match held.row {
        Some(seen) => vouch(table, durability, &seen),
        None => make(table, durability),
    }
}

/// The lock of the markers, and the marker that tells most: also one that another transaction is
/// writing, for which no session waits.
fn held(patience: &impl Patience, table: &Relation) -> Result<Option<Held<Marker>>> {
    let look = || Ok(look(table).map_or(Looked::Nothing, Looked::Settled));
    hold(lock::tag(marker_id(0)), patience, look)
}

/// A marker that another transaction has made, and its note, may yet be rolled back or go with a
/// crash, and then the table would be taken for one never used. A transaction that writes beside it leaves a
/// note of its own; and a marker of its own, or the note would be taken for that of a marker since lost.
fn vouch(table: &Relation, durability: Durability, seen: &Marker) -> Result<Timestamp> {
    if !seen.needs_no_note(durability)? {
        resets::note(durability, None)?;
        insert(table, None)?;
    }
    Ok(seen.remember(table))
}

/// As `keep`, for a sweep, which adds no record and waits for no transaction: a table of which the log says
/// nothing is left as it is. While a dump is restored a table is empty, and the log that says why is
/// yet to come.
pub fn renew(table: &Relation, durability: Durability) -> Result<()> {
    if remembered(table).is_some() || look(table).is_some() {
        return Ok(());
    }
    if let Some(held) = held(&AtOnce, table)?
        && held.row.is_none()
        && resets::is_free()
        && resets::last_noted(durability)?.is_some()
    {
        make(table, durability)?;
    }
    Ok(())
}

fn remembered(table: &Relation) -> Option<Timestamp> {
    let now = (table.oid(), catalog::generation());
    let known = KNOWN.get().into_iter().find(|(table, seen, _)| (*table, *seen) == now);
    known.map(|(.., lost_before)| lost_before)
}

/// A marker that was seen.
struct Marker {
    lost_before: Timestamp,
    /// Committed, and not being deleted.
    settled: bool,
}

impl Marker {
    /// Whether the log, or the marker itself, tells later that the table was used.
    fn needs_no_note(&self, durability: Durability) -> Result<bool> {
        Ok(self.settled || resets::last_noted(durability)?.is_some())
    }

    /// What a running transaction may yet take back is looked at again the next time.
    fn remember(&self, table: &Relation) -> Timestamp {
        if self.settled {
            let [latest, _] = KNOWN.get();
            KNOWN.set([(table.oid(), catalog::generation(), self.lost_before), latest]);
        }
        self.lost_before
    }
}

/// The marker that tells most: a settled one, if there is one.
fn look(table: &Relation) -> Option<Marker> {
    let mut best = None;
    for number in 0..MARKERS {
        match look_at(table, &marker_id(number)) {
            Some(seen) if seen.settled => return Some(seen),
            seen => best = best.or(seen),
        }
    }
    best
}

fn look_at(table: &Relation, id: &RecordId) -> Option<Marker> {
    let seen = lookup::dirty(table, Key::record(id));
    if seen.tuple.is_null() {
        return None;
    }
    // SAFETY: the tuple is not null, and a palloc'd copy of one of this table, whose columns `Relation::open_locked`
    // has compared with those known.
    let columns = unsafe { Columns::of(seen.tuple, table.descriptor()) };
    Some(Marker {
        lost_before: columns.get(column::FINISHED_AT).map_or(NEVER, |at| at.value() as i64),
        settled: seen.state == RowState::Settled && !is_mine(seen.tuple),
    })
}

/// Whether this very transaction has inserted a row, and may yet take it back.
pub(super) fn is_mine(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: both callers pass the palloc'd copy of a look-up that found a tuple; a tuple on disk has t_xmin
    // in that union.
    unsafe { raw::TransactionIdIsCurrentTransactionId((*(*tuple).t_data).t_choice.t_heap.t_xmin) }
}

/// The table has no marker: the first, or a new one in place of one that was lost.
fn make(table: &Relation, durability: Durability) -> Result<Timestamp> {
    // The log is part of a dump, the marker is not: a restored database has forgotten its keys, too.
    let lost_at = resets::last_noted(durability)?.map(|noted| emptied_at(table, noted));
    resets::note(durability, lost_at)?;
    insert(table, lost_at)?;
    Ok(lost_at.unwrap_or(NEVER))
}

/// The caller holds the lock, so an id that is free stays free.
fn insert(table: &Relation, lost_at: Option<Timestamp>) -> Result<()> {
    let free = (0..MARKERS).map(marker_id).find(|id| look_at(table, id).is_none());
    free.map_or(Ok(()), |id| insert_at(table, id, lost_at))
}

/// A row that is not a record.
///
/// # Errors
/// 55000 if an administrator has added an index that an insert of ours cannot maintain.
pub(super) fn insert_at(table: &Relation, id: RecordId, lost_at: Option<Timestamp>) -> Result<()> {
    open::check_indexes(table)?;
    let nothing = Some(make::text(""));
    let mut row = Columns::null();
    row.set(column::RECORD_ID, Some(Datum::from(id.0.as_ptr())));
    row.set(column::FINISHED_AT, lost_at.map(Datum::from));
    row.set(column::EXPIRES_AT, Some(Datum::from(Timestamp::MAX)));
    row.set(column::SWEEP_AT, Some(Datum::from(Timestamp::MAX)));
    row.set(column::SLOT, Some(Datum::from(NO_SLOT)));
    row.set(column::STATE, Some(Datum::from(STATE as i8)));
    row.set(column::EVICTED, Some(Datum::from(false)));
    for text in [column::OPERATION, column::SCOPE, column::KEY] {
        row.set(text, nothing);
    }
    // SAFETY: the indexes are checked above, and each value is of the type that `column` names.
    unsafe { table.insert(&row) }.unwrap_or_else(|error| error.resume());
    Ok(())
}
