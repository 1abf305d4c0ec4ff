//! A sweeper: one visit to one database.

use crate::pg::database;
use crate::pg::{clock, error, lock};
use crate::settings;
use crate::stats::visits::{self, Report, Visit};
use crate::tables::catalog;
use crate::tables::sweep::{Place, Portion, Swept, sweep};
use crate::tables::sweepable::Sweepable;
use crate::worker::signals;
use pgrx::prelude::*;
use rules::Micros;
use rules::error::Result;
use rules::pace;
use std::ffi::CString;

/// A transaction of a sweep takes no longer than this: a session that waits for it waits no longer.
const TRANSACTION: Micros = 10_000;
/// After that others get their turn, if there are more databases than sweepers.
const VISIT: Micros = 30 * 1_000_000;

#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn pg_idempotent_sweeper(database: pg_sys::Datum) {
    signals::set_up();
    let database = pg_sys::Oid::from(database.value() as u32);
    // SAFETY: called once, before anything else of the worker needs a connection; without a user it is the
    // bootstrap superuser's. If the database is gone, the process ends here.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    configure();
    let report = match error::catch(visit) {
        Ok(report) => report,
        Err(raised) => {
            let (sqlstate, message) = raised.describe();
            // SAFETY: `visit` has unwound, so no frame of ours is within the transaction; where none was begun
            // this does nothing. `raised` is described before its memory goes.
            unsafe { pg_sys::AbortCurrentTransaction() };
            log_once(&sqlstate, &message);
            Report::Failed
        }
    };
    if let Some(visit) = visits::here() {
        visit.end(report);
    }
}

/// Whatever the server's or the database's settings say to sessions.
fn configure() {
    for (name, value) in [
        // What a crash brings back is deleted again.
        ("synchronous_commit", "off"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_isolation", "read committed"),
        // Nothing is waited for that others hold for long; a request to leave is heard after it.
        ("lock_timeout", "1s"),
    ] {
        let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { continue };
        // SAFETY: name and value are NUL-terminated, and SetConfigOption copies the value; it raises an error
        // for a setting that does not exist.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// A table, and how far the visit has come with it.
struct Turn {
    what: Sweepable,
    from: Option<Place>,
    is_done: bool,
}

/// Sweeps all tables by turns, in short transactions with pauses between them.
fn visit() -> Result<Report> {
    let until = clock::now().saturating_add(VISIT);
    let mut tables = Sweepable::ALL.map(|what| Turn { what, from: None, is_done: false });
    while tables.iter().any(|turn| !turn.is_done) {
        for turn in tables.iter_mut().filter(|turn| !turn.is_done) {
            let used = clock::processor_time();
            let Some(swept) = in_transaction(|| step(turn.what, turn.from))? else {
                return Ok(Report::NoExtension);
            };
            turn.from = swept.resume;
            let Some((due, _)) = swept.resume else {
                turn.is_done = true;
                continue;
            };
            if is_to_leave()? {
                return Ok(Report::Done);
            }
            if clock::now() >= until {
                return Ok(Report::More);
            }
            let worked = clock::processor_time().saturating_sub(used);
            clock::sleep(pace::rest(worked, clock::now().saturating_sub(due)));
        }
    }
    Ok(Report::Done)
}

/// One portion; `None` without the extension, or while a session is creating or dropping it.
fn step(what: Sweepable, from: Option<Place>) -> Result<Option<Swept>> {
    if !is_installed() {
        return Ok(None);
    }
    let portion = Portion { what, from, rows: settings::sweep_batch(), time: TRANSACTION };
    // A locked table is left alone.
    let mut swept = sweep(&portion)?.unwrap_or_default();
    swept.report();
    Ok(Some(swept))
}

/// Whether the extension is there, and stays until the transaction ends: without that it could be
/// gone a moment later, and its tables missing.
fn is_installed() -> bool {
    let seen = extension();
    seen != pg_sys::InvalidOid && lock::keep_extension(seen) && extension() == seen
}

fn extension() -> pg_sys::Oid {
    catalog::refresh();
    // SAFETY: the name is NUL-terminated; both callers are within `in_transaction`, as the scan of
    // pg_extension demands.
    unsafe { pg_sys::get_extension_oid(c"pg_idempotent".as_ptr(), true) }
}

fn in_transaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: no transaction is in progress, as each is ended below, or after an error by
    // `pg_idempotent_sweeper`. (Deleting what is stored out of line wants an active snapshot,
    // access/common/toast_internals.c.)
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let result = body()?;
    // SAFETY: the snapshot pushed above is the active one, and its transaction in progress, as `body` leaves
    // both as it found them.
    unsafe {
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
    }
    Ok(result)
}

/// Whether the sweeper was told to leave or switched off, or a session wants the database for itself.
fn is_to_leave() -> Result<bool> {
    signals::reload();
    Ok(signals::is_told_to_leave()
        || !settings::sweeper_enabled()
        || in_transaction(|| Ok(lock::database_is_wanted()))?)
}

/// The first of a row of failures is logged.
fn log_once(sqlstate: &str, message: &str) {
    if !visits::here().is_none_or(Visit::is_unexplained) {
        return;
    }
    let name = error::catch(|| in_transaction(|| Ok(database::this())));
    let database = name.unwrap_or_default();
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("could not sweep the idempotency records of database \"{database}\": {message}"),
        format!(
            "SQLSTATE {sqlstate}. Further attempts become rarer, and are not logged until one succeeds."
        )
    );
}
