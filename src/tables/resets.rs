//! The log of resets, `idempotent.reset`: when which table of records was found empty.

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::datum::text::Text;
use crate::pg::table::relation::Relation;
use crate::pg::{clock, database};
use crate::tables::open;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use rules::error::Result;
use rules::policy::Durability;
use rules::{Micros, Timestamp};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Columns of the log, in order (sql/15_reset.sql).
mod column {
    use pgrx::pg_sys;

    pub const DURABILITY: usize = 0;
    pub const NOTICED_AT: usize = 1;
    pub const RESET_AT: usize = 2;
    pub const OPERATION: usize = 3;
    pub const TYPES: &[pg_sys::Oid] =
        &[pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::TEXTOID];
}

/// Whether no session holds a lock on the log that keeps writers out; it stays so until the transaction
/// ends.
pub fn is_free() -> bool {
    let opened = open::to_write_if_free(column::TYPES, |catalog| catalog.reset);
    opened.is_ok_and(|log| log.is_some())
}

/// When the log last said something of a table: that it was used, or reset.
pub fn last_noted(durability: Durability) -> Result<Option<Timestamp>> {
    let mut last = None;
    each(durability, |columns| {
        // SAFETY: `operation` is declared text, and `each` pins the tuple during the visit.
        let of = columns.get(column::OPERATION).map(|name| unsafe { Text::from_datum(name) });
        // What other nodes may know says nothing of the table.
        if of.is_none_or(|name| !name.server.is_empty()) {
            last = last.max(columns.get(column::NOTICED_AT).map(|at| at.value() as i64));
        }
    })?;
    Ok(last)
}

/// Notes that a table was first used, or when it was reset; of that the server log is told, too.
pub fn note(durability: Durability, reset_at: Option<Timestamp>) -> Result<()> {
    insert(durability, reset_at, None)?;
    if let Some(reset_at) = reset_at {
        warn(durability, reset_at);
    }
    Ok(())
}

/// Notes that an operation's records have moved into a table, from one that had lost some.
pub fn carry(durability: Durability, operation: &Text<'_>, reset_at: Timestamp) -> Result<()> {
    insert(durability, Some(reset_at), Some(operation))
}

fn insert(
    durability: Durability,
    reset_at: Option<Timestamp>,
    operation: Option<&Text<'_>>,
) -> Result<()> {
    let log = open::to_write(column::TYPES, |catalog| catalog.reset)?;
    let mut row = Columns::null();
    row.set(column::DURABILITY, Some(make::text(durability.as_str())));
    row.set(column::NOTICED_AT, Some(Datum::from(clock::now())));
    row.set(column::RESET_AT, reset_at.map(Datum::from));
    row.set(column::OPERATION, operation.map(|operation| operation.datum));
    open::check_indexes(&log)?;
    // SAFETY: the indexes are checked above, and each value is of the type that `column` names.
    unsafe { log.insert(&row) }.unwrap_or_else(|error| error.resume());
    Ok(())
}

/// When records were last lost from a table that an operation does not use any more, or before when another
/// node may have had records of its keys, for which a line has an empty name; `None` if never.
pub fn lost_with(operation: &Text<'_>, used: Durability) -> Result<Option<Timestamp>> {
    let mut lost = None;
    for durability in Durability::ALL {
        each(durability, |columns| {
            // SAFETY: `operation` is declared text, and `each` pins the tuple during the visit.
            let of = columns.get(column::OPERATION).map(|name| unsafe { Text::from_datum(name) });
            let is_of_all = |name: &Text<'_>| name.server.is_empty() && durability == used;
            if of.is_some_and(|name| name.server == operation.server || is_of_all(&name)) {
                lost = lost.max(columns.get(column::RESET_AT).map(|at| at.value() as i64));
            }
        })?;
    }
    Ok(lost)
}

/// Visits what the log says of a table, in no order.
fn each(durability: Durability, mut visit: impl FnMut(&Columns)) -> Result<()> {
    let log = open::to_read(column::TYPES, |catalog| catalog.reset)?;
    let durability = make::text(durability.as_str());
    // SAFETY: F_TEXTEQ compares texts: `durability` is one, and so is the first column of the primary key. The
    // tuple is of the log, and the visit does not keep it.
    unsafe {
        log.scan(pg_sys::F_TEXTEQ, durability, |tuple| {
            visit(&Columns::of(tuple, log.descriptor()));
            None::<()>
        });
    }
    Ok(())
}

fn warn(durability: Durability, reset_at: Timestamp) {
    let reset_at = clock::text(reset_at).unwrap_or_default();
    let (what, hint) = match durability {
        Durability::Unlogged => (
            "A crash of the server, the promotion of a standby, the restore of a backup or TRUNCATE empties the unlogged table.",
            "Where running twice would hurt, keep the records in the logged table: SELECT idempotent_operation(..., durability => 'logged').",
        ),
        Durability::Logged => (
            "The restore of a dump or TRUNCATE empties the logged table.",
            "Delete records one by one, with idempotent_forget, and leave the rest to idempotent_sweep.",
        ),
    };
    let message = format!(
        "the {} idempotency records of database \"{}\" were lost at {reset_at}",
        durability.as_str(),
        database::this()
    );
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "pg_idempotent")
        .set_detail(format!(
            "{what} Keys that date themselves from before then and have no record are answered with unknown; keys without a date run again."
        ))
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
}

/// The kernel stamps files with a clock that ticks: this far behind the real one, at most.
const TICK: Micros = 10_000;

/// When a table without its marker was emptied, of which something was `noted` then.
///
/// Postgres makes a new file when it empties a table (storage/file/reinit.c; TRUNCATE does, too), so
/// a file that is younger than the latest note was born of the loss. In an older one the rows were
/// deleted, at an unknown time: then, and where the file cannot be asked, now. Too late is
/// safe, too early is not.
pub fn emptied_at(table: &Relation, noted: Timestamp) -> Timestamp {
    let now = clock::now();
    let born = born_at(table).filter(|born| *born > noted);
    born.map_or(now, |born| born.saturating_add(TICK).min(now))
}

/// When the table's file was made. Where the file system does not tell: when it was last written,
/// if that was not since, because it is empty.
fn born_at(table: &Relation) -> Option<Timestamp> {
    let file = std::fs::metadata(file(table)?).ok()?;
    let born = file.created().or_else(|error| match file.len() {
        0 => file.modified(),
        _ => Err(error),
    });
    timestamp(born.ok()?)
}

/// The path of the table's file, from the data directory, which is where every backend works.
fn file(table: &Relation) -> Option<PathBuf> {
    // SAFETY: pg_relation_filepath takes an OID, does not read flinfo, and gives a text, which is palloc'd and
    // copied, or null.
    unsafe {
        let arguments = [Some(Datum::from(table.oid()))];
        let path = pgrx::direct_function_call_as_datum(pg_sys::pg_relation_filepath, &arguments)?;
        let path = std::str::from_utf8(crate::pg::datum::varlena::slice(path)).ok()?;
        Some(PathBuf::from(path))
    }
}

/// Seconds from 1970-01-01 to 2000-01-01, where Postgres' timestamps begin.
const EPOCH: Timestamp = 946_684_800;

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since_1970 = time.duration_since(UNIX_EPOCH).ok()?;
    let micros = Timestamp::try_from(since_1970.as_micros()).ok()?;
    Some(micros - EPOCH * 1_000_000)
}
