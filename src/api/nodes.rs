//! Several nodes: which slots this database answers for, and what comes from another one. The doors, and what
//! the SQL behind them asks (sql/64_nodes.sql, sql/76_move.sql).

use crate::pg::arguments::{Args, Returned};
use crate::pg::catalog_changes;
use crate::pg::datum::make;
use crate::pg::declaration::arguments;
use crate::pg::pass_on::pass_on;
use crate::pg::{lock, snapshot, subtransaction};
use crate::tables::configuring::Configuring;
use crate::tables::records::table::Records;
use crate::tables::{catalog, fences, own};
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::error::{Code, Error};
use rules::names::{self, KEY, SCOPE};
use rules::policy::Durability;
use rules::slot;
use std::ffi::CStr;

arguments! {
    OWN: Own = "idempotent_own" { slots: Slots }
    IMPORT: Import = "idempotent_import" { exported: Jsonb }
    OWN_SLOT: OwnSlot = "idempotent_own_slot" { key: Text, scope: Text }
    OWNS: Owns = "idempotent_owns" { slot: Int2 }
    FENCE_ABOVE: FenceAbove = "idempotent_fence_above" { fence: Int8 }
    POSITION_ABOVE: PositionAbove = "idempotent_position_above" { last: Int8 }
    LOST_BEFORE: LostBefore = "idempotent_lost_before" { durability: Text }
}

const SCHEMA: &CStr = c"idempotent";

pub fn idempotent_own(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_own()");
    // Where it answers for all, nothing goes.
    if args.get(OWN.slots).is_some() {
        snapshot::refuse_frozen("slots can only be moved")?;
    }
    catalog::get()?;
    let _configuring = Configuring::begin();
    pass_on(args, SCHEMA, c"own_slots")
}

/// Opened as by a claim: the tables must know from now on if they lose something.
pub fn idempotent_import(args: &Args) -> Returned {
    snapshot::refuse_read_only(c"idempotent_import()");
    snapshot::refuse_frozen("slots can only be moved")?;
    if args.get(IMPORT.exported).is_none() {
        return Err(Error::new(Code::InvalidParameter, "exported must not be null")
            .hint("Pass the rows of idempotent_export() as they are, one at a time."));
    }
    let _configuring = Configuring::begin();
    for durability in Durability::ALL {
        Records::open_to_write(durability)?;
    }
    pass_on(args, SCHEMA, c"import_row")
}

/// The slot of an owner, for a row that SQL writes.
pub fn own_slot(args: &Args) -> Returned {
    let key = names::check(&KEY, args.get(OWN_SLOT.key).map(|key| key.utf8))?;
    let scope = names::check(&SCOPE, args.get(OWN_SLOT.scope).map(|scope| scope.utf8))?;
    catalog::refresh();
    own::check(scope, key)?;
    Ok(Some(make::slot(slot::of(slot::owner(scope, key)))))
}

/// A row without an owner is where it is.
pub fn owns(args: &Args) -> Returned {
    let slot = args.get(OWNS.slot).and_then(|slot| u16::try_from(slot).ok());
    catalog::refresh();
    Ok(Some(Datum::from(slot.map_or(Ok(true), own::owns)?)))
}

/// Tells every session of a change of `idempotent.own` that is not yet committed.
pub fn announce_own(_: &Args) -> Returned {
    catalog_changes::announce(catalog::get()?.own);
    Ok(Some(Datum::from(0)))
}

/// Waits for the transactions that write keys now.
pub fn wait_for_writers(_: &Args) -> Returned {
    let tables = catalog::get()?.keyed();
    // SAFETY: the closure is Copy, and an error is resumed.
    let ended = unsafe {
        subtransaction::call_keeping_error(|| tables.map(|table| lock::writers_end(table)))
    };
    ended.unwrap_or_else(|error| error.resume());
    Ok(Some(Datum::from(0)))
}

pub fn fence_above(args: &Args) -> Returned {
    if let Some(fence) = args.get(FENCE_ABOVE.fence) {
        fences::stay_above(fence)?;
    }
    Ok(Some(Datum::from(0)))
}

pub fn position_above(args: &Args) -> Returned {
    let last = args.get(POSITION_ABOVE.last);
    last.map(|last| fences::position_above(last).map(Datum::from)).transpose()
}

/// Since when a table of records has lost none, as of now: also where no session has noted yet that it was
/// emptied, because none has written since. Null: it never lost one.
pub fn lost_before(args: &Args) -> Returned {
    let durability = Durability::parse(
        args.get(LOST_BEFORE.durability).map(|text| text.utf8).unwrap_or_default(),
    )?;
    catalog::get()?;
    let table = Records::open_to_read(durability)?;
    let lost_before = table.lost_before();
    table.give_back();
    Ok((lost_before > Timestamp::MIN).then(|| Datum::from(lost_before)))
}
