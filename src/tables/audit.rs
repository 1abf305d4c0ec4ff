//! What administrators did: `idempotent.audit`, written in the transaction of the deed.

use crate::pg::datum::row::Columns;
use crate::pg::datum::{encoding, make};
use crate::pg::{clock, random};
use crate::settings;
use crate::tables::open;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Timestamp;
use rules::error::Result;

/// Columns of the table, in order (sql/58_audit.sql).
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 0;
    pub const AT: usize = 1;
    pub const ACTION: usize = 2;
    pub const ROLE: usize = 3;
    pub const SESSION_ROLE: usize = 4;
    pub const OPERATION: usize = 5;
    pub const SCOPE: usize = 6;
    pub const KEY: usize = 7;
    pub const DETAIL: usize = 8;
    pub const ID: usize = 9;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::UUIDOID,
    ];
}

/// What was done.
#[derive(Clone, Copy, Default)]
pub struct Deed<'a> {
    pub action: &'a str,
    pub operation: Option<Datum>,
    pub scope: Option<Datum>,
    pub key: Option<Datum>,
    /// In the server's encoding. No answer and no request.
    pub detail: Option<Datum>,
}

/// Writes down what the current user did.
pub fn note(deed: &Deed<'_>) -> Result<()> {
    // SAFETY: reads this backend's identity.
    note_as(unsafe { pg_sys::GetUserId() }, deed)
}

/// As `note`, from within a function that runs with its owner's rights: the role that the client has
/// chosen.
pub fn note_of_client(deed: &Deed<'_>) -> Result<()> {
    // SAFETY: reads this backend's identity.
    note_as(unsafe { pg_sys::GetOuterUserId() }, deed)
}

fn note_as(role: pg_sys::Oid, deed: &Deed<'_>) -> Result<()> {
    let Some(retention) = settings::audit_retention() else { return Ok(()) };
    let table = open::to_write(column::TYPES, |catalog| catalog.audit)?;
    open::check_indexes(&table)?;
    let now = clock::now();
    let expires_at = if retention < 0 { Timestamp::MAX } else { now.saturating_add(retention) };
    // SAFETY: reads this backend's identity.
    let session_role = unsafe { pg_sys::GetSessionUserId() };
    let mut row = Columns::null();
    row.set(column::EXPIRES_AT, Some(Datum::from(expires_at)));
    row.set(column::AT, Some(Datum::from(now)));
    row.set(column::ACTION, Some(make::text(deed.action)));
    row.set(column::ROLE, Some(name(role)));
    row.set(column::SESSION_ROLE, Some(name(session_role)));
    row.set(column::OPERATION, deed.operation);
    row.set(column::SCOPE, deed.scope);
    row.set(column::KEY, deed.key);
    row.set(column::DETAIL, deed.detail);
    row.set(column::ID, Some(make::uuid(random::bytes()?)));
    // SAFETY: `check_indexes` has refused other indexes than plain ones, and each value is of the type that
    // `column` names.
    unsafe { table.insert(&row) }.unwrap_or_else(|error| error.resume());
    Ok(())
}

/// A palloc'd text of UTF-8, for a detail.
pub fn detail(text: &str) -> Datum {
    // SAFETY: a NUL-terminated copy in the server's encoding.
    Datum::from(unsafe { pg_sys::cstring_to_text(encoding::to_server(text)) })
}

/// The role's name: it may be gone when somebody reads it.
fn name(role: pg_sys::Oid) -> Datum {
    // SAFETY: a NUL-terminated name, or null where there is no such role.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { make::text("") } else { Datum::from(pg_sys::cstring_to_text(name)) }
    }
}
