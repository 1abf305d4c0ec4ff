//! A change of where the records of an operation are, and of its settings: the lock of the operation.
//!
//! Calls take no lock of their operation. A change takes it, in a mode that conflicts with other changes alone,
//! announces itself, and waits for the transactions that write keys now. Calls that come from then on take the
//! lock as well, shared by all of them, so that the change waits for them, too, before it moves anything: only
//! then do calls of the operation wait for the change, and those of all others never.

use crate::pg::datum::text::Text;
use crate::pg::limit::{LOCK_NOT_AVAILABLE, in_the_way};
use crate::pg::spi::{self, Parameter};
use crate::pg::{catalog_changes, lock, subtransaction};
use crate::tables::catalog;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use rules::error::{Code, Error, Result};

/// How a change of settings holds the lock: it conflicts with itself.
const CHANGING: u32 = pg_sys::ShareUpdateExclusiveLock;

/// How a change holds it while records are moved.
const MOVING: u32 = pg_sys::ExclusiveLock;

/// How calls hold it while a change is under way: it conflicts with `MOVING` alone.
const CALLING: u32 = pg_sys::RowShareLock;

/// Whether another transaction changes the operation: no mode of a call conflicts with this one.
const SEEN: u32 = pg_sys::ShareLock;

/// Whether another transaction changes the operation, or is about to.
pub fn is_under_way(operation: &Text<'_>) -> bool {
    lock::conflicts(&lock::operation_tag(operation.server), SEEN)
}

/// Has a change that is under way wait for this transaction, for as long as the call may wait itself.
///
/// # Errors
/// ID001 if records are being moved all the while.
pub fn join(operation: &Text<'_>) -> Result<()> {
    if lock::hold(lock::operation_tag(operation.server), CALLING) {
        return Ok(());
    }
    let operation = String::from_utf8_lossy(operation.utf8);
    Err(in_the_way("the durability of the operation is being changed")
        .detail(format!("Another transaction moves the records of operation \"{operation}\".")))
}

/// The same without waiting, with the name as the server spells it; whether it does.
///
/// # Safety
/// It may raise an error past Rust: call it as `pg::raw` says.
pub unsafe fn try_join_raw(operation: &[u8]) -> bool {
    // SAFETY: this function demands what that one demands.
    unsafe { lock::try_hold_raw(&lock::operation_tag(operation), CALLING) }
}

/// Makes this the only change of the operation's settings until the transaction ends.
///
/// # Errors
/// 55P03 if another one has not ended within lock_timeout.
pub fn begin(operation: &Text<'_>) -> Result<()> {
    hold(operation, CHANGING)
}

/// Waits for each transaction that works with keys of the operation, and lets no other one begin until this one
/// ends. To be called after `begin`.
///
/// # Errors
/// 55P03 if one of them has not ended within lock_timeout.
pub fn stop_callers(operation: &Text<'_>) -> Result<()> {
    let tables = announce()?;
    // SAFETY: `patiently` catches the error, and the closure is Copy.
    let wait = || tables.iter().for_each(|table| unsafe { lock::writers_end(*table) });
    patiently(operation, wait, writers)?;
    hold(operation, MOVING)
}

/// The same, if it does not take long; whether it did not.
pub fn try_to_stop_callers(operation: &Text<'_>) -> Result<bool> {
    let tables = announce()?;
    // SAFETY: the error is caught, and the closure is Copy.
    let wait = || tables.iter().for_each(|table| unsafe { lock::writers_end(*table) });
    Ok(subtransaction::within_lock_timeout(SOON, wait).is_some()
        && lock::try_hold(&lock::operation_tag(operation.server), MOVING))
}

/// Has every session learn of the change; the tables that hold keys.
fn announce() -> Result<[pg_sys::Oid; 9]> {
    let catalog = catalog::get()?;
    catalog_changes::announce(catalog.operation);
    Ok(catalog.keyed())
}

fn hold(operation: &Text<'_>, mode: u32) -> Result<()> {
    let tag = lock::operation_tag(operation.server);
    if lock::try_hold(&tag, mode) {
        return Ok(());
    }
    // SAFETY: `patiently` catches the error, and the closure is Copy.
    patiently(operation, || unsafe { lock::hold_raw(&tag, mode) }, || holders(&tag))
}

/// So long a wait is not worth a word.
const SOON: i32 = 1_000;

/// Waits, and says for whom if it takes long.
fn patiently(
    operation: &Text<'_>,
    wait: impl Fn() + Copy,
    holders: impl Fn() -> Result<Option<String>>,
) -> Result<()> {
    // SAFETY: LockTimeout is a number of this backend, which has one thread.
    let session = unsafe { pg_sys::LockTimeout };
    if subtransaction::within_lock_timeout(SOON, wait).is_some() {
        return Ok(());
    }
    let named = String::from_utf8_lossy(operation.utf8);
    if session == 0 || session > SOON {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("waiting for transactions that may use operation \"{named}\""),
            "pg_idempotent",
        )
        .set_detail(in_words(holders()?))
        .set_hint("lock_timeout ends the wait.")
        .report(PgLogLevel::NOTICE);
        match subtransaction::call_undoing_error(wait) {
            Ok(()) => return Ok(()),
            Err(error) if error.sqlstate() == LOCK_NOT_AVAILABLE => {}
            Err(error) => error.resume(),
        }
    }
    Err(Error::new(
        Code::LockNotAvailable,
        format!("transactions that may use operation \"{named}\" are in the way"),
    )
    .detail(in_words(holders()?))
    .hint("End them, or wait for longer: SET lock_timeout = '1 minute'. Nothing was changed."))
}

fn in_words(holders: Option<String>) -> String {
    match holders {
        Some(holders) => format!("Not ended: {holders}."),
        None => "They have ended meanwhile.".to_owned(),
    }
}

const WRITERS: &str = "SELECT idempotent.writers()";

fn writers() -> Result<Option<String>> {
    Ok(spi::texts(WRITERS, &[])?.into_iter().next())
}

const HOLDERS: &str = "
SELECT string_agg(DISTINCT CASE WHEN l.pid IS NULL THEN format('the prepared transaction %L', p.gid) ELSE format('process %s', l.pid) END, ', ')
  FROM pg_locks AS l LEFT JOIN (pg_locks AS t JOIN pg_prepared_xacts AS p ON p.transaction = t.transactionid)
        ON l.pid IS NULL AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction
 WHERE l.locktype = 'advisory' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
   AND l.classid = $1 AND l.objid = $2 AND l.objsubid = $3";

fn holders(tag: &pg_sys::LOCKTAG) -> Result<Option<String>> {
    let oid = |number: u32| (pg_sys::OIDOID, Some(Datum::from(pg_sys::Oid::from(number))));
    let class = (pg_sys::INT2OID, Some(Datum::from(tag.locktag_field4 as i16)));
    let parameters: [Parameter; 3] = [oid(tag.locktag_field2), oid(tag.locktag_field3), class];
    Ok(spi::texts(HOLDERS, &parameters)?.into_iter().next())
}
