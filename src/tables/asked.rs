//! Claims that were answered `unknown`: `idempotent.asked`, a row each.

use crate::pg::datum::make;
use crate::pg::datum::row::Columns;
use crate::pg::rights::OwnerRights;
use crate::pg::spi::{self, Parameter};
use crate::pg::{clock, random};
use crate::tables::open;
use crate::tables::records::row::Owner;
use pgrx::pg_sys;
use pgrx::pg_sys::Datum;
use rules::Micros;
use rules::error::Result;

/// Columns of the table, in order (sql/58_audit.sql).
pub mod column {
    use pgrx::pg_sys;

    pub const EXPIRES_AT: usize = 0;
    pub const ASKED_AT: usize = 1;
    pub const RECORD_ID: usize = 2;
    pub const OPERATION: usize = 3;
    pub const SCOPE: usize = 4;
    pub const KEY: usize = 5;
    pub const ID: usize = 6;
    pub const TYPES: &[pg_sys::Oid] = &[
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::UUIDOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::TEXTOID,
        pg_sys::UUIDOID,
    ];
}

/// Notes that a claim is answered unknown, for as long as its answer would be kept.
pub fn note(owner: &Owner<'_>, retention: Micros) -> Result<()> {
    let table = open::to_write(column::TYPES, |catalog| catalog.asked)?;
    open::check_indexes(&table)?;
    let now = clock::now();
    let mut row = Columns::null();
    row.set(column::EXPIRES_AT, Some(Datum::from(now.saturating_add(retention))));
    row.set(column::ASKED_AT, Some(Datum::from(now)));
    row.set(column::RECORD_ID, Some(Datum::from(owner.id.0.as_ptr())));
    row.set(column::OPERATION, Some(owner.operation.datum));
    row.set(column::SCOPE, Some(owner.scope.datum));
    row.set(column::KEY, Some(owner.key.datum));
    row.set(column::ID, Some(make::uuid(random::bytes()?)));
    // SAFETY: `check_indexes` has refused other indexes than plain ones, and each value is of the type that
    // `column` names.
    unsafe { table.insert(&row) }.unwrap_or_else(|error| error.resume());
    Ok(())
}

/// Forgets that a key was asked for.
pub fn forget(owner: &Owner<'_>) -> Result<()> {
    let id = (pg_sys::UUIDOID, Some(make::uuid(owner.id.0)));
    delete("DELETE FROM idempotent.asked AS a WHERE a.record_id OPERATOR(pg_catalog.=) $1", id)
}

/// Forgets that keys of an operation were asked for.
pub fn forget_all(operation: Datum) -> Result<()> {
    let name = (pg_sys::TEXTOID, Some(operation));
    delete("DELETE FROM idempotent.asked AS a WHERE a.operation OPERATOR(pg_catalog.=) $1", name)
}

fn delete(sql: &str, parameter: Parameter) -> Result<()> {
    let table = open::to_write(column::TYPES, |catalog| catalog.asked)?;
    // SAFETY: the table is open.
    let _rights = unsafe { OwnerRights::of(table.raw) };
    spi::execute(sql, &[parameter]).map(drop)
}
